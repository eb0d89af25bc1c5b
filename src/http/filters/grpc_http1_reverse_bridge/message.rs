//! Bodies with and without the prefix of their one message, and with the status of a call at their end.

use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use http::HeaderValue;

use super::super::grpc::GRPC_STATUS;
use super::super::grpc::frames::{PREFIX, prefix};
use crate::codec::head::Headers;
use crate::codec::http1::Refusal;
use crate::http::body::{Body, Frame, Source};
use crate::http::failure::Failure;

/// A request that is shorter than a prefix.
const TOO_SMALL: Failure = Failure::Refused(Refusal {
    status: 200,
    body: "invalid request body",
    details: "grpc_bridge_data_too_small",
    codec: false,
});

/// A message without its prefix.
pub(super) struct Stripped<'a> {
    body: Body<'a>,
    /// Of the prefix, what has yet to come.
    left: usize,
}

impl<'a> Stripped<'a> {
    pub(super) fn around(body: Body<'a>) -> Body<'a> {
        Body::Other(Box::new(Self { body, left: PREFIX }))
    }
}

impl Source for Stripped<'_> {
    fn poll_frame(&mut self, context: &mut Context<'_>) -> Poll<Result<Frame, Failure>> {
        loop {
            match ready!(self.body.poll_frame(context))? {
                Frame::Data(mut data) => {
                    let part = self.left.min(data.len());
                    self.left -= part;
                    data.advance(part);
                    if !data.is_empty() {
                        return Poll::Ready(Ok(Frame::Data(data)));
                    }
                }
                Frame::End(_) if self.left > 0 => return Poll::Ready(Err(TOO_SMALL)),
                end @ Frame::End(_) => return Poll::Ready(Ok(end)),
            }
        }
    }

    fn length(&self) -> Option<u64> {
        // One that is too short has none: it must be pulled to be refused.
        self.body.length()?.checked_sub(self.left as u64)
    }

    fn poll_beside(&mut self, context: &mut Context<'_>) {
        self.body.poll_beside(context);
    }
}

/// A message behind its prefix, of a length that the host has promised.
pub(super) struct Sized<'a> {
    body: Body<'a>,
    prefix: Option<u32>,
    left: u64,
}

impl<'a> Sized<'a> {
    pub(super) fn around(body: Body<'a>, size: u32) -> Body<'a> {
        Body::Other(Box::new(Self { body, prefix: Some(size), left: size.into() }))
    }
}

impl Source for Sized<'_> {
    fn poll_frame(&mut self, context: &mut Context<'_>) -> Poll<Result<Frame, Failure>> {
        if let Some(size) = self.prefix.take() {
            let prefix = usize::try_from(size).ok().and_then(|size| prefix(0, size)).ok_or(Failure::Internal)?;
            return Poll::Ready(Ok(Frame::Data(Bytes::copy_from_slice(&prefix))));
        }
        let frame = ready!(self.body.poll_frame(context))?;
        match &frame {
            Frame::Data(data) => match self.left.checked_sub(data.len() as u64) {
                Some(left) => self.left = left,
                None => return Poll::Ready(Err(Failure::UpstreamProtocol)),
            },
            Frame::End(_) if self.left > 0 => return Poll::Ready(Err(Failure::UpstreamProtocol)),
            Frame::End(_) => {}
        }
        Poll::Ready(Ok(frame))
    }

    fn length(&self) -> Option<u64> {
        None
    }

    fn poll_beside(&mut self, context: &mut Context<'_>) {
        self.body.poll_beside(context);
    }
}

/// A body that ends with the status of its call.
pub(super) struct Ended<'a> {
    body: Body<'a>,
    status: u16,
}

impl<'a> Ended<'a> {
    pub(super) fn around(body: Body<'a>, status: u16) -> Body<'a> {
        Body::Other(Box::new(Self { body, status }))
    }
}

impl Source for Ended<'_> {
    fn poll_frame(&mut self, context: &mut Context<'_>) -> Poll<Result<Frame, Failure>> {
        let mut frame = ready!(self.body.poll_frame(context))?;
        if let Frame::End(trailers) = &mut frame {
            trailers.set(GRPC_STATUS, HeaderValue::from(self.status));
        }
        Poll::Ready(Ok(frame))
    }

    fn length(&self) -> Option<u64> {
        None
    }

    fn poll_beside(&mut self, context: &mut Context<'_>) {
        self.body.poll_beside(context);
    }
}

/// A body that is there.
pub(super) fn whole(data: Bytes, trailers: Headers) -> Body<'static> {
    Body::Other(Box::new(Whole { data, trailers }))
}

struct Whole {
    data: Bytes,
    trailers: Headers,
}

impl Source for Whole {
    fn poll_frame(&mut self, _context: &mut Context<'_>) -> Poll<Result<Frame, Failure>> {
        Poll::Ready(Ok(match self.data.is_empty() {
            false => Frame::Data(std::mem::take(&mut self.data)),
            true => Frame::End(std::mem::take(&mut self.trailers)),
        }))
    }

    fn length(&self) -> Option<u64> {
        None
    }
}
