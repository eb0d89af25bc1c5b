//! The answer of a filter in place of a host's: Envoy's local reply.
//!
//! A gRPC client gets its status in the head, as every gRPC library expects it; anybody else gets the status and the text. The route's
//! response headers are for responses that came by the route: this one has none of them.

use bytes::Bytes;
use http::{HeaderName, HeaderValue, StatusCode, header};

use crate::codec::head::{RequestHead, ResponseHead};
use crate::http::body::Body;
use crate::http::filter::Response;
use crate::http::local_reply;
use crate::http::stream::Stream;

/// What is answered.
#[derive(Clone, Copy, Debug)]
pub(super) struct Denial<'d> {
    /// For HTTP.
    pub(super) status: u16,
    /// For gRPC, where another one than that of the HTTP status.
    pub(super) grpc_status: Option<u8>,
    /// The text.
    pub(super) body: &'static str,
    /// `%RESPONSE_CODE_DETAILS%`.
    pub(super) details: &'d str,
}

/// Makes the answer to a request, and notes what the access logs want to know.
pub(super) fn reply<'a>(denial: &Denial<'_>, request: &RequestHead, stream: &Stream<'_>) -> Response<'a> {
    stream.keep_request(request);
    stream.record().set_details(denial.details.to_owned());
    if request.is_grpc() {
        let status = denial.grpc_status.unwrap_or_else(|| grpc_status(denial.status));
        let mut head = ResponseHead::new(StatusCode::OK);
        head.headers.append(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        head.headers.append(HeaderName::from_static("grpc-status"), HeaderValue::from(u16::from(status)));
        // The texts of this proxy's own have nothing that `grpc-message` would have to escape.
        head.headers.append(HeaderName::from_static("grpc-message"), HeaderValue::from_static(denial.body));
        // It has the form for gRPC already.
        Response { head, body: Body::Empty, local: false }
    } else {
        local_reply::text(denial.status, Bytes::from_static(denial.body.as_bytes()))
    }
}

/// The gRPC status for an HTTP status (gRPC's "HTTP to gRPC status code mapping").
fn grpc_status(status: u16) -> u8 {
    match status {
        400 => 13,
        401 => 16,
        403 => 7,
        404 => 12,
        429 | 502..=504 => 14,
        _ => 2,
    }
}
