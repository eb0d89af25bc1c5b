//! What the filters for gRPC have in common: messages found in bodies, calls counted by their method, what a message of gRPC is.

pub(super) mod calls;
pub(super) mod frames;

use http::{HeaderName, HeaderValue, StatusCode, header};

use crate::codec::head::{Headers, ResponseHead};

/// `grpc-status`.
pub(super) const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
/// `grpc-message`.
pub(super) const GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");
/// `application/grpc`.
pub(super) const GRPC: HeaderValue = HeaderValue::from_static("application/grpc");

/// The status that headers or trailers tell.
pub(super) fn status(headers: &Headers) -> Option<&[u8]> {
    headers.get(&GRPC_STATUS).map(HeaderValue::as_bytes)
}

/// Whether a response is gRPC's; `ends` says that there is no body, and then its status is enough.
pub(super) fn is_response(head: &ResponseHead, ends: bool) -> bool {
    if ends {
        return head.headers.contains(&GRPC_STATUS);
    }
    let kind = head.headers.get(&header::CONTENT_TYPE).map(HeaderValue::as_bytes);
    let rest = kind.and_then(|kind| kind.strip_prefix(b"application/grpc"));
    head.status == StatusCode::OK && rest.is_some_and(|rest| rest.first().is_none_or(|byte| *byte == b'+'))
}
