//! What the route does to heads on both ways, and answers that it gives itself.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, header};

use crate::access_log::{Live, Template};
use crate::codec::head::{RequestHead, ResponseHead};
use crate::config::model::{Forward, HostRewrite, MaxStreamDuration, Piece, RouteAction, Router};
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
    if let Some(host) = &*stream.record().host.borrow() {
        route::set_endpoint_host(head, forward, &host.endpoint().hostname, router.suppress_envoy_headers);
    }
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
    rules || replies || record.has_shared() || stream.manager().route_stats.counts(record)
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
    if let Some(location) = route::location(head, decision) {
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
/// connection manager.
pub(super) fn duration(head: &RequestHead, limits: MaxStreamDuration) -> Option<Option<Duration>> {
    if let Some(most) = limits.grpc_max
        && let Some(asked) = grpc_timeout(head)
    {
        let allowed = most.map_or(asked, |most| asked.min(most));
        // An offset that would leave nothing is not taken off.
        return Some(Some(allowed.checked_sub(limits.grpc_offset).filter(|left| !left.is_zero()).unwrap_or(allowed)));
    }
    limits.limit
}

/// The host of a gRPC request that asks for more time than the route gives is told what it has.
pub(super) fn cap_grpc_timeout(head: &mut RequestHead, limits: MaxStreamDuration) {
    let Some(most) = limits.grpc_max.flatten() else { return };
    if grpc_timeout(head).is_some_and(|asked| asked > most) {
        set_grpc_timeout(head, most);
    }
}

/// Tells the host how much time there is.
pub(super) fn set_grpc_timeout(head: &mut RequestHead, time: Duration) {
    let (mut number, mut unit) = (time.as_millis(), 'm');
    // Eight digits are all that there may be.
    if number > 99_999_999 {
        (number, unit) = (time.as_secs().into(), 'S');
    }
    if let Ok(value) = HeaderValue::try_from(format!("{number}{unit}")) {
        head.headers.set(HeaderName::from_static("grpc-timeout"), value);
    }
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
    let value = head.headers.get(&HeaderName::from_static("grpc-timeout")).map(HeaderValue::as_bytes)?;
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
        b'u' => Duration::from_micros(number),
        b'n' => Duration::from_nanos(number),
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
