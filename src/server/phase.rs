//! Where an epoch's life stands: the list of states is the map.

use std::time::{Duration, Instant};

use crate::drain::Strategy;

/// The states of an epoch, in order; [`Phase::Stopped`] may go back to [`Phase::Accepting`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Loading, getting sockets, warming.
    Preparing,
    /// Everything is built, nothing is accepted: the supervisor decides.
    Ready,
    /// Serving.
    Accepting,
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

impl Phase {
    /// Envoy's `ServerInfo.State` number (`server.state`).
    pub(super) const fn state(self) -> u64 {
        match self {
            Self::Accepting => 0,
            Self::Stopped | Self::Draining(_) | Self::Closing => 1,
            Self::Preparing => 2,
            Self::Ready => 3,
        }
    }

    /// Envoy's name of that state, as `/ready` and `/server_info` print it.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Accepting => "LIVE",
            Self::Stopped | Self::Draining(_) | Self::Closing => "DRAINING",
            Self::Preparing => "PRE_INITIALIZING",
            Self::Ready => "INITIALIZING",
        }
    }
}
