//! The host's side of a tunnel: a connection of its own, one of the HTTP/1 pool that speaks HTTP no more, or a stream of one that speaks HTTP/2.

use std::io::{self, IoSlice};
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::BytesMut;
use h2::Reason;

use super::flow::{Gone, Side};
use super::http2::End;
use crate::config::model::Address;
use crate::net::Stream;
use crate::upstream::pool::{http1, http2, tcp};

/// A connection to a host.
pub enum Host {
    /// It has carried nothing else.
    Tcp(tcp::Connection),
    /// It carried HTTP/1, and its last request became the tunnel.
    Http1(http1::Lease),
    /// A stream, on a connection that goes on to carry others.
    Http2(Box<HostStream>),
}

/// A stream and its place on its connection.
pub struct HostStream {
    end: End,
    lease: http2::Lease,
}

impl HostStream {
    /// The two together.
    pub fn new(end: End, lease: http2::Lease) -> Self {
        Self { end, lease }
    }
}

/// What it takes of its cluster, without its socket.
pub(super) enum Place {
    Tcp(tcp::Place),
    Http1(http1::Place),
}

impl Host {
    /// Whether it can be given to another epoch.
    pub(super) fn moves(&self) -> bool {
        !matches!(self, Self::Http2(_))
    }

    /// Its socket and its place; `None` unless [`Self::moves`], and then it is lost.
    pub(super) fn into_parts(self) -> Option<(Stream, Place)> {
        match self {
            Self::Tcp(connection) => {
                let (stream, place) = connection.into_parts();
                Some((stream, Place::Tcp(place)))
            }
            Self::Http1(lease) => {
                let (stream, place) = lease.into_parts();
                Some((stream, Place::Http1(place)))
            }
            Self::Http2(_) => None,
        }
    }

    /// The connection is ours from now on.
    pub(super) fn arrived(&mut self) {
        match self {
            Self::Tcp(connection) => connection.place().arrived(),
            Self::Http1(lease) => lease.arrived(),
            Self::Http2(_) => {}
        }
    }

    /// It is not to take the end that follows for one that was meant.
    pub(super) fn reset_on_close(&mut self) {
        match self {
            Self::Tcp(connection) => connection.reset_on_close(),
            Self::Http1(lease) => lease.reset_on_close(),
            Self::Http2(stream) => stream.end.reset(Reason::CANCEL),
        }
    }

    /// Has ended, both ways: nothing is to be reset any more.
    pub(super) fn ended(&mut self) {
        if let Self::Http2(stream) = self {
            stream.lease.ended();
        }
    }

    /// It gave up the stream, and not its whole connection.
    pub(super) fn was_reset(&mut self) -> bool {
        match self {
            Self::Http2(stream) if stream.end.was_reset() => {
                stream.lease.was_reset();
                true
            }
            Self::Http2(stream) => {
                stream.lease.ended();
                false
            }
            Self::Tcp(_) | Self::Http1(_) => false,
        }
    }
}

impl Side for Host {
    fn poll_fill(&mut self, context: &mut Context<'_>, buffer: &mut BytesMut) -> Poll<io::Result<usize>> {
        match self {
            Self::Tcp(connection) => connection.poll_fill(context, buffer),
            Self::Http1(lease) => lease.poll_fill(context, buffer),
            Self::Http2(stream) => stream.end.poll_fill(context, buffer),
        }
    }

    fn poll_write(&mut self, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self {
            Self::Tcp(connection) => connection.poll_write(context, bytes),
            Self::Http1(lease) => lease.poll_write(context, &[IoSlice::new(bytes)]),
            Self::Http2(stream) => stream.end.poll_write(context, bytes),
        }
    }

    fn poll_end(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Tcp(connection) => connection.poll_end(context),
            Self::Http1(lease) => lease.poll_end(context),
            Self::Http2(stream) => stream.end.poll_end(context),
        }
    }

    fn poll_gone(&mut self, context: &mut Context<'_>, unread: bool) -> Poll<Gone> {
        match self {
            Self::Http2(stream) => stream.end.poll_gone(context, unread),
            Self::Tcp(_) | Self::Http1(_) => Poll::Pending,
        }
    }
}

impl Place {
    /// The two together again.
    pub(super) fn with(self, stream: Stream) -> Host {
        match self {
            Self::Tcp(place) => Host::Tcp(tcp::Connection::new(stream, place)),
            Self::Http1(place) => Host::Http1(http1::Lease::new(stream, place)),
        }
    }

    /// Gives the place up without an end: the connection lives on elsewhere.
    pub(super) fn moved(self) {
        match self {
            Self::Tcp(place) => place.moved(),
            Self::Http1(place) => place.moved(),
        }
    }

    /// The cluster's name.
    pub(super) fn cluster(&self) -> &str {
        match self {
            Self::Tcp(place) => place.cluster(),
            Self::Http1(place) => place.cluster(),
        }
    }

    /// Where the host is.
    pub(super) fn address(&self) -> &Address {
        match self {
            Self::Tcp(place) => place.address(),
            Self::Http1(place) => place.address(),
        }
    }

    /// When the host took the connection.
    pub(super) fn opened(&self) -> Instant {
        match self {
            Self::Tcp(place) => place.opened(),
            Self::Http1(place) => place.opened(),
        }
    }

    /// Requests that it has carried; 0 where it speaks no HTTP.
    pub(super) fn requests(&self) -> u32 {
        match self {
            Self::Tcp(_) => 0,
            Self::Http1(place) => place.requests(),
        }
    }
}
