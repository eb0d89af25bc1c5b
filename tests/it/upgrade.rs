//! Connections that speak HTTP no more: upgrades and CONNECT.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener};
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use heirloom::config::model::{HttpConnectionManager, PathMatch, Route, RouteAction, RouteUpgrade};
use heirloom::drain::{Phase, Plan, Strategy};

use crate::support::client::Client;
use crate::support::eventually;
use crate::support::models::*;
use crate::support::origin::{Origin, ok};
use crate::support::proxy::Proxy;
use crate::support::wire::Wire;

pub(crate) const ASK: &str = "GET /chat HTTP/1.1\r\nhost: a\r\nconnection: keep-alive, Upgrade\r\nupgrade: WebSocket\r\nsec-websocket-key: k\r\n\r\n";
pub(crate) const GRANT: &str =
    "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: Upgrade\r\nsec-websocket-accept: x\r\n\r\n";

fn with_websocket(mut manager: HttpConnectionManager) -> HttpConnectionManager {
    manager.upgrades = vec![("websocket".into(), true)];
    manager
}

pub(crate) fn websocket(origin: SocketAddr) -> Proxy {
    let manager = with_websocket(manager(vec![route("/", "origin")]));
    Proxy::start(manager, vec![cluster("origin", &[origin])])
}

/// Every CONNECT, to the cluster; `terminate`: as TCP.
pub(crate) fn connect(origin: SocketAddr, terminate: bool) -> Proxy {
    Proxy::start(manager(vec![connect_route(true, terminate)]), vec![cluster("origin", &[origin])])
}

fn connect_route(enabled: bool, terminate: bool) -> Route {
    let mut route = route("/", "origin");
    route.path = PathMatch::Connect;
    upgrades(&mut route).push(RouteUpgrade { kind: "connect".into(), enabled, terminate });
    route
}

fn upgrades(route: &mut Route) -> &mut Vec<RouteUpgrade> {
    let RouteAction::Forward(forward) = &mut route.action else { unreachable!() };
    &mut forward.upgrades
}

/// Sends back what it gets, and ends when that ends.
pub(crate) fn echo(mut wire: Wire) {
    while let Ok(bytes @ [_, ..]) = wire.some().as_deref() {
        if wire.socket.write_all(bytes).is_err() {
            return;
        }
    }
    let _ = wire.socket.shutdown(Shutdown::Write);
}

/// Grants what is asked for, says something, and echoes.
pub(crate) fn granting() -> Origin {
    Origin::raw(|_, mut wire| {
        let Some(request) = wire.head().unwrap() else { return };
        assert_eq!(request.header("upgrade"), Some("WebSocket"));
        assert_eq!(request.header("connection"), Some("keep-alive, Upgrade"));
        assert_eq!((request.header("transfer-encoding"), request.header("content-length")), (None, None));
        wire.socket.write_all(format!("{GRANT}welcome").as_bytes()).unwrap();
        echo(wire);
    })
}

/// Asks, and is let in.
pub(crate) fn join(proxy: &Proxy) -> Client {
    let mut client = proxy.connect();
    client.send(ASK);
    assert_eq!(client.response().status(), 101);
    assert_eq!(client.wire.bytes(7).unwrap(), b"welcome");
    client
}

/// All that is counted while it lives is back where it was.
fn assert_settled(proxy: &Proxy) {
    proxy.await_gauge("listener.test.downstream_cx_active", 0);
    for gauge in [
        "cluster.origin.upstream_cx_active",
        "cluster.origin.upstream_rq_active",
        "cluster.origin.upstream_rq_pending_active",
        "http.test.downstream_cx_active",
        "http.test.downstream_cx_http1_active",
        "http.test.downstream_cx_upgrades_active",
        "http.test.downstream_cx_rx_bytes_buffered",
        "http.test.downstream_cx_tx_bytes_buffered",
        "http.test.downstream_rq_active",
    ] {
        proxy.await_gauge(gauge, 0);
    }
}

