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
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::{Buf, Bytes, BytesMut};
use h2::server::SendResponse;
use h2::{Reason, RecvStream};
use http::{Method, Request as Request2, Version, header};

use crate::access_log::Line;
use crate::codec::head::{RequestHead, ResponseHead};
use crate::codec::http1::{self, Framing, Parsed, Refusal, encode_response};
use crate::codec::http2::head::{self, Malformed};
use crate::drain::{Held, Phase, Strategy};
use crate::l4::Facts;
use crate::local::{Deadline, Timer};
use crate::route::Decision;

use super::body::Body;
use super::downstream::Downstream;
use super::failure::Failure;
use super::filter::{Answer, Request};
use super::forward::{Exchange, rewrite};
use super::http2::{self, Conn, Source};
use super::local_reply;
use super::manager::Manager;
use super::record::Record;
use super::upgrade::{Active, Switch, Switching};

mod log;
mod motion;
mod request_body;
mod send;
mod send_http2;
mod switch;
mod timing;

pub(super) use motion::resume;
use motion::{Course, Room};

pub use request_body::RequestBody;
use switch::Joined;

/// What becomes of the connection after a request.
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
    /// It is a tunnel from here on.
    Tunnel(Box<Switching>),
    /// It turned out to speak HTTP/2.
    Http2,
    /// The request is not over: it stands in [`Downstream::flight`], is offered to the next epoch with its connection, and resumed here
    /// when nobody takes it.
    Move,
}

/// One request and what is shared by all that work on it.
pub struct Stream<'a> {
    client: Client<'a>,
    record: Record,
    /// The framing of the request's body over HTTP/1: how far it has been read.
    framing: RefCell<Framing>,
    /// Interim responses on their way to the client.
    interim: RefCell<BytesMut>,
    deadlines: Deadlines,
    /// The drain was over before it began: it is let finish.
    late: bool,
    version: Version,
    /// What it wants of its connection.
    switch: Cell<Switch>,
    /// It wants and may have a tunnel.
    active: Cell<Option<Active>>,
    /// The wait for room to move.
    room: Room,
}

/// Who asks, by the protocol of the connection.
#[derive(Clone, Copy)]
enum Client<'a> {
    Http1(&'a Downstream),
    Http2(&'a http2::Client),
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
    let Parsed { head, framing, keep_alive, expect_continue, upgrade } = parsed;
    let stream = Stream::new(Client::Http1(conn), &head, framing, started);
    if expect_continue && !stream.is_complete() && head.version == Version::HTTP_11 {
        stream.interim.borrow_mut().extend_from_slice(b"HTTP/1.1 100 Continue\r\n\r\n");
    }
    let mut begun = Begun { close: !keep_alive, ..Begun::default() };
    if upgrade || head.method == Method::CONNECT {
        stream.switch.set(Switch::of(&head, upgrade));
    }
    let course = stream.serve(head, &mut begun).await;
    stream.finish(course, begun)
}

/// Serves the request of an HTTP/2 stream.
pub(super) async fn run_http2(conn: Rc<Conn>, request: Request2<RecvStream>, mut respond: SendResponse<Bytes>) {
    let started = Instant::now();
    let (parts, body) = request.into_parts();
    let source = Source::new(body, &parts.headers);
    let waits =
        parts.headers.get(header::EXPECT).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue"));
    let mut dropped = 0;
    let parsed = head::request_head(parts, &conn.manager.rules, &mut dropped);
    let codec = &conn.manager.http2_stats;
    codec.dropped_headers_with_underscores.add(dropped);
    let head = match parsed {
        Ok(head) => head,
        Err(malformed) => {
            match malformed {
                Malformed::TooManyHeaders => codec.header_overflow.inc(),
                Malformed::Underscore => codec.requests_rejected_with_underscores_in_headers.inc(),
                Malformed::Field => codec.rx_messaging_error.inc(),
            }
            respond.send_reset(Reason::PROTOCOL_ERROR);
            return;
        }
    };
    let client = http2::Client::new(conn, source, respond);
    let stream = Stream::new(Client::Http2(&client), &head, Framing::none(), started);
    if waits && !stream.is_complete() {
        client.go_on();
    }
    let mut begun = Begun::default();
    let course = stream.serve(head, &mut begun).await;
    if course.is_err() {
        client.reset(Reason::INTERNAL_ERROR);
    }
    stream.finish(course, begun);
}

/// Answers bytes that did not become a request.
pub(super) async fn refuse(conn: &Downstream, failure: Failure, started: Instant) -> After {
    let unknown = RequestHead::new(Method::GET, "", "/");
    let stream = Stream::new(Client::Http1(conn), &unknown, Framing::none(), started);
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
    /// The connection is a tunnel from here on.
    pub(super) tunnel: Option<Box<Joined>>,
}

impl<'a> Client<'a> {
    fn manager(self) -> &'a Manager {
        match self {
            Self::Http1(conn) => &conn.manager,
            Self::Http2(client) => &client.conn.manager,
        }
    }

    fn facts(self) -> &'a Facts {
        match self {
            Self::Http1(conn) => &conn.facts,
            Self::Http2(client) => &client.conn.facts,
        }
    }

    fn timer(self) -> &'a Timer {
        match self {
            Self::Http1(conn) => &conn.timer,
            Self::Http2(client) => &client.timer,
        }
    }

    fn held(self) -> &'a Held {
        match self {
            Self::Http1(conn) => &conn.held,
            Self::Http2(client) => &client.held,
        }
    }

    /// Ready when the drain's deadline has passed.
    fn poll_over(self, context: &mut Context<'_>) -> Poll<()> {
        match self {
            Self::Http1(conn) => conn.poll_over(context),
            Self::Http2(client) => client.poll_over(context),
        }
    }

    fn has_unread(self) -> bool {
        match self {
            Self::Http1(conn) => conn.has_unread(),
            Self::Http2(_) => false,
        }
    }
}

