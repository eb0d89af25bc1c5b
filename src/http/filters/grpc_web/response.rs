//! The body of a response as gRPC-Web has it: its trailers are a last message (flags 0x80), and for clients that want text each message is base64 of
//! its own, padded at its end.
//!
//! Messages go on as they come: of one that is encoded at most two bytes are held, which are less than four characters.

use std::task::{Context, Poll, ready};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::{BufMut, Bytes, BytesMut};

use super::super::grpc::frames::{Frames, PREFIX, prefix};
use super::Call;
use crate::codec::head::Headers;
use crate::http::body::{Body, Frame, Source};
use crate::http::failure::Failure;

/// The flags of the message that holds trailers.
const TRAILERS: u8 = 0x80;

/// Around a host's body.
pub(super) fn encoded(body: Body<'_>, call: Call) -> Body<'_> {
    let encoder = call.text.then(Encoder::default);
    Body::Other(Box::new(Encoded { body, call, encoder, ended: false }))
}

struct Encoded<'a> {
    body: Body<'a>,
    call: Call,
    encoder: Option<Encoder>,
    /// All has been given; what is left is to say so.
    ended: bool,
}

impl Source for Encoded<'_> {
    fn poll_frame(&mut self, context: &mut Context<'_>) -> Poll<Result<Frame, Failure>> {
        loop {
            if self.ended {
                return Poll::Ready(Ok(Frame::End(Headers::new())));
            }
            let out = match ready!(self.body.poll_frame(context))? {
                Frame::Data(data) => match &mut self.encoder {
                    Some(encoder) => encoder.encode(&data),
                    None => data,
                },
                Frame::End(trailers) => {
                    self.ended = true;
                    self.end(&trailers)?
                }
            };
            if !out.is_empty() {
                return Poll::Ready(Ok(Frame::Data(out)));
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

impl Encoded<'_> {
    /// What comes at the end: what is left of a message, and the trailers as one.
    fn end(&mut self, trailers: &Headers) -> Result<Bytes, Failure> {
        let left = self.encoder.as_mut().map_or_else(Bytes::new, Encoder::end);
        if trailers.is_empty() {
            return Ok(left);
        }
        self.call.count(trailers);
        let message = message(trailers).ok_or(Failure::Internal)?;
        Ok(match self.encoder {
            Some(_) => [&left[..], STANDARD.encode(message).as_bytes()].concat().into(),
            None => message,
        })
    }
}

/// Trailers as a message.
fn message(trailers: &Headers) -> Option<Bytes> {
    let length = trailers.iter().map(|(name, value)| name.as_str().len() + value.len() + 3).sum();
    let mut out = BytesMut::with_capacity(PREFIX + length);
    out.put_slice(&prefix(TRAILERS, length)?);
    for (name, value) in trailers.iter() {
        for part in [name.as_str().as_bytes(), b":", value.as_bytes(), b"\r\n"] {
            out.put_slice(part);
        }
    }
    Some(out.freeze())
}

/// Base64 of each message.
#[derive(Default)]
struct Encoder {
    frames: Frames,
    /// Less than three bytes of a message that have come.
    left: Vec<u8>,
}

impl Encoder {
    fn encode(&mut self, mut data: &[u8]) -> Bytes {
        let mut out = String::with_capacity(data.len() / 3 * 4 + 8);
        while !data.is_empty() {
            let piece = self.frames.take(data);
            let (message, rest) = data.split_at(piece.length);
            data = rest;
            self.left.extend_from_slice(message);
            let whole = if piece.ends { self.left.len() } else { self.left.len() / 3 * 3 };
            STANDARD.encode_string(self.left.get(..whole).unwrap_or_default(), &mut out);
            self.left.drain(..whole);
        }
        out.into()
    }

    /// A message that is cut goes out as far as it came.
    fn end(&mut self) -> Bytes {
        STANDARD.encode(std::mem::take(&mut self.left)).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_message_is_encoded_for_itself_however_it_comes() {
        let messages = [&b"\0\0\0\0\0"[..], b"\0\0\0\0\x01a", b"\x01\0\0\0\x02ab", b"\0\0\0\0\x03abc"];
        let expected: String = messages.iter().map(|message| STANDARD.encode(message)).collect();
        let wire = messages.concat();
        for step in 1..=wire.len() {
            let mut encoder = Encoder::default();
            let mut out = Vec::new();
            for data in wire.chunks(step) {
                out.extend(encoder.encode(data));
            }
            out.extend(encoder.end());
            assert_eq!(String::from_utf8(out).unwrap(), expected, "in steps of {step}");
        }
    }
}
