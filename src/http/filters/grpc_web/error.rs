//! A response that is not gRPC's: what it says becomes `grpc-status` and `grpc-message`.

use std::future::poll_fn;

use bytes::{Bytes, BytesMut};
use http::{HeaderValue, header};

use super::super::grpc::{GRPC_MESSAGE, GRPC_STATUS};
use crate::codec::head::{Headers, ResponseHead};
use crate::http::body::{Body, Frame};
use crate::http::failure::Failure;
use crate::http::local_reply::grpc::{code, message};

/// Bytes of a body that are told.
const MOST: usize = 16 * 1024;

/// The beginning of a body, and its trailers. Its rest is read and left up to `most` bytes: what is longer is given up.
pub(super) async fn take(mut body: Body<'_>, most: usize) -> Result<(Bytes, Headers), Failure> {
    let mut taken = BytesMut::new();
    let mut read = 0_usize;
    loop {
        match poll_fn(|context| body.poll_frame(context)).await? {
            Frame::Data(data) => {
                read = read.saturating_add(data.len());
                if read > most.max(MOST) {
                    return Ok((taken.freeze(), Headers::new()));
                }
                let room = MOST.saturating_sub(taken.len()).min(data.len());
                taken.extend_from_slice(data.get(..room).unwrap_or_default());
            }
            Frame::End(trailers) => return Ok((taken.freeze(), trailers)),
        }
    }
}

/// Tells what was said in the head of a response that has no body any more.
pub(super) fn tell(head: &mut ResponseHead, said: &[u8]) {
    let said = said.get(..said.len().min(MOST)).unwrap_or_default();
    head.headers.set(GRPC_MESSAGE, message(said));
    head.headers.set(GRPC_STATUS, HeaderValue::from(code(head.status)));
    head.headers.set(header::CONTENT_LENGTH, HeaderValue::from(0));
}
