//! A request in flight as it is written down for another epoch. A field is never renumbered and never reused.
//!
//! What another epoch cannot know is not in here: the route that matched, for it has routes of its own. What of a route still acts on a response
//! that is on its way must be written down as a fact, or the request must say that it stays (`may_suspend`).

use std::cell::Cell;
use std::net::IpAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use http::{HeaderValue, Method, Version};
use prost::Message;

use super::Flight;
use crate::access_log::{Context, Line, Logs};
use crate::codec::http1::{self, BodyWriter, Framing};
use crate::drain::motion::Reason;
use crate::drain::motion::moment::{ago, before, milliseconds};
use crate::fault::Flag;
use crate::http::forward::{Replay, Suspended};
use crate::http::manager::Manager;
use crate::http::outbox::Outbox;
use crate::http::pump::Pump;
use crate::http::record;
use crate::http::stream::{Begun, Deadlines};
use crate::local::{Deadline, Timer};
use crate::net::Stream as Socket;
use crate::upstream::pool::http1::{Lease, Place};
use crate::upstream::written as address;

/// A request in flight, but for its sockets: the client's stands first, then the host's where [`Exchange::lease`] is there.
#[derive(Clone, PartialEq, Message)]
pub(in crate::http) struct Record {
    #[prost(string, tag = "1")]
    method: String,
    /// 10 or 11.
    #[prost(uint32, tag = "2")]
    version: u32,
    #[prost(message, optional, tag = "3")]
    facts: Option<Facts>,
    /// [`Framing::to_bytes`] of the request's body, as the client sends it.
    #[prost(bytes = "vec", tag = "4")]
    framing: Vec<u8>,
    /// Interim responses that the client has not taken.
    #[prost(bytes = "vec", tag = "5")]
    interim: Vec<u8>,
    #[prost(message, optional, tag = "6")]
    deadlines: Option<Times>,
    #[prost(message, optional, tag = "7")]
    begun: Option<Promised>,
    #[prost(message, optional, tag = "8")]
    exchange: Option<Exchange>,
    /// The response on its way to the client, once its head has been encoded.
    #[prost(message, optional, tag = "9")]
    download: Option<Direction>,
    /// What a reader has to know beside the fields above to go on with it rightly, a bit each ([`KNOWN`]).
    #[prost(uint32, tag = "10")]
    needs: u32,
}

/// Milliseconds of a century: a time as far away as that is none.
const FAR: u64 = 100 * 365 * 86_400_000;
/// The bits of [`Record::needs`] that this version knows.
const KNOWN: u32 = NEEDS_DURATION;
/// [`Times::duration_ms`] is set: the request must end by then.
const NEEDS_DURATION: u32 = 1;

/// What is left of each deadline, and what idle and route deadlines are set by anew.
#[derive(Clone, Copy, PartialEq, Message)]
struct Times {
    #[prost(uint64, optional, tag = "1")]
    request_ms: Option<u64>,
    #[prost(uint64, optional, tag = "2")]
    route_ms: Option<u64>,
    #[prost(uint64, optional, tag = "3")]
    route_timeout_ms: Option<u64>,
    #[prost(uint64, optional, tag = "4")]
    idle_ms: Option<u64>,
    #[prost(uint64, optional, tag = "5")]
    idle_timeout_ms: Option<u64>,
    #[prost(uint64, optional, tag = "6")]
    duration_ms: Option<u64>,
}

/// What the client has been told of the connection's end.
#[derive(Clone, Copy, PartialEq, Message)]
struct Promised {
    #[prost(bool, tag = "1")]
    until_close: bool,
    #[prost(bool, tag = "2")]
    close: bool,
    #[prost(bool, tag = "3")]
    linger: bool,
}

/// What is remembered of the request.
#[derive(Clone, PartialEq, Message)]
struct Facts {
    #[prost(uint64, tag = "1")]
    started_ms: u64,
    #[prost(bool, tag = "2")]
    internal: bool,
    #[prost(string, tag = "3")]
    client: String,
    #[prost(bytes = "vec", optional, tag = "4")]
    request_id: Option<Vec<u8>>,
    #[prost(uint32, tag = "5")]
    status: u32,
    #[prost(uint64, tag = "6")]
    received: u64,
    // Field 7 was a set of bits that two versions counted differently.
    #[prost(string, tag = "8")]
    details: String,
    #[prost(uint64, optional, tag = "9")]
    received_ms: Option<u64>,
    #[prost(uint64, optional, tag = "10")]
    answered_ms: Option<u64>,
    /// What its line in the access logs says so far.
    #[prost(message, optional, tag = "11")]
    log: Option<Context>,
    /// Response flags by their short names; one that is not known is left out.
    #[prost(string, repeated, tag = "12")]
    flags: Vec<String>,
}

