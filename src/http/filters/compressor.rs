//! `envoy.filters.http.compressor`: bodies are compressed with gzip, brotli or zstd, those of responses as their clients accept it, those of
//! requests where that is asked for.
//!
//! Several compressors of a chain agree: what the client prefers is done by whoever does it. The filter waits for the response, so a
//! request that it has seen stays in its epoch until its response is through, and so does a body that is being compressed.

#[cfg(any(test, feature = "fuzzing"))]
mod fuzz;
mod negotiation;
mod settings;

use std::rc::Rc;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, header};

use super::recoded::Recoded;
use crate::codec::head::{Headers, ResponseHead, tokens};
use crate::config::extension::{HttpFilterKind, RouteKind};
use crate::config::model::Settings;
use crate::http::body::Body;
use crate::http::failure::Failure;
use crate::http::filter::{Answer, Building, Extension, Filter, Next, Request, Response};
use crate::stats::names::{AcceptStats, CompressionStats, compressor as scope_of};

#[cfg(any(test, feature = "fuzzing"))]
pub(crate) use fuzz::accepts;
use negotiation::{Choice, Offer, Offers, choose};
use settings::{Compressor, Etag, OnRoute, What};

/// Where the compressors of a chain meet.
const OFFERS: &str = "envoy.filters.http.compressor";

/// The filter.
pub(super) const EXTENSION: Extension = Extension {
    kind: HttpFilterKind {
        type_name: "envoy.extensions.filters.http.compressor.v3.Compressor",
        settings: settings::of_chain,
        route: Some(RouteKind {
            type_name: "envoy.extensions.filters.http.compressor.v3.CompressorPerRoute",
            settings: settings::of_route,
        }),
    },
    build,
};

fn build(with: &Building<'_>) -> Result<Rc<dyn Filter>, String> {
    let settings = with.model.settings.clone();
    let compressor: &Compressor = settings.get().ok_or("has no settings of its own")?;
    let scope = scope_of(with.scope, &compressor.name, compressor.library.stat_name());
    let responses = if compressor.response_is_set { scope.scope("response") } else { scope.clone() };
    Ok(Rc::new(Compress {
        requests: CompressionStats::new(&scope.scope("request")),
        responses: CompressionStats::new(&responses),
        accepts: AcceptStats::new(&scope),
        encoding: HeaderValue::from_static(compressor.library.encoding()),
        settings,
    }))
}

struct Compress {
    settings: Settings,
    encoding: HeaderValue,
    requests: CompressionStats,
    responses: CompressionStats,
    accepts: AcceptStats,
}

impl Filter for Compress {
    fn call<'a>(&'a self, mut request: Request<'a>, next: Next<'a>) -> Answer<'a> {
        let Some(compressor) = self.settings.get::<Compressor>() else { return next.run(request) };
        let said = next.route_settings();
        let said = said.as_ref().and_then(|said| said.get::<OnRoute>());
        if said == Some(&OnRoute::Disabled) {
            return next.run(request);
        }
        match compressor.request.as_ref().filter(|what| what.enabled.now()) {
            Some(what) => self.compress_request(compressor, what, &mut request, next.stream().is_complete()),
            None => self.requests.not_compressed.inc(),
        }
        let what = &compressor.response;
        if !what.enabled.now() {
            return next.run(request);
        }
        let offers = self.offer(compressor, &request, &next);
        let removes = match said {
            Some(OnRoute::Overrides { remove_accept_encoding: Some(removes) }) => *removes,
            _ => compressor.remove_accept_encoding,
        };
        if removes {
            request.head.headers.remove(&header::ACCEPT_ENCODING);
        }
        Answer::later(async move {
            let mut response = next.run(request).await?;
            // What is yet to be put into words, or into a gRPC status, is none to be compressed.
            let stream = next.stream();
            if response.local && (stream.record().grpc.get() || stream.manager().replies.is_some()) {
                self.responses.not_compressed.inc();
            } else {
                self.compress_response(compressor, what, Some(&offers), &mut response);
            }
            Ok(response)
        })
    }

    fn dress<'a>(&'a self, reply: &mut Response<'a>, next: Next<'a>) {
        let Some(compressor) = self.settings.get::<Compressor>() else { return };
        let is_off = next.route_settings().as_ref().and_then(|said| said.get::<OnRoute>()) == Some(&OnRoute::Disabled);
        if is_off || !compressor.response.enabled.now() {
            return;
        }
        let record = next.stream().record();
        if reply.local && (record.grpc.get() || next.stream().manager().replies.is_some()) {
            return self.responses.not_compressed.inc();
        }
        let offers = record.object::<Offers>(OFFERS);
        self.compress_response(compressor, &compressor.response, offers.as_deref(), reply);
    }
}

