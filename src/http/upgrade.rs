//! Requests after which a connection speaks HTTP no more: an upgrade (`connection: upgrade`, RFC 9110, 7.8) and CONNECT (RFC 9110, 9.3.6).
//!
//! ```text
//!   asks ─▶ route ─▶ allowed? ── no: 403
//!                       ├─ upgrade, CONNECT: to the host, which grants it (101, 2xx) ─┐
//!                       └─ CONNECT that ends here: a TCP connection to the host ──────┴─▶ [`Granted`] ─▶ head to the client ─▶ tunnel
//!                          any other answer is an ordinary response, and the connection's last
//! ```
//!
//! Up to its grant a request is one like any other, with its timeouts and its one more try on a fresh connection. What the client sends behind its head
//! is kept unread (of HTTP/1 one block at most, of HTTP/2 what the stream's window holds) until the host has granted; so a host that does not grant
//! never sees it. From then on the two sides are a tunnel ([`crate::l4::tunnel`]), and `Switched` is what is left of the request: its statistics, and the stream's
//! idle timeout and `max_stream_duration`. Neither the route's timeout nor the connection's `max_connection_duration` cuts it, as in Envoy.
//!
//! Either side may speak HTTP/2. There an upgrade is an extended CONNECT (RFC 8441), which a listener takes with `allow_connect`; above the codec it is a GET
//! with `upgrade`, whoever asks and whoever is asked, and its grant a 101, which is what is counted and logged. Such a side is a stream, and ends as one: each half with
//! END_STREAM, both with a reset. A tunnel between two sockets moves to the next epoch; one with a stream in it drains where it is, after its connection's GOAWAY up to the
//! drain's deadline.
//!
//! Where Envoy does otherwise: it sends the host what comes behind the head at once (not to one of HTTP/2), and a chunked body of the request as it stands; it drops the body of a
//! 2xx that is no grant, and passes a 101 on that names no protocol (502 here); an end of one side is the end of both, while here the other
//! half goes on. It asks a host of HTTP/2 for an upgrade whatever the host's settings say, takes only 200 for a grant, and leaves out what a WebSocket's handshake
//! needs where only one side knows of it (`handshake`). An upgrade with a body cannot be asked for over HTTP/2: it gets the 403 of what is not enabled.

use bytes::{BufMut, BytesMut};
use http::{Method, StatusCode, header};

use crate::codec::head::{RequestHead, ResponseHead};
use crate::config::model::{RouteAction, RouteUpgrade};
use crate::l4::tunnel::Host;

mod frozen;
pub(super) mod handshake;
mod http2;
mod switched;

pub(super) use http2::Asked;
pub(super) use switched::{Active, Switched, Switching, Way};

/// What a request wants of its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Switch {
    /// To stay what it is.
    No,
    /// To become a tunnel; whether it may is not known yet.
    Asked,
    /// That, if the host agrees.
    Allowed,
    /// That, and the key of the handshake is ours: the client has no use for its answer.
    Keyed,
    /// That, with a host that hears nothing of HTTP.
    Terminated,
}

impl Switch {
    /// Of a head; `upgrade` says that it asks for one.
    pub(super) fn of(head: &RequestHead, upgrade: bool) -> Self {
        if upgrade || head.method == Method::CONNECT { Self::Asked } else { Self::No }
    }

    /// Whether the host is asked.
    pub(super) fn asks_host(self) -> bool {
        matches!(self, Self::Allowed | Self::Keyed)
    }

    /// Whether the request may have what it asks for, by its route and by its manager; `None` if not.
    pub(super) fn decide(head: &RequestHead, action: Option<&RouteAction>, manager: &[(String, bool)]) -> Option<Self> {
        let kind = kind(head);
        let is_kind = |name: &str| name.as_bytes().eq_ignore_ascii_case(&kind);
        let of_route: &[RouteUpgrade] = match action {
            Some(RouteAction::Forward(forward)) => &forward.upgrades,
            Some(
                RouteAction::Redirect(_)
                | RouteAction::DirectResponse { .. }
                | RouteAction::FormattedResponse { .. }
                | RouteAction::NonForwarding,
            )
            | None => &[],
        };
        match of_route.iter().find(|upgrade| is_kind(&upgrade.kind)) {
            Some(upgrade) if !upgrade.enabled => None,
            Some(upgrade) if upgrade.terminate => Some(Self::Terminated),
            Some(_) => Some(Self::Allowed),
            None => manager.iter().any(|(name, enabled)| *enabled && is_kind(name)).then_some(Self::Allowed),
        }
    }
}

