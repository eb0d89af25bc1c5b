//! One epoch from start to exit, on the main thread.
//!
//! [`run`] prepares (configuration, sockets, statistics, workers) and hands over to the loop: one loop for an epoch that is supervised and for one that runs alone, because the
//! only difference is who gives the orders. Orders are carried out one at a time; each is acknowledged when it is done.

use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use heirloom_supervisor::shm::{Geometry, Segment};
use heirloom_supervisor::wire::message::{
    DrainStrategy, Drained, Failed, Health, Ready, Standing, TicketKeys, Welcome,
};
use heirloom_supervisor::wire::{self, Channel, Message};
use nix::errno::Errno;
use tokio::task::LocalSet;
use tokio::time::{MissedTickBehavior, interval, sleep_until};
use tracing::{debug, error, info, warn};

use super::assemble::{Parts, bind_to};
use super::group::{self, Group};
use super::logs::Logs;
use super::phase::{Ending, Phase};
use super::report::{Life, Report};
use super::signals::{Request, Signals};
use super::{Failure, Options};
use crate::access_log;
use crate::admin::Action;
use crate::config;
use crate::config::model::{Address, SocketOptions};
use crate::drain::{Plan, Strategy};
use crate::handoff::link::{self, Link, Welcomed, hello};
use crate::handoff::orphan::Orphan;
use crate::handoff::sockets::{self, Sockets};
use crate::l4;
use crate::net;
use crate::stats::Store;
use crate::tls::Contexts;

mod motion;
mod orders;
mod steps;

use motion::Legacy;

/// What is still open when a drain's deadline passes gets this long to be closed.
const CLOSING_TIME: Duration = Duration::from_secs(2);
/// How often the supervisor hears how this epoch does.
const HEALTH_INTERVAL: Duration = Duration::from_secs(1);

/// Serves until told to end, or until something breaks that another epoch would not have.
///
/// # Errors
/// See [`Failure`]; the caller prints it and exits with status 1.
pub fn run(options: Options) -> Result<(), Failure> {
    let system = |what: &'static str| move |error: std::io::Error| Failure::System(format!("{what}: {error}"));
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(system("the main runtime"))?;
    let local = LocalSet::new();
    let outcome = local.block_on(&runtime, live(options));
    // A blocking task that hangs must not keep the process.
    runtime.shutdown_timeout(Duration::from_millis(100));
    outcome
}

async fn live(options: Options) -> Result<(), Failure> {
    let started = Instant::now();
    let signals = Signals::install().map_err(|error| Failure::System(format!("signal handlers: {error}")))?;
    let channel = Channel::from_environment().map_err(|error| Failure::System(error.to_string()))?;
    let Some((channel, _)) = channel else {
        let epoch = Epoch::prepare_alone(options, started)?;
        return Box::pin(epoch.serve_alone(signals)).await;
    };
    let Welcomed { mut link, welcome, segment } = Link::open(channel, hello(&options.version)).await?;
    match Epoch::prepare_supervised(options, started, &mut link, &welcome, segment).await {
        Ok(epoch) => Box::pin(epoch.serve_supervised(link, signals)).await,
        Err(failure) => {
            // The operator's `reload` prints this report; if it cannot be sent, the exit status still tells.
            let report = Failed { report: wire::clip(failure.to_string()) };
            if let Err(error) = link.send(&Message::Failed(report)).await {
                warn!("the report could not be sent: {error}");
            }
            Err(failure)
        }
    }
}

/// An epoch that is built.
struct Epoch {
    phase: Phase,
    group: Group,
    /// With the keys of session tickets, which the supervisor turns.
    tls: Contexts,
    report: Report,
    limits: Ending,
    flush_interval: Duration,
    configuration: String,
    listeners: u32,
    /// What a next supervisor would want; `None` when there never was one.
    orphan: Option<Orphan>,
    /// `--parent-shutdown-time-s`: the end of a drain that this epoch begins by itself.
    shutdown_time: Duration,
    /// At the last count.
    connections: u64,
    /// Connections that a drain's deadline found open.
    closed: u64,
    /// An operator's graceful drain of the listeners ends then.
    stop_listening_at: Option<Instant>,
    /// Until when a drain can be called off.
    recall_until: Option<Instant>,
    /// Where connections go.
    legacy: Legacy,
    access_logs: Box<Logs>,
    reopen_logs: Box<dyn Fn()>,
}