impl Compress {
    /// Tells the other compressors of the chain what this one could do.
    fn offer(&self, compressor: &Compressor, request: &Request<'_>, next: &Next<'_>) -> Rc<Offers> {
        let record = next.stream().record();
        let offers = match record.object::<Offers>(OFFERS) {
            Some(offers) => offers,
            None => {
                let mut accepts = request.head.headers.get_all(&header::ACCEPT_ENCODING).map(HeaderValue::as_bytes);
                let accepts = accepts
                    .next()
                    .map(|first| accepts.fold(first.to_vec(), |all, value| [&*all, b",", value].concat()));
                let offers = Offers::default();
                *offers.accepts.borrow_mut() = accepts.map(Bytes::from);
                record.set_object(OFFERS, offers);
                // It has just been put there.
                record.object::<Offers>(OFFERS).unwrap_or_default()
            }
        };
        let offer = Offer { encoding: compressor.library.encoding(), first: compressor.choose_first };
        offers.made.borrow_mut().push((offer, self.settings.clone()));
        offers
    }

    fn compress_request<'a>(&self, compressor: &Compressor, what: &What, request: &mut Request<'a>, is_complete: bool) {
        let headers = &mut request.head.headers;
        let fits = !is_complete
            && matches!(request.body, Body::Request(_) | Body::Full(_) | Body::Other(_))
            && !headers.contains(&header::UPGRADE)
            && request.head.method != http::Method::CONNECT
            && is_long(headers, what, &self.requests)
            && is_of_type(headers, what)
            && !headers.contains(&header::CONTENT_ENCODING);
        if !fits {
            return self.requests.not_compressed.inc();
        }
        headers.remove(&header::CONTENT_LENGTH);
        headers.set(header::CONTENT_ENCODING, self.encoding.clone());
        wrap(&mut request.body, compressor, &self.requests);
    }

    fn compress_response<'a>(
        &self,
        compressor: &Compressor,
        what: &What,
        // Of a request that has come as far as here.
        offers: Option<&Offers>,
        response: &mut Response<'a>,
    ) {
        if matches!(response.body, Body::Tunnel(_)) {
            return self.responses.not_compressed.inc();
        }
        let head = &mut response.head;
        let is_long = is_long(&head.headers, what, &self.responses);
        let is_accepted = is_long
            && response.body.length() != Some(0)
            && offers.is_some_and(|offers| self.is_accepted(compressor, offers, &head.headers));
        let could = is_long
            && !compressor.codes.contains(&head.status.as_u16().into())
            && is_of_type(&head.headers, what)
            && !is_fixed(&head.headers)
            && self.allows_etag(compressor, &head.headers)
            && !head.headers.contains(&header::CONTENT_ENCODING);
        if could && is_accepted {
            dress(head, compressor.etag);
            head.headers.set(header::CONTENT_ENCODING, self.encoding.clone());
            wrap(&mut response.body, compressor, &self.responses);
        } else {
            self.responses.not_compressed.inc();
        }
        // A cache must know, whatever this client got.
        if could {
            vary(&mut response.head.headers);
        }
    }

    fn allows_etag(&self, compressor: &Compressor, headers: &Headers) -> bool {
        let refused = compressor.etag == Etag::Keep && headers.contains(&header::ETAG);
        if refused {
            self.accepts.not_compressed_etag.inc();
        }
        !refused
    }

    /// Whether the client accepts it, and prefers it to what the other compressors do.
    fn is_accepted(&self, compressor: &Compressor, offers: &Offers, headers: &Headers) -> bool {
        let own = compressor.library.encoding();
        let made = offers.made.borrow();
        let fits = |made: &&(Offer, Settings)| {
            made.1.get::<Compressor>().is_none_or(|maker| is_of_type(headers, &maker.response))
        };
        let fitting: Vec<Offer> = made.iter().filter(fits).map(|(offer, _)| *offer).collect();
        let (counter, accepted) = match choose(offers.accepts.borrow().as_deref(), &fitting) {
            Choice::NoHeader => (&self.accepts.no_accept_header, false),
            Choice::Identity => (&self.accepts.header_identity, false),
            Choice::NotValid => (&self.accepts.header_not_valid, false),
            Choice::Wildcard(encoding) => (&self.accepts.header_wildcard, encoding == own),
            Choice::Encoding(encoding) if encoding == own => (&self.accepts.header_compressor_used, true),
            Choice::Encoding(_) => (&self.accepts.header_compressor_overshadowed, false),
        };
        counter.inc();
        accepted
    }
}

