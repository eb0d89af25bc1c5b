//! Parts that scenarios are told with: an origin that does what it is told, a client that never retries, a proxy in this process.
//!
//! Everything binds port 0, every wait has a deadline, and a part that fails in a thread of its own fails the test when it is dropped.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "here a panic is the report")]
#![allow(dead_code, unreachable_pub, reason = "each test binary uses the parts it needs, and has no outside")]

pub mod client;
pub mod configured;

pub mod filtered;
pub mod frames;
pub mod grpc;
pub mod http2;
pub mod models;
pub mod origin;
pub mod proxy;
pub mod tls;
pub mod tunnels;
pub mod wire;

use std::time::{Duration, Instant};

/// How long anything may take before the test is lost.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// Waits for a condition.
#[track_caller]
pub fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "never came true: {what}");
        std::thread::park_timeout(Duration::from_millis(2));
    }
}
