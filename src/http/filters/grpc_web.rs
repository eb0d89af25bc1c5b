//! `envoy.filters.http.grpc_web`: gRPC-Web of browsers becomes gRPC for hosts, and the other way round.
//!
//! A request of `application/grpc-web` or `-web-text` (base64) goes on as `application/grpc`. Of the response the trailers become the body's last
//! message, and with `-web-text` in `accept` all of it is base64. Bodies stay streams: at most three bytes of one are held. A response that is
//! not gRPC's, a reply of ours too, becomes `grpc-status` and `grpc-message` in the head. Browsers of other origins need `cors` before it.
//!
//! The filter waits for the response, so such a request stays in its epoch until the response is through. Other requests are passed on as
//! if this filter were not there.

mod error;
mod request;
mod response;

#[cfg(any(test, feature = "fuzzing"))]
pub(crate) use request::fuzz_body;

use std::rc::Rc;

use http::{HeaderName, HeaderValue, header};

use super::grpc;
use super::grpc::calls::{Apart, Calls};
use crate::codec::head::{RequestHead, ResponseHead};
use crate::config::extension::HttpFilterKind;
use crate::config::model::Settings;
use crate::http::body::Body;
use crate::http::filter::{Answer, Building, Extension, Filter, Next, Request, Response};
use crate::stats::names::GrpcCounters;

/// How it comes into being.
pub(super) const EXTENSION: Extension = Extension {
    kind: HttpFilterKind {
        type_name: "envoy.extensions.filters.http.grpc_web.v3.GrpcWeb",
        settings: |_, _| Some(Settings::new(())),
        route: None,
    },
    build,
};

const WEB_PROTO: HeaderValue = HeaderValue::from_static("application/grpc-web+proto");
const WEB_TEXT_PROTO: HeaderValue = HeaderValue::from_static("application/grpc-web-text+proto");

fn build(with: &Building<'_>) -> Result<Rc<dyn Filter>, String> {
    let calls = Calls::new(with.scope, "grpc-web", Apart::All { without_dots: false });
    Ok(Rc::new(Web { calls }))
}

struct Web {
    calls: Calls,
}

/// What a call has been found to be.
#[derive(Clone)]
struct Call {
    /// The client wants the response as base64.
    text: bool,
    counters: Option<Rc<GrpcCounters>>,
}

impl Filter for Web {
    fn call<'a>(&'a self, mut request: Request<'a>, next: Next<'a>) -> Answer<'a> {
        let Some(is_text) = is_web(&request.head) else { return next.run(request) };
        let accept = request.head.headers.get(&header::ACCEPT).map(HeaderValue::as_bytes);
        let text = matches!(accept, Some(b"application/grpc-web-text" | b"application/grpc-web-text+proto"));
        let cluster = next.cluster();
        let counters = cluster.and_then(|cluster| self.calls.of(&cluster, request.head.path_without_query()));
        dress(&mut request.head);
        if is_text && !matches!(request.body, Body::Empty) {
            request.body = request::decoded(request.body);
        }
        let call = Call { text, counters };
        let replied = call.clone();
        next.stream().record().on_reply(Rc::new(move |reply| {
            let body = std::mem::replace(&mut reply.body, Body::Empty);
            if replied.begin(&mut reply.head, body.length() == Some(0)) {
                reply.body = body;
            } else if let Body::Full(text) = body {
                error::tell(&mut reply.head, &text);
            }
        }));
        Answer::later(async move {
            let Response { mut head, body, local } = next.run(request).await?;
            if local || matches!(body, Body::Tunnel(_)) {
                return Ok(Response { head, body, local });
            }
            let ends = body.length() == Some(0);
            let body = match call.begin(&mut head, ends) {
                true if ends => Body::Empty,
                true => response::encoded(body, call),
                false => {
                    let (said, trailers) = error::take(body, next.buffer_limit()).await?;
                    call.count(&trailers);
                    error::tell(&mut head, &said);
                    Body::Empty
                }
            };
            Ok(Response { head, body, local })
        })
    }
}

impl Call {
    /// A response begins; `ends` says that it has no body. False where the body is none of gRPC's and has to be told otherwise.
    fn begin(&self, head: &mut ResponseHead, ends: bool) -> bool {
        self.count(&head.headers);
        let kind = head.headers.get(&header::CONTENT_TYPE);
        let is_ours = grpc::is_response(head, ends)
            || head.status == http::StatusCode::OK && kind.is_some_and(|kind| kind == WEB_PROTO);
        head.headers.remove(&header::CONTENT_LENGTH);
        head.headers.set(header::CONTENT_TYPE, if self.text { WEB_TEXT_PROTO } else { WEB_PROTO });
        ends || is_ours
    }

    /// Counts a call that ends with these headers or trailers, if they say so.
    fn count(&self, headers: &crate::codec::head::Headers) {
        if let (Some(counters), Some(status)) = (&self.counters, grpc::status(headers)) {
            counters.ended(status);
        }
    }
}

/// Whether a request is gRPC-Web, and then, whether its body is base64.
fn is_web(head: &RequestHead) -> Option<bool> {
    match head.headers.get(&header::CONTENT_TYPE)?.as_bytes() {
        b"application/grpc-web" | b"application/grpc-web+proto" => Some(false),
        b"application/grpc-web-text" | b"application/grpc-web-text+proto" => Some(true),
        _ => None,
    }
}

/// Makes a request one of gRPC.
fn dress(head: &mut RequestHead) {
    const ACCEPT_ENCODING: HeaderName = HeaderName::from_static("grpc-accept-encoding");
    let headers = &mut head.headers;
    headers.remove(&header::CONTENT_LENGTH);
    headers.set(header::CONTENT_TYPE, grpc::GRPC);
    headers.set(header::TE, HeaderValue::from_static("trailers"));
    headers.set(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
}
