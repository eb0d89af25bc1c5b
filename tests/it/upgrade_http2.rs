//! Upgrades and CONNECT where one side or both speak HTTP/2: who is asked for what, and what is answered.

use std::io::Write;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use h2::Reason;
use h2::ext::Protocol;
use heirloom::config::model::{
    Cluster, Http2Options, HttpConnectionManager, PathMatch, Route, RouteAction, RouteUpgrade, UpstreamProtocol,
};
use http::StatusCode;

use crate::support::eventually;
use crate::support::http2::{all, ask as ask_plain, connect as open, run};
use crate::support::models::*;
use crate::support::origin::{Origin, ok};
use crate::support::proxy::Proxy;
use crate::support::tunnels::{Asked, Host, ask, connect, extended, join, websocket};

pub(crate) const ASK: &str = "GET /chat HTTP/1.1\r\nhost: test\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\
                              sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nsec-websocket-version: 13\r\n\r\n";

pub(crate) fn http2_cluster(host: SocketAddr) -> Cluster {
    let mut cluster = cluster("origin", &[host]);
    cluster.protocol = UpstreamProtocol::Http2(Arc::new(Http2Options::default()));
    cluster
}

/// Takes WebSockets on `/`, and every CONNECT; `terminate`: as TCP.
pub(crate) fn taking(terminate: bool) -> HttpConnectionManager {
    let mut tunnels = route("/", "origin");
    tunnels.path = PathMatch::Connect;
    upgrades(&mut tunnels).push(RouteUpgrade { kind: "connect".into(), enabled: true, terminate });
    let mut manager = manager(vec![tunnels, route("/", "origin")]);
    manager.upgrades = vec![("websocket".into(), true)];
    manager.http2.allow_connect = true;
    manager
}

fn upgrades(route: &mut Route) -> &mut Vec<RouteUpgrade> {
    let RouteAction::Forward(forward) = &mut route.action else { unreachable!() };
    &mut forward.upgrades
}

pub(crate) fn to_http1(origin: SocketAddr) -> Proxy {
    Proxy::start(taking(false), vec![cluster("origin", &[origin])])
}

pub(crate) fn to_http2(host: SocketAddr) -> Proxy {
    Proxy::start(taking(false), vec![http2_cluster(host)])
}

pub(crate) fn to_tcp(origin: SocketAddr) -> Proxy {
    Proxy::start(taking(true), vec![cluster("origin", &[origin])])
}

/// All that is counted while it lives is back where it was.
pub(crate) fn assert_settled(proxy: &Proxy) {
    for gauge in [
        "cluster.origin.upstream_rq_active",
        "http.test.downstream_cx_upgrades_active",
        "http.test.downstream_cx_rx_bytes_buffered",
        "http.test.downstream_cx_tx_bytes_buffered",
        "http.test.downstream_rq_active",
        "http2.streams_active",
    ] {
        proxy.await_gauge(gauge, 0);
    }
}

pub(crate) fn assert_counted(proxy: &Proxy, counters: &[(&str, u64)]) {
    for (counter, value) in counters {
        assert_eq!(proxy.counter(counter), *value, "{counter}");
    }
}

/// A host of HTTP/1 that grants WebSockets as the RFC has it, and echoes.
fn granting() -> Origin {
    Origin::raw(|_, mut wire| {
        let Some(request) = wire.head().unwrap() else { return };
        assert_eq!((request.method(), request.header("upgrade")), ("GET", Some("websocket")));
        assert_eq!((request.header("connection"), request.header("host")), (Some("upgrade"), Some("test")));
        assert_eq!((request.header("transfer-encoding"), request.header("content-length")), (None, None));
        assert_eq!(request.header("sec-websocket-key").unwrap().len(), 24, "a host of HTTP/1 wants a key");
        let grant = "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\nsec-websocket-accept: x\r\n\r\nwelcome";
        wire.socket.write_all(grant.as_bytes()).unwrap();
        crate::upgrade::echo(wire);
    })
}

