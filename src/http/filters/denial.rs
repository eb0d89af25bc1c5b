//! The answer of a filter in place of a host's: Envoy's local reply.
//!
//! A gRPC client gets its status in the head, anybody else the status and the text: [`local_reply`] sees to that when it is sent. A route
//! to a cluster does to it what it does to every response; any other route has none of its own.

use bytes::Bytes;
use http::{HeaderName, HeaderValue};

use crate::codec::head::RequestHead;
use crate::config::model::RouteAction;
use crate::http::filter::Response;
use crate::http::forward::rewrite;
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
    let record = stream.record();
    let (is_forward, has_formats) = {
        let decision = record.route.borrow();
        let forward = decision.as_ref().filter(|decision| matches!(decision.action(), RouteAction::Forward(_)));
        (forward.is_some(), forward.is_some_and(|decision| decision.has_formats().1))
    };
    if has_formats && record.head.borrow().is_none() {
        *record.head.borrow_mut() = Some(Box::new(request.clone()));
    }
    if is_forward {
        rewrite::own_response(&mut response, |head| rewrite::response(head, stream));
    }
    response
}
