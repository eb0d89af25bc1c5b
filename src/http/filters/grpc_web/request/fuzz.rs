//! Bodies of gRPC, and of gRPC-Web in base64: how they come in pieces must not matter.

use bytes::BytesMut;

use super::Decoded;
use crate::http::body::Body;
use crate::http::filters::grpc::frames::Frames;

/// The length of the pieces, and a body.
pub(crate) fn body(data: &[u8]) {
    let Some((step, body)) = data.split_first() else { return };
    let decoded = |step: usize| {
        let mut decoded = Decoded { body: Body::Empty, left: BytesMut::new() };
        let mut out = Vec::new();
        for part in body.chunks(step) {
            out.extend(decoded.decode(part).ok()?);
        }
        decoded.left.is_empty().then_some(out)
    };
    let counted = |step: usize| {
        let mut frames = Frames::default();
        let begun: u64 = body.chunks(step).map(|part| frames.count(part)).sum();
        (begun, frames)
    };
    for step in [1, 1 + usize::from(*step)] {
        assert_eq!(decoded(step), decoded(body.len().max(1)), "in steps of {step}");
        assert_eq!(counted(step), counted(body.len().max(1)), "in steps of {step}");
    }
}
