//! Everything that must not take for ever.

use std::io::Write;
use std::time::{Duration, Instant};

use heirloom::config::model::HttpConnectionManager;

use crate::support::models::*;
use crate::support::origin::{Origin, ok};
use crate::support::proxy::Proxy;

const SHORT: Duration = Duration::from_millis(150);

/// Takes requests and does not answer.
fn silent() -> Origin {
    Origin::raw(|_, mut wire| {
        let _ = wire.rest();
    })
}

fn to(origin: &Origin, change: impl FnOnce(&mut HttpConnectionManager)) -> Proxy {
    let mut config = manager(vec![route("/", "origin")]);
    change(&mut config);
    Proxy::start(config, vec![cluster("origin", &[origin.address])])
}

/// What took how long.
fn timed<T>(work: impl FnOnce() -> T) -> (T, Duration) {
    let started = Instant::now();
    let done = work();
    (done, started.elapsed())
}

#[test]
fn a_route_timeout_is_a_504_in_time_and_the_client_is_kept() {
    let origin = silent();
    let proxy = Proxy::start(
        manager(vec![route_with_timeout("/", "origin", Some(SHORT))]),
        vec![cluster("origin", &[origin.address])],
    );
    let mut client = proxy.connect();
    for _ in 0..2 {
        let (response, took) = timed(|| client.get("/"));
        assert_eq!((response.status(), response.text()), (504, "upstream request timeout"));
        assert!(took >= SHORT && took < SHORT + Duration::from_millis(500), "took {took:?}");
    }
    client.assert_open();
    assert_eq!(proxy.counter("cluster.origin.upstream_rq_timeout"), 2);
    assert_eq!(proxy.counter("cluster.origin.upstream_rq_504"), 2);
    proxy.await_gauge("cluster.origin.upstream_cx_active", 0);
}

#[test]
fn a_route_timeout_runs_from_the_end_of_the_request() {
    let origin = Origin::text("x");
    let proxy = Proxy::start(
        manager(vec![route_with_timeout("/", "origin", Some(SHORT))]),
        vec![cluster("origin", &[origin.address])],
    );
    let mut client = proxy.connect();
    client.send("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\n\r\na");
    // Longer than the timeout, which is not running yet.
    client.assert_open();
    client.assert_open();
    client.assert_open();
    client.assert_open();
    client.send("b");
    assert_eq!(client.response().text(), "x");
}

#[test]
fn a_response_that_does_not_end_in_time_is_cut() {
    let origin = Origin::raw(|_, mut wire| {
        wire.head().unwrap();
        wire.socket.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nabc").unwrap();
        let _ = wire.rest();
    });
    let proxy = Proxy::start(
        manager(vec![route_with_timeout("/", "origin", Some(SHORT))]),
        vec![cluster("origin", &[origin.address])],
    );
    let mut client = proxy.connect();
    client.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n");
    client.try_response().expect_err("a complete response");
    assert_eq!(proxy.counter("cluster.origin.upstream_rq_timeout"), 1);
}

#[test]
fn an_idle_stream_is_ended_with_504_or_408() {
    let origin = silent();
    let proxy = to(&origin, |config| config.stream_idle_timeout = Some(SHORT));
    let mut client = proxy.connect();
    let response = client.get("/");
    assert_eq!((response.status(), response.text()), (504, "stream timeout"));
    client.assert_open();
    client.send("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\n\r\na");
    let response = client.response();
    assert_eq!((response.status(), response.text()), (408, "stream timeout"));
    client.assert_closed();
    assert_eq!(proxy.counter("http.test.downstream_rq_idle_timeout"), 2);
}

#[test]
fn a_stream_that_moves_is_not_idle() {
    let origin = Origin::raw(|_, mut wire| {
        wire.head().unwrap();
        wire.socket.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 8\r\n\r\n").unwrap();
        for _ in 0..8 {
            wire.socket.write_all(b"x").unwrap();
            std::thread::park_timeout(Duration::from_millis(50));
        }
        let _ = wire.rest();
    });
    let proxy = to(&origin, |config| config.stream_idle_timeout = Some(SHORT));
    assert_eq!(proxy.connect().get("/").text(), "xxxxxxxx");
}

