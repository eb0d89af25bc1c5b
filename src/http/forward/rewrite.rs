//! What the route does to heads on both ways, and answers that it gives itself.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, header};

use crate::access_log::{Live, Template};
use crate::codec::head::{RequestHead, ResponseHead};
use crate::config::model::{
    Forward, HostRewrite, MaxStreamDuration, PathRewrite, Piece, RedirectPath, RouteAction, Router,
};
use crate::fault::Flag;
use crate::http::filter::Response;
use crate::http::local_reply;
use crate::http::stream::Stream;
use crate::route::{self, Decision, Entry};
use crate::upstream::Host;

/// A request that goes to a host: header operations, then host and path.
pub(super) fn request(
    head: &mut RequestHead,
    stream: &Stream<'_>,
    forward: &Forward,
    decision: &Decision,
    router: &Router,
) {
    let (in_request, in_response) = decision.has_formats();
    // The operators see the head as it comes, and those of the response want it when it is gone.
    let seen = (in_request || in_response).then(|| Box::new(head.clone()));
    decision.apply_to_request(&mut head.headers, &mut |pieces| value(pieces, stream, seen.as_deref(), None));
    if in_response {
        *stream.record().head.borrow_mut() = seen;
    }
    route::rewrite(head, decision, router.suppress_envoy_headers);
    if let PathRewrite::Format(pieces) = &forward.path_rewrite
        && let Some(path) = path(pieces, stream, head)
    {
        route::set_path(head, path.as_bytes(), router.suppress_envoy_headers);
    }
    if let Some(host) = &*stream.record().host.borrow() {
        route::set_endpoint_host(head, forward, &host.endpoint().hostname, router.suppress_envoy_headers);
    }
}

/// A path made of a text with operators; `None`, and the path stays, where none came out that can be asked for.
fn path(pieces: &[Piece], stream: &Stream<'_>, head: &RequestHead) -> Option<HeaderValue> {
    let path = value(pieces, stream, Some(head), None)?;
    let bytes = path.as_bytes();
    let fits = bytes.starts_with(b"/") && !bytes.iter().any(|byte| matches!(byte, b' ' | b'#' | b'\t'));
    fits.then_some(path)
}

/// Another try goes to another host, which may have another name.
pub(super) fn next_host(head: &mut RequestHead, route: &Entry, host: &Host) {
    if let RouteAction::Forward(forward) = &route.action
        && forward.host_rewrite == HostRewrite::Auto
        && !host.endpoint().hostname.is_empty()
    {
        head.authority = Bytes::copy_from_slice(host.endpoint().hostname.as_bytes());
    }
}

/// A response to a request that has a route, whether a host gave it or we do.
pub(in crate::http) fn response(head: &mut ResponseHead, stream: &Stream<'_>) {
    if let Some(decision) = &*stream.record().route.borrow() {
        let seen = decision.has_formats().1.then(|| head.clone());
        let request = stream.record().head.borrow();
        decision.apply_to_response(&mut head.headers, &mut |pieces| {
            value(pieces, stream, request.as_deref(), seen.as_ref())
        });
    }
}

/// The same for a reply of ours: what its body is, is said after the route's operations, and they cannot take it away.
pub(in crate::http) fn own_response(reply: &mut Response<'_>, work: impl FnOnce(&mut ResponseHead)) {
    let headers = &mut reply.head.headers;
    let said = [header::CONTENT_LENGTH, header::CONTENT_TYPE].map(|name| {
        let value = headers.get(&name).cloned();
        headers.remove(&name);
        (name, value)
    });
    work(&mut reply.head);
    for (name, value) in said {
        if let Some(value) = value
            && !reply.head.headers.contains(&name)
        {
            reply.head.headers.append(name, value);
        }
    }
}

/// Whether the route has something to do when the response comes, or a filter has left something that would be lost.
pub(super) fn awaits_response(stream: &Stream<'_>) -> bool {
    let record = stream.record();
    let rules = record.route.borrow().as_ref().is_some_and(Decision::has_response_rules);
    // What a reply of ours would be made of does not move.
    let replies = record.grpc.get() || stream.manager().replies.is_some();
    rules || replies || record.must_stay() || stream.manager().route_stats.counts(record)
}

/// The answer to a request that asks something of the router in a header that says nothing sensible.
pub(super) fn refuse_control<'a>(name: &str, value: &HeaderValue, stream: &Stream<'_>) -> Response<'a> {
    let record = stream.record();
    record.flag(Flag::InvalidEnvoyRequestHeaders);
    record.set_details(format!("request_headers_failed_strict_check{{{name}}}"));
    let value = String::from_utf8_lossy(value.as_bytes());
    let mut reply = local_reply::text(400, format!("invalid header '{name}' with value '{value}'").into());
    response(&mut reply.head, stream);
    reply
}

