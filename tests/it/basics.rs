//! Requests that go well.

use std::sync::atomic::{AtomicUsize, Ordering};

use crate::support::models::*;
use crate::support::origin::{Origin, ok};
use crate::support::proxy::Proxy;

fn to(origin: &Origin) -> Proxy {
    Proxy::start(manager(vec![route("/", "origin")]), vec![cluster("origin", &[origin.address])])
}

#[test]
fn a_get_goes_through_and_comes_back() {
    let origin = Origin::http(|request| {
        assert_eq!(request.line, "GET /hello?x=1 HTTP/1.1");
        assert_eq!(request.header("host"), Some("test"));
        assert_eq!(request.header("x-forwarded-proto"), Some("http"));
        assert_eq!(request.header("x-envoy-expected-rq-timeout-ms"), Some("15000"));
        assert_eq!(request.header("x-request-id").map(str::len), Some(36));
        assert_eq!(request.header("content-length"), None);
        ok("world")
    });
    let proxy = to(&origin);
    let mut client = proxy.connect();
    let response = client.get("/hello?x=1");
    assert_eq!(response.line, "HTTP/1.1 200 OK");
    assert_eq!(response.text(), "world");
    assert_eq!(response.header("server"), Some("envoy"));
    assert!(response.header("date").is_some());
    assert!(response.header("x-envoy-upstream-service-time").is_some());
    assert_eq!(response.header("connection"), None);
    client.assert_open();
}

#[test]
fn the_version_of_a_host_is_not_the_client_s() {
    let origin = Origin::http(|_| b"HTTP/1.0 200 OK\r\nconnection: keep-alive\r\ncontent-length: 2\r\n\r\nok".to_vec());
    let proxy = to(&origin);
    assert_eq!(proxy.connect().get("/").line, "HTTP/1.1 200 OK");
}

#[test]
fn routes_by_prefix_path_and_direct_response() {
    let (a, b) = (Origin::text("a"), Origin::text("b"));
    let mut exact = route("/a/exact", "b");
    exact.path = heirloom::config::model::PathMatch::Exact { path: "/a/exact".into(), case_sensitive: true };
    let lost = route("/lost", "absent");
    let routes = vec![exact, route("/a", "a"), direct("/hi", 201, "hello"), direct("/none", 204, ""), lost];
    let proxy = Proxy::start(manager(routes), vec![cluster("a", &[a.address]), cluster("b", &[b.address])]);
    let mut client = proxy.connect();
    assert_eq!(client.get("/a/x").text(), "a");
    assert_eq!(client.get("/a/exact?q").text(), "b");
    let hello = client.get("/hi");
    assert_eq!((hello.status(), hello.text()), (201, "hello"));
    assert_eq!(hello.header("content-type"), Some("text/plain"));
    assert_eq!(hello.header("server"), Some("envoy"));
    let none = client.get("/none");
    assert_eq!((none.status(), none.header("content-length")), (204, None));
    let unknown = client.get("/nothing");
    assert_eq!((unknown.status(), unknown.text(), unknown.header("content-length")), (404, "", Some("0")));
    let absent = client.get("/lost");
    assert_eq!((absent.status(), absent.text()), (503, ""));
    client.assert_open();
    assert_eq!(proxy.counter("http.test.no_route"), 1);
    assert_eq!(proxy.counter("http.test.no_cluster"), 1);
    assert_eq!(proxy.counter("http.test.rq_direct_response"), 2);
}

#[test]
fn connections_are_kept_on_both_sides() {
    let origin = Origin::text("x");
    let proxy = to(&origin);
    let mut first = proxy.connect();
    let mut second = proxy.connect();
    for _ in 0..50 {
        assert_eq!(first.get("/").text(), "x");
        assert_eq!(second.get("/").text(), "x");
    }
    assert_eq!(origin.connections(), 1, "one after the other they use one connection");
    assert_eq!(proxy.counter("cluster.origin.upstream_rq_total"), 100);
    assert_eq!(proxy.counter("cluster.origin.upstream_cx_total"), 1);
    assert_eq!(proxy.counter("http.test.downstream_cx_total"), 2);
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let origin = Origin::http(|request| ok(if request.path() == "/1" { "one" } else { "two" }));
    let proxy = to(&origin);
    let mut client = proxy.connect();
    let mut all = String::new();
    for _ in 0..20 {
        all.push_str("GET /1 HTTP/1.1\r\nhost: a\r\n\r\nPOST /2 HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\n\r\nabc");
    }
    client.send(all);
    for _ in 0..20 {
        assert_eq!(client.response().text(), "one");
        assert_eq!(client.response().text(), "two");
    }
    client.assert_open();
}

