//! HTTP/1 connections to one host: a stack of idle ones, last in first out, and a queue of requests that wait while there may be no more.
//!
//! ```text
//!            reuse                    release
//!   idle ●●● ─────▶ Lease (a request) ───────▶ the first who waits, else back on the stack
//!                     ▲                   └──▶ dropped: closed and counted
//!            connect  │ (bounded by connect_timeout; a waiter is bounded by its own timeouts)
//! ```
//!
//! An idle connection costs its socket and a small box: no task, no timer, no buffer. `Pool::sweep` ends those that are too old or
//! that the other side has closed; [`Pool::reuse`] looks once more before it lends one, because a request must not go to a dead one.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use bytes::BytesMut;
use tokio::io::{AsyncRead, ReadBuf};

pub use super::Refused;
use crate::config::model::Address;
use crate::local::{Slot, Timer};
use crate::net::Stream;
use crate::stats::names::ClusterStats;
use crate::upstream::cluster::Common;
use crate::upstream::host::{Counts, bump, drop_one};
use crate::upstream::limits::{Kind, Ticket};

/// The connections of one worker to one host.
pub struct Pool {
    common: Rc<Common>,
    address: Address,
    #[allow(clippy::vec_box, reason = "a connection is lent and returned many times and must not be copied each time")]
    idle: RefCell<Vec<Box<Connection>>>,
    waiting: RefCell<VecDeque<Rc<Slot<Turn>>>>,
    /// Open or being opened, lent or idle.
    live: Cell<u32>,
    counts: Counts,
}

/// What a waiting request is given.
enum Turn {
    /// A connection that has become free.
    Free(Box<Connection>),
    /// One connection less: there may be room for another.
    Room,
}

impl Pool {
    pub(in crate::upstream) fn new(address: Address, common: &Rc<Common>) -> Rc<Self> {
        Rc::new(Self {
            common: common.clone(),
            address,
            idle: RefCell::default(),
            waiting: RefCell::default(),
            live: Cell::new(0),
            counts: Counts::default(),
        })
    }

    /// What has been seen of the host.
    pub(in crate::upstream) fn counts(&self) -> &Counts {
        &self.counts
    }

    /// An idle connection that is still good, for a request.
    ///
    /// # Errors
    /// [`Refused::Overflow`] when `max_requests` is reached.
    pub fn reuse(&self) -> Result<Option<Lease>, Refused> {
        loop {
            let Some(mut connection) = self.idle.borrow_mut().pop() else { return Ok(None) };
            if connection.quiet() {
                return connection.lend(true).map(Some);
            }
        }
    }

    /// A connection for a request when [`Self::reuse`] had none, or none that was good enough: a new one, or, while there may be no
    /// more, the next that becomes free.
    ///
    /// # Errors
    /// See [`Refused`]; all of it is counted here.
    pub async fn connect(self: Rc<Self>, timer: &Timer) -> Result<Lease, Refused> {
        let mut pending = Pending::new(&self.common)?;
        let leased = loop {
            let room = match self.common.limits.take(Kind::Connections) {
                Some(ticket) => Some(ticket),
                None => {
                    self.stats().upstream_cx_overflow.inc();
                    (self.live.get() == 0).then(|| self.common.limits.take_over_limit(Kind::Connections))
                }
            };
            match room {
                Some(ticket) => break self.open(ticket, timer).await.and_then(|connection| connection.lend(false)),
                None => match self.wait().await {
                    Turn::Free(connection) => break connection.lend(true),
                    Turn::Room => {}
                },
            }
        };
        pending.settled(&leased);
        leased
    }

    async fn open(self: &Rc<Self>, ticket: Ticket, timer: &Timer) -> Result<Box<Connection>, Refused> {
        let stats = self.stats();
        stats.upstream_cx_total.inc();
        stats.upstream_cx_http1_total.inc();
        let presence = Presence::new(self);
        let started = Instant::now();
        let deadline = timer.at(started + self.common.model.connect_timeout);
        let stream = {
            let mut connecting = std::pin::pin!(super::open(&self.address, &self.common.model));
            poll_fn(|context| match connecting.as_mut().poll(context) {
                Poll::Ready(Ok(stream)) => Poll::Ready(Ok(stream)),
                Poll::Ready(Err(error)) => Poll::Ready(Err(Refused::Connect(error))),
                Poll::Pending => timer.poll_until(context, deadline).map(|()| Err(Refused::Timeout)),
            })
            .await
        };
        match stream {
            Ok(stream) => {
                let opened = Instant::now();
                stats.upstream_cx_connect_ms.record((opened - started).as_millis() as u64);
                Ok(Box::new(Connection {
                    stream,
                    presence,
                    _ticket: ticket,
                    opened,
                    used: opened,
                    requests: 0,
                    request: None,
                    end: End::Local,
                }))
            }
            Err(refused) => {
                stats.upstream_cx_connect_fail.inc();
                bump(&self.counts.cx_connect_fail);
                if matches!(refused, Refused::Timeout) {
                    stats.upstream_cx_connect_timeout.inc();
                }
                Err(refused)
            }
        }
    }

