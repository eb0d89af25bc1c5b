//! The answer of a filter in place of a host's: Envoy's local reply.
//!
//! A gRPC client gets its status in the head, anybody else the status and the text: [`local_reply`] sees to that when it is sent. The route's
//! response headers are for responses that came by the route: this one has none of them.

use bytes::Bytes;
use http::{HeaderName, HeaderValue};

use crate::codec::head::RequestHead;
use crate::http::filter::Response;
use crate::http::local_reply;
use crate::http::stream::Stream;

/// What is answered.
#[derive(Clone, Copy, Debug)]
pub(super) struct Denial<'d> {
    /// For HTTP.
    pub(super) status: u16,
    /// For gRPC, where another one than that of the HTTP status.
    pub(super) grpc_status: Option<u16>,
    /// The text.
    pub(super) body: &'static str,
    /// `%RESPONSE_CODE_DETAILS%`.
    pub(super) details: &'d str,
}

/// Makes the answer to a request, and notes what the access logs want to know.
pub(super) fn reply<'a>(denial: &Denial<'_>, request: &RequestHead, stream: &Stream<'_>) -> Response<'a> {
    stream.keep_request(request);
    stream.record().set_details(denial.details.to_owned());
    let mut response = local_reply::text(denial.status, Bytes::from_static(denial.body.as_bytes()));
    if let Some(status) = denial.grpc_status.filter(|_| request.is_grpc()) {
        response.head.headers.append(HeaderName::from_static("grpc-status"), HeaderValue::from(status));
    }
    response
}
