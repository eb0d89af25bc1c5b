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

use std::future::poll_fn;
use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::Method;

use crate::codec::http1::{self, encode_request};
use crate::config::model::{self, RouteAction};
use crate::upstream::{Cluster, Host};

use super::body::Body;
use super::failure::Failure;
use super::filter::{Request, Response};
use super::headers::{announce_service_time, announce_timeout};
use super::local_reply;
use super::outbox::Outbox;
use super::pump::Pump;
use super::stream::Stream;

mod exchange;

pub use exchange::Exchange;

/// Takes a request as the last of its chain.
pub(super) async fn run<'a>(
    request: Request<'a>,
    stream: &'a Stream<'a>,
    router: &'a model::Router,
) -> Result<Response<'a>, Failure> {
    let decision = stream.record().route.borrow().clone();
    let stats = &stream.manager().stats;
    stats.rq_total.inc();
    let Some(decision) = decision else { return Err(Failure::NoRoute) };
    match decision.action() {
        RouteAction::DirectResponse { status, body } => {
            stats.rq_direct_response.inc();
            stream.record().set_details("direct_response");
            Ok(local_reply::text(*status, body.clone()))
        }
        RouteAction::Cluster { timeout, idle_timeout, .. } => {
            let cluster = stream.manager().cluster(&decision).ok_or(Failure::NoCluster)?;
            stream.set_timeouts(*timeout, *idle_timeout);
            *stream.record().cluster.borrow_mut() = Some(cluster.clone());
            let host = cluster.pick().ok_or(Failure::NoHealthyUpstream)?;
            *stream.record().host.borrow_mut() = Some(host.clone());
            let head = Attempt::new(request, stream, router, *timeout);
            head.send(cluster, host, router).await
        }
    }
}

/// A request that is ready to be sent.
struct Attempt<'a> {
    stream: &'a Stream<'a>,
    method: Method,
    upload: Pump,
    body: Body<'a>,
}

impl<'a> Attempt<'a> {
    fn new(request: Request<'a>, stream: &'a Stream<'a>, router: &model::Router, timeout: Option<Duration>) -> Self {
        let Request { mut head, body } = request;
        if let Some(timeout) = timeout
            && !router.suppress_envoy_headers
        {
            announce_timeout(&mut head.headers, timeout);
        }
        let framing = match body.length() {
            Some(0) => http1::Body::Empty,
            Some(length) => http1::Body::Length(length),
            None => http1::Body::Chunked,
        };
        let mut outbox = Outbox::new(stream.manager().local.block());
        encode_request(&head, framing, &mut outbox.front);
        let trailers = stream.manager().config.http1.enable_trailers;
        Self { stream, method: head.method, upload: Pump::new(outbox, framing, trailers), body }
    }

    async fn send(
        mut self,
        cluster: &Rc<Cluster>,
        host: &Rc<Host>,
        router: &model::Router,
    ) -> Result<Response<'a>, Failure> {
        let stream = self.stream;
        let local = &stream.manager().local;
        let lease = match host.pool().reuse()? {
            Some(lease) => lease,
            None => {
                local.settle(&mut self.upload.outbox.front);
                Box::pin(host.pool().connect(stream.timer())).await?
            }
        };
        let idempotent = matches!(
            self.method,
            Method::GET | Method::HEAD | Method::OPTIONS | Method::TRACE | Method::PUT | Method::DELETE
        );
        let mut exchange = Box::new(Exchange::new(stream, cluster.clone(), lease, self.method, self.upload, self.body));
        let mut head = poll_fn(|context| exchange.poll_head(context)).await;
        if head.is_err() && exchange.may_try_again(idempotent) {
            exchange.let_go();
            let fresh = Box::pin(host.pool().connect(stream.timer())).await?;
            exchange.begin_again(fresh);
            head = poll_fn(|context| exchange.poll_head(context)).await;
        }
        let mut head = head?;
        let now = Instant::now();
        let record = stream.record();
        record.answered_at.set(Some(now));
        record.set_details("via_upstream");
        stream.moved(now);
        if !router.suppress_envoy_headers {
            announce_service_time(&mut head.headers, now - record.received_at.get().unwrap_or(now));
        }
        Ok(Response { head, body: Body::Response(exchange) })
    }
}

/// A copy of what a kept connection was sent, for a fresh one.
struct Replay {
    bytes: Bytes,
    /// It is the whole request; else it is the head, and good only while nothing of the body has been taken.
    whole: bool,
}
