//! The router: the last step of every filter chain. It answers directly, or sends the request to a host of the route's cluster.
//!
//! ```text
//!   route ─▶ cluster ─▶ host ─▶ head encoded ─▶ connection: kept, or new ─▶ Exchange ─▶ response head
//!                                                   ▲                          │
//!                                                   └─ once more on a fresh one when a kept one turned out to be dead
//! ```
//!
//! The request head is encoded before anything is waited for, and dropped: a request that waits for its answer holds no head and no
//! block, only, on a kept connection, the few bytes that it may have to send again.

use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use bytes::Bytes;

use crate::codec::head::ResponseHead;
use crate::codec::http1::{self, encode_request};
use crate::codec::http2::head;
use crate::config::model::{self, RouteAction};
use crate::route::Decision;
use crate::upstream::pool::Refused;
use crate::upstream::{Cluster, Host};

use super::body::Body;
use super::failure::Failure;
use super::filter::{Request, Response};
use super::headers::{announce_service_time, announce_timeout};
use super::outbox::Outbox;
use super::pump::Pump;
use super::stream::Stream;

mod exchange;
pub(super) mod rewrite;

use exchange::Lease;
pub use exchange::{Exchange, Suspended};

/// A request in the hands of the router: a future that is a plain value, so that it is no larger than what it must remember.
pub struct Forwarding<'a> {
    stream: &'a Stream<'a>,
    router: &'a model::Router,
    state: State<'a>,
}

enum State<'a> {
    /// Settled without waiting, or over.
    Done(Result<Response<'a>, Failure>),
    /// Waits for a connection; the second time because a kept one was dead.
    Connecting { exchange: Exchange<'a>, connect: Connecting<'a>, again: bool },
    /// The request is on its way; waits for the response's head.
    Waiting(Exchange<'a>),
}

type Connecting<'a> = Pin<Box<dyn Future<Output = Result<Lease, Refused>> + 'a>>;

/// Takes a request as the last of its chain. What can be done at once is done here, and the request's head is gone.
pub(super) fn run<'a>(request: Request<'a>, stream: &'a Stream<'a>, router: &'a model::Router) -> Forwarding<'a> {
    let state = begin(request, stream, router).unwrap_or_else(|failure| State::Done(Err(failure)));
    Forwarding { stream, router, state }
}

impl<'a> Forwarding<'a> {
    /// A request that has failed already.
    pub(super) fn failed(failure: Failure, stream: &'a Stream<'a>, router: &'a model::Router) -> Self {
        Self { stream, router, state: State::Done(Err(failure)) }
    }

    /// Goes on with a request that waits for the response's head.
    pub(super) fn resume(exchange: Exchange<'a>, stream: &'a Stream<'a>, router: &'a model::Router) -> Self {
        Self { stream, router, state: State::Waiting(exchange) }
    }

    /// Whether the request can be written down now: it has its connection and waits for the response's head, and nothing but its
    /// exchange knows how to go on. A request that has a policy of its own for what comes next has to say no here.
    pub(super) fn may_suspend(&self) -> bool {
        // What the route still does to the response, and where it counts it, the other epoch could not know.
        matches!(&self.state, State::Waiting(exchange) if exchange.may_suspend())
            && !rewrite::awaits_response(self.stream)
    }

    /// Gives the exchange up. `None`, and the request is lost, unless [`Self::may_suspend`].
    pub(super) fn suspend(self) -> Option<Exchange<'a>> {
        match self.state {
            State::Waiting(exchange) => Some(exchange),
            State::Done(_) | State::Connecting { .. } => None,
        }
    }

    fn connect(&self, exchange: Exchange<'a>, again: bool) -> Result<State<'a>, Failure> {
        // A request that has got this far has a host.
        let host = self.stream.record().host.borrow().clone().ok_or(Failure::Internal)?;
        Ok(connect(self.stream, &host, exchange, again))
    }

    /// The response is on its way: its head goes up the filters, its body is pulled.
    fn respond(&self, mut head: ResponseHead, exchange: Exchange<'a>) -> Response<'a> {
        let now = Instant::now();
        let record = self.stream.record();
        record.answered_at.set(Some(now));
        record.set_details("via_upstream");
        self.stream.moved(now);
        if !self.router.suppress_envoy_headers {
            announce_service_time(&mut head.headers, now - record.received_at.get().unwrap_or(now));
        }
        rewrite::response(&mut head, self.stream);
        Response { head, body: Body::Response(exchange) }
    }
}

impl<'a> Future for Forwarding<'a> {
    type Output = Result<Response<'a>, Failure>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        loop {
            let step = match &mut self.state {
                State::Done(_) => Step::Take,
                State::Connecting { connect, .. } => Step::Connected(ready!(connect.as_mut().poll(context))?),
                State::Waiting(exchange) => match ready!(exchange.poll_head(context)) {
                    Ok(head) => Step::Answered(head),
                    Err(_) if exchange.may_try_again() => Step::TryAgain,
                    Err(failure) => return Poll::Ready(Err(failure)),
                },
            };
            // Behind the end nobody asks again; if somebody does, this is what there is.
            let state = std::mem::replace(&mut self.state, State::Done(Err(Failure::Internal)));
            match (state, step) {
                (State::Connecting { mut exchange, again, .. }, Step::Connected(lease)) => {
                    if again {
                        exchange.begin_again(lease);
                    } else {
                        exchange.begin(lease);
                    }
                    self.state = State::Waiting(exchange);
                }
                (State::Waiting(exchange), Step::Answered(head)) => {
                    return Poll::Ready(Ok(self.respond(head, exchange)));
                }
                (State::Waiting(mut exchange), Step::TryAgain) => {
                    exchange.let_go();
                    self.state = self.connect(exchange, true)?;
                }
                (State::Done(done), _) => return Poll::Ready(done),
                (State::Connecting { .. } | State::Waiting(_), _) => return Poll::Ready(Err(Failure::Internal)),
            }
        }
    }
}

