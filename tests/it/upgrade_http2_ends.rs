//! Tunnels over HTTP/2: how their halves end, what is held while somebody does not read, timeouts, drains, and their lines in access logs.

use std::io::Write;
use std::net::Shutdown;
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use bytes::Bytes;
use h2::Reason;
use heirloom::config::model::{Http2Keepalive, HttpConnectionManager, UpstreamProtocol};
use heirloom::drain::{Phase, Plan, Strategy};

use crate::access_log::{File, format, logs};
use crate::support::http2::{connect as open, run};
use crate::support::models::*;
use crate::support::origin::Origin;
use crate::support::proxy::Proxy;
use crate::support::tunnels::{Asked, Host, Tunnel, connect, join, websocket};
use crate::upgrade_http2::{ASK, assert_counted, assert_settled, http2_cluster, taking, to_http2, to_tcp};

const LARGE: usize = 8 << 20;

/// Bytes that say where they belong.
fn coded(length: usize) -> Bytes {
    (0..length).map(|at| (at * 31 + at / 251) as u8).collect::<Vec<_>>().into()
}

/// Until a condition is true, without keeping the others of this thread from theirs.
async fn until(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + crate::support::PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "never came true: {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

#[test]
fn each_half_ends_for_itself() {
    // The client ends first and hears the host out.
    let host = Host::start(|asked: Asked| async {
        let mut tunnel = asked.grant();
        assert_eq!(tunnel.hear_all().await.unwrap(), "that is all");
        tunnel.say("and this comes after").await.unwrap();
        tunnel.end();
    });
    let proxy = to_http2(host.address);
    run(async {
        let (send, _) = open(proxy.address).await;
        let mut tunnel = join(&send, websocket("/")).await;
        tunnel.say("that is all").await.unwrap();
        tunnel.end();
        assert_eq!(tunnel.hear_all().await.unwrap(), "and this comes after");
    });
    let mut client = proxy.connect();
    client.send(format!("{ASK}that is all"));
    assert_eq!(client.response().status(), 101);
    client.finish();
    assert_eq!(client.wire.rest().unwrap(), b"and this comes after");
    assert_settled(&proxy);
    // The host ends first and hears the client out: over TCP.
    let (heard, hears) = channel();
    let origin = Origin::raw(move |_, mut wire| {
        wire.socket.write_all(b"bye").unwrap();
        wire.socket.shutdown(Shutdown::Write).unwrap();
        heard.send(wire.rest().unwrap()).unwrap();
    });
    let proxy = to_tcp(origin.address);
    run(async {
        let (send, _) = open(proxy.address).await;
        let mut tunnel = join(&send, connect("a:1")).await;
        assert_eq!(tunnel.hear_all().await.unwrap(), "bye");
        tunnel.say("one more word").await.unwrap();
        tunnel.end();
        until("the host has heard", || proxy.gauge("http.test.downstream_cx_upgrades_active") == 0).await;
    });
    assert_eq!(hears.recv_timeout(crate::support::PATIENCE).unwrap(), b"one more word");
    assert_settled(&proxy);
    assert_counted(&proxy, &[("http.test.downstream_rq_rx_reset", 0), ("http.test.downstream_rq_tx_reset", 0)]);
}

#[test]
fn a_host_that_has_got_what_it_wanted_ends_both_halves() {
    // RFC 9113, 8.1: behind its own end it may say that the rest is of no use to it.
    let host = Host::start(|asked: Asked| async {
        let mut tunnel = asked.grant();
        tunnel.say("enough").await.unwrap();
        tunnel.end();
        // Once all of that is on its way: a reset overtakes what is not.
        assert_eq!(tunnel.hear(6).await.unwrap(), "thanks");
        tunnel.send.send_reset(Reason::NO_ERROR);
    });
    let proxy = to_http2(host.address);
    run(async {
        let (send, _) = open(proxy.address).await;
        let mut tunnel = join(&send, websocket("/")).await;
        assert_eq!(tunnel.hear_all().await.unwrap(), "enough");
        tunnel.say("thanks").await.unwrap();
        until("the tunnel is over", || proxy.gauge("http.test.downstream_cx_upgrades_active") == 0).await;
        let refused = std::future::poll_fn(|context| tunnel.send.poll_reset(context)).await.unwrap();
        assert_eq!(refused, Reason::NO_ERROR);
    });
    assert_settled(&proxy);
    assert_counted(&proxy, &[("http.test.downstream_rq_tx_reset", 0), ("cluster.origin.upstream_rq_tx_reset", 0)]);
    // Both in one breath, as a server does that lets go of what it has answered; and so with an ordinary response.
    let host = Host::start(|mut asked: Asked| async move {
        let mut stream = asked.respond.send_response(http::Response::new(()), false).unwrap();
        stream.send_data(Bytes::from_static(b"bye"), false).unwrap();
        stream.send_data(Bytes::new(), true).unwrap();
    });
    let proxy = to_http2(host.address);
    run(async {
        let (send, _) = open(proxy.address).await;
        for number in 0..50 {
            let request = if number % 2 == 0 { websocket("/") } else { crate::support::http2::post("/") };
            let mut tunnel = join(&send, request).await;
            assert_eq!(tunnel.hear_all().await.unwrap(), "bye", "{number}");
        }
        until("all of them are over", || proxy.gauge("http.test.downstream_rq_active") == 0).await;
    });
    assert_settled(&proxy);
}

#[test]
fn a_reset_breaks_both_sides_and_says_who() {
    let (told, reasons) = channel();
    let host = Host::start(move |asked: Asked| {
        let told = told.clone();
        async move {
            let resets = asked.request.uri().path() == "/reset";
            let mut tunnel = asked.grant();
            if resets {
                assert_eq!(tunnel.hear(1).await.unwrap(), "x");
                tunnel.send.send_reset(Reason::ENHANCE_YOUR_CALM);
            } else {
                told.send(tunnel.reset().await).unwrap();
            }
        }
    });
    let proxy = to_http2(host.address);
    run(async {
        let (send, _) = open(proxy.address).await;
        let mut given_up = join(&send, websocket("/")).await;
        given_up.send.send_reset(Reason::CANCEL);
        until("its host knows", || proxy.counter("cluster.origin.upstream_rq_tx_reset") == 1).await;
        let mut broken = join(&send, websocket("/reset")).await;
        broken.say("x").await.unwrap();
        assert_eq!(broken.reset().await, Reason::INTERNAL_ERROR);
        assert_counted(
            &proxy,
            &[
                ("cluster.origin.upstream_rq_rx_reset", 1),
                ("cluster.origin.http2.rx_reset", 1),
                ("cluster.origin.http2.tx_reset", 1),
                ("http2.rx_reset", 1),
                ("http2.tx_reset", 1),
                ("http.test.downstream_rq_rx_reset", 2),
                ("http.test.downstream_rq_tx_reset", 1),
            ],
        );
    });
    assert_eq!(reasons.recv_timeout(crate::support::PATIENCE).unwrap(), Reason::CANCEL);
    // A client of HTTP/1 must not take it for an end, and one that goes with its whole connection gives up its tunnels.
    let mut client = proxy.connect();
    client.send(ASK.replace("/chat", "/reset") + "x");
    assert_eq!(client.response().status(), 101);
    assert!(client.wire.rest().is_err(), "a reset is no end");
    run(async {
        let (send, connection) = open(proxy.address).await;
        let _tunnel = join(&send, websocket("/")).await;
        connection.abort();
    });
    assert_eq!(reasons.recv_timeout(crate::support::PATIENCE).unwrap(), Reason::CANCEL);
    assert_settled(&proxy);
    // A broken TCP connection is what RFC 9113 calls one.
    let origin = Origin::raw(|_, mut wire| {
        wire.bytes(1).unwrap();
        socket2::SockRef::from(&wire.socket).set_linger(Some(Duration::ZERO)).unwrap();
    });
    let proxy = to_tcp(origin.address);
    run(async {
        let (send, _) = open(proxy.address).await;
        let mut tunnel = join(&send, connect("a:1")).await;
        tunnel.say("x").await.unwrap();
        assert_eq!(tunnel.reset().await, Reason::CONNECT_ERROR);
    });
    assert_settled(&proxy);
}

#[test]
fn a_reset_is_heard_of_while_the_other_side_does_not_read() {
    let (stop, stopped) = channel::<()>();
    let stopped = std::sync::Mutex::new(stopped);
    let origin = Origin::raw(move |_, _wire| assert!(stopped.lock().unwrap().recv().is_err()));
    let proxy = to_tcp(origin.address);
    run(async {
        let (send, _) = open(proxy.address).await;
        let mut tunnel = join(&send, connect("a:1")).await;
        let pushing = async { tunnel.say(Bytes::from(vec![7; 64 << 20])).await };
        let stuck = until("it is stuck", || proxy.counter("cluster.origin.upstream_flow_control_backed_up_total") > 0);
        tokio::select! { _ = pushing => panic!("nobody takes so much"), () = stuck => {} }
        tunnel.send.send_reset(Reason::CANCEL);
        until("the tunnel is gone", || proxy.gauge("cluster.origin.upstream_cx_active") == 0).await;
    });
    drop(stop);
    assert_settled(&proxy);
}

#[test]
fn who_does_not_read_makes_the_other_wait_and_nothing_is_lost() {
    let (go, gone) = channel::<()>();
    let gone = std::sync::Mutex::new(gone);
    let expected = coded(LARGE);
    let check = expected.clone();
    let (told, tells) = channel();
    let origin = Origin::raw(move |_, mut wire| {
        gone.lock().unwrap().recv().unwrap();
        let all = wire.rest().unwrap();
        told.send(all == check).unwrap();
        wire.socket.write_all(&all).unwrap();
    });
    let mut manager = taking(true);
    (manager.http2.initial_stream_window, manager.http2.initial_connection_window) = (65_535, 65_535);
    let proxy = Proxy::start(manager, vec![cluster("origin", &[origin.address])]);
    run(async {
        let (send, _) = open(proxy.address).await;
        let Tunnel { send: mut up, recv: mut down, .. } = join(&send, connect("a:1")).await;
        let mut left = expected.clone();
        let mut sent = 0;
        let pushing = async {
            while !left.is_empty() {
                up.reserve_capacity(left.len());
                let room = std::future::poll_fn(|context| up.poll_capacity(context)).await.unwrap().unwrap();
                let part = left.split_to(room.min(left.len()));
                sent += part.len();
                up.send_data(part, left.is_empty()).unwrap();
            }
        };
        let waiting = async {
            until("it is stuck", || proxy.gauge("http.test.downstream_cx_rx_bytes_buffered") > 0).await;
            // A block, however long it stands still.
            assert!(proxy.gauge("http.test.downstream_cx_rx_bytes_buffered") <= 64 * 1024);
            go.send(()).unwrap();
        };
        tokio::join!(pushing, waiting);
        assert_eq!(sent, LARGE);
        // Now the client takes its time: what it has not asked for waits with the host.
        until("the other way is stuck", || {
            proxy.counter("cluster.origin.upstream_flow_control_paused_reading_total") > 0
        })
        .await;
        assert!(proxy.gauge("http.test.downstream_cx_tx_bytes_buffered") <= 64 * 1024);
        let mut heard = Vec::with_capacity(LARGE);
        while let Some(data) = down.data().await {
            let data = data.unwrap();
            down.flow_control().release_capacity(data.len()).unwrap();
            heard.extend_from_slice(&data);
        }
        assert!(heard == expected, "{} of {LARGE} bytes", heard.len());
    });
    assert!(tells.recv_timeout(crate::support::PATIENCE).unwrap());
    assert_settled(&proxy);
}

#[test]
fn large_messages_go_both_ways_over_http2_and_between_the_versions() {
    let host = Host::echoing();
    let proxy = to_http2(host.address);
    let sent = coded(LARGE);
    run(async {
        let (send, _) = open(proxy.address).await;
        let Tunnel { send: up, recv: down, .. } = join(&send, websocket("/")).await;
        let mut up = up;
        let uploading = async { crate::support::http2::send_all(&mut up, sent.clone(), true).await.unwrap() };
        let downloading = async {
            let mut down = down;
            crate::support::http2::all(&mut down).await.unwrap().0
        };
        let ((), echoed) = tokio::join!(uploading, downloading);
        assert!(echoed == sent, "{} of {LARGE} bytes", echoed.len());
    });
    let mut client = proxy.connect();
    client.send(ASK);
    assert_eq!(client.response().status(), 101);
    let mut writer = client.wire.socket.try_clone().unwrap();
    let to_send = sent.clone();
    let writing = std::thread::spawn(move || {
        writer.write_all(&to_send).unwrap();
        writer.shutdown(Shutdown::Write).unwrap();
    });
    assert!(client.wire.rest().unwrap() == sent);
    writing.join().unwrap();
    assert_settled(&proxy);
}

fn impatient(mut manager: HttpConnectionManager) -> HttpConnectionManager {
    let mut routes = (*manager.routes).clone();
    routes.virtual_hosts[0].routes = vec![Arc::new(route_with_timeout("/", "origin", Some(Duration::from_millis(50))))];
    manager.routes = Arc::new(routes);
    manager
}

#[test]
fn silence_ends_a_tunnel_and_no_other_timeout_does() {
    let host = Host::echoing();
    let mut manager = impatient(taking(false));
    manager.max_connection_duration = Some(Duration::from_millis(100));
    manager.http2.keepalive = Some(Http2Keepalive {
        interval: Some(Duration::from_millis(20)),
        timeout: Duration::from_secs(5),
        jitter: 0,
        idle: None,
    });
    let mut cluster = http2_cluster(host.address);
    let UpstreamProtocol::Http2(options) = &mut cluster.protocol else { unreachable!() };
    Arc::make_mut(options).keepalive = manager.http2.keepalive;
    let proxy = Proxy::start(manager, vec![cluster]);
    run(async {
        let (send, _) = open(proxy.address).await;
        let mut tunnel = join(&send, websocket("/")).await;
        until("the connection is told to go", || proxy.counter("http.test.downstream_cx_max_duration_reached") == 1)
            .await;
        // Behind the route's timeout, the connection's time and some pings it is what it was.
        tunnel.say("still here").await.unwrap();
        assert_eq!(tunnel.hear(10).await.unwrap(), "still here");
        tunnel.end();
        assert_eq!(tunnel.hear_all().await.unwrap(), "");
    });
    let mut manager = taking(false);
    manager.stream_idle_timeout = Some(Duration::from_millis(100));
    let proxy = Proxy::start(manager, vec![http2_cluster(host.address)]);
    run(async {
        let (send, _) = open(proxy.address).await;
        let mut tunnel = join(&send, websocket("/")).await;
        assert_eq!(tunnel.reset().await, Reason::INTERNAL_ERROR);
    });
    assert_settled(&proxy);
    assert_counted(
        &proxy,
        &[
            ("http.test.downstream_rq_idle_timeout", 1),
            ("http.test.downstream_rq_tx_reset", 1),
            ("cluster.origin.upstream_rq_tx_reset", 1),
        ],
    );
}

#[test]
fn a_tunnel_may_last_only_so_long() {
    let host = Host::echoing();
    let mut manager = taking(false);
    manager.max_stream_duration = Some(Duration::from_millis(150));
    let proxy = Proxy::start(manager, vec![http2_cluster(host.address)]);
    run(async {
        let (send, _) = open(proxy.address).await;
        let mut tunnel = join(&send, websocket("/")).await;
        // However much is said.
        while tunnel.say("x").await.is_ok() && tunnel.hear(1).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert_eq!(tunnel.reset().await, Reason::INTERNAL_ERROR);
    });
    let mut client = proxy.connect();
    client.send(ASK);
    assert_eq!(client.response().status(), 101);
    client.assert_closed();
    assert_settled(&proxy);
    assert_counted(
        &proxy,
        &[("http.test.downstream_rq_max_duration_reached", 2), ("http.test.downstream_rq_tx_reset", 2)],
    );
}

#[test]
fn a_drain_lets_a_tunnel_go_on_up_to_its_deadline() {
    let host = Host::echoing();
    let proxy = to_http2(host.address);
    let plan = Plan { started: Instant::now(), time: Duration::from_secs(600), strategy: Strategy::Immediate };
    run(async {
        let (send, _) = open(proxy.address).await;
        let mut tunnel = join(&send, websocket("/")).await;
        let mut second = join(&send, websocket("/")).await;
        proxy.drain(Phase::Draining(plan));
        until("the client is told", || proxy.counter("http2.goaway_sent") > 0).await;
        tunnel.say("as ever").await.unwrap();
        assert_eq!(tunnel.hear(7).await.unwrap(), "as ever");
        tunnel.end();
        assert_eq!(tunnel.hear_all().await.unwrap(), "");
        assert_eq!(proxy.gauge("http.test.downstream_cx_upgrades_active"), 1);
        proxy.drain(Phase::Over);
        assert!(second.hear_all().await.is_err(), "what is cut has not ended");
    });
    assert_settled(&proxy);
    proxy.await_gauge("http.test.downstream_cx_active", 0);
    // One of HTTP/1 with a stream behind it never moves either.
    let proxy = to_http2(host.address);
    let mut client = proxy.connect();
    client.send(ASK);
    assert_eq!(client.response().status(), 101);
    assert_eq!(proxy.on_worker(|worker| worker.drain.unmovable()), 1);
    proxy.drain(Phase::Over);
    client.assert_closed();
    assert_settled(&proxy);
}

#[test]
fn a_host_that_goes_away_keeps_the_tunnels_that_it_has() {
    let mut settings = h2::server::Builder::new();
    settings.enable_connect_protocol();
    let host = Host::leaving(settings, 2, |asked: Asked| async {
        let _ = asked.grant().echo().await;
    });
    let proxy = to_http2(host.address);
    run(async {
        let (send, _) = open(proxy.address).await;
        let mut tunnels = Vec::new();
        for number in 0..4 {
            tunnels.push(join(&send, websocket("/")).await);
            if number % 2 == 1 {
                let told = number as u64 / 2 + 1;
                until("we are told", || proxy.counter("cluster.origin.upstream_cx_close_notify") == told).await;
            }
        }
        assert_eq!(host.connections(), 2);
        for tunnel in &mut tunnels {
            tunnel.say("still").await.unwrap();
            assert_eq!(tunnel.hear(5).await.unwrap(), "still");
            tunnel.end();
            assert_eq!(tunnel.hear_all().await.unwrap(), "");
        }
        // Behind their last streams the connections end.
        until("they have gone", || proxy.gauge("cluster.origin.upstream_cx_active") == 0).await;
    });
    assert_settled(&proxy);
}

#[test]
fn the_line_comes_with_the_end_and_says_what_went_both_ways() {
    let host = Host::echoing();
    let file = File::new();
    let text = "%PROTOCOL% %UPSTREAM_PROTOCOL% %RESPONSE_CODE% %RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS% %BYTES_RECEIVED% %BYTES_SENT% %ACCESS_LOG_TYPE%";
    let manager =
        HttpConnectionManager { access_logs: logs(&format(text), &file.path), log_new_tunnels: true, ..taking(false) };
    let proxy = Proxy::start(manager, vec![http2_cluster(host.address)]);
    run(async {
        let (send, _) = open(proxy.address).await;
        let mut tunnel = join(&send, websocket("/")).await;
        assert_eq!(file.lines(1), ["HTTP/2 HTTP/2 101 - via_upstream 0 0 DownstreamTunnelSuccessfullyEstablished"]);
        tunnel.say("12345").await.unwrap();
        assert_eq!(tunnel.hear(5).await.unwrap(), "12345");
        tunnel.end();
        assert_eq!(tunnel.hear_all().await.unwrap(), "");
        let line = "HTTP/2 HTTP/2 101 DC downstream_remote_disconnect 5 5 DownstreamEnd";
        assert_eq!(file.lines(2)[1], line);
        let mut given_up = join(&send, connect("a:1")).await;
        given_up.say("123").await.unwrap();
        assert_eq!(given_up.hear(3).await.unwrap(), "123");
        given_up.send.send_reset(Reason::CANCEL);
        until("its tunnel is over", || proxy.gauge("http.test.downstream_cx_upgrades_active") == 0).await;
        assert_eq!(file.lines(4)[3], "HTTP/2 HTTP/2 200 DR http2.remote_reset 3 3 DownstreamEnd");
    });
}
