//! What the epoch says of itself: its own statistics, the sinks, the admin endpoint.

use std::cell::RefCell;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use tracing::info;

use super::Options;
use super::front::{Behind, Front};
use super::phase::{Ending, Phase};
use super::runtime::Keeper;
use crate::admin::{Action, Memory};
use crate::config::model::{Bootstrap, StatsSink, TagRule, TagValue};
use crate::stats::names::{FilesystemStats, ListenerManagerStats, MotionStats, RuntimeStats, ServerStats};
use crate::stats::sinks::{Sink, statsd::Statsd};
use crate::stats::tags::{Rule, RuleValue, Tags};
use crate::stats::{Reporter, Scope, Store};
use crate::upstream::Counts;

/// What an epoch knows of its own life from the start.
#[derive(Clone, Copy)]
pub(super) struct Life {
    /// When the process started.
    pub(super) started: Instant,
    /// Takeovers before it.
    pub(super) generation: u64,
    /// How its drain goes, unless the supervisor says otherwise when it comes to that.
    pub(super) limits: Ending,
}

/// The main thread's statistics and endpoints.
pub(super) struct Report {
    store: Store,
    stats: ServerStats,
    motion: MotionStats,
    filesystem: FilesystemStats,
    reporter: Rc<RefCell<Reporter>>,
    runtime: Rc<Keeper>,
    front: Front,
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
        life: Life,
    ) -> Result<Self, String> {
        let Life { started, generation, limits } = life;
        let root = Scope::root(&store, store.lane_or_private());
        let stats = ServerStats::new(&root.scope("server"));
        let motion = MotionStats::new(&root.scope("server"));
        let filesystem = FilesystemStats::new(&root.scope("filesystem"));
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
        let tags = Tags::new(&rules(&bootstrap.stats.tags), bootstrap.stats.use_default_tags);
        let tags = tags.map_err(|error| error.to_string())?;
        let reporter = Rc::new(RefCell::new(Reporter::new(&root, sinks(&bootstrap.stats.sinks)?)));
        let epoch = store.epoch();
        let runtime = Keeper::new(&bootstrap.runtime, RuntimeStats::new(&root.scope("runtime")));
        let behind = Behind {
            root,
            bootstrap,
            runtime: runtime.clone(),
            reporter: reporter.clone(),
            tags,
            started,
            epoch,
            limits,
        };
        let front = Front::new(behind, admin, options)?;
        let version = options.version.clone();
        Ok(Self { store, stats, motion, filesystem, reporter, runtime, front, version, started, accepted: false })
    }

    /// Runtime values.
    pub(super) fn runtime(&self) -> &Rc<Keeper> {
        &self.runtime
    }

    /// What is counted of connections that move.
    pub(super) fn motion(&self) -> MotionStats {
        self.motion.clone()
    }

    /// What is counted of the access logs' files.
    pub(super) fn filesystem(&self) -> FilesystemStats {
        self.filesystem.clone()
    }

    /// What `--version` prints.
    pub(super) fn version(&self) -> &str {
        &self.version
    }

    /// This epoch accepts: it is the newest, its gauges count and its admin endpoint answers.
    ///
    /// # Errors
    /// The admin socket cannot be watched, in words.
    pub(super) fn accept(&mut self) -> Result<(), String> {
        self.store.segment().set_newest(self.store.epoch());
        if !self.accepted {
            self.accepted = true;
            self.stats.initialization_time_ms.record(millis(self.started));
        }
        self.front.serve()
    }

    /// This epoch accepts nothing more; another one answers at the admin endpoint.
    pub(super) fn stop(&mut self) {
        self.front.stop();
    }

    /// What the admin endpoint is asked for; never, where there is none. Cancel safe.
    pub(super) async fn request(&mut self) -> Action {
        self.front.request().await
    }

    /// Once a second: what changes by itself.
    pub(super) fn second(&self, phase: Phase, connections: u64) {
        self.front.show(phase);
        self.stats.uptime.set(self.started.elapsed().as_secs());
        self.stats.state.set(self.front.state().number());
        self.stats.live.set(u64::from(phase == Phase::Accepting));
        self.stats.total_connections.set(connections);
        let memory = Memory::read();
        self.stats.memory_allocated.set(memory.allocated);
        self.stats.memory_heap_size.set(memory.heap_size);
        self.stats.memory_physical_size.set(memory.total_physical_bytes);
    }

    /// What the workers have seen of the hosts, for `/clusters`.
    pub(super) fn show_hosts(&self, hosts: Vec<Counts>) {
        self.front.show_hosts(hosts);
    }

    /// Once per flush interval: the sinks hear what is new, if this epoch is the newest.
    pub(super) fn flush(&self) {
        self.reporter.borrow_mut().flush();
    }

    /// The end: the admin endpoint's last answers, and what has been counted since the last flush is still sent.
    pub(super) async fn finish(self) {
        self.front.leave().await;
        self.reporter.borrow_mut().flush();
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

/// The model's tag rules as the extractor takes them.
fn rules(models: &[TagRule]) -> Vec<Rule> {
    let value = |value: &TagValue| match value {
        TagValue::Fixed(value) => RuleValue::Fixed(value.clone()),
        TagValue::Regex(pattern) => RuleValue::Regex(pattern.clone()),
        TagValue::Default => RuleValue::Default,
    };
    models.iter().map(|rule| Rule { name: rule.name.clone(), value: value(&rule.value) }).collect()
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
