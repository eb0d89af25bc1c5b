//! How many connections there may be, of a listener and of all of them, where a runtime value says so:
//! `envoy.resource_limits.listener.<name>.connection_limit` and `overload.global_downstream_max_connections`.
//!
//! All workers count together. Where there are no runtime layers nothing is counted here. A connection that comes from another epoch is one more, whatever
//! the limit: it is served already.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::config::model::{ConnectionLimits, Keyed, Listener};

/// What all workers count together.
#[derive(Clone, Default)]
pub struct Crowd {
    all: Arc<AtomicU64>,
    each: Arc<HashMap<String, Arc<AtomicU64>>>,
}

impl Crowd {
    /// Of the listeners of a configuration.
    pub fn new(listeners: &[Arc<Listener>]) -> Self {
        let each = listeners.iter().map(|listener| (listener.name.clone(), Arc::default())).collect();
        Self { all: Arc::default(), each: Arc::new(each) }
    }

    /// The room of a listener; `None` where it has no limits.
    pub(super) fn room(&self, listener: &Listener) -> Option<Room> {
        let ConnectionLimits { own, all } = listener.limits.as_deref()?.clone();
        let count = self.each.get(&listener.name)?.clone();
        let all = all.map(|limit| Limit { count: self.all.clone(), limit });
        Some(Room { own: Limit { count, limit: own }, all })
    }
}

/// The room that a listener has for connections.
pub(super) struct Room {
    own: Limit,
    all: Option<Limit>,
}

struct Limit {
    count: Arc<AtomicU64>,
    limit: Keyed<u64>,
}

/// Which limit is reached.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Full {
    /// The listener's own.
    Own,
    /// That of all.
    All,
}

impl Room {
    /// Whether there is room for one more.
    ///
    /// # Errors
    /// There is none.
    pub(super) fn look(&self) -> Result<(), Full> {
        let is_full = |limit: &Limit| limit.count.load(Ordering::Relaxed) >= limit.limit.now();
        match () {
            () if self.all.as_ref().is_some_and(is_full) => Err(Full::All),
            () if is_full(&self.own) => Err(Full::Own),
            () => Ok(()),
        }
    }

    /// One more is there.
    pub(super) fn enter(&self) {
        for limit in std::iter::once(&self.own).chain(&self.all) {
            limit.count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// One less.
    pub(super) fn leave(&self) {
        for limit in std::iter::once(&self.own).chain(&self.all) {
            limit.count.fetch_sub(1, Ordering::Relaxed);
        }
    }
}
