//! A client's HTTP/2 connection: the `h2` crate's frames and all of its streams, driven by one task.
//!
//! ```text
//!   accepted ─▶ streams, each a request of its own ([`super::stream`]) ─▶ the last has ended, nobody wants more: closed
//!      │ drain begins, idle or open for too long, enough requests: GOAWAY in two steps (RFC 9113, 6.8)
//!      ▼
//!   no stream that could have been served is refused; the connection ends with its last stream, at the drain's deadline at the latest
//! ```
//!
//! A stream may become a tunnel (an extended CONNECT with `allow_connect`, or a CONNECT): it counts among the streams for as long as it lives.
//!
//! On drain the GOAWAY goes out at once, on idle connections too. A connection does not move to another epoch: what the crate knows of it cannot be
//! written down. A reload leaves it with the manager that it began with.

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::{Bytes, BytesMut};
use futures_util::stream::{FuturesUnordered, Stream as _};
use h2::server::SendResponse;
use h2::{Reason, RecvStream};
use http::Request;

use super::downstream::Parts;
use super::manager::Manager;
use super::presence::{End, Presence, Protocol};
use super::stream;
use crate::drain::{Held, Phase};
use crate::http2::{Counters, Eye, Keepalive, Socket, server};
use crate::l4::Facts;
use crate::local::{Deadline, Timer};
use crate::net;

mod client;
mod sink;
mod source;

pub(super) use client::Client;
pub(super) use sink::Sink;
pub(super) use source::Source;

/// The first bytes of every connection with prior knowledge (RFC 9113, 3.4).
pub(super) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A stream as the crate gives it.
pub(super) type Accepted = (Request<RecvStream>, SendResponse<Bytes>);

type Frames = h2::server::Connection<Socket, Bytes>;
type Work = Pin<Box<dyn Future<Output = ()>>>;

/// What the streams of a connection share.
pub(super) struct Conn {
    pub(super) manager: Rc<Manager>,
    pub(super) facts: Facts,
    pub(super) held: Held,
    /// Requests begun.
    pub(super) requests: Cell<u32>,
    /// Requests that are not over.
    pub(super) active: Cell<u32>,
    /// When the last stream ended, or the connection began.
    idle_since: Cell<Instant>,
    presence: Presence,
    /// The client has ended the connection.
    gone: RefCell<Rc<Cell<bool>>>,
    /// It is over, with the requests that it carried then.
    over: Cell<bool>,
}

impl Conn {
    /// A request has begun.
    pub(super) fn begin(&self) {
        self.requests.set(self.requests.get() + 1);
        self.active.set(self.active.get() + 1);
        self.presence.set_busy(true);
        self.manager.http2_stats.streams_active.inc();
    }

    /// A request is over.
    pub(super) fn finish(&self, now: Instant) {
        let active = self.active.get().saturating_sub(1);
        self.active.set(active);
        if !self.over.get() {
            self.presence.set_busy(active > 0);
        }
        self.idle_since.set(now);
        self.manager.http2_stats.streams_active.dec();
    }
}

/// The life of a connection.
pub(super) async fn run(manager: Rc<Manager>, parts: Parts) {
    let Parts { stream, read, facts, held, presence } = parts;
    // What the crate knows of a connection cannot be written down.
    held.never_moves();
    presence.speaks(Protocol::Http2);
    let conn = Rc::new(Conn {
        presence,
        manager: manager.clone(),
        idle_since: Cell::new(facts.accepted),
        facts,
        held,
        requests: Cell::new(0),
        active: Cell::new(0),
        gone: RefCell::default(),
        over: Cell::new(false),
    });
    let timer = manager.local.timers().timer();
    let Some(frames) = conn.shake_hands(stream, read, &timer).await else { return };
    Driver::new(conn, frames, timer).run().await;
}

impl Conn {
    async fn shake_hands(&self, stream: net::Stream, read: BytesMut, timer: &Timer) -> Option<Frames> {
        let config = &self.manager.config;
        let stats = &self.manager.stats;
        let counters = Counters {
            received: stats.downstream_cx_rx_bytes_total.clone(),
            sent: stats.downstream_cx_tx_bytes_total.clone(),
            protocol_error: stats.downstream_cx_protocol_error.clone(),
            goes_away: None,
        };
        let mut eye = Eye::new(&config.http2, true, &self.manager.http2_stats, counters);
        if let Some(wait) = config.delayed_close_timeout {
            eye = eye.lingering(self.manager.local.timers().timer(), wait);
        }
        *self.gone.borrow_mut() = eye.ended();
        let socket = eye.over(stream).after(read);
        let mut handshake = pin!(server(&config.http2, config.max_request_headers_bytes).handshake(socket));
        let deadline = config.idle_timeout.map_or(Deadline::NEVER, |limit| timer.at(Instant::now() + limit));
        poll_fn(|context| {
            if let Poll::Ready(frames) = handshake.as_mut().poll(context) {
                if frames.is_err() && !self.gone.borrow().get() {
                    stats.downstream_cx_protocol_error.inc();
                }
                return Poll::Ready(frames.ok());
            }
            if self.held.phase() == Phase::Over
                || pin!(self.held.changed(self.held.phase())).poll(context) == Poll::Ready(Phase::Over)
            {
                return Poll::Ready(None);
            }
            timer.poll_until(context, deadline).map(|()| {
                stats.downstream_cx_idle_timeout.inc();
                None
            })
        })
        .await
    }
}

