//! An epoch that proxies nothing: it speaks the protocol, answers lines, and misbehaves when its configuration says so.
//!
//! The tests of the supervisor start it as `fake_epoch -c FILE`. The file has one word and its arguments per line:
//!
//! ```text
//! marker TEXT              answered to every line, after the epoch's number
//! listen PROTOCOL ADDRESS [LABEL]
//! many N                   that many more listeners on ports of the kernel's choice
//! protocol MIN MAX         versions it claims to speak
//! fail TEXT                reports that it cannot become ready
//! trouble KIND STEP        die, exit, hang, close, garbage, silent or unhealthy; at start, hello, lend, ready, accept, probation,
//!                          stop, resume, drain or terminate
//! stay                     does not leave when it is told to drain
//! orphan                   serves on when the supervisor dies, and offers itself to the next
//! ```
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a part of tests: a panic is its report")]

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use heirloom_supervisor::wire::message::*;
use heirloom_supervisor::wire::{Borrower, Channel, Error, Lender, MAX_KEYS_PER_LEND, PROTOCOL};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, raise};

#[derive(Clone, Debug, Default)]
struct Plan {
    text: String,
    marker: String,
    keys: Vec<SocketKey>,
    versions: Option<(u32, u32)>,
    fail: Option<String>,
    trouble: Option<(String, String)>,
    stay: bool,
    orphan: bool,
}

impl Plan {
    fn read() -> Self {
        let mut arguments = std::env::args().skip_while(|argument| argument != "-c").skip(1);
        let path = arguments.next().unwrap();
        let text = std::fs::read_to_string(path).unwrap();
        let mut plan = Self { text: text.clone(), ..Self::default() };
        for line in text.lines() {
            let words: Vec<&str> = line.split_whitespace().collect();
            match words[..] {
                ["marker", marker] => plan.marker = marker.into(),
                ["listen", protocol, address, ref rest @ ..] => {
                    let mut key = match protocol {
                        "tcp" => SocketKey::tcp(address),
                        "udp" => SocketKey::udp(address),
                        _ => SocketKey::unix(address),
                    };
                    key.label = rest.first().copied().unwrap_or_default().into();
                    plan.keys.push(key);
                }
                ["many", count] => plan.keys.extend(
                    (0..count.parse().unwrap())
                        .map(|number: u32| SocketKey { label: number.to_string(), ..SocketKey::tcp("127.0.0.1:0") }),
                ),
                ["protocol", min, max] => plan.versions = Some((min.parse().unwrap(), max.parse().unwrap())),
                ["fail", ..] => plan.fail = Some(line["fail ".len()..].into()),
                ["trouble", kind, step] => plan.trouble = Some((kind.into(), step.into())),
                ["stay"] => plan.stay = true,
                ["orphan"] => plan.orphan = true,
                [] => {}
                _ => panic!("what is {line:?}?"),
            }
        }
        plan
    }
}

struct Epoch {
    plan: Plan,
    channel: Channel,
    number: u64,
    generation: u64,
    control: PathBuf,
    segment: Option<OwnedFd>,
    sockets: Vec<(SocketKey, Vec<OwnedFd>)>,
    accepting: bool,
    standing: Standing,
    connections: BTreeMap<u64, UnixStream>,
    next: u64,
    lost: bool,
}

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(30)
}

fn main() {
    let (channel, number) = Channel::from_environment().unwrap().expect("started by a supervisor");
    let mut epoch = Epoch {
        plan: Plan::read(),
        channel,
        number,
        generation: 0,
        control: PathBuf::new(),
        segment: None,
        sockets: Vec::new(),
        accepting: false,
        standing: Standing::Preparing,
        connections: BTreeMap::new(),
        next: 0,
        lost: false,
    };
    epoch.prepare();
    loop {
        epoch.turn();
    }
}