/// Compresses a body from here on.
fn wrap(body: &mut Body<'_>, compressor: &Compressor, stats: &CompressionStats) {
    stats.compressed.inc();
    let plain = std::mem::replace(body, Body::Empty);
    let (taken, made) = (stats.total_uncompressed_bytes.clone(), stats.total_compressed_bytes.clone());
    let library = compressor.library;
    let coded = Recoded::new(plain, |sink| library.encoder(sink), (taken, made), Failure::Internal);
    *body = Body::Other(Box::new(coded));
}

/// Whether it is worth it; what does not say how long it is, is.
fn is_long(headers: &Headers, what: &What, stats: &CompressionStats) -> bool {
    let length = headers.get(&header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.trim().parse::<u64>().ok());
    let too_small = length.is_some_and(|length| length < what.least);
    if too_small {
        stats.content_length_too_small.inc();
    }
    !too_small
}

/// Whether its type is one of those; what has none is.
fn is_of_type(headers: &Headers, what: &What) -> bool {
    let Some(value) = headers.get(&header::CONTENT_TYPE) else { return true };
    let name = value.as_bytes().split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
    what.types.iter().any(|known| known.matches(name))
}

/// `cache-control: no-transform`.
pub(super) fn is_fixed(headers: &Headers) -> bool {
    let mut values = headers.get_all(&header::CACHE_CONTROL);
    values.any(|value| tokens(value.as_bytes()).any(|token| token.eq_ignore_ascii_case(b"no-transform")))
}

/// What is true of the plain response and not of the compressed one.
fn dress(head: &mut ResponseHead, etag: Etag) {
    const WEAK: &[u8] = b"W/";
    let headers = &mut head.headers;
    headers.remove(&header::CONTENT_LENGTH);
    let strong = headers.get(&header::ETAG).filter(|value| !value.as_bytes().starts_with(WEAK)).cloned();
    if let Some(strong) = strong {
        let weak = HeaderValue::from_bytes(&[WEAK, strong.as_bytes()].concat()).ok();
        match weak.filter(|_| etag == Etag::Weaken) {
            Some(weak) => headers.set(header::ETAG, weak),
            None => drop(headers.remove(&header::ETAG)),
        }
    }
}

/// `vary: accept-encoding`, beside what is there.
fn vary(headers: &mut Headers) {
    const ACCEPT_ENCODING: HeaderValue = HeaderValue::from_static("Accept-Encoding");
    let name: HeaderName = header::VARY;
    let named = |value: &HeaderValue| {
        tokens(value.as_bytes()).any(|token| token == b"*" || token.eq_ignore_ascii_case(b"accept-encoding"))
    };
    if headers.get_all(&name).any(named) {
        return;
    }
    let first = headers.get(&name).map(|there| [there.as_bytes(), b", Accept-Encoding"].concat());
    let value = first.and_then(|value| HeaderValue::from_bytes(&value).ok()).unwrap_or(ACCEPT_ENCODING);
    headers.set(name, value);
}