/// What the loop waits for.
enum Event {
    Order(Result<wire::Packet, wire::Error>),
    Signal(Request),
    Admin(Action),
    Second,
    Flush,
    /// Nothing moves any more.
    Given(Option<Link>),
    Emptied,
    Deadline,
}

impl Epoch {
    fn prepare_alone(options: Options, started: Instant) -> Result<Self, Failure> {
        let loaded = load(&options)?;
        let bind = |address: &Address, options: &SocketOptions| {
            let (address, options) = bind_to(address, options);
            net::bind(&address, &options)
        };
        let sockets = sockets::bind(&loaded.bootstrap, bind).map_err(Failure::System)?;
        let segment = Segment::anonymous(Geometry::default())
            .map_err(|error| Failure::System(format!("memory for statistics: {error}")))?;
        let limits = Ending { deadline: started, drain_time: options.drain_time, strategy: options.drain_strategy };
        let life = Life { started, generation: 0, limits };
        Self::build(options, loaded, sockets, Store::new(segment, 0), life)
    }

    async fn prepare_supervised(
        options: Options,
        started: Instant,
        link: &mut Link,
        welcome: &Welcome,
        segment: std::os::fd::OwnedFd,
    ) -> Result<Self, Failure> {
        let loaded = load(&options)?;
        let keys = sockets::keys(&loaded.bootstrap);
        let granted = link.lend(&keys).await?;
        let orphan = Orphan::remember(welcome, hello(&options.version), keys, &granted, segment.as_fd());
        let orphan = orphan.map_err(|error| Failure::System(format!("descriptors for a next supervisor: {error}")))?;
        let sockets = sockets::sort(&loaded.bootstrap, granted).map_err(Failure::System)?;
        let segment =
            Segment::attach(segment).map_err(|error| Failure::System(format!("the statistics segment: {error}")))?;
        let limits = Ending {
            deadline: started,
            drain_time: Duration::from_millis(welcome.drain_time_ms),
            strategy: strategy(welcome.drain_strategy()),
        };
        let store = Store::new(segment, welcome.epoch);
        let life = Life { started, generation: welcome.generation, limits };
        let epoch = Self::build(options, loaded, sockets, store, life)?;
        epoch.take_ticket_keys(welcome.ticket_keys.clone());
        epoch.take_ticket_keys(link.turned());
        Ok(Self { orphan: Some(orphan), ..epoch })
    }

    fn build(
        options: Options,
        loaded: config::Loaded,
        sockets: Sockets,
        store: Store,
        life: Life,
    ) -> Result<Self, Failure> {
        let bootstrap = Arc::new(loaded.bootstrap);
        let files = access_log::Files::new(options.access_logs);
        let parts = Arc::new(Parts::new(
            bootstrap.clone(),
            sockets.listeners,
            store.clone(),
            files.clone(),
            options.http_filters,
            options.network_filters,
        ));
        let tls = parts.tls().clone();
        let group = Group::spawn(&parts, options.concurrency).map_err(Failure::System)?;
        let listeners = u32::try_from(bootstrap.listeners.len()).unwrap_or(u32::MAX);
        let flush_interval = bootstrap.stats.flush_interval;
        let report =
            Report::new(bootstrap, store, sockets.admin, &options, group.len(), life).map_err(Failure::System)?;
        let access_logs = Box::new(Logs::new(files, report.filesystem()));
        Ok(Self {
            phase: Phase::Ready,
            access_logs,
            tls,
            group,
            report,
            limits: life.limits,
            flush_interval,
            configuration: loaded.text,
            listeners,
            orphan: None,
            shutdown_time: options.parent_shutdown_time,
            connections: 0,
            closed: 0,
            stop_listening_at: None,
            recall_until: None,
            legacy: Legacy::default(),
            reopen_logs: options.reopen_logs,
        })
    }

    async fn serve_alone(mut self, signals: Signals) -> Result<(), Failure> {
        self.accept().await?;
        Box::pin(self.follow(None, signals)).await
    }

