//! The supervisor as a process, with epochs that proxy nothing (`examples/fake_epoch.rs`).
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stderr, reason = "in a test a panic is the report")]

mod orphans;
mod replace;
mod socket;
mod stop;
mod support;
mod takeover;
mod trouble;