/// The type as the configuration calls it. Several are one that nobody enables: none is granted because it stands beside another.
fn kind(head: &RequestHead) -> BytesMut {
    let mut kind = BytesMut::new();
    if head.method == Method::CONNECT {
        kind.put_slice(b"CONNECT");
        return kind;
    }
    for value in head.headers.get_all(&header::UPGRADE) {
        if !kind.is_empty() {
            kind.put_u8(b',');
        }
        kind.put_slice(value.as_bytes());
    }
    kind
}

/// Whether a host's answer makes its connection a tunnel. A 101 that does not say to what is none.
pub(super) fn is_granted(method: &Method, head: &ResponseHead, upgrade: bool) -> bool {
    if *method == Method::CONNECT {
        return head.status.is_success();
    }
    head.status == StatusCode::SWITCHING_PROTOCOLS && upgrade
}

/// A host that has agreed: the body of the response that says so. A filter passes it on as it is.
pub struct Granted {
    /// Its connection.
    pub(super) host: Host,
    /// What it has sent behind its head.
    pub(super) read: BytesMut,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::model::Forward;

    fn ask(values: &[&'static str]) -> RequestHead {
        let mut head = RequestHead::new(Method::GET, "a", "/");
        for value in values {
            head.headers.append(header::UPGRADE, http::HeaderValue::from_static(value));
        }
        head
    }

    fn route(upgrades: Vec<RouteUpgrade>) -> RouteAction {
        RouteAction::Forward(Box::new(Forward { upgrades, ..Forward::to("c") }))
    }

    fn upgrade(kind: &str, enabled: bool, terminate: bool) -> RouteUpgrade {
        RouteUpgrade { kind: kind.into(), enabled, terminate }
    }

    #[test]
    fn the_route_comes_before_the_manager() {
        let manager = [("websocket".to_owned(), true), ("off".to_owned(), false)];
        let plain = route(Vec::new());
        let own = route(vec![upgrade("websocket", false, false), upgrade("off", true, false)]);
        let decide = |head: &RequestHead, action: &RouteAction| Switch::decide(head, Some(action), &manager);
        assert_eq!(decide(&ask(&["WebSocket"]), &plain), Some(Switch::Allowed));
        assert_eq!(decide(&ask(&["off"]), &plain), None);
        assert_eq!(decide(&ask(&["other"]), &plain), None);
        assert_eq!(decide(&ask(&["websocket"]), &own), None);
        assert_eq!(decide(&ask(&["OFF"]), &own), Some(Switch::Allowed));
    }

    #[test]
    fn two_types_are_none() {
        let manager = [("websocket".to_owned(), true), ("h2c".to_owned(), true)];
        let plain = route(Vec::new());
        for values in [&["websocket", "h2c"][..], &["websocket, h2c"], &["h2c", "websocket"], &[]] {
            assert_eq!(Switch::decide(&ask(values), Some(&plain), &manager), None, "{values:?}");
        }
    }

    #[test]
    fn a_connect_ends_here_or_goes_on() {
        let connect = RequestHead::new(Method::CONNECT, "a:80", "");
        let ends = route(vec![upgrade("connect", true, true)]);
        let goes_on = route(vec![upgrade("connect", true, false)]);
        assert_eq!(Switch::decide(&connect, Some(&ends), &[]), Some(Switch::Terminated));
        assert_eq!(Switch::decide(&connect, Some(&goes_on), &[]), Some(Switch::Allowed));
        assert_eq!(Switch::decide(&connect, Some(&route(Vec::new())), &[]), None);
        assert_eq!(Switch::decide(&connect, None, &[("connect".to_owned(), true)]), Some(Switch::Allowed));
    }
}