#[test]
fn a_websocket_of_an_http2_client_is_an_upgrade_for_a_host_of_http1() {
    let origin = granting();
    let proxy = to_http1(origin.address);
    run(async {
        let (send, _) = open(proxy.address).await;
        let (head, mut tunnel) = ask(&send, websocket("/chat")).await.unwrap();
        assert_eq!((head.status, &head.headers["server"]), (StatusCode::OK, &"envoy".parse().unwrap()));
        for name in ["upgrade", "connection", "sec-websocket-accept", "content-length", "x-envoy-upstream-service-time"]
        {
            assert!(!head.headers.contains_key(name), "{name}");
        }
        assert_eq!(tunnel.hear(7).await.unwrap(), "welcome");
        tunnel.say("more").await.unwrap();
        assert_eq!(tunnel.hear(4).await.unwrap(), "more");
        for gauge in [
            "http.test.downstream_cx_upgrades_active",
            "http.test.downstream_rq_active",
            "cluster.origin.upstream_rq_active",
        ] {
            assert_eq!(proxy.gauge(gauge), 1, "{gauge}");
        }
        // The connection carries other requests beside it.
        let (_, mut second) = ask(&send, websocket("/chat")).await.unwrap();
        assert_eq!(second.hear(7).await.unwrap(), "welcome");
        tunnel.end();
        assert_eq!(tunnel.hear_all().await.unwrap(), "");
        second.say("still").await.unwrap();
        assert_eq!(second.hear(5).await.unwrap(), "still");
        second.end();
        assert_eq!(second.hear_all().await.unwrap(), "");
    });
    assert_settled(&proxy);
    assert_counted(
        &proxy,
        &[
            ("http.test.downstream_cx_upgrades_total", 2),
            ("http.test.downstream_rq_http2_total", 2),
            ("http.test.downstream_rq_1xx", 2),
            ("http.test.downstream_rq_response_before_rq_complete", 2),
            ("http.test.downstream_rq_rx_reset", 0),
            ("http.test.downstream_rq_tx_reset", 0),
            ("cluster.origin.upstream_rq_101", 2),
            ("cluster.origin.upstream_cx_http1_total", 2),
            ("http2.tx_reset", 0),
        ],
    );
}