fn assert_counted(proxy: &Proxy, counters: &[(&str, u64)]) {
    for (counter, value) in counters {
        assert_eq!(proxy.counter(counter), *value, "{counter}");
    }
}

#[test]
fn a_websocket_carries_bytes_both_ways_from_the_first_one_on() {
    let origin = granting();
    let proxy = websocket(origin.address);
    let mut client = proxy.connect();
    // The first bytes of the new protocol come with the request, and with its answer.
    client.send(format!("{ASK}early"));
    let response = client.response();
    assert_eq!((response.status(), response.header("server")), (101, Some("envoy")));
    assert_eq!((response.header("upgrade"), response.header("connection")), (Some("websocket"), Some("Upgrade")));
    assert_eq!(response.header("sec-websocket-accept"), Some("x"));
    assert_eq!(response.header("x-envoy-upstream-service-time"), None);
    assert!(response.header("date").is_some());
    assert_eq!(client.wire.bytes(12).unwrap(), b"welcomeearly");
    client.send("more");
    assert_eq!(client.wire.bytes(4).unwrap(), b"more");
    for gauge in [
        "http.test.downstream_cx_upgrades_active",
        "http.test.downstream_rq_active",
        "cluster.origin.upstream_rq_active",
        "cluster.origin.upstream_cx_active",
    ] {
        assert_eq!(proxy.gauge(gauge), 1, "{gauge}");
    }
    client.finish();
    client.assert_closed();
    assert_settled(&proxy);
    assert_counted(
        &proxy,
        &[
            ("http.test.downstream_cx_upgrades_total", 1),
            ("http.test.downstream_rq_total", 1),
            ("http.test.downstream_rq_1xx", 1),
            ("http.test.downstream_rq_completed", 1),
            ("http.test.downstream_rq_response_before_rq_complete", 1),
            ("http.test.downstream_rq_rx_reset", 1),
            ("http.test.downstream_rq_tx_reset", 0),
            ("http.test.downstream_cx_destroy_remote_active_rq", 1),
            ("http.test.rq_total", 1),
            ("cluster.origin.upstream_rq_101", 1),
            ("cluster.origin.upstream_rq_1xx", 1),
            ("cluster.origin.upstream_rq_completed", 1),
            ("cluster.origin.upstream_cx_http1_total", 1),
            ("cluster.origin.upstream_cx_destroy", 1),
            ("cluster.origin.upstream_cx_destroy_with_active_rq", 1),
        ],
    );
}

#[test]
fn what_is_not_enabled_is_refused() {
    let origin = Origin::raw(|_, _| panic!("nobody asks the host"));
    let mut off = route("/off", "origin");
    upgrades(&mut off).push(RouteUpgrade { kind: "websocket".into(), enabled: false, terminate: false });
    let manager = with_websocket(manager(vec![off, route("/", "origin")]));
    let proxy = Proxy::start(manager, vec![cluster("origin", &[origin.address])]);
    let asks = [
        ASK.replace("/chat", "/off"),
        ASK.replace("WebSocket", "other"),
        ASK.replace("WebSocket", "WebSocket, other"),
        ASK.replace("upgrade: WebSocket", "upgrade: h2c\r\nupgrade: WebSocket"),
    ];
    for ask in &asks {
        let mut client = proxy.connect();
        client.send(ask);
        let response = client.response();
        assert_eq!((response.status(), response.text(), response.header("connection")), (403, "", Some("close")));
        client.assert_closed();
    }
    assert_settled(&proxy);
    assert_counted(
        &proxy,
        &[
            ("http.test.downstream_rq_ws_on_non_ws_route", asks.len() as u64),
            ("http.test.downstream_cx_upgrades_total", 0),
            ("http.test.downstream_rq_4xx", asks.len() as u64),
            ("http.test.rq_total", 0),
        ],
    );
}

