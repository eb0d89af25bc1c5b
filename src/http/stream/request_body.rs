//! The request on its way from the client: its body, pulled by whoever forwards it.

use std::task::{Context, Poll, ready};
use std::time::Instant;

use crate::codec::head::Headers;
use crate::codec::http1::Decoded;
use crate::http::body::Frame;
use crate::http::downstream::Downstream;
use crate::http::failure::Failure;
use crate::http::http2;

use super::{Client, Stream};

/// The body of a client's request.
pub struct RequestBody<'a> {
    pub(super) stream: &'a Stream<'a>,
}

impl RequestBody<'_> {
    pub(in crate::http) fn poll_frame(&mut self, context: &mut Context<'_>) -> Poll<Result<Frame, Failure>> {
        match self.stream.client {
            Client::Http1(conn) => self.poll_http1(conn, context),
            Client::Http2(client) => self.poll_http2(client, context),
            // Its body is not a client's.
            Client::Own(_) => Poll::Ready(Err(Failure::Internal)),
        }
    }

    fn poll_http1(&self, conn: &Downstream, context: &mut Context<'_>) -> Poll<Result<Frame, Failure>> {
        let stream = self.stream;
        let mut framing = stream.framing.borrow_mut();
        loop {
            match conn.decode(&mut framing, &stream.manager().rules.limits)? {
                Decoded::Data(data) => {
                    self.received(data.len(), framing.is_done());
                    return Poll::Ready(Ok(Frame::Data(data)));
                }
                Decoded::End(trailers) => {
                    if stream.record.received_at.get().is_none() {
                        self.complete(Instant::now());
                    }
                    conn.settle();
                    let enabled = stream.manager().config.http1.enable_trailers;
                    return Poll::Ready(Ok(Frame::End(if enabled { trailers } else { Headers::new() })));
                }
                Decoded::NeedMore => match conn.poll_fill(context) {
                    Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(Err(Failure::DownstreamClosed)),
                    Poll::Ready(Ok(_)) => {}
                    Poll::Pending => return Poll::Pending,
                },
            }
        }
    }

    fn poll_http2(&self, client: &http2::Client, context: &mut Context<'_>) -> Poll<Result<Frame, Failure>> {
        let mut source = client.source.borrow_mut();
        let frame = ready!(source.poll_frame(context)).map_err(|_| Failure::DownstreamClosed)?;
        match &frame {
            Frame::Data(data) => self.received(data.len(), source.is_done()),
            Frame::End(trailers) => {
                if !trailers.is_empty() {
                    self.stream.manager().http2_stats.trailers.inc();
                }
                if self.stream.record.received_at.get().is_none() {
                    self.complete(Instant::now());
                }
            }
        }
        Poll::Ready(Ok(frame))
    }

    fn received(&self, bytes: usize, complete: bool) {
        let received = &self.stream.record.received;
        received.set(received.get().saturating_add(bytes as u64));
        let now = Instant::now();
        self.stream.moved(now);
        if complete {
            self.complete(now);
        }
    }

    pub(in crate::http) fn length(&self) -> Option<u64> {
        match self.stream.client {
            Client::Http1(_) => self.stream.framing.borrow().length_left(),
            Client::Http2(client) => client.source.borrow().length(),
            Client::Own(_) => Some(0),
        }
    }

    fn complete(&self, now: Instant) {
        self.stream.record.received_at.set(Some(now));
        self.stream.arm_route(now);
    }
}
