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
use std::rc::Rc;
use std::task::Poll;
use std::time::Instant;

pub use super::Refused;
use super::pending::Pending;
use crate::config::model::Address;
use crate::local::{Slot, Timer};
use crate::stats::names::ClusterStats;
use crate::upstream::cluster::Common;
use crate::upstream::host::{Counts, bump};
use crate::upstream::limits::{Kind, Ticket};

mod connection;

use connection::{Connection, Presence};
pub use connection::{Lease, Place};

/// The connections of one worker to one host.
pub struct Pool {
    common: Rc<Common>,
    address: Address,
    #[allow(clippy::vec_box, reason = "a connection is lent and returned many times and must not be copied each time")]
    idle: RefCell<Vec<Box<Connection>>>,
    waiting: RefCell<VecDeque<Rc<Slot<Turn>>>>,
    /// Open or being opened, lent or idle.
    live: Cell<u32>,
    counts: Rc<Counts>,
    /// What comes back is kept; not where the cluster does not have the host any more.
    keeps: bool,
}

/// What a waiting request is given.
enum Turn {
    /// A connection that has become free.
    Free(Box<Connection>),
    /// One connection less: there may be room for another.
    Room,
}

impl Pool {
    /// Of a host; `keeps` says whether connections are kept for a next request.
    pub(in crate::upstream) fn new(
        address: Address,
        common: &Rc<Common>,
        counts: &Rc<Counts>,
        keeps: bool,
    ) -> Rc<Self> {
        Rc::new(Self {
            common: common.clone(),
            address,
            idle: RefCell::default(),
            waiting: RefCell::default(),
            live: Cell::new(0),
            counts: counts.clone(),
            keeps,
        })
    }

    /// A place for a connection, lent to a request, that another epoch has opened `requests` requests ago; `None` when a limit is reached.
    pub fn adopt(self: &Rc<Self>, opened: Instant, requests: u32, reused: bool) -> Option<Place> {
        Place::take(self, opened, requests, reused)
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
                stats.upstream_cx_connect_ms.record(started.elapsed().as_millis() as u64);
                Ok(Connection::new(stream, presence, ticket))
            }
            Err(refused) => {
                bump(&self.counts.cx_connect_fail);
                super::count_unmade(stats, matches!(refused, Refused::Timeout));
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
            let old = limit.is_some_and(|limit| now.saturating_duration_since(connection.place.used) >= limit);
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
            None if self.keeps => self.idle.borrow_mut().push(connection),
            None => {}
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