    async fn wait(self: &Rc<Self>) -> Turn {
        let waiting = Waiting { slot: Rc::default(), pool: self.clone() };
        self.waiting.borrow_mut().push_back(waiting.slot.clone());
        poll_fn(|context| waiting.slot.poll_take(context)).await
    }

    /// Closes idle connections that have been idle for too long or that the host has closed.
    pub(in crate::upstream) fn sweep(&self, now: Instant) {
        if self.idle.borrow().is_empty() {
            return;
        }
        let limit = self.common.idle_timeout();
        self.idle.borrow_mut().retain_mut(|connection| {
            let old = limit.is_some_and(|limit| now.saturating_duration_since(connection.used) >= limit);
            if old {
                self.stats().upstream_cx_idle_timeout.inc();
            }
            !old && connection.quiet()
        });
    }

    /// Idle connections.
    pub fn idle(&self) -> usize {
        self.idle.borrow().len()
    }

    fn keep(&self, connection: Box<Connection>) {
        let next = self.waiting.borrow_mut().pop_front();
        match next {
            Some(slot) => slot.put(Turn::Free(connection)),
            None => self.idle.borrow_mut().push(connection),
        }
    }

    fn room(&self) {
        let next = self.waiting.borrow_mut().pop_front();
        if let Some(slot) = next {
            slot.put(Turn::Room);
        }
    }

    fn stats(&self) -> &ClusterStats {
        &self.common.stats
    }
}

/// A place in the queue; whoever leaves it early passes on what it was given.
struct Waiting {
    slot: Rc<Slot<Turn>>,
    pool: Rc<Pool>,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.pool.waiting.borrow_mut().retain(|slot| !Rc::ptr_eq(slot, &self.slot));
        match self.slot.take() {
            Some(Turn::Free(connection)) => self.pool.keep(connection),
            Some(Turn::Room) => self.pool.room(),
            None => {}
        }
    }
}

/// A request that waits for a connection.
struct Pending<'a> {
    common: &'a Common,
    _ticket: Ticket,
    settled: bool,
}

impl<'a> Pending<'a> {
    fn new(common: &'a Common) -> Result<Self, Refused> {
        let stats = &common.stats;
        let Some(ticket) = common.limits.take(Kind::Pending) else {
            stats.upstream_rq_pending_overflow.inc();
            return Err(Refused::Overflow);
        };
        stats.upstream_rq_pending_total.inc();
        stats.upstream_rq_pending_active.inc();
        Ok(Self { common, _ticket: ticket, settled: false })
    }

    fn settled(&mut self, leased: &Result<Lease, Refused>) {
        self.settled = true;
        if matches!(leased, Err(Refused::Connect(_) | Refused::Timeout)) {
            self.common.stats.upstream_rq_pending_failure_eject.inc();
        }
    }
}

impl Drop for Pending<'_> {
    fn drop(&mut self) {
        self.common.stats.upstream_rq_pending_active.dec();
        if !self.settled {
            self.common.stats.upstream_rq_cancelled.inc();
        }
    }
}

/// That a connection exists, from the first attempt to open it.
struct Presence {
    pool: Rc<Pool>,
}

impl Presence {
    fn new(pool: &Rc<Pool>) -> Self {
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

struct Connection {
    stream: Stream,
    _ticket: Ticket,
    opened: Instant,
    /// When the last request ended.
    used: Instant,
    requests: u32,
    /// While lent.
    request: Option<Ticket>,
    end: End,
    /// Last, so that a waiter finds the ticket free.
    presence: Presence,
}

impl Connection {
    /// Nothing has come since the last response: no end, no error, no bytes that nobody asked for. Costs no system call unless
    /// the runtime has heard of something.
    fn quiet(&mut self) -> bool {
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

    fn lend(mut self: Box<Self>, reused: bool) -> Result<Lease, Refused> {
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

    /// Reads into `buffer`, taking a block where it has none. `Ready(Ok(0))` is the end.
    pub fn poll_fill(&mut self, context: &mut Context<'_>, buffer: &mut BytesMut) -> Poll<io::Result<usize>> {
        let common = &self.connection.presence.pool.common;
        let filled = std::task::ready!(common.local.poll_fill(&mut self.connection.stream, context, buffer));
        match &filled {
            Ok(0) | Err(_) => self.connection.end = End::Remote,
            Ok(read) => common.stats.upstream_cx_rx_bytes_total.add(*read as u64),
        }
        Poll::Ready(filled)
    }

    /// Writes some of `slices`.
    pub fn poll_write(&mut self, context: &mut Context<'_>, slices: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let written = std::task::ready!(self.connection.stream.poll_write_slices(context, slices));
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
