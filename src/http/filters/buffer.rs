//! `envoy.filters.http.buffer`: holds a request until all of it is there, so that whoever is behind is not kept waiting by a slow client.
//!
//! A body larger than `max_request_bytes` is answered with 413. What is held goes on with its length; with trailers it keeps them. A
//! route may say another limit, or that nothing is held. A request without a body, and one that asks for a tunnel, is passed on as if this filter
//! were not there. A request whose body is being held stays with its worker; once it has been passed on, it may be tried again or
//! move as the router says, up to the head of its response, for which nothing is left to do here.

use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use http::header;

use self::settings::{Buffer, BufferPerRoute};
use super::super::body::{Body, Frame, Source};
use super::super::failure::Failure;
use super::super::filter::{Answer, Building, Extension, Filter, Next, Request, Response};
use super::super::local_reply;
use crate::codec::head::{Headers, RequestHead};
use crate::config::extension::{HttpFilterKind, RouteKind};

mod settings;

/// How it comes into being.
pub const EXTENSION: Extension = Extension {
    kind: HttpFilterKind {
        type_name: "envoy.extensions.filters.http.buffer.v3.Buffer",
        settings: settings::read,
        route: Some(RouteKind {
            type_name: "envoy.extensions.filters.http.buffer.v3.BufferPerRoute",
            settings: settings::read_route,
        }),
    },
    build,
};

fn build(with: &Building<'_>) -> Result<Rc<dyn Filter>, String> {
    let settings: &Buffer = with.model.settings.get().ok_or("has no settings of its own")?;
    Ok(Rc::new(Buffers { most: settings.max_request_bytes }))
}

struct Buffers {
    /// In bytes.
    most: u32,
}

impl Filter for Buffers {
    fn call<'a>(&'a self, request: Request<'a>, next: Next<'a>) -> Answer<'a> {
        let most = match next.find_in_route(|said: &BufferPerRoute| Some(*said)) {
            Some(BufferPerRoute::Disabled) => return next.run(request),
            Some(BufferPerRoute::Override(buffer)) => buffer.max_request_bytes,
            None => self.most,
        };
        if matches!(request.body, Body::Empty) || next.may_become_tunnel() {
            return next.run(request);
        }
        let most = usize::try_from(most).unwrap_or(usize::MAX);
        if request.body.length().is_some_and(|length| length > most as u64) {
            return too_large(&request.head, next);
        }
        Answer::later(hold(request, next, most))
    }
}

async fn hold<'a>(mut request: Request<'a>, next: Next<'a>, most: usize) -> Result<Response<'a>, Failure> {
    let mut held = BytesMut::new();
    let trailers = loop {
        match poll_fn(|context| request.body.poll_frame(context)).await? {
            Frame::End(trailers) => break trailers,
            Frame::Data(data) if data.len() > most - held.len() => return too_large(&request.head, next).await,
            Frame::Data(data) => held.extend_from_slice(&data),
        }
    };
    request.body = if trailers.is_empty() {
        request.head.headers.remove(&header::TRANSFER_ENCODING);
        request.head.headers.set(header::CONTENT_LENGTH, held.len().into());
        if held.is_empty() { Body::Empty } else { Body::Full(held.freeze()) }
    } else {
        Body::Other(Box::new(Held { data: held.freeze(), trailers }))
    };
    next.run(request).await
}

fn too_large<'a>(head: &RequestHead, next: Next<'a>) -> Answer<'a> {
    next.stream().count_too_large();
    let reply = local_reply::text(413, Bytes::from_static(b"Payload Too Large"));
    next.reply(head, reply, "request_payload_too_large")
}

/// A body with trailers: its length cannot be announced over HTTP/1, where a body with a length has none.
struct Held {
    data: Bytes,
    trailers: Headers,
}

impl Source for Held {
    fn poll_frame(&mut self, _context: &mut Context<'_>) -> Poll<Result<Frame, Failure>> {
        let frame = if self.data.is_empty() {
            Frame::End(std::mem::take(&mut self.trailers))
        } else {
            Frame::Data(std::mem::take(&mut self.data))
        };
        Poll::Ready(Ok(frame))
    }

    fn length(&self) -> Option<u64> {
        None
    }
}
