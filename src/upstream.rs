//! Clusters: where requests can go, which host gets the next one, over which connection, and when there are too many.
//!
//! [`Clusters`] is built per worker from the shared model; everything in it is of one thread. What must hold over all workers
//! (circuit breakers, where the round robin starts) is in [`Shared`], made once per configuration and handed to every worker.
//! Callers above ask [`Cluster::pick`] for a host and the host's pool for a connection; they do the talking themselves.
//!
//! On drain idle connections simply go with the worker; on reload a new [`Clusters`] is built beside the old one, which lives
//! for as long as a request holds one of its clusters.

use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::{Duration, Instant};

use crate::config::model;
use crate::local::Local;
use crate::stats::Scope;

mod cluster;
mod host;
pub mod lb;
pub mod limits;
pub mod pool;
pub mod written;

pub use cluster::Cluster;
pub use host::{Counts, Host};

/// What the workers share about the clusters of one configuration.
#[derive(Debug, Default)]
pub struct Shared {
    clusters: HashMap<String, SharedCluster>,
}

#[derive(Debug, Default)]
struct SharedCluster {
    /// Of the default priority, and of the high one.
    counts: [Arc<limits::Counts>; 2],
    start: Arc<AtomicUsize>,
}

impl Shared {
    /// For the clusters of one configuration.
    pub fn new(clusters: &[Arc<model::Cluster>]) -> Self {
        Self { clusters: clusters.iter().map(|cluster| (cluster.name.clone(), SharedCluster::default())).collect() }
    }
}

/// One worker's clusters, by name.
pub struct Clusters {
    by_name: HashMap<String, Rc<Cluster>>,
    local: Local,
    sweep_every: Duration,
}

impl Clusters {
    /// Builds the worker's clusters. `scope` is the root of the statistics.
    pub fn build(models: &[Arc<model::Cluster>], shared: &Shared, scope: &Scope, local: &Local) -> Self {
        let by_name = models
            .iter()
            .map(|model| {
                let (counts, start) = match shared.clusters.get(&model.name) {
                    Some(shared) => (shared.counts.clone(), shared.start.clone()),
                    None => Default::default(),
                };
                (model.name.clone(), Rc::new(Cluster::build(model.clone(), counts, &start, scope, local)))
            })
            .collect();
        let shortest = models.iter().filter_map(|model| model.idle_timeout).min().unwrap_or(Duration::MAX);
        let sweep_every = (shortest / 8).clamp(Duration::from_millis(20), Duration::from_secs(1));
        Self { by_name, local: local.clone(), sweep_every }
    }

    /// The cluster of that name.
    pub fn get(&self, name: &str) -> Option<&Rc<Cluster>> {
        self.by_name.get(name)
    }

    /// All of them, in no order.
    pub fn iter(&self) -> impl Iterator<Item = &Rc<Cluster>> {
        self.by_name.values()
    }

    /// Whether the worker drains: idle connections to hosts then end within a second or two.
    pub fn set_draining(&self, draining: bool) {
        for cluster in self.iter() {
            cluster.set_draining(draining);
        }
    }

    /// Closes idle connections that are too old or that the other side has closed, for as long as the worker lives: one sweep
    /// over the idle instead of a task or a timer for each.
    pub async fn sweep(&self) {
        let timer = self.local.timers().timer();
        loop {
            timer.until(timer.at(Instant::now() + self.sweep_every)).await;
            let now = Instant::now();
            for cluster in self.by_name.values() {
                cluster.sweep(now);
            }
        }
    }
}
