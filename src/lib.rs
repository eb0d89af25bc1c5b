//! Heirloom: an Envoy-class L4/L7 proxy whose connections outlive its binaries.
//!
//! The README holds the layer table and the two walks (one request, one restart); `tests/layers.rs` keeps the table true.

pub mod access_log;
pub mod admin;
pub mod cli;
pub mod codec;
pub mod config;
pub mod drain;
pub mod fault;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzz;
pub mod handoff;
pub mod http;
pub mod http2;
pub mod l4;
pub mod listener;
pub mod local;
pub mod logging;
pub mod matching;
pub mod net;
pub mod program;
pub mod route;
pub mod runtime;
pub mod server;
pub mod stats;
pub mod tls;
pub mod upstream;
