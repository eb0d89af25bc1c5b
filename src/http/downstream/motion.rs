//! A client's connection between two requests, on its way to another epoch and back.
//!
//! It is its socket, the bytes that were read ahead, how many requests it has had and for how long it has been idle; routes, limits and filters are
//! those of whoever serves the next request. What arrives while it moves waits in the socket.

use std::cell::RefCell;
use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use prost::Message;

use super::{Downstream, End, Io, Presence, Woken};
use crate::drain::motion::{Frozen, Kind, Mover, Outcome, Permit, Reason};
use crate::l4::Arrival;
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
}

impl Downstream {
    /// Offers itself to `mover` when there is room, and is served until then. What is back, because it has something else to do first or
    /// nobody takes it; `None` when it is gone.
    pub(in crate::http) async fn hand_over(self, mover: Mover) -> Option<(Self, Option<Woken>)> {
        match self.permit(mover).await {
            Ok(Some(permit)) => self.offer(permit).await,
            Ok(None) => {
                self.held.stay();
                Some((self, None))
            }
            Err(woken) => Some((self, woken)),
        }
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

    async fn offer(self, permit: Permit) -> Option<(Self, Option<Woken>)> {
        let Self { manager, facts, timer, held, io, requests, idle_since, ending, mut presence } = self;
        let Io { stream, read } = io.into_inner();
        let milliseconds = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let record = Record {
            unread: read.to_vec(),
            requests: requests.get(),
            idle_ms: milliseconds(idle_since.get().elapsed()),
            ends_in_ms: timer.left(ending.get()).map(milliseconds),
        };
        // A socket that the reactor does not let go of is lost, and the connection with it.
        let socket = stream.into_fd().ok()?;
        let frozen = Frozen {
            kind: Kind::Http1,
            listener: facts.listener.to_string(),
            peer: facts.peer.socket(),
            local: facts.local.socket(),
            age: facts.accepted.elapsed(),
            sockets: vec![socket],
            record: record.encode_to_vec(),
        };
        let back = match permit.offer(frozen).await {
            Outcome::Taken => {
                presence.moved();
                return None;
            }
            Outcome::Refused(frozen, _) => frozen.sockets.into_iter().next(),
        };
        held.stay();
        let stream = Stream::from_fd(back?).ok()?;
        let io = RefCell::new(Io { stream, read });
        Some((Self { manager, facts, timer, held, io, requests, idle_since, ending, presence }, None))
    }

    /// A connection from another epoch.
    ///
    /// # Errors
    /// Its record cannot be read.
    pub(in crate::http) fn thaw(manager: &Rc<super::Manager>, arrival: Arrival) -> Result<Self, Reason> {
        let record = Record::decode(&*arrival.record).map_err(|_| Reason::Record)?;
        let this = Self::with_presence(manager, arrival.connection, Presence::arriving);
        let now = Instant::now();
        this.io.borrow_mut().read = BytesMut::from(&*record.unread);
        this.requests.set(record.requests);
        this.idle_since.set(now.checked_sub(Duration::from_millis(record.idle_ms)).unwrap_or(now));
        let end = record.ends_in_ms.and_then(|left| now.checked_add(Duration::from_millis(left)));
        this.ending.set(end.map_or(Deadline::NEVER, |end| this.timer.at(end)));
        Ok(this)
    }

    /// It is ours from now on.
    pub(in crate::http) fn arrived(&mut self) {
        self.presence.arrived();
    }
}

impl Presence {
    pub(in crate::http) fn arrived(&mut self) {
        self.end.set(End::Local);
        self.guard.arrived();
    }

    pub(in crate::http) fn moved(&mut self) {
        self.end.set(End::Moved);
        self.guard.moved();
    }
}
