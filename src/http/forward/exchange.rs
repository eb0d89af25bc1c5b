//! One request and its response with a host, by the protocol that the host speaks.
//!
//! Pulling the response drives the upload too: whoever waits for a response frame is woken for either.

use std::task::{Context, Poll};

use crate::codec::head::ResponseHead;
use crate::http::body::Frame;
use crate::http::failure::Failure;
use crate::upstream::pool;

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
