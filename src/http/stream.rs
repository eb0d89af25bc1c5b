//! One request, from its head to the last byte of its response.
//!
//! ```text
//!   head ─▶ headers::prepare ─▶ route ─▶ filter chain ─▶ response head ─▶ send ─▶ finish
//!                                  │                         │
//!            while anything waits: deadlines, the drain's deadline, the client going away, interim responses
//! ```
//!
//! [`Stream`] is what all steps of a request share. A failure before the response has begun becomes a local reply, one after it
//! cuts the connection. `Stream::finish` is explicit: it settles statistics, and what must be true of the connection afterwards. While connections
//! move to another epoch, a request that can be suspended becomes a [`Flight`] instead, and may be resumed here or there.

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::io::IoSlice;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::{Buf, BytesMut};
use http::{Method, Version};

use crate::access_log::Line;
use crate::codec::head::{RequestHead, ResponseHead};
use crate::codec::http1::{self, Framing, Parsed, encode_response};
use crate::drain::Phase;
use crate::l4::Facts;
use crate::local::Deadline;
use crate::route::Decision;

use super::body::Body;
use super::downstream::Downstream;
use super::failure::Failure;
use super::filter::{Answer, Request};
use super::forward::rewrite;
use super::local_reply;
use super::manager::Manager;
use super::record::Record;

mod log;
mod motion;
mod request_body;
mod send;

pub(super) use motion::resume;
use motion::{Course, Room};

pub use request_body::RequestBody;

/// What becomes of the connection after a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum After {
    /// The next request.
    Keep,
    /// The response said that this was the last: end our side, read what still comes for a while, close.
    Close {
        /// The client may still be sending.
        linger: bool,
    },
    /// Close at once; with a reset where a plain end could be taken for a complete response.
    Cut {
        /// The response's end would have been the end of the connection.
        reset: bool,
    },
    /// The request is not over: it stands in [`Downstream::flight`], is offered to the next epoch with its connection, and resumed here
    /// when nobody takes it.
    Move,
}

/// One request and what is shared by all that work on it.
pub struct Stream<'a> {
    conn: &'a Downstream,
    record: Record,
    /// The framing of the request's body: how far it has been read.
    framing: RefCell<Framing>,
    /// Interim responses on their way to the client.
    interim: RefCell<BytesMut>,
    deadlines: Deadlines,
    /// The drain was over before it began: it is let finish.
    late: bool,
    version: Version,
    /// The wait for room to move.
    room: Room,
}

/// When a request must end, or be further than it is.
pub(super) struct Deadlines {
    pub(super) request: Deadline,
    pub(super) route: Cell<Deadline>,
    pub(super) route_timeout: Cell<Option<Duration>>,
    /// `max_stream_duration`.
    pub(super) duration: Cell<Deadline>,
    pub(super) idle: Cell<Deadline>,
    pub(super) idle_timeout: Cell<Option<Duration>>,
    /// When it is cut: set once the drain's deadline has passed.
    pub(super) drained: Cell<Deadline>,
}

/// The least time that a request has from its start, whatever the drain's deadline: whoever wrote on an idle connection just before it was
/// to be closed is answered.
pub(super) const LAST_REQUEST: Duration = Duration::from_secs(1);

/// Serves one request.
pub(super) async fn run(conn: &Downstream, parsed: Parsed<RequestHead>, started: Instant) -> After {
    let Parsed { head, framing, keep_alive, expect_continue, .. } = parsed;
    let stream = Stream::new(conn, &head, framing, started);
    if expect_continue && !stream.is_complete() && head.version == Version::HTTP_11 {
        stream.interim.borrow_mut().extend_from_slice(b"HTTP/1.1 100 Continue\r\n\r\n");
    }
    let mut begun = Begun { close: !keep_alive, ..Begun::default() };
    let course = stream.serve(head, &mut begun).await;
    stream.finish(course, begun)
}

/// Answers bytes that did not become a request.
pub(super) async fn refuse(conn: &Downstream, failure: Failure, started: Instant) -> After {
    let unknown = RequestHead::new(Method::GET, "", "/");
    let stream = Stream::new(conn, &unknown, Framing::none(), started);
    let mut begun = Begun { close: true, ..Begun::default() };
    let course = stream.fail(failure, &mut begun).await;
    stream.finish(course, begun);
    After::Close { linger: true }
}

/// How far the response has come.
#[derive(Default)]
pub(super) struct Begun {
    pub(super) head: bool,
    pub(super) until_close: bool,
    pub(super) close: bool,
    /// The client may still send after the last response.
    pub(super) linger: bool,
}

