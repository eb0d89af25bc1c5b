//! What the epoch says of itself: its own statistics, the sinks, the admin endpoint.

use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use tracing::info;

use super::Options;
use super::phase::Phase;
use crate::config::model::{Bootstrap, StatsSink};
use crate::stats::names::{ListenerManagerStats, ServerStats};
use crate::stats::report::Reporter;
use crate::stats::sinks::{Sink, statsd::Statsd};
use crate::stats::{Scope, Store};

/// What an operator asks of the epoch through its admin endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Request {
    /// `/quitquitquit`.
    Quit,
    /// `/drain_listeners`: stop accepting.
    StopListeners,
    /// `/drain_listeners?graceful`.
    DrainListeners,
    /// `/healthcheck/fail`.
    HealthcheckFail,
    /// `/healthcheck/ok`.
    HealthcheckOk,
}

/// The main thread's statistics and endpoints.
pub(super) struct Report {
    store: Store,
    stats: ServerStats,
    reporter: Reporter,
    version: String,
    started: Instant,
    accepted: bool,
}

impl Report {
    /// Builds it on the main thread; nothing is served yet.
    ///
    /// # Errors
    /// A sink or the admin endpoint that cannot be made, in words.
    pub(super) fn new(
        bootstrap: Arc<Bootstrap>,
        store: Store,
        admin: Vec<OwnedFd>,
        options: &Options,
        workers: usize,
        started: Instant,
        generation: u64,
    ) -> Result<Self, String> {
        let root = Scope::root(&store, store.lane_or_private());
        let stats = ServerStats::new(&root.scope("server"));
        let manager = ListenerManagerStats::new(&root.scope("listener_manager"));
        let listeners = bootstrap.listeners.len() as u64;
        manager.listener_added.add(listeners);
        manager.listener_create_success.add(listeners * workers as u64);
        manager.total_listeners_active.set(listeners);
        manager.workers_started.set(1);
        stats.concurrency.set(workers as u64);
        stats.hot_restart_epoch.set(store.epoch());
        stats.hot_restart_generation.set(generation);
        stats.version.set(version_number());
        // Envoy's value where there are no certificates.
        stats.days_until_first_cert_expiring.set(u64::from(u32::MAX));
        let reporter = Reporter::new(&root, sinks(&bootstrap.stats.sinks)?);
        drop(admin);
        Ok(Self { store, stats, reporter, version: options.version.clone(), started, accepted: false })
    }

    /// What `--version` prints.
    pub(super) fn version(&self) -> &str {
        &self.version
    }

    /// This epoch accepts: it is the newest, its gauges count and its admin endpoint answers.
    pub(super) fn accept(&mut self, phase: &mut Phase) {
        *phase = Phase::Accepting;
        self.store.segment().set_newest(self.store.epoch());
        if !self.accepted {
            self.accepted = true;
            self.stats.initialization_time_ms.record(millis(self.started));
        }
        self.second(*phase, 0);
    }

    /// This epoch accepts nothing more; another one answers at the admin endpoint.
    pub(super) fn stop(&mut self) {}

    /// What the admin endpoint is asked for; never, where there is none.
    pub(super) async fn request(&self) -> Request {
        std::future::pending().await
    }

    /// Once a second: what changes by itself.
    pub(super) fn second(&self, phase: Phase, connections: u64) {
        self.stats.uptime.set(self.started.elapsed().as_secs());
        self.stats.state.set(phase.state());
        self.stats.live.set(u64::from(phase == Phase::Accepting));
        self.stats.total_connections.set(connections);
        if let Some(memory) = Memory::read() {
            self.stats.memory_allocated.set(memory.anonymous);
            self.stats.memory_heap_size.set(memory.anonymous);
            self.stats.memory_physical_size.set(memory.resident);
        }
    }

    /// Once per flush interval: the sinks hear what is new, if this epoch is the newest.
    pub(super) fn flush(&mut self) {
        self.reporter.flush();
    }

    /// The end: what has been counted since the last flush is still sent.
    pub(super) fn finish(mut self) {
        self.reporter.flush();
        info!(uptime = self.started.elapsed().as_secs(), "shutting down");
    }
}

fn sinks(models: &[StatsSink]) -> Result<Vec<Box<dyn Sink>>, String> {
    let mut sinks: Vec<Box<dyn Sink>> = Vec::new();
    for model in models {
        match model {
            StatsSink::Statsd { address, prefix } => {
                let sink =
                    Statsd::new(*address, prefix).map_err(|error| format!("statsd sink to {address}: {error}"))?;
                sinks.push(Box::new(sink));
            }
        }
    }
    Ok(sinks)
}

/// `server.version`: Envoy makes it of its commit's first digits; a release without a commit makes it of its number.
fn version_number() -> u64 {
    let part = |text: &str| text.parse::<u64>().unwrap_or(0);
    part(env!("CARGO_PKG_VERSION_MAJOR")) * 10_000
        + part(env!("CARGO_PKG_VERSION_MINOR")) * 100
        + part(env!("CARGO_PKG_VERSION_PATCH"))
}

fn millis(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX)
}

/// The process's memory in bytes, as the kernel counts it.
struct Memory {
    resident: u64,
    anonymous: u64,
}

impl Memory {
    fn read() -> Option<Self> {
        let text = std::fs::read_to_string(Path::new("/proc/self/status")).ok()?;
        let kilobytes = |name: &str| {
            let line = text.lines().find(|line| line.starts_with(name))?;
            line.split_whitespace().nth(1)?.parse::<u64>().ok()
        };
        Some(Self { resident: kilobytes("VmRSS:")? * 1024, anonymous: kilobytes("RssAnon:")? * 1024 })
    }
}
