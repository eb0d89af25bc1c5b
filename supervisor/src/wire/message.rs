//! The messages. Each is a protobuf message written down as Rust; a field is never renumbered and never reused.
//!
//! Times on the wire are lengths in milliseconds, never points in time.

mod motion;
mod operator;
mod socket;
mod tickets;

use prost::{Enumeration, Message as ProstMessage, Oneof};
use serde::{Deserialize, Serialize};

pub use motion::{Bequeath, Connection, Heir, Moved, NotTaken, Taken, Withdrawn};
pub use operator::{Command, CommandKind, EpochStatus, Outcome, PhaseTime, Status, Tally};
pub use socket::{Grant, KeyName, Lend, Lent, Protocol, Received, SocketKey};
pub use tickets::TicketKeys;

/// The body of a frame.
#[derive(Clone, PartialEq, ProstMessage)]
pub struct Envelope {
    /// Exactly one.
    #[prost(
        oneof = "Message",
        tags = "1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 40, 41, 42"
    )]
    pub message: Option<Message>,
}

/// Every kind of message. `E→S`: epoch to supervisor, `S→E`: the other way.
#[derive(Clone, PartialEq, Oneof)]
pub enum Message {
    /// E→S, the first message of an epoch.
    #[prost(message, tag = "1")]
    Hello(Hello),
    /// S→E, the answer to `Hello` and `Adopt`; after `Hello` the statistics segment's descriptor comes with it.
    #[prost(message, tag = "2")]
    Welcome(Welcome),
    /// S→E or to the operator: no, and why. The channel is of no further use.
    #[prost(message, tag = "3")]
    Refused(Refused),
    /// E→S: sockets, please.
    #[prost(message, tag = "4")]
    Lend(Lend),
    /// S→E: a batch of sockets. (E→S after `Adopt`.)
    #[prost(message, tag = "5")]
    Lent(Lent),
    /// E→S: the batch is in my hands, send the next. (S→E after `Adopt`.)
    #[prost(message, tag = "6")]
    Received(Received),
    /// E→S: loaded, validated, warm. From version 2 on with a descriptor whose file holds the configuration's text as it was read.
    #[prost(message, tag = "7")]
    Ready(Ready),
    /// E→S: cannot become ready.
    #[prost(message, tag = "8")]
    Failed(Failed),
    /// S→E: accept connections (commit).
    #[prost(message, tag = "9")]
    Accept(Accept),
    /// E→S: done, every listener is accepting.
    #[prost(message, tag = "10")]
    Accepting(Accepting),
    /// S→E: accept nothing more, keep what you have (probation of the next one begins).
    #[prost(message, tag = "11")]
    StopAccepting(StopAccepting),
    /// E→S: done.
    #[prost(message, tag = "12")]
    Stopped(Stopped),
    /// S→E: the next one failed, accept again.
    #[prost(message, tag = "13")]
    Resume(Resume),
    /// E→S: done.
    #[prost(message, tag = "14")]
    Resumed(Resumed),
    /// S→E: stop accepting if you have not, let what you have end well, then leave.
    #[prost(message, tag = "15")]
    Drain(Drain),
    /// E→S: nothing left; exit status 0 follows.
    #[prost(message, tag = "16")]
    Drained(Drained),
    /// S→E: the supervisor stops: as `Drain`, but within the grace and at once.
    #[prost(message, tag = "17")]
    Terminate(Terminate),
    /// S→E: reopen log files.
    #[prost(message, tag = "18")]
    ReopenLogs(ReopenLogs),
    /// E→S: about every second, and on change.
    #[prost(message, tag = "19")]
    Health(Health),
    /// S→E: are you there?
    #[prost(message, tag = "20")]
    Ping(Ping),
    /// E→S: here.
    #[prost(message, tag = "21")]
    Pong(Pong),
    /// Either: a message of a kind this side does not know.
    #[prost(message, tag = "22")]
    NotUnderstood(NotUnderstood),
    /// E→S at the control socket: my supervisor died. The statistics segment's descriptor comes with it.
    #[prost(message, tag = "23")]
    Adopt(Adopt),
    /// S→E, with a descriptor: where to offer connections in the drain that follows. Only to an epoch with [`super::MOVES`].
    #[prost(message, tag = "24")]
    Bequeath(Bequeath),
    /// S→E, with a descriptor: where connections are offered. Only to an epoch with [`super::MOVES`].
    #[prost(message, tag = "25")]
    Heir(Heir),
    /// E→E: connections on offer, with their descriptors.
    #[prost(message, tag = "26")]
    Moved(Moved),
    /// E→E: the answer.
    #[prost(message, tag = "27")]
    Taken(Taken),
    /// E→E: what is unanswered stays.
    #[prost(message, tag = "28")]
    Withdrawn(Withdrawn),
    /// S→E: the keys of session tickets have been turned. Only to an epoch with [`super::TICKETS`].
    #[prost(message, tag = "29")]
    TicketKeys(TicketKeys),
    /// Operator→S at the control socket.
    #[prost(message, tag = "40")]
    Command(Command),
    /// S→operator: the answer to `status`.
    #[prost(message, tag = "41")]
    Status(Status),
    /// S→operator: the answer to everything else, when it is over.
    #[prost(message, tag = "42")]
    Outcome(Outcome),
}

