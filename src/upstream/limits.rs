//! Circuit breakers: connections, pending requests, requests and retries of a cluster, counted over all workers.
//!
//! A [`Ticket`] is one unit of one limit; it goes back when it is dropped. The gauge `*_open` is moved by whoever crosses the limit,
//! up in one worker's lane and down maybe in another's, so that its sum is 0 or 1. Runtime values may move the limits while the
//! cluster works; the gauge then says what was so when a unit was last taken or given back.

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use crate::config::model::{CircuitBreakers, KeyedLimits};
use crate::stats::Gauge;

/// What all workers count together for one cluster.
#[derive(Debug, Default)]
pub struct Counts {
    connections: Count,
    pending: Count,
    requests: Count,
    retries: AtomicU32,
    /// What `rq_retry_open` says: the limit moves with the requests, so that nobody can know by his own step who crosses it.
    retries_open: AtomicBool,
}

#[derive(Debug, Default)]
struct Count {
    used: AtomicU32,
    /// A limit of zero is open from the start, and one worker says so. Of a limit that runtime values move: what its gauge says.
    told: AtomicBool,
}

/// One of the limits that stand still.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `max_connections`.
    Connections,
    /// `max_pending_requests`.
    Pending,
    /// `max_requests`.
    Requests,
}

/// One worker's view of a cluster's limits.
pub struct Limits {
    counts: Arc<Counts>,
    max: CircuitBreakers,
    /// Runtime values may move the limits: then nobody can know by his own step who crosses one.
    keys: Option<Arc<KeyedLimits>>,
    open: Open,
}

/// The gauges `circuit_breakers.default.{cx,rq_pending,rq,rq_retry}_open`.
pub struct Open {
    /// `cx_open`.
    pub connections: Gauge,
    /// `rq_pending_open`.
    pub pending: Gauge,
    /// `rq_open`.
    pub requests: Gauge,
    /// `rq_retry_open`.
    pub retries: Gauge,
}

impl Limits {
    /// The view of one worker.
    pub fn new(counts: Arc<Counts>, max: CircuitBreakers, keys: Option<Arc<KeyedLimits>>, open: Open) -> Rc<Self> {
        let this = Self { counts, max, keys, open };
        for kind in [Kind::Connections, Kind::Pending, Kind::Requests] {
            if this.keys.is_some() {
                this.tell(kind);
                continue;
            }
            let (count, max, open) = this.of(kind);
            if max == 0 && !count.told.swap(true, Ordering::Relaxed) {
                open.inc();
            }
        }
        this.tell_retries();
        Rc::new(this)
    }

    /// One unit, unless the limit is reached.
    pub fn take(self: &Rc<Self>, kind: Kind) -> Option<Ticket> {
        let (count, max, open) = self.of(kind);
        let before = count
            .used
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |used| if used < max { Some(used + 1) } else { None });
        if self.keys.is_some() {
            self.tell(kind);
        } else if before == Ok(max.wrapping_sub(1)) {
            open.inc();
        }
        before.ok()?;
        Some(Ticket { limits: self.clone(), kind })
    }

    /// One unit whether or not the limit is reached: every pool may have one connection, or a cluster with more hosts
    /// than connections would never reach some of them.
    pub fn take_over_limit(self: &Rc<Self>, kind: Kind) -> Ticket {
        let (count, max, open) = self.of(kind);
        let before = count.used.fetch_add(1, Ordering::Relaxed);
        if self.keys.is_some() {
            self.tell(kind);
        } else if before + 1 == max {
            open.inc();
        }
        Ticket { limits: self.clone(), kind }
    }

    /// A retry, unless there are as many as may be at once.
    pub fn take_retry(self: &Rc<Self>) -> Option<Retry> {
        let max = self.max_retries();
        let taken = self
            .counts
            .retries
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |used| if used < max { Some(used + 1) } else { None });
        self.tell_retries();
        taken.ok().map(|_| Retry { limits: self.clone() })
    }

    /// How many retries may be at once: of a budget, as many as the requests that are there now allow.
    fn max_retries(&self) -> u32 {
        let max = self.keys.as_ref().map_or(self.max, |keys| keys.now(&self.max));
        let Some(budget) = max.retry_budget else { return max.max_retries };
        let used = |count: &Count| u64::from(count.used.load(Ordering::Relaxed));
        let requests = used(&self.counts.requests) + used(&self.counts.pending);
        // Saturates, and rounds down as Envoy does.
        ((requests as f64 * budget.percent / 100.0) as u32).max(budget.min_concurrency)
    }

    fn tell_retries(&self) {
        let open = self.counts.retries.load(Ordering::Relaxed) >= self.max_retries();
        if self.counts.retries_open.swap(open, Ordering::Relaxed) != open {
            if open {
                self.open.retries.inc();
            } else {
                self.open.retries.dec();
            }
        }
    }

    /// Of a limit that moves: the gauge says what is so now.
    fn tell(&self, kind: Kind) {
        let (count, max, gauge) = self.of(kind);
        let open = count.used.load(Ordering::Relaxed) >= max;
        if count.told.swap(open, Ordering::Relaxed) != open {
            if open {
                gauge.inc();
            } else {
                gauge.dec();
            }
        }
    }

    fn of(&self, kind: Kind) -> (&Count, u32, &Gauge) {
        let max = |fixed: u32, of: fn(&KeyedLimits) -> u32| self.keys.as_ref().map_or(fixed, |keys| of(keys));
        match kind {
            Kind::Connections => {
                let max = max(self.max.max_connections, |keys| keys.max_connections.now());
                (&self.counts.connections, max, &self.open.connections)
            }
            Kind::Pending => {
                let max = max(self.max.max_pending_requests, |keys| keys.max_pending_requests.now());
                (&self.counts.pending, max, &self.open.pending)
            }
            Kind::Requests => {
                let max = max(self.max.max_requests, |keys| keys.max_requests.now());
                (&self.counts.requests, max, &self.open.requests)
            }
        }
    }
}

