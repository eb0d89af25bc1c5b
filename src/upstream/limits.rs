//! Circuit breakers: connections, pending requests and requests of a cluster, counted over all workers.
//!
//! A [`Ticket`] is one unit of one limit; it goes back when it is dropped. The gauge `*_open` is moved by whoever crosses the limit,
//! up in one worker's lane and down maybe in another's, so that its sum is 0 or 1.

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use crate::config::model::CircuitBreakers;
use crate::stats::Gauge;

/// What all workers count together for one cluster.
#[derive(Debug, Default)]
pub struct Counts {
    connections: Count,
    pending: Count,
    requests: Count,
}

#[derive(Debug, Default)]
struct Count {
    used: AtomicU32,
    /// A limit of zero is open from the start, and one worker says so.
    closed_for_good: AtomicBool,
}

/// One of the three limits.
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
    open: Open,
}

/// The gauges `circuit_breakers.default.{cx,rq_pending,rq}_open`.
pub struct Open {
    /// `cx_open`.
    pub connections: Gauge,
    /// `rq_pending_open`.
    pub pending: Gauge,
    /// `rq_open`.
    pub requests: Gauge,
}

impl Limits {
    /// The view of one worker.
    pub fn new(counts: Arc<Counts>, max: CircuitBreakers, open: Open) -> Rc<Self> {
        let this = Self { counts, max, open };
        for kind in [Kind::Connections, Kind::Pending, Kind::Requests] {
            let (count, max, open) = this.of(kind);
            if max == 0 && !count.closed_for_good.swap(true, Ordering::Relaxed) {
                open.inc();
            }
        }
        Rc::new(this)
    }

    /// One unit, unless the limit is reached.
    pub fn take(self: &Rc<Self>, kind: Kind) -> Option<Ticket> {
        let (count, max, open) = self.of(kind);
        let before = count
            .used
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |used| if used < max { Some(used + 1) } else { None })
            .ok()?;
        if before + 1 == max {
            open.inc();
        }
        Some(Ticket { limits: self.clone(), kind })
    }

    /// One unit whether or not the limit is reached: every pool may have one connection, or a cluster with more hosts
    /// than connections would never reach some of them.
    pub fn take_over_limit(self: &Rc<Self>, kind: Kind) -> Ticket {
        let (count, max, open) = self.of(kind);
        if count.used.fetch_add(1, Ordering::Relaxed) + 1 == max {
            open.inc();
        }
        Ticket { limits: self.clone(), kind }
    }

    fn of(&self, kind: Kind) -> (&Count, u32, &Gauge) {
        match kind {
            Kind::Connections => (&self.counts.connections, self.max.max_connections, &self.open.connections),
            Kind::Pending => (&self.counts.pending, self.max.max_pending_requests, &self.open.pending),
            Kind::Requests => (&self.counts.requests, self.max.max_requests, &self.open.requests),
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
        if count.used.fetch_sub(1, Ordering::Relaxed) == max {
            open.dec();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::Scope;

    fn limits(counts: &Arc<Counts>, scope: &Scope, max: u32) -> Rc<Limits> {
        let open =
            Open { connections: scope.gauge("cx"), pending: scope.gauge("pending"), requests: scope.gauge("rq") };
        let max = CircuitBreakers { max_connections: max, max_pending_requests: max, max_requests: max };
        Limits::new(counts.clone(), max, open)
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
