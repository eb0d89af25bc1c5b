//! Scenarios of the data path, in one process: one file per theme.

#[path = "../support/mod.rs"]
mod support;

mod basics;
mod bodies;
mod counters;
mod drain;
mod filters;
mod limits;
mod malformed;
mod timeouts;
mod upstream_faults;
