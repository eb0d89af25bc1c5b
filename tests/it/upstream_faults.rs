//! Hosts that fail in every way, and what the client sees of it.

use std::io::Write;
use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use crate::support::models::*;
use crate::support::origin::{Origin, ok};
use crate::support::proxy::Proxy;
use crate::support::wire::Wire;

const RESET: &str = "upstream connect error or disconnect/reset before headers. reset reason: ";

fn to(address: SocketAddr) -> Proxy {
    Proxy::start(manager(vec![route("/", "origin")]), vec![cluster("origin", &[address])])
}

/// A port on which nobody listens.
fn nobody() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

#[test]
fn a_refused_connection_is_a_503_and_the_client_is_kept() {
    let proxy = to(nobody());
    let mut client = proxy.connect();
    for _ in 0..3 {
        let response = client.get("/");
        assert_eq!(response.status(), 503);
        assert_eq!(response.text(), format!("{RESET}remote connection failure"));
        assert_eq!(response.header("content-type"), Some("text/plain"));
    }
    client.assert_open();
    assert_eq!(proxy.counter("cluster.origin.upstream_cx_connect_fail"), 3);
    assert_eq!(proxy.counter("cluster.origin.upstream_cx_destroy_remote"), 3, "what was opened is closed");
    assert_eq!(proxy.counter("cluster.origin.upstream_rq_pending_failure_eject"), 3);
    assert_eq!(proxy.counter("cluster.origin.upstream_rq_total"), 0, "none of them was sent");
    assert_eq!(proxy.counter("cluster.origin.upstream_rq_503"), 3);
    assert_eq!(proxy.gauge("cluster.origin.upstream_cx_active"), 0);
}

#[test]
fn no_healthy_host_is_a_503() {
    let mut empty = cluster("origin", &[nobody()]);
    empty.endpoints[0].healthy = false;
    let proxy = Proxy::start(manager(vec![route("/", "origin")]), vec![empty]);
    let response = proxy.connect().get("/");
    assert_eq!((response.status(), response.text()), (503, "no healthy upstream"));
    assert_eq!(proxy.counter("cluster.origin.upstream_cx_none_healthy"), 1);
}

#[test]
fn a_connection_that_is_not_taken_in_time_is_a_503() {
    // A backlog that is full: connections to it are neither taken nor refused.
    let full = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    full.bind(&"127.0.0.1:0".parse::<SocketAddr>().unwrap().into()).unwrap();
    full.listen(0).unwrap();
    let address = full.local_addr().unwrap().as_socket().unwrap();
    let fill: Vec<_> = (0..4)
        .map(|_| {
            let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
            socket.set_nonblocking(true).unwrap();
            let _ = socket.connect(&address.into());
            socket
        })
        .collect();
    let mut slow = cluster("origin", &[address]);
    slow.connect_timeout = Duration::from_millis(100);
    let proxy = Proxy::start(manager(vec![route("/", "origin")]), vec![slow]);
    let response = proxy.connect().get("/");
    assert_eq!((response.status(), response.text()), (503, &*format!("{RESET}connection timeout")));
    assert_eq!(proxy.counter("cluster.origin.upstream_cx_connect_timeout"), 1);
    drop(fill);
}

#[test]
fn answers_that_are_no_answers() {
    let long = format!("HTTP/1.1 200 OK\r\nx: {}\r\n\r\n", "y".repeat(81 * 1024));
    let many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "x: y\r\n".repeat(101));
    let cases: Vec<(String, u16, &str)> = vec![
        (String::new(), 503, "connection termination"),
        ("HTTP/1.1 200 O".into(), 503, "connection termination"),
        ("hello there\r\n\r\n".into(), 502, "protocol error"),
        ("HTTP/1.1 abc\r\n\r\n".into(), 502, "protocol error"),
        ("HTTP/1.1 200 OK\r\nbad header\r\n\r\n".into(), 502, "protocol error"),
        ("HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n".into(), 502, "protocol error"),
        ("HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n".into(), 502, "protocol error"),
        ("HTTP/1.1 103 Early Hints\r\n\r\n".repeat(40), 502, "protocol error"),
        (long, 502, "protocol error"),
        (many, 502, "protocol error"),
    ];
    for (answer, status, reason) in cases {
        let what = answer.chars().take(40).collect::<String>();
        let origin = Origin::raw(move |_, mut wire| {
            wire.head().unwrap();
            let _ = wire.socket.write_all(answer.as_bytes());
        });
        let proxy = to(origin.address);
        let mut client = proxy.connect();
        client.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n");
        let mut response = client.response();
        while response.status() == 103 {
            response = client.response();
        }
        assert_eq!((response.status(), response.text()), (status, &*format!("{RESET}{reason}")), "{what:?}");
        client.assert_open();
        let broken = u64::from(status == 502);
        assert_eq!(proxy.counter("cluster.origin.upstream_cx_protocol_error"), broken, "{what:?}");
        proxy.await_gauge("cluster.origin.upstream_cx_active", 0);
        assert_eq!(origin.connections(), 1, "a fresh connection is not tried again: {what:?}");
    }
}

