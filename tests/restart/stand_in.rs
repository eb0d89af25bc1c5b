//! A process that takes the new epoch's place and misbehaves at a chosen step.
//!
//! The suite's own binary is started as the epoch, with [`PLAN`] in its environment: it speaks the protocol as an epoch does, up to the step
//! of the plan, and then does what the plan says. It never takes a connection from the sockets it borrows, so whatever a client sends
//! in the meantime is still there for the epoch that accepts again.

mod serve;

use std::os::fd::{AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use heirloom_supervisor::wire::message::{
    Accepting, Drained, Failed, Health, Hello, Lend, Lent, Message, Pong, Ready, Received, SocketKey, Stopped,
};
use heirloom_supervisor::wire::{self, Channel, PROTOCOL, Versions};
use nix::sys::signal::{Signal, raise};
use nix::sys::socket::{MsgFlags, send};

/// Environment variable that holds a [`Plan`].
const PLAN: &str = "HEIRLOOM_STAND_IN";
/// Environment variable that holds the newest protocol version it admits to.
const VERSION: &str = "HEIRLOOM_STAND_IN_VERSION";
/// Environment variable that holds the address of a socket to borrow.
const BORROW: &str = "HEIRLOOM_STAND_IN_BORROW";

/// How far the stand-in goes along with the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Step {
    /// Not a word.
    Started,
    /// Has sent `Hello`, has not read the answer.
    HelloSent,
    /// Has read `Welcome`.
    Welcomed,
    /// Has asked for sockets, has not read the answer.
    LendSent,
    /// Has read a batch, has not acknowledged it.
    Lent,
    /// Has its sockets.
    Borrowed,
    /// Has sent `Ready`.
    ReadySent,
    /// Has read `Accept`, has not answered.
    AcceptRead,
    /// Has sent `Accepting`: probation.
    AcceptingSent,
}

impl Step {
    pub(crate) const ALL: [Self; 9] = [
        Self::Started,
        Self::HelloSent,
        Self::Welcomed,
        Self::LendSent,
        Self::Lent,
        Self::Borrowed,
        Self::ReadySent,
        Self::AcceptRead,
        Self::AcceptingSent,
    ];
}

/// What it does there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Deed {
    /// SIGKILL.
    Kill,
    /// SIGSTOP.
    Stop,
    /// Exits with status 0, as if it were done.
    Exit,
    /// Sends bytes that are not a frame, and stays.
    Garbage,
    /// Sends a frame that lies about its descriptors, and stays.
    Liar,
    /// Sends messages that have no place here, and stays.
    OutOfTurn,
    /// Lives on, and never says another word.
    Silent,
    /// Closes its channel, and lives on.
    Hangup,
    /// Says that it failed.
    Failed,
    /// Says that it is not healthy.
    Unhealthy,
    /// Sends random messages of every kind.
    Fuzz(u64),
    /// Does its work, as a very simple epoch: answers every request by itself, stops, drains and leaves as it is told.
    Serve,
}

/// A step and a deed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Plan(pub(crate) Step, pub(crate) Deed);

impl Plan {
    /// The line of an epoch's script that runs the stand-in with this plan. `borrow` is a socket's address, known to the supervisor.
    pub(crate) fn script(self, borrow: impl ToString) -> String {
        let program = std::env::current_exe().expect("a program knows itself");
        format!(
            "{PLAN}='{self:?}' {BORROW}={} exec {} --exact stand_in::epoch --ignored --nocapture",
            borrow.to_string(),
            program.display()
        )
    }

    /// The same, with a stand-in that speaks no newer protocol than `version`.
    pub(crate) fn script_of_version(self, version: u32, borrow: impl ToString) -> String {
        format!("{VERSION}={version} {}", self.script(borrow))
    }

