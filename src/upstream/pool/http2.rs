//! HTTP/2 connections to one host: few, each shared by many requests.
//!
//! ```text
//!   reuse ── a connection with room for another stream ──▶ Lease (a request)
//!   connect ── none: one is opened, by a task of its own; all who wait are told when it is there, or that it is not
//! ```
//!
//! A connection has room while it carries fewer streams than both sides allow, the host has not said that it goes away, and it has not had
//! `max_requests_per_connection` requests. One without room gets no new request and ends with its last. The task that opens
//! a connection also drives it: frames, keep-alive pings, its end. A request that is given up leaves both alone.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use http::Version;

pub use super::Refused;
use super::pending::Pending;
use crate::config::model::{Address, Http2Options, UpstreamProtocol};
use crate::local::{Slot, Timer};
use crate::stats::names::{ClusterStats, Http2Stats};
use crate::upstream::cluster::Common;
use crate::upstream::host::Counts;
use crate::upstream::limits::{Kind, Ticket};

mod connection;
mod drive;

use connection::Connection;
pub use connection::{Lease, Sent};

/// The HTTP/2 connections of one worker to one host.
pub struct Pool {
    common: Rc<Common>,
    address: Address,
    options: Arc<Http2Options>,
    codec: Http2Stats,
    open: RefCell<Vec<Rc<Connection>>>,
    waiting: RefCell<VecDeque<Rc<Slot<Turn>>>>,
    /// Connections that are being opened.
    opening: Cell<u32>,
    /// Open or being opened.
    live: Cell<u32>,
    /// Streams that the host takes on a connection, as they were when a request was last over: a new connection takes no more before its settings have come.
    learned: Cell<u32>,
    counts: Rc<Counts>,
}

/// What a waiting request is told.
enum Turn {
    /// Look again: there may be a connection, or room for one.
    Look,
    /// No connection could be opened.
    Failed(Failed),
}

#[derive(Clone, Copy)]
enum Failed {
    Connect(io::ErrorKind),
    Timeout,
}

impl From<Failed> for Refused {
    fn from(failed: Failed) -> Self {
        match failed {
            Failed::Connect(kind) => Self::Connect(kind.into()),
            Failed::Timeout => Self::Timeout,
        }
    }
}

impl Pool {
    pub(in crate::upstream) fn new(
        address: Address,
        common: &Rc<Common>,
        options: &Arc<Http2Options>,
        codec: &Http2Stats,
        counts: &Rc<Counts>,
    ) -> Rc<Self> {
        Rc::new(Self {
            common: common.clone(),
            address,
            options: options.clone(),
            codec: codec.clone(),
            open: RefCell::default(),
            waiting: RefCell::default(),
            opening: Cell::new(0),
            live: Cell::new(0),
            learned: Cell::new(u32::MAX),
            counts: counts.clone(),
        })
    }

    /// Whether requests that come by `version` go this way.
    pub(in crate::upstream) fn is_for(&self, version: Version) -> bool {
        matches!(self.common.model.protocol, UpstreamProtocol::Http2(_)) || version == Version::HTTP_2
    }

    fn options(&self) -> &Http2Options {
        &self.options
    }

    /// A place on a connection that is open.
    ///
    /// # Errors
    /// [`Refused::Overflow`] when `max_requests` is reached.
    pub fn reuse(&self) -> Result<Option<Lease>, Refused> {
        // Dropped only after the borrow: a connection that ends looks at the list.
        let mut full = Vec::new();
        let found = {
            let mut open = self.open.borrow_mut();
            loop {
                match open.iter().position(|connection| connection.has_room()) {
                    Some(at) => break Some(open[at].clone()),
                    None => {
                        let closing = open.iter().position(|connection| connection.is_closing());
                        match closing {
                            Some(at) => full.push(open.swap_remove(at)),
                            None => break None,
                        }
                    }
                }
            }
        };
        drop(full);
        found.map(|connection| connection.lend()).transpose()
    }

    /// A place on a connection when [`Self::reuse`] had none: on a new one, or, while there may be no more, the next that is free.
    ///
    /// # Errors
    /// See [`Refused`]; all of it is counted here.
    pub async fn connect(self: Rc<Self>, _timer: &Timer) -> Result<Lease, Refused> {
        let mut pending = Pending::new(&self.common)?;
        let leased = loop {
            match self.reuse() {
                Ok(Some(lease)) => break Ok(lease),
                Ok(None) => {}
                Err(refused) => break Err(refused),
            }
            self.grow();
            match self.wait().await {
                Turn::Look => {}
                Turn::Failed(failed) => break Err(failed.into()),
            }
        };
        pending.settled(&leased);
        leased
    }

    /// Opens one more connection, unless those that are being opened are enough for all who wait.
    fn grow(self: &Rc<Self>) {
        let waiting = self.waiting.borrow().len() as u64 + 1;
        let each = self.options().max_concurrent_streams.min(self.learned.get());
        let expected = u64::from(self.opening.get()) * u64::from(each);
        if waiting <= expected {
            return;
        }
        let ticket = match self.common.limits.take(Kind::Connections) {
            Some(ticket) => ticket,
            None => {
                self.stats().upstream_cx_overflow.inc();
                if self.live.get() > 0 {
                    return;
                }
                self.common.limits.take_over_limit(Kind::Connections)
            }
        };
        // Counted before it begins: whoever comes at the same moment sees it.
        self.opening.set(self.opening.get() + 1);
        tokio::task::spawn_local(self.clone().open(ticket));
    }

    /// Opens a connection and drives it to its end.
    async fn open(self: Rc<Self>, ticket: Ticket) {
        let opened = drive::open(&self, ticket).await;
        self.opening.set(self.opening.get() - 1);
        match opened {
            Ok((connection, driver)) => {
                self.open.borrow_mut().push(connection);
                self.tell_all(|| Turn::Look);
                driver.run().await;
                self.open.borrow_mut().retain(|connection| !connection.is_closing());
                self.tell_one();
            }
            Err(failed) => self.tell_all(|| Turn::Failed(failed)),
        }
    }

    async fn wait(self: &Rc<Self>) -> Turn {
        let waiting = Waiting { slot: Rc::default(), pool: self.clone() };
        self.waiting.borrow_mut().push_back(waiting.slot.clone());
        poll_fn(|context| waiting.slot.poll_take(context)).await
    }

    fn tell_all(&self, turn: impl Fn() -> Turn) {
        let waiting = std::mem::take(&mut *self.waiting.borrow_mut());
        for slot in waiting {
            slot.put(turn());
        }
    }

    /// There is room for one more.
    fn tell_one(&self) {
        let next = self.waiting.borrow_mut().pop_front();
        if let Some(slot) = next {
            slot.put(Turn::Look);
        }
    }

    /// Ends connections that have carried nothing for too long.
    pub(in crate::upstream) fn sweep(&self, now: Instant) {
        let Some(limit) = self.common.idle_timeout() else { return };
        let idle: Vec<Rc<Connection>> =
            self.open.borrow().iter().filter(|open| open.idle(now) >= limit).cloned().collect();
        for connection in idle {
            self.stats().upstream_cx_idle_timeout.inc();
            connection.close();
        }
    }

    fn stats(&self) -> &ClusterStats {
        &self.common.stats
    }
}

/// A place in the queue; whoever leaves it early passes on what it was told.
struct Waiting {
    slot: Rc<Slot<Turn>>,
    pool: Rc<Pool>,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.pool.waiting.borrow_mut().retain(|slot| !Rc::ptr_eq(slot, &self.slot));
        if let Some(Turn::Look) = self.slot.take() {
            self.pool.tell_one();
        }
    }
}
