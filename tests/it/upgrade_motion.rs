//! Tunnels that HTTP became, on their way from one worker to another.

use std::io::Write;
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::mpsc::channel;
use std::time::Duration;

use heirloom::config::model::{self, RouteAction};
use heirloom::drain::motion::{Frozen, Kind, Reason};

use crate::access_log::{File, format, logs};
use crate::motion::Way;
use crate::support::client::Client;
use crate::support::models::*;
use crate::support::origin::Origin;
use crate::support::proxy::Proxy;
use crate::support::wire::Wire;
use crate::upgrade::{ASK, CONNECT, GRANT, connect, echo, granting, join, websocket};

fn http(clusters: Vec<model::Cluster>) -> Proxy {
    Proxy::start(manager(vec![route("/", "origin")]), clusters)
}

fn ask_connect(proxy: &Proxy) -> Client {
    let mut client = proxy.connect();
    client.send(CONNECT);
    assert_eq!(client.wire.head().unwrap().unwrap().status(), 200);
    client
}

fn exchange(client: &mut Client, text: &str) {
    client.send(text);
    assert_eq!(client.wire.bytes(text.len()).unwrap(), text.as_bytes());
}

#[test]
fn a_tunnel_moves_with_all_it_counts() {
    let (granting, echoing) = (granting(), Origin::raw(|_, wire| echo(wire)));
    let forwarding = Origin::raw(|_, mut wire: Wire| {
        wire.head().unwrap().unwrap();
        wire.socket.write_all(b"HTTP/1.1 200 OK\r\n\r\n").unwrap();
        echo(wire);
    });
    type Start = fn(SocketAddr) -> Proxy;
    type Ask = fn(&Proxy) -> Client;
    let rows: [(&Origin, Start, Ask, u64); 3] = [
        (&granting, websocket, join, 1),
        (&echoing, |origin| connect(origin, true), ask_connect, 0),
        (&forwarding, |origin| connect(origin, false), ask_connect, 1),
    ];
    for (origin, start, ask, http1) in rows {
        let (old, new) = (start(origin.address), http(vec![cluster("origin", &[origin.address])]));
        let mut client = ask(&old);
        exchange(&mut client, "one");
        // Its epoch knows nothing of upgrades, and goes on with it all the same.
        let way = Way::open_with(&old, &new, |frozen| {
            assert_eq!(frozen.kind, Kind::Upgrade);
            frozen
        });
        old.await_gauge("listener.test.downstream_cx_active", 0);
        exchange(&mut client, "two");
        assert_eq!(way.close(&old), (1, Vec::new()));
        for gauge in [
            "cluster.origin.upstream_cx_active",
            "cluster.origin.upstream_rq_active",
            "http.test.downstream_cx_active",
            "http.test.downstream_cx_http1_active",
            "http.test.downstream_cx_upgrades_active",
            "http.test.downstream_rq_active",
        ] {
            assert_eq!((old.gauge(gauge), new.gauge(gauge)), (0, 1), "{gauge}");
        }
        client.finish();
        client.assert_closed();
        new.await_gauge("listener.test.downstream_cx_active", 0);
        for gauge in ["http.test.downstream_cx_upgrades_active", "http.test.downstream_rq_active"] {
            new.await_gauge(gauge, 0);
        }
        for counter in [
            "http.test.downstream_cx_total",
            "http.test.downstream_cx_upgrades_total",
            "http.test.downstream_rq_total",
            "http.test.downstream_rq_completed",
            "cluster.origin.upstream_cx_total",
            "cluster.origin.upstream_rq_total",
        ] {
            assert_eq!((old.counter(counter), new.counter(counter)), (1, 0), "{counter}");
        }
        for counter in [
            "http.test.downstream_cx_destroy_remote_active_rq",
            "http.test.downstream_rq_rx_reset",
            "cluster.origin.upstream_cx_destroy",
            "listener.test.downstream_cx_destroy",
        ] {
            assert_eq!((old.counter(counter), new.counter(counter)), (0, 1), "{counter}");
        }
        let counter = "cluster.origin.upstream_cx_destroy_with_active_rq";
        assert_eq!((old.counter(counter), new.counter(counter)), (0, http1), "{counter}");
    }
}

