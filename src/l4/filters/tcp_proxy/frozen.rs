//! A tunnel as it is written down for another epoch. A field is never renumbered and never reused.

use std::time::Instant;

use bytes::BytesMut;
use prost::Message;

use super::flow::Flow;
use crate::access_log::Context;
use crate::config::model::Address;
use crate::drain::motion::moment::{ago, before};
use crate::upstream::written;

/// A tunnel, but for its sockets: the client's stands first, the host's second.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Record {
    /// The cluster's name.
    #[prost(string, tag = "1")]
    pub(super) cluster: String,
    /// The host's address and port, or nothing.
    #[prost(string, tag = "2")]
    host: String,
    /// The path of the host's Unix socket, or nothing.
    #[prost(bytes = "vec", tag = "3")]
    host_path: Vec<u8>,
    /// How long ago the host took the connection.
    #[prost(uint64, tag = "4")]
    opened_ms: u64,
    /// How long ago a byte was written.
    #[prost(uint64, tag = "5")]
    idle_ms: u64,
    /// From the client to the host.
    #[prost(message, optional, tag = "6")]
    up: Option<Direction>,
    /// From the host to the client.
    #[prost(message, optional, tag = "7")]
    down: Option<Direction>,
    /// What its line in the access logs says so far.
    #[prost(message, optional, tag = "8")]
    pub(super) log: Option<Context>,
}

/// One direction.
#[derive(Clone, PartialEq, Message)]
struct Direction {
    /// Read and not yet written.
    #[prost(bytes = "vec", tag = "1")]
    pending: Vec<u8>,
    /// Written since the connection began.
    #[prost(uint64, tag = "2")]
    bytes: u64,
    /// The source has ended.
    #[prost(bool, tag = "3")]
    source_ended: bool,
    /// The sink has been told, or takes no more.
    #[prost(bool, tag = "4")]
    over: bool,
}

impl Record {
    /// Of a tunnel to a host of a cluster.
    pub(super) fn new(cluster: &str, host: &Address, opened: Instant, active: Instant, up: &Flow, down: &Flow) -> Self {
        let (host, host_path) = written::write(host);
        Self {
            cluster: cluster.to_owned(),
            host,
            host_path,
            opened_ms: ago(opened),
            idle_ms: ago(active),
            up: Some(Direction::of(up)),
            down: Some(Direction::of(down)),
            log: None,
        }
    }

    /// The host.
    pub(super) fn host(&self) -> Option<Address> {
        written::read(&self.host, &self.host_path)
    }

    /// When the host took the connection.
    pub(super) fn opened(&self) -> Instant {
        before(self.opened_ms)
    }

    /// When a byte was last written.
    pub(super) fn active(&self) -> Instant {
        before(self.idle_ms)
    }

    /// Both directions, up first.
    pub(super) fn flows(&mut self) -> Option<(Flow, Flow)> {
        Some((self.up.take()?.into_flow(), self.down.take()?.into_flow()))
    }
}

impl Direction {
    fn of(flow: &Flow) -> Self {
        Self { pending: flow.buffer.to_vec(), bytes: flow.bytes, source_ended: flow.source_ended, over: flow.over }
    }

    fn into_flow(self) -> Flow {
        let Self { pending, bytes, source_ended, over } = self;
        let read = bytes.saturating_add(pending.len() as u64);
        Flow { buffer: BytesMut::from(&*pending), read, bytes, source_ended, over, blocked: false }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn what_is_written_down_is_read_again() {
        let up =
            Flow { buffer: BytesMut::from("abc"), read: 10, bytes: 7, source_ended: true, over: false, blocked: true };
        let down = Flow { over: true, ..Flow::default() };
        for host in [Address::Tcp("[::1]:80".parse().unwrap()), Address::Unix { path: "/run/x.sock".into(), mode: 0 }] {
            let now = Instant::now();
            let written = Record::new("c", &host, now, now, &up, &down).encode_to_vec();
            let mut read = Record::decode(&*written).unwrap();
            assert_eq!(read.host(), Some(host));
            assert!(read.opened().elapsed() < Duration::from_secs(10));
            let (up, down) = read.flows().unwrap();
            assert!(up.buffer == "abc" && up.bytes == 7 && up.source_ended && !up.over && !up.blocked);
            assert!(down.buffer.is_empty() && down.over);
        }
    }
}
