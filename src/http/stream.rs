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
//! move to another epoch, a request that can be suspended becomes a `Flight` instead, and may be resumed here or there.

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::io::IoSlice;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::{Buf, Bytes, BytesMut};
use http::{StatusCode, Version};

use crate::access_log::Line;
use crate::codec::head::{RequestHead, ResponseHead};
use crate::codec::http1::{self, Framing, Refusal, encode_response};
use crate::drain::{Phase, Strategy};
use crate::l4::Facts;
use crate::local::{Deadline, Timer};
use crate::route::Decision;

use super::body::Body;
use super::downstream::Downstream;
use super::failure::Failure;
use super::filter::{Answer, Request, Response};
use super::forward::{Exchange, rewrite};
use super::headers::Turned;
use super::local_reply;
use super::manager::Manager;
use super::record::Record;
use super::upgrade::{Active, Switch, Switching};

mod client;
mod count;
mod follow;
mod log;
mod motion;
mod own;
mod request_body;
mod send;
mod send_http2;
mod serve;
mod switch;
mod timing;

pub(super) use motion::resume;
pub(super) use own::Own;
pub(super) use serve::{open, refuse, run_http2};
pub(super) use timing::{Deadlines, LAST_REQUEST};

use client::Client;
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
    /// When it has its next line in the access logs while it lasts.
    periodic: Cell<Deadline>,
    /// It names no host, and must.
    hostless: bool,
    /// What it wants of its connection.
    switch: Cell<Switch>,
    /// It wants and may have a tunnel.
    active: Cell<Option<Active>>,
    /// The wait for room to move.
    room: Room,
}

