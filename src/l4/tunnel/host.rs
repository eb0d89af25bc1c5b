//! The host's side of a tunnel: a connection of its own, or one of the HTTP/1 pool that speaks HTTP no more.

use std::io::{self, IoSlice};
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::BytesMut;

use super::flow::Side;
use crate::config::model::Address;
use crate::net::Stream;
use crate::upstream::pool::{http1, tcp};

/// A connection to a host.
pub enum Host {
    /// It has carried nothing else.
    Tcp(tcp::Connection),
    /// It carried HTTP/1, and its last request became the tunnel.
    Http1(http1::Lease),
}

/// What it takes of its cluster, without its socket.
pub(super) enum Place {
    Tcp(tcp::Place),
    Http1(http1::Place),
}

impl Host {
    pub(super) fn into_parts(self) -> (Stream, Place) {
        match self {
            Self::Tcp(connection) => {
                let (stream, place) = connection.into_parts();
                (stream, Place::Tcp(place))
            }
            Self::Http1(lease) => {
                let (stream, place) = lease.into_parts();
                (stream, Place::Http1(place))
            }
        }
    }

    /// The connection is ours from now on.
    pub(super) fn arrived(&mut self) {
        match self {
            Self::Tcp(connection) => connection.place().arrived(),
            Self::Http1(lease) => lease.arrived(),
        }
    }

    pub(super) fn reset_on_close(&self) {
        match self {
            Self::Tcp(connection) => connection.reset_on_close(),
            Self::Http1(lease) => lease.reset_on_close(),
        }
    }
}

impl Side for Host {
    fn poll_fill(&mut self, context: &mut Context<'_>, buffer: &mut BytesMut) -> Poll<io::Result<usize>> {
        match self {
            Self::Tcp(connection) => connection.poll_fill(context, buffer),
            Self::Http1(lease) => lease.poll_fill(context, buffer),
        }
    }

    fn poll_write(&mut self, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self {
            Self::Tcp(connection) => connection.poll_write(context, bytes),
            Self::Http1(lease) => lease.poll_write(context, &[IoSlice::new(bytes)]),
        }
    }

    fn poll_end(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Tcp(connection) => connection.poll_end(context),
            Self::Http1(lease) => lease.poll_end(context),
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
