//! One connection to a host: idle in the pool, or lent to a request as a [`Lease`].
//!
//! What a connection was and how it ended is counted when it is dropped, whoever drops it. A connection is a socket and a [`Place`]: what it takes
//! of the cluster's limits and how it shows in its statistics. The two can be taken apart, because the socket may move to another epoch while
//! the place is given up here and taken there.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Instant;

use bytes::BytesMut;
use tokio::io::{AsyncRead, ReadBuf};

use crate::config::model::Address;
use crate::net::{PeerAddress, Stream};
use crate::upstream::host::{bump, drop_one};
use crate::upstream::limits::{Kind, Ticket};

use super::{Pool, Refused};

/// That a connection exists, from the first attempt to open it.
pub(super) struct Presence {
    pool: Rc<Pool>,
}

impl Presence {
    pub(super) fn new(pool: &Rc<Pool>) -> Self {
        pool.live.set(pool.live.get() + 1);
        pool.stats().upstream_cx_active.inc();
        bump(&pool.counts.cx_active);
        bump(&pool.counts.cx_total);
        Self { pool: pool.clone() }
    }

    /// Of a connection that another epoch has opened and counted.
    fn arriving(pool: &Rc<Pool>) -> Self {
        pool.live.set(pool.live.get() + 1);
        pool.stats().upstream_cx_active.inc();
        bump(&pool.counts.cx_active);
        Self { pool: pool.clone() }
    }
}

impl Drop for Presence {
    fn drop(&mut self) {
        self.pool.live.set(self.pool.live.get() - 1);
        self.pool.stats().upstream_cx_active.dec();
        drop_one(&self.pool.counts.cx_active);
        self.pool.room();
    }
}

/// Who ended a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Local,
    Remote,
    /// It goes on in another epoch, or has not begun here.
    Moved,
}

/// An open connection.
pub(super) struct Connection {
    stream: Stream,
    pub(super) place: Place,
}

/// What an open connection takes of its cluster.
pub struct Place {
    _ticket: Ticket,
    opened: Instant,
    /// When the last request ended.
    pub(super) used: Instant,
    requests: u32,
    /// While lent.
    request: Option<Ticket>,
    /// While lent: it was kept before.
    reused: bool,
    end: End,
    /// Last, so that a waiter finds the ticket free.
    presence: Presence,
}

impl Place {
    /// A place for a connection, lent to a request, that another epoch has opened: counted as open, not as opened, and until
    /// [`Self::arrived`] not as closed either.
    pub(super) fn take(pool: &Rc<Pool>, opened: Instant, requests: u32, reused: bool) -> Option<Self> {
        let common = &pool.common;
        let ticket = common.limits.take(Kind::Connections)?;
        let request = common.limits.take(Kind::Requests)?;
        common.stats.upstream_rq_active.inc();
        bump(&pool.counts.rq_active);
        Some(Self {
            _ticket: ticket,
            opened,
            used: opened,
            requests,
            request: Some(request),
            reused,
            end: End::Moved,
            presence: Presence::arriving(pool),
        })
    }

    /// The cluster's name.
    pub fn cluster(&self) -> &str {
        &self.presence.pool.common.model.name
    }

    /// Where the host is.
    pub fn address(&self) -> &Address {
        &self.presence.pool.address
    }

    /// When the connection was made.
    pub fn opened(&self) -> Instant {
        self.opened
    }

    /// Requests that it was lent to.
    pub fn requests(&self) -> u32 {
        self.requests
    }

    /// Whether it was kept before the request that has it.
    pub fn reused(&self) -> bool {
        self.reused
    }

    /// The connection is ours from now on: its end will be one.
    pub fn arrived(&mut self) {
        self.end = End::Local;
    }

    /// Gives the place up without an end: the connection lives on elsewhere.
    pub fn moved(mut self) {
        self.end = End::Moved;
    }

    fn return_request(&mut self) -> bool {
        let lent = self.request.take().is_some();
        if lent {
            self.presence.pool.stats().upstream_rq_active.dec();
            drop_one(&self.presence.pool.counts.rq_active);
        }
        lent
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let busy = self.return_request();
        let stats = self.presence.pool.stats();
        let (destroy, with_request) = match self.end {
            End::Moved => return,
            End::Local => (&stats.upstream_cx_destroy_local, &stats.upstream_cx_destroy_local_with_active_rq),
            End::Remote => (&stats.upstream_cx_destroy_remote, &stats.upstream_cx_destroy_remote_with_active_rq),
        };
        stats.upstream_cx_destroy.inc();
        stats.upstream_cx_length_ms.record(self.opened.elapsed().as_millis() as u64);
        stats.upstream_rq_per_cx.record(u64::from(self.requests));
        destroy.inc();
        if busy {
            stats.upstream_cx_destroy_with_active_rq.inc();
            with_request.inc();
        }
    }
}

impl Connection {
    /// One that has just been opened.
    pub(super) fn new(stream: Stream, presence: Presence, ticket: Ticket) -> Box<Self> {
        let opened = Instant::now();
        let place = Place {
            _ticket: ticket,
            opened,
            used: opened,
            requests: 0,
            request: None,
            reused: false,
            end: End::Local,
            presence,
        };
        Box::new(Self { stream, place })
    }

