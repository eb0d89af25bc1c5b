//! The side-by-side measurement: heirloom and its peers under the same work, in one run, on one machine.
//!
//! `cargo bench --bench peers` runs the controller below. Every part that must have a CPU account of its own (the origin, the load,
//! the floor) is this same program started again with a hidden subcommand, so that nothing but Rust is needed beside the peers.
//! How to run it and how to read the numbers stands in `benches/README.md`.
//!
//! | module | owns |
//! |---|---|
//! | `args` | the command line, the hidden subcommands included |
//! | `sys` | sockets, epoll, limits, waiting |
//! | `process` | starting, accounting (CPU clock, PSS) and stopping processes |
//! | `origin` | the server behind every peer |
//! | `floor` | a relay that parses nothing: what any user-space proxy must pay |
//! | `load` | the clients |
//! | `peer` | which proxies there are, their configurations, how each is started |
//! | `work` | what is measured |
//! | `run` | the rounds |
//! | `report` | medians, ratios, the tables |
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command line program: its output is its purpose")]

mod args;
mod floor;
mod load;
mod origin;
mod peer;
mod process;
mod report;
mod run;
mod sys;
mod work;

use std::process::ExitCode;

use clap::Parser;

use crate::args::{Args, Part};

/// Everything here ends at the controller or at a part's standard error, as text.
pub(crate) type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

fn main() -> ExitCode {
    let args = Args::parse();
    let done = match &args.part {
        Some(Part::Origin { http2: false, port }) => origin::serve(*port),
        Some(Part::Origin { http2: true, port }) => origin::http2::serve(*port),
        Some(Part::Floor { port, origin }) => floor::serve(*port, *origin),
        Some(Part::Load(load)) => load::drive(load),
        Some(Part::Child { core, command }) => process::become_child(*core, command),
        // `cargo test --benches` starts every bench without this flag: that is no time to measure.
        None if !args.bench => {
            println!("the side-by-side measurement runs with: cargo bench --bench peers");
            Ok(())
        }
        None => run::controller(&args),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("peers: {error}");
            ExitCode::FAILURE
        }
    }
}