/// The host's side.
#[derive(Clone, PartialEq, Message)]
struct Exchange {
    /// The cluster's name.
    #[prost(string, tag = "1")]
    cluster: String,
    /// The host's address and port, or nothing.
    #[prost(string, tag = "2")]
    host: String,
    /// The path of the host's Unix socket, or nothing.
    #[prost(bytes = "vec", tag = "3")]
    host_path: Vec<u8>,
    /// Where there still is a connection.
    #[prost(message, optional, tag = "4")]
    lease: Option<Lent>,
    /// As the host was told, which filters may have changed.
    #[prost(string, tag = "5")]
    method: String,
    #[prost(message, optional, tag = "6")]
    upload: Option<Direction>,
    /// The client's body is not over yet.
    #[prost(bool, tag = "7")]
    uploading: bool,
    #[prost(bool, tag = "8")]
    upload_broken: bool,
    /// What may be sent once more.
    #[prost(message, optional, tag = "9")]
    replay: Option<Again>,
    #[prost(bool, tag = "10")]
    again: bool,
    /// Read from the host and not used.
    #[prost(bytes = "vec", tag = "11")]
    read: Vec<u8>,
    #[prost(bool, tag = "12")]
    answered: bool,
    #[prost(uint32, tag = "13")]
    interim: u32,
    /// [`Framing::to_bytes`] of the response's body, as the host sends it.
    #[prost(bytes = "vec", tag = "14")]
    framing: Vec<u8>,
    #[prost(bool, tag = "15")]
    keep_alive: bool,
}

/// The host's connection.
#[derive(Clone, Copy, PartialEq, Message)]
struct Lent {
    #[prost(uint64, tag = "1")]
    opened_ms: u64,
    /// Requests that it was lent to, this one too.
    #[prost(uint32, tag = "2")]
    requests: u32,
    #[prost(bool, tag = "3")]
    reused: bool,
}

/// A copy of what the host was sent.
#[derive(Clone, PartialEq, Message)]
struct Again {
    #[prost(bytes = "vec", tag = "1")]
    bytes: Vec<u8>,
    #[prost(bool, tag = "2")]
    whole: bool,
}

/// One direction.
#[derive(Clone, PartialEq, Message)]
struct Direction {
    /// Encoded and not yet written.
    #[prost(bytes = "vec", tag = "1")]
    pending: Vec<u8>,
    /// How the rest of the body is framed: 0 none, 1 by `left`, 2 in chunks, 3 by the end of the connection.
    #[prost(uint32, tag = "2")]
    coding: u32,
    #[prost(uint64, tag = "3")]
    left: u64,
    #[prost(bool, tag = "4")]
    ended: bool,
    #[prost(bool, tag = "5")]
    trailers: bool,
    #[prost(uint64, tag = "6")]
    taken: u64,
    #[prost(uint64, tag = "7")]
    sent: u64,
    /// The peer takes no more for now.
    #[prost(bool, tag = "8")]
    blocked: bool,
}

impl Flight {
    /// Writes it down.
    pub(in crate::http) fn write(&self, timer: &Timer) -> Record {
        Record {
            method: self.record.method.as_str().to_owned(),
            version: if self.version == Version::HTTP_10 { 10 } else { 11 },
            facts: Some(Facts::of(&self.record)),
            framing: self.framing.to_bytes(),
            interim: self.interim.to_vec(),
            deadlines: Some(Times::of(&self.deadlines, timer)),
            begun: Some(Promised::of(&self.begun)),
            exchange: Some(Exchange::of(&self.exchange, &self.record)),
            download: self.download.as_ref().map(Direction::of),
            needs: if self.deadlines.duration.get() == Deadline::NEVER { 0 } else { NEEDS_DURATION },
        }
    }