    async fn serve_supervised(mut self, link: Link, signals: Signals) -> Result<(), Failure> {
        let ready = Ready {
            version: self.report.version().to_owned(),
            listeners: self.listeners,
            summary: format!("{} listeners, {} workers", self.listeners, self.group.len()),
            configuration_bytes: self.configuration.len() as u64,
        };
        let text = config_file(self.configuration.as_bytes())
            .map_err(|error| Failure::System(format!("configuration: {error}")))?;
        self.configuration = String::new();
        link.send_with(&Message::Ready(ready), &[text.as_fd()]).await?;
        drop(text);
        Box::pin(self.follow(Some(link), signals)).await
    }

    /// The loop: one event at a time, until the end.
    async fn follow(mut self, mut link: Option<Link>, mut signals: Signals) -> Result<(), Failure> {
        let mut second = interval(HEALTH_INTERVAL);
        second.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut flush = interval(self.flush_interval);
        flush.set_missed_tick_behavior(MissedTickBehavior::Skip);
        loop {
            let event = {
                let ending = matches!(self.phase, Phase::Draining(_) | Phase::Closing);
                let deadline = self.deadline();
                let group = &self.group;
                tokio::select! {
                    biased;
                    packet = next_order(link.as_ref()) => Event::Order(packet),
                    request = signals.next() => Event::Signal(request),
                    request = self.report.request() => Event::Admin(request),
                    _ = second.tick() => Event::Second,
                    _ = flush.tick() => Event::Flush,
                    way = self.legacy.given() => Event::Given(way),
                    _ = group.emptied(), if ending => Event::Emptied,
                    () = sleep_until(deadline.into()), if ending => Event::Deadline,
                }
            };
            match event {
                Event::Order(Ok(packet)) => {
                    if let Some(link) = &link {
                        self.obey(link, packet).await?;
                    }
                }
                Event::Order(Err(wire::Error::Malformed(reason))) => warn!("the supervisor sent nonsense: {reason}"),
                Event::Order(Err(error)) => {
                    warn!("the supervisor is gone, serving on without it: {error}");
                    link = None;
                }
                Event::Signal(request) => self.signalled(request, link.is_some()).await?,
                Event::Admin(request) => self.asked(request, link.is_some()).await?,
                Event::Second => {
                    self.report.runtime().look();
                    if link.is_none() {
                        link = self.find_home().await;
                        if link.is_some()
                            && matches!(self.phase, Phase::Draining(_))
                            && self.recall_until.take().is_some()
                        {
                            // This supervisor knows of no grace, and nobody is called back.
                            self.let_go().await?;
                        }
                    }
                    self.tell(link.as_ref()).await?;
                }
                Event::Flush => self.report.flush(),
                Event::Given(way) => self.given(way).await?,
                Event::Emptied => return self.leave(link).await,
                Event::Deadline if self.phase == Phase::Closing => return self.leave(link).await,
                Event::Deadline => self.close().await?,
            }
        }
    }

    /// The supervisor that has come after the one that died, if there is one.
    async fn find_home(&self) -> Option<Link> {
        let orphan = self.orphan.as_ref()?;
        let (standing, remaining) = match self.phase {
            Phase::Ready => (Standing::Preparing, Duration::ZERO),
            Phase::Accepting | Phase::Failing => (Standing::Accepting, Duration::ZERO),
            Phase::Stopped => (Standing::Stopped, Duration::ZERO),
            Phase::Draining(_) | Phase::Closing => {
                (Standing::Draining, self.deadline().saturating_duration_since(Instant::now()))
            }
        };
        let own = self.tls.tickets().given().map(|(keys, age)| {
            let age_ms = u64::try_from(age.as_millis()).unwrap_or(u64::MAX);
            TicketKeys { keys, age_ms }
        });
        match orphan.offer(standing, remaining, own).await {
            Ok((link, keys)) => {
                self.take_ticket_keys(keys);
                info!("a supervisor has taken this epoch in");
                Some(link)
            }
            Err(link::Error::Refused(reason)) => {
                warn!("the supervisor does not take this epoch in: {reason}");
                None
            }
            // Nobody is there yet.
            Err(error) => {
                debug!("no supervisor: {error}");
                None
            }
        }
    }

