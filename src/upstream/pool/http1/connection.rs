//! One connection to a host: idle in the pool, or lent to a request as a [`Lease`].
//!
//! What a connection was and how it ended is counted when it is dropped, whoever drops it.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Instant;

use bytes::BytesMut;
use tokio::io::{AsyncRead, ReadBuf};

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
}

/// An open connection.
pub(super) struct Connection {
    stream: Stream,
    _ticket: Ticket,
    opened: Instant,
    /// When the last request ended.
    pub(super) used: Instant,
    requests: u32,
    /// While lent.
    request: Option<Ticket>,
    end: End,
    /// Last, so that a waiter finds the ticket free.
    pub(super) presence: Presence,
}

impl Connection {
    /// One that has just been opened.
    pub(super) fn new(stream: Stream, presence: Presence, ticket: Ticket) -> Box<Self> {
        let opened = Instant::now();
        Box::new(Self {
            stream,
            _ticket: ticket,
            opened,
            used: opened,
            requests: 0,
            request: None,
            end: End::Local,
            presence,
        })
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
                self.presence.pool.stats().upstream_cx_protocol_error.inc();
                false
            }
            Poll::Ready(_) => {
                self.end = End::Remote;
                false
            }
        }
    }

    pub(super) fn lend(mut self: Box<Self>, reused: bool) -> Result<Lease, Refused> {
        let common = &self.presence.pool.common;
        let Some(ticket) = common.limits.take(Kind::Requests) else {
            common.stats.upstream_rq_active_overflow.inc();
            let pool = self.presence.pool.clone();
            pool.keep(self);
            return Err(Refused::Overflow);
        };
        common.stats.upstream_rq_total.inc();
        common.stats.upstream_rq_active.inc();
        bump(&self.presence.pool.counts.rq_total);
        bump(&self.presence.pool.counts.rq_active);
        self.request = Some(ticket);
        self.requests += 1;
        Ok(Lease { connection: self, reused })
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

impl Drop for Connection {
    fn drop(&mut self) {
        let busy = self.return_request();
        let stats = self.presence.pool.stats();
        stats.upstream_cx_destroy.inc();
        stats.upstream_cx_length_ms.record(self.opened.elapsed().as_millis() as u64);
        stats.upstream_rq_per_cx.record(u64::from(self.requests));
        let (destroy, with_request) = match self.end {
            End::Local => (&stats.upstream_cx_destroy_local, &stats.upstream_cx_destroy_local_with_active_rq),
            End::Remote => (&stats.upstream_cx_destroy_remote, &stats.upstream_cx_destroy_remote_with_active_rq),
        };
        destroy.inc();
        if busy {
            stats.upstream_cx_destroy_with_active_rq.inc();
            with_request.inc();
        }
    }
}

/// A connection lent to one request. Dropped, it is closed (and counted as closed with a request in flight).
pub struct Lease {
    connection: Box<Connection>,
    reused: bool,
}

impl Lease {
    /// Whether another request went over it before.
    pub fn reused(&self) -> bool {
        self.reused
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
        let common = &self.connection.presence.pool.common;
        let filled = ready!(common.local.poll_fill(&mut self.connection.stream, context, buffer));
        match &filled {
            Ok(0) | Err(_) => self.connection.end = End::Remote,
            Ok(read) => common.stats.upstream_cx_rx_bytes_total.add(*read as u64),
        }
        Poll::Ready(filled)
    }

    /// Writes some of `slices`.
    pub fn poll_write(&mut self, context: &mut Context<'_>, slices: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let written = ready!(self.connection.stream.poll_write_slices(context, slices));
        match &written {
            Ok(written) => {
                self.connection.presence.pool.stats().upstream_cx_tx_bytes_total.add(*written as u64);
            }
            Err(_) => self.connection.end = End::Remote,
        }
        Poll::Ready(written)
    }

    /// The exchange is complete on both sides and the host keeps the connection: for the next request.
    pub fn release(self) {
        let mut connection = self.connection;
        connection.return_request();
        let pool = connection.presence.pool.clone();
        let limit = pool.common.model.max_requests_per_connection;
        if limit != 0 && connection.requests >= limit {
            pool.stats().upstream_cx_max_requests.inc();
            return;
        }
        connection.used = Instant::now();
        pool.keep(connection);
    }

    /// The exchange is complete and the host does not keep the connection.
    pub fn retire(self) {
        let mut connection = self.connection;
        connection.return_request();
        connection.presence.pool.stats().upstream_cx_close_notify.inc();
    }

    /// The host broke the protocol.
    pub fn broken(self) {
        self.connection.presence.pool.stats().upstream_cx_protocol_error.inc();
    }
}