#[test]
fn a_route_enables_a_type_of_its_own() {
    let origin = Origin::raw(|_, mut wire| {
        assert_eq!(wire.head().unwrap().unwrap().header("upgrade"), Some("FOO"));
        wire.socket.write_all(b"HTTP/1.1 101 X\r\nconnection: upgrade\r\nupgrade: FOO\r\n\r\n").unwrap();
        echo(wire);
    });
    let mut foo = route("/", "origin");
    upgrades(&mut foo).push(RouteUpgrade { kind: "foo".into(), enabled: true, terminate: false });
    let proxy = Proxy::start(manager(vec![foo]), vec![cluster("origin", &[origin.address])]);
    let mut client = proxy.connect();
    client.send(ASK.replace("WebSocket", "FOO"));
    assert_eq!(client.response().status(), 101);
    client.send("x");
    assert_eq!(client.wire.bytes(1).unwrap(), b"x");
}

#[test]
fn h2c_is_not_heard_of() {
    let origin = Origin::http(|request| {
        assert_eq!((request.header("upgrade"), request.header("connection")), (None, None));
        assert_eq!(request.header("http2-settings"), None);
        ok("plain")
    });
    let proxy = websocket(origin.address);
    let mut client = proxy.connect();
    for _ in 0..2 {
        client.send("GET / HTTP/1.1\r\nhost: a\r\nconnection: Upgrade, HTTP2-Settings\r\nupgrade: h2c\r\nhttp2-settings: x\r\n\r\n");
        assert_eq!(client.response().text(), "plain");
    }
    assert_counted(&proxy, &[("http.test.downstream_cx_upgrades_total", 0)]);
}

#[test]
fn any_other_answer_is_a_response_and_the_last_one() {
    let answers = [
        ("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok", 200, "ok"),
        ("HTTP/1.1 400 Bad\r\nconnection: close\r\n\r\nbad", 400, "bad"),
        ("HTTP/1.1 426 No\r\ntransfer-encoding: chunked\r\n\r\n2\r\nno\r\n0\r\n\r\n", 426, "no"),
        ("HTTP/1.1 204 None\r\n\r\n", 204, ""),
    ];
    for (answer, status, text) in answers {
        let origin = Origin::raw(move |_, mut wire| {
            wire.head().unwrap().unwrap();
            wire.socket.write_all(answer.as_bytes()).unwrap();
            if !answer.contains("close") {
                // What the client sent behind its request is not for a host that did not agree.
                assert_eq!(wire.rest().unwrap_or_default(), b"");
            }
        });
        let proxy = websocket(origin.address);
        let mut client = proxy.connect();
        client.send(format!("{ASK}GET /smuggled HTTP/1.1\r\nhost: a\r\n\r\n"));
        let response = client.response();
        assert_eq!((response.status(), response.text(), response.header("connection")), (status, text, Some("close")));
        client.assert_closed();
        proxy.await_gauge("http.test.downstream_cx_upgrades_active", 0);
        proxy.await_gauge("http.test.downstream_rq_active", 0);
        assert_counted(&proxy, &[("http.test.downstream_cx_upgrades_total", 1), ("http.test.downstream_rq_total", 1)]);
        drop(proxy);
    }
}

#[test]
fn a_grant_that_nobody_asked_for_is_a_fault() {
    let rows = [("GET / HTTP/1.1\r\nhost: a\r\n\r\n", GRANT), (ASK, "HTTP/1.1 101 Switching Protocols\r\n\r\n")];
    for (ask, grant) in rows {
        let origin = Origin::raw(move |_, mut wire| {
            wire.head().unwrap().unwrap();
            wire.socket.write_all(grant.as_bytes()).unwrap();
            let _ = wire.rest();
        });
        let proxy = websocket(origin.address);
        let mut client = proxy.connect();
        client.send(ask);
        assert_eq!(client.response().status(), 502);
        assert_counted(&proxy, &[("cluster.origin.upstream_cx_protocol_error", 1)]);
        drop(client);
        assert_settled(&proxy);
    }
}