    /// Keys of session tickets that the supervisor gives to every epoch.
    fn take_ticket_keys(&self, keys: Option<TicketKeys>) {
        if let Some(TicketKeys { keys, age_ms }) = keys {
            self.tls.tickets().give(&keys, Duration::from_millis(age_ms));
        }
    }

    fn set_phase(&mut self, phase: Phase) {
        self.phase = phase;
        self.report.second(phase, self.connections);
    }

    fn deadline(&self) -> Instant {
        match self.phase {
            Phase::Draining(ending) => ending.deadline,
            _ => self.limits.deadline,
        }
    }

    async fn tell(&mut self, link: Option<&Link>) -> Result<(), Failure> {
        let connections = self.group.connections().await.map_err(hopeless)?;
        self.connections = connections;
        self.report.second(self.phase, connections);
        self.access_logs.second();
        self.report.show_hosts(self.group.hosts().await.map_err(hopeless)?);
        if self.stop_listening_at.is_some_and(|at| at <= Instant::now()) {
            self.stop_listening_at = None;
            self.group.stop_accepting().await.map_err(hopeless)?;
        }
        if self.recall_until.is_some_and(|until| until <= Instant::now()) {
            self.recall_until = None;
            self.let_go().await?;
        }
        if let Some(link) = link {
            let reason = ailment();
            send(link, &Message::Health(Health { connections, healthy: reason.is_empty(), reason })).await;
        }
        Ok(())
    }

    async fn leave(self, link: Option<Link>) -> Result<(), Failure> {
        let closed = self.closed;
        self.report.finish().await;
        if let Some(link) = &link {
            send(link, &Message::Drained(Drained { closed })).await;
        }
        self.group.stop().await;
        Box::pin(self.access_logs.finish()).await;
        info!(closed, "exiting");
        Ok(())
    }
}

/// What keeps this epoch from serving well; empty when nothing does. A worker that hangs is told by silence: the orders to it wait, and the process ends.
fn ailment() -> String {
    // Descriptors are what a process runs out of without anything else showing it.
    match std::fs::File::open("/dev/null") {
        Err(error) if matches!(error.raw_os_error().map(Errno::from_raw), Some(Errno::EMFILE | Errno::ENFILE)) => {
            format!("it cannot open anything more: {error}")
        }
        _ => String::new(),
    }
}

/// Sends to the supervisor. That it cannot be sent is its loss, not the clients': serving goes on.
async fn send(link: &Link, message: &Message) {
    if let Err(error) = link.send(message).await {
        warn!("{} could not be sent: {error}", message.name());
    }
}

async fn next_order(link: Option<&Link>) -> Result<wire::Packet, wire::Error> {
    match link {
        Some(link) => link.recv().await,
        None => std::future::pending().await,
    }
}

/// A worker that hangs or is gone cannot be mended from inside: the process ends and the supervisor starts another.
fn hopeless(error: group::Error) -> Failure {
    error!("{error}");
    Failure::Worker(error.to_string())
}

fn strategy(strategy: DrainStrategy) -> Strategy {
    match strategy {
        DrainStrategy::Gradual => Strategy::Gradual,
        DrainStrategy::Immediate => Strategy::Immediate,
    }
}

fn load(options: &Options) -> Result<config::Loaded, Failure> {
    let http_filters = crate::http::filters::kinds(options.http_filters);
    let network_filters = l4::extension::kinds(options.network_filters);
    let with_filters = config::LoadOptions { http_filters, network_filters, ..options.load.clone() };
    let loaded =
        config::load(&options.source, &with_filters).map_err(|faults| Failure::Configuration(faults.to_string()))?;
    for warning in &loaded.warnings {
        warn!("{warning}");
    }
    Ok(loaded)
}

/// The configuration's text as a file without a name, for the supervisor to keep.
fn config_file(text: &[u8]) -> std::io::Result<std::fs::File> {
    use std::io::Write;
    let name = c"heirloom-configuration";
    let file = nix::sys::memfd::memfd_create(name, nix::sys::memfd::MFdFlags::MFD_CLOEXEC)?;
    let mut file = std::fs::File::from(file);
    file.write_all(text)?;
    Ok(file)
}