/// What a poll of one state came to.
enum Step {
    Take,
    Connected(Lease),
    Answered(ResponseHead),
    TryAgain,
}

fn begin<'a>(request: Request<'a>, stream: &'a Stream<'a>, router: &model::Router) -> Result<State<'a>, Failure> {
    let record = stream.record();
    stream.keep_request(&request.head);
    let decision = record.route.borrow();
    let stats = &stream.manager().stats;
    stats.rq_total.inc();
    let Some(decision) = &*decision else { return Err(Failure::NoRoute) };
    match decision.action() {
        RouteAction::DirectResponse { status, body } => {
            Ok(State::Done(Ok(rewrite::answer(&request.head, stream, decision, *status, body.clone()))))
        }
        RouteAction::Redirect(redirect) => {
            Ok(State::Done(Ok(rewrite::answer(&request.head, stream, decision, redirect.status, Bytes::new()))))
        }
        RouteAction::NonForwarding => Err(Failure::NoCluster { status: 503 }),
        RouteAction::Forward(forward) => {
            let cluster = stream.manager().cluster(decision);
            let cluster = cluster.ok_or(Failure::NoCluster { status: forward.cluster_not_found })?;
            stream.set_timeouts(forward.timeout, forward.idle_timeout);
            stream.set_duration(rewrite::duration(&request.head, forward.max_stream_duration));
            stream.manager().route_stats.begin(stream, &request.head);
            *record.cluster.borrow_mut() = Some(cluster.clone());
            record.log(|live| live.context.attempts += 1);
            let host = cluster.pick().ok_or(Failure::NoHealthyUpstream)?;
            *record.host.borrow_mut() = Some(host.clone());
            stream.manager().route_stats.each(record, |counted| counted.stats.upstream_rq_total.inc());
            let mut exchange = encode(request, stream, cluster, host, forward, decision, router)?;
            match reuse(stream, host)? {
                Some(lease) => {
                    exchange.begin(lease);
                    Ok(State::Waiting(exchange))
                }
                None => {
                    exchange.settle();
                    Ok(connect(stream, host, exchange, false))
                }
            }
        }
    }
}

/// Encodes the head and forgets it, or makes of it what the host's protocol takes.
fn encode<'a>(
    request: Request<'a>,
    stream: &'a Stream<'a>,
    cluster: &Rc<Cluster>,
    host: &Host,
    forward: &model::Forward,
    decision: &Decision,
    router: &model::Router,
) -> Result<Exchange<'a>, Failure> {
    let Request { mut head, body } = request;
    if let Some(timeout) = forward.timeout.filter(|_| !router.suppress_envoy_headers) {
        announce_timeout(&mut head.headers, timeout);
    }
    rewrite::request(&mut head, stream, forward, decision, router);
    stream.keep_request(&head);
    if host.http2(stream.version()).is_some() {
        let method = head.method.clone();
        let request = head::request(head, None).map_err(|_| Failure::Malformed)?;
        let exchange = exchange::http2::Exchange::new(stream, cluster.clone(), request, method, body);
        return Ok(Exchange::Http2(Box::new(exchange)));
    }
    let framing = match body.length() {
        Some(0) => http1::Body::Empty,
        Some(length) => http1::Body::Length(length),
        None => http1::Body::Chunked,
    };
    let mut outbox = Outbox::new(stream.manager().local.block());
    encode_request(&head, framing, &mut outbox.front);
    let upload = Pump::new(outbox, framing, stream.manager().config.http1.enable_trailers);
    let exchange = exchange::http1::Exchange::new(stream, cluster.clone(), head.method, upload, body);
    Ok(Exchange::Http1(Box::new(exchange)))
}

/// A connection that is there.
fn reuse(stream: &Stream<'_>, host: &Host) -> Result<Option<Lease>, Refused> {
    match host.http2(stream.version()) {
        Some(pool) => Ok(pool.reuse()?.map(Lease::Http2)),
        None => Ok(host.pool().reuse()?.map(Lease::Http1)),
    }
}

fn connect<'a>(stream: &'a Stream<'a>, host: &Host, exchange: Exchange<'a>, again: bool) -> State<'a> {
    let connect: Connecting<'a> = match host.http2(stream.version()) {
        Some(pool) => {
            let pool = pool.clone();
            Box::pin(async move { pool.connect(stream.timer()).await.map(Lease::Http2) })
        }
        None => {
            let pool = host.pool().clone();
            Box::pin(async move { pool.connect(stream.timer()).await.map(Lease::Http1) })
        }
    };
    State::Connecting { exchange, connect, again }
}

/// An exchange that was suspended, as a part of `stream`.
pub(super) fn resumed<'a>(stream: &'a Stream<'a>, suspended: Suspended) -> Exchange<'a> {
    Exchange::Http1(exchange::http1::Exchange::resume(stream, suspended))
}

/// A copy of what a kept connection was sent, for a fresh one.
pub(super) struct Replay {
    pub(super) bytes: Bytes,
    /// It is the whole request; else it is the head, and good only while nothing of the body has been taken.
    pub(super) whole: bool,
}