impl Message {
    /// Its name, for logs and errors: no contents.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Hello(_) => "Hello",
            Self::Welcome(_) => "Welcome",
            Self::Refused(_) => "Refused",
            Self::Lend(_) => "Lend",
            Self::Lent(_) => "Lent",
            Self::Received(_) => "Received",
            Self::Ready(_) => "Ready",
            Self::Failed(_) => "Failed",
            Self::Accept(_) => "Accept",
            Self::Accepting(_) => "Accepting",
            Self::StopAccepting(_) => "StopAccepting",
            Self::Stopped(_) => "Stopped",
            Self::Resume(_) => "Resume",
            Self::Resumed(_) => "Resumed",
            Self::Drain(_) => "Drain",
            Self::Drained(_) => "Drained",
            Self::Terminate(_) => "Terminate",
            Self::ReopenLogs(_) => "ReopenLogs",
            Self::Health(_) => "Health",
            Self::Ping(_) => "Ping",
            Self::Pong(_) => "Pong",
            Self::NotUnderstood(_) => "NotUnderstood",
            Self::Adopt(_) => "Adopt",
            Self::Bequeath(_) => "Bequeath",
            Self::Heir(_) => "Heir",
            Self::Moved(_) => "Moved",
            Self::Taken(_) => "Taken",
            Self::Withdrawn(_) => "Withdrawn",
            Self::TicketKeys(_) => "TicketKeys",
            Self::Command(_) => "Command",
            Self::Status(_) => "Status",
            Self::Outcome(_) => "Outcome",
        }
    }
}

/// An epoch introduces itself.
#[derive(Clone, PartialEq, ProstMessage)]
pub struct Hello {
    /// Oldest protocol version it speaks.
    #[prost(uint32, tag = "1")]
    pub protocol_min: u32,
    /// Newest protocol version it speaks.
    #[prost(uint32, tag = "2")]
    pub protocol_max: u32,
    /// Its process id.
    #[prost(uint32, tag = "3")]
    pub pid: u32,
    /// The binary's version, as `--version` prints it.
    #[prost(string, tag = "4")]
    pub version: String,
    /// Abilities beyond the protocol version, by name.
    #[prost(string, repeated, tag = "5")]
    pub features: Vec<String>,
}

/// The supervisor takes an epoch in.
#[derive(Clone, PartialEq, ProstMessage)]
pub struct Welcome {
    /// The version both speak from now on.
    #[prost(uint32, tag = "1")]
    pub protocol: u32,
    /// The epoch's number.
    #[prost(uint64, tag = "2")]
    pub epoch: u64,
    /// Takeovers so far in this lineage (Envoy's `server.hot_restart_generation`).
    #[prost(uint64, tag = "3")]
    pub generation: u64,
    /// `--drain-time-s`, in milliseconds.
    #[prost(uint64, tag = "4")]
    pub drain_time_ms: u64,
    /// `--parent-shutdown-time-s`, in milliseconds.
    #[prost(uint64, tag = "5")]
    pub parent_shutdown_time_ms: u64,
    /// `--drain-strategy`.
    #[prost(enumeration = "DrainStrategy", tag = "6")]
    pub drain_strategy: i32,
    /// The supervisor's version.
    #[prost(string, tag = "7")]
    pub supervisor_version: String,
    /// Where a supervisor listens: for `Adopt` when this one is gone.
    #[prost(string, tag = "8")]
    pub control_path: String,
    /// The keys of session tickets, for an epoch with [`super::TICKETS`].
    #[prost(message, optional, tag = "9")]
    pub ticket_keys: Option<TicketKeys>,
}

/// `--drain-strategy`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Enumeration, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[repr(i32)]
pub enum DrainStrategy {
    /// The chance that a boundary closes grows from 0 to 1 over the drain time.
    Gradual = 0,
    /// Every boundary closes.
    Immediate = 1,
}

/// No, and why.
#[derive(Clone, PartialEq, ProstMessage)]
pub struct Refused {
    /// For a human.
    #[prost(string, tag = "1")]
    pub reason: String,
}

/// Loaded, validated, warm.
#[derive(Clone, PartialEq, ProstMessage)]
pub struct Ready {
    /// The binary's version.
    #[prost(string, tag = "1")]
    pub version: String,
    /// How many listeners it has.
    #[prost(uint32, tag = "2")]
    pub listeners: u32,
    /// One line about the configuration.
    #[prost(string, tag = "3")]
    pub summary: String,
    /// Length of the configuration's text in the descriptor beside; 0 when there is none.
    #[prost(uint64, tag = "4")]
    pub configuration_bytes: u64,
}