#[test]
fn a_request_with_a_body_is_sent_whole_before_the_tunnel_begins() {
    for framing in ["content-length: 5\r\n\r\nhello", "transfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"] {
        let origin = Origin::raw(|_, mut wire| {
            let mut request = wire.head().unwrap().unwrap();
            // It may agree before it has read all of it.
            wire.socket.write_all(format!("{GRANT}welcome").as_bytes()).unwrap();
            wire.body(&mut request, false).unwrap();
            assert_eq!(request.body, b"hello");
            echo(wire);
        });
        let proxy = websocket(origin.address);
        let mut client = proxy.connect();
        let ask = format!("{}{framing}", ASK.replace("GET", "POST").trim_end_matches("\r\n").to_owned() + "\r\n");
        client.send(&ask[..ask.len() - 4]);
        eventually("the host has been asked", || origin.connections() == 1);
        client.assert_open();
        client.send(&ask[ask.len() - 4..]);
        client.send("then");
        assert_eq!(client.response().status(), 101);
        assert_eq!(client.wire.bytes(11).unwrap(), b"welcomethen");
    }
}

#[test]
fn each_half_ends_for_itself() {
    let (said, heard) = channel();
    let origin = Origin::raw(move |number, mut wire| {
        wire.head().unwrap().unwrap();
        wire.socket.write_all(GRANT.as_bytes()).unwrap();
        if number == 0 {
            let question = wire.rest().unwrap();
            wire.socket.write_all(&[&question[..], b" heard"].concat()).unwrap();
        } else {
            wire.socket.write_all(b"that is all").unwrap();
            wire.socket.shutdown(Shutdown::Write).unwrap();
            said.send(wire.rest().unwrap()).unwrap();
        }
    });
    let proxy = websocket(origin.address);
    let mut client = proxy.connect();
    client.send(ASK);
    assert_eq!(client.response().status(), 101);
    client.send("question");
    client.finish();
    assert_eq!(client.wire.rest().unwrap(), b"question heard");
    let mut client = proxy.connect();
    client.send(ASK);
    assert_eq!(client.response().status(), 101);
    assert_eq!(client.wire.rest().unwrap(), b"that is all");
    client.send("but I have more");
    client.finish();
    assert_eq!(heard.recv_timeout(Duration::from_secs(10)).unwrap(), b"but I have more");
    assert_settled(&proxy);
    assert_counted(&proxy, &[("http.test.downstream_rq_rx_reset", 2), ("http.test.downstream_rq_tx_reset", 1)]);
}

#[test]
fn a_slow_reader_makes_the_other_side_wait_and_loses_nothing() {
    const SIZE: usize = 24 * 1024 * 1024;
    let byte = |at: usize| (at % 251) as u8;
    let origin = Origin::raw(move |_, mut wire| {
        wire.head().unwrap().unwrap();
        wire.socket.write_all(GRANT.as_bytes()).unwrap();
        let data: Vec<u8> = (0..SIZE).map(byte).collect();
        wire.socket.write_all(&data).unwrap();
    });
    let proxy = websocket(origin.address);
    let mut client = proxy.connect();
    client.send(ASK);
    eventually("the host is read no further", || {
        proxy.counter("cluster.origin.upstream_flow_control_paused_reading_total") > 0
    });
    let seen = proxy.counter("cluster.origin.upstream_cx_rx_bytes_total");
    assert!((seen as usize) < SIZE, "everything was read for a client that reads nothing");
    assert_eq!(client.response().status(), 101);
    let received = client.wire.rest().unwrap();
    assert!(received.len() == SIZE && received.iter().enumerate().all(|(at, &one)| one == byte(at)));
    drop(client);
    assert_settled(&proxy);
}

