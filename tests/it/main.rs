//! Scenarios of the data path, in one process: one file per theme.

#[path = "../support/mod.rs"]
mod support;

mod basics;
