//! One request and its response with a host, by the protocol that the host speaks.
//!
//! Pulling the response drives the upload too: whoever waits for a response frame is woken for either.

use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::Method;

use crate::codec::head::{RequestHead, ResponseHead, Scheme};
use crate::codec::http1::{Body as BodyFraming, encode_request, proper_case};
use crate::codec::http2::head as head2;
use crate::http::body::{Body, Frame};
use crate::http::failure::Failure;
use crate::http::outbox::Outbox;
use crate::http::pump::Pump;
use crate::http::stream::Stream;
use crate::http::upgrade::{Asked, Granted, Switch, handshake};
use crate::upstream::{Cluster, Host, pool};

use super::try_limits::TryLimits;

pub(super) mod http1;
pub(super) mod http2;

pub use http1::Suspended;

/// An exchange with a host.
pub enum Exchange<'a> {
    /// Over HTTP/1.
    Http1(Box<http1::Exchange<'a>>),
    /// Over HTTP/2.
    Http2(Box<http2::Exchange<'a>>),
}

/// A connection, or a place on one, for one exchange.
pub(super) enum Lease {
    Http1(pool::http1::Lease),
    Http2(pool::http2::Lease),
}

/// How a request's body is framed where the framing shows.
pub(super) fn framing(body: &Body<'_>) -> BodyFraming {
    match body.length() {
        Some(0) => BodyFraming::Empty,
        Some(length) => BodyFraming::Length(length),
        None => BodyFraming::Chunked,
    }
}

/// An exchange with its head encoded, or made to what the host's protocol takes.
pub(super) fn encode<'a>(
    stream: &'a Stream<'a>,
    cluster: &Rc<Cluster>,
    host: &Host,
    mut head: RequestHead,
    framing: BodyFraming,
    body: Body<'a>,
) -> Result<Exchange<'a>, Failure> {
    if host.http2(stream.version()).is_some() {
        let method = head.method.clone();
        let asked = if stream.switch() == Switch::No { None } else { Some(Asked::of(&mut head, &body)?) };
        let upgrade = asked.as_ref().and_then(Asked::protocol);
        let request = head2::request(head, upgrade).map_err(|_| Failure::Malformed)?;
        let mut exchange = http2::Exchange::new(stream, cluster.clone(), request, method, body);
        if let Some(asked) = asked {
            exchange.asks(asked);
        }
        return Ok(Exchange::Http2(Box::new(exchange)));
    }
    if stream.switch() == Switch::Allowed && handshake::give_key(&mut head, || stream.manager().draw()) {
        stream.give_key();
    }
    let mut outbox = Outbox::new(stream.manager().local.block());
    let style = cluster.model().http1;
    if style.full_url && head.method != Method::CONNECT {
        head.path = full_url(&head);
    }
    encode_request(&head, framing, &mut outbox.front);
    match &head.cases {
        Some(cases) => cases.write_to(&mut outbox.front),
        None if style.proper_case => proper_case(&mut outbox.front),
        None => {}
    }
    let upload = Pump::new(outbox, framing, style.enable_trailers);
    let exchange = http1::Exchange::new(stream, cluster.clone(), head.method, upload, body);
    Ok(Exchange::Http1(Box::new(exchange)))
}

/// The target as a whole URL (`send_fully_qualified_url`).
fn full_url(head: &RequestHead) -> Bytes {
    let scheme = head.scheme.unwrap_or(Scheme::Http).as_str().as_bytes();
    [scheme, b"://", &head.authority, &head.path].concat().into()
}

macro_rules! either {
    ($exchange:expr, $inner:ident => $call:expr) => {
        match $exchange {
            Exchange::Http1($inner) => $call,
            Exchange::Http2($inner) => $call,
        }
    };
}

impl<'a> Exchange<'a> {
    /// Before a wait for a connection: holds as little as possible.
    pub(super) fn settle(&mut self) {
        if let Self::Http1(exchange) = self {
            exchange.settle();
        }
    }

    /// Limits what the try may take.
    pub(super) fn limit(&mut self, limits: Option<TryLimits>) {
        either!(self, exchange => exchange.limit(limits));
    }

