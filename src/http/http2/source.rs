//! One direction of an exchange over HTTP/2: what a stream brings, frame by frame. What is pulled is what the peer may send again.

use std::task::{Context, Poll, ready};

use h2::RecvStream;
use http::{HeaderMap, header};

use crate::codec::head::Headers;
use crate::codec::http2::head::trailers_from;
use crate::http::body::Frame;

/// The state of one direction.
pub(in crate::http) struct Source {
    /// `None` when it has ended.
    stream: Option<RecvStream>,
    /// What is still to come, where the head said so.
    left: Option<u64>,
}

impl Source {
    /// The body behind a head with these headers.
    pub(in crate::http) fn new(stream: RecvStream, headers: &HeaderMap) -> Self {
        if stream.is_end_stream() {
            return Self { stream: None, left: Some(0) };
        }
        // The crate refuses a body that does not keep to it.
        let length = headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
        Self { stream: Some(stream), left: length.filter(|length| *length > 0) }
    }

    /// Of a response whose head says how long a body would be that does not come.
    pub(in crate::http) fn without_length(mut self) -> Self {
        self.left = self.left.filter(|left| *left == 0);
        self
    }

    /// What has not been pulled, for who does not want frames; `None` when it has ended.
    pub(in crate::http) fn into_stream(self) -> Option<RecvStream> {
        self.stream
    }

    /// All has come.
    pub(in crate::http) fn is_done(&self) -> bool {
        self.stream.is_none()
    }

    /// Bytes that are still to come, where that is known. Behind the last of them trailers may come until the stream has ended.
    pub(in crate::http) fn length(&self) -> Option<u64> {
        self.left.filter(|left| *left > 0 || self.is_done())
    }

    /// The next frame.
    ///
    /// # Errors
    /// The peer reset the stream, or the connection has ended.
    pub(in crate::http) fn poll_frame(&mut self, context: &mut Context<'_>) -> Poll<Result<Frame, h2::Error>> {
        let Some(stream) = &mut self.stream else { return Poll::Ready(Ok(Frame::End(Headers::new()))) };
        loop {
            match ready!(stream.poll_data(context)) {
                Some(Ok(data)) if data.is_empty() => {}
                Some(Ok(data)) => {
                    // It is ours: the peer may send as much again. Who pulls has room for it.
                    let _ = stream.flow_control().release_capacity(data.len());
                    self.left = self.left.map(|left| left.saturating_sub(data.len() as u64));
                    if stream.is_end_stream() {
                        self.end();
                    }
                    return Poll::Ready(Ok(Frame::Data(data)));
                }
                Some(Err(error)) => {
                    self.stream = None;
                    return Poll::Ready(Err(error));
                }
                None => break,
            }
        }
        let trailers = ready!(stream.poll_trailers(context));
        self.end();
        Poll::Ready(trailers.map(|trailers| Frame::End(trailers.map_or_else(Headers::new, trailers_from))))
    }

    fn end(&mut self) {
        self.stream = None;
        self.left = Some(0);
    }
}