#[test]
fn a_tunnel_in_which_nothing_moves_is_closed_and_the_routes_timeout_does_not_cut_it() {
    let origin = granting();
    let mut quick = route_with_timeout("/", "origin", Some(Duration::from_secs(1)));
    let RouteAction::Forward(forward) = &mut quick.action else { unreachable!() };
    let idle_timeout = &mut forward.idle_timeout;
    *idle_timeout = Some(Some(Duration::from_millis(1400)));
    let proxy = Proxy::start(with_websocket(manager(vec![quick])), vec![cluster("origin", &[origin.address])]);
    let mut client = join(&proxy);
    let begun = Instant::now();
    client.assert_closed();
    assert!(begun.elapsed() >= Duration::from_millis(1390), "{:?}", begun.elapsed());
    assert_settled(&proxy);
    assert_counted(
        &proxy,
        &[
            ("http.test.downstream_rq_idle_timeout", 1),
            ("cluster.origin.upstream_rq_timeout", 0),
            ("cluster.origin.upstream_cx_destroy_local", 1),
        ],
    );
}

#[test]
fn a_host_that_does_not_answer_runs_into_the_routes_timeout() {
    let origin = Origin::raw(|_, mut wire| drop(wire.rest()));
    let quick = route_with_timeout("/", "origin", Some(Duration::from_millis(80)));
    let proxy = Proxy::start(with_websocket(manager(vec![quick])), vec![cluster("origin", &[origin.address])]);
    let mut client = proxy.connect();
    client.send(ASK);
    let response = client.response();
    assert_eq!((response.status(), response.header("connection")), (504, Some("close")));
    client.assert_closed();
    assert_settled(&proxy);
}

#[test]
fn a_reset_is_passed_on() {
    let origin = Origin::raw(|_, mut wire| {
        wire.head().unwrap().unwrap();
        wire.socket.write_all(GRANT.as_bytes()).unwrap();
        wire.bytes(1).unwrap();
        socket2::SockRef::from(&wire.socket).set_linger(Some(Duration::ZERO)).unwrap();
    });
    let proxy = websocket(origin.address);
    let mut client = proxy.connect();
    client.send(ASK);
    assert_eq!(client.response().status(), 101);
    client.send("x");
    assert_eq!(client.wire.rest().unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);
    assert_settled(&proxy);
    assert_counted(&proxy, &[("http.test.downstream_rq_tx_reset", 1)]);
}

#[test]
fn a_drain_leaves_it_alone_until_its_deadline() {
    let origin = granting();
    let proxy = websocket(origin.address);
    let mut client = join(&proxy);
    let plan = Plan { started: Instant::now(), time: Duration::from_secs(600), strategy: Strategy::Immediate };
    proxy.drain(Phase::Draining(plan));
    client.send("y");
    assert_eq!(client.wire.bytes(1).unwrap(), b"y");
    client.assert_open();
    proxy.drain(Phase::Over);
    client.assert_closed();
    assert_settled(&proxy);
}

#[test]
fn a_kept_connection_that_is_dead_is_asked_once_more_on_a_fresh_one() {
    let origin = Origin::raw(|number, mut wire| {
        wire.head().unwrap().unwrap();
        if number == 0 {
            wire.socket.write_all(&ok("x")).unwrap();
            // Gone as soon as the next request comes.
            let mut byte = [0];
            let _ = wire.socket.read(&mut byte);
            return;
        }
        wire.socket.write_all(GRANT.as_bytes()).unwrap();
        echo(wire);
    });
    let proxy = websocket(origin.address);
    let mut client = proxy.connect();
    assert_eq!(client.get("/").text(), "x");
    client.send(format!("{ASK}early"));
    assert_eq!(client.response().status(), 101);
    assert_eq!(client.wire.bytes(5).unwrap(), b"early");
    assert_eq!(origin.connections(), 2);
}

pub(crate) const CONNECT: &str = "CONNECT far:80 HTTP/1.1\r\nhost: far:80\r\n\r\n";

