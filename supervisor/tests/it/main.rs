//! The supervisor as a process, with epochs that proxy nothing (`examples/fake_epoch.rs`).

mod orphans;
mod socket;
mod stop;
mod support;
mod takeover;
mod trouble;
