//! Requests that are refused: the reply, the close, the counter, and nobody else disturbed.

use crate::support::models::*;
use crate::support::origin::Origin;
use crate::support::proxy::Proxy;

#[test]
fn malformed_heads_get_envoys_replies() {
    let origin = Origin::text("x");
    let proxy = Proxy::start(manager(vec![route("/", "origin")]), vec![cluster("origin", &[origin.address])]);
    let mut bystander = proxy.connect();
    assert_eq!(bystander.get("/").text(), "x");
    let long = format!("GET / HTTP/1.1\r\nhost: a\r\nx: {}\r\n\r\n", "y".repeat(61 * 1024));
    let many = format!("GET / HTTP/1.1\r\nhost: a\r\n{}\r\n", "x: y\r\n".repeat(101));
    let cases: &[(&str, u16, &str)] = &[
        ("nonsense\r\n\r\n", 400, "Bad Request"),
        ("GET / HTTP/1.1\r\nhost: a\r\nbad header: x\r\n\r\n", 400, "Bad Request"),
        ("GET / HTTP/1.1\r\nhost: a\r\nx : y\r\n\r\n", 400, "Bad Request"),
        ("GET / HTTP/1.1\r\nhost: a\r\n folded\r\n\r\n", 400, "Bad Request"),
        ("GET / HTTP/1.1\nhost: a\n\n", 400, "Bad Request"),
        ("MADEUP / HTTP/1.1\r\nhost: a\r\n\r\n", 400, "Bad Request"),
        ("GET / HTTP/1.1\r\nhost: a\r\ncontent-length: x\r\n\r\n", 400, "Bad Request"),
        ("GET / HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n", 400, "Bad Request"),
        ("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\ntransfer-encoding: chunked\r\n\r\n", 400, "Bad Request"),
        ("POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: gzip\r\n\r\n", 501, "Not Implemented"),
        ("GET / HTTP/1.0\r\nhost: a\r\n\r\n", 426, ""),
        ("GET / HTTP/1.1\r\n\r\n", 400, ""),
        (&long, 431, "Request Header Fields Too Large"),
        (&many, 431, "Request Header Fields Too Large"),
    ];
    for (request, status, text) in cases {
        let what = &request[..request.len().min(60)];
        let mut client = proxy.connect();
        client.send(request);
        let response = client.response();
        assert_eq!(response.status(), *status, "{what}");
        if !text.is_empty() {
            assert_eq!(response.text(), *text, "{what}");
        }
        assert_eq!(response.header("connection"), Some("close"), "{what}");
        client.assert_closed();
    }
    assert_eq!(origin.requests(), 1);
    assert_eq!(bystander.get("/").text(), "x");
    assert_eq!(proxy.counter("http.test.downstream_rq_4xx"), cases.len() as u64 - 1);
    assert_eq!(proxy.counter("http.test.downstream_rq_5xx"), 1);
    assert!(proxy.counter("http.test.downstream_cx_protocol_error") >= 10);
    assert_eq!(proxy.gauge("http.test.downstream_rq_active"), 0);
}

#[test]
fn a_malformed_body_ends_the_connection_and_never_reaches_the_pool() {
    let origin = Origin::raw(|_, mut wire| {
        wire.head().unwrap();
        let _ = wire.rest();
    });
    let proxy = Proxy::start(manager(vec![route("/", "origin")]), vec![cluster("origin", &[origin.address])]);
    let mut client = proxy.connect();
    client.send("POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n");
    let response = client.response();
    assert_eq!((response.status(), response.text()), (400, "Bad Request"));
    client.assert_closed();
    assert_eq!(proxy.counter("http.test.downstream_cx_protocol_error"), 1);
    proxy.await_gauge("cluster.origin.upstream_cx_active", 0);
}

#[test]
fn a_client_that_leaves_in_the_middle_of_a_head_or_body_costs_nothing() {
    let origin = Origin::raw(|_, mut wire| {
        wire.head().unwrap();
        let _ = wire.rest();
    });
    let proxy = Proxy::start(manager(vec![route("/", "origin")]), vec![cluster("origin", &[origin.address])]);
    let mut client = proxy.connect();
    client.send("GET / HT");
    drop(client);
    let mut client = proxy.connect();
    client.send("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 100\r\n\r\nabc");
    proxy.await_gauge("cluster.origin.upstream_rq_active", 1);
    drop(client);
    proxy.await_gauge("cluster.origin.upstream_rq_active", 0);
    proxy.await_gauge("cluster.origin.upstream_cx_active", 0);
    proxy.await_gauge("http.test.downstream_cx_active", 0);
    proxy.await_gauge("http.test.downstream_rq_active", 0);
    assert_eq!(proxy.counter("http.test.downstream_cx_destroy_remote_active_rq"), 1);
    assert_eq!(proxy.counter("cluster.origin.upstream_cx_destroy_local_with_active_rq"), 1);
}

#[test]
fn a_client_that_leaves_while_it_waits_ends_the_upstream_request() {
    let origin = Origin::raw(|_, mut wire| {
        wire.head().unwrap();
        assert_eq!(wire.rest().unwrap(), b"", "closed by the proxy");
    });
    let proxy = Proxy::start(manager(vec![route("/", "origin")]), vec![cluster("origin", &[origin.address])]);
    let mut client = proxy.connect();
    client.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n");
    proxy.await_gauge("cluster.origin.upstream_rq_active", 1);
    drop(client);
    proxy.await_gauge("cluster.origin.upstream_cx_active", 0);
    proxy.await_gauge("http.test.downstream_rq_active", 0);
}