#[test]
fn a_response_that_is_cut_is_cut_for_the_client_too() {
    for (head, part) in [
        ("content-length: 100\r\n", "only this"),
        ("transfer-encoding: chunked\r\n", "5\r\nhello\r\n"),
        ("transfer-encoding: chunked\r\n", "5\r\nhello\r\nzz\r\n"),
    ] {
        let origin = Origin::raw(move |_, mut wire| {
            wire.head().unwrap();
            wire.socket.write_all(format!("HTTP/1.1 200 OK\r\n{head}\r\n{part}").as_bytes()).unwrap();
        });
        let proxy = to(origin.address);
        let mut client = proxy.connect();
        client.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n");
        let error = client.try_response().expect_err("a clean end");
        assert!(
            matches!(error.kind(), std::io::ErrorKind::UnexpectedEof | std::io::ErrorKind::ConnectionReset),
            "{error}"
        );
        proxy.await_gauge("http.test.downstream_rq_active", 0);
        assert_eq!(proxy.counter("http.test.downstream_rq_tx_reset"), 1);
        assert_eq!(proxy.counter("http.test.downstream_rq_2xx"), 1, "the head had gone out");
    }
}

#[test]
fn for_a_client_of_1_0_a_cut_is_a_reset_because_the_end_would_be_a_clean_one() {
    let origin = Origin::raw(|_, mut wire| {
        wire.head().unwrap();
        wire.socket.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n").unwrap();
    });
    let mut config = manager(vec![route("/", "origin")]);
    config.http1.accept_http_10 = true;
    let proxy = Proxy::start(config, vec![cluster("origin", &[origin.address])]);
    let mut client = proxy.connect();
    client.send("GET / HTTP/1.0\r\nhost: a\r\n\r\n");
    let error = client.try_response().expect_err("a clean end");
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
}

/// Answers the first request of its first connection, and closes that when the second comes; then behaves.
fn closes_once(answered: &'static str) -> Origin {
    Origin::raw(move |number, mut wire: Wire| {
        let mut count = 0;
        while let Ok(Some(mut request)) = wire.head() {
            wire.body(&mut request, false).unwrap();
            count += 1;
            if number == 0 && count == 2 {
                let _ = wire.socket.write_all(answered.as_bytes());
                return;
            }
            wire.socket.write_all(&ok(request.method())).unwrap();
        }
    })
}

#[test]
fn a_kept_connection_that_turns_out_dead_is_replaced_once_where_that_is_safe() {
    for (request, safe) in [
        ("GET / HTTP/1.1\r\nhost: a\r\n\r\n", true),
        ("PUT / HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\n\r\nabc", true),
        ("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\n\r\nabc", false),
    ] {
        let origin = closes_once("");
        let proxy = to(origin.address);
        let mut client = proxy.connect();
        assert_eq!(client.get("/").status(), 200);
        client.send(request);
        let response = client.response();
        if safe {
            assert_eq!(response.status(), 200, "{request}");
            assert!(request.starts_with(response.text()));
        } else {
            assert_eq!(response.text(), format!("{RESET}connection termination"), "{request}");
        }
        assert_eq!(origin.connections(), if safe { 2 } else { 1 });
        assert_eq!(client.get("/").status(), 200);
        assert_eq!(proxy.counter("cluster.origin.upstream_cx_destroy_remote_with_active_rq"), 1);
    }
}

#[test]
fn a_request_is_not_sent_again_once_a_byte_of_the_answer_has_come() {
    let origin = closes_once("H");
    let proxy = to(origin.address);
    let mut client = proxy.connect();
    assert_eq!(client.get("/").status(), 200);
    assert_eq!(client.get("/").text(), format!("{RESET}connection termination"));
    assert_eq!(origin.connections(), 1);
}

#[test]
fn a_body_that_has_begun_to_flow_is_not_sent_again() {
    let origin = Origin::raw(|number, mut wire| {
        let mut request = wire.head().unwrap().unwrap();
        wire.body(&mut request, false).unwrap();
        wire.socket.write_all(&ok("first")).unwrap();
        assert_eq!(number, 0);
        wire.head().unwrap();
        wire.bytes(3).unwrap();
    });
    let proxy = to(origin.address);
    let mut client = proxy.connect();
    assert_eq!(client.get("/").text(), "first");
    client.send("PUT / HTTP/1.1\r\nhost: a\r\ncontent-length: 6\r\n\r\nabc");
    let response = client.response();
    assert_eq!(response.text(), format!("{RESET}connection termination"));
    client.assert_closed();
}

#[test]
fn a_kept_connection_that_the_host_closed_or_spoke_on_is_not_used() {
    for unsolicited in ["", "HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil"] {
        let origin = Origin::raw(move |number, mut wire| {
            while let Ok(Some(_)) = wire.head() {
                wire.socket.write_all(&ok("good")).unwrap();
                if number == 0 {
                    wire.socket.write_all(unsolicited.as_bytes()).unwrap();
                    return;
                }
            }
        });
        let proxy = to(origin.address);
        let mut client = proxy.connect();
        assert_eq!(client.get("/").text(), "good");
        proxy.await_gauge("cluster.origin.upstream_cx_active", 0);
        for _ in 0..3 {
            client.send("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n\r\n");
            assert_eq!(client.response().text(), "good");
        }
        assert_eq!(origin.connections(), 2);
    }
}

#[test]
fn a_host_that_says_close_is_not_used_again() {
    let origin = Origin::http(|_| b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\nconnection: close\r\n\r\nx".to_vec());
    let proxy = to(origin.address);
    let mut client = proxy.connect();
    for _ in 0..3 {
        let response = client.get("/");
        assert_eq!((response.text(), response.header("connection")), ("x", None));
    }
    assert_eq!(origin.connections(), 3);
    assert_eq!(proxy.counter("cluster.origin.upstream_cx_close_notify"), 3);
    client.assert_open();
}
