//! The admin endpoint: what an operator and a scraper may ask, in Envoy's words.
//!
//! It lives on the main thread, serves HTTP/1 through hyper (here HTTP is a tool), and knows nothing of listeners or
//! clusters: what it shows comes through a [`View`] that `server` implements, what it changes goes out as an
//! [`Action`].
//!
//! Its socket is lent like every other. During a takeover each connection is answered by whichever epoch accepted it;
//! both read the same segment, so no scrape fails and no counter goes back. It never drains by itself: whoever calls
//! [`serve`] ends it, and the answers under way are finished first.
//!
//! It is bounded: connections, their age, the size and the time of a request's head.

mod clusters;
mod connections;
mod endpoints;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzz;
mod info;
mod memory;
mod query;
mod reply;
mod runtime;
mod stats;
mod traffic;

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

pub use self::clusters::{ClusterStatus, HostStatus};
pub use self::connections::{Listener, serve};
pub use self::info::{Info, Options};
pub use self::memory::Memory;
use self::traffic::Traffic;
use crate::config::model::Address;
use crate::runtime::Snapshot;
use crate::stats::tags::Tags;
use crate::stats::{Reporter, Scope};

/// What the endpoint serves from. One per process, on the main thread.
pub struct Admin {
    view: Box<dyn View>,
    reporter: Rc<RefCell<Reporter>>,
    tags: Tags,
    traffic: Traffic,
}

impl Admin {
    /// Over the view of the server and the statistics of all epochs; counts its own traffic in the main thread's root
    /// scope.
    pub fn new(root: &Scope, view: Box<dyn View>, reporter: Rc<RefCell<Reporter>>, tags: Tags) -> Rc<Self> {
        Rc::new(Self { view, reporter, tags, traffic: Traffic::new(root) })
    }
}

/// What the endpoint may see of the server. Called on the main thread, while a request is answered.
pub trait View {
    /// For `/ready`.
    fn state(&self) -> State;
    /// For `/server_info` and `/hot_restart_version`.
    fn info(&self) -> Info;
    /// For `/listeners`.
    fn listeners(&self) -> Vec<ListenerStatus>;
    /// For `/clusters`.
    fn clusters(&self) -> Vec<ClusterStatus>;
    /// For `/config_dump`, an `envoy.admin.v3.ConfigDump` as JSON; while there is none, there is no such endpoint.
    fn config_dump(&self) -> Option<serde_json::Value> {
        None
    }
    /// For `/runtime`.
    fn runtime(&self) -> Arc<Snapshot> {
        Arc::default()
    }
    /// For `/runtime_modify`: overrides, each a name and a value; an empty value takes one back.
    ///
    /// # Errors
    /// Why there can be none, in words.
    fn modify_runtime(&self, _changes: &[(String, String)]) -> Result<(), String> {
        Err("No admin layer specified".to_owned())
    }
    /// Does what was asked, or begins to.
    fn act(&self, action: Action);
}

/// Envoy's `ServerInfo.State`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Serves.
    Live,
    /// Told to fail health checks, or leaving.
    Draining,
    /// Clusters are not ready.
    PreInitializing,
    /// Clusters are ready, something else is not.
    Initializing,
}

impl State {
    /// As Envoy prints it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Live => "LIVE",
            Self::Draining => "DRAINING",
            Self::PreInitializing => "PRE_INITIALIZING",
            Self::Initializing => "INITIALIZING",
        }
    }

    /// The value of the gauge `server.state`.
    pub const fn number(self) -> u64 {
        match self {
            Self::Live => 0,
            Self::Draining => 1,
            Self::PreInitializing => 2,
            Self::Initializing => 3,
        }
    }
}

/// What an operator may ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// `/quitquitquit`: end in order.
    Quit,
    /// `/healthcheck/fail`.
    FailHealthChecks,
    /// `/healthcheck/ok`.
    PassHealthChecks,
    /// `/drain_listeners`.
    DrainListeners {
        /// Only those of direction INBOUND.
        inbound_only: bool,
        /// Drain first, then stop; else stop at once.
        graceful: bool,
        /// Drain, but never stop.
        skip_exit: bool,
    },
    /// `/reopen_logs`.
    ReopenLogs,
}

/// A listener as `/listeners` shows it.
#[derive(Clone, Debug, PartialEq)]
pub struct ListenerStatus {
    /// Its name.
    pub name: String,
    /// Where it listens, as bound: the main address first.
    pub addresses: Vec<Address>,
}

#[cfg(test)]
mod tests;
