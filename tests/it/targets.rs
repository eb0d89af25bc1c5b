//! Paths and hosts in their normal form, before routing and towards the upstream.

use heirloom::config::model::{EscapedSlashes, ForcedScheme, HttpConnectionManager, StripPort, TargetRules};

use crate::support::models::*;
use crate::support::origin::{Origin, ok};
use crate::support::proxy::Proxy;

/// A proxy whose origin says what it has seen.
fn with(target: TargetRules) -> (Proxy, Origin) {
    let origin = Origin::http(|request| {
        let header = |name| request.header(name).unwrap_or("-");
        let (host, proto, port) = (header("host"), header("x-forwarded-proto"), header("x-forwarded-port"));
        ok(&format!("{} {host} {proto} {port}", request.path()))
    });
    let manager = HttpConnectionManager { target, ..manager(vec![direct("/secret", 403, "no"), route("/", "origin")]) };
    (Proxy::start(manager, vec![cluster("origin", &[origin.address])]), origin)
}

#[test]
fn a_path_is_normal_before_it_is_routed_and_sent_on() {
    let target = TargetRules {
        normalize_path: true,
        merge_slashes: true,
        escaped_slashes: EscapedSlashes::Forward,
        strip_port: StripPort::Any,
        strip_trailing_dot: true,
        forwarded_port: true,
        scheme: Some(ForcedScheme::Https),
    };
    let (proxy, _origin) = with(target);
    let mut client = proxy.connect();
    for hidden in ["/open/../secret", "/./%73ecret", "//secret", "/x%2f..%2Fsecret", "/x\\..\\secret"] {
        assert_eq!(client.get(hidden).status(), 403, "{hidden}");
    }
    client.send("GET /a//./b/%2e%2e/%41?x=//%41 HTTP/1.1\r\nhost: name.:99\r\n\r\n");
    let port = proxy.address.port();
    assert_eq!(client.response().text(), format!("/a/A?x=//%41 name https {port}"));
    let refused = client.get("/a%00");
    assert_eq!((refused.status(), refused.text()), (400, ""));
    client.assert_closed();
    assert_eq!(proxy.counter("http.test.downstream_rq_failed_path_normalization"), 1);
}

#[test]
fn an_escaped_slash_sends_the_client_to_the_real_one() {
    let (proxy, origin) = with(TargetRules { escaped_slashes: EscapedSlashes::Redirect, ..TargetRules::default() });
    let mut client = proxy.connect();
    let moved = client.get("/a%2Fb?c=%2f");
    assert_eq!((moved.status(), moved.header("location"), moved.text()), (307, Some("/a/b?c=%2f"), ""));
    assert_eq!(proxy.counter("http.test.downstream_rq_redirected_with_normalized_path"), 1);
    client.send("POST /a%2fb HTTP/1.1\r\nhost: a\r\ncontent-type: application/grpc\r\ncontent-length: 0\r\n\r\n");
    client.response();
    client.assert_closed();
    assert_eq!(proxy.counter("http.test.downstream_rq_failed_path_normalization"), 1);
    assert_eq!(origin.requests(), 0);
}