    fn parse(text: &str) -> Self {
        let deeds = [
            Deed::Kill,
            Deed::Stop,
            Deed::Exit,
            Deed::Garbage,
            Deed::Liar,
            Deed::OutOfTurn,
            Deed::Silent,
            Deed::Hangup,
            Deed::Failed,
            Deed::Unhealthy,
            Deed::Serve,
        ];
        let (_, rest) = text.split_once("Plan(").expect("a plan");
        let (step, deed) = rest.trim_end_matches(')').split_once(", ").expect("a step and a deed");
        let step = Step::ALL.into_iter().find(|known| format!("{known:?}") == step).expect("a known step");
        let fuzz = |deed: &str| Some(Deed::Fuzz(deed.strip_prefix("Fuzz(")?.parse().ok()?));
        let deed = deeds.into_iter().find(|known| format!("{known:?}") == deed).or_else(|| fuzz(deed));
        Self(step, deed.expect("a known deed"))
    }
}

/// Not a test: the stand-in itself, when a supervisor starts it.
#[test]
#[ignore = "run by a supervisor, not by a person"]
fn epoch() {
    let Ok(plan) = std::env::var(PLAN) else { return };
    let (channel, _) = Channel::from_environment().unwrap().expect("a supervisor started this");
    StandIn { channel: Some(channel), plan: Plan::parse(&plan) }.run();
}

struct StandIn {
    channel: Option<Channel>,
    plan: Plan,
}

impl StandIn {
    fn run(mut self) {
        self.reached(Step::Started);
        let Versions { min, max } = PROTOCOL;
        let max = std::env::var(VERSION).map_or(max, |version| version.parse().expect("a number"));
        let version = "stand-in".to_owned();
        let pid = std::process::id();
        self.say(Message::Hello(Hello { protocol_min: min, protocol_max: max, pid, version, features: vec![] }));
        self.reached(Step::HelloSent);
        self.hear("Welcome");
        self.reached(Step::Welcomed);
        let address = std::env::var(BORROW).expect("an address to borrow");
        self.say(Message::Lend(Lend { request: 1, keys: vec![SocketKey::tcp(address)] }));
        self.reached(Step::LendSent);
        let (lent, sockets) = self.hear("Lent");
        self.reached(Step::Lent);
        if let Message::Lent(Lent { request, batch, .. }) = lent {
            self.say(Message::Received(Received { request, batch }));
        }
        self.reached(Step::Borrowed);
        self.say(Message::Ready(Ready { version: "stand-in".into(), listeners: 1, ..Ready::default() }));
        self.reached(Step::ReadySent);
        self.hear("Accept");
        self.reached(Step::AcceptRead);
        self.say(Message::Accepting(Accepting {}));
        if self.plan.1 == Deed::Serve {
            serve::serve(self.channel.take().expect("still open"), sockets);
        }
        self.reached(Step::AcceptingSent);
        self.hear("the end");
    }

    fn channel(&self) -> &Channel {
        self.channel.as_ref().expect("still open")
    }

    fn say(&self, message: Message) {
        let sent = self.channel().send(&message, &[], Instant::now() + Duration::from_secs(10));
        if sent.is_err() {
            std::process::exit(3);
        }
    }

    /// Waits for a message, answering pings and going along with everything else.
    fn hear(&self, name: &str) -> (Message, Vec<OwnedFd>) {
        loop {
            match self.channel().recv(Instant::now() + Duration::from_secs(60)) {
                Ok(packet) if packet.message.name() == name => return (packet.message, packet.descriptors),
                Ok(packet) => match packet.message {
                    Message::Ping(ping) => self.say(Message::Pong(Pong { token: ping.token })),
                    Message::StopAccepting(_) => self.say(Message::Stopped(Stopped {})),
                    Message::Terminate(_) | Message::Drain(_) | Message::Refused(_) => std::process::exit(0),
                    _ => {}
                },
                Err(_) => std::process::exit(3),
            }
        }
    }

