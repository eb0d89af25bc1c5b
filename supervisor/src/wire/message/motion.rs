//! Connections that move from one epoch to the next. The two speak with each other over a socket pair that the supervisor gave them; it hears nothing of it.

use prost::Message as ProstMessage;

/// You are about to drain: `to_epoch` listens at the other end of the descriptor beside, for connections that can move.
#[derive(Clone, PartialEq, ProstMessage)]
pub struct Bequeath {
    /// Who takes them.
    #[prost(uint64, tag = "1")]
    pub to_epoch: u64,
}

/// `from_epoch` is about to drain, and offers connections at the other end of the descriptor beside.
#[derive(Clone, PartialEq, ProstMessage)]
pub struct Heir {
    /// Who offers them.
    #[prost(uint64, tag = "1")]
    pub from_epoch: u64,
}

/// Connections on offer. Their descriptors stand beside, in order. The sender neither reads nor writes them until the answer.
#[derive(Clone, PartialEq, ProstMessage)]
pub struct Moved {
    /// Chosen by the sender; the answer repeats it.
    #[prost(uint64, tag = "1")]
    pub batch: u64,
    /// The connections.
    #[prost(message, repeated, tag = "2")]
    pub connections: Vec<Connection>,
}

/// One connection on offer.
#[derive(Clone, PartialEq, ProstMessage)]
pub struct Connection {
    /// What it is: `http1`, `tcp`, `upgrade`.
    #[prost(string, tag = "1")]
    pub kind: String,
    /// The name of its listener.
    #[prost(string, tag = "2")]
    pub listener: String,
    /// Where it came from, `ip:port`; empty for a Unix socket.
    #[prost(string, tag = "3")]
    pub peer: String,
    /// Where it came to, `ip:port`; empty for a Unix socket.
    #[prost(string, tag = "4")]
    pub local: String,
    /// How long ago it was accepted.
    #[prost(uint64, tag = "5")]
    pub age_ms: u64,
    /// How many of the descriptors are its sockets, the client's first.
    #[prost(uint32, tag = "6")]
    pub sockets: u32,
    /// The kind's own record, where it is short.
    #[prost(bytes = "vec", tag = "7")]
    pub record: Vec<u8>,
    /// Length of the record in a file whose descriptor follows the sockets, where it is long; else 0.
    #[prost(uint64, tag = "8")]
    pub record_bytes: u64,
}

/// The answer to [`Moved`]: the connections are served here from now on, but for those that are named.
#[derive(Clone, PartialEq, ProstMessage)]
pub struct Taken {
    /// Of the [`Moved`].
    #[prost(uint64, tag = "1")]
    pub batch: u64,
    /// Those that stay where they were.
    #[prost(message, repeated, tag = "2")]
    pub refused: Vec<NotTaken>,
}

/// One connection that stays where it was.
#[derive(Clone, PartialEq, ProstMessage)]
pub struct NotTaken {
    /// Its position in the batch.
    #[prost(uint32, tag = "1")]
    pub index: u32,
    /// Why, by name.
    #[prost(string, tag = "2")]
    pub reason: String,
}

/// What has not been answered is not on offer any more: the sender goes on with it.
#[derive(Clone, PartialEq, ProstMessage)]
pub struct Withdrawn {}
