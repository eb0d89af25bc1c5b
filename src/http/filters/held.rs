//! Bodies that a filter needs whole: held up to a limit.

use std::future::poll_fn;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};

use crate::codec::head::Headers;
use crate::http::body::{Body, Frame, Source};
use crate::http::failure::Failure;
use crate::http::filter::{Next, Response};
use crate::http::local_reply;

/// It is longer than may be held.
pub(super) struct TooMuch;

/// All of a body, and its trailers.
///
/// # Errors
/// The outer one ends the message early.
pub(super) async fn all(mut body: Body<'_>, most: usize) -> Result<Result<(Bytes, Headers), TooMuch>, Failure> {
    let mut data = BytesMut::new();
    loop {
        match poll_fn(|context| body.poll_frame(context)).await? {
            Frame::Data(more) if more.len() > most.saturating_sub(data.len()) => return Ok(Err(TooMuch)),
            Frame::Data(more) => data.extend_from_slice(&more),
            Frame::End(trailers) => return Ok(Ok((data.freeze(), trailers))),
        }
    }
}

/// The reply in the place of a response that is longer than may be held.
pub(super) fn too_large<'a>(next: Next<'_>) -> Response<'a> {
    next.stream().count_response_too_large();
    next.stream().record().set_details("response_payload_too_large");
    local_reply::text(500, Bytes::from_static(b"Internal Server Error"))
}

/// A body behind some bytes.
pub(super) fn behind(front: Bytes, body: Body<'_>) -> Body<'_> {
    Body::Other(Box::new(Behind { front, body }))
}

struct Behind<'a> {
    front: Bytes,
    body: Body<'a>,
}

impl Source for Behind<'_> {
    fn poll_frame(&mut self, context: &mut Context<'_>) -> Poll<Result<Frame, Failure>> {
        if self.front.is_empty() {
            return Poll::Ready(Ok(ready!(self.body.poll_frame(context))?));
        }
        Poll::Ready(Ok(Frame::Data(std::mem::take(&mut self.front))))
    }

    fn length(&self) -> Option<u64> {
        self.body.length()?.checked_add(self.front.len() as u64)
    }

    fn poll_beside(&mut self, context: &mut Context<'_>) {
        self.body.poll_beside(context);
    }
}
