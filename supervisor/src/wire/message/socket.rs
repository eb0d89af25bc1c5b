//! Sockets: what they are known by, and loans of them.

use std::fmt;

use prost::{Enumeration, Message as ProstMessage};
use serde::{Deserialize, Serialize};

/// What a listening (or bound UDP) socket is known by, and how to make it the first time.
///
/// Identity is protocol and address, and the label where the port is 0; options shape the first bind.
#[derive(Clone, PartialEq, Eq, Hash, ProstMessage, Serialize, Deserialize)]
pub struct SocketKey {
    /// Which kind.
    #[prost(enumeration = "Protocol", tag = "1")]
    pub protocol: i32,
    /// `1.2.3.4:80`, `[::1]:80`, `/path/to.sock`, `@abstract`.
    #[prost(string, tag = "2")]
    pub address: String,
    /// The listener's name: tells two listeners on port 0 apart, and serves the logs.
    #[prost(string, tag = "3")]
    pub label: String,
    /// Length of the accept queue; 0 is the system's limit (Envoy `tcp_backlog_size`).
    #[prost(uint32, tag = "4")]
    pub backlog: u32,
    /// `IP_FREEBIND` (Envoy `freebind`).
    #[prost(bool, tag = "5")]
    pub freebind: bool,
    /// `IP_TRANSPARENT` (Envoy `transparent`).
    #[prost(bool, tag = "6")]
    pub transparent: bool,
    /// An IPv6 socket that takes IPv4 too (Envoy `ipv4_compat`).
    #[prost(bool, tag = "7")]
    pub ipv4_compat: bool,
    /// `TCP_FASTOPEN` queue length; 0 is off (Envoy `tcp_fast_open_queue_length`).
    #[prost(uint32, tag = "8")]
    pub fast_open: u32,
    /// Mode of a Unix socket's file; 0 leaves it to the umask (Envoy `Pipe.mode`).
    #[prost(uint32, tag = "9")]
    pub unix_mode: u32,
    /// Sockets to bind to the address with `SO_REUSEPORT`; 0 and 1 mean one socket without it. What was bound first stays.
    #[prost(uint32, tag = "10")]
    pub reuse_port_group: u32,
}

impl SocketKey {
    /// A TCP key with default options.
    pub fn tcp(address: impl Into<String>) -> Self {
        Self::plain(Protocol::Tcp, address)
    }

    /// A UDP key with default options.
    pub fn udp(address: impl Into<String>) -> Self {
        Self::plain(Protocol::Udp, address)
    }

    /// A Unix stream key with default options.
    pub fn unix(path: impl Into<String>) -> Self {
        Self::plain(Protocol::Unix, path)
    }

    fn plain(protocol: Protocol, address: impl Into<String>) -> Self {
        Self { protocol: protocol.into(), address: address.into(), ..Self::default() }
    }
}

/// `tcp 127.0.0.1:80`.
pub struct KeyName<'a>(pub &'a SocketKey);

impl fmt::Display for KeyName<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let protocol = match self.0.protocol() {
            Protocol::Unknown => "unknown",
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
            Protocol::Unix => "unix",
        };
        write!(f, "{protocol} {}", self.0.address)
    }
}

/// The kinds of socket that are lent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Enumeration)]
#[repr(i32)]
pub enum Protocol {
    /// Not said, or newer than this side.
    Unknown = 0,
    /// TCP, listening.
    Tcp = 1,
    /// UDP, bound.
    Udp = 2,
    /// Unix stream, listening.
    Unix = 3,
}

/// Sockets, please.
#[derive(Clone, PartialEq, ProstMessage)]
pub struct Lend {
    /// Chosen by the asker; one request at a time per number.
    #[prost(uint64, tag = "1")]
    pub request: u64,
    /// At most [`crate::wire::MAX_KEYS_PER_LEND`].
    #[prost(message, repeated, tag = "2")]
    pub keys: Vec<SocketKey>,
}

/// One batch of the answer. Its descriptors stand in the order of its grants.
#[derive(Clone, PartialEq, ProstMessage)]
pub struct Lent {
    /// Which request it answers.
    #[prost(uint64, tag = "1")]
    pub request: u64,
    /// Counts from 0.
    #[prost(uint32, tag = "2")]
    pub batch: u32,
    /// No further batch.
    #[prost(bool, tag = "3")]
    pub last: bool,
    /// What this batch holds.
    #[prost(message, repeated, tag = "4")]
    pub grants: Vec<Grant>,
}

/// The answer to one key, or a part of it.
#[derive(Clone, PartialEq, ProstMessage)]
pub struct Grant {
    /// Position of the key in the request.
    #[prost(uint32, tag = "1")]
    pub key: u32,
    /// How many of this batch's descriptors belong to it.
    #[prost(uint32, tag = "2")]
    pub sockets: u32,
    /// Why there is none; empty when there is.
    #[prost(string, tag = "3")]
    pub error: String,
}

/// The batch is in my hands.
#[derive(Clone, PartialEq, ProstMessage)]
pub struct Received {
    /// Which request.
    #[prost(uint64, tag = "1")]
    pub request: u64,
    /// Which batch.
    #[prost(uint32, tag = "2")]
    pub batch: u32,
}
