//! The restart suite: real processes, real sockets, clients that never retry. One file per promise.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "in a test a panic is the report, and what was measured is printed"
)]
#![allow(dead_code)]

mod instruments;
mod stand_in;
mod support;
