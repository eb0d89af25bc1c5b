//! Listeners of one worker: from a lent socket to a connection in its filter chain.
//!
//! [`Set`] is built per worker by `server` from the shared configuration and duplicates of the listening sockets; every worker
//! polls every socket. Nothing here binds, and nothing shuts a listening socket down: stopping takes the worker off the socket
//! and leaves its queue to whoever else holds it, so a takeover that is called off only accepts again.
//!
//! ```text
//!                                   (first bytes)     (TLS handshake)
//!   OwnedFd ──accept()──▶ accept loop ──▶ chain match ──▶ l4 chain, one task per connection, held by the worker's drain
//!      ▲                      │
//!      └──stop_accepting()────┘
//! ```

use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use crate::access_log;
use crate::drain::Drain;
use crate::http::filter::Extension;
use crate::l4;
use crate::local::Local;
use crate::stats::Scope;
use crate::tls::Contexts;
use crate::upstream::Clusters;

mod accept;
pub mod chain;
mod connection;
mod room;
pub mod secure;
mod set;

pub use room::Crowd;
pub use set::{Set, SetError, Sockets, Thawed};

/// What a worker gives its listeners.
pub struct WorkerContext {
    /// The worker's number, from 0.
    pub worker: usize,
    /// The root of the statistics, over the worker's lane.
    pub scope: Scope,
    /// The worker's timers and blocks.
    pub local: Local,
    /// The worker's clusters.
    pub clusters: Rc<Clusters>,
    /// The worker's drain: every connection holds it.
    pub drain: Drain,
    /// HTTP filters that can be built.
    pub http_filters: &'static [Extension],
    /// Network filters that can be built beside our own.
    pub network_filters: &'static [l4::extension::Extension],
    /// The process' TLS contexts.
    pub tls: Contexts,
    /// An address of this machine that is not loopback: what `x-forwarded-for` shows for a client on loopback.
    pub own_address: Option<IpAddr>,
    /// How many connections there are, over all workers.
    pub crowd: Crowd,
    /// The files of access logs.
    pub files: access_log::Files,
    /// The number of the next connection, over all workers.
    pub next_connection: Arc<AtomicU64>,
}