    /// Reads what [`Self::write`] wrote. The host's connection takes its place in the cluster of that name; [`Self::arrived`] makes it count.
    ///
    /// # Errors
    /// Why it cannot be gone on with.
    pub(in crate::http) fn read(
        record: Record,
        sockets: Vec<std::os::fd::OwnedFd>,
        manager: &Manager,
        timer: &Timer,
    ) -> Result<Box<Self>, Reason> {
        if record.needs & !KNOWN != 0 {
            return Err(Reason::Record);
        }
        let exchange = record.exchange.ok_or(Reason::Record)?;
        let facts = record.facts.ok_or(Reason::Record)?.into_record(method(&record.method)?, manager.logs.as_ref())?;
        let deadlines = record.deadlines.ok_or(Reason::Record)?.into_deadlines(timer);
        let begun = record.begun.ok_or(Reason::Record)?.into_begun(record.download.is_some());
        let version = match record.version {
            10 => Version::HTTP_10,
            11 => Version::HTTP_11,
            _ => return Err(Reason::Record),
        };
        let download = record.download.map(Direction::into_pump).transpose()?;
        let framing = framing(&record.framing)?;
        let exchange = exchange.into_suspended(sockets, manager, &facts)?;
        Ok(Box::new(Self {
            record: facts,
            framing,
            interim: BytesMut::from(&*record.interim),
            deadlines,
            version,
            begun,
            exchange,
            download,
            stays: false,
            place: None,
            permit: None,
        }))
    }
}

fn method(text: &str) -> Result<Method, Reason> {
    Method::from_bytes(text.as_bytes()).map_err(|_| Reason::Record)
}

fn framing(bytes: &[u8]) -> Result<Framing, Reason> {
    Framing::from_bytes(bytes).map_err(|_| Reason::Record)
}

impl Times {
    fn of(deadlines: &Deadlines, timer: &Timer) -> Self {
        let left = |deadline: Deadline| timer.left(deadline).map(milliseconds);
        Self {
            request_ms: left(deadlines.request),
            route_ms: left(deadlines.route.get()),
            route_timeout_ms: deadlines.route_timeout.get().map(milliseconds),
            idle_ms: left(deadlines.idle.get()),
            idle_timeout_ms: deadlines.idle_timeout.get().map(milliseconds),
            duration_ms: left(deadlines.duration.get()),
        }
    }

    fn into_deadlines(self, timer: &Timer) -> Deadlines {
        let now = Instant::now();
        let at = |left: Option<u64>| {
            let moment = left.filter(|left| *left < FAR).and_then(|left| now.checked_add(Duration::from_millis(left)));
            moment.map_or(Deadline::NEVER, |moment| timer.at(moment))
        };
        let time = |time: Option<u64>| time.filter(|time| *time < FAR).map(Duration::from_millis);
        Deadlines {
            request: at(self.request_ms),
            route: Cell::new(at(self.route_ms)),
            route_timeout: Cell::new(time(self.route_timeout_ms)),
            duration: Cell::new(at(self.duration_ms)),
            idle: Cell::new(at(self.idle_ms)),
            idle_timeout: Cell::new(time(self.idle_timeout_ms)),
            drained: Cell::new(Deadline::NEVER),
        }
    }
}

impl Promised {
    fn of(begun: &Begun) -> Self {
        Self { until_close: begun.until_close, close: begun.close, linger: begun.linger }
    }

    fn into_begun(self, head: bool) -> Begun {
        Begun {
            head,
            until_close: self.until_close,
            close: self.close,
            linger: self.linger,
            early: false,
            tunnel: None,
        }
    }
}

impl Facts {
    fn of(record: &record::Record) -> Self {
        Self {
            started_ms: ago(record.started),
            internal: record.internal.get(),
            client: record.client.get().map(|client| client.to_string()).unwrap_or_default(),
            request_id: record.request_id.borrow().as_ref().map(|id| id.as_bytes().to_vec()),
            status: u32::from(record.status.get()),
            received: record.received.get(),
            details: record.details().into_owned(),
            received_ms: record.received_at.get().map(ago),
            answered_ms: record.answered_at.get().map(ago),
            log: record.log_record(),
            flags: Flag::ALL
                .into_iter()
                .filter(|flag| record.has_flag(*flag))
                .map(|flag| flag.short().into())
                .collect(),
        }
    }

    fn into_record(self, method: Method, logs: Option<&Rc<Logs>>) -> Result<record::Record, Reason> {
        let client = match &*self.client {
            "" => None,
            text => Some(text.parse::<IpAddr>().map_err(|_| Reason::Record)?),
        };
        let id = self.request_id.map(|id| HeaderValue::from_bytes(&id)).transpose().map_err(|_| Reason::Record)?;
        let record = record::Record::new(method, before(self.started_ms));
        if let Some(logs) = logs {
            record.log_as(match self.log {
                Some(log) => Line::from_record(logs.clone(), log),
                None => Line::new(logs.clone(), record.started),
            });
        }
        record.internal.set(self.internal);
        record.client.set(client);
        *record.request_id.borrow_mut() = id;
        record.status.set(u16::try_from(self.status).map_err(|_| Reason::Record)?);
        record.received.set(self.received);
        record.received_at.set(self.received_ms.map(before));
        record.answered_at.set(self.answered_ms.map(before));
        for flag in self.flags.iter().filter_map(|name| Flag::by_short(name)) {
            record.flag(flag);
        }
        record.set_details(self.details);
        Ok(record)
    }
}

