//! Bodies as filters see them: pulled frame by frame, whatever they come from.

use std::task::{Context, Poll};

use bytes::Bytes;

use crate::codec::head::Headers;

use super::failure::Failure;
use super::forward::Exchange;
use super::stream::RequestBody;
use super::upgrade::Granted;

/// A part of a body.
#[derive(Debug)]
pub enum Frame {
    /// Data, never empty.
    Data(Bytes),
    /// The end; trailers where the message had them.
    End(Headers),
}

/// A body of a request or a response. Pulling is the back-pressure: what is not pulled is not read.
pub enum Body<'a> {
    /// None.
    Empty,
    /// All of it.
    Full(Bytes),
    /// The client's, read from its connection.
    Request(RequestBody<'a>),
    /// The host's, read from its connection; pulling it drives the upload as well.
    Response(Exchange<'a>),
    /// None of HTTP: the host has granted what the request asked for, and the connection is a tunnel from here on. Filters see the head and
    /// pass this on as it is.
    Tunnel(Box<Granted>),
    /// A filter's own.
    Other(Box<dyn Source + 'a>),
}

/// A body that a filter makes, usually around another one.
pub trait Source {
    /// The next frame. After [`Frame::End`] it is not asked again.
    ///
    /// # Errors
    /// What ends the message early.
    fn poll_frame(&mut self, context: &mut Context<'_>) -> Poll<Result<Frame, Failure>>;

    /// Bytes that are still to come, where that is known.
    fn length(&self) -> Option<u64>;

    /// Does what can be done without a frame being taken: a body around another one passes it on, so that an upload goes on
    /// while the client does not take the response.
    fn poll_beside(&mut self, _context: &mut Context<'_>) {}
}

impl Body<'_> {
    /// The next frame.
    ///
    /// # Errors
    /// What ends the message early.
    pub fn poll_frame(&mut self, context: &mut Context<'_>) -> Poll<Result<Frame, Failure>> {
        match self {
            Self::Empty => Poll::Ready(Ok(Frame::End(Headers::new()))),
            Self::Full(data) => {
                let data = std::mem::take(data);
                *self = Self::Empty;
                if data.is_empty() { self.poll_frame(context) } else { Poll::Ready(Ok(Frame::Data(data))) }
            }
            Self::Request(body) => body.poll_frame(context),
            Self::Response(exchange) => exchange.poll_frame(context),
            // A filter took it for a body.
            Self::Tunnel(_) => Poll::Ready(Err(Failure::Internal)),
            Self::Other(source) => source.poll_frame(context),
        }
    }

    /// Bytes that are still to come, where that is known.
    pub fn length(&self) -> Option<u64> {
        match self {
            Self::Empty => Some(0),
            Self::Full(data) => Some(data.len() as u64),
            Self::Request(body) => body.length(),
            Self::Response(exchange) => exchange.length(),
            Self::Tunnel(_) => None,
            Self::Other(source) => source.length(),
        }
    }

    /// Whether what is left of it can be written down: a response that is pulled straight from its host. A filter's own body holds
    /// what nobody knows, and stays where it is.
    pub(super) fn may_suspend(&self) -> bool {
        matches!(self, Self::Response(exchange) if exchange.may_suspend())
    }

    /// See [`Source::poll_beside`].
    pub fn poll_beside(&mut self, context: &mut Context<'_>) {
        match self {
            Self::Response(exchange) => exchange.poll_beside(context),
            Self::Other(source) => source.poll_beside(context),
            Self::Empty | Self::Full(_) | Self::Request(_) | Self::Tunnel(_) => {}
        }
    }
}
