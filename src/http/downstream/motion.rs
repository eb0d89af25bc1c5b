//! A client's connection on its way to another epoch and back: between two requests, or with one in flight.
//!
//! It is its socket, the bytes that were read ahead, how many requests it has had and for how long it has been idle; routes, limits and filters are
//! those of whoever serves the next request. What arrives while it moves waits in the socket. A request in flight ([`Flight`]) has its own record, and
//! its host's socket travels beside the client's.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::{Duration, Instant};

use prost::Message;

use super::{Downstream, Io, Parts, Protocol, Woken};
use crate::drain::motion::{Frozen, Kind, Mover, Outcome, Permit, Reason, moment};
use crate::http::flight::{Flight, written};
use crate::http::manager::Manager;
use crate::l4::{Arrival, Connection};
use crate::local::Deadline;
use crate::net::Stream;

/// What another epoch has to know. A field is never renumbered and never reused.
#[derive(Clone, PartialEq, Message)]
struct Record {
    /// Read and not used: the beginning of the next requests.
    #[prost(bytes = "vec", tag = "1")]
    unread: Vec<u8>,
    /// Requests begun.
    #[prost(uint32, tag = "2")]
    requests: u32,
    /// For how long it has been idle.
    #[prost(uint64, tag = "3")]
    idle_ms: u64,
    /// It was idle or open for too long, and closes after so long.
    #[prost(uint64, optional, tag = "4")]
    ends_in_ms: Option<u64>,
    /// The connection's number.
    #[prost(uint64, optional, tag = "5")]
    id: Option<u64>,
}

/// A connection with a request in flight. A field is never renumbered and never reused.
#[derive(Clone, PartialEq, Message)]
struct Busy {
    #[prost(message, optional, tag = "1")]
    connection: Option<Record>,
    #[prost(message, optional, tag = "2")]
    flight: Option<written::Record>,
}

impl Downstream {
    /// Offers itself to `mover` when there is room, and is served until then. What is back, because it has something else to do first or
    /// nobody takes it; `None` when it is gone.
    pub(in crate::http) async fn hand_over(self, mover: Mover) -> Option<(Self, Option<Woken>)> {
        if !self.can_move() {
            self.held.stay();
            return Some((self, None));
        }
        match self.permit(mover).await {
            // Thousands wait for room at once, and few are on offer: what an offer needs is not held by those that wait.
            Ok(Some(permit)) => Box::pin(self.offer(permit)).await,
            Ok(None) => {
                self.held.stay();
                Some((self, None))
            }
            Err(woken) => Some((self, woken)),
        }
    }

    /// Whether it is such a connection as can move at all.
    pub(in crate::http) fn can_move(&self) -> bool {
        self.io.borrow().stream.may_move()
    }

    async fn permit(&self, mover: Mover) -> Result<Option<Permit>, Option<Woken>> {
        let mut permit = pin!(mover.permit());
        poll_fn(|context| {
            if let Poll::Ready(permit) = permit.as_mut().poll(context) {
                return Poll::Ready(Ok(permit));
            }
            if self.poll_over(context).is_ready() || !self.held.may_move() {
                return Poll::Ready(Err(None));
            }
            // What has been read ahead is the beginning of a request that the next epoch serves as well.
            if self.has_unread() {
                return Poll::Pending;
            }
            self.poll_fill(context)
                .map(|filled| Err(Some(if matches!(filled, Ok(1..)) { Woken::Bytes } else { Woken::Gone })))
        })
        .await
    }

    /// Offers itself with the request that is in flight, which has waited for the room already. As [`Self::hand_over`].
    pub(in crate::http) async fn hand_over_busy(mut self) -> Option<(Self, Option<Woken>)> {
        let permit = self.flight.get_mut().as_mut().and_then(|flight| flight.permit.take());
        match permit {
            Some(permit) => self.offer(permit).await,
            None => Some((self, Some(Woken::Flight))),
        }
    }