/// One unit of a limit, until dropped.
pub struct Ticket {
    limits: Rc<Limits>,
    kind: Kind,
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let (count, max, open) = self.limits.of(self.kind);
        let before = count.used.fetch_sub(1, Ordering::Relaxed);
        if self.limits.keys.is_some() {
            self.limits.tell(self.kind);
        } else if before == max {
            open.dec();
        }
    }
}

/// A retry in progress, until dropped.
pub struct Retry {
    limits: Rc<Limits>,
}

impl Drop for Retry {
    fn drop(&mut self) {
        self.limits.counts.retries.fetch_sub(1, Ordering::Relaxed);
        self.limits.tell_retries();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::model::RetryBudget;
    use crate::stats::Scope;

    fn limits(counts: &Arc<Counts>, scope: &Scope, max: u32) -> Rc<Limits> {
        let max =
            CircuitBreakers { max_connections: max, max_pending_requests: max, max_requests: max, ..of_retries(1) };
        with(counts, scope, max)
    }

    fn of_retries(max_retries: u32) -> CircuitBreakers {
        CircuitBreakers { max_retries, ..CircuitBreakers::default() }
    }

    fn with(counts: &Arc<Counts>, scope: &Scope, max: CircuitBreakers) -> Rc<Limits> {
        let open = Open {
            connections: scope.gauge("cx"),
            pending: scope.gauge("pending"),
            requests: scope.gauge("rq"),
            retries: scope.gauge("retry"),
        };
        Limits::new(counts.clone(), max, None, open)
    }

    #[test]
    fn retries_are_counted_over_the_workers_and_told_once() {
        let counts = Arc::new(Counts::default());
        let (one, two) = (Scope::detached(), Scope::detached());
        let (a, b) = (with(&counts, &one, of_retries(2)), with(&counts, &two, of_retries(2)));
        let open = || one.gauge("retry").lane_value().wrapping_add(two.gauge("retry").lane_value());
        let first = a.take_retry();
        assert!(first.is_some() && open() == 0);
        let second = b.take_retry();
        assert!(second.is_some() && open() == 1);
        assert!(a.take_retry().is_none() && b.take_retry().is_none());
        drop(first);
        assert_eq!(open(), 0);
        assert!(b.take_retry().is_some());
        drop(second);
        assert!(with(&Arc::default(), &one, of_retries(0)).take_retry().is_none());
    }

    #[test]
    fn a_budget_grows_with_the_requests_and_has_a_floor() {
        let budget = RetryBudget { percent: 50.0, min_concurrency: 1 };
        let limits = with(
            &Arc::default(),
            &Scope::detached(),
            CircuitBreakers { retry_budget: Some(budget), max_retries: 0, ..CircuitBreakers::default() },
        );
        let first = limits.take_retry();
        assert!(first.is_some(), "the floor");
        assert!(limits.take_retry().is_none());
        let requests: Vec<_> = (0..5).map(|_| limits.take(Kind::Requests)).collect();
        let _pending = limits.take(Kind::Pending);
        let more: Vec<_> = (0..3).map(|_| limits.take_retry()).collect();
        assert_eq!(more.iter().flatten().count(), 2, "half of six, one of them taken before");
        drop((requests, more));
        assert!(limits.take_retry().is_none());
        drop(first);
        assert!(limits.take_retry().is_some());
    }

    #[test]
    fn two_workers_share_a_limit_and_its_gauge() {
        let counts = Arc::new(Counts::default());
        let (one, two) = (Scope::detached(), Scope::detached());
        let (a, b) = (limits(&counts, &one, 2), limits(&counts, &two, 2));
        let sum = || one.gauge("rq").lane_value().wrapping_add(two.gauge("rq").lane_value());
        let first = a.take(Kind::Requests);
        assert!(first.is_some());
        assert_eq!(sum(), 0);
        let second = b.take(Kind::Requests);
        assert!(second.is_some());
        assert_eq!(sum(), 1);
        assert!(a.take(Kind::Requests).is_none());
        assert!(a.take(Kind::Pending).is_some(), "the limits are apart");
        let third = a.take_over_limit(Kind::Requests);
        assert_eq!(sum(), 1);
        drop(third);
        assert_eq!(sum(), 1);
        drop(first);
        assert_eq!(sum(), 0);
        assert!(b.take(Kind::Requests).is_some());
    }

    #[test]
    fn a_limit_of_zero_is_open_once() {
        let counts = Arc::new(Counts::default());
        let (one, two) = (Scope::detached(), Scope::detached());
        let a = limits(&counts, &one, 0);
        let _b = limits(&counts, &two, 0);
        assert!(a.take(Kind::Connections).is_none());
        assert_eq!(one.gauge("cx").lane_value() + two.gauge("cx").lane_value(), 1);
    }
}
