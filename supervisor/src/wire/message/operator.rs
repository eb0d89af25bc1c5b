//! The operator's side.

use prost::{Enumeration, Message as ProstMessage};
use serde::Serialize;

/// What the operator wants.
#[derive(Clone, PartialEq, ProstMessage)]
pub struct Command {
    /// Which.
    #[prost(enumeration = "CommandKind", tag = "1")]
    pub kind: i32,
}

/// The operator's commands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Enumeration)]
#[repr(i32)]
pub enum CommandKind {
    /// Not said, or newer than this supervisor.
    Unknown = 0,
    /// The lineage as it stands.
    Status = 1,
    /// A takeover with binary and configuration read anew; waits for the outcome.
    Reload = 2,
    /// A takeover back to the previous binary and configuration; waits for the outcome.
    Rollback = 3,
    /// Drain within the stop time and exit.
    Stop = 4,
    /// Drain within the parent shutdown time and exit.
    Drain = 5,
}

/// The lineage as it stands.
#[derive(Clone, PartialEq, ProstMessage, Serialize)]
pub struct Status {
    /// The supervisor's process id.
    #[prost(uint32, tag = "1")]
    pub supervisor_pid: u32,
    /// The supervisor's version.
    #[prost(string, tag = "2")]
    pub supervisor_version: String,
    /// Takeovers so far.
    #[prost(uint64, tag = "3")]
    pub generation: u64,
    /// What goes on now, in one line.
    #[prost(string, tag = "4")]
    pub phase: String,
    /// How the last takeover ended, in one line; empty before the first.
    #[prost(string, tag = "5")]
    pub last_outcome: String,
    /// Sockets held.
    #[prost(uint32, tag = "6")]
    pub sockets: u32,
    /// Living epochs, oldest first.
    #[prost(message, repeated, tag = "7")]
    pub epochs: Vec<EpochStatus>,
    /// What the lineage has counted of connections that moved or did not, and of takeovers; by the names of the statistics, zeroes left out.
    #[prost(message, repeated, tag = "8")]
    pub counts: Vec<Tally>,
    /// Whether `rollback` has something to go back to.
    #[prost(bool, tag = "9")]
    pub has_previous: bool,
    /// For how long the newcomer can still be taken back; absent when it stays.
    #[prost(uint64, optional, tag = "10")]
    pub grace_ms: Option<u64>,
}

/// How often something has happened.
#[derive(Clone, PartialEq, ProstMessage, Serialize)]
pub struct Tally {
    /// What.
    #[prost(string, tag = "1")]
    pub name: String,
    /// How often.
    #[prost(uint64, tag = "2")]
    pub count: u64,
}

/// One row of [`Status`].
#[derive(Clone, PartialEq, ProstMessage, Serialize)]
pub struct EpochStatus {
    /// Its number.
    #[prost(uint64, tag = "1")]
    pub epoch: u64,
    /// Its process id.
    #[prost(uint32, tag = "2")]
    pub pid: u32,
    /// Its binary's version.
    #[prost(string, tag = "3")]
    pub version: String,
    /// Its state, by name.
    #[prost(string, tag = "4")]
    pub state: String,
    /// Since it was started.
    #[prost(uint64, tag = "5")]
    pub age_ms: u64,
    /// Downstream connections at its last report.
    #[prost(uint64, tag = "6")]
    pub connections: u64,
    /// When its drain ends, as Unix time in milliseconds; absent unless it drains.
    #[prost(uint64, optional, tag = "7")]
    pub draining_until_unix_ms: Option<u64>,
    /// `false` when it says so itself, or does not answer.
    #[prost(bool, tag = "8")]
    pub healthy: bool,
    /// Why not.
    #[prost(string, tag = "9")]
    pub reason: String,
    /// Since its drain began; absent unless it drains.
    #[prost(uint64, optional, tag = "10")]
    pub draining_ms: Option<u64>,
}

/// How a command ended.
#[derive(Clone, PartialEq, ProstMessage, Serialize)]
pub struct Outcome {
    /// Whether what was asked for has happened.
    #[prost(bool, tag = "1")]
    pub ok: bool,
    /// The phase that was reached: prepare, ready, commit, probation, released.
    #[prost(string, tag = "2")]
    pub phase: String,
    /// The epoch that was started, if one was.
    #[prost(uint64, optional, tag = "3")]
    pub epoch: Option<u64>,
    /// The epoch that serves now, if one does.
    #[prost(uint64, optional, tag = "4")]
    pub serving: Option<u64>,
    /// Why it ended so; empty when it went well.
    #[prost(string, tag = "5")]
    pub reason: String,
    /// What the epoch reported, several lines perhaps.
    #[prost(string, tag = "6")]
    pub report: String,
    /// How long each phase took.
    #[prost(message, repeated, tag = "7")]
    pub durations: Vec<PhaseTime>,
    /// All of it in one line.
    #[prost(string, tag = "8")]
    pub line: String,
}

/// How long a phase took.
#[derive(Clone, PartialEq, ProstMessage, Serialize)]
pub struct PhaseTime {
    /// Its name.
    #[prost(string, tag = "1")]
    pub phase: String,
    /// How long.
    #[prost(uint64, tag = "2")]
    pub ms: u64,
}
