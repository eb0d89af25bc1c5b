//! The client's connection: its socket, what was read and not yet used, and its facts.
//!
//! Everything that must be known to go on with the connection stands in [`Downstream`], not in the locals of a task: between two requests
//! it is all there is, and it is what would be written down to move the connection. Socket and unread bytes are borrowed only
//! within a poll, never across a wait.

use std::cell::{Cell, RefCell};
use std::io::{self, IoSlice};
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::BytesMut;

use crate::codec::head::RequestHead;
use crate::codec::http1::{Decoded, Framing, Limits, Parsed, Scan, parse_request};
use crate::config::model::CodecType;
use crate::drain::{Held, Phase};
use crate::l4::{Connection, Facts};
use crate::local::{Deadline, Timer};
use crate::net::Stream;

use super::failure::Failure;
use super::flight::Flight;
use super::http2::PREFACE;
use super::manager::Manager;
use super::presence::{End, Presence, Protocol};

mod motion;

/// A client's connection.
pub(super) struct Downstream {
    pub(super) manager: Rc<Manager>,
    pub(super) facts: Facts,
    pub(super) timer: Timer,
    pub(super) held: Held,
    io: RefCell<Io>,
    /// A request that nobody works on: it has been suspended, or has come from another epoch.
    pub(super) flight: Cell<Option<Box<Flight>>>,
    /// Requests begun.
    pub(super) requests: Cell<u32>,
    /// When the last exchange ended, or the connection began.
    pub(super) idle_since: Cell<Instant>,
    /// It has been idle or open for too long, and closes then; a request that comes before is its last.
    ending: Cell<Deadline>,
    presence: Presence,
}

struct Io {
    stream: Stream,
    read: BytesMut,
}

/// A connection before anything of its protocol has been used up.
pub(super) struct Parts {
    pub(super) stream: Stream,
    /// Read and not used.
    pub(super) read: BytesMut,
    pub(super) facts: Facts,
    pub(super) held: Held,
    pub(super) presence: Presence,
}

impl Parts {
    /// Of a connection that has been accepted.
    pub(super) fn new(manager: &Rc<Manager>, connection: Connection) -> Self {
        let Connection { stream, facts, held, guard } = connection;
        let mut presence = Presence::new(manager, guard, facts.accepted);
        if facts.tls.is_some() {
            presence.secured();
        }
        Self { stream, read: BytesMut::new(), facts, held, presence }
    }

    /// Of a connection that comes from another epoch, where `read` was read of it.
    fn arriving(manager: &Rc<Manager>, connection: Connection, read: &[u8]) -> Self {
        let Connection { stream, facts, held, guard } = connection;
        let presence = Presence::arriving(manager, guard, facts.accepted);
        Self { stream, read: BytesMut::from(read), facts, held, presence }
    }
}

impl Downstream {
    pub(super) fn new(manager: &Rc<Manager>, parts: Parts) -> Self {
        let Parts { stream, read, facts, held, presence } = parts;
        Self {
            presence,
            manager: manager.clone(),
            timer: manager.local.timers().timer(),
            ending: Cell::new(Deadline::NEVER),
            held,
            io: RefCell::new(Io { stream, read }),
            flight: Cell::new(None),
            requests: Cell::new(0),
            idle_since: Cell::new(facts.accepted),
            facts,
        }
    }

    /// Taken apart, to be gone on with in another protocol.
    pub(super) fn into_parts(self) -> Parts {
        let Io { stream, read } = self.io.into_inner();
        let Self { facts, held, presence, .. } = self;
        Parts { stream, read, facts, held, presence }
    }

    /// What the connection speaks: known from the beginning, or by its first bytes, of which there may be too few.
    pub(super) fn protocol(&self) -> Option<Protocol> {
        if self.presence.has_spoken() || self.manager.config.codec == CodecType::Http1 {
            return Some(Protocol::Http1);
        }
        let read = &self.io.borrow().read;
        let common = read.len().min(PREFACE.len());
        if read[..common] != PREFACE[..common] {
            Some(Protocol::Http1)
        } else if common == PREFACE.len() {
            Some(Protocol::Http2)
        } else {
            None
        }
    }

    /// It is known what the connection speaks.
    pub(super) fn speaks(&self, protocol: Protocol) {
        self.presence.speaks(protocol);
    }

    /// Between requests: ready when there is something to do.
    pub(super) fn poll_parked(&self, context: &mut Context<'_>) -> Poll<Woken> {
        match self.poll_fill(context) {
            Poll::Ready(Ok(read)) if read > 0 => return Poll::Ready(Woken::Bytes),
            Poll::Ready(_) => return Poll::Ready(Woken::Gone),
            Poll::Pending => {}
        }
        if self.held.may_move() {
            return Poll::Ready(Woken::Move);
        }
        ready!(self.poll_time_to_close(context));
        // A request that has arrived is served before the close. The reactor may not have heard of it: then it will shortly.
        match self.io.borrow().stream.has_arrived() {
            Ok(true) => Poll::Pending,
            Ok(false) | Err(_) => Poll::Ready(Woken::Close),
        }
    }

