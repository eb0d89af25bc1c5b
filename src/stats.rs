//! Statistics: names, scopes and the handles through which a thread counts.
//!
//! A [`Store`] is the process's view of the segment that all epochs share (`heirloom_supervisor::shm`); each thread
//! takes a [`Lane`] from it and builds its [`Scope`]s over that lane. A scope belongs to one thread: its handles write
//! that thread's lane and nothing else, so counting costs a load and a store.
//!
//! Scopes are made when objects are made (a listener, a cluster), not when requests pass. On reload an object that is
//! made again finds its statistics where they were; on a drain they go on counting; when the process has ended, the
//! supervisor adds what it counted to the past. The main thread's [`Reporter`] reads for the admin endpoint and flushes
//! to the sinks.

#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzz;
pub mod histogram;
pub mod names;
pub mod prometheus;
pub mod report;
pub mod sinks;
pub mod tags;

use std::fmt;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use heirloom_supervisor::shm::Slot;
pub use heirloom_supervisor::shm::{
    Bin, Counter, Gauge, Geometry, Histogram, Kind, Lane, NoLane, Segment, Stat, Value,
};
pub use report::Reporter;

/// The segment as one epoch uses it. Clones are the same store; any thread may have one.
#[derive(Clone, Debug)]
pub struct Store {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    segment: Segment,
    epoch: u64,
    warned: AtomicBool,
}

impl Store {
    /// The store of epoch `epoch` over the segment that the supervisor lent, or over one of its own.
    pub fn new(segment: Segment, epoch: u64) -> Self {
        Self { shared: Arc::new(Shared { segment, epoch, warned: AtomicBool::new(false) }) }
    }

    /// A store over a small piece of plain memory, for tests.
    pub fn detached() -> Self {
        Self::new(Segment::heap(), 0)
    }

    /// A lane for a thread of this epoch.
    ///
    /// # Errors
    /// [`NoLane`] when all are taken. What such a thread counts is seen by nobody: [`Store::lane_or_private`].
    pub fn lane(&self) -> Result<Lane, NoLane> {
        self.segment().claim_lane(self.epoch())
    }

    /// A lane for a thread of this epoch, or where none is left, one that is counted into but not shown; which is
    /// logged and shown as `server.stats_overflow`.
    pub fn lane_or_private(&self) -> Lane {
        self.lane().unwrap_or_else(|error| {
            tracing::warn!(epoch = self.epoch(), %error, "a thread's statistics will not be seen");
            self.segment().private_lane()
        })
    }

    /// The segment.
    pub fn segment(&self) -> &Segment {
        &self.shared.segment
    }

    /// Which epoch this is.
    pub fn epoch(&self) -> u64 {
        self.shared.epoch
    }

    /// Whether this epoch is the newest that took over: the one that sends to the sinks. While nobody said which is,
    /// every epoch is.
    pub fn is_newest(&self) -> bool {
        self.segment().newest().is_none_or(|newest| newest == self.epoch())
    }

    fn refused(&self, name: &str, error: impl fmt::Display) {
        if !self.shared.warned.swap(true, Ordering::Relaxed) {
            tracing::warn!(name, %error, "a statistic will not be seen; further ones are only counted");
        }
    }
}

/// A thread's view of a part of the statistics' name space. Clones and sub-scopes share the thread's lane.
#[derive(Clone)]
pub struct Scope {
    store: Store,
    lane: Rc<Lane>,
    prefix: Rc<str>,
}

impl fmt::Debug for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scope").field("prefix", &self.prefix).field("lane", &self.lane.number()).finish_non_exhaustive()
    }
}

impl Scope {
    /// The scope of all statistics, for the thread that has `lane`.
    pub fn root(store: &Store, lane: Lane) -> Self {
        Self { store: store.clone(), lane: Rc::new(lane), prefix: "".into() }
    }

    /// A scope over plain memory of its own, for tests.
    pub fn detached() -> Self {
        let store = Store::detached();
        let lane = store.lane_or_private();
        Self::root(&store, lane)
    }

    /// The scope `<this>.<name>.`; `:` becomes `_`, and so does what would break a line.
    pub fn scope(&self, name: &str) -> Self {
        let name = name.replace(|c: char| c == ':' || c.is_control(), "_");
        Self { prefix: format!("{}{name}.", self.prefix).into(), ..self.clone() }
    }

    /// The scope of all statistics.
    pub fn top(&self) -> Self {
        Self { prefix: "".into(), ..self.clone() }
    }

    /// The store behind it.
    pub fn store(&self) -> &Store {
        &self.store
    }

    fn handle<T>(&self, kind: Kind, name: &str, make: fn(&Rc<Lane>, Slot) -> T, private: fn() -> T) -> T {
        let name = format!("{}{name}", self.prefix);
        match self.store.segment().register(kind, &name) {
            Ok(slot) => make(&self.lane, slot),
            Err(error) => {
                self.store.refused(&name, error);
                private()
            }
        }
    }

    /// The counter `<this><name>`, made on first use.
    pub fn counter(&self, name: &str) -> Counter {
        self.handle(Kind::Counter, name, Counter::new, Counter::private)
    }

    /// A gauge whose value is the sum over all living epochs (`*_active`).
    pub fn gauge(&self, name: &str) -> Gauge {
        self.handle(Kind::Gauge, name, Gauge::new, Gauge::private)
    }

    /// A gauge of which only the newest epoch's value counts (`state`, `version`); the largest where several threads
    /// set it.
    pub fn gauge_latest(&self, name: &str) -> Gauge {
        self.handle(Kind::GaugeLatest, name, Gauge::new, Gauge::private)
    }

    /// A histogram of whole numbers (milliseconds, bytes, counts).
    pub fn histogram(&self, name: &str) -> Histogram {
        self.handle(Kind::Histogram, name, Histogram::new, Histogram::private)
    }
}

#[cfg(test)]
mod tests;