impl Epoch {
    fn prepare(&mut self) {
        self.trouble("start");
        let hello = self.hello();
        self.say(Message::Hello(hello));
        let (message, descriptors) = self.next_message();
        let Message::Welcome(welcome) = message else { std::process::exit(3) };
        self.segment = descriptors.into_iter().next();
        self.generation = welcome.generation;
        self.control = welcome.control_path.into();
        self.trouble("hello");
        for (request, keys) in (1..).zip(self.plan.keys.clone().chunks(MAX_KEYS_PER_LEND)) {
            self.borrow(request, keys.to_vec());
        }
        self.trouble("lend");
        if let Some(report) = self.plan.fail.clone() {
            self.say(Message::Failed(Failed { report }));
            std::process::exit(1);
        }
        let listeners = self.sockets.len() as u32;
        let bytes = self.plan.text.len() as u64;
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(self.plan.text.as_bytes()).unwrap();
        file.rewind().unwrap();
        let summary = format!("marker {}", self.plan.marker);
        let ready = Ready { version: version(), listeners, summary, configuration_bytes: bytes };
        if self.plan.versions.is_some_and(|(_, max)| max == 1) {
            self.say(Message::Ready(Ready { configuration_bytes: 0, ..ready }));
        } else {
            self.channel.send(&Message::Ready(ready), &[file.as_fd()], soon()).unwrap();
        }
    }

    fn hello(&self) -> Hello {
        let (protocol_min, protocol_max) = self.plan.versions.unwrap_or((PROTOCOL.min, PROTOCOL.max));
        Hello { protocol_min, protocol_max, pid: std::process::id(), version: version(), features: vec![] }
    }

    fn borrow(&mut self, request: u64, keys: Vec<SocketKey>) {
        let mut borrower = Borrower::new(request, keys.len());
        self.say(Message::Lend(Lend { request, keys: keys.clone() }));
        loop {
            let (message, descriptors) = self.next_message();
            let Message::Lent(lent) = message else { continue };
            let (received, complete) = borrower.take(lent, descriptors).unwrap();
            self.say(Message::Received(received));
            if complete {
                break;
            }
        }
        for (key, granted) in keys.into_iter().zip(borrower.finish()) {
            match granted {
                Ok(sockets) => self.sockets.push((key, sockets)),
                Err(report) => {
                    self.say(Message::Failed(Failed { report }));
                    std::process::exit(1);
                }
            }
        }
    }

    fn say(&self, message: Message) {
        if self.channel.send(&message, &[], soon()).is_err() && !self.plan.orphan {
            std::process::exit(2);
        }
    }

    fn next_message(&self) -> (Message, Vec<OwnedFd>) {
        match self.channel.recv(soon()) {
            Ok(packet) => (packet.message, packet.descriptors),
            Err(_) => std::process::exit(2),
        }
    }

    /// Misbehaves, if this is the step for it. `true` when the step must not be answered.
    fn trouble(&mut self, step: &str) -> bool {
        let Some((kind, at)) = self.plan.trouble.clone() else { return false };
        if at != step {
            return false;
        }
        match kind.as_str() {
            "die" => raise(Signal::SIGKILL).unwrap(),
            "exit" => std::process::exit(7),
            "hang" => raise(Signal::SIGSTOP).unwrap(),
            "close" => {
                let (other, _) = Channel::pair().unwrap();
                self.channel = other;
                self.lost = true;
                self.plan.trouble = None;
                loop {
                    self.wait(PollTimeout::NONE);
                }
            }
            "garbage" => {
                let bytes = [0xff; 100];
                nix::sys::socket::send(
                    std::os::fd::AsRawFd::as_raw_fd(&self.channel),
                    &bytes,
                    nix::sys::socket::MsgFlags::empty(),
                )
                .unwrap();
            }
            "silent" => return true,
            "unhealthy" => {
                let reason = "as configured".into();
                self.say(Message::Health(Health { connections: 0, healthy: false, reason }));
            }
            other => panic!("what is {other}?"),
        }
        false
    }

    fn turn(&mut self) {
        self.wait(PollTimeout::from(200_u16));
        if self.lost {
            self.go_home();
            return;
        }
        loop {
            match self.channel.try_recv() {
                Ok(None) => break,
                Ok(Some(packet)) => self.hear(packet.message),
                Err(Error::Closed) if self.plan.orphan => {
                    self.lost = true;
                    return;
                }
                Err(_) => std::process::exit(2),
            }
        }
    }