impl<'a> Stream<'a> {
    fn new(conn: &'a Downstream, head: &RequestHead, framing: Framing, started: Instant) -> Self {
        let manager = &conn.manager;
        let timers = |timeout: Option<Duration>| timeout.map_or(Deadline::NEVER, |t| conn.timer.at(started + t));
        let stats = &manager.stats;
        stats.downstream_rq_total.inc();
        stats.downstream_rq_http1_total.inc();
        stats.downstream_rq_active.inc();
        conn.set_busy(true);
        conn.requests.set(conn.requests.get() + 1);
        let record = Record::new(head.method.clone(), started);
        if let Some(logs) = &manager.logs {
            record.log_as(Line::new(logs.clone(), started));
        }
        let complete = framing.is_done();
        if complete {
            record.received_at.set(Some(started));
        }
        Self {
            conn,
            record,
            framing: RefCell::new(framing),
            interim: RefCell::default(),
            deadlines: Deadlines {
                request: if complete { Deadline::NEVER } else { timers(manager.config.request_timeout) },
                route: Cell::new(Deadline::NEVER),
                route_timeout: Cell::new(None),
                duration: Cell::new(Deadline::NEVER),
                idle: Cell::new(timers(manager.config.stream_idle_timeout)),
                idle_timeout: Cell::new(manager.config.stream_idle_timeout),
                drained: Cell::new(Deadline::NEVER),
            },
            late: conn.held.phase() == Phase::Over,
            version: head.version,
            room: Room::default(),
        }
    }

    /// What is known about the request so far.
    pub fn record(&self) -> &Record {
        &self.record
    }

    /// Whether all of the request has been received.
    pub fn is_complete(&self) -> bool {
        self.framing.borrow().is_done()
    }

    /// Where the request goes; `None` when no route matched.
    pub fn route(&self) -> Option<Decision> {
        self.record.route.borrow().clone()
    }

