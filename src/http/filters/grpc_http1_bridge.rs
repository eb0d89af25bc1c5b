//! `envoy.filters.http.grpc_http1_bridge`: unary gRPC for clients of HTTP/1 that know nothing of trailers.
//!
//! The response is held until its trailers have come; their `grpc-status` and `grpc-message` go into its head, and a status other than OK makes it a
//! 503. With `upgrade_protobuf_to_grpc` a bare message (`application/x-protobuf`) becomes one of gRPC, and so back, whatever its client speaks.
//!
//! What is held is bounded by `per_connection_buffer_limit_bytes`: a longer response is a 500, a longer request 413. A request whose length is known
//! is not held. Such a request stays in its epoch until the response is through; others are passed on as if this filter were not there.

mod settings;

use std::rc::Rc;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, StatusCode, Version, header};

use super::grpc::frames::PREFIX;
use super::grpc::{self, GRPC_MESSAGE, GRPC_STATUS};
use super::held::{self, TooMuch};
use crate::codec::head::{Headers, RequestHead};
use crate::config::extension::HttpFilterKind;
use crate::http::body::Body;
use crate::http::failure::Failure;
use crate::http::filter::{Answer, Building, Extension, Filter, Next, Request, Response};

use settings::Bridge;

/// How it comes into being.
pub(super) const EXTENSION: Extension = Extension {
    kind: HttpFilterKind {
        type_name: "envoy.extensions.filters.http.grpc_http1_bridge.v3.Config",
        settings: settings::read,
        route: None,
    },
    build,
};

fn build(with: &Building<'_>) -> Result<Rc<dyn Filter>, String> {
    let settings: &Bridge = with.model.settings.get().ok_or("has no settings of its own")?;
    Ok(Rc::new(*settings))
}

/// A bare message.
const PROTOBUF: HeaderValue = HeaderValue::from_static("application/x-protobuf");

impl Filter for Bridge {
    fn call<'a>(&'a self, mut request: Request<'a>, next: Next<'a>) -> Answer<'a> {
        let is_bare =
            self.upgrades && request.head.headers.get(&header::CONTENT_TYPE).is_some_and(|kind| kind == PROTOBUF);
        let bridged = is_bare || next.stream().version() < Version::HTTP_2 && request.head.is_grpc();
        if !bridged || next.may_become_tunnel() {
            return next.run(request);
        }
        if bridged && self.ignores_query {
            let end = request.head.path_without_query().len();
            request.head.path.truncate(end);
        }
        if is_bare {
            request.head.headers.set(header::CONTENT_TYPE, grpc::GRPC);
            request.head.headers.remove(&header::CONTENT_LENGTH);
            next.route_again(&request.head);
        }
        Answer::later(async move {
            if is_bare && let Err(TooMuch) = frame(&mut request, next).await? {
                return too_large(&request.head, next).await;
            }
            let response = next.run(request).await?;
            if !bridged
                || response.local
                || matches!(response.body, Body::Tunnel(_))
                || response.body.length() == Some(0)
            {
                return Ok(response);
            }
            unbridge(response, is_bare, next).await
        })
    }
}

/// Puts a prefix before a message. What comes without a length is held for it.
async fn frame(request: &mut Request<'_>, next: Next<'_>) -> Result<Result<(), TooMuch>, Failure> {
    if matches!(request.body, Body::Empty) {
        return Ok(Ok(()));
    }
    let body = std::mem::replace(&mut request.body, Body::Empty);
    let body = match body.length() {
        Some(_) => body,
        None => match held::all(body, next.buffer_limit()).await? {
            Ok((data, _)) => Body::Full(data),
            Err(TooMuch) => return Ok(Err(TooMuch)),
        },
    };
    let length = body.length().and_then(|length| usize::try_from(length).ok());
    let Some(prefix) = length.and_then(|length| grpc::frames::prefix(0, length)) else {
        return Ok(Err(TooMuch));
    };
    request.body = held::behind(Bytes::copy_from_slice(&prefix), body);
    Ok(Ok(()))
}

fn too_large<'a>(head: &RequestHead, next: Next<'a>) -> Answer<'a> {
    next.stream().count_too_large();
    let reply = crate::http::local_reply::text(413, Bytes::from_static(b"Payload Too Large"));
    next.reply(head, reply, "request_payload_too_large")
}

/// Makes a response one that needs no trailers.
async fn unbridge<'a>(response: Response<'a>, is_bare: bool, next: Next<'a>) -> Result<Response<'a>, Failure> {
    let Response { mut head, body, .. } = response;
    let Ok((mut data, trailers)) = held::all(body, next.buffer_limit()).await? else {
        return Ok(held::too_large(next));
    };
    if is_bare {
        data = data.slice(PREFIX.min(data.len())..);
    }
    tell(&mut head.headers, &trailers);
    if trailers.get(&GRPC_STATUS).is_some_and(|status| status.as_bytes() != b"0") {
        next.stream().record().charge(head.status);
        head.status = StatusCode::SERVICE_UNAVAILABLE;
    }
    head.headers.set(header::CONTENT_LENGTH, HeaderValue::from(data.len()));
    let body = if data.is_empty() { Body::Empty } else { Body::Full(data) };
    Ok(Response { head, body, local: false })
}

/// Tells in a head what trailers say of a call.
fn tell(head: &mut Headers, trailers: &Headers) {
    let names: [HeaderName; 2] = [GRPC_STATUS, GRPC_MESSAGE];
    for name in names {
        if let Some(value) = trailers.get(&name) {
            head.set(name, value.clone());
        }
    }
}