/// How far the response has come.
#[derive(Default)]
pub(super) struct Begun {
    pub(super) head: bool,
    pub(super) until_close: bool,
    pub(super) close: bool,
    /// The client may still send after the last response.
    pub(super) linger: bool,
    /// The response came before the request had ended, which then never does.
    pub(super) early: bool,
    /// The connection is a tunnel from here on.
    pub(super) tunnel: Option<Box<Joined>>,
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
                conn.requests.set(conn.requests.get().saturating_add(1));
            }
            Client::Http2(client) => {
                stats.downstream_rq_http2_total.inc();
                client.conn.begin();
            }
            Client::Own(_) => {}
        }
        let record = Record::new(head.method.clone(), started);
        if let Some(logs) = &manager.logs {
            record.log_as(Line::new(logs.clone(), started));
        }
        let complete = match client {
            Client::Http1(_) => framing.is_done(),
            Client::Http2(client) => client.source.borrow().is_done(),
            Client::Own(own) => own.complete.get(),
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
                duration: Cell::new(timers(manager.config.max_stream_duration)),
                idle: Cell::new(timers(manager.config.stream_idle_timeout)),
                idle_timeout: Cell::new(manager.config.stream_idle_timeout),
                drained: Cell::new(Deadline::NEVER),
            },
            late: client.held().phase() == Phase::Over,
            version: head.version,
            periodic: Cell::new(timers(manager.config.log_interval)),
            hostless: false,
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
            // What comes behind the head of one that asks for a tunnel is none of the request's.
            Client::Http2(client) => client.source.borrow().is_done() || self.switch.get() != Switch::No,
            Client::Own(own) => own.complete.get(),
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

    /// Counts a response that is larger than may be held.
    pub(super) fn count_response_too_large(&self) {
        self.manager().stats.rs_too_large.inc();
    }

    /// Whether the proxy has been told to fail health checks.
    pub fn fails_health_checks(&self) -> bool {
        matches!(self.client.held().phase(), Phase::Draining(plan) if plan.strategy == Strategy::Unhealthy)
    }

    /// Whether the client is to hear of an interim response of the host.
    pub(super) fn passes_on(&self, status: StatusCode) -> bool {
        status == StatusCode::EARLY_HINTS || status == StatusCode::CONTINUE && self.manager().config.proxy_100_continue
    }

    /// Encodes a head for a client of HTTP/1.
    pub(super) fn encode(&self, head: &ResponseHead, body: http1::Body, out: &mut BytesMut) {
        let begin = out.len();
        encode_response(head, body, out);
        let written = out.get_mut(begin..).unwrap_or_default();
        match &head.cases {
            Some(cases) => cases.write_to(written),
            None if self.manager().config.http1.proper_case => http1::proper_case(written),
            None => {}
        }
    }

    /// Sends an interim response (1xx) to a client that understands it.
    pub(super) fn inform(&self, head: &ResponseHead) {
        match self.client {
            Client::Http1(_) if self.version == Version::HTTP_11 => {
                self.encode(head, http1::Body::Empty, &mut self.interim.borrow_mut());
            }
            Client::Http1(_) | Client::Own(_) => return,
            Client::Http2(client) => client.inform(head.clone()),
        }
        self.count_interim(head.status);
    }

    /// Waits for the response and sends it.
    #[allow(clippy::manual_async_fn, reason = "an async function holds its arguments twice: as given, and as its own")]
    pub(super) fn answer<'s>(
        &'s self,
        mut answer: Answer<'s>,
        begun: &'s mut Begun,
    ) -> impl Future<Output = Result<Course, Failure>> + 's {
        async move {
            let waited = poll_fn(|context| match self.poll_answer(context, &mut answer) {
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
                Ok(Ok(response)) => {
                    begun.close |= self.ends_by(&response);
                    if response.local {
                        self.record.charge_unless_charged(response.head.status);
                    }
                    self.send(local_reply::shape(response, self), begun).await
                }
                Ok(Err(failure)) => self.fail(failure, begun).await,
                Err(_) => Err(Failure::Internal),
            }
        }
    }

    /// Answers a request that failed before its response had begun.
    async fn fail(&self, failure: Failure, begun: &mut Begun) -> Result<Course, Failure> {
        self.count(failure);
        self.record.failed(failure, false);
        let own = matches!(
            failure,
            Failure::Refused(_) | Failure::StreamIdle { .. } | Failure::MaxDuration { .. } | Failure::RequestTimeout
        );
        self.record.uncharged.set(own);
        if own {
            self.record.announces_attempts.set(false);
        }
        let headless = match failure {
            Failure::Refused(refusal) => refusal.codec,
            other => matches!(other, Failure::HeaderTimeout),
        };
        if headless && self.is_complete() {
            // A head that was not understood has no body, and is not a whole request either.
            self.manager().stats.downstream_rq_response_before_rq_complete.inc();
            begun.early = true;
        }
        begun.close |= failure.told().is_some_and(|told| told.close);
        let timeout = matches!(failure, Failure::RouteTimeout | Failure::PerTryTimeout | Failure::PerTryIdleTimeout);
        let mut reply = match self.record.alt_response.get() && timeout {
            true => local_reply::text(204, Bytes::new()),
            false => local_reply::of(failure, self.record.attempts.get() > 1, self.record.grpc.get()).ok_or(failure)?,
        };
        rewrite::own_response(&mut reply, |head| rewrite::response(head, self));
        if own {
            // No router has said how often it was tried.
            self.record.announces_attempts.set(false);
        }
        if !headless {
            self.record.status.set(reply.head.status.as_u16());
            self.manager().chain.dress(&mut reply, self);
        }
        begun.close |= self.ends_by(&reply);
        self.record.charge_unless_charged(reply.head.status);
        self.send(local_reply::shape(reply, self), begun).await
    }

    /// Whether a reply of ours ends the connection: who is told that his request is bad may have sent more that would be misread. Other streams of
    /// HTTP/2 are not touched by it.
    fn ends_by(&self, reply: &Response<'_>) -> bool {
        reply.local
            && reply.head.status == StatusCode::BAD_REQUEST
            && matches!(self.client, Client::Http1(_))
            && !self.manager().config.http1.keeps_after_bad_request
    }

    /// Sends the request down the chain.
    pub(super) fn begin(&self, mut head: RequestHead) -> Answer<'_> {
        let chain = &self.manager().chain;
        let prepared = match self.hostless {
            true => Err(Turned::Refused(Refusal::MISSING_HOST)),
            false => self.manager().prepare_request(&mut head, self),
        };
        if self.manager().replies.is_some() {
            *self.record.head.borrow_mut() = Some(Box::new(head.clone()));
        }
        if let Err(turned) = prepared {
            self.keep_request(&head);
            return match turned {
                Turned::Refused(refusal) => chain.failed(Failure::Refused(refusal), self),
                Turned::Redirected(path) => {
                    self.manager().stats.downstream_rq_redirected_with_normalized_path.inc();
                    self.record.set_details(Refusal::PATH.details);
                    chain.answered(local_reply::redirect(path), self)
                }
            };
        }
        *self.record.route.borrow_mut() = self.manager().route(&head, self);
        self.log_start(&head);
        if self.switch.get() != Switch::No && !self.may_switch(&head) {
            return chain.failed(Failure::Refused(Refusal::UPGRADE_FAILED), self);
        }
        let body = if self.is_complete() { Body::Empty } else { self.body() };
        chain.run(Request { head, body }, self)
    }

    /// Looks for the route anew, where filters have left what routes can ask for. A request that wants a tunnel keeps the route that has let it.
    pub(super) fn find_route_again(&self, head: &RequestHead) {
        if self.switch.get() == Switch::No && head.method != http::Method::CONNECT {
            let found = self.manager().route(head, self);
            *self.record.route.borrow_mut() = found;
        }
    }

    /// What the client has yet to send of the request's body.
    pub(super) fn body(&self) -> Body<'_> {
        Body::Request(RequestBody { stream: self })
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

    /// Ends the request: what it was is counted, and what becomes of the connection is decided.
    pub(super) fn finish(self, course: Result<Course, Failure>, begun: Begun) -> After {
        if let Some(joined) = begun.tunnel {
            return self.become_tunnel(*joined);
        }
        let stats = &self.manager().stats;
        let after = match course {
            Ok(Course::Suspended(suspended)) => return self.into_flight(*suspended, begun),
            Ok(Course::Over) if begun.close => {
                if begun.early && matches!(self.client, Client::Http1(_)) {
                    stats.downstream_rq_rx_reset.inc();
                }
                After::Close { linger: begun.linger || self.client.has_unread() }
            }
            Ok(Course::Over) => {
                self.declined();
                After::Keep
            }
            Err(failure) => {
                if begun.head {
                    self.count(failure);
                    self.record.failed(failure, true);
                    self.count_cut(failure);
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
            Client::Own(_) => {}
        }
        self.log_end(now);
        after
    }
}
