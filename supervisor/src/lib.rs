//! The supervisor: launches proxy epochs, owns their listening sockets, keeps their statistics.
//!
//! The library exposes what crosses the process border ([`wire`], [`shm`]); everything else serves the `heirloom-supervisor` command.

#[allow(dead_code)]
mod broker;
#[allow(dead_code)]
mod lifecycle;
#[allow(dead_code)]
mod moment;
pub mod shm;
pub mod wire;
