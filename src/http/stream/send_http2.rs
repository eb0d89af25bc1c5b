//! The response on its way to a client that speaks HTTP/2.

use std::future::poll_fn;
use std::task::Poll;
use std::time::Instant;

use h2::Reason;
use http::{HeaderValue, Method, StatusCode, header};

use crate::codec::head::ResponseHead;
use crate::http::body::Body;
use crate::http::failure::Failure;
use crate::http::http2::{Client, Sink};
use crate::http::pump::Broken;

use super::{Begun, Course, Stream};

impl Stream<'_> {
    /// Sends a response.
    pub(super) async fn send_http2<'s>(
        &'s self,
        client: &Client,
        mut head: ResponseHead,
        mut body: Body<'s>,
        begun: &mut Begun,
    ) -> Result<Course, Failure> {
        if !self.client.is_through() {
            self.manager().stats.downstream_rq_response_before_rq_complete.inc();
        }
        self.manager().prepare_response(&mut head, self);
        self.count_head(head.status);
        let bodiless = self.record.method == Method::HEAD || head.status == StatusCode::NOT_MODIFIED;
        let length = body.length();
        if !bodiless {
            // A filter may have changed the body behind the head.
            match length {
                // Nothing need not be announced: the head ends the stream.
                Some(0) if !head.headers.contains(&header::CONTENT_LENGTH) => {}
                Some(0) if head.status == StatusCode::NO_CONTENT => {}
                Some(length) => head.headers.set(header::CONTENT_LENGTH, HeaderValue::from(length)),
                None => {
                    head.headers.remove(&header::CONTENT_LENGTH);
                }
            }
        }
        self.keep_response(&head);
        let ends = bodiless || length == Some(0);
        let sending = client.respond(head, ends).ok_or(Failure::DownstreamClosed)?;
        begun.head = true;
        let mut sink = Sink::new(sending, ends);
        if ends {
            return Ok(Course::Over);
        }
        let mut moved = 0;
        let mut blocked = false;
        let mut flushing = false;
        let sent = poll_fn(|context| {
            let pumped = sink.poll(context, &mut body);
            if sink.taken != moved {
                moved = sink.taken;
                self.record.sent.set(moved);
                if pumped.is_pending() {
                    self.moved(Instant::now());
                }
            }
            if !flushing && pumped.is_pending() && sink.has_ended() {
                flushing = true;
                self.flushing();
            }
            if sink.is_blocked() != blocked {
                blocked = !blocked;
                self.count_flow(blocked);
            }
            match pumped {
                Poll::Ready(Ok(())) => Poll::Ready(Ok(())),
                Poll::Ready(Err(Broken::Source(failure))) => Poll::Ready(Err(failure)),
                Poll::Ready(Err(Broken::Sink)) => Poll::Ready(Err(Failure::DownstreamClosed)),
                Poll::Pending => {
                    body.poll_beside(context);
                    if sink.poll_reset(context).is_ready() {
                        return Poll::Ready(Err(Failure::DownstreamClosed));
                    }
                    self.poll_ended(context).map(Err)
                }
            }
        })
        .await;
        self.record.sent.set(sink.taken);
        match sent {
            Ok(()) => Ok(Course::Over),
            Err(failure) => {
                if flushing && matches!(failure, Failure::StreamIdle { .. }) {
                    self.manager().http2_stats.tx_flush_timeout.inc();
                }
                // A reset takes back what has not been written: what came before it goes out first.
                tokio::task::yield_now().await;
                sink.reset(Reason::INTERNAL_ERROR);
                Err(failure)
            }
        }
    }
}
