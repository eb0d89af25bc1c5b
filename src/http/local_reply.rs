//! Replies that this proxy makes itself: the one place that turns a [`Failure`] or a direct response into a response.
//!
//! `date` and `server` come with every response and are not set here.

use bytes::Bytes;
use http::{HeaderValue, StatusCode, header};

use crate::codec::head::ResponseHead;

use super::body::Body;
use super::failure::Failure;
use super::filter::Response;
use super::headers::names::X_ENVOY_OVERLOADED;

/// Before the reason of a reset.
const RESET: &str = "reset reason: ";

/// What a client is told about a failure; `None` when there is nobody to tell, and the connection is cut. `retried` says that it was
/// not the first.
pub(super) fn of<'a>(failure: Failure, retried: bool) -> Option<Response<'a>> {
    let told = failure.told()?;
    let body = match told.body.split_once(RESET) {
        Some((before, after)) if retried => format!("{before}retried and the latest {RESET}{after}").into(),
        _ => Bytes::from_static(told.body.as_bytes()),
    };
    let mut response = text(told.status, body);
    if told.overloaded {
        response.head.headers.append(X_ENVOY_OVERLOADED.clone(), HeaderValue::from_static("true"));
    }
    Some(response)
}

/// A response with a plain text, or with none.
pub fn text<'a>(status: u16, body: Bytes) -> Response<'a> {
    let mut head = ResponseHead::new(StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR));
    if body.is_empty() {
        return Response { head, body: Body::Empty };
    }
    head.headers.append(header::CONTENT_LENGTH, HeaderValue::from(body.len()));
    head.headers.append(header::CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    Response { head, body: Body::Full(body) }
}

/// Sends the client to another path of the same host; of one that no header can carry it is told nothing more.
pub fn redirect<'a>(path: Bytes) -> Response<'a> {
    let mut response = text(StatusCode::TEMPORARY_REDIRECT.as_u16(), Bytes::new());
    if let Ok(location) = HeaderValue::from_maybe_shared(path) {
        response.head.headers.append(header::LOCATION, location);
    }
    response
}