#[test]
fn a_websocket_of_an_http1_client_is_an_extended_connect_for_a_host_of_http2() {
    let host = Host::start(|asked: Asked| async {
        let request = &asked.request;
        assert_eq!(request.extensions().get::<Protocol>().unwrap().as_str(), "websocket");
        assert_eq!((request.uri().path(), request.uri().authority().unwrap().as_str()), ("/chat", "test"));
        let headers = request.headers();
        assert!(!headers.contains_key("upgrade") && !headers.contains_key("connection"));
        assert_eq!(headers["sec-websocket-version"], "13");
        let _ = asked.grant().echo().await;
    });
    let proxy = to_http2(host.address);
    let mut client = proxy.connect();
    client.send(format!("{ASK}early"));
    let response = client.response();
    assert_eq!((response.status(), response.header("upgrade")), (101, Some("websocket")));
    assert_eq!(response.header("connection"), Some("upgrade"));
    // That of RFC 6455: a host of HTTP/2 says nothing of it, and a client of HTTP/1 waits for it.
    assert_eq!(response.header("sec-websocket-accept"), Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
    assert_eq!(client.wire.bytes(5).unwrap(), b"early");
    client.send("more");
    assert_eq!(client.wire.bytes(4).unwrap(), b"more");
    client.finish();
    client.assert_closed();
    assert_settled(&proxy);
    assert_counted(
        &proxy,
        &[
            ("http.test.downstream_rq_1xx", 1),
            ("cluster.origin.upstream_rq_101", 1),
            ("cluster.origin.upstream_cx_http2_total", 1),
            ("cluster.origin.upstream_cx_destroy", 0),
            ("cluster.origin.upstream_rq_tx_reset", 0),
            ("cluster.origin.upstream_rq_rx_reset", 0),
        ],
    );
}

#[test]
fn http2_on_both_sides_carries_many_tunnels_beside_requests() {
    let host = Host::start(|asked: Asked| async {
        match asked.request.extensions().get::<Protocol>() {
            Some(_) => drop(asked.grant().echo().await),
            None => asked.answer(StatusCode::OK, "plain"),
        }
    });
    let proxy = to_http2(host.address);
    run(async {
        let (send, _) = open(proxy.address).await;
        let mut tunnels = Vec::new();
        for number in 0..32 {
            tunnels.push(join(&send, websocket(&format!("/n{number}"))).await);
            assert_eq!(ask_plain(&send, "/plain").await.unwrap(), (200, Bytes::from_static(b"plain")));
        }
        for (number, tunnel) in tunnels.iter_mut().enumerate() {
            tunnel.say(format!("says {number}")).await.unwrap();
        }
        for (number, tunnel) in tunnels.iter_mut().enumerate() {
            tunnel.end();
            assert_eq!(tunnel.hear_all().await.unwrap(), format!("says {number}"));
        }
    });
    assert_eq!((host.connections(), host.streams()), (1, 64));
    assert_settled(&proxy);
    assert_counted(&proxy, &[("http2.tx_reset", 0), ("http2.rx_reset", 0), ("http.test.downstream_rq_rx_reset", 0)]);
}

#[test]
fn a_connect_goes_on_to_a_host_or_ends_here() {
    // A host of HTTP/2, from either client.
    let host = Host::start(|asked: Asked| async {
        assert_eq!(asked.request.uri().to_string(), "db.internal:5432");
        assert!(asked.request.extensions().get::<Protocol>().is_none());
        let _ = asked.grant().echo().await;
    });
    let proxy = to_http2(host.address);
    let mut client = proxy.connect();
    client.send("CONNECT db.internal:5432 HTTP/1.1\r\nhost: db.internal:5432\r\n\r\nearly");
    let head = client.head();
    assert_eq!((head.status(), head.header("connection"), head.header("transfer-encoding")), (200, None, None));
    assert_eq!(client.wire.bytes(5).unwrap(), b"early");
    run(async {
        let (send, _) = open(proxy.address).await;
        let mut tunnel = join(&send, connect("db.internal:5432")).await;
        tunnel.say("hello").await.unwrap();
        assert_eq!(tunnel.hear(5).await.unwrap(), "hello");
    });
    assert_counted(&proxy, &[("cluster.origin.upstream_rq_200", 2), ("http.test.downstream_rq_2xx", 2)]);
    // One of HTTP/1.
    let origin = Origin::raw(|_, mut wire| {
        let Some(request) = wire.head().unwrap() else { return };
        assert_eq!(request.line, "CONNECT db.internal:5432 HTTP/1.1");
        wire.socket.write_all(b"HTTP/1.1 200 OK\r\n\r\n").unwrap();
        crate::upgrade::echo(wire);
    });
    let proxy = to_http1(origin.address);
    run(async {
        let (send, _) = open(proxy.address).await;
        let mut tunnel = join(&send, connect("db.internal:5432")).await;
        tunnel.say("hello").await.unwrap();
        tunnel.end();
        assert_eq!(tunnel.hear_all().await.unwrap(), "hello");
    });
    // And one that speaks no HTTP; a CONNECT for `bytestream` is one like any other.
    let origin = Origin::raw(|_, wire| crate::upgrade::echo(wire));
    let proxy = to_tcp(origin.address);
    run(async {
        let (send, _) = open(proxy.address).await;
        for request in [connect("db.internal:5432"), extended("bytestream", "/")] {
            let mut tunnel = join(&send, request).await;
            tunnel.say("hello").await.unwrap();
            tunnel.end();
            assert_eq!(tunnel.hear_all().await.unwrap(), "hello");
        }
    });
    assert_settled(&proxy);
    assert_counted(&proxy, &[("cluster.origin.upstream_cx_total", 2), ("http.test.downstream_rq_rx_reset", 0)]);
}

#[test]
fn without_allow_connect_nothing_is_announced_and_an_extended_connect_is_malformed() {
    let origin = Origin::text("x");
    let mut manager = taking(false);
    manager.http2.allow_connect = false;
    let proxy = Proxy::start(manager, vec![cluster("origin", &[origin.address])]);
    run(async {
        let (send, _) = open(proxy.address).await;
        assert_eq!(ask_plain(&send, "/").await.unwrap().0, 200);
        assert!(!send.is_extended_connect_protocol_enabled());
        let refused = ask(&send, websocket("/")).await.map(drop).unwrap_err();
        assert_eq!(refused.reason(), Some(Reason::PROTOCOL_ERROR));
        // Its neighbours are none the worse.
        assert_eq!(ask_plain(&send, "/").await.unwrap().0, 200);
    });
    let proxy = to_http1(origin.address);
    run(async {
        let (send, _) = open(proxy.address).await;
        assert_eq!(ask_plain(&send, "/").await.unwrap().0, 200);
        assert!(send.is_extended_connect_protocol_enabled());
    });
}

#[test]
fn what_is_not_enabled_is_refused_and_the_connection_goes_on() {
    let origin = Origin::raw(|_, _| panic!("nobody asks the host"));
    let mut manager = taking(false);
    let mut off = route("/off", "origin");
    upgrades(&mut off).push(RouteUpgrade { kind: "websocket".into(), enabled: false, terminate: false });
    let mut configuration = (*crate::support::models::manager(vec![off, route("/", "origin")]).routes).clone();
    configuration.name = "local".into();
    manager.routes = Arc::new(configuration);
    let proxy = Proxy::start(manager, vec![cluster("origin", &[origin.address])]);
    run(async {
        let (send, _) = open(proxy.address).await;
        for (number, request) in
            [websocket("/off"), extended("other", "/"), extended("websocket,other", "/")].into_iter().enumerate()
        {
            let (head, mut tunnel) = ask(&send, request).await.unwrap();
            assert_eq!((head.status, tunnel.hear_all().await.unwrap()), (StatusCode::FORBIDDEN, Bytes::new()));
            assert!(!head.headers.contains_key("content-length"));
            assert_eq!(proxy.counter("http.test.downstream_rq_ws_on_non_ws_route"), number as u64 + 1);
        }
        // A CONNECT has no route here.
        let (head, _) = ask(&send, connect("a:80")).await.unwrap();
        assert_eq!(head.status, StatusCode::NOT_FOUND);
    });
    assert_settled(&proxy);
    assert_counted(&proxy, &[("http.test.downstream_cx_http2_total", 1), ("http.test.downstream_rq_rx_reset", 4)]);
}

#[test]
fn a_host_that_declines_is_heard_in_full() {
    let host = Host::start(|asked: Asked| async {
        let text = if asked.request.uri().path() == "/silent" { "" } else { "not you" };
        asked.answer(StatusCode::FORBIDDEN, text);
    });
    let proxy = to_http2(host.address);
    run(async {
        let (send, _) = open(proxy.address).await;
        let (head, mut body) = ask(&send, websocket("/silent")).await.unwrap();
        assert_eq!((head.status, body.hear_all().await.unwrap()), (StatusCode::FORBIDDEN, Bytes::new()));
        let (head, mut body) = ask(&send, websocket("/")).await.unwrap();
        assert_eq!((head.status, body.hear_all().await.unwrap()), (StatusCode::FORBIDDEN, "not you".into()));
        // The stream is over, and the connection is as good as before.
        let (head, _) = ask(&send, connect("a:80")).await.unwrap();
        assert_eq!(head.status, StatusCode::FORBIDDEN);
    });
    let mut client = proxy.connect();
    client.send(ASK);
    let response = client.response();
    assert_eq!((response.status(), response.text(), response.header("connection")), (403, "not you", Some("close")));
    client.assert_closed();
    assert_settled(&proxy);
    assert_eq!(host.connections(), 1);
    assert_counted(&proxy, &[("cluster.origin.upstream_rq_403", 4), ("cluster.origin.http2.tx_reset", 0)]);
    let origin = Origin::http(|_| ok("I do not switch"));
    let proxy = to_http1(origin.address);
    run(async {
        let (send, _) = open(proxy.address).await;
        let (head, mut body) = ask(&send, websocket("/")).await.unwrap();
        assert_eq!((head.status, body.hear_all().await.unwrap()), (StatusCode::OK, "I do not switch".into()));
    });
    assert_settled(&proxy);
}

#[test]
fn a_host_is_asked_only_if_it_has_said_that_it_may_be() {
    let host = Host::with(h2::server::Builder::new(), |asked: Asked| async { asked.answer(StatusCode::OK, "plain") });
    let proxy = to_http2(host.address);
    run(async {
        let (send, _) = open(proxy.address).await;
        let (head, mut body) = ask(&send, websocket("/")).await.unwrap();
        assert_eq!(head.status, StatusCode::BAD_GATEWAY);
        assert!(body.hear_all().await.unwrap().ends_with(b"protocol error"));
        assert_eq!(host.streams(), 0);
        // The same connection goes on to carry requests.
        assert_eq!(ask_plain(&send, "/").await.unwrap().0, 200);
    });
    assert_eq!((host.connections(), host.streams()), (1, 1));
    assert_settled(&proxy);
}

#[test]
fn settings_that_do_not_come_are_waited_for_as_long_as_a_connection() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut cluster = http2_cluster(silent.local_addr().unwrap());
    cluster.connect_timeout = Duration::from_millis(200);
    let proxy = Proxy::start(taking(false), vec![cluster]);
    let mut client = proxy.connect();
    client.send(ASK);
    let response = client.response();
    assert_eq!(response.status(), 503);
    assert!(response.text().ends_with("connection timeout"), "{}", response.text());
    assert_settled(&proxy);
    // A host that closes instead has closed.
    let closing = Origin::raw(|_, mut wire| drop(wire.bytes(24)));
    let proxy = to_http2(closing.address);
    let mut client = proxy.connect();
    client.send(ASK);
    let response = client.response();
    assert_eq!(response.status(), 503);
    assert!(response.text().ends_with("connection termination"), "{}", response.text());
}

