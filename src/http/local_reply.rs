//! Replies that this proxy makes itself: the one place that turns a [`Failure`] or a direct response into a response.
//!
//! What the operator wants of them ([`Rules`]) and what a gRPC client needs is done to all of them as they are sent. `date` and `server` come with every response and are not set here.

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, StatusCode, header};

use crate::access_log::{Live, Replies};
use crate::codec::head::{RequestHead, ResponseHead};
use crate::config::model;

use super::body::Body;
use super::failure::Failure;
use super::filter::Response;
use super::headers::names::X_ENVOY_OVERLOADED;
use super::stream::Stream;

pub(super) mod grpc;
mod rules;

pub use rules::Rules;

/// Before the reason of a reset.
const RESET: &str = "reset reason: ";

/// What a client is told about a failure; `None` when there is nobody to tell, and the connection is cut. `retried` says that it was
/// not the first, `grpc` that the client speaks it.
pub(super) fn of<'a>(failure: Failure, retried: bool, grpc: bool) -> Option<Response<'a>> {
    let told = failure.told()?;
    let body = match told.body.split_once(RESET) {
        Some((before, after)) if retried => format!("{before}retried and the latest {RESET}{after}").into(),
        _ => Bytes::from_static(told.body.as_bytes()),
    };
    let mut response = text(told.status, body);
    // Whatever the status of HTTP stands for: the time is over.
    if matches!(failure, Failure::MaxDuration { .. }) && grpc {
        response.head.headers.append(HeaderName::from_static("grpc-status"), HeaderValue::from_static("4"));
    }
    if told.overloaded {
        response.head.headers.append(X_ENVOY_OVERLOADED.clone(), HeaderValue::from_static("true"));
    }
    Some(response)
}

/// A response with a plain text, or with none.
pub fn text<'a>(status: u16, body: Bytes) -> Response<'a> {
    let mut head = ResponseHead::new(StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR));
    if body.is_empty() {
        return Response { head, body: Body::Empty, local: true };
    }
    describe(&mut head, &body, HeaderValue::from_static("text/plain"));
    Response { head, body: Body::Full(body), local: true }
}

/// Says how long a body is and what it is.
fn describe(head: &mut ResponseHead, body: &Bytes, content_type: HeaderValue) {
    if body.is_empty() {
        head.headers.remove(&header::CONTENT_LENGTH);
        head.headers.remove(&header::CONTENT_TYPE);
    } else {
        head.headers.set(header::CONTENT_LENGTH, HeaderValue::from(body.len()));
        head.headers.set(header::CONTENT_TYPE, content_type);
    }
}

/// Fills a direct response with what its format makes of its text, for this request.
pub(super) fn fill(
    response: &mut Response<'_>,
    format: &model::ReplyFormat,
    text: Bytes,
    request: &RequestHead,
    stream: &Stream<'_>,
) {
    let mut replies = Replies::default();
    let body = replies.format(&format.body);
    let mut live = Live::new(stream.record().started);
    stream.fill(&mut live);
    live.context.status = response.head.status.as_u16().into();
    replies.keep(&mut live, Some(request), &response.head);
    live.reply = text;
    let body = Bytes::from(body.render(&live));
    describe(&mut response.head, &body, format.content_type.clone());
    response.body = if body.is_empty() { Body::Empty } else { Body::Full(body) };
}

/// Makes a reply what the operator wants it to be, and what the client understands.
pub(super) fn shape<'a>(response: Response<'a>, stream: &Stream<'_>) -> Response<'a> {
    if !response.local {
        return response;
    }
    let mut response = word(response, stream);
    stream.record().show_reply(&mut response);
    response
}

fn word<'a>(mut response: Response<'a>, stream: &Stream<'_>) -> Response<'a> {
    let (record, rules) = (stream.record(), &stream.manager().replies);
    if rules.is_none() && !record.grpc.get() {
        return response;
    }
    let head = &mut response.head;
    let mut text = match std::mem::replace(&mut response.body, Body::Empty) {
        Body::Empty => Bytes::new(),
        Body::Full(text) => text,
        other => {
            // A filter's own is not ours to change.
            response.body = other;
            return response;
        }
    };
    if let Some(rules) = rules {
        let mut live = Live::new(record.started);
        stream.fill(&mut live);
        rules.apply(head, &mut text, live, record.head.borrow().as_deref());
    }
    if record.grpc.get() {
        record.charge_unless_charged(head.status);
        grpc::translate(head, &text, record.method == Method::HEAD);
    } else if !text.is_empty() {
        response.body = Body::Full(text);
    }
    response
}

/// Sends the client to another path of the same host; of one that no header can carry it is told nothing more.
pub fn redirect<'a>(path: Bytes) -> Response<'a> {
    let mut response = text(StatusCode::TEMPORARY_REDIRECT.as_u16(), Bytes::new());
    if let Ok(location) = HeaderValue::from_maybe_shared(path) {
        response.head.headers.append(header::LOCATION, location);
    }
    response
}
