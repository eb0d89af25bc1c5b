//! `envoy.filters.http.decompressor`: bodies that come compressed with gzip, brotli or zstd go on as they were.
//!
//! Of several codings the last one is undone, if it is the filter's. A body that is not what its head says ends its message: the client's as
//! a bad request, the host's as a broken response. The filter waits for the response where it is on for responses, so a request that it has
//! seen stays in its epoch until its response is through; Envoy's trailers with the sums of bytes are not added.

mod settings;

use std::rc::Rc;

use http::{HeaderValue, header};

use super::compressor::is_fixed;
use super::recoded::Recoded;
use crate::codec::head::{Headers, tokens};
use crate::config::extension::HttpFilterKind;
use crate::config::model::Settings;
use crate::http::body::Body;
use crate::http::failure::Failure;
use crate::http::filter::{Answer, Building, Extension, Filter, Next, Request, Response};
use crate::stats::names::{DecompressionStats, decompressor as scope_of};

use settings::{Decompressor, Direction};

/// The filter.
pub(super) const EXTENSION: Extension = Extension {
    kind: HttpFilterKind {
        type_name: "envoy.extensions.filters.http.decompressor.v3.Decompressor",
        settings: settings::of_chain,
        route: None,
    },
    build,
};

fn build(with: &Building<'_>) -> Result<Rc<dyn Filter>, String> {
    let settings = with.model.settings.clone();
    let decompressor: &Decompressor = settings.get().ok_or("has no settings of its own")?;
    let scope = scope_of(with.scope, &decompressor.name, decompressor.library.stat_name());
    Ok(Rc::new(Decompress {
        requests: DecompressionStats::new(&scope.scope("request")),
        responses: DecompressionStats::new(&scope.scope("response")),
        settings,
    }))
}

struct Decompress {
    settings: Settings,
    requests: DecompressionStats,
    responses: DecompressionStats,
}

impl Filter for Decompress {
    fn call<'a>(&'a self, mut request: Request<'a>, next: Next<'a>) -> Answer<'a> {
        let Some(decompressor) = self.settings.get::<Decompressor>() else { return next.run(request) };
        let is_tunnel = request.head.method == http::Method::CONNECT || request.head.headers.contains(&header::UPGRADE);
        if !is_tunnel {
            let direction = &decompressor.request;
            let Request { head, body } = &mut request;
            undo(decompressor, direction, (&mut head.headers, body), &self.requests, Failure::Malformed);
        }
        let direction = &decompressor.response;
        if decompressor.advertises && direction.enabled.now() {
            advertise(&mut request.head.headers, decompressor.library.encoding());
        }
        Answer::later(async move {
            let mut response = next.run(request).await?;
            let is_bodiless = response.local && next.stream().record().grpc.get();
            if !is_bodiless && !matches!(response.body, Body::Tunnel(_)) {
                let message = (&mut response.head.headers, &mut response.body);
                undo(decompressor, direction, message, &self.responses, Failure::UpstreamProtocol);
            }
            Ok(response)
        })
    }

    fn dress<'a>(&'a self, reply: &mut Response<'a>, next: Next<'a>) {
        // A gRPC client gets no body.
        if next.stream().record().grpc.get() {
            return;
        }
        if let Some(decompressor) = self.settings.get::<Decompressor>() {
            let message = (&mut reply.head.headers, &mut reply.body);
            undo(decompressor, &decompressor.response, message, &self.responses, Failure::UpstreamProtocol);
        }
    }
}

/// Decompresses a message, where it is compressed with what is undone here.
fn undo(
    decompressor: &Decompressor,
    direction: &Direction,
    (headers, body): (&mut Headers, &mut Body<'_>),
    stats: &DecompressionStats,
    fault: Failure,
) {
    // What has no body is none of its business.
    if body.length() == Some(0) {
        return;
    }
    let is_free = direction.enabled.now() && (direction.ignores_no_transform || !is_fixed(headers));
    let rest = if is_free { rest(headers, decompressor.library.encoding()) } else { None };
    let Some(rest) = rest else { return stats.not_decompressed.inc() };
    stats.decompressed.inc();
    headers.remove(&header::CONTENT_LENGTH);
    match rest {
        Some(rest) => headers.set(header::CONTENT_ENCODING, rest),
        None => drop(headers.remove(&header::CONTENT_ENCODING)),
    }
    let library = decompressor.library;
    let counters = (stats.total_compressed_bytes.clone(), stats.total_uncompressed_bytes.clone());
    let plain = Recoded::new(std::mem::replace(body, Body::Empty), |sink| library.decoder(sink), counters, fault);
    let plain = match library.ratio() {
        Some(ratio) => plain.limited(ratio),
        None => plain,
    };
    *body = Body::Other(Box::new(plain));
}

/// The codings that are left once the last one has been undone; `None` where the last one is another, or there is none.
fn rest(headers: &Headers, encoding: &str) -> Option<Option<HeaderValue>> {
    let values = headers.get_all(&header::CONTENT_ENCODING).flat_map(|value| tokens(value.as_bytes()));
    let mut codings: Vec<&[u8]> = values.filter(|coding| !coding.is_empty()).collect();
    codings.pop().filter(|last| last.eq_ignore_ascii_case(encoding.as_bytes()))?;
    // Of pieces of values that came: a value again.
    Some(HeaderValue::from_bytes(&codings.join(&b", "[..])).ok().filter(|_| !codings.is_empty()))
}

/// Tells the host what is understood here, beside what the client understands.
fn advertise(headers: &mut Headers, encoding: &'static str) {
    let accepts = || headers.get_all(&header::ACCEPT_ENCODING).map(HeaderValue::as_bytes);
    if accepts().flat_map(tokens).any(|token| token.eq_ignore_ascii_case(encoding.as_bytes())) {
        return;
    }
    let all: Vec<&[u8]> = accepts().chain([encoding.as_bytes()]).collect();
    if let Ok(value) = HeaderValue::from_bytes(&all.join(&b","[..])) {
        headers.set(header::ACCEPT_ENCODING, value);
    }
}