    fn hear(&mut self, message: Message) {
        match message {
            Message::Accept(_) => {
                if !self.trouble("ready") {
                    self.accepting = true;
                    self.standing = Standing::Accepting;
                    self.say(Message::Accepting(Accepting {}));
                }
                self.trouble("accept");
            }
            Message::StopAccepting(_) if !self.trouble("stop") => {
                self.accepting = false;
                self.standing = Standing::Stopped;
                self.say(Message::Stopped(Stopped {}));
            }
            Message::Resume(_) if !self.trouble("resume") => {
                self.accepting = true;
                self.standing = Standing::Accepting;
                self.say(Message::Resumed(Resumed {}));
            }
            Message::Drain(_) if !self.trouble("drain") => {
                self.accepting = false;
                self.standing = Standing::Draining;
                self.sockets.clear();
                self.leave();
            }
            Message::Terminate(_) if !self.trouble("terminate") => {
                self.plan.stay = false;
                self.leave();
            }
            Message::Ping(ping) => {
                // A ping comes when probation begins, and about every second.
                self.trouble("probation");
                self.say(Message::Pong(Pong { token: ping.token }));
            }
            _ => {}
        }
    }

    fn leave(&mut self) {
        if !self.plan.stay {
            self.say(Message::Drained(Drained { closed: 0 }));
            std::process::exit(0);
        }
    }

    /// Waits for the supervisor and for clients, and serves the clients.
    fn wait(&mut self, timeout: PollTimeout) {
        let mut interests = vec![PollFd::new(self.channel.as_fd(), PollFlags::POLLIN)];
        let unix = |key: &SocketKey| key.protocol() == Protocol::Unix;
        let listeners: Vec<&OwnedFd> = self
            .sockets
            .iter()
            .filter(|(key, _)| unix(key) && self.accepting)
            .flat_map(|(_, sockets)| sockets)
            .collect();
        interests.extend(listeners.iter().map(|socket| PollFd::new(socket.as_fd(), PollFlags::POLLIN)));
        let streams: Vec<BorrowedFd<'_>> = self.connections.values().map(AsFd::as_fd).collect();
        interests.extend(streams.iter().map(|stream| PollFd::new(*stream, PollFlags::POLLIN)));
        if self.lost {
            interests.remove(0);
        }
        let _ = poll(&mut interests, timeout);
        drop(interests);
        let accepted: Vec<UnixStream> = listeners
            .iter()
            .filter_map(|socket| UnixListener::from(socket.try_clone().unwrap()).accept().ok())
            .map(|(stream, _)| stream)
            .collect();
        for stream in accepted {
            stream.set_nonblocking(true).unwrap();
            self.connections.insert(self.next, stream);
            self.next += 1;
        }
        let answer = format!("{} {}\n", self.number, self.plan.marker);
        self.connections.retain(|_, stream| {
            let mut buffer = [0; 256];
            match stream.read(&mut buffer) {
                Ok(0) => false,
                Ok(_) => stream.write_all(answer.as_bytes()).is_ok(),
                Err(error) => error.kind() == std::io::ErrorKind::WouldBlock,
            }
        });
    }

    /// Looks for the next supervisor.
    fn go_home(&mut self) {
        let Ok(channel) = Channel::connect(&self.control) else { return };
        let adopt = Adopt {
            hello: Some(self.hello()),
            epoch: self.number,
            generation: self.generation,
            standing: self.standing.into(),
            drain_remaining_ms: 0,
            keys: self.sockets.iter().map(|(key, _)| key.clone()).collect(),
            ticket_keys: None,
        };
        let segment = self.segment.as_ref().unwrap();
        if channel.send(&Message::Adopt(adopt), &[segment.as_fd()], soon()).is_err() {
            return;
        }
        let Ok(Message::Welcome(_)) = channel.recv(soon()).map(|packet| packet.message) else { return };
        let granted = self
            .sockets
            .iter()
            .map(|(_, sockets)| Ok(sockets.iter().map(|socket| socket.try_clone().unwrap()).collect()));
        let mut lender = Lender::new(0, granted.collect());
        let mut next = Some(lender.first());
        while let Some(packet) = next {
            let descriptors: Vec<BorrowedFd<'_>> = packet.descriptors.iter().map(AsFd::as_fd).collect();
            channel.send(&packet.message, &descriptors, soon()).unwrap();
            let Ok(Message::Received(received)) = channel.recv(soon()).map(|packet| packet.message) else { return };
            next = lender.received(&received).unwrap();
        }
        self.channel = channel;
        self.lost = false;
    }
}

fn version() -> String {
    // Two copies of this program tell themselves apart by a file beside them.
    let path = std::env::current_exe().unwrap().with_extension("version");
    let mut text = String::new();
    match File::open(path) {
        Ok(mut file) => drop(file.read_to_string(&mut text)),
        Err(_) => text = "fake".into(),
    }
    text.trim().into()
}
