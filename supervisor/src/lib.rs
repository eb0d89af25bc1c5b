//! The supervisor: launches proxy epochs, owns their listening sockets, keeps their statistics.
//!
//! The library exposes what crosses the process border ([`wire`], [`shm`]) and [`run()`], which is the `heirloom-supervisor` command.

mod broker;
mod cli;
mod control;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzz;
mod lifecycle;
mod moment;
mod process;
mod run;
mod settings;
pub mod shm;
mod systemd;
mod table;
mod tickets;
pub mod wire;

pub use cli::run;
