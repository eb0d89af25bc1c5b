//! One connection to a host, as requests see it: how many streams it carries, and whether it takes another.

use std::cell::{Cell, RefCell};
use std::rc::{Rc, Weak};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use bytes::Bytes;
use h2::SendStream;
use h2::client::{ResponseFuture, SendRequest};

use super::{Pool, Refused};
use crate::upstream::host::{bump, drop_one};
use crate::upstream::limits::{Kind, Ticket};

/// A request on its way: its answer to come, and where its body goes.
pub type Sent = (ResponseFuture, SendStream<Bytes>);

/// An open connection.
pub(super) struct Connection {
    pool: Weak<Pool>,
    /// `None`: it takes no more streams, and ends with its last.
    send: RefCell<Option<SendRequest<Bytes>>>,
    streams: Cell<u32>,
    /// Requests that it has carried.
    requests: Cell<u32>,
    /// When the last stream ended.
    used: Cell<Instant>,
    /// We end it.
    by_us: Cell<bool>,
    /// The host's settings have come, or it is gone.
    settled: Cell<bool>,
    /// It ended before they came.
    silent: Cell<bool>,
    /// Who waits for them.
    unsettled: RefCell<Vec<Waker>>,
}

impl Connection {
    pub(super) fn new(pool: &Rc<Pool>, send: SendRequest<Bytes>) -> Rc<Self> {
        Rc::new(Self {
            pool: Rc::downgrade(pool),
            send: RefCell::new(Some(send)),
            streams: Cell::new(0),
            requests: Cell::new(0),
            used: Cell::new(Instant::now()),
            by_us: Cell::new(false),
            settled: Cell::new(false),
            silent: Cell::new(false),
            unsettled: RefCell::default(),
        })
    }

    /// Whether it takes another stream now. One that the host has ended, or that has had its requests, takes none any more.
    pub(super) fn has_room(&self) -> bool {
        let mut slot = self.send.borrow_mut();
        let Some(send) = slot.as_mut() else { return false };
        // The crate refuses new streams once the host has said that it goes away, or the connection has broken.
        if let Poll::Ready(Err(_)) = send.poll_ready(&mut Context::from_waker(Waker::noop())) {
            *slot = None;
            return false;
        }
        let Some(pool) = self.pool.upgrade() else { return false };
        let mut most = (pool.options().max_concurrent_streams as usize).min(send.current_max_send_streams());
        if !self.settled.get() {
            most = most.min(pool.learned.get() as usize);
        }
        (self.streams.get() as usize) < most
    }

    /// It takes no new streams any more.
    pub(super) fn is_closing(&self) -> bool {
        self.send.borrow().is_none()
    }

    /// Ends it when its last stream has ended.
    pub(super) fn close(&self) {
        self.by_us.set(true);
        self.send.borrow_mut().take();
    }

    /// It has ended, or is about to.
    pub(super) fn gone(&self) {
        self.send.borrow_mut().take();
        self.silent.set(!self.settled.get());
        self.settle();
    }

    /// The host's settings have come.
    pub(super) fn settle(&self) {
        if !self.settled.replace(true) {
            let waiting = std::mem::take(&mut *self.unsettled.borrow_mut());
            waiting.into_iter().for_each(Waker::wake);
        }
    }

    pub(super) fn ended_by_us(&self) -> bool {
        self.by_us.get()
    }

    pub(super) fn requests(&self) -> u32 {
        self.requests.get()
    }

    pub(super) fn streams(&self) -> u32 {
        self.streams.get()
    }

    /// How long it has carried nothing; zero while it carries something.
    pub(super) fn idle(&self, now: Instant) -> Duration {
        if self.streams.get() > 0 { Duration::ZERO } else { now.saturating_duration_since(self.used.get()) }
    }

    /// A place for a request. The caller has seen that there is room.
    pub(super) fn lend(self: Rc<Self>) -> Result<Lease, Refused> {
        let (Some(pool), Some(send)) = (self.pool.upgrade(), self.send.borrow().clone()) else {
            return Err(Refused::Connect(std::io::ErrorKind::NotConnected.into()));
        };
        let stats = pool.stats();
        let Some(ticket) = pool.common.limits.take(Kind::Requests) else {
            stats.upstream_rq_active_overflow.inc();
            return Err(Refused::Overflow);
        };
        stats.upstream_rq_total.inc();
        stats.upstream_rq_active.inc();
        bump(&pool.counts.rq_total);
        bump(&pool.counts.rq_active);
        let reused = self.requests.get() > 0;
        self.requests.set(self.requests.get() + 1);
        self.streams.set(self.streams.get() + 1);
        let limit = pool.common.model.max_requests_per_connection;
        if limit != 0 && self.requests.get() >= limit {
            stats.upstream_cx_max_requests.inc();
            self.close();
        }
        Ok(Lease { connection: self, pool, send, reused, begun: false, _ticket: ticket })
    }
}

/// A place for one request on a connection. Dropped, the place is free; a stream that is not over is reset by the crate.
pub struct Lease {
    connection: Rc<Connection>,
    pool: Rc<Pool>,
    send: SendRequest<Bytes>,
    reused: bool,
    /// Its stream has begun, and is not known to be over.
    begun: bool,
    _ticket: Ticket,
}

impl Lease {
    /// Sends the head; `ends` says that there is no body.
    ///
    /// # Errors
    /// The connection takes it no more: nothing was sent.
    pub fn send(&mut self, request: http::Request<()>, ends: bool) -> Result<Sent, h2::Error> {
        let sent = self.send.send_request(request, ends);
        self.begun = sent.is_ok();
        sent
    }

    /// The stream has ended both ways, or with its connection: whoever drops this gives nothing up.
    pub fn ended(&mut self) {
        self.begun = false;
    }

    /// The host has reset the stream.
    pub fn was_reset(&mut self) {
        if std::mem::take(&mut self.begun) {
            self.pool.stats().upstream_rq_rx_reset.inc();
        }
    }

    /// Whether another request went over the connection before.
    pub fn reused(&self) -> bool {
        self.reused
    }

    /// The host broke the protocol.
    pub fn broken(&self) {
        self.pool.stats().upstream_cx_protocol_error.inc();
    }

    /// Ready with whether the host takes extended CONNECT (RFC 8441, 3), which its settings say; with `None` if the connection ended before them. They come
    /// at once or not at all: the caller bounds the wait.
    pub fn poll_takes_extended_connect(&self, context: &mut Context<'_>) -> Poll<Option<bool>> {
        if !self.connection.settled.get() {
            let mut waiting = self.connection.unsettled.borrow_mut();
            if !waiting.iter().any(|waker| waker.will_wake(context.waker())) {
                waiting.push(context.waker().clone());
            }
            return Poll::Pending;
        }
        Poll::Ready((!self.connection.silent.get()).then(|| self.send.is_extended_connect_protocol_enabled()))
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.pool.stats().upstream_rq_active.dec();
        if self.begun {
            self.pool.stats().upstream_rq_tx_reset.inc();
        }
        drop_one(&self.pool.counts.rq_active);
        let connection = &self.connection;
        connection.streams.set(connection.streams.get().saturating_sub(1));
        if connection.settled.get() {
            self.pool.learned.set(u32::try_from(self.send.current_max_send_streams()).unwrap_or(u32::MAX).max(1));
        }
        connection.used.set(Instant::now());
        self.pool.tell_one();
    }
}
