//! Replies: Envoy's content types and headers.

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, SERVER, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderValue, Response, StatusCode};
use http_body_util::Full;
use serde::Serialize;
use serde_json::ser::{PrettyFormatter, Serializer};

const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=UTF-8");
const HTML: HeaderValue = HeaderValue::from_static("text/html; charset=UTF-8");
const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// What an endpoint answers.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) status: StatusCode,
    content_type: HeaderValue,
    pub(super) body: String,
}

impl Reply {
    pub(super) fn text(body: impl Into<String>) -> Self {
        Self { status: StatusCode::OK, content_type: TEXT, body: body.into() }
    }

    pub(super) fn html(body: String) -> Self {
        Self { content_type: HTML, ..Self::text(body) }
    }

    /// JSON that is text already.
    pub(super) fn json_text(body: String) -> Self {
        Self { content_type: JSON, ..Self::text(body) }
    }

    /// As Envoy prints its messages: indented by one.
    pub(super) fn json(value: &impl Serialize) -> Self {
        let mut body = Vec::new();
        let mut serializer = Serializer::with_formatter(&mut body, PrettyFormatter::with_indent(b" "));
        match value.serialize(&mut serializer) {
            Ok(()) => Self::json_text(String::from_utf8_lossy(&body).into_owned() + "\n"),
            Err(error) => Self::error(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
        }
    }

    /// What every endpoint that changes something says.
    pub(super) fn ok() -> Self {
        Self::text("OK\n")
    }

    pub(super) fn error(status: StatusCode, body: impl Into<String>) -> Self {
        Self { status, ..Self::text(body) }
    }

    pub(super) fn bad_request(body: impl Into<String>) -> Self {
        Self::error(StatusCode::BAD_REQUEST, body)
    }

    pub(super) fn into_response(self) -> Response<Full<Bytes>> {
        let mut response = Response::new(Full::new(Bytes::from(self.body)));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, self.content_type);
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache, max-age=0"));
        headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        headers.insert(SERVER, HeaderValue::from_static("envoy"));
        response
    }
}
