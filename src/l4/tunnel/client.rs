//! The client's side of a tunnel: its socket, or one stream of its HTTP/2 connection.

use std::io::{self, IoSlice};
use std::task::{Context, Poll, ready};

use bytes::BytesMut;
use h2::Reason;

use super::Owner;
use super::flow::{Gone, Side};
use super::http2::End;
use crate::net::Stream;

/// What a client talks on.
pub enum Client {
    /// A connection of its own.
    Socket(Stream),
    /// A stream, on a connection that goes on to carry others.
    Http2(Box<End>),
}

impl Client {
    /// Whether it can be given to another epoch.
    pub(super) fn moves(&self) -> bool {
        matches!(self, Self::Socket(_))
    }

    /// It is not to take the end that follows for one that was meant; over HTTP/2 it is told why.
    pub(super) fn reset_on_close(&mut self, reason: Reason) {
        match self {
            Self::Socket(stream) => drop(stream.reset_on_close()),
            Self::Http2(end) => end.reset(reason),
        }
    }

    /// The tunnel ends before either side wanted it to. A socket is only closed.
    pub(super) fn cut(&mut self) {
        if let Self::Http2(end) = self {
            end.reset(Reason::INTERNAL_ERROR);
        }
    }

    /// It gave up the stream, and not its whole connection.
    pub(super) fn was_reset(&self) -> bool {
        matches!(self, Self::Http2(end) if end.was_reset())
    }
}

/// A client's side whose owner hears what passes.
pub(super) struct Counted<'a, O> {
    pub(super) client: &'a mut Client,
    pub(super) owner: &'a O,
}

impl<O: Owner> Side for Counted<'_, O> {
    fn poll_fill(&mut self, context: &mut Context<'_>, buffer: &mut BytesMut) -> Poll<io::Result<usize>> {
        let filled = ready!(match self.client {
            Client::Socket(stream) => self.owner.local().poll_fill(stream, context, buffer),
            Client::Http2(end) => end.poll_fill(context, buffer),
        });
        if let Ok(read) = &filled {
            self.owner.received(*read as u64);
        }
        Poll::Ready(filled)
    }

    fn poll_write(&mut self, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = ready!(match self.client {
            Client::Socket(stream) => stream.poll_write_slices(context, &[IoSlice::new(bytes)]),
            Client::Http2(end) => end.poll_write(context, bytes),
        });
        if let Ok(written) = &written {
            self.owner.sent(*written as u64);
        }
        Poll::Ready(written)
    }

    fn poll_end(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.client {
            Client::Socket(stream) => stream.poll_end(context),
            Client::Http2(end) => end.poll_end(context),
        }
    }

    fn poll_gone(&mut self, context: &mut Context<'_>, unread: bool) -> Poll<Gone> {
        match self.client {
            Client::Socket(_) => Poll::Pending,
            Client::Http2(end) => end.poll_gone(context, unread),
        }
    }
}
