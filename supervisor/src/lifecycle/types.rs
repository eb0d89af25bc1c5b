//! What goes into the machine and what comes out of it.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::State;
use crate::moment::Moment;
use crate::wire::message::{DrainStrategy, Outcome};

/// Somebody at the control socket who waits for an answer.
pub(crate) type Ticket = u64;

/// How long each step may take, and how much may live at once.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Limits {
    /// From the start of a process to its `Ready`.
    pub(crate) prepare: Duration,
    /// From `Accept` to `Accepting`.
    pub(crate) ready: Duration,
    /// From `StopAccepting` to `Stopped`, and from `Resume` to `Resumed`.
    pub(crate) commit: Duration,
    /// How long the old epoch stands by.
    pub(crate) probation: Duration,
    /// For how long after its release a newcomer can be taken back.
    #[serde(default)]
    pub(crate) grace: Duration,
    /// From SIGTERM to SIGKILL.
    pub(crate) terminate: Duration,
    /// How long epochs may take to leave when the supervisor is told to stop.
    pub(crate) stop: Duration,
    /// `--drain-time-s`.
    pub(crate) drain_time: Duration,
    /// `--parent-shutdown-time-s`: age limit of a drain.
    pub(crate) parent_shutdown: Duration,
    /// `--drain-strategy`.
    pub(crate) drain_strategy: DrainStrategy,
    /// Most epochs that drain at once.
    pub(crate) max_draining: usize,
    /// Silence after which the serving epoch is replaced; zero never.
    pub(crate) unresponsive: Duration,
    /// Delay before the second replacement in a row; doubles from there.
    pub(crate) backoff_initial: Duration,
    /// The longest delay; also the time an epoch must live to count as stable.
    pub(crate) backoff_max: Duration,
}

/// What happened.
#[derive(Debug)]
pub(crate) enum Event {
    /// The supervisor is up. With a time, living epochs of an earlier supervisor may report until then.
    Start { adopt_until: Option<Moment> },
    /// An epoch of an earlier supervisor has reported.
    Adopted(Adoption),
    /// A takeover is wanted: by signal without a ticket, by the operator's command with one.
    Request { want: Want, ticket: Option<Ticket> },
    /// The end is wanted.
    Stop { how: StopHow, ticket: Option<Ticket> },
    /// The process runs.
    Spawned { epoch: u64, pid: u32 },
    /// The process could not be started.
    SpawnFailed { epoch: u64, reason: String },
    /// The epoch said something.
    Said { epoch: u64, what: Said },
    /// The epoch broke the protocol.
    Offence { epoch: u64, reason: String },
    /// The epoch's end of the channel is closed; its process may live.
    ChannelClosed { epoch: u64 },
    /// The process is gone; `how` reads like "it exited with status 1".
    Exited { epoch: u64, how: String },
    /// Nobody of an earlier supervisor is waited for any longer.
    Gathered,
    /// Time has passed.
    Tick,
}

/// An epoch of an earlier supervisor, as it introduces itself.
#[derive(Debug)]
pub(crate) struct Adoption {
    pub(crate) epoch: u64,
    pub(crate) pid: u32,
    pub(crate) version: String,
    pub(crate) generation: u64,
    pub(crate) state: State,
    /// When its drain ends.
    pub(crate) deadline: Option<Moment>,
    /// When its process was started.
    pub(crate) started: Moment,
    pub(crate) recalls: bool,
}

/// What is counted of the lineage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Note {
    /// A takeover has begun.
    Begun,
    /// A takeover took this long from its request to its release.
    Released(Duration),
    /// A takeover was called off before anything was given up.
    Failed(Why),
    /// The old epoch resumed, or was asked to: on probation, or in the grace.
    RolledBack(Why),
    /// A phase of a takeover is over.
    Phase(&'static str, Duration),
    /// An epoch has left this long after it began to drain.
    Drained(Duration),
    /// The epoch that served is gone.
    Crashed,
    /// A recipe died again and again in its grace, and the one before it is started.
    FellBack,
}

/// Why a takeover did not last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Why {
    /// The newcomer said that it cannot be made ready.
    NotReady,
    /// Its process ended, or could not be started.
    #[default]
    Died,
    /// A step took too long.
    Late,
    /// It broke the protocol.
    Protocol,
    /// It did not answer.
    Silent,
    /// It said that it is unwell.
    Unhealthy,
    /// The supervisor was told to stop.
    Stopping,
}

impl Why {
    /// All of them.
    pub(crate) const ALL: [Self; 7] =
        [Self::NotReady, Self::Died, Self::Late, Self::Protocol, Self::Silent, Self::Unhealthy, Self::Stopping];

    /// As statistics call it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::NotReady => "not_ready",
            Self::Died => "died",
            Self::Late => "late",
            Self::Protocol => "protocol",
            Self::Silent => "silent",
            Self::Unhealthy => "unhealthy",
            Self::Stopping => "stopping",
        }
    }
}

/// What kind of takeover.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Want {
    /// Binary and configuration read anew.
    Reload,
    /// Back to the previous binary and configuration.
    Rollback,
}

impl Want {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Reload => "reload",
            Self::Rollback => "rollback",
        }
    }
}

/// How to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StopHow {
    /// Within the stop time; a second time at once.
    Signal,
    /// Within the stop time.
    Stop,
    /// Within the parent shutdown time.
    Drain,
}

/// What an epoch can say.
#[derive(Debug)]
pub(crate) enum Said {
    Hello { version: String, recalls: bool },
    Ready { version: String },
    Failed { report: String },
    Accepting,
    Stopped,
    Resumed,
    Drained,
    Health { connections: u64, healthy: bool, reason: String },
    Pong,
}

/// What to do.
#[derive(Debug, PartialEq)]
pub(crate) enum Action {
    /// Start a process.
    Spawn { epoch: u64, launch: Launch },
    /// Say something to an epoch.
    Send { epoch: u64, order: Order },
    /// SIGTERM.
    Term { epoch: u64 },
    /// SIGKILL.
    Kill { epoch: u64 },
    /// New connections go to this epoch now: its word counts where only one can.
    Serving { epoch: u64 },
    /// The process is gone: fold its statistics, return what it borrowed.
    Forget { epoch: u64 },
    /// The takeover is released: `epoch` serves by what it was launched with, which is now the current one.
    Settled { epoch: u64, launch: Launch },
    /// The takeover to `epoch` did not happen.
    CalledOff { epoch: u64 },
    /// Nothing is taken back any more: what `epoch` has not asked for is closed.
    Confirmed { epoch: u64 },
    /// `epoch` was taken back after its release: `to` serves again, by what it was launched with.
    Reverted { epoch: u64, to: u64 },
    /// For the statistics.
    Note(Note),
    /// Tell the operators who wait.
    Answer { tickets: Vec<Ticket>, outcome: Outcome },
    /// Tell systemd.
    Notify(Notice),
    /// Tell the log.
    Log(String),
    /// Everything has ended.
    Exit { code: u8 },
}

/// What to start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Launch {
    /// The command, its binary and its configuration read anew.
    Fresh,
    /// What serves, or served until it crashed: a crash must not bring an unfinished edit into service.
    Current,
    /// What served before that.
    Previous,
}

/// What to say to an epoch.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Order {
    Accept,
    StopAccepting,
    Resume,
    Drain { deadline: Duration, recall: Duration },
    Terminate { grace: Duration },
    Ping,
}

/// What to say to systemd.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Notice {
    /// A takeover has begun.
    Reloading,
    /// An epoch serves; the line says which.
    Ready(String),
    /// Only the line changes.
    Status(String),
    /// The end has begun.
    Stopping,
}
