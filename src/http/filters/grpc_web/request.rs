//! The body of a request in base64, decoded as it comes.
//!
//! Each message may be encoded for itself, with its own padding: what has been decoded is independent of how the body came in pieces.

use std::task::{Context, Poll, ready};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::{Bytes, BytesMut};

use crate::codec::http1::Refusal;
use crate::http::body::{Body, Frame, Source};
use crate::http::failure::Failure;

#[cfg(any(test, feature = "fuzzing"))]
mod fuzz;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) use fuzz::body as fuzz_body;

/// Characters that stand for at most three bytes.
const QUAD: usize = 4;

/// A body that is no base64.
const INVALID: Failure = Failure::Refused(Refusal {
    status: 400,
    body: "Bad gRPC-web request, invalid base64 data.",
    details: "grpc_base_64_decode_failed",
    codec: false,
});

/// One whose end is missing.
const WRONG_SIZE: Failure = Failure::Refused(Refusal {
    status: 400,
    body: "Bad gRPC-web request, invalid base64 data.",
    details: "grpc_base_64_decode_failed_bad_size",
    codec: false,
});

/// Decodes a body.
pub(super) fn decoded(body: Body<'_>) -> Body<'_> {
    Body::Other(Box::new(Decoded { body, left: BytesMut::new() }))
}

struct Decoded<'a> {
    body: Body<'a>,
    /// Less than a quad that has come.
    left: BytesMut,
}

impl Source for Decoded<'_> {
    fn poll_frame(&mut self, context: &mut Context<'_>) -> Poll<Result<Frame, Failure>> {
        loop {
            match ready!(self.body.poll_frame(context))? {
                Frame::Data(data) => {
                    let decoded = self.decode(&data)?;
                    if !decoded.is_empty() {
                        return Poll::Ready(Ok(Frame::Data(decoded)));
                    }
                }
                Frame::End(_) if !self.left.is_empty() => return Poll::Ready(Err(WRONG_SIZE)),
                Frame::End(trailers) => return Poll::Ready(Ok(Frame::End(trailers))),
            }
        }
    }

    fn length(&self) -> Option<u64> {
        None
    }

    fn poll_beside(&mut self, context: &mut Context<'_>) {
        self.body.poll_beside(context);
    }
}

impl Decoded<'_> {
    fn decode(&mut self, mut data: &[u8]) -> Result<Bytes, Failure> {
        let mut out = Vec::with_capacity((self.left.len() + data.len()) / QUAD * 3);
        if !self.left.is_empty() {
            let (more, rest) = data.split_at(data.len().min(QUAD - self.left.len()));
            self.left.extend_from_slice(more);
            data = rest;
            if self.left.len() < QUAD {
                return Ok(Bytes::new());
            }
            STANDARD.decode_vec(&self.left, &mut out).map_err(|_| INVALID)?;
            self.left.clear();
        }
        let (whole, left) = data.split_at(data.len() / QUAD * QUAD);
        self.left.extend_from_slice(left);
        // Padding ends a part, and another may follow.
        let mut begin = 0;
        while let Some(rest) = whole.get(begin..).filter(|rest| !rest.is_empty()) {
            let padding = memchr::memchr(b'=', rest);
            let end = padding.map_or(rest.len(), |at| (at / QUAD + 1) * QUAD);
            STANDARD.decode_vec(rest.get(..end).unwrap_or(rest), &mut out).map_err(|_| INVALID)?;
            begin += end;
        }
        Ok(out.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(data: &[u8], step: usize) -> Result<Vec<u8>, Failure> {
        let mut decoded = Decoded { body: Body::Empty, left: BytesMut::new() };
        let mut out = Vec::new();
        for part in data.chunks(step) {
            out.extend(decoded.decode(part)?);
        }
        if decoded.left.is_empty() { Ok(out) } else { Err(WRONG_SIZE) }
    }

    #[test]
    fn parts_with_their_own_padding_are_decoded_however_they_come() {
        let text = [STANDARD.encode("a"), STANDARD.encode("bcd"), STANDARD.encode("ef"), STANDARD.encode("")].concat();
        for step in 1..=text.len() {
            assert_eq!(all(text.as_bytes(), step).unwrap(), b"abcdef", "in steps of {step}");
        }
    }

    #[test]
    fn what_is_no_base64_is_refused() {
        for (text, failure) in
            [("ab!d", INVALID), ("a===", INVALID), ("=abc", INVALID), ("YWJj\n", WRONG_SIZE), ("YWJ", WRONG_SIZE)]
        {
            for step in 1..=text.len() {
                assert_eq!(all(text.as_bytes(), step).unwrap_err(), failure, "{text}");
            }
        }
    }
}