impl Exchange {
    fn of(exchange: &Suspended, record: &record::Record) -> Self {
        let host = record.host.borrow();
        let (host, host_path) = host.as_ref().map(|host| address::write(&host.endpoint().address)).unwrap_or_default();
        Self {
            cluster: exchange.cluster.model().name.clone(),
            host,
            host_path,
            lease: exchange.lease.as_ref().map(|lease| Lent::of(lease.place())),
            method: exchange.method.as_str().to_owned(),
            upload: Some(Direction::of(&exchange.upload)),
            uploading: exchange.uploading,
            upload_broken: exchange.upload_broken,
            replay: exchange.replay.as_ref().map(Again::of),
            again: exchange.again,
            read: exchange.read.to_vec(),
            answered: exchange.answered,
            interim: u32::from(exchange.interim),
            framing: exchange.framing.to_bytes(),
            keep_alive: exchange.keep_alive,
        }
    }

    fn into_suspended(
        self,
        sockets: Vec<std::os::fd::OwnedFd>,
        manager: &Manager,
        record: &record::Record,
    ) -> Result<Suspended, Reason> {
        let address = address::read(&self.host, &self.host_path).ok_or(Reason::Record)?;
        let method = method(&self.method)?;
        let upload = self.upload.ok_or(Reason::Record)?.into_pump()?;
        let framing = framing(&self.framing)?;
        let cluster = manager.named.get(&self.cluster).cloned().ok_or(Reason::NoCluster)?;
        let host = cluster.host_at(&address);
        let lease = match (self.lease, sockets.into_iter().next()) {
            (Some(lent), Some(socket)) => {
                let socket = Socket::from_fd(socket).map_err(|_| Reason::Socket)?;
                let place = host.pool().adopt(before(lent.opened_ms), lent.requests, lent.reused);
                Some(Lease::new(socket, place.ok_or(Reason::Limit)?))
            }
            (None, None) => None,
            (Some(_), None) | (None, Some(_)) => return Err(Reason::Record),
        };
        record.cluster.borrow_mut().replace(cluster.clone());
        record.host.borrow_mut().replace(host);
        Ok(Suspended {
            cluster,
            lease,
            method,
            upload,
            uploading: self.uploading,
            upload_broken: self.upload_broken,
            replay: self.replay.map(|again| Replay { bytes: Bytes::from(again.bytes), whole: again.whole }),
            again: self.again,
            read: BytesMut::from(&*self.read),
            answered: self.answered,
            interim: u8::try_from(self.interim).map_err(|_| Reason::Record)?,
            framing,
            keep_alive: self.keep_alive,
        })
    }
}

impl Lent {
    fn of(place: &Place) -> Self {
        Self { opened_ms: ago(place.opened()), requests: place.requests(), reused: place.reused() }
    }
}

impl Again {
    fn of(replay: &Replay) -> Self {
        Self { bytes: replay.bytes.to_vec(), whole: replay.whole }
    }
}

impl Direction {
    fn of(pump: &Pump) -> Self {
        let (coding, left) = match pump.writer.rest() {
            http1::Body::Empty | http1::Body::Suppressed => (0, 0),
            http1::Body::Length(left) => (1, left),
            http1::Body::Chunked => (2, 0),
            http1::Body::UntilClose => (3, 0),
        };
        Self {
            pending: pump.outbox.to_vec(),
            coding,
            left,
            ended: pump.ended,
            trailers: pump.trailers,
            taken: pump.taken,
            sent: pump.sent,
            blocked: pump.outbox.is_blocked(),
        }
    }

    fn into_pump(self) -> Result<Pump, Reason> {
        let rest = match self.coding {
            0 => http1::Body::Empty,
            1 => http1::Body::Length(self.left),
            2 => http1::Body::Chunked,
            3 => http1::Body::UntilClose,
            _ => return Err(Reason::Record),
        };
        Ok(Pump {
            outbox: Outbox::restore(&self.pending, self.blocked),
            writer: BodyWriter::new(rest),
            ended: self.ended,
            trailers: self.trailers,
            taken: self.taken,
            sent: self.sent,
        })
    }
}

#[cfg(test)]
mod tests;