#[test]
fn a_connect_ends_here_and_its_bytes_go_on() {
    let origin = Origin::raw(|_, wire| echo(wire));
    let proxy = connect(origin.address, true);
    let mut client = proxy.connect();
    client.send(format!("{CONNECT}early"));
    let response = client.wire.head().unwrap().unwrap();
    assert_eq!(response.status(), 200);
    let names: Vec<&str> = response.headers.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["date", "server"]);
    assert_eq!(client.wire.bytes(5).unwrap(), b"early");
    client.send("more");
    assert_eq!(client.wire.bytes(4).unwrap(), b"more");
    client.finish();
    client.assert_closed();
    assert_settled(&proxy);
    assert_counted(
        &proxy,
        &[
            ("http.test.downstream_cx_upgrades_total", 1),
            ("http.test.downstream_rq_2xx", 1),
            ("cluster.origin.upstream_rq_200", 1),
            ("cluster.origin.upstream_cx_total", 1),
            ("cluster.origin.upstream_cx_http1_total", 0),
        ],
    );
}

#[test]
fn a_connect_goes_on_to_a_host_that_understands_it() {
    let origin = Origin::raw(|_, mut wire| {
        let request = wire.head().unwrap().unwrap();
        assert_eq!((request.method(), request.path()), ("CONNECT", "far:80"));
        assert_eq!(request.header("content-length"), None);
        wire.socket.write_all(b"HTTP/1.1 200 OK\r\nx: y\r\ncontent-length: 3\r\n\r\nhello").unwrap();
        echo(wire);
    });
    let proxy = connect(origin.address, false);
    let mut client = proxy.connect();
    client.send(format!("{CONNECT}early"));
    let response = client.wire.head().unwrap().unwrap();
    assert_eq!((response.status(), response.header("x"), response.header("content-length")), (200, Some("y"), None));
    assert_eq!(client.wire.bytes(10).unwrap(), b"helloearly");
    drop(client);
    assert_settled(&proxy);
}

#[test]
fn a_connect_that_the_host_refuses_is_a_response() {
    let origin = Origin::raw(|_, mut wire| {
        wire.head().unwrap().unwrap();
        wire.socket.write_all(b"HTTP/1.1 403 No\r\ncontent-length: 2\r\n\r\nno").unwrap();
        assert_eq!(wire.rest().unwrap_or_default(), b"");
    });
    let proxy = connect(origin.address, false);
    let mut client = proxy.connect();
    client.send(format!("{CONNECT}early"));
    let response = client.response();
    assert_eq!((response.status(), response.text(), response.header("connection")), (403, "no", Some("close")));
    client.assert_closed();
}

#[test]
fn a_connect_that_nobody_takes() {
    let nowhere = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let origin = Origin::raw(|_, _| panic!("nobody asks the host"));
    let text = "upstream connect error or disconnect/reset before headers. reset reason: remote connection failure";
    let rows = [
        (connect_route(true, true), nowhere, 503, text),
        (connect_route(true, false), nowhere, 503, text),
        (connect_route(false, true), origin.address, 403, ""),
        (route("/", "origin"), origin.address, 404, ""),
        (route("", "origin"), origin.address, 404, ""),
    ];
    for (route, host, status, text) in rows {
        let proxy = Proxy::start(manager(vec![route]), vec![cluster("origin", &[host])]);
        let mut client = proxy.connect();
        client.send(format!("{CONNECT}GET / HTTP/1.1\r\nhost: a\r\n\r\n"));
        let response = client.response();
        assert_eq!((response.status(), response.text(), response.header("connection")), (status, text, Some("close")));
        client.assert_closed();
        assert_settled(&proxy);
        assert_counted(&proxy, &[("http.test.downstream_rq_total", 1)]);
    }
}

#[test]
fn a_route_for_connect_takes_nothing_else() {
    let origin = Origin::text("x");
    let proxy = Proxy::start(
        manager(vec![connect_route(true, true), route("/b", "origin")]),
        vec![cluster("origin", &[origin.address])],
    );
    let mut client = proxy.connect();
    assert_eq!(client.get("/a").status(), 404);
    assert_eq!(client.get("/b").text(), "x");
}