    async fn offer(self, permit: Permit) -> Option<(Self, Option<Woken>)> {
        let Self { manager, facts, timer, held, io, requests, idle_since, ending, mut presence, flight } = self;
        let flight = flight.into_inner();
        let Io { stream, read } = io.into_inner();
        let record = Record {
            unread: read.to_vec(),
            requests: requests.get(),
            idle_ms: moment::ago(idle_since.get()),
            ends_in_ms: timer.left(ending.get()).map(moment::milliseconds),
            id: Some(facts.id),
        };
        let (kind, record) = match &flight {
            None => (Kind::Http1, record.encode_to_vec()),
            Some(flight) => {
                let busy = Busy { connection: Some(record), flight: Some(flight.write(&timer)) };
                (Kind::Exchange, busy.encode_to_vec())
            }
        };
        let mut flight = Midair { manager: &manager, flight };
        let mut sockets = Vec::with_capacity(2);
        // A socket that the reactor does not let go of is lost, and the connection with it.
        sockets.push(stream.into_fd().ok()?);
        if let Some(host) = flight.take_socket() {
            sockets.push(host.into_fd().ok()?);
        }
        let frozen = Frozen {
            kind,
            listener: facts.listener.to_string(),
            peer: facts.peer.socket(),
            local: facts.local.socket(),
            age: facts.accepted.elapsed(),
            sockets,
            record,
        };
        let frozen = match permit.offer(frozen).await {
            Outcome::Taken => {
                flight.moved();
                presence.moved();
                return None;
            }
            Outcome::Refused(frozen, _) => frozen,
        };
        let mut streams = frozen.sockets.into_iter().map(Stream::from_fd);
        let stream = streams.next()?.ok()?;
        let flight = flight.refused(streams.next().transpose().ok()?);
        let woken = flight.is_some().then_some(Woken::Flight);
        if woken.is_none() {
            held.stay();
        }
        let (io, flight) = (RefCell::new(Io { stream, read }), Cell::new(flight));
        Some((Self { manager, facts, timer, held, io, requests, idle_since, ending, presence, flight }, woken))
    }

    /// A connection from another epoch, between two requests.
    ///
    /// # Errors
    /// Its record cannot be read.
    pub(in crate::http) fn thaw(manager: &Rc<Manager>, arrival: Arrival) -> Result<Self, Reason> {
        let record = Record::decode(&*arrival.record).map_err(|_| Reason::Record)?;
        Ok(Self::arriving(manager, arrival.connection, record))
    }

    /// A connection from another epoch, with a request in flight.
    ///
    /// # Errors
    /// Why it cannot be gone on with.
    pub(in crate::http) fn thaw_busy(manager: &Rc<Manager>, arrival: Arrival) -> Result<Self, Reason> {
        let Busy { connection, flight } = Busy::decode(&*arrival.record).map_err(|_| Reason::Record)?;
        let (record, flight) = connection.zip(flight).ok_or(Reason::Record)?;
        let this = Self::arriving(manager, arrival.connection, record);
        let flight = Flight::read(flight, arrival.sockets, manager, &this.timer)?;
        this.flight.set(Some(flight));
        Ok(this)
    }

    fn arriving(manager: &Rc<Manager>, mut connection: Connection, record: Record) -> Self {
        connection.facts.id = record.id.unwrap_or(connection.facts.id);
        let this = Self::new(manager, Parts::arriving(manager, connection, &record.unread));
        let now = Instant::now();
        this.requests.set(record.requests);
        if record.requests > 0 {
            this.presence.spoke(Protocol::Http1);
        }
        this.idle_since.set(moment::before(record.idle_ms));
        let end = record.ends_in_ms.and_then(|left| now.checked_add(Duration::from_millis(left)));
        this.ending.set(end.map_or(Deadline::NEVER, |end| this.timer.at(end)));
        this
    }

    /// It is ours from now on. What it goes on with.
    pub(in crate::http) fn arrived(&mut self) -> Option<Woken> {
        self.presence.arrived();
        let flight = self.flight.get_mut().as_mut()?;
        flight.arrived(&self.manager);
        Some(Woken::Flight)
    }
}

/// The request of a connection on offer, if there is one. Dropped before it is known what became of it, it is lost.
struct Midair<'a> {
    manager: &'a Rc<Manager>,
    flight: Option<Box<Flight>>,
}

impl Midair<'_> {
    fn take_socket(&mut self) -> Option<Stream> {
        self.flight.as_mut()?.take_socket()
    }

    fn moved(mut self) {
        if let Some(flight) = self.flight.take() {
            flight.moved(self.manager);
        }
    }

    fn refused(mut self, socket: Option<Stream>) -> Option<Box<Flight>> {
        let mut flight = self.flight.take()?;
        flight.refused(socket);
        Some(flight)
    }
}

impl Drop for Midair<'_> {
    fn drop(&mut self) {
        if let Some(flight) = self.flight.take() {
            flight.lost(self.manager);
        }
    }
}
