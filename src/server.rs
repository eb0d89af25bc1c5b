//! The composition root: loads, builds, wires, and follows orders until the end.
//!
//! [`run`] is one epoch from start to exit. Under a supervisor it gets its sockets and its statistics from there and does what it is told, when it is told; alone it binds for
//! itself, serves at once and drains on SIGTERM. Everything the parts need of one another is handed to them here and nowhere else.

mod assemble;
mod epoch;
mod front;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzz;
mod group;
mod logs;
mod phase;
mod report;
mod runtime;
mod signals;
mod worker;

use std::path::PathBuf;
use std::time::Duration;

use crate::drain::Strategy;
use crate::http::filter::Extension;
use crate::{access_log, admin, config, l4};

pub use epoch::run;

/// What the command line decides.
pub struct Options {
    /// Where the bootstrap comes from.
    pub source: config::Source,
    /// How it is read.
    pub load: config::LoadOptions,
    /// Worker threads, at least one.
    pub concurrency: usize,
    /// `--drain-time-s`; the supervisor's value goes before it.
    pub drain_time: Duration,
    /// `--parent-shutdown-time-s`; the supervisor's value goes before it.
    pub parent_shutdown_time: Duration,
    /// `--drain-strategy`; the supervisor's value goes before it.
    pub drain_strategy: Strategy,
    /// Where to write the admin address.
    pub admin_address_path: Option<PathBuf>,
    /// What `--version` prints.
    pub version: String,
    /// The command line as it was given, for `/server_info`.
    pub command_line: admin::Options,
    /// When access logs are written out.
    pub access_logs: access_log::Settings,
    /// HTTP filters of the program, beside [`crate::http::filters::ALL`].
    pub http_filters: &'static [Extension],
    /// Network filters of the program, beside the connection manager and the TCP proxy.
    pub network_filters: &'static [l4::extension::Extension],
    /// Opens the application's log file again.
    pub reopen_logs: Box<dyn Fn()>,
}

/// Why an epoch ended badly.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The configuration has faults; each has its own line.
    #[error("{0}")]
    Configuration(String),
    /// A socket, a thread, memory: something the system would not give.
    #[error("{0}")]
    System(String),
    /// The supervisor would not have it, or went silent before this epoch served.
    #[error("{0}")]
    Supervisor(#[from] crate::handoff::link::Error),
    /// A worker hangs or has ended.
    #[error("{0}")]
    Worker(String),
}
