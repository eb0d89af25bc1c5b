//! The restart suite: real processes, real sockets, clients that never retry. One file per promise.
//!
//! | file | promise |
//! |---|---|
//! | `queue` | no death of an epoch closes a listening socket, and none of what is queued in it is lost |
//! | `takeovers` | takeovers back to back under load lose nothing |
//! | `counts` | counters, histograms, statsd deltas and gauges are exact over takeovers and deaths |
//! | `misbehaviour` | a new epoch that dies, hangs or lies at any step is called off, and nobody notices |
//! | `motion` | connections outlive the binary: the same client, the same socket, nothing lost and nothing said |
//! | `flight` | requests outlive the binary: streams and uploads in their middle, byte for byte |
//! | `http2_tunnels` | a tunnel with a stream in it lives where it began up to the drain's limit, and everybody else finds the next epoch |
//! | `hung` | a side that hangs never holds up the other |
//! | `mortal` | the supervisor may die, or replace itself, at any time: the next one takes in what serves |
//! | `recall` | a newcomer that goes wrong after its release is taken back; ages, recipes and counts outlive the supervisor |
//! | `rapid` | restarts faster than they can be done, configurations that never come up |
//! | `secure` | strangers, noise, neighbours, hundreds of listeners, leaks |
//! | `tls` | requests over TLS during takeovers; sessions that outlive epochs and supervisors |
//! | `access_log` | one line for each request and tunnel, with the totals of all epochs |
//! | `acceptance` | the load by which this stage is accepted |
//! | `measures` | what a takeover costs, printed |
//! | `runtime` | runtime layers are shown, overridden and read again; a takeover begins with the configuration's own |
//! | `operator` | what the operator types and reads |
//! | `matrix` | whatever happens to whomever at whatever step of a takeover: only what a killed process held is lost |
//! | `survivors` | an epoch that is killed around the move takes with it exactly the connections that were its own at that moment |
//! | `full` | statistics and log lines that find no room are missing, and nothing else |
//! | `clock` | no deadline knows the time of day |
//! | `instruments` | the suite's own clients and counters |
//!
//! Each promise is also tried with the property switched off, so that a pass means something. `HEIRLOOM_LONG=1` runs the long form.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "in a test a panic is the report, and what was measured is printed"
)]

mod acceptance;
mod access_log;
mod clock;
mod counts;
mod flight;
mod full;
mod http2;
mod http2_secure;
mod http2_tunnels;
mod hung;
mod instruments;
mod matrix;
mod measures;
mod misbehaviour;
mod mortal;
mod motion;
mod operator;
mod queue;
mod rapid;
mod recall;
mod runtime;
mod secure;
mod stand_in;
mod support;
mod survivors;
mod takeovers;
mod tap;
mod tls;

use std::sync::{Mutex, MutexGuard, PoisonError};

/// `long` when `HEIRLOOM_LONG` is set, else the shorter form for every change.
fn long_or(long: u64, short: u64) -> u64 {
    if std::env::var_os("HEIRLOOM_LONG").is_some_and(|value| value != "0") { long } else { short }
}

/// Holds back other tests that ask for the same: two that measure must not measure each other.
fn alone_on_the_machine() -> MutexGuard<'static, ()> {
    static MACHINE: Mutex<()> = Mutex::new(());
    MACHINE.lock().unwrap_or_else(PoisonError::into_inner)
}
