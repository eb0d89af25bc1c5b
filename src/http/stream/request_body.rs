//! The request on its way from the client: its body, pulled by whoever forwards it.

use std::task::{Context, Poll};
use std::time::Instant;

use crate::codec::http1::Decoded;
use crate::http::body::Frame;
use crate::http::failure::Failure;

use super::Stream;

/// The body of a client's request.
pub struct RequestBody<'a> {
    pub(super) stream: &'a Stream<'a>,
}

impl RequestBody<'_> {
    pub(in crate::http) fn poll_frame(&mut self, context: &mut Context<'_>) -> Poll<Result<Frame, Failure>> {
        let stream = self.stream;
        let mut framing = stream.framing.borrow_mut();
        loop {
            match stream.conn.decode(&mut framing, &stream.manager().rules.limits)? {
                Decoded::Data(data) => {
                    let received = &stream.record.received;
                    received.set(received.get() + data.len() as u64);
                    let now = Instant::now();
                    stream.moved(now);
                    if framing.is_done() {
                        self.complete(now);
                    }
                    return Poll::Ready(Ok(Frame::Data(data)));
                }
                Decoded::End(trailers) => {
                    if stream.record.received_at.get().is_none() {
                        self.complete(Instant::now());
                    }
                    stream.conn.settle();
                    return Poll::Ready(Ok(Frame::End(trailers)));
                }
                Decoded::NeedMore => match stream.conn.poll_fill(context) {
                    Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(Err(Failure::DownstreamClosed)),
                    Poll::Ready(Ok(_)) => {}
                    Poll::Pending => return Poll::Pending,
                },
            }
        }
    }

    pub(in crate::http) fn length(&self) -> Option<u64> {
        self.stream.framing.borrow().length_left()
    }

    fn complete(&self, now: Instant) {
        self.stream.record.received_at.set(Some(now));
        self.stream.arm_route(now);
    }
}