/// Cannot become ready.
#[derive(Clone, PartialEq, ProstMessage)]
pub struct Failed {
    /// Every fault, one per line, as the operator will read it.
    #[prost(string, tag = "1")]
    pub report: String,
}

/// Accept connections.
#[derive(Clone, PartialEq, ProstMessage)]
pub struct Accept {}

/// Every listener is accepting.
#[derive(Clone, PartialEq, ProstMessage)]
pub struct Accepting {}

/// Accept nothing more, keep what you have.
#[derive(Clone, PartialEq, ProstMessage)]
pub struct StopAccepting {}

/// No listener is accepting.
#[derive(Clone, PartialEq, ProstMessage)]
pub struct Stopped {}

/// Accept again.
#[derive(Clone, PartialEq, ProstMessage)]
pub struct Resume {}

/// Accepting again.
#[derive(Clone, PartialEq, ProstMessage)]
pub struct Resumed {}

/// Let what you have end well, then leave.
#[derive(Clone, PartialEq, ProstMessage)]
pub struct Drain {
    /// What is left after this long is closed and counted.
    #[prost(uint64, tag = "1")]
    pub deadline_ms: u64,
    /// Over which the gradual strategy grows.
    #[prost(uint64, tag = "2")]
    pub drain_time_ms: u64,
    /// Gradual or immediate.
    #[prost(enumeration = "DrainStrategy", tag = "3")]
    pub strategy: i32,
    /// For this long `Resume` may still follow; only to an epoch with [`super::RECALLS`], which then serves as before.
    #[prost(uint64, tag = "4")]
    pub recall_ms: u64,
}

/// Nothing left.
#[derive(Clone, PartialEq, ProstMessage)]
pub struct Drained {
    /// Connections that had to be closed at the deadline.
    #[prost(uint64, tag = "1")]
    pub closed: u64,
}

/// The supervisor stops.
#[derive(Clone, PartialEq, ProstMessage)]
pub struct Terminate {
    /// Leave within this long.
    #[prost(uint64, tag = "1")]
    pub grace_ms: u64,
}

/// Reopen log files.
#[derive(Clone, PartialEq, ProstMessage)]
pub struct ReopenLogs {}

/// How an epoch does.
#[derive(Clone, PartialEq, ProstMessage)]
pub struct Health {
    /// Downstream connections it holds now.
    #[prost(uint64, tag = "1")]
    pub connections: u64,
    /// `false` in probation makes the supervisor roll back.
    #[prost(bool, tag = "2")]
    pub healthy: bool,
    /// Why not; empty when healthy.
    #[prost(string, tag = "3")]
    pub reason: String,
}

/// Are you there?
#[derive(Clone, PartialEq, ProstMessage)]
pub struct Ping {
    /// Comes back in the [`Pong`].
    #[prost(uint64, tag = "1")]
    pub token: u64,
}

/// Here.
#[derive(Clone, PartialEq, ProstMessage)]
pub struct Pong {
    /// Of the [`Ping`].
    #[prost(uint64, tag = "1")]
    pub token: u64,
}

/// A message of a kind this side does not know.
#[derive(Clone, PartialEq, ProstMessage)]
pub struct NotUnderstood {
    /// Its field number.
    #[prost(uint32, tag = "1")]
    pub tag: u32,
}

/// An epoch without a supervisor offers itself, its sockets and its statistics.
#[derive(Clone, PartialEq, ProstMessage)]
pub struct Adopt {
    /// As in [`Hello`].
    #[prost(message, optional, tag = "1")]
    pub hello: Option<Hello>,
    /// Its number.
    #[prost(uint64, tag = "2")]
    pub epoch: u64,
    /// The generation it was welcomed with.
    #[prost(uint64, tag = "3")]
    pub generation: u64,
    /// What it is doing.
    #[prost(enumeration = "Standing", tag = "4")]
    pub standing: i32,
    /// What remains until its drain's deadline, when it drains.
    #[prost(uint64, tag = "5")]
    pub drain_remaining_ms: u64,
    /// The keys of its sockets; the sockets follow as `Lent` batches of request 0 after the welcome.
    #[prost(message, repeated, tag = "6")]
    pub keys: Vec<SocketKey>,
    /// The keys of session tickets that the supervisor that died had given it.
    #[prost(message, optional, tag = "7")]
    pub ticket_keys: Option<TicketKeys>,
}

/// What an orphaned epoch was doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Enumeration)]
#[repr(i32)]
pub enum Standing {
    /// Accepting connections.
    Accepting = 0,
    /// Had stopped for another epoch's probation.
    Stopped = 1,
    /// Draining.
    Draining = 2,
    /// Never came to accept.
    Preparing = 3,
}
