//! `envoy.filters.http.grpc_http1_reverse_bridge`: hosts that know nothing of gRPC answer unary calls over HTTP/1 or HTTP/2.
//!
//! A call goes to the host with another `content-type`; what comes back must have that one, and gets `grpc-status` as a trailer, made of its status. With
//! `withhold_grpc_frames` the host gets the bare message and gives one. The bare answer is held for its length, up to
//! `per_connection_buffer_limit_bytes` (a longer one is a 500), unless the host says it in `response_size_header`: then it stays a stream.
//!
//! A call stays in its epoch until its response is through. What is no gRPC, has no body, or where a route disables it, is passed on as if
//! this filter were not there.

mod message;
mod settings;

use std::rc::Rc;

use bytes::Bytes;
use http::{HeaderValue, StatusCode, header};

use super::grpc::GRPC_STATUS;
use super::grpc::frames::PREFIX;
use super::held;
use crate::codec::head::{Headers, ResponseHead};
use crate::config::extension::{HttpFilterKind, RouteKind};
use crate::http::body::Body;
use crate::http::failure::Failure;
use crate::http::filter::{Answer, Building, Extension, Filter, Next, Request, Response};
use crate::http::local_reply;

use message::{Ended, Sized, Stripped};
use settings::{Disabled, ReverseBridge};

/// How it comes into being.
pub(super) const EXTENSION: Extension = Extension {
    kind: HttpFilterKind {
        type_name: "envoy.extensions.filters.http.grpc_http1_reverse_bridge.v3.FilterConfig",
        settings: settings::read,
        route: Some(RouteKind {
            type_name: "envoy.extensions.filters.http.grpc_http1_reverse_bridge.v3.FilterConfigPerRoute",
            settings: settings::read_route,
        }),
    },
    build,
};

fn build(with: &Building<'_>) -> Result<Rc<dyn Filter>, String> {
    let settings: &ReverseBridge = with.model.settings.get().ok_or("has no settings of its own")?;
    Ok(Rc::new(settings.clone()))
}

impl Filter for ReverseBridge {
    fn call<'a>(&'a self, mut request: Request<'a>, next: Next<'a>) -> Answer<'a> {
        let is_disabled = next.find_in_route(|said: &Disabled| Some(said.0)).unwrap_or(false);
        let headers = &mut request.head.headers;
        let kind = headers.get(&header::CONTENT_TYPE).cloned();
        let Some(kind) = kind.filter(|_| !is_disabled && !matches!(request.body, Body::Empty)) else {
            return next.run(request);
        };
        if !request.head.is_grpc() || next.may_become_tunnel() {
            return next.run(request);
        }
        let headers = &mut request.head.headers;
        headers.set(header::CONTENT_TYPE, self.content_type.clone());
        headers.set(header::ACCEPT, self.content_type.clone());
        if self.withholds {
            adjust(headers, |length| length.checked_sub(PREFIX as u64));
            request.body = Stripped::around(request.body);
        }
        next.route_again(&request.head);
        Answer::later(async move {
            let response = next.run(request).await?;
            if response.local || matches!(response.body, Body::Tunnel(_)) {
                return Ok(response);
            }
            self.answer(response, kind, next).await
        })
    }
}

impl ReverseBridge {
    /// Makes an answer one of gRPC.
    async fn answer<'a>(
        &self,
        response: Response<'a>,
        kind: HeaderValue,
        next: Next<'a>,
    ) -> Result<Response<'a>, Failure> {
        let Response { mut head, body, local } = response;
        next.stream().record().charge(head.status);
        if head.headers.get(&header::CONTENT_TYPE) != Some(&self.content_type) {
            return Ok(refuse(next, 2, &strange(&head), "grpc_bridge_content_type_wrong"));
        }
        head.headers.set(header::CONTENT_TYPE, kind);
        let status = match head.status {
            StatusCode::OK => 0,
            other => local_reply::grpc::code(other),
        };
        head.status = StatusCode::OK;
        let body = match &self.size_header {
            _ if !self.withholds => body,
            Some(name) => {
                let size = head.headers.get(name).and_then(|value| value.to_str().ok()?.parse::<u32>().ok());
                let Some(size) = size else {
                    let said = "envoy reverse bridge: upstream did not set content length";
                    return Ok(refuse(next, 13, said, "grpc_bridge_content_length_wrong"));
                };
                head.headers.set(header::CONTENT_LENGTH, HeaderValue::from(u64::from(size) + PREFIX as u64));
                Sized::around(body, size)
            }
            None => {
                adjust(&mut head.headers, |length| length.checked_add(PREFIX as u64));
                let Ok((data, trailers)) = held::all(body, next.buffer_limit()).await? else {
                    return Ok(held::too_large(next));
                };
                let prefix = super::grpc::frames::prefix(0, data.len()).ok_or(Failure::Internal)?;
                message::whole([&prefix[..], &data].concat().into(), trailers)
            }
        };
        Ok(Response { head, body: Ended::around(body, status), local })
    }
}

/// A call that the host did not understand: what is said of it with which status.
fn refuse<'a>(next: Next<'_>, status: u16, said: &str, details: &'static str) -> Response<'a> {
    next.stream().record().set_details(details);
    let mut reply = local_reply::text(200, Bytes::copy_from_slice(said.as_bytes()));
    reply.head.headers.set(GRPC_STATUS, HeaderValue::from(status));
    reply
}

/// What a host is told that answers something else.
fn strange(head: &ResponseHead) -> String {
    let status = head.status.as_u16();
    match head.headers.get(&header::CONTENT_TYPE).map(|kind| String::from_utf8_lossy(kind.as_bytes())) {
        Some(kind) if !kind.is_empty() => {
            format!(
                "envoy reverse bridge: upstream responded with unsupported content-type {kind}, status code {status}"
            )
        }
        _ => format!("envoy reverse bridge: upstream responded with no content-type header, status code {status}"),
    }
}

/// Changes `content-length`, where there is one.
fn adjust(headers: &mut Headers, change: impl Fn(u64) -> Option<u64>) {
    let length = headers.get(&header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
    if let Some(length) = length {
        match change(length) {
            Some(length) => headers.set(header::CONTENT_LENGTH, HeaderValue::from(length)),
            None => drop(headers.remove(&header::CONTENT_LENGTH)),
        }
    }
}
