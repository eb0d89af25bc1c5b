//! The loop: descriptors become events, actions become system calls.
//!
//! One thread, one `poll`. Nothing in here decides anything about epochs: [`crate::lifecycle`] does, and this module owns what its decisions are about: the
//! processes and their channels, the sockets, the statistics segment, the control socket. Every read and write is non-blocking, and every iteration
//! does a bounded amount of work for each of them.

mod act;
mod adopt;
mod figures;
mod hear;
mod operator;
mod peer;
mod recipes;
pub(crate) mod replace;
mod tickets;

use std::collections::{BTreeMap, VecDeque};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::PathBuf;
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use tracing::{debug, info, warn};

use crate::broker::{self, Broker};
use crate::control::Control;
use crate::lifecycle::{Event, Lifecycle, StopHow, Ticket, Want};
use crate::moment::Moment;
use crate::process::{self, Process};
use crate::settings::Settings;
use crate::shm::{Geometry, Segment};
use crate::systemd;
use crate::tickets::Ring;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) use adopt::fuzz as fuzz_lineage;
use figures::Figures;
use peer::Peer;
use recipes::Recipes;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) use recipes::fuzz as fuzz_recipes;

/// The supervisor's version.
pub(crate) const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Everything the supervisor holds.
pub(crate) struct Supervisor {
    settings: Settings,
    lifecycle: Lifecycle,
    broker: Broker,
    control: Control,
    peers: BTreeMap<u64, Peer>,
    recipes: Recipes,
    segment: Segment,
    /// Once it is known which segment is ours, and who of an earlier supervisor lives.
    figures: Option<Figures>,
    signals: SignalFd,
    events: VecDeque<Event>,
    /// Orphans that still hand their sockets over.
    orphans: Vec<adopt::Orphan>,
    /// Living epochs of an earlier supervisor that have not come yet.
    expected: BTreeMap<u64, Process>,
    /// Until when those who have come wait for them.
    gather_until: Option<Moment>,
    /// When those that still have not are ended.
    expected_until: Option<Moment>,
    watchdog: Option<Duration>,
    fed: Moment,
    exit: Option<u8>,
    /// Whether an earlier image of this process began.
    resumed: bool,
    /// Until when a replacement of the supervisor itself waits for a quiet moment.
    replace_until: Option<Moment>,
    /// The keys of session tickets, from the first epoch on.
    tickets: Option<Ring>,
    /// Where this program was when it started: what is there when it replaces itself is its successor.
    program: PathBuf,
}

/// What a polled descriptor belongs to.
#[derive(Clone, Copy)]
enum Source {
    Signals,
    Door,
    Connection(Ticket),
    Channel(u64),
    Process(u64),
    Orphan(usize),
}

impl Supervisor {
    /// Takes hold of everything: run directory, passed sockets, signals, statistics.
    ///
    /// # Errors
    /// What stands in the way, in words.
    pub(crate) fn new(settings: Settings) -> Result<Self, String> {
        // Passed descriptors first: their numbers are fixed, and anything opened before might be mistaken for them.
        let (passed, segment) = broker::from_environment();
        if let Err(error) = process::raise_descriptor_limit() {
            warn!("the limit of open descriptors stays as it is: {error}");
        }
        let control = Control::open(&settings.run_dir, settings.user)?;
        let signals = signals().map_err(|error| format!("signals: {error}"))?;
        let segment = statistics(segment).map_err(|error| format!("statistics segment: {error}"))?;
        let watchdog = systemd::watchdog_interval();
        Ok(Self {
            lifecycle: Lifecycle::new(settings.limits.clone()),
            broker: Broker::new(passed),
            control,
            peers: BTreeMap::new(),
            recipes: Recipes::new(settings.run_dir.clone()),
            segment,
            figures: None,
            signals,
            events: VecDeque::new(),
            orphans: Vec::new(),
            expected: BTreeMap::new(),
            gather_until: None,
            expected_until: None,
            watchdog,
            fed: Moment::now(),
            exit: None,
            resumed: false,
            replace_until: None,
            tickets: None,
            program: own_program(),
            settings,
        })
    }

    /// Runs until the end, and says with which status.
    pub(crate) fn run(mut self) -> u8 {
        info!("supervisor {VERSION} runs as process {} in {}", std::process::id(), self.settings.run_dir.display());
        systemd::main_pid();
        if self.resumed {
            self.pump();
        } else {
            let adopt_until = self.expect_orphans();
            self.figures = Some(Figures::new(&self.segment));
            self.handle(Event::Start { adopt_until });
        }
        while self.exit.is_none() {
            self.turn();
        }
        self.broker.remove_files();
        self.recipes.clear();
        self.control.close();
        self.exit.unwrap_or(0)
    }

    /// One round: wait, then do what there is to do.
    fn turn(&mut self) {
        let now = Moment::now();
        let ready = self.wait(now);
        let now = Moment::now();
        for source in ready {
            match source {
                Source::Signals => self.take_signals(),
                Source::Door => self.control.accept(now),
                Source::Connection(ticket) => {
                    if let Some(asked) = self.control.hear(ticket) {
                        self.asked(asked);
                    }
                }
                Source::Channel(epoch) => self.exchange(epoch),
                Source::Process(epoch) => self.bury(epoch),
                Source::Orphan(index) => self.hear_orphan(index),
            }
        }
        self.control.expire(now);
        self.settle_orphans(now);
        self.gather();
        if self.lifecycle.deadline().is_some_and(|deadline| deadline <= Moment::now()) {
            self.handle(Event::Tick);
        }
        self.say_figures(Moment::now());
        self.turn_tickets();
        self.try_replacement();
        if let Some(interval) = self.watchdog
            && Moment::now() - self.fed >= interval
        {
            self.fed = Moment::now();
            systemd::watchdog();
        }
    }

