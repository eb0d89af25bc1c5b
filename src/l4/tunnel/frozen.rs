//! A tunnel as it is written down for another epoch. A field is never renumbered and never reused.

use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::time::Instant;

use bytes::BytesMut;
use prost::Message;

use super::flow::Flow;
use super::host::Place;
use super::{Host, Owner, Rest, Who};
use crate::access_log::Context;
use crate::config::model::Address;
use crate::drain::motion::Reason;
use crate::drain::motion::moment::{ago, before};
use crate::net::Stream;
use crate::upstream::{Cluster, Clusters, written};

/// A tunnel, but for its sockets: the client's stands first, the host's second.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Record {
    /// The cluster's name.
    #[prost(string, tag = "1")]
    cluster: String,
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
    log: Option<Context>,
    /// Requests that the host's connection has carried; 0 where it speaks no HTTP.
    #[prost(uint32, tag = "9")]
    requests: u32,
    /// Who ended its side first: 0 nobody yet, 1 the client, 2 the host.
    #[prost(uint32, tag = "10")]
    first: u32,
    /// The owner's own record.
    #[prost(bytes = "vec", tag = "11")]
    owner: Vec<u8>,
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
    pub(super) fn new<O: Owner>(place: &Place, rest: &Rest<O>) -> Self {
        let (host, host_path) = written::write(place.address());
        Self {
            cluster: place.cluster().to_owned(),
            host,
            host_path,
            opened_ms: ago(place.opened()),
            idle_ms: ago(rest.active),
            up: Some(Direction::of(&rest.up)),
            down: Some(Direction::of(&rest.down)),
            log: rest.owner.log(),
            requests: place.requests(),
            first: rest.first.map_or(0, |who| if who == Who::Client { 1 } else { 2 }),
            owner: rest.owner.write_down(),
        }
    }
}

/// A tunnel that has been read, before it is put together.
pub struct Thawed {
    record: Record,
    host: Address,
    up: Flow,
    down: Flow,
}

impl Thawed {
    /// Reads what another epoch has written down.
    ///
    /// # Errors
    /// It is no tunnel.
    pub fn read(record: &[u8]) -> Result<Self, Reason> {
        let mut record = Record::decode(record).map_err(|_| Reason::Record)?;
        let host = written::read(&record.host, &record.host_path).ok_or(Reason::Record)?;
        let (Some(up), Some(down)) = (record.up.take(), record.down.take()) else { return Err(Reason::Record) };
        Ok(Self { host, up: up.into_flow()?, down: down.into_flow()?, record })
    }

    /// What the owner wrote down.
    pub fn owner(&self) -> &[u8] {
        &self.record.owner
    }

    /// What its line in the access logs says so far.
    pub fn take_log(&mut self) -> Option<Context> {
        self.record.log.take()
    }

    /// The host's connection, with a place in its cluster here, and that cluster. `sockets` are those behind the client's.
    ///
    /// # Errors
    /// There is no such cluster, no room in it, or no socket.
    pub fn host(&self, sockets: Vec<OwnedFd>, clusters: &Clusters) -> Result<(Host, Rc<Cluster>), Reason> {
        let cluster = clusters.get(&self.record.cluster).cloned().ok_or(Reason::NoCluster)?;
        let socket = sockets.into_iter().next().ok_or(Reason::Record)?;
        let stream = Stream::from_fd(socket).map_err(|_| Reason::Socket)?;
        let opened = before(self.record.opened_ms);
        let place = match self.record.requests {
            0 => cluster.adopt_tcp(self.host.clone(), opened).map(Place::Tcp),
            // That it was kept before is of no account any more.
            requests => cluster.host_at(&self.host).pool().adopt(opened, requests, false).map(Place::Http1),
        };
        Ok((place.ok_or(Reason::Limit)?.with(stream), cluster))
    }

    pub(super) fn into_flows(self) -> (Flow, Flow, Option<Who>, Instant) {
        let first = match self.record.first {
            1 => Some(Who::Client),
            2 => Some(Who::Host),
            _ => None,
        };
        (self.up, self.down, first, before(self.record.idle_ms))
    }
}

impl Direction {
    fn of(flow: &Flow) -> Self {
        Self { pending: flow.buffer.to_vec(), bytes: flow.bytes, source_ended: flow.source_ended, over: flow.over }
    }

    /// # Errors
    /// A direction that is over holds nothing.
    fn into_flow(self) -> Result<Flow, Reason> {
        let Self { pending, bytes, source_ended, over } = self;
        if over && !pending.is_empty() {
            return Err(Reason::Record);
        }
        let read = bytes.saturating_add(pending.len() as u64);
        Ok(Flow { buffer: BytesMut::from(&*pending), read, bytes, source_ended, over, blocked: false })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(host: &Address) -> Record {
        let up =
            Flow { buffer: BytesMut::from("abc"), read: 10, bytes: 7, source_ended: true, over: false, blocked: true };
        let down = Flow { over: true, ..Flow::default() };
        let (host, host_path) = written::write(host);
        Record {
            cluster: "c".into(),
            host,
            host_path,
            opened_ms: 5000,
            idle_ms: 20,
            up: Some(Direction::of(&up)),
            down: Some(Direction::of(&down)),
            log: None,
            requests: 3,
            first: 1,
            owner: vec![9; 5],
        }
    }

    #[test]
    fn what_is_written_down_is_read_again() {
        for host in [Address::Tcp("[::1]:80".parse().unwrap()), Address::Unix { path: "/run/x.sock".into(), mode: 0 }] {
            let thawed = Thawed::read(&record(&host).encode_to_vec()).unwrap();
            assert_eq!(thawed.host, host);
            assert_eq!(thawed.owner(), [9; 5]);
            let (up, down, first, active) = thawed.into_flows();
            assert!(up.buffer == "abc" && up.bytes == 7 && up.source_ended && !up.over && !up.blocked);
            assert!(down.buffer.is_empty() && down.over);
            assert_eq!(first, Some(Who::Client));
            assert!((20..10_000).contains(&active.elapsed().as_millis()));
        }
    }

    #[test]
    fn what_is_no_tunnel_is_refused() {
        let good = record(&Address::Tcp("127.0.0.1:80".parse().unwrap()));
        let spoiled = [
            Record { up: None, ..good.clone() },
            Record { down: None, ..good.clone() },
            Record { host: "nowhere".into(), ..good.clone() },
            Record { host: String::new(), ..good.clone() },
            Record { up: good.up.clone().map(|up| Direction { over: true, ..up }), ..good.clone() },
        ];
        for record in spoiled {
            assert_eq!(Thawed::read(&record.encode_to_vec()).err(), Some(Reason::Record), "{record:?}");
        }
        // Cut anywhere it is refused, or at least nothing is made up.
        let whole = good.encode_to_vec();
        for end in 0..whole.len() {
            if let Ok(thawed) = Thawed::read(&whole[..end]) {
                assert_eq!(thawed.into_flows().0.buffer, "abc", "cut at {end}");
            }
        }
        assert_eq!(Thawed::read(&[0xff; 40]).err(), Some(Reason::Record));
    }
}
