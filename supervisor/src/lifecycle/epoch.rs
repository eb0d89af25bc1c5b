//! One epoch as the machine sees it.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::Adoption;
use crate::moment::Moment;

/// Where an epoch stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum State {
    /// The process was started and has said nothing.
    Starting,
    /// It loads, validates and warms.
    Preparing,
    /// It is ready and is told to accept.
    Ready,
    /// It serves, and the one before stands by.
    Probation,
    /// It serves.
    Active,
    /// It has stopped accepting and may have to resume.
    Standby,
    /// It lets what it has end.
    Draining,
    /// It has been told to leave, and will be made to.
    Terminating,
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Starting => "starting",
            Self::Preparing => "preparing",
            Self::Ready => "ready",
            Self::Probation => "probation",
            Self::Active => "active",
            Self::Standby => "standby",
            Self::Draining => "draining",
            Self::Terminating => "terminating",
        })
    }
}

/// The next step towards an end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Due {
    Term,
    Kill,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Epoch {
    pub(super) state: State,
    pub(super) pid: u32,
    pub(super) version: String,
    pub(super) started: Moment,
    /// When it came into [`State::Active`].
    pub(super) active_since: Moment,
    /// What happens to it next unless it leaves first.
    pub(super) due: Option<(Moment, Due)>,
    /// When its drain ends, as told to it and to the operator.
    pub(super) drain_ends: Option<Moment>,
    pub(super) connections: u64,
    pub(super) healthy: bool,
    pub(super) reason: String,
    /// When its drain began.
    #[serde(default)]
    pub(super) draining_since: Option<Moment>,
    /// Whether it can resume out of a drain.
    #[serde(default)]
    pub(super) recalls: bool,
    /// Whether the channel is open.
    pub(super) connected: bool,
    /// When it last said anything.
    pub(super) heard: Moment,
    /// When it was last asked whether it is there.
    pub(super) asked: Moment,
    /// That question is unanswered.
    pub(super) pinged: bool,
}

impl Epoch {
    pub(super) fn starting(now: Moment) -> Self {
        Self {
            state: State::Starting,
            pid: 0,
            version: String::new(),
            started: now,
            active_since: now,
            due: None,
            drain_ends: None,
            connections: 0,
            healthy: true,
            reason: String::new(),
            draining_since: None,
            recalls: false,
            connected: true,
            heard: now,
            asked: now,
            pinged: false,
        }
    }

    /// One that another supervisor started.
    pub(super) fn adopted(adoption: Adoption, now: Moment) -> Self {
        let Adoption { pid, version, state, deadline, started, recalls, .. } = adoption;
        let draining_since = (state == State::Draining).then_some(now);
        Self { state, pid, version, started, recalls, draining_since, drain_ends: deadline, ..Self::starting(now) }
    }
}