    /// Nothing has come since the last response: no end, no error, no bytes that nobody asked for. Costs no system call unless
    /// the runtime has heard of something.
    pub(super) fn quiet(&mut self) -> bool {
        let mut byte = [0u8; 1];
        let mut buffer = ReadBuf::new(&mut byte);
        let mut context = Context::from_waker(Waker::noop());
        match Pin::new(&mut self.stream).poll_read(&mut context, &mut buffer) {
            Poll::Pending => true,
            Poll::Ready(Ok(())) if !buffer.filled().is_empty() => {
                self.place.presence.pool.stats().upstream_cx_protocol_error.inc();
                false
            }
            Poll::Ready(_) => {
                self.place.end = End::Remote;
                false
            }
        }
    }

    pub(super) fn lend(mut self: Box<Self>, reused: bool) -> Result<Lease, Refused> {
        let common = &self.place.presence.pool.common;
        let Some(ticket) = common.limits.take(Kind::Requests) else {
            common.stats.upstream_rq_active_overflow.inc();
            let pool = self.place.presence.pool.clone();
            pool.keep(self);
            return Err(Refused::Overflow);
        };
        common.stats.upstream_rq_total.inc();
        common.stats.upstream_rq_active.inc();
        bump(&self.place.presence.pool.counts.rq_total);
        bump(&self.place.presence.pool.counts.rq_active);
        self.place.request = Some(ticket);
        self.place.requests = self.place.requests.saturating_add(1);
        self.place.reused = reused;
        Ok(Lease { connection: self })
    }
}

/// A connection lent to one request. Dropped, it is closed (and counted as closed with a request in flight).
pub struct Lease {
    connection: Box<Connection>,
}

impl Lease {
    /// Whether another request went over it before.
    pub fn reused(&self) -> bool {
        self.connection.place.reused
    }

    /// What it takes of its cluster.
    pub fn place(&self) -> &Place {
        &self.connection.place
    }

    /// See [`Stream::may_move`].
    pub fn may_move(&self) -> bool {
        self.connection.stream.may_move()
    }

    /// See [`Place::arrived`].
    pub fn arrived(&mut self) {
        self.connection.place.arrived();
    }

    /// The two together again.
    pub fn new(stream: Stream, place: Place) -> Self {
        Self { connection: Box::new(Connection { stream, place }) }
    }

    /// The socket and its place.
    pub fn into_parts(self) -> (Stream, Place) {
        let Connection { stream, place } = *self.connection;
        (stream, place)
    }

    /// Our own address.
    ///
    /// # Errors
    /// The system does not say.
    pub fn local_address(&self) -> io::Result<PeerAddress> {
        self.connection.stream.local_address()
    }

    /// Reads into `buffer`, taking a block where it has none. `Ready(Ok(0))` is the end.
    pub fn poll_fill(&mut self, context: &mut Context<'_>, buffer: &mut BytesMut) -> Poll<io::Result<usize>> {
        let common = &self.connection.place.presence.pool.common;
        let filled = ready!(common.local.poll_fill(&mut self.connection.stream, context, buffer));
        match &filled {
            Ok(0) | Err(_) => self.connection.place.end = End::Remote,
            Ok(read) => common.stats.upstream_cx_rx_bytes_total.add(*read as u64),
        }
        Poll::Ready(filled)
    }

    /// Writes some of `slices`.
    pub fn poll_write(&mut self, context: &mut Context<'_>, slices: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let written = ready!(self.connection.stream.poll_write_slices(context, slices));
        match &written {
            Ok(written) => {
                self.connection.place.presence.pool.stats().upstream_cx_tx_bytes_total.add(*written as u64);
            }
            Err(_) => self.connection.place.end = End::Remote,
        }
        Poll::Ready(written)
    }

    /// Ends the sending side.
    pub fn poll_end(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.connection.stream.poll_end(context)
    }

    /// Makes the close a reset: the host must not take it for an end.
    pub fn reset_on_close(&self) {
        // A socket that cannot be told so is gone already.
        let _ = self.connection.stream.reset_on_close();
    }

    /// The exchange is complete on both sides and the host keeps the connection: for the next request.
    pub fn release(self) {
        let mut connection = self.connection;
        connection.place.return_request();
        let pool = connection.place.presence.pool.clone();
        let limit = pool.common.model.max_requests_per_connection;
        if limit != 0 && connection.place.requests >= limit {
            pool.stats().upstream_cx_max_requests.inc();
            return;
        }
        connection.place.used = Instant::now();
        pool.keep(connection);
    }

    /// The exchange is complete and the host does not keep the connection.
    pub fn retire(self) {
        let mut connection = self.connection;
        connection.place.return_request();
        connection.place.presence.pool.stats().upstream_cx_close_notify.inc();
    }

    /// The host broke the protocol.
    pub fn broken(self) {
        self.connection.place.presence.pool.stats().upstream_cx_protocol_error.inc();
    }
}
