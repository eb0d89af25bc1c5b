//! Copies of requests for other clusters (`request_mirror_policies`).
//!
//! ```text
//!   request ──▶ its host
//!      └──────▶ Call, a task of its own: head and body as they go to the host, for `host-shadow`; the answer is thrown away
//! ```
//!
//! The request itself notices nothing: it does not wait for a copy, and what goes wrong with one is known to the statistics of its cluster
//! alone. The body is copied as it comes; a copy that falls behind by more than the buffer limit of the route is given up
//! (`retry_or_shadow_abandoned`), and so is one whose request ends early. A cluster's own policies go before those of the route. What asks for a
//! tunnel has no copies. A request may move to another epoch once all of its body has been sent; its copies end where they began.

use std::net::{IpAddr, Ipv4Addr};
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use http::Method;

use crate::codec::head::RequestHead;
use crate::config::model::{Forward, HeadField, Mirror, MirrorCluster, MirrorHost, Tries};
use crate::http::body::Body;
use crate::http::call::Call;
use crate::http::filter::Request;
use crate::http::headers::ask_ourselves;
use crate::http::stream::Stream;
use crate::http::tee::Tee;
use crate::route::{self, HeaderEdits};
use crate::upstream::Cluster;

use super::rewrite;

/// The policies for a request that goes to this cluster.
pub(super) fn of<'m>(forward: &'m Forward, cluster: &'m Cluster) -> &'m [Mirror] {
    let own = &cluster.model().mirrors;
    if own.is_empty() { &forward.mirrors } else { own }
}

/// Sends the copies that the policies want. `timeout` is the request's own.
pub(super) fn send<'a>(
    mirrors: &[Mirror],
    request: &mut Request<'a>,
    stream: &'a Stream<'a>,
    cluster: &Rc<Cluster>,
    tries: &Tries,
    timeout: Option<Duration>,
) {
    if request.head.method == Method::CONNECT {
        return;
    }
    let manager = stream.manager();
    let drawn =
        mirrors.iter().filter(|mirror| mirror.fraction.as_ref().is_none_or(|fraction| fraction.holds(manager.draw())));
    let to = |mirror: &Mirror| match &mirror.cluster {
        MirrorCluster::Name(name) => manager.named.get(name).cloned(),
        MirrorCluster::Header(field) => named(&request.head, field).and_then(|name| manager.named.get(&name).cloned()),
    };
    let wanted: Vec<_> = drawn.filter_map(|mirror| Some((mirror, to(mirror)?))).collect();
    if wanted.is_empty() {
        return;
    }
    let bodies = match &request.body {
        Body::Empty => wanted.iter().map(|_| Body::Empty).collect(),
        _ => {
            let body = std::mem::replace(&mut request.body, Body::Empty);
            let (limit, counted) = (tries.buffer_limit(manager.buffer_limit), cluster.clone());
            let abandoned = move || counted.stats().retry_or_shadow_abandoned.inc();
            let (tee, copies) = Tee::new(body, wanted.len(), limit, abandoned);
            request.body = Body::Other(Box::new(tee));
            copies.into_iter().map(|copy| Body::Other(Box::new(copy))).collect::<Vec<_>>()
        }
    };
    for ((mirror, to), body) in wanted.into_iter().zip(bodies) {
        let head = head(mirror, &request.head, stream);
        let call = Call::new(stream, to, timeout);
        tokio::task::spawn_local(async move {
            // Whatever comes of it has been counted.
            let _ = call.send(head, body, |_| Ok(())).await;
        });
    }
}

/// The head of a copy.
fn head(mirror: &Mirror, original: &RequestHead, stream: &Stream<'_>) -> RequestHead {
    let mut head = original.clone();
    head.authority = match &mirror.host {
        MirrorHost::Suffix => shadow(&original.authority),
        MirrorHost::Same => original.authority.clone(),
        MirrorHost::Literal(host) => Bytes::copy_from_slice(host.as_bytes()),
    };
    for operations in &mirror.mutations {
        let seen = head.clone();
        let edits = HeaderEdits::compile(operations);
        edits.apply(&mut head.headers, &mut |pieces| rewrite::value(pieces, stream, Some(&seen), None));
    }
    ask_ourselves(&mut head.headers, stream.manager().own_address.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST)));
    head
}

/// A host with `-shadow` behind its name, before its port.
fn shadow(host: &[u8]) -> Bytes {
    let is_port = |text: &[u8]| !text.is_empty() && text.iter().all(u8::is_ascii_digit);
    let port = memchr::memrchr(b':', host).filter(|at| is_port(&host[at + 1..]));
    // The colons of an address without brackets are not before a port.
    let port = port.filter(|at| !host[..*at].contains(&b':') || host[..*at].ends_with(b"]"));
    let (name, port) = host.split_at(port.unwrap_or(host.len()));
    [name, b"-shadow", port].concat().into()
}

/// The cluster that a request names; of several values the first counts.
fn named(head: &RequestHead, field: &HeadField) -> Option<String> {
    let value = match field {
        HeadField::Header(name) => head.headers.get(name)?.as_bytes().to_vec(),
        other => route::field(head, other)?.to_vec(),
    };
    String::from_utf8(value).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_suffix_stands_before_the_port() {
        for (host, expected) in [
            ("a.example", "a.example-shadow"),
            ("a.example:80", "a.example-shadow:80"),
            ("[::1]:80", "[::1]-shadow:80"),
            ("[::1]", "[::1]-shadow"),
            ("a.example:", "a.example:-shadow"),
            ("", "-shadow"),
        ] {
            assert_eq!(shadow(host.as_bytes()), expected, "{host}");
        }
    }
}