/// What drives a connection.
struct Driver {
    conn: Rc<Conn>,
    frames: Frames,
    streams: FuturesUnordered<Work>,
    keepalive: Option<Keepalive>,
    timer: Timer,
    phase: Phase,
    /// Streams that the client has opened.
    accepted: u32,
    /// The client has been told that we go away.
    leaving: bool,
    /// It is cut then.
    cut: Deadline,
}

impl Driver {
    fn new(conn: Rc<Conn>, mut frames: Frames, timer: Timer) -> Self {
        let pings = conn.manager.local.timers().timer();
        let keepalive = Keepalive::new(frames.ping_pong(), conn.manager.config.http2.keepalive, pings);
        let phase = Phase::Serving;
        Self {
            conn,
            frames,
            streams: FuturesUnordered::new(),
            keepalive,
            timer,
            phase,
            accepted: 0,
            leaving: false,
            cut: Deadline::NEVER,
        }
    }

    async fn run(mut self) {
        poll_fn(|context| self.poll(context)).await;
        if self.conn.gone.borrow().get() {
            self.conn.presence.ended_by(End::Remote);
        }
        self.conn.over.set(true);
        // Requests that are not over see their streams fail, and are counted as what they are.
        drop(self.frames);
        let last = self.timer.at(Instant::now() + stream::LAST_REQUEST);
        poll_fn(|context| {
            while let Poll::Ready(one) = Pin::new(&mut self.streams).poll_next(context) {
                if one.is_none() {
                    return Poll::Ready(());
                }
            }
            self.timer.poll_until(context, last)
        })
        .await;
    }

    /// Ready when the connection is over.
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<()> {
        loop {
            match self.frames.poll_accept(context) {
                Poll::Ready(Some(Ok(accepted))) => {
                    self.accept(accepted);
                    continue;
                }
                Poll::Ready(Some(Err(error))) => {
                    self.count(&error);
                    return Poll::Ready(());
                }
                Poll::Ready(None) => return Poll::Ready(()),
                Poll::Pending => {}
            }
            // What the streams write goes out together, with the next look at the frames.
            let mut progress = false;
            while let Poll::Ready(Some(())) = Pin::new(&mut self.streams).poll_next(context) {
                progress = true;
            }
            if !progress {
                break;
            }
        }
        self.poll_end(context)
    }

    fn accept(&mut self, (request, respond): Accepted) {
        let conn = &self.conn;
        self.streams.push(Box::pin(stream::run_http2(conn.clone(), request, respond)));
        let most = conn.manager.config.max_requests_per_connection;
        // A request begins when its stream is looked at first: many may have come before that.
        self.accepted = self.accepted.saturating_add(1);
        if most != 0 && self.accepted >= most && !self.leaving {
            conn.manager.stats.downstream_cx_max_requests_reached.inc();
            self.leave();
        }
    }

    /// Ready when it is time to end the connection without further words.
    fn poll_end(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let conn = self.conn.clone();
        let stats = &conn.manager.stats;
        loop {
            match self.phase {
                Phase::Serving => {}
                Phase::Moving(_) | Phase::Draining(_) if !self.leaving => {
                    stats.downstream_cx_drain_close.inc();
                    self.leave();
                    context.waker().wake_by_ref();
                }
                Phase::Moving(_) | Phase::Draining(_) => {}
                Phase::Over if self.cut == Deadline::NEVER => {
                    self.leave();
                    context.waker().wake_by_ref();
                    let wait = stream::LAST_REQUEST + conn.manager.config.delayed_close_timeout.unwrap_or_default();
                    self.cut = self.timer.at(Instant::now() + wait);
                }
                Phase::Over => {}
            }
            match pin!(conn.held.changed(self.phase)).poll(context) {
                Poll::Ready(phase) => self.phase = phase,
                Poll::Pending => break,
            }
        }
        if let Some(keepalive) = &mut self.keepalive
            && keepalive.poll_dead(context).is_ready()
        {
            conn.manager.http2_stats.keepalive_timeout.inc();
            return Poll::Ready(());
        }
        if self.cut != Deadline::NEVER {
            return self.timer.poll_until(context, self.cut);
        }
        let config = &conn.manager.config;
        let passed = |context: &mut Context<'_>, since: Instant, limit: Option<std::time::Duration>| {
            limit.is_some_and(|limit| self.timer.poll_until(context, self.timer.at(since + limit)).is_ready())
        };
        let too_old = passed(context, conn.facts.accepted, config.max_connection_duration);
        let idle = conn.active.get() == 0 && passed(context, conn.idle_since.get(), config.idle_timeout);
        if (too_old || idle) && !self.leaving {
            if too_old {
                stats.downstream_cx_max_duration_reached.inc()
            } else {
                stats.downstream_cx_idle_timeout.inc()
            }
            self.leave();
            context.waker().wake_by_ref();
        }
        if idle && self.leaving {
            // A client that does not close what it was told is over.
            let wait = config.drain_timeout + config.delayed_close_timeout.unwrap_or_default();
            self.cut = self.timer.at(Instant::now() + wait);
            return self.timer.poll_until(context, self.cut);
        }
        Poll::Pending
    }

    /// Tells the client that we go away: streams that it has opened by the time it hears of it are served.
    fn leave(&mut self) {
        if !std::mem::replace(&mut self.leaving, true) {
            self.frames.graceful_shutdown();
        }
    }

    fn count(&self, error: &h2::Error) {
        let manager = &self.conn.manager;
        if error.is_library() && error.reason() != Some(Reason::NO_ERROR) {
            manager.stats.downstream_cx_protocol_error.inc();
            manager.http2_stats.rx_messaging_error.inc();
        }
    }
}