    /// The rest of the upload comes from here: nobody else has to see it any more.
    pub(super) fn go_on_with(&mut self, body: Body<'a>) {
        either!(self, exchange => exchange.go_on_with(body));
    }

    /// The response whose head has come is passed on.
    pub(super) fn accept(&mut self) {
        either!(self, exchange => exchange.accept());
    }

    /// The response whose head has come is not passed on.
    pub(super) fn dismiss(&mut self) {
        either!(self, exchange => exchange.dismiss());
    }

    /// Whether the answer hands the request back. HTTP/2 has no reason phrase that could say so.
    pub(super) fn is_handed_back(&self) -> bool {
        match self {
            Self::Http1(exchange) => exchange.is_handed_back(),
            Self::Http2(_) => false,
        }
    }

    /// Nothing of the request has been sent.
    pub(super) fn is_unseen(&self) -> bool {
        either!(self, exchange => exchange.is_unseen())
    }

    /// Takes what to talk on, of its own protocol; of another it is let go of.
    pub(super) fn begin(&mut self, lease: Lease) {
        match (self, lease) {
            (Self::Http1(exchange), Lease::Http1(lease)) => exchange.begin(lease),
            (Self::Http2(exchange), Lease::Http2(lease)) => exchange.begin(lease),
            (Self::Http1(_), Lease::Http2(_)) | (Self::Http2(_), Lease::Http1(_)) => {}
        }
    }

    /// Sends the request once more, on another connection.
    pub(super) fn begin_again(&mut self, lease: Lease) {
        match (self, lease) {
            (Self::Http1(exchange), Lease::Http1(lease)) => exchange.begin_again(lease),
            (Self::Http2(exchange), Lease::Http2(lease)) => exchange.begin_again(lease),
            (Self::Http1(_), Lease::Http2(_)) | (Self::Http2(_), Lease::Http1(_)) => {}
        }
    }

    /// Sends the request and waits for the response's head.
    pub(super) fn poll_head(&mut self, context: &mut Context<'_>) -> Poll<Result<ResponseHead, Failure>> {
        either!(self, exchange => exchange.poll_head(context))
    }

    /// The next frame of the response's body.
    pub(in crate::http) fn poll_frame(&mut self, context: &mut Context<'_>) -> Poll<Result<Frame, Failure>> {
        either!(self, exchange => exchange.poll_frame(context))
    }

    /// What is left of the response's body, where that is known.
    pub(in crate::http) fn length(&self) -> Option<u64> {
        either!(self, exchange => exchange.length())
    }

    /// Goes on with the upload while the client does not take the response.
    pub(in crate::http) fn poll_beside(&mut self, context: &mut Context<'_>) {
        either!(self, exchange => exchange.poll_beside(context));
    }

    /// Whether the request may be sent once more on a fresh connection, whatever the retry policy says.
    pub(super) fn may_try_again(&self) -> bool {
        either!(self, exchange => exchange.may_try_again())
    }

    /// Gives up the connection that failed.
    pub(super) fn let_go(&mut self) {
        either!(self, exchange => exchange.let_go());
    }

    /// The host's side of the tunnel that it has granted; itself, if it has not.
    pub(super) fn granted(self) -> Result<Granted, Self> {
        match self {
            Self::Http1(exchange) => exchange.granted().map_err(Self::Http1),
            Self::Http2(exchange) => exchange.granted().map_err(Self::Http2),
        }
    }

    /// Whether it can be suspended now: it is all ours. What an HTTP/2 stream is stands in the `h2` crate.
    pub(in crate::http) fn may_suspend(&self) -> bool {
        match self {
            Self::Http1(exchange) => exchange.may_suspend(),
            Self::Http2(_) => false,
        }
    }

    /// Ends the work on it, between two polls, where [`Self::may_suspend`]; else it is lost.
    pub(in crate::http) fn suspend(self) -> Option<Suspended> {
        match self {
            Self::Http1(exchange) => Some(exchange.suspend()),
            Self::Http2(_) => None,
        }
    }
}