    fn poll_time_to_close(&self, context: &mut Context<'_>) -> Poll<()> {
        if self.poll_over(context).is_ready() {
            return Poll::Ready(());
        }
        if self.ending.get() == Deadline::NEVER {
            ready!(self.poll_too_long(context));
            if self.requests.get() == 0 {
                self.ending.set(self.timer.at(Instant::now()));
                return Poll::Ready(());
            }
            self.ending.set(self.timer.at(Instant::now() + self.manager.drain_timeout()));
        }
        self.timer.poll_until(context, self.ending.get())
    }

    /// It has been idle or open for too long, and the next response is its last.
    pub(super) fn is_ending(&self) -> bool {
        self.ending.get() != Deadline::NEVER || self.is_too_old()
    }

    fn is_too_old(&self) -> bool {
        let limit = self.manager.config.max_connection_duration;
        let old = limit.is_some_and(|limit| self.facts.accepted.elapsed() >= limit);
        if old {
            self.manager.stats.downstream_cx_max_duration_reached.inc();
            self.ending.set(self.timer.at(Instant::now() + self.manager.drain_timeout()));
        }
        old
    }

    fn poll_too_long(&self, context: &mut Context<'_>) -> Poll<()> {
        let config = &self.manager.config;
        let stats = &self.manager.stats;
        let passed = |context: &mut Context<'_>, since: Instant, limit: Option<Duration>| {
            limit.is_some_and(|limit| self.timer.poll_until(context, self.timer.at(since + limit)).is_ready())
        };
        let oldest = config.max_connection_duration.filter(|_| !config.safe_max_connection_duration);
        if passed(context, self.facts.accepted, oldest) {
            stats.downstream_cx_max_duration_reached.inc();
            Poll::Ready(())
        } else if passed(context, self.idle_since.get(), config.idle_timeout) {
            stats.downstream_cx_idle_timeout.inc();
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    }

    /// Reads more. `Ready(Ok(0))` is the end.
    pub(super) fn poll_fill(&self, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let io = &mut *self.io.borrow_mut();
        let filled = ready!(self.manager.local.poll_fill(&mut io.stream, context, &mut io.read));
        match filled {
            Ok(0) | Err(_) => self.presence.ended_by(End::Remote),
            Ok(read) => self.manager.stats.downstream_cx_rx_bytes_total.add(read as u64),
        }
        Poll::Ready(filled)
    }

    /// Writes some of `slices`.
    pub(super) fn poll_write(&self, context: &mut Context<'_>, slices: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let io = &mut *self.io.borrow_mut();
        let written = ready!(io.stream.poll_write_slices(context, slices));
        match written {
            Ok(written) => self.manager.stats.downstream_cx_tx_bytes_total.add(written as u64),
            Err(_) => self.presence.ended_by(End::Remote),
        }
        Poll::Ready(written)
    }

    /// Whether bytes have been read that nobody has used.
    pub(super) fn has_unread(&self) -> bool {
        !self.io.borrow().read.is_empty()
    }

    /// Gives a read buffer back that is no longer needed.
    pub(super) fn settle(&self) {
        self.manager.local.settle(&mut self.io.borrow_mut().read);
    }

    /// Takes a request head from what was read.
    pub(super) fn parse(&self, scan: &mut Scan) -> Result<Option<Parsed<RequestHead>>, Failure> {
        parse_request(&mut self.io.borrow_mut().read, scan, &self.manager.rules).map_err(Failure::Refused)
    }

    /// Takes a part of a request's body from what was read.
    pub(super) fn decode(&self, framing: &mut Framing, trailers: &Limits) -> Result<Decoded, Failure> {
        Ok(framing.decode(&mut self.io.borrow_mut().read, trailers)?)
    }

    /// Forgets what was read.
    pub(super) fn discard(&self) {
        self.io.borrow_mut().read.clear();
    }

    /// Ready when the client has gone, while nothing is expected of it. A request that it sends ahead is kept, and then nothing
    /// more is read before that one's turn.
    pub(super) fn poll_gone(&self, context: &mut Context<'_>) -> Poll<()> {
        if !self.has_unread() && matches!(ready!(self.poll_fill(context)), Ok(0) | Err(_)) {
            return Poll::Ready(());
        }
        self.settle();
        Poll::Pending
    }

    /// Ready when the drain's deadline has passed.
    pub(super) fn poll_over(&self, context: &mut Context<'_>) -> Poll<()> {
        match self.held.phase() {
            Phase::Over => Poll::Ready(()),
            phase => pin!(self.held.changed(phase)).poll(context).map(|_| ()),
        }
    }

    /// Ends the sending side.
    pub(super) fn poll_shutdown(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.io.borrow_mut().stream.poll_end(context)
    }

    /// Makes the close a reset: the client must not take it for the end of a response.
    pub(super) fn reset_on_close(&self) {
        // A socket that cannot be told so is gone already.
        let _ = self.io.borrow().stream.reset_on_close();
    }

    /// Notes that a request is in progress, or is not any more.
    pub(super) fn set_busy(&self, busy: bool) {
        self.presence.set_busy(busy);
    }
}

/// What a parked connection was woken for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Woken {
    /// A request is in flight.
    Flight,
    /// Bytes have been read.
    Bytes,
    /// The client has closed.
    Gone,
    /// It is time to move to the next epoch.
    Move,
    /// It is time to close.
    Close,
}