    fn wait(&self, now: Moment) -> Vec<Source> {
        let mut sources = Vec::new();
        let mut interests = Vec::new();
        let mut add = |source, descriptor, flags| {
            sources.push(source);
            interests.push(PollFd::new(descriptor, flags));
        };
        add(Source::Signals, self.signals.as_fd(), PollFlags::POLLIN);
        let (door, connections) = self.control.interests();
        add(Source::Door, door, PollFlags::POLLIN);
        for (ticket, connection) in connections {
            add(Source::Connection(ticket), connection, PollFlags::POLLIN);
        }
        for (&epoch, peer) in &self.peers {
            if let Some((channel, flags)) = peer.interest() {
                add(Source::Channel(epoch), channel, flags);
            }
            add(Source::Process(epoch), peer.process.as_fd(), PollFlags::POLLIN);
        }
        for (&epoch, process) in &self.expected {
            add(Source::Process(epoch), process.as_fd(), PollFlags::POLLIN);
        }
        for (index, orphan) in self.orphans.iter().enumerate() {
            add(Source::Orphan(index), orphan.channel(), PollFlags::POLLIN);
        }
        match poll(&mut interests, self.timeout(now)) {
            Ok(_) => {}
            Err(Errno::EINTR) => return Vec::new(),
            Err(error) => warn!("poll: {error}"),
        }
        let ready = interests.iter().zip(sources).filter(|(interest, _)| interest.any().unwrap_or(false));
        ready.map(|(_, source)| source).collect()
    }

    fn timeout(&self, now: Moment) -> PollTimeout {
        let fed = self.watchdog.map(|interval| self.fed + interval);
        let orphans = self.orphans.iter().map(adopt::Orphan::deadline).min();
        let next = [self.lifecycle.deadline(), self.control.deadline(), fed, orphans, self.replace_until]
            .into_iter()
            .chain([self.gather_until, self.expected_until, self.tickets_due()])
            .flatten()
            .min();
        match next {
            None => PollTimeout::NONE,
            Some(next) => PollTimeout::try_from((next - now).as_millis()).unwrap_or(PollTimeout::MAX),
        }
    }

    fn take_signals(&mut self) {
        while let Ok(Some(signal)) = self.signals.read_signal() {
            let signal = i32::try_from(signal.ssi_signo).ok().and_then(|number| Signal::try_from(number).ok());
            match signal {
                Some(Signal::SIGHUP) => {
                    info!("SIGHUP: a takeover is wanted");
                    self.handle(Event::Request { want: Want::Reload, ticket: None });
                }
                Some(signal @ (Signal::SIGTERM | Signal::SIGINT)) => {
                    info!("{signal}: stopping");
                    self.handle(Event::Stop { how: StopHow::Signal, ticket: None });
                }
                Some(Signal::SIGUSR1) => self.reopen_logs(),
                Some(Signal::SIGUSR2) => self.want_replacement(),
                _ => {}
            }
        }
    }

    /// Feeds the machine, and everything that follows from it.
    fn handle(&mut self, event: Event) {
        self.events.push_back(event);
        self.pump();
    }

    /// Lets the machine see what has been queued for it.
    fn pump(&mut self) {
        while let Some(event) = self.events.pop_front() {
            debug!("event: {}", event.name());
            let actions = self.lifecycle.handle(event, Moment::now());
            for action in actions {
                self.act(action);
            }
        }
        self.tell_store();
    }
}

/// The name of this program as it was called, where that leads to it: a link that is turned to another version is then followed again.
fn own_program() -> PathBuf {
    let running = std::env::current_exe().unwrap_or_else(|_| "/proc/self/exe".into());
    let called = std::env::args_os().next().map(PathBuf::from).filter(|called| called.components().count() > 1);
    let Some(called) = called.and_then(|called| std::path::absolute(called).ok()) else { return running };
    match (std::fs::canonicalize(&called), std::fs::canonicalize(&running)) {
        (Ok(a), Ok(b)) if a == b => called,
        _ => running,
    }
}

fn signals() -> nix::Result<SignalFd> {
    let mut set = SigSet::empty();
    for signal in [Signal::SIGHUP, Signal::SIGTERM, Signal::SIGINT, Signal::SIGUSR1, Signal::SIGUSR2] {
        set.add(signal);
    }
    set.thread_block()?;
    SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)
}

/// The statistics of an earlier supervisor of this service, or new ones.
fn statistics(stored: Option<std::os::fd::OwnedFd>) -> std::io::Result<Segment> {
    if let Some(stored) = stored {
        match Segment::attach(stored) {
            Ok(segment) => {
                segment.recover();
                info!("the statistics of an earlier supervisor go on");
                return Ok(segment);
            }
            Err(error) => warn!("the stored statistics are not used: {error}"),
        }
        systemd::unstore(broker::SEGMENT);
    }
    let segment = Segment::create(Geometry::default())?;
    if let Some(descriptor) = segment.fd() {
        store_segment(descriptor);
    }
    Ok(segment)
}

fn store_segment(descriptor: BorrowedFd<'_>) {
    systemd::store(broker::SEGMENT, &[descriptor]);
}
