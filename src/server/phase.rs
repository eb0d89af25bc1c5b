//! Where an epoch's life stands: the list of states is the map.

use std::time::{Duration, Instant};

use crate::drain::Strategy;

/// The states of an epoch, in order; [`Phase::Stopped`] may go back to [`Phase::Accepting`], and so may [`Phase::Draining`] within the grace that the
/// supervisor named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Everything is built, nothing is accepted: the supervisor decides.
    Ready,
    /// Serving.
    Accepting,
    /// Serving, but told by an operator to fail health checks: every response closes its connection.
    Failing,
    /// The next epoch is on probation: what is there goes on, nothing new is accepted.
    Stopped,
    /// Ending well until the deadline.
    Draining(Ending),
    /// Past the deadline, or told to go at once: what is left is being closed.
    Closing,
}

/// How a drain ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ending {
    /// What is left then is closed and counted.
    pub(super) deadline: Instant,
    /// Over which the gradual strategy grows.
    pub(super) drain_time: Duration,
    /// Gradual or immediate.
    pub(super) strategy: Strategy,
}
