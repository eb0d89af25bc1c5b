//! The router: the last step of every filter chain. It answers directly, or sends the request to a host of the route's cluster.
//!
//! ```text
//!   route ─▶ cluster ─▶ host ─▶ head encoded ─▶ connection: kept, or new ─▶ Exchange ─▶ response head ─▶ passed on
//!                        ▲                          ▲                          │              │
//!                        │                          └─ once more on a fresh one when a kept one turned out to be dead
//!                        └──────────── back-off ◀── Attempts, where there is a retry policy ◀─┘
//! ```
//!
//! The request head is encoded before anything is waited for, and dropped: a request that waits for its answer holds no head and no
//! block, only, on a kept connection, the few bytes that it may have to send again. A request with a retry policy holds its head and
//! its body, as far as the route's limit goes (`keeper`), until an answer is passed on.

use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use bytes::Bytes;

use crate::codec::head::ResponseHead;
use crate::config::model;
use crate::local::Deadline;
use crate::upstream::Cluster;
use crate::upstream::pool::{Refused, tcp};

use super::body::Body;
use super::failure::Failure;
use super::filter::{Request, Response};
use super::headers::announce_service_time;
use super::headers::names::X_ENVOY_UPSTREAM_CANARY;
use super::stream::Stream;
use super::upgrade::Switch;

mod attempts;
mod begin;
mod connect;
mod controls;
mod exchange;
#[cfg(any(test, feature = "fuzzing"))]
pub(super) mod fuzz;
mod handover;
mod hedge;
mod keeper;
mod mirror;
mod redirected;
mod retry;
pub(super) mod rewrite;
mod timeouts;
mod try_limits;

use attempts::{Attempts, Next};
use begin::begin;
use connect::{connect, send, switched, terminated};
use exchange::Lease;
pub use exchange::{Exchange, Suspended};
use retry::Event;

/// What an exchange over HTTP/1 holds while it waits.
#[cfg(test)]
pub(super) const HTTP1_EXCHANGE: usize = size_of::<exchange::http1::Exchange<'static>>();

/// A request in the hands of the router: a future that is a plain value, so that it is no larger than what it must remember.
pub struct Forwarding<'a> {
    stream: &'a Stream<'a>,
    router: &'a model::Router,
    state: State<'a>,
    /// Of a request that may be tried again.
    attempts: Option<Box<Attempts<'a>>>,
}

/// For requests of our own.
static PLAIN: model::Router =
    model::Router { suppress_envoy_headers: true, strict: Vec::new(), respect_expected_timeout: false };

