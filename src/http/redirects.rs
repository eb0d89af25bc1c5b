//! What is remembered of the redirects that one request has followed (`internal_redirect_policy`).
//!
//! The router decides (`forward::redirected`) and leaves here what is to be asked next; [`super::stream`] has it run through route and
//! filters anew. A request that has followed one does not move to another epoch before its response has come.

use std::collections::VecDeque;
use std::task::{Context, Poll};

use bytes::Bytes;

use crate::codec::head::{Headers, RequestHead};
use crate::route::Decision;

use super::body::{Body, Frame, Source};
use super::failure::Failure;

/// The redirects of one request.
#[derive(Default)]
pub(super) struct Redirects {
    /// How many it has followed.
    pub(super) count: u32,
    /// From which route (by its place in the table) to which (by its name).
    pub(super) taken: Vec<(usize, String)>,
    /// What is to be asked next.
    pub(super) next: Option<Again>,
}

/// A request as it is asked once more.
pub(super) struct Again {
    pub(super) head: RequestHead,
    pub(super) body: Kept,
    /// Where it goes.
    pub(super) decision: Decision,
    /// The status of the response that said so.
    pub(super) status: u16,
}

/// A whole body that has been kept.
#[derive(Default)]
pub(super) struct Kept {
    pub(super) pieces: VecDeque<Bytes>,
    pub(super) trailers: Headers,
    /// It was announced with its length.
    pub(super) announced: bool,
}

impl Kept {
    fn left(&self) -> u64 {
        self.pieces.iter().map(|piece| piece.len() as u64).sum()
    }

    /// As what a request has.
    pub(super) fn into_body<'a>(self) -> Body<'a> {
        if self.pieces.is_empty() && self.trailers.is_empty() { Body::Empty } else { Body::Other(Box::new(self)) }
    }
}

impl Source for Kept {
    fn poll_frame(&mut self, _: &mut Context<'_>) -> Poll<Result<Frame, Failure>> {
        Poll::Ready(Ok(match self.pieces.pop_front() {
            Some(data) => Frame::Data(data),
            None => Frame::End(std::mem::take(&mut self.trailers)),
        }))
    }

    fn length(&self) -> Option<u64> {
        self.announced.then(|| self.left())
    }
}
