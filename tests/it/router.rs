//! The router's own options, what requests from inside may ask of it, and what it counts apart.

use std::io::Write;
use std::time::Duration;

use heirloom::config::model::*;

use crate::support::models::*;
use crate::support::origin::{Origin, ok};
use crate::support::proxy::Proxy;

/// A proxy that believes whoever shows an address of 10/8 to be inside.
fn inside(text: &str, routes: Vec<Route>, clusters: Vec<Cluster>) -> Proxy {
    let net = "          internal_address_config: { cidr_ranges: [{ address_prefix: 10.0.0.0, prefix_len: 8 }] }\n";
    Proxy::start(configured(&format!("{net}{text}"), routes), clusters)
}

fn with_router(change: impl FnOnce(&mut Router), routes: Vec<Route>, clusters: Vec<Cluster>) -> Proxy {
    let net = "          internal_address_config: { cidr_ranges: [{ address_prefix: 10.0.0.0, prefix_len: 8 }] }\n";
    let mut manager = configured(net, routes);
    let mut router = Router::default();
    change(&mut router);
    manager.http_filters = vec![HttpFilter::Router(router)];
    Proxy::start(manager, clusters)
}

fn ask(proxy: &Proxy, fields: &str) -> crate::support::wire::Message {
    let mut client = proxy.connect();
    client.send(format!("GET / HTTP/1.1\r\nhost: test\r\nx-forwarded-for: 10.0.0.1\r\n{fields}\r\n"));
    client.response()
}

/// Takes requests and answers none.
fn silent() -> Origin {
    Origin::raw(|_, mut wire| while let Ok(Some(_)) = wire.head() {})
}

#[test]
fn canaries_are_counted_apart() {
    let origin = Origin::http(|request| match request.path() {
        "/canary" => b"HTTP/1.1 200 OK\r\nx-envoy-upstream-canary: true\r\ncontent-length: 0\r\n\r\n".to_vec(),
        _ => ok("x"),
    });
    let proxy = Proxy::start(manager(vec![route("/", "origin")]), vec![cluster("origin", &[origin.address])]);
    let mut client = proxy.connect();
    for path in ["/", "/canary", "/", "/canary"] {
        assert_eq!(client.get(path).status(), 200);
    }
    assert_eq!(proxy.counter("cluster.origin.upstream_rq_200"), 4);
    assert_eq!(proxy.counter("cluster.origin.canary.upstream_rq_200"), 2);
    assert_eq!(proxy.counter("cluster.origin.canary.upstream_rq_completed"), 2);
}

#[test]
fn interim_responses_are_counted() {
    let origin = Origin::raw(|_, mut wire| {
        while let Ok(Some(_)) = wire.head() {
            let _ = wire.socket.write_all(b"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 102 Processing\r\n\r\n");
            let _ = wire.socket.write_all(&ok("x"));
        }
    });
    let proxy = Proxy::start(manager(vec![route("/", "origin")]), vec![cluster("origin", &[origin.address])]);
    let mut client = proxy.connect();
    client.send("GET / HTTP/1.1\r\nhost: test\r\n\r\n");
    assert_eq!(client.head().status(), 103);
    assert_eq!(client.response().status(), 200);
    for (name, value) in [("1xx", 2), ("102", 1), ("103", 1), ("200", 1), ("completed", 3)] {
        assert_eq!(proxy.counter(&format!("cluster.origin.upstream_rq_{name}")), value, "{name}");
    }
}

#[test]
fn a_cluster_is_charged_with_what_a_reply_for_grpc_stands_for() {
    let proxy = Proxy::start(manager(vec![route("/", "nobody")]), vec![cluster("nobody", &[])]);
    let mut client = proxy.connect();
    client.send("POST / HTTP/1.1\r\nhost: test\r\ncontent-type: application/grpc\r\ncontent-length: 0\r\n\r\n");
    let response = client.response();
    assert_eq!((response.status(), response.header("grpc-status")), (200, Some("14")));
    assert_eq!(proxy.counter("cluster.nobody.upstream_rq_503"), 1);
    assert_eq!(proxy.counter("http.test.downstream_rq_2xx"), 1);
    assert_eq!(proxy.counter("cluster.nobody.upstream_rq_completed"), 1);
}

#[test]
fn headers_that_are_looked_at_strictly_must_say_something_sensible() {
    let origin = Origin::text("x");
    let strict = vec![ControlHeader::Timeout, ControlHeader::MaxRetries, ControlHeader::RetryOn];
    let clusters = || vec![cluster("origin", &[origin.address])];
    let proxy = with_router(|router| router.strict = strict, vec![route("/", "origin")], clusters());
    for (field, value) in [
        ("x-envoy-upstream-rq-timeout-ms", "soon"),
        ("x-envoy-upstream-rq-timeout-ms", "99999999999999999999999"),
        ("x-envoy-upstream-rq-timeout-ms", "\u{e4}"),
        ("x-envoy-max-retries", ""),
        ("x-envoy-retry-on", "5xx,,reset"),
    ] {
        let response = ask(&proxy, &format!("{field}: {value}\r\n"));
        assert_eq!(response.status(), 400, "{field}: {value}");
        assert!(response.text().starts_with(&format!("invalid header '{field}' with value '")), "{}", response.text());
    }
    assert_eq!(origin.requests(), 0);
    assert_eq!(ask(&proxy, "x-envoy-upstream-rq-timeout-ms: 5000\r\nx-envoy-retry-on: 5xx, reset\r\n").status(), 200);
    assert_eq!(ask(&proxy, "x-envoy-retry-grpc-on: whim\r\n").status(), 200, "this one is not looked at");
    let proxy = inside("", vec![route("/", "origin")], clusters());
    assert_eq!(ask(&proxy, "x-envoy-upstream-rq-timeout-ms: soon\r\n").status(), 200, "nor is any without the option");
}