#[test]
fn a_request_in_single_bytes_is_a_request() {
    let origin = Origin::http(|request| ok(std::str::from_utf8(&request.body).unwrap()));
    let proxy = to(&origin);
    let mut client = proxy.connect();
    for byte in b"\r\nPOST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n" {
        client.send([*byte]);
    }
    assert_eq!(client.response().text(), "abc");
}

#[test]
fn hosts_take_turns_by_weight() {
    let (a, b) = (Origin::text("a"), Origin::text("b"));
    let mut both = cluster("both", &[a.address, b.address]);
    both.endpoints[0].weight = 3;
    let proxy = Proxy::start(manager(vec![route("/", "both")]), vec![both]);
    let mut client = proxy.connect();
    for _ in 0..40 {
        client.get("/");
    }
    assert_eq!((a.requests(), b.requests()), (30, 10));
}

#[test]
fn a_head_request_gets_the_length_without_the_body() {
    let origin = Origin::http(|_| b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n".to_vec());
    let proxy = Proxy::start(
        manager(vec![direct("/direct", 200, "hello"), route("/", "origin")]),
        vec![cluster("origin", &[origin.address])],
    );
    let mut client = proxy.connect();
    client.send("HEAD / HTTP/1.1\r\nhost: a\r\n\r\n");
    assert_eq!(client.head().header("content-length"), Some("1000"));
    client.send("HEAD /direct HTTP/1.1\r\nhost: a\r\n\r\n");
    let head = client.head();
    assert_eq!((head.status(), head.header("content-length")), (200, Some("5")));
    client.assert_open();
    assert_eq!(origin.connections(), 1);
}

#[test]
fn http_1_0_is_served_where_it_is_accepted() {
    let origin = Origin::http(|request| {
        assert_eq!(request.line, "GET / HTTP/1.1");
        assert_eq!(request.header("host"), Some("default.example"));
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nab\r\n1\r\nc\r\n0\r\n\r\n".to_vec()
    });
    let mut config = manager(vec![route("/", "origin")]);
    config.http1.accept_http_10 = true;
    config.http1.default_host_for_http_10 = "default.example".into();
    let proxy = Proxy::start(config, vec![cluster("origin", &[origin.address])]);
    let mut client = proxy.connect();
    client.send("GET / HTTP/1.0\r\n\r\n");
    let response = client.response();
    assert_eq!(response.header("transfer-encoding"), None, "1.0 knows no chunks");
    assert_eq!(response.header("connection"), Some("close"));
    assert_eq!(response.text(), "abc");
    client.assert_closed();
}

#[test]
fn a_client_that_says_close_is_closed() {
    let origin = Origin::text("x");
    let proxy = to(&origin);
    let mut client = proxy.connect();
    client.send("GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n");
    let response = client.response();
    assert_eq!((response.text(), response.header("connection")), ("x", Some("close")));
    client.assert_closed();
    proxy.await_gauge("http.test.downstream_cx_active", 0);
    proxy.await_gauge("listener.test.downstream_cx_active", 0);
}

#[test]
fn a_connection_serves_its_limit_of_requests() {
    let origin = Origin::text("x");
    let mut config = manager(vec![route("/", "origin")]);
    config.max_requests_per_connection = 3;
    let proxy = Proxy::start(config, vec![cluster("origin", &[origin.address])]);
    let mut client = proxy.connect();
    assert_eq!(client.get("/").header("connection"), None);
    assert_eq!(client.get("/").header("connection"), None);
    assert_eq!(client.get("/").header("connection"), Some("close"));
    client.assert_closed();
    assert_eq!(proxy.counter("http.test.downstream_cx_max_requests_reached"), 1);
}

#[test]
fn a_thousand_connections_at_once() {
    let served = std::sync::Arc::new(AtomicUsize::new(0));
    let origin = Origin::http({
        let served = served.clone();
        move |_| {
            served.fetch_add(1, Ordering::Relaxed);
            ok("x")
        }
    });
    let proxy = to(&origin);
    let mut clients: Vec<_> = (0..1000).map(|_| proxy.connect()).collect();
    for client in &mut clients {
        client.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n");
    }
    for client in &mut clients {
        assert_eq!(client.response().text(), "x");
    }
    assert_eq!(served.load(Ordering::Relaxed), 1000);
    drop(clients);
    proxy.await_gauge("http.test.downstream_cx_active", 0);
}