/// A redirect, or a direct response.
pub(super) fn answer<'a>(
    head: &RequestHead,
    stream: &Stream<'_>,
    decision: &Decision,
    status: u16,
    body: Bytes,
) -> Response<'a> {
    stream.manager().stats.rq_direct_response.inc();
    stream.record().set_details("direct_response");
    let mut response = local_reply::text(status, body);
    let formatted = match decision.action() {
        RouteAction::Redirect(redirect) => match &redirect.path {
            RedirectPath::Rewrite(PathRewrite::Format(pieces)) => path(pieces, stream, head),
            _ => None,
        },
        _ => None,
    };
    if let Some(location) = route::location_at(head, decision, formatted.as_ref().map(HeaderValue::as_bytes)) {
        response.head.headers.append(header::LOCATION, location);
    }
    own_response(&mut response, |response| {
        let seen = decision.has_formats().1.then(|| response.clone());
        let mut value = |pieces: &[Piece]| value(pieces, stream, Some(head), seen.as_ref());
        decision.apply_to_response(&mut response.headers, &mut value);
    });
    // For the filters that it comes by.
    stream.record().status.set(status);
    response
}

/// The limit on request and response together: `grpc-timeout` where the route takes it, else the route's own. `None` leaves it to the
/// connection manager. A host that is asked by gRPC is told what is left of it.
pub(super) fn duration(head: &mut RequestHead, grpc: bool, limits: MaxStreamDuration) -> Option<Option<Duration>> {
    let asked = limits.grpc_max.and_then(|most| {
        let asked = grpc_timeout(head)?;
        Some(most.map_or(asked, |most| asked.min(most)).saturating_sub(limits.grpc_offset))
    });
    let limit = asked.map(Some).or(limits.limit);
    if let Some(Some(limit)) = limit.filter(|_| grpc) {
        head.headers.set(GRPC_TIMEOUT, to_grpc_timeout(limit));
    }
    limit
}

/// Tells a host that is asked by gRPC how long it is waited for, where that is bounded.
pub(super) fn tell_timeout(head: &mut RequestHead, expected: Option<Duration>) {
    if let Some(expected) = expected {
        head.headers.set(GRPC_TIMEOUT, to_grpc_timeout(expected));
    }
}

const GRPC_TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");

/// A duration as `grpc-timeout` says it: in the smallest unit from milliseconds on that it fits in with eight digits.
fn to_grpc_timeout(duration: Duration) -> HeaderValue {
    const MOST: u128 = 99_999_999;
    let units = [(1, 'm'), (1000, 'S'), (60_000, 'M'), (3_600_000, 'H')];
    let millis = duration.as_millis();
    let fitting = units.iter().map(|(unit, name)| (millis / unit, name)).find(|(number, _)| *number <= MOST);
    let (number, name) = fitting.unwrap_or((MOST, &'H'));
    HeaderValue::from_maybe_shared(Bytes::from(format!("{number}{name}"))).unwrap_or(HeaderValue::from_static("0m"))
}

/// The limit on the response: of a gRPC request what it asks for, where the route takes it, else the route's own.
pub(super) fn timeout(head: &RequestHead, is_grpc: bool, forward: &Forward) -> Option<Duration> {
    let Some(grpc) = forward.grpc_timeout.filter(|_| is_grpc) else { return forward.timeout };
    let asked = grpc_timeout(head).filter(|asked| !asked.is_zero());
    let asked = asked.map(|asked| if grpc.offset < asked { asked - grpc.offset } else { asked });
    match (asked, grpc.most) {
        (Some(asked), Some(most)) => Some(asked.min(most)),
        (asked, most) => asked.or(most),
    }
}

/// `grpc-timeout`: up to eight digits and a unit.
fn grpc_timeout(head: &RequestHead) -> Option<Duration> {
    let value = head.headers.get(&GRPC_TIMEOUT).map(HeaderValue::as_bytes)?;
    let (unit, digits) = value.split_last()?;
    if digits.is_empty() || digits.len() > 8 || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let number: u64 = std::str::from_utf8(digits).ok()?.parse().ok()?;
    Some(match unit {
        b'H' => Duration::from_secs(number * 3600),
        b'M' => Duration::from_secs(number * 60),
        b'S' => Duration::from_secs(number),
        b'm' => Duration::from_millis(number),
        // A part of a millisecond is one: none at all would be no time.
        b'u' => Duration::from_millis(number.div_ceil(1_000)),
        b'n' => Duration::from_millis(number.div_ceil(1_000_000)),
        _ => return None,
    })
}

/// The value of a header whose text has operators.
pub(in crate::http) fn value(
    pieces: &[Piece],
    stream: &Stream<'_>,
    request: Option<&RequestHead>,
    response: Option<&ResponseHead>,
) -> Option<HeaderValue> {
    let mut live = Live::new(stream.record().started);
    stream.fill(&mut live);
    HeaderValue::from_bytes(&Template::compile(pieces).render(&mut live, request, response)).ok()
}