#[test]
fn a_half_that_has_ended_stays_ended() {
    let (said, heard) = channel();
    let origin = Origin::raw(move |number, mut wire| {
        wire.head().unwrap().unwrap();
        wire.socket.write_all(GRANT.as_bytes()).unwrap();
        if number == 0 {
            wire.socket.write_all(b"bye").unwrap();
            wire.socket.shutdown(Shutdown::Write).unwrap();
        }
        said.send(wire.rest().unwrap()).unwrap();
        if number > 0 {
            // The client has ended; it listens still.
            while wire.socket.write_all(b"x").is_ok() {
                std::thread::park_timeout(Duration::from_millis(1));
            }
        }
    });
    let heard = || heard.recv_timeout(Duration::from_secs(10)).unwrap();
    let (old, new) = (websocket(origin.address), websocket(origin.address));
    let mut client = old.connect();
    client.send(format!("{ASK}before "));
    assert_eq!(client.response().status(), 101);
    assert_eq!(client.wire.rest().unwrap(), b"bye");
    let way = Way::open(&old, &new);
    old.await_gauge("listener.test.downstream_cx_active", 0);
    client.send("after");
    client.finish();
    assert_eq!(heard(), b"before after");
    new.await_gauge("listener.test.downstream_cx_active", 0);
    assert_eq!(way.close(&old), (1, Vec::new()));
    // That the host was first is remembered.
    assert_eq!(new.counter("http.test.downstream_rq_tx_reset"), 1);

    let (old, new) = (websocket(origin.address), websocket(origin.address));
    let mut client = old.connect();
    client.send(ASK);
    assert_eq!(client.response().status(), 101);
    client.finish();
    assert_eq!(heard(), b"");
    let way = Way::open(&old, &new);
    old.await_gauge("listener.test.downstream_cx_active", 0);
    assert_eq!(client.wire.bytes(200).unwrap(), [b'x'; 200]);
    assert_eq!(way.close(&old), (1, Vec::new()));
    drop(client);
    new.await_gauge("listener.test.downstream_cx_active", 0);
    assert_eq!(new.counter("http.test.downstream_rq_tx_reset"), 0);
}

#[test]
fn a_tunnel_is_refused_where_it_cannot_be() {
    let origin = granting();
    let mut full = cluster("origin", &[origin.address]);
    full.limits.max_connections = 0;
    let tcp = model::NetworkFilter::TcpProxy(std::sync::Arc::new(tcp_proxy("origin")));
    type Change = fn(Frozen) -> Frozen;
    let same: Change = |frozen| frozen;
    let rows: [(Proxy, Change, Reason); 6] = [
        (http(Vec::new()), same, Reason::NoCluster),
        (http(vec![full]), same, Reason::Limit),
        (
            Proxy::start_with(listener_of(tcp), vec![cluster("origin", &[origin.address])], &[]),
            same,
            Reason::OtherFilter,
        ),
        (websocket(origin.address), |frozen| Frozen { record: vec![0xff; 3], ..frozen }, Reason::Record),
        (
            websocket(origin.address),
            |mut frozen| {
                frozen.sockets.truncate(1);
                frozen
            },
            Reason::Record,
        ),
        (
            websocket(origin.address),
            // Another field than the owner's record: a tunnel that nobody can finish.
            |mut frozen| {
                let at = frozen.record.windows(3).position(|part| part == b"GET").unwrap();
                frozen.record[at] = b' ';
                frozen
            },
            Reason::Record,
        ),
    ];
    for (new, change, reason) in rows {
        let old = websocket(origin.address);
        let mut client = join(&old);
        let way = Way::open_with(&old, &new, change);
        exchange(&mut client, "y");
        assert_eq!(way.close(&old), (0, vec![reason]));
        exchange(&mut client, "z");
        client.finish();
        client.assert_closed();
        for gauge in ["cluster.origin.upstream_cx_active", "http.test.downstream_cx_upgrades_active"] {
            old.await_gauge(gauge, 0);
            assert_eq!(new.gauge(gauge), 0, "{gauge}");
        }
        assert_eq!(old.counter("cluster.origin.upstream_cx_destroy"), 1);
        assert_eq!(new.counter("cluster.origin.upstream_cx_destroy"), 0);
        assert_eq!(new.gauge("http.test.downstream_rq_active"), 0);
    }
}

#[test]
fn the_idle_timeout_that_it_began_with_goes_on() {
    let origin = granting();
    let mut quick = route("/", "origin");
    let RouteAction::Forward(forward) = &mut quick.action else { unreachable!() };
    let idle_timeout = &mut forward.idle_timeout;
    *idle_timeout = Some(Some(Duration::from_millis(700)));
    let mut granting = manager(vec![quick]);
    granting.upgrades = vec![("websocket".into(), true)];
    let old = Proxy::start(granting, vec![cluster("origin", &[origin.address])]);
    let new = websocket(origin.address);
    let mut client = join(&old);
    let way = Way::open(&old, &new);
    old.await_gauge("listener.test.downstream_cx_active", 0);
    assert_eq!(way.close(&old), (1, Vec::new()));
    client.assert_closed();
    assert_eq!(new.counter("http.test.downstream_rq_idle_timeout"), 1);
}

#[test]
fn the_time_that_it_may_last_goes_on_wherever_it_is() {
    let origin = granting();
    let mut granting = manager(vec![route("/", "origin")]);
    granting.upgrades = vec![("websocket".into(), true)];
    granting.max_stream_duration = Some(Duration::from_millis(900));
    let old = Proxy::start(granting, vec![cluster("origin", &[origin.address])]);
    let new = websocket(origin.address);
    let mut client = join(&old);
    let way = Way::open(&old, &new);
    old.await_gauge("listener.test.downstream_cx_active", 0);
    assert_eq!(way.close(&old), (1, Vec::new()));
    client.send("as long as it lasts");
    assert_eq!(client.wire.bytes(19).unwrap(), b"as long as it lasts");
    client.assert_closed();
    assert_eq!(new.counter("http.test.downstream_rq_max_duration_reached"), 1);
}