#[test]
fn a_head_that_does_not_come_is_a_408() {
    let origin = silent();
    let proxy = to(&origin, |config| config.request_headers_timeout = Some(SHORT));
    let mut client = proxy.connect();
    client.send("GET / HTTP/1.1\r\nhost:");
    let response = client.response();
    assert_eq!((response.status(), response.text()), (408, "request header timeout"));
    client.assert_closed();
    assert_eq!(proxy.counter("http.test.downstream_rq_header_timeout"), 1);
}

#[test]
fn a_request_that_does_not_end_is_a_408() {
    let origin = silent();
    let proxy = to(&origin, |config| config.request_timeout = Some(SHORT));
    let mut client = proxy.connect();
    client.send("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\n\r\na");
    let response = client.response();
    assert_eq!((response.status(), response.text()), (408, "request timeout"));
    assert_eq!(response.header("connection"), Some("close"));
    client.assert_closed();
    assert_eq!(proxy.counter("http.test.downstream_rq_timeout"), 1);
}

#[test]
fn an_idle_connection_is_closed_after_its_drain_time() {
    let origin = Origin::text("x");
    let proxy = to(&origin, |config| {
        config.idle_timeout = Some(SHORT);
        config.drain_timeout = SHORT;
    });
    let mut fresh = proxy.connect();
    let (_, took) = timed(|| fresh.assert_closed());
    assert!(took >= SHORT && took < SHORT * 2, "one that never sent anything closes at once: {took:?}");
    let mut used = proxy.connect();
    used.get("/");
    let (_, took) = timed(|| used.assert_closed());
    assert!(took >= SHORT * 2, "{took:?}");
    assert_eq!(proxy.counter("http.test.downstream_cx_idle_timeout"), 2);
}

#[test]
fn a_request_in_the_drain_time_is_the_last() {
    let origin = Origin::text("x");
    let proxy = to(&origin, |config| config.idle_timeout = Some(SHORT));
    let mut client = proxy.connect();
    client.get("/");
    proxy.await_counter("http.test.downstream_cx_idle_timeout", 1);
    let response = client.get("/");
    assert_eq!((response.text(), response.header("connection")), ("x", Some("close")));
    client.assert_closed();
}

#[test]
fn a_connection_ends_at_its_greatest_age() {
    let origin = Origin::text("x");
    let proxy = to(&origin, |config| {
        config.max_connection_duration = Some(SHORT);
        config.drain_timeout = SHORT;
    });
    let mut client = proxy.connect();
    while client.get("/").header("connection").is_none() {}
    client.assert_closed();
    assert_eq!(proxy.counter("http.test.downstream_cx_max_duration_reached"), 1);
    let mut idle = proxy.connect();
    idle.get("/");
    idle.assert_closed();
    assert_eq!(proxy.counter("http.test.downstream_cx_max_duration_reached"), 2);
}

#[test]
fn idle_upstream_connections_are_closed() {
    let origin = Origin::text("x");
    let mut short = cluster("origin", &[origin.address]);
    short.idle_timeout = Some(SHORT);
    let proxy = Proxy::start(manager(vec![route("/", "origin")]), vec![short]);
    let mut client = proxy.connect();
    client.get("/");
    assert_eq!(proxy.gauge("cluster.origin.upstream_cx_active"), 1);
    proxy.await_gauge("cluster.origin.upstream_cx_active", 0);
    assert_eq!(proxy.counter("cluster.origin.upstream_cx_idle_timeout"), 1);
    assert_eq!(client.get("/").text(), "x");
}

#[test]
fn a_client_that_goes_on_sending_after_a_refusal_is_read_for_a_while() {
    let origin = Origin::http(|_| ok("x"));
    let proxy = to(&origin, |config| config.delayed_close_timeout = Some(Duration::from_millis(300)));
    let mut client = proxy.connect();
    client.send("nonsense\r\n\r\n");
    client.send(vec![b'x'; 100_000]);
    let (response, _) = timed(|| client.response());
    assert_eq!(response.status(), 400);
    let (_, took) = timed(|| client.assert_closed());
    assert!(took < Duration::from_millis(100), "our side is closed at once: {took:?}");
    proxy.await_counter("http.test.downstream_cx_delayed_close_timeout", 1);
    proxy.await_gauge("http.test.downstream_cx_active", 0);
}