#[test]
fn a_timeout_that_another_proxy_has_announced_is_kept() {
    let origin = silent();
    let clusters = vec![cluster("origin", &[origin.address])];
    let respects = |router: &mut Router| router.respect_expected_timeout = true;
    let proxy = with_router(respects, vec![route_with_timeout("/", "origin", None)], clusters);
    assert_eq!(ask(&proxy, "x-envoy-expected-rq-timeout-ms: 100\r\n").status(), 504);
    assert_eq!(proxy.counter("cluster.origin.upstream_rq_timeout"), 1);
}

#[test]
fn a_timeout_may_be_told_as_no_content() {
    let origin = silent();
    let route = route_with_timeout("/", "origin", Some(Duration::from_millis(100)));
    let proxy = inside("", vec![route], vec![cluster("origin", &[origin.address])]);
    let response = ask(&proxy, "x-envoy-upstream-rq-timeout-alt-response: 1\r\n");
    assert_eq!((response.status(), response.text()), (204, ""));
    assert_eq!(proxy.counter("cluster.origin.upstream_rq_204"), 1);
    assert_eq!(ask(&proxy, "").status(), 504);
}

#[test]
fn grpc_has_the_timeout_that_it_asks_for() {
    let origin = silent();
    let mut route = route_with_timeout("/", "origin", None);
    if let RouteAction::Forward(forward) = &mut route.action {
        forward.grpc_timeout =
            Some(GrpcTimeout { most: Some(Duration::from_secs(5)), offset: Duration::from_millis(100) });
    }
    let proxy = Proxy::start(manager(vec![route]), vec![cluster("origin", &[origin.address])]);
    let mut client = proxy.connect();
    client.send(
        "POST / HTTP/1.1\r\nhost: test\r\ncontent-type: application/grpc\r\ngrpc-timeout: 250m\r\ncontent-length: 0\r\n\r\n",
    );
    let response = client.response();
    assert_eq!((response.status(), response.header("grpc-status")), (200, Some("14")));
    assert_eq!(proxy.counter("cluster.origin.upstream_rq_504"), 1);
}

/// What a text with operators makes of a request is no path unless it looks like one.
#[test]
fn a_path_that_is_made_of_a_header_must_be_one() {
    let origin = Origin::http(|request| ok(request.path()));
    let host = "routes:\n- match: { prefix: /whole }\n  route: { cluster: origin, path_rewrite: \"%REQ(x-path)%\" }\n\
                - match: { prefix: /away }\n  redirect: { path_rewrite: \"%REQ(x-path)%\" }\n";
    let proxy = crate::support::configured::start(crate::support::configured::text("", host, origin.address));
    let mut client = proxy.connect();
    for (header, expected) in [
        ("x-path: /made\r\n", "/made?q=1"),
        ("x-path: no-slash\r\n", "/whole?q=1"),
        ("x-path: /with blank\r\n", "/whole?q=1"),
        ("x-path: /with#fragment\r\n", "/whole?q=1"),
        ("", "/whole?q=1"),
    ] {
        client.send(format!("GET /whole?q=1 HTTP/1.1\r\nhost: test\r\n{header}\r\n"));
        assert_eq!(client.response().text(), expected, "{header}");
        client.send(format!("GET /away?q=1 HTTP/1.1\r\nhost: test\r\n{header}\r\n"));
        let location = format!("http://test{}", expected.replace("/whole", "/away"));
        assert_eq!(client.response().header("location"), Some(&*location), "{header}");
    }
}

#[test]
fn a_direct_response_may_have_a_format() {
    let origin = Origin::text("x");
    let host = "routes:\n- match: { prefix: / }\n  direct_response:\n    status: 404\n    body: { inline_string: nothing }\n    \
                body_format: { text_format_source: { inline_string: \"%LOCAL_REPLY_BODY% at %REQ(:PATH)%, %RESPONSE_CODE%\" }, \
                content_type: text/html }\n";
    let proxy = crate::support::configured::start(crate::support::configured::text("", host, origin.address));
    let mut client = proxy.connect();
    for path in ["/a", "/b"] {
        let response = client.get(path);
        assert_eq!((response.status(), response.text()), (404, &*format!("nothing at {path}, 404")));
        assert_eq!(response.header("content-type"), Some("text/html"));
    }
    client.send("HEAD / HTTP/1.1\r\nhost: test\r\n\r\n");
    let head = client.head();
    assert_eq!((head.status(), head.header("content-length")), (404, Some("17")));
}

/// A caller may have its responses counted apart, under names that can be names, and no more of them than are kept.
#[test]
fn responses_are_counted_under_names_that_callers_give() {
    let origin = Origin::text("x");
    let proxy = inside("", vec![route("/", "origin")], vec![cluster("origin", &[origin.address])]);
    for name in ["by_caller", "by_caller", "bad name", ".", "a/b"] {
        assert_eq!(ask(&proxy, &format!("x-envoy-upstream-alt-stat-name: {name}\r\n")).status(), 200);
    }
    assert_eq!(proxy.counter("cluster.origin.by_caller.upstream_rq_200"), 2);
    assert_eq!(proxy.counter("cluster.origin.upstream_rq_200"), 5);
    for number in 0..100 {
        ask(&proxy, &format!("x-envoy-upstream-alt-stat-name: many.n{number}\r\n"));
    }
    let counted = (0..100).filter(|n| proxy.counter(&format!("cluster.origin.many.n{n}.upstream_rq_200")) > 0).count();
    assert_eq!(counted, 63, "with the one from before as many as are kept");
}