    pub(super) fn manager(&self) -> &'a Manager {
        &self.conn.manager
    }

    /// What is known about the client's connection.
    pub fn facts(&self) -> &Facts {
        &self.conn.facts
    }

    pub(super) fn timer(&self) -> &'a crate::local::Timer {
        &self.conn.timer
    }

    /// Sets the route's timeouts; the first runs once all of the request has been received.
    pub(super) fn set_timeouts(&self, timeout: Option<Duration>, idle: Option<Option<Duration>>) {
        self.deadlines.route_timeout.set(timeout);
        if let Some(idle) = idle {
            self.deadlines.idle_timeout.set(idle);
            self.moved(self.record.started);
        }
        if let Some(received_at) = self.record.received_at.get() {
            self.arm_route(received_at);
        }
    }

    /// Sets the limit on request and response together.
    pub(super) fn set_duration(&self, limit: Option<Duration>) {
        if let Some(limit) = limit {
            self.deadlines.duration.set(self.conn.timer.at(self.record.started + limit));
        }
    }

    /// Something of the request or the response has moved.
    pub(super) fn moved(&self, now: Instant) {
        let idle = self.deadlines.idle_timeout.get();
        self.deadlines.idle.set(idle.map_or(Deadline::NEVER, |idle| self.conn.timer.at(now + idle)));
    }

    /// Sends an interim response (1xx) to a client that understands it.
    pub(super) fn inform(&self, head: &ResponseHead) {
        if self.version == Version::HTTP_11 {
            encode_response(head, http1::Body::Empty, &mut self.interim.borrow_mut());
        }
    }

    fn arm_route(&self, received_at: Instant) {
        if let Some(timeout) = self.deadlines.route_timeout.get() {
            self.deadlines.route.set(self.conn.timer.at(received_at + timeout));
        }
    }

    async fn serve(&self, head: RequestHead, begun: &mut Begun) -> Result<Course, Failure> {
        let answer = self.begin(head);
        self.answer(answer, begun).await
    }

    /// Waits for the response and sends it.
    #[allow(clippy::manual_async_fn, reason = "an async function holds its arguments twice: as given, and as its own")]
    fn answer<'s>(
        &'s self,
        mut answer: Answer<'s>,
        begun: &'s mut Begun,
    ) -> impl Future<Output = Result<Course, Failure>> + 's {
        async move {
            let waited = poll_fn(|context| match Pin::new(&mut answer).poll(context) {
                Poll::Ready(answer) => Poll::Ready(Ok(answer)),
                Poll::Pending => match self.poll_ended(context) {
                    Poll::Ready(failure) => Poll::Ready(Ok(Err(failure))),
                    Poll::Pending => self.poll_room(context, || answer.may_suspend()).map(Err),
                },
            })
            .await;
            if let Err(permit) = waited {
                let exchange = answer.suspend().ok_or(Failure::Internal)?;
                return Ok(Course::suspended(*exchange, None, permit));
            }
            drop(answer);
            match waited {
                Ok(Ok(response)) => self.send(response, begun).await,
                Ok(Err(failure)) => self.fail(failure, begun).await,
                Err(_) => Err(Failure::Internal),
            }
        }
    }

    /// Answers a request that failed before its response had begun.
    async fn fail(&self, failure: Failure, begun: &mut Begun) -> Result<Course, Failure> {
        self.count(failure);
        self.record.failed(failure, false);
        begun.close |= failure.told().is_some_and(|told| told.close);
        let mut reply = local_reply::of(failure).ok_or(failure)?;
        rewrite::response(&mut reply.head, self);
        self.send(reply, begun).await
    }

    /// Sends the request down the chain.
    fn begin(&self, mut head: RequestHead) -> Answer<'_> {
        let chain = &self.manager().chain;
        if let Err(failure) = self.manager().prepare_request(&mut head, self) {
            self.keep_request(&head);
            return chain.failed(failure, self);
        }
        *self.record.route.borrow_mut() = self.manager().route(&head, self);
        self.log_start(&head);
        let body = if self.is_complete() { Body::Empty } else { self.body() };
        chain.run(Request { head, body }, self)
    }

    /// What the client has yet to send of the request's body.
    pub(super) fn body(&self) -> Body<'_> {
        Body::Request(RequestBody { stream: self })
    }

    /// Ready when the request must end before its time.
    fn poll_ended(&self, context: &mut Context<'_>) -> Poll<Failure> {
        let drained = &self.deadlines.drained;
        if !self.late && drained.get() == Deadline::NEVER && self.conn.poll_over(context).is_ready() {
            drained.set(self.conn.timer.at(self.record.started + LAST_REQUEST));
        }
        if self.poll_interim(context).is_err() || (self.is_complete() && self.conn.poll_gone(context).is_ready()) {
            return Poll::Ready(Failure::DownstreamClosed);
        }
        let complete = self.is_complete();
        let deadlines = &self.deadlines;
        let passed = |context: &mut Context<'_>, deadline| self.conn.timer.poll_until(context, deadline).is_ready();
        if passed(context, deadlines.drained.get()) {
            Poll::Ready(Failure::Drained)
        } else if passed(context, deadlines.route.get()) {
            Poll::Ready(Failure::RouteTimeout)
        } else if passed(context, deadlines.duration.get()) {
            Poll::Ready(Failure::MaxDuration { request_complete: complete })
        } else if !complete && passed(context, deadlines.request) {
            Poll::Ready(Failure::RequestTimeout)
        } else if passed(context, deadlines.idle.get()) {
            Poll::Ready(Failure::StreamIdle { request_complete: complete })
        } else {
            Poll::Pending
        }
    }

    /// Sends interim responses as far as the client takes them.
    fn poll_interim(&self, context: &mut Context<'_>) -> Result<(), Failure> {
        let mut interim = self.interim.borrow_mut();
        while !interim.is_empty() {
            match self.conn.poll_write(context, &[IoSlice::new(&interim)]) {
                Poll::Ready(Ok(written)) if written > 0 => interim.advance(written),
                Poll::Ready(_) => return Err(Failure::DownstreamClosed),
                Poll::Pending => break,
            }
        }
        Ok(())
    }

    /// Counts what a failure is counted as.
    fn count(&self, failure: Failure) {
        let stats = &self.manager().stats;
        match failure {
            Failure::RequestTimeout => stats.downstream_rq_timeout.inc(),
            Failure::HeaderTimeout => stats.downstream_rq_header_timeout.inc(),
            Failure::StreamIdle { .. } => stats.downstream_rq_idle_timeout.inc(),
            Failure::DownstreamClosed => stats.downstream_rq_rx_reset.inc(),
            Failure::NoRoute => stats.no_route.inc(),
            Failure::MaxDuration { .. } => stats.downstream_rq_max_duration_reached.inc(),
            Failure::NoCluster { .. } => stats.no_cluster.inc(),
            Failure::Refused(refusal) if refusal.codec => stats.downstream_cx_protocol_error.inc(),
            Failure::RouteTimeout => {
                if let Some(cluster) = &*self.record.cluster.borrow() {
                    cluster.stats().upstream_rq_timeout.inc();
                }
                if let Some(host) = &*self.record.host.borrow() {
                    host.count_timeout();
                }
                let route_stats = &self.manager().route_stats;
                route_stats.each(&self.record, |counted| counted.stats.upstream_rq_timeout.inc());
            }
            _ => {}
        }
    }

    /// Ends the request: what it was is counted, and what becomes of the connection is decided.
    fn finish(self, course: Result<Course, Failure>, begun: Begun) -> After {
        let stats = &self.manager().stats;
        let after = match course {
            Ok(Course::Suspended(suspended)) => return self.into_flight(*suspended, begun),
            Ok(Course::Over) if begun.close => After::Close { linger: begun.linger || self.conn.has_unread() },
            Ok(Course::Over) => After::Keep,
            Err(failure) => {
                if begun.head {
                    self.count(failure);
                    self.record.failed(failure, true);
                    stats.downstream_rq_tx_reset.inc();
                }
                After::Cut { reset: begun.until_close }
            }
        };
        let now = Instant::now();
        stats.downstream_rq_active.dec();
        stats.downstream_rq_time.record((now - self.record.started).as_millis() as u64);
        if !matches!(after, After::Cut { .. }) {
            self.conn.set_busy(false);
        }
        self.conn.idle_since.set(now);
        self.log_end(now);
        after
    }
}
