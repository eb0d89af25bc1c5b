//! A response that comes no faster than it may.

use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::http::body::{Body, Frame, Source};
use crate::http::failure::Failure;
use crate::http::stream::Stream;

/// How often there is more.
const SLICE: Duration = Duration::from_millis(50);
/// Slices in a second: what has not been used for longer is lost.
const SLICES: u64 = 20;

/// A body of so many bytes in a second.
pub(super) struct Throttled<'a> {
    body: Body<'a>,
    stream: &'a Stream<'a>,
    /// Bytes of one slice of time.
    slice: u64,
    /// Bytes that may go now.
    allowed: u64,
    /// Until when `allowed` has been reckoned.
    since: Instant,
    /// What has been taken and may not go yet.
    held: Bytes,
}

impl<'a> Throttled<'a> {
    pub(super) fn new(body: Body<'a>, rate: u64, stream: &'a Stream<'a>) -> Self {
        let slice = (rate / SLICES).max(1);
        Self { body, stream, slice, allowed: slice, since: Instant::now(), held: Bytes::new() }
    }

    fn earn(&mut self) {
        let passed = (self.since.elapsed().as_millis() / SLICE.as_millis()).min(u128::from(u32::MAX)) as u32;
        if passed > 0 {
            self.since += SLICE * passed;
            let most = self.slice.saturating_mul(SLICES);
            self.allowed = self.allowed.saturating_add(self.slice.saturating_mul(passed.into())).min(most);
        }
    }
}

impl Source for Throttled<'_> {
    fn poll_frame(&mut self, context: &mut Context<'_>) -> Poll<Result<Frame, Failure>> {
        if self.held.is_empty() {
            match ready!(self.body.poll_frame(context))? {
                Frame::Data(data) => self.held = data,
                end @ Frame::End(_) => return Poll::Ready(Ok(end)),
            }
        }
        loop {
            self.earn();
            if self.allowed > 0 {
                let size = self.held.len().min(usize::try_from(self.allowed).unwrap_or(usize::MAX));
                self.allowed -= size as u64;
                return Poll::Ready(Ok(Frame::Data(self.held.split_to(size))));
            }
            let timer = self.stream.timer();
            ready!(timer.poll_until(context, timer.at(self.since + SLICE)));
        }
    }

    fn length(&self) -> Option<u64> {
        self.body.length().map(|rest| rest + self.held.len() as u64)
    }

    fn poll_beside(&mut self, context: &mut Context<'_>) {
        self.body.poll_beside(context);
    }
}