#[test]
fn what_is_not_granted_yet_is_granted_where_it_was_asked_and_moves_then() {
    let (go, gate) = channel::<()>();
    let gate = std::sync::Mutex::new(gate);
    let origin = Origin::raw(move |_, mut wire| {
        wire.head().unwrap().unwrap();
        gate.lock().unwrap().recv().unwrap();
        wire.socket.write_all(format!("{GRANT}welcome").as_bytes()).unwrap();
        echo(wire);
    });
    let (old, new) = (websocket(origin.address), websocket(origin.address));
    let mut client = old.connect();
    client.send(format!("{ASK}early"));
    old.await_gauge("cluster.origin.upstream_rq_active", 1);
    let way = Way::open(&old, &new);
    client.assert_open();
    go.send(()).unwrap();
    old.await_gauge("listener.test.downstream_cx_active", 0);
    assert_eq!(client.response().status(), 101);
    assert_eq!(client.wire.bytes(12).unwrap(), b"welcomeearly");
    assert_eq!(way.close(&old), (1, Vec::new()));
}

#[test]
fn streams_are_whole_over_many_moves_with_everything_full() {
    const SIZE: usize = 16 * 1024 * 1024;
    let byte = |at: usize| (at % 251) as u8;
    let send = move |mut socket: TcpStream| {
        let data: Vec<u8> = (0..SIZE).map(byte).collect();
        for piece in data.chunks(7777) {
            socket.write_all(piece).unwrap();
        }
        socket.shutdown(Shutdown::Write).unwrap();
    };
    let check = move |received: &[u8]| {
        assert_eq!(received.len(), SIZE);
        assert!(received.iter().enumerate().all(|(at, &one)| one == byte(at)));
    };
    let origin = Origin::raw(move |_, mut wire| {
        wire.head().unwrap().unwrap();
        wire.socket.write_all(GRANT.as_bytes()).unwrap();
        let socket = wire.socket.try_clone().unwrap();
        let sender = std::thread::spawn(move || send(socket));
        check(&wire.rest().unwrap());
        sender.join().unwrap();
    });
    let proxies: Vec<Proxy> = (0..8).map(|_| websocket(origin.address)).collect();
    let mut client = proxies[0].connect();
    let mut socket = client.wire.socket.try_clone().unwrap();
    socket.write_all(ASK.as_bytes()).unwrap();
    let sender = std::thread::spawn(move || send(socket));
    proxies[0].await_gauge("http.test.downstream_cx_upgrades_active", 1);
    proxies[0].await_counter("http.test.downstream_rq_1xx", 1);
    // Nothing is read for a while, not even the grant: both directions are full when the first moves come.
    for pair in proxies[..4].windows(2) {
        let way = Way::open(&pair[0], &pair[1]);
        pair[0].await_gauge("listener.test.downstream_cx_active", 0);
        assert_eq!(way.close(&pair[0]), (1, Vec::new()));
    }
    let reader = std::thread::spawn(move || {
        assert_eq!(client.response().status(), 101);
        check(&client.wire.rest().unwrap());
    });
    for pair in proxies[3..].windows(2) {
        let way = Way::open(&pair[0], &pair[1]);
        pair[0].await_gauge("listener.test.downstream_cx_active", 0);
        way.close(&pair[0]);
    }
    sender.join().unwrap();
    reader.join().unwrap();
    drop(origin);
}

#[test]
fn a_tunnel_has_one_line_in_the_access_log_wherever_it_ends() {
    let origin = granting();
    let file = File::new();
    let text = format(
        "%REQ(:METHOD)% %REQ(:PATH)% %REQ(UPGRADE)% %RESPONSE_CODE% %RESP(SEC-WEBSOCKET-ACCEPT)% %RESPONSE_FLAGS% \
         %RESPONSE_CODE_DETAILS% %BYTES_RECEIVED% %BYTES_SENT% %UPSTREAM_CLUSTER% %UPSTREAM_PROTOCOL%",
    );
    let start = || {
        let mut manager = manager(vec![route("/", "origin")]);
        manager.upgrades = vec![("websocket".into(), true)];
        manager.access_logs = logs(&text, &file.path);
        Proxy::start(manager, vec![cluster("origin", &[origin.address])])
    };
    let (old, new) = (start(), start());
    let mut client = old.connect();
    client.send(format!("{ASK}early"));
    assert_eq!(client.response().status(), 101);
    assert_eq!(client.wire.bytes(12).unwrap(), b"welcomeearly");
    let way = Way::open(&old, &new);
    old.await_gauge("listener.test.downstream_cx_active", 0);
    exchange(&mut client, "more");
    client.finish();
    client.assert_closed();
    assert_eq!(way.close(&old), (1, Vec::new()));
    drop(old);
    let expected = "GET /chat WebSocket 101 x DC downstream_remote_disconnect 9 16 origin HTTP/1.1";
    assert_eq!(file.lines(1), [expected]);
}