enum State<'a> {
    /// Settled without waiting, or over.
    Done(Result<Response<'a>, Failure>),
    /// Waits for a connection; the second time because a kept one was dead.
    Connecting { exchange: Exchange<'a>, connect: Connecting<'a>, again: bool },
    /// The request is on its way; waits for the response's head.
    Waiting(Exchange<'a>),
    /// Between two tries, with the body of the next.
    Pausing(Deadline, Body<'a>),
    /// A CONNECT that ends here: waits for a connection that carries no HTTP.
    Opening(Opening<'a>),
}

type Opening<'a> = Pin<Box<dyn Future<Output = Result<tcp::Connection, Refused>> + 'a>>;
type Connecting<'a> = Pin<Box<dyn Future<Output = Result<Lease, Refused>> + 'a>>;

/// Takes a request as the last of its chain. What can be done at once is done here, and the request's head is gone.
pub(super) fn run<'a>(request: Request<'a>, stream: &'a Stream<'a>, router: &'a model::Router) -> Forwarding<'a> {
    let mut attempts = None;
    let state = begin(request, stream, router, &mut attempts).unwrap_or_else(|failure| State::Done(Err(failure)));
    Forwarding { stream, router, state, attempts }
}

/// Takes a request of our own, which has a cluster and no route.
pub(super) fn call<'a>(request: Request<'a>, cluster: &Rc<Cluster>, stream: &'a Stream<'a>) -> Forwarding<'a> {
    let state = begin::call(request, cluster, stream).unwrap_or_else(|failure| State::Done(Err(failure)));
    Forwarding { stream, router: &PLAIN, state, attempts: None }
}

impl<'a> Forwarding<'a> {
    /// A request that has failed already.
    pub(super) fn failed(failure: Failure, stream: &'a Stream<'a>, router: &'a model::Router) -> Self {
        Self { stream, router, state: State::Done(Err(failure)), attempts: None }
    }

    /// A request that has been answered already.
    pub(super) fn settled(response: Response<'a>, stream: &'a Stream<'a>, router: &'a model::Router) -> Self {
        Self { stream, router, state: State::Done(Ok(response)), attempts: None }
    }

    /// Goes on with a request that waits for the response's head.
    pub(super) fn resume(exchange: Exchange<'a>, stream: &'a Stream<'a>, router: &'a model::Router) -> Self {
        Self { stream, router, state: State::Waiting(exchange), attempts: None }
    }

    /// Whether the request can be written down now: it has its connection and waits for the response's head, and nothing but its
    /// exchange knows how to go on. A request that may be tried again, or whose response says how often it was, stays until its
    /// response's head has come.
    pub(super) fn may_suspend(&self) -> bool {
        // What the route still does to the response, and where it counts it, the other epoch could not know.
        self.attempts.is_none()
            && !self.stream.record().announces_attempts.get()
            && matches!(&self.state, State::Waiting(exchange) if exchange.may_suspend())
            && !rewrite::awaits_response(self.stream)
    }

    /// Gives the exchange up. `None`, and the request is lost, unless [`Self::may_suspend`].
    pub(super) fn suspend(self) -> Option<Exchange<'a>> {
        match self.state {
            State::Waiting(exchange) => Some(exchange),
            State::Done(_) | State::Connecting { .. } | State::Pausing(..) | State::Opening(_) => None,
        }
    }

    fn connect(&self, exchange: Exchange<'a>, again: bool) -> Result<State<'a>, Failure> {
        // A request that has got this far has a host.
        let host = self.stream.record().host.borrow().clone().ok_or(Failure::Internal)?;
        Ok(connect(self.stream, &host, exchange, again))
    }

    /// The head of a response has come: it is passed on, or the request tried again.
    fn answered(&mut self, head: ResponseHead, mut exchange: Exchange<'a>) -> Result<State<'a>, Failure> {
        let handed_back = exchange.is_handed_back();
        let Some(attempts) = &mut self.attempts else {
            return if handed_back { Err(Failure::HandedBack) } else { Ok(self.respond(head, exchange)) };
        };
        let spent = attempts.hedges.is_spent();
        let next = if spent {
            Next::Pass { bad: handed_back || attempts.is_bad(&head) }
        } else {
            let event = if handed_back { Event::Handover } else { Event::Answer(head.status, &head.headers) };
            attempts.judge(event)
        };
        match next {
            Next::Pause(until) => {
                attempts.ended_by(None);
                exchange.dismiss();
                let body = if handed_back { attempts.handed_back(exchange) } else { attempts.body() };
                Ok(State::Pausing(until, body))
            }
            Next::Pass { bad: true } if let Some(state) = self.forget(&mut exchange) => Ok(state),
            Next::Pass { .. } if handed_back => Err(Failure::HandedBack),
            Next::Pass { .. } => self.pass_on(head, exchange),
        }
    }

    /// A try has failed: the request is tried again, or has failed.
    fn try_failed(&mut self, failure: Failure, exchange: Option<Exchange<'a>>) -> Result<State<'a>, Failure> {
        let Some(attempts) = &mut self.attempts else { return Err(failure) };
        let unseen = exchange.as_ref().is_none_or(|exchange| exchange.is_unseen());
        let Some(event) = Event::of(failure, unseen) else { return Err(failure) };
        if !attempts.hedges.is_spent()
            && let Next::Pause(until) = attempts.judge(event)
        {
            attempts.ended_by(Some(failure));
            return Ok(State::Pausing(until, attempts.body()));
        }
        let host = self.stream.record().host.borrow().clone();
        let Some(state) = self.fall_back() else { return Err(failure) };
        if let Some(host) = host {
            self.stream.count_aborted(&host, failure);
        }
        Ok(state)
    }

    /// The next try begins.
    fn try_again(&mut self, body: Body<'a>) -> Result<State<'a>, Failure> {
        let attempts = self.attempts.as_mut().ok_or(Failure::Internal)?;
        let host = attempts.pick().ok_or(Failure::NoHealthyUpstream)?;
        let exchange = attempts.exchange(&host, body, !self.router.suppress_envoy_headers)?;
        send(self.stream, &host, exchange).or_else(|failure| self.try_failed(failure, None))
    }

    /// The response is on its way: its head goes up the filters, its body is pulled.
    fn respond(&mut self, mut head: ResponseHead, mut exchange: Exchange<'a>) -> State<'a> {
        if let Some(attempts) = self.attempts.take() {
            attempts.over(&mut exchange);
        }
        let canary = head.headers.get(&X_ENVOY_UPSTREAM_CANARY).is_some_and(|value| value == "true");
        self.stream.record().canary.set(canary);
        exchange.accept();
        let now = Instant::now();
        let record = self.stream.record();
        record.answered_at.set(Some(now));
        record.set_details("via_upstream");
        self.stream.moved(now);
        if self.stream.switch() != Switch::No {
            return State::Done(Ok(switched(head, exchange, self.stream)));
        }
        // Header operations may name the code.
        record.status.set(head.status.as_u16());
        // A request that is not over yet has no service time.
        if !self.router.suppress_envoy_headers && self.stream.is_complete() {
            announce_service_time(&mut head.headers, now - record.received_at.get().unwrap_or(now));
        }
        rewrite::response(&mut head, self.stream);
        State::Done(Ok(Response { head, body: Body::Response(exchange), local: false }))
    }
}

impl<'a> Future for Forwarding<'a> {
    type Output = Result<Response<'a>, Failure>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        loop {
            if let Some(state) = this.poll_beside(context) {
                this.state = state?;
            }
            let step = match &mut this.state {
                State::Done(_) => Step::Take,
                State::Connecting { connect, .. } => match ready!(connect.as_mut().poll(context)) {
                    Ok(lease) => Step::Connected(lease),
                    Err(refused) => Step::Failed(refused.into()),
                },
                State::Waiting(exchange) => match exchange.poll_head(context) {
                    Poll::Ready(Ok(head)) => Step::Answered(head),
                    Poll::Ready(Err(Failure::UpstreamClosed | Failure::UpstreamRefused))
                        if exchange.may_try_again() =>
                    {
                        Step::FreshConnection
                    }
                    Poll::Ready(Err(Failure::PerTryTimeout))
                        if this.attempts.as_ref().is_some_and(|a| a.hedges_on_timeout()) =>
                    {
                        Step::Slow
                    }
                    Poll::Ready(Err(failure)) => Step::Failed(failure),
                    Poll::Pending => {
                        if let Some(attempts) = &mut this.attempts {
                            attempts.notice_overflow();
                        }
                        return Poll::Pending;
                    }
                },
                State::Pausing(until, _) => {
                    ready!(this.stream.timer().poll_until(context, *until));
                    Step::NextTry
                }
                State::Opening(opening) => Step::Opened(ready!(opening.as_mut().poll(context))?),
            };
            // Behind the end nobody asks again; if somebody does, this is what there is.
            let state = std::mem::replace(&mut this.state, State::Done(Err(Failure::Internal)));
            this.state = match (state, step) {
                (State::Done(done), _) => return Poll::Ready(done),
                (State::Connecting { mut exchange, again, .. }, Step::Connected(lease)) => {
                    if again {
                        exchange.begin_again(lease);
                    } else {
                        exchange.begin(lease);
                    }
                    State::Waiting(exchange)
                }
                (State::Waiting(exchange), Step::Answered(head)) => this.answered(head, exchange)?,
                (State::Waiting(mut exchange), Step::FreshConnection) => {
                    exchange.let_go();
                    this.connect(exchange, true)?
                }
                (State::Waiting(exchange) | State::Connecting { exchange, .. }, Step::Failed(failure)) => {
                    this.try_failed(failure, Some(exchange))?
                }
                (State::Waiting(exchange), Step::Slow) => this.hedge(exchange)?,
                (State::Pausing(_, body), Step::NextTry) => this.try_again(body)?,
                (State::Opening(_), Step::Opened(connection)) => {
                    return Poll::Ready(Ok(terminated(connection, this.stream)));
                }
                (State::Connecting { .. } | State::Waiting(_) | State::Pausing(..) | State::Opening(_), _) => {
                    return Poll::Ready(Err(Failure::Internal));
                }
            };
        }
    }
}

/// What a poll of one state came to.
enum Step {
    Take,
    Connected(Lease),
    Opened(tcp::Connection),
    Answered(ResponseHead),
    Failed(Failure),
    FreshConnection,
    /// The try takes too long, and goes on.
    Slow,
    NextTry,
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