#[test]
fn a_client_may_give_up_before_the_host_is_there() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let proxy = to_http2(silent.local_addr().unwrap());
    run(async {
        let (send, _) = open(proxy.address).await;
        for request in [websocket("/"), connect("a:80")] {
            let mut sending = send.clone().ready().await.unwrap();
            let (answer, mut stream) = sending.send_request(request, false).unwrap();
            while proxy.gauge("cluster.origin.upstream_rq_active") == 0 {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            stream.send_reset(Reason::CANCEL);
            drop(answer);
            while proxy.gauge("cluster.origin.upstream_rq_active") != 0 {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        }
    });
    assert_settled(&proxy);
    assert_counted(&proxy, &[("http.test.downstream_rq_rx_reset", 2)]);
    // One whose connection is not even made: nobody takes what waits in its queue, and the queue is full.
    let full = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    full.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    full.listen(0).unwrap();
    let address = full.local_addr().unwrap().as_socket().unwrap();
    let mut waiting = Vec::new();
    while let Ok(one) = std::net::TcpStream::connect_timeout(&address, Duration::from_millis(100)) {
        waiting.push(one);
    }
    let proxy = to_tcp(address);
    run(async {
        let (send, _) = open(proxy.address).await;
        let mut sending = send.ready().await.unwrap();
        let (answer, mut stream) = sending.send_request(connect("a:1"), false).unwrap();
        while proxy.gauge("cluster.origin.upstream_cx_active") == 0 {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        stream.send_reset(Reason::CANCEL);
        drop(answer);
        while proxy.gauge("cluster.origin.upstream_cx_active") != 0 {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    });
    assert_settled(&proxy);
}

#[test]
fn an_upgrade_with_a_body_has_no_place_in_http2() {
    let host = Host::echoing();
    let proxy = to_http2(host.address);
    for body in ["content-length: 3\r\n\r\nabc", "transfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"] {
        let mut client = proxy.connect();
        client.send(format!("POST / HTTP/1.1\r\nhost: test\r\nconnection: upgrade\r\nupgrade: websocket\r\n{body}"));
        assert_eq!(client.response().status(), 403);
        client.assert_closed();
    }
    assert_eq!(host.streams(), 0);
    assert_settled(&proxy);
}

#[test]
fn a_tunnel_takes_one_of_the_streams_that_a_connection_may_have() {
    let mut settings = h2::server::Builder::new();
    settings.enable_connect_protocol().max_concurrent_streams(2);
    let host = Host::with(settings, |asked: Asked| async {
        match asked.request.method() == "CONNECT" {
            true => drop(asked.grant().echo().await),
            false => asked.answer(StatusCode::OK, "plain"),
        }
    });
    let mut cluster = http2_cluster(host.address);
    let UpstreamProtocol::Http2(options) = &mut cluster.protocol else { unreachable!() };
    Arc::make_mut(options).max_concurrent_streams = 2;
    let proxy = Proxy::start(taking(false), vec![cluster]);
    run(async {
        let (send, _) = open(proxy.address).await;
        let mut tunnels = Vec::new();
        for number in 0..5 {
            tunnels.push(join(&send, websocket("/")).await);
            assert_eq!(host.connections(), number / 2 + 1);
        }
        assert_eq!(ask_plain(&send, "/").await.unwrap().0, 200);
        for tunnel in &mut tunnels {
            tunnel.say("x").await.unwrap();
            assert_eq!(tunnel.hear(1).await.unwrap(), "x");
        }
        let mut freed = tunnels.remove(0);
        freed.end();
        assert_eq!(freed.hear_all().await.unwrap(), "");
        eventually("its place is free", || proxy.gauge("cluster.origin.upstream_rq_active") == 4);
        tunnels.push(join(&send, websocket("/")).await);
        assert_eq!(host.connections(), 3);
    });
    assert_settled(&proxy);
}

#[test]
fn the_rest_of_a_request_that_ended_with_its_head_is_nothing() {
    let host = Host::echoing();
    let proxy = to_http2(host.address);
    run(async {
        let (send, _) = open(proxy.address).await;
        let mut send = send.ready().await.unwrap();
        let (response, _) = send.send_request(websocket("/"), true).unwrap();
        let response = response.await.unwrap();
        assert_eq!(response.status(), 200);
        assert_eq!(all(&mut response.into_body()).await.unwrap().0, "");
    });
    assert_settled(&proxy);
}