    fn reached(&mut self, step: Step) {
        if self.plan.0 != step {
            return;
        }
        match self.plan.1 {
            Deed::Kill => drop(raise(Signal::SIGKILL)),
            Deed::Stop => drop(raise(Signal::SIGSTOP)),
            Deed::Exit => std::process::exit(0),
            Deed::Garbage => self.raw(b"\xff\xfenot a frame"),
            Deed::Liar => self.raw(b"Heir\x01\x00\x07\x00\x72\x00"),
            Deed::OutOfTurn => {
                self.say(Message::Drained(Drained { closed: 7 }));
                self.say(Message::Received(Received { request: 77, batch: 7 }));
                self.say(Message::Accepting(Accepting {}));
                self.say(Message::Stopped(Stopped {}));
                silence();
            }
            Deed::Silent => silence(),
            Deed::Hangup => {
                self.channel = None;
                silence();
            }
            Deed::Failed => self.say(Message::Failed(Failed { report: "the stand-in was told to fail".into() })),
            Deed::Unhealthy => {
                let reason = "the stand-in was told to be ill".to_owned();
                self.say(Message::Health(Health { connections: 0, healthy: false, reason }));
            }
            Deed::Fuzz(seed) => self.fuzz(seed),
            Deed::Serve => {}
        }
    }

    fn raw(&self, bytes: &[u8]) {
        let _ = send(self.channel().as_raw_fd(), bytes, MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL);
    }

    fn fuzz(&self, seed: u64) {
        let mut dice = Dice(seed);
        for _ in 0..200 {
            let message = dice.message();
            let bytes = wire::frame::seal(&message, 0).unwrap_or_default();
            self.raw(&if dice.below(4) == 0 { dice.damage(bytes) } else { bytes });
        }
        silence();
    }
}

/// Waits to be killed.
fn silence() -> ! {
    loop {
        std::thread::park();
    }
}

/// A small generator whose runs can be repeated (xorshift).
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    /// A number.
    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// A number below `limit`.
    pub(crate) fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }

    /// Bytes with some changed, cut or added.
    pub(crate) fn damage(&mut self, mut bytes: Vec<u8>) -> Vec<u8> {
        match self.below(4) {
            0 => bytes.truncate(self.below(bytes.len() + 1)),
            1 => bytes.extend((0..self.below(3000)).map(|_| self.next() as u8).collect::<Vec<_>>()),
            _ => {
                for _ in 0..=self.below(6) {
                    if !bytes.is_empty() {
                        let at = self.below(bytes.len());
                        bytes[at] = self.next() as u8;
                    }
                }
            }
        }
        bytes
    }

    /// A message an epoch might send, with unlikely contents.
    pub(crate) fn message(&mut self) -> Message {
        let (number, small) = (self.next(), self.next() as u32 % 4);
        let text: String = (0..self.below(300)).map(|_| char::from(self.next() as u8)).collect();
        match self.below(13) {
            0 => Message::Hello(Hello {
                protocol_min: small,
                protocol_max: self.next() as u32,
                pid: self.next() as u32,
                version: text,
                features: vec![],
            }),
            1 => Message::Lend(Lend { request: number, keys: vec![SocketKey::tcp(text)] }),
            2 => Message::Lend(Lend { request: number, keys: vec![SocketKey::unix(text); self.below(200)] }),
            3 => Message::Received(Received { request: number, batch: small }),
            4 => Message::Ready(Ready {
                version: text,
                listeners: small,
                summary: String::new(),
                configuration_bytes: number,
            }),
            5 => Message::Accepting(Accepting {}),
            6 => Message::Stopped(Stopped {}),
            7 => Message::Resumed(heirloom_supervisor::wire::message::Resumed {}),
            8 => Message::Drained(Drained { closed: number }),
            9 => Message::Health(Health { connections: number, healthy: small > 0, reason: text }),
            10 => Message::Pong(Pong { token: number }),
            11 => Message::Lent(Lent { request: number, batch: small, last: small == 0, grants: vec![] }),
            _ => Message::NotUnderstood(heirloom_supervisor::wire::message::NotUnderstood { tag: small }),
        }
    }
}

#[test]
fn a_plan_survives_its_way_through_the_environment() {
    for plan in [Plan(Step::ReadySent, Deed::Stop), Plan(Step::Welcomed, Deed::Fuzz(7))] {
        assert_eq!(Plan::parse(&format!("{plan:?}")), plan);
    }
}
