//! One cluster of one worker: its hosts, its balancer, its limits and its statistics.

use std::cell::{Cell, OnceCell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::config::model::{self, Address};
use crate::local::{Local, Timer};
use crate::stats::Scope;
use crate::stats::names::{self, CircuitBreakerStats, ClusterStats, CodeCounters, Http2Stats, OriginStats};

use super::host::Host;
use super::lb::RoundRobin;
use super::limits::{Counts, Limits, Open, Retry};
use super::pool::{Refused, tcp};

/// What every part of a cluster looks at; pools keep it alive for as long as a connection of theirs lives.
pub(super) struct Common {
    pub(super) model: Arc<model::Cluster>,
    pub(super) stats: ClusterStats,
    pub(super) limits: Rc<Limits>,
    pub(super) local: Local,
    /// The worker drains: see [`Common::idle_timeout`].
    pub(super) draining: Cell<bool>,
    /// What is counted of HTTP/2, where the cluster may speak it.
    pub(super) http2: Option<Http2Stats>,
    /// None of what is itself that of the high priority.
    high: Option<High>,
}

/// The same for requests of high priority, which have limits and connections of their own. Made for the first of them.
struct High {
    scope: Scope,
    counts: Arc<Counts>,
    made: OnceCell<Rc<Common>>,
}

/// How long a connection may be idle in the pool of a worker that drains.
const IDLE_WHILE_DRAINING: Duration = Duration::from_secs(1);

/// Names of one cluster that requests may give to be counted under: a caller cannot fill the name table.
const MOST_NAMES: usize = 64;

/// With weights a host comes again before all others have come once.
const PICKS_PER_HOST: u32 = 16;

impl Common {
    /// What requests of high priority look at.
    pub(super) fn high(self: &Rc<Self>) -> &Rc<Self> {
        let Some(high) = &self.high else { return self };
        high.made.get_or_init(|| {
            let model = &self.model;
            let keys = model.high_limit_keys.clone();
            let limits = Limits::new(high.counts.clone(), model.high_limits, keys, open(&high.scope, "high"));
            let draining = self.draining.clone();
            Rc::new(Self {
                model: model.clone(),
                stats: self.stats.clone(),
                limits,
                local: self.local.clone(),
                draining,
                http2: self.http2.clone(),
                high: None,
            })
        })
    }

    fn set_draining(&self, draining: bool) {
        self.draining.set(draining);
        if let Some(high) = self.high.as_ref().and_then(|high| high.made.get()) {
            high.set_draining(draining);
        }
    }

    /// How long a connection may be idle in a pool. What a draining worker keeps for requests that hardly come any more only holds the
    /// hosts' connections, and where a host is this proxy itself, its own drain.
    pub(super) fn idle_timeout(&self) -> Option<Duration> {
        let own = self.model.idle_timeout;
        if self.draining.get() { Some(own.unwrap_or(Duration::MAX).min(IDLE_WHILE_DRAINING)) } else { own }
    }
}

/// The gauges of one priority.
fn open(cluster: &Scope, priority: &str) -> Open {
    let breakers = CircuitBreakerStats::new(&names::circuit_breakers(cluster, priority));
    Open {
        connections: breakers.cx_open,
        pending: breakers.rq_pending_open,
        requests: breakers.rq_open,
        retries: breakers.rq_retry_open,
    }
}

/// What is counted under a name that requests have given.
struct Named {
    codes: CodeCounters,
    internal: OriginStats,
    external: OriginStats,
}

/// A cluster.
pub struct Cluster {
    common: Rc<Common>,
    codes: CodeCounters,
    /// Responses that no client got, because their requests were tried again.
    retried: CodeCounters,
    internal: OriginStats,
    external: OriginStats,
    /// Of hosts that say that they are one.
    canary: OriginStats,
    scope: Scope,
    /// By names that requests have given.
    named: RefCell<HashMap<String, Named>>,
    hosts: Vec<Rc<Host>>,
    /// Indices into `hosts`, in the balancer's order.
    healthy: Vec<usize>,
    balancer: RoundRobin,
}

impl Cluster {
    /// Builds it; `root` is the root of the statistics.
    pub(super) fn build(
        model: Arc<model::Cluster>,
        [counts, high_counts]: [Arc<Counts>; 2],
        start: &AtomicUsize,
        root: &Scope,
        local: &Local,
    ) -> Self {
        let scope = names::cluster(root, &model.stat_name);
        let stats = ClusterStats::new(&scope);
        let limits = Limits::new(counts, model.limits, model.limit_keys.clone(), open(&scope, "default"));
        let http2 = model.protocol.http2().map(|_| Http2Stats::new(&names::http2(&scope)));
        let high = Some(High { scope: scope.clone(), counts: high_counts, made: OnceCell::new() });
        let common =
            Rc::new(Common { model, stats, limits, local: local.clone(), draining: Cell::new(false), http2, high });
        let endpoints = &common.model.endpoints;
        let hosts: Vec<Rc<Host>> = endpoints.iter().map(|endpoint| Host::new(endpoint.clone(), &common)).collect();
        let healthy: Vec<usize> = (0..endpoints.len()).filter(|&at| endpoints[at].healthy).collect();
        let weights: Vec<u32> = healthy.iter().map(|&at| endpoints[at].weight).collect();
        common.stats.membership_total.set(hosts.len() as u64);
        common.stats.membership_healthy.set(healthy.len() as u64);
        common.stats.max_host_weight.set(u64::from(weights.iter().copied().max().unwrap_or(0)));
        Self {
            codes: CodeCounters::new(&scope),
            retried: CodeCounters::new(&names::retried(&scope)),
            internal: OriginStats::new(&scope, "internal"),
            external: OriginStats::new(&scope, "external"),
            canary: OriginStats::new(&scope, "canary"),
            named: RefCell::default(),
            hosts,
            healthy,
            balancer: RoundRobin::new(&weights, start.fetch_add(1, Ordering::Relaxed)),
            common,
            scope,
        }
    }

    /// The configuration it was built from.
    pub fn model(&self) -> &model::Cluster {
        &self.common.model
    }

    /// What it counts.
    pub fn stats(&self) -> &ClusterStats {
        &self.common.stats
    }

    /// Its hosts, in the order of the configuration.
    pub fn hosts(&self) -> &[Rc<Host>] {
        &self.hosts
    }

    /// Whether the worker drains: idle connections then end soon.
    pub(super) fn set_draining(&self, draining: bool) {
        self.common.set_draining(draining);
    }

    /// The host for the next request; `None` (counted) when no host is healthy.
    pub fn pick(&self) -> Option<&Rc<Host>> {
        let host = self.balancer.pick().and_then(|pick| self.hosts.get(*self.healthy.get(pick)?));
        if host.is_none() {
            self.common.stats.upstream_cx_none_healthy.inc();
        }
        host
    }

    /// A host for a retry: up to so many more picks while `avoid` does not like the last one, which is taken in the end all the same.
    pub fn pick_again(&self, more: u32, avoid: impl Fn(&Rc<Host>) -> bool) -> Option<&Rc<Host>> {
        let mut host = self.pick()?;
        // As many picks as there are hosts find every one that there is to find.
        let most = u32::try_from(self.healthy.len()).unwrap_or(u32::MAX);
        for _ in 0..more.min(most.saturating_mul(PICKS_PER_HOST)) {
            if !avoid(host) {
                break;
            }
            host = self.pick()?;
        }
        Some(host)
    }

    fn common(&self, high: bool) -> &Rc<Common> {
        if high { self.common.high() } else { &self.common }
    }

    /// That one more retry may be in progress; `None` (counted) when there are too many. `high` is the priority.
    pub fn admit_retry(&self, high: bool) -> Option<Retry> {
        let retry = self.common(high).limits.take_retry();
        let stats = &self.common.stats;
        if retry.is_some() { &stats.upstream_rq_retry } else { &stats.upstream_rq_retry_overflow }.inc();
        retry
    }

    /// Counts a response that is not passed on because its request is tried again.
    pub fn count_retried(&self, status: u16) {
        self.retried.record(status);
    }

    /// A connection of its own to a host, under the limits of the high priority or of the default one.
    ///
    /// # Errors
    /// See [`Refused`]; all of it is counted.
    pub async fn open_tcp(&self, host: &Host, timer: &Timer, high: bool) -> Result<tcp::Connection, Refused> {
        tcp::Connection::open(self.common(high), &host.endpoint().address, timer).await
    }

    /// A place for a connection to `address` that another epoch has opened; `None` when a limit is reached. The host need not be
    /// one of the cluster's any more.
    pub fn adopt_tcp(&self, address: Address, opened: Instant) -> Option<tcp::Place> {
        tcp::Place::take(&self.common, address, opened)
    }

    /// The host at `address`, for a request that another epoch has sent there. It need not be one of the cluster's any more: then
    /// it keeps no connection.
    pub fn host_at(&self, address: &Address) -> Rc<Host> {
        let is_there = |host: &&Rc<Host>| match (&host.endpoint().address, address) {
            // The mode is for who binds.
            (Address::Unix { path: own, .. }, Address::Unix { path, .. }) => own == path,
            (own, address) => own == address,
        };
        let host = self.hosts.iter().find(is_there);
        host.cloned().unwrap_or_else(|| Host::departed(address.clone(), &self.common))
    }

    /// Counts a response that a client got for this cluster, whether the upstream gave it or we did.
    pub fn count_response(&self, status: u16, internal: bool) {
        self.codes.record(status);
        self.origin(internal).record(status, None);
    }

    /// Counts how long the upstream took for a complete response, in milliseconds from the end of the request.
    pub fn count_time(&self, time: u64, internal: bool) {
        self.common.stats.upstream_rq_time.record(time);
        self.origin(internal).record_time(time);
    }

    /// Counts a response once more under a name that its request has given. Of more names than are kept none is.
    pub fn count_as(&self, name: &str, status: u16, internal: bool) {
        let mut named = self.named.borrow_mut();
        if !named.contains_key(name) {
            if named.len() >= MOST_NAMES {
                return;
            }
            let scope = names::alternative(&self.scope, name);
            let origin = |name| OriginStats::new(&scope, name);
            let counted =
                Named { codes: CodeCounters::new(&scope), internal: origin("internal"), external: origin("external") };
            named.insert(name.to_owned(), counted);
        }
        if let Some(counted) = named.get(name) {
            counted.codes.record(status);
            if internal { &counted.internal } else { &counted.external }.record(status, None);
        }
    }

    /// Counts a response of a host that says that it is a canary, once more.
    pub fn count_canary(&self, status: u16) {
        self.canary.record(status, None);
    }

    /// Counts how long a canary took, once more.
    pub fn count_canary_time(&self, time: u64) {
        self.canary.record_time(time);
    }

    fn origin(&self, internal: bool) -> &OriginStats {
        if internal { &self.internal } else { &self.external }
    }

    /// Closes idle connections that are too old or gone.
    pub(super) fn sweep(&self, now: Instant) {
        for host in &self.hosts {
            host.sweep(now);
        }
    }
}