impl<'a> Stream<'a> {
    fn new(client: Client<'a>, head: &RequestHead, framing: Framing, started: Instant) -> Self {
        let manager = client.manager();
        let timers = |timeout: Option<Duration>| timeout.map_or(Deadline::NEVER, |t| client.timer().at(started + t));
        let stats = &manager.stats;
        stats.downstream_rq_total.inc();
        stats.downstream_rq_active.inc();
        match client {
            Client::Http1(conn) => {
                stats.downstream_rq_http1_total.inc();
                conn.set_busy(true);
                conn.requests.set(conn.requests.get() + 1);
            }
            Client::Http2(client) => {
                stats.downstream_rq_http2_total.inc();
                client.conn.begin();
            }
        }
        let record = Record::new(head.method.clone(), started);
        if let Some(logs) = &manager.logs {
            record.log_as(Line::new(logs.clone(), started));
        }
        let complete = match client {
            Client::Http1(_) => framing.is_done(),
            Client::Http2(client) => client.source.borrow().is_done(),
        };
        if complete {
            record.received_at.set(Some(started));
        }
        Self {
            client,
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
            late: client.held().phase() == Phase::Over,
            version: head.version,
            switch: Cell::new(Switch::No),
            active: Cell::new(None),
            room: Room::default(),
        }
    }

    /// What is known about the request so far.
    pub fn record(&self) -> &Record {
        &self.record
    }

    /// Whether all of the request has been received.
    pub fn is_complete(&self) -> bool {
        match self.client {
            Client::Http1(_) => self.framing.borrow().is_done(),
            Client::Http2(client) => client.source.borrow().is_done(),
        }
    }

    /// Where the request goes; `None` when no route matched.
    pub fn route(&self) -> Option<Decision> {
        self.record.route.borrow().clone()
    }

    /// What it wants of its connection.
    pub(super) fn switch(&self) -> Switch {
        self.switch.get()
    }

    pub(super) fn manager(&self) -> &'a Manager {
        self.client.manager()
    }

    /// What is known about the client's connection.
    pub fn facts(&self) -> &Facts {
        self.client.facts()
    }

    pub(super) fn timer(&self) -> &'a Timer {
        self.client.timer()
    }

    /// What the client speaks.
    pub fn version(&self) -> Version {
        self.version
    }

    /// Counts a request that is larger than may be held.
    pub(super) fn count_too_large(&self) {
        self.manager().stats.downstream_rq_too_large.inc();
    }

    /// Whether the proxy has been told to fail health checks.
    pub fn fails_health_checks(&self) -> bool {
        matches!(self.client.held().phase(), Phase::Draining(plan) if plan.strategy == Strategy::Unhealthy)
    }

    /// Sends an interim response (1xx) to a client that understands it.
    pub(super) fn inform(&self, head: &ResponseHead) {
        match self.client {
            Client::Http1(_) if self.version == Version::HTTP_11 => {
                encode_response(head, http1::Body::Empty, &mut self.interim.borrow_mut());
            }
            Client::Http1(_) => {}
            Client::Http2(client) => client.inform(head.clone()),
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
                let exchange = answer.suspend().and_then(Exchange::suspend).ok_or(Failure::Internal)?;
                return Ok(Course::suspended(exchange, None, permit));
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
        let mut reply = local_reply::of(failure, self.record.attempts.get() > 1).ok_or(failure)?;
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
        if (self.switch.get() != Switch::No || head.method == Method::CONNECT) && !self.may_switch(&head) {
            return chain.failed(Failure::Refused(Refusal::UPGRADE_FAILED), self);
        }
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
        if !self.late && drained.get() == Deadline::NEVER && self.client.poll_over(context).is_ready() {
            drained.set(self.timer().at(self.record.started + LAST_REQUEST));
        }
        let gone = match self.client {
            Client::Http1(conn) => {
                self.poll_interim(conn, context).is_err() || (self.is_complete() && conn.poll_gone(context).is_ready())
            }
            Client::Http2(client) => client.poll_gone(context).is_ready(),
        };
        if gone {
            return Poll::Ready(Failure::DownstreamClosed);
        }
        let complete = self.is_complete();
        let deadlines = &self.deadlines;
        let passed = |context: &mut Context<'_>, deadline| self.timer().poll_until(context, deadline).is_ready();
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
    fn poll_interim(&self, conn: &Downstream, context: &mut Context<'_>) -> Result<(), Failure> {
        let mut interim = self.interim.borrow_mut();
        while !interim.is_empty() {
            match conn.poll_write(context, &[IoSlice::new(&interim)]) {
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
        if let Some(joined) = begun.tunnel {
            return self.become_tunnel(*joined);
        }
        let stats = &self.manager().stats;
        let after = match course {
            Ok(Course::Suspended(suspended)) => return self.into_flight(*suspended, begun),
            Ok(Course::Over) if begun.close => After::Close { linger: begun.linger || self.client.has_unread() },
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
        match self.active.take() {
            Some(active) => drop(active),
            None => stats.downstream_rq_active.dec(),
        }
        stats.downstream_rq_time.record((now - self.record.started).as_millis() as u64);
        match self.client {
            Client::Http1(conn) => {
                if !matches!(after, After::Cut { .. }) {
                    conn.set_busy(false);
                }
                conn.idle_since.set(now);
            }
            Client::Http2(client) => client.conn.finish(now),
        }
        self.log_end(now);
        after
    }
}
