//! Connections that leave one worker and go on in another, as they do from epoch to epoch.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use heirloom::config::model;
use heirloom::drain::motion::{Frozen, Mover, Reason};
use heirloom::drain::{Phase, Plan, Strategy};

use crate::support::filtered;
use crate::support::models::*;
use crate::support::origin::Origin;
use crate::support::proxy::Proxy;

/// Carries what `from` offers to `to` until it is dropped, and counts.
pub(crate) struct Way {
    thread: Option<JoinHandle<(usize, Vec<Reason>)>>,
}

/// A copy of a frozen connection, with duplicates of its sockets, as a message would make it.
fn copy(frozen: &Frozen) -> Frozen {
    Frozen {
        kind: frozen.kind,
        listener: frozen.listener.clone(),
        peer: frozen.peer,
        local: frozen.local,
        age: frozen.age,
        sockets: frozen.sockets.iter().map(|socket| OwnedFd::try_clone(socket).unwrap()).collect(),
        record: frozen.record.clone(),
    }
}

pub(crate) fn plan() -> Plan {
    Plan { started: Instant::now(), time: Duration::from_secs(600), strategy: Strategy::Immediate }
}

impl Way {
    pub(crate) fn open(from: &Proxy, to: &Proxy) -> Self {
        Self::open_with(from, to, |frozen| frozen)
    }

    pub(crate) fn open_with(
        from: &Proxy,
        to: &Proxy,
        mut change: impl FnMut(Frozen) -> Frozen + Send + 'static,
    ) -> Self {
        let (mover, mut offers) = Mover::new(4);
        let to = to.handle();
        let thread = std::thread::spawn(move || {
            let (mut taken, mut refused) = (0, Vec::new());
            while let Some(offer) = offers.blocking_recv() {
                let frozen = change(copy(offer.frozen().unwrap()));
                match to.on_worker(move |worker| worker.set.thaw(frozen).map(heirloom::listener::Thawed::begin)) {
                    Ok(()) => {
                        offer.taken();
                        taken += 1;
                    }
                    Err(reason) => {
                        offer.refused(reason);
                        refused.push(reason);
                    }
                }
            }
            (taken, refused)
        });
        from.on_worker(move |worker| worker.drain.move_to(mover, plan()));
        Self { thread: Some(thread) }
    }

    /// Ends the motion: what is left drains. How many were taken, and why the others were not.
    pub(crate) fn close(mut self, from: &Proxy) -> (usize, Vec<Reason>) {
        from.drain(Phase::Draining(plan()));
        self.thread.take().unwrap().join().unwrap()
    }
}

/// Says that a request that waits for its answer moves past these HTTP filters; gives the proxy that it left and the one that it came to.
#[track_caller]
pub(crate) fn moves_past(filters: &str) -> (Proxy, Proxy) {
    let (go_on, may_go_on) = std::sync::mpsc::channel::<()>();
    let may_go_on = std::sync::Mutex::new(may_go_on);
    let origin = Origin::raw(move |_, mut wire| {
        wire.head().unwrap();
        may_go_on.lock().unwrap().recv().unwrap();
        wire.socket.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello").unwrap();
    });
    let routes = "- match: { prefix: / }\n  route: { cluster: origin }\n";
    let begin = || filtered::start(filtered::text("", filters, routes, &[("origin", origin.address)]));
    let (from, to) = (begin(), begin());
    let mut client = from.connect();
    client.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n");
    from.await_gauge("cluster.origin.upstream_rq_active", 1);
    let way = Way::open(&from, &to);
    to.await_gauge("cluster.origin.upstream_rq_active", 1);
    go_on.send(()).unwrap();
    assert_eq!(client.response().text(), "hello");
    assert_eq!(way.close(&from), (1, Vec::new()));
    drop(origin);
    (from, to)
}

fn http(origin: SocketAddr) -> Proxy {
    Proxy::start(manager(vec![route("/", "origin")]), vec![cluster("origin", &[origin])])
}

fn tcp(clusters: Vec<model::Cluster>) -> Proxy {
    let filter = model::NetworkFilter::TcpProxy(Arc::new(tcp_proxy("origin")));
    Proxy::start_with(listener_of(filter), clusters, &[])
}

#[test]
fn idle_connections_move_and_nobody_is_told() {
    let origin = Origin::text("x");
    let (old, new) = (http(origin.address), http(origin.address));
    let mut clients: Vec<_> = (0..50).map(|_| old.connect()).collect();
    for client in &mut clients {
        assert_eq!(client.get("/").header("connection"), None);
    }
    let way = Way::open(&old, &new);
    old.await_gauge("http.test.downstream_cx_active", 0);
    for client in &mut clients {
        client.assert_open();
        let response = client.get("/");
        assert_eq!((response.text(), response.header("connection")), ("x", None));
    }
    assert_eq!(way.close(&old), (50, Vec::new()));
    assert_eq!(old.gauge("listener.test.downstream_cx_active"), 0);
    assert_eq!(old.on_worker(|worker| worker.set.connections()), 0);
    assert_eq!(new.gauge("listener.test.downstream_cx_active"), 50);
    assert_eq!(new.gauge("http.test.downstream_cx_http1_active"), 50);
    for (proxy, counter, value) in [
        (&old, "http.test.downstream_cx_total", 50),
        (&new, "http.test.downstream_cx_total", 0),
        (&old, "listener.test.downstream_cx_total", 50),
        (&new, "listener.test.downstream_cx_total", 0),
        (&old, "listener.test.downstream_cx_destroy", 0),
        (&old, "http.test.downstream_cx_destroy", 0),
        (&old, "http.test.downstream_cx_drain_close", 0),
        (&old, "http.test.downstream_rq_total", 50),
        (&new, "http.test.downstream_rq_total", 50),
    ] {
        assert_eq!(proxy.counter(counter), value, "{counter}");
    }
    drop(clients);
    new.await_gauge("listener.test.downstream_cx_active", 0);
    assert_eq!(new.counter("listener.test.downstream_cx_destroy"), 50);
    assert_eq!(new.counter("http.test.downstream_cx_destroy_remote"), 50);
}

#[test]
fn what_is_refused_drains_where_it_is() {
    let origin = Origin::text("x");
    let (old, new) = (http(origin.address), http(origin.address));
    let mut client = old.connect();
    client.get("/");
    let way = Way::open_with(&old, &new, |frozen| Frozen { listener: "of old".into(), ..frozen });
    old.await_counter("http.test.downstream_rq_total", 1);
    client.assert_open();
    assert_eq!(client.get("/").header("connection"), Some("close"));
    client.assert_closed();
    assert_eq!(way.close(&old), (0, vec![Reason::NoListener]));
    old.await_gauge("listener.test.downstream_cx_active", 0);
    assert_eq!(old.counter("listener.test.downstream_cx_destroy"), 1);
    assert_eq!(new.counter("listener.test.downstream_cx_destroy"), 0);
    assert_eq!(new.gauge("listener.test.downstream_cx_active"), 0);
}

#[test]
fn a_connection_goes_only_to_its_like() {
    let origin = Origin::text("x");
    let (old, new) = (http(origin.address), tcp(vec![cluster("origin", &[origin.address])]));
    let mut client = old.connect();
    client.get("/");
    let way = Way::open(&old, &new);
    assert_eq!(client.get("/").text(), "x");
    assert_eq!(way.close(&old), (0, vec![Reason::OtherFilter]));
    let record = |frozen: Frozen| Frozen { record: vec![0xff; 3], ..frozen };
    let (old, new) = (http(origin.address), http(origin.address));
    let mut client = old.connect();
    client.get("/");
    let way = Way::open_with(&old, &new, record);
    assert_eq!(client.get("/").text(), "x");
    assert_eq!(way.close(&old), (0, vec![Reason::Record]));
}

#[test]
fn requests_at_every_moment_of_a_move_are_answered() {
    // Requests sent at every moment around the move; all are answered, by one side or the other.
    let origin = Origin::text("x");
    let proxies: Vec<Proxy> = (0..6).map(|_| http(origin.address)).collect();
    let stop = Arc::new(AtomicBool::new(false));
    let clients: Vec<_> = (0..8)
        .map(|_| {
            let (mut client, stop) = (proxies[0].connect(), stop.clone());
            std::thread::spawn(move || {
                let mut answered = 0_u64;
                while !stop.load(Ordering::Relaxed) {
                    let response = client.get("/");
                    assert_eq!((response.text(), response.header("connection")), ("x", None));
                    answered += 1;
                }
                answered
            })
        })
        .collect();
    proxies[0].await_gauge("http.test.downstream_cx_active", 8);
    for pair in proxies.windows(2) {
        let way = Way::open(&pair[0], &pair[1]);
        pair[0].await_gauge("listener.test.downstream_cx_active", 0);
        assert_eq!(way.close(&pair[0]), (8, Vec::new()));
        pair[0].drain(Phase::Serving);
    }
    stop.store(true, Ordering::Relaxed);
    let answered: u64 = clients.into_iter().map(|client| client.join().unwrap()).sum();
    let counted: u64 = proxies.iter().map(|proxy| proxy.counter("http.test.downstream_rq_total")).sum();
    assert_eq!(counted, answered);
}

/// Sends back what it gets, to the end.
fn echo() -> Origin {
    Origin::raw(|_, wire| {
        let mut socket = wire.socket;
        let mut block = [0; 4096];
        while let Ok(read @ 1..) = socket.read(&mut block) {
            socket.write_all(&block[..read]).unwrap();
        }
    })
}

#[test]
fn a_tunnel_moves_with_all_it_counts() {
    let origin = echo();
    let clusters = || vec![cluster("origin", &[origin.address])];
    let (old, new) = (tcp(clusters()), tcp(clusters()));
    let mut client = old.connect();
    client.send("one");
    assert_eq!(client.wire.bytes(3).unwrap(), b"one");
    let way = Way::open(&old, &new);
    old.await_gauge("listener.test.downstream_cx_active", 0);
    client.send("two");
    assert_eq!(client.wire.bytes(3).unwrap(), b"two");
    assert_eq!(way.close(&old), (1, Vec::new()));
    for gauge in ["cluster.origin.upstream_cx_active", "cluster.origin.upstream_rq_active"] {
        assert_eq!((old.gauge(gauge), new.gauge(gauge)), (0, 1), "{gauge}");
    }
    client.finish();
    client.assert_closed();
    new.await_gauge("listener.test.downstream_cx_active", 0);
    for counter in ["tcp.test.downstream_cx_total", "cluster.origin.upstream_cx_total"] {
        assert_eq!((old.counter(counter), new.counter(counter)), (1, 0), "{counter}");
    }
    for counter in ["cluster.origin.upstream_cx_destroy", "listener.test.downstream_cx_destroy"] {
        assert_eq!((old.counter(counter), new.counter(counter)), (0, 1), "{counter}");
    }
    assert_eq!(origin.connections(), 1);
}

#[test]
fn a_half_that_has_ended_stays_ended() {
    let origin = Origin::raw(|_, mut wire| {
        wire.socket.write_all(b"bye").unwrap();
        wire.socket.shutdown(Shutdown::Write).unwrap();
        assert_eq!(wire.rest().unwrap(), b"before after");
    });
    let clusters = || vec![cluster("origin", &[origin.address])];
    let (old, new) = (tcp(clusters()), tcp(clusters()));
    let mut client = old.connect();
    client.send("before ");
    assert_eq!(client.wire.rest().unwrap(), b"bye");
    let way = Way::open(&old, &new);
    old.await_gauge("listener.test.downstream_cx_active", 0);
    client.send("after");
    client.finish();
    new.await_gauge("listener.test.downstream_cx_active", 0);
    assert_eq!(way.close(&old), (1, Vec::new()));
}

#[test]
fn a_tunnel_is_refused_where_the_cluster_is_gone_or_full() {
    let origin = echo();
    let mut full = cluster("origin", &[origin.address]);
    full.limits.max_connections = 0;
    for (clusters, reason) in [(Vec::new(), Reason::NoCluster), (vec![full], Reason::Limit)] {
        let (old, new) = (tcp(vec![cluster("origin", &[origin.address])]), tcp(clusters));
        let mut client = old.connect();
        client.send("x");
        assert_eq!(client.wire.bytes(1).unwrap(), b"x");
        let way = Way::open(&old, &new);
        client.send("y");
        assert_eq!(client.wire.bytes(1).unwrap(), b"y");
        assert_eq!(way.close(&old), (0, vec![reason]));
        client.send("z");
        assert_eq!(client.wire.bytes(1).unwrap(), b"z");
        client.finish();
        client.assert_closed();
        old.await_gauge("cluster.origin.upstream_cx_active", 0);
        assert_eq!(old.counter("cluster.origin.upstream_cx_destroy"), 1);
        assert_eq!(new.gauge("cluster.origin.upstream_cx_active"), 0);
    }
}

#[test]
fn streams_are_whole_over_many_moves() {
    const SIZE: usize = 16 * 1024 * 1024;
    let byte = |at: usize| (at % 251) as u8;
    let send = move |mut socket: std::net::TcpStream| {
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
        let socket = wire.socket.try_clone().unwrap();
        let sender = std::thread::spawn(move || send(socket));
        check(&wire.rest().unwrap());
        sender.join().unwrap();
    });
    let clusters = || vec![cluster("origin", &[origin.address])];
    let proxies: Vec<Proxy> = (0..8).map(|_| tcp(clusters())).collect();
    let mut client = proxies[0].connect();
    let socket = client.wire.socket.try_clone().unwrap();
    let sender = std::thread::spawn(move || send(socket));
    proxies[0].await_gauge("cluster.origin.upstream_cx_active", 1);
    // Nothing is read for a while: both directions are full when the first moves come.
    for pair in proxies[..4].windows(2) {
        let way = Way::open(&pair[0], &pair[1]);
        pair[0].await_gauge("listener.test.downstream_cx_active", 0);
        assert_eq!(way.close(&pair[0]), (1, Vec::new()));
    }
    let reader = std::thread::spawn(move || check(&client.wire.rest().unwrap()));
    let mut moved = 0;
    for pair in proxies[3..].windows(2) {
        let way = Way::open(&pair[0], &pair[1]);
        pair[0].await_gauge("listener.test.downstream_cx_active", 0);
        moved += way.close(&pair[0]).0;
    }
    sender.join().unwrap();
    reader.join().unwrap();
    assert!(moved <= 4);
    drop(origin);
}

#[test]
fn a_request_that_may_be_tried_again_moves_once_its_response_has_begun() {
    let (go_on, may_go_on) = std::sync::mpsc::channel::<()>();
    let may_go_on = std::sync::Mutex::new(may_go_on);
    let origin = Origin::raw(move |number, mut wire| {
        wire.head().unwrap();
        may_go_on.lock().unwrap().recv().unwrap();
        if number == 0 {
            wire.socket.write_all(b"HTTP/1.1 503 Bad\r\ncontent-length: 3\r\n\r\nbad").unwrap();
            return;
        }
        wire.socket.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 8\r\n\r\nhalf").unwrap();
        may_go_on.lock().unwrap().recv().unwrap();
        wire.socket.write_all(b"half").unwrap();
    });
    let start = || {
        let mut route = route("/", "origin");
        if let model::RouteAction::Forward(forward) = &mut route.action {
            let tries = &mut forward.tries;
            let policy = model::RetryPolicy { on: model::RetryOn::STATUS_5XX, ..model::RetryPolicy::default() };
            *tries = Arc::new(model::Tries { policy, count_in_response: true, ..model::Tries::default() });
        }
        Proxy::start(manager(vec![route]), vec![cluster("origin", &[origin.address])])
    };
    let (from, to) = (start(), start());
    let mut client = from.connect();
    client.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n");
    from.await_gauge("cluster.origin.upstream_rq_active", 1);
    let way = Way::open(&from, &to);
    go_on.send(()).unwrap();
    from.await_counter("cluster.origin.upstream_rq_retry", 1);
    go_on.send(()).unwrap();
    let response = client.head();
    assert_eq!((response.status(), response.header("x-envoy-attempt-count")), (200, Some("2")));
    to.await_gauge("cluster.origin.upstream_rq_active", 1);
    go_on.send(()).unwrap();
    assert_eq!(client.wire.bytes(8).unwrap(), b"halfhalf");
    assert_eq!(way.close(&from), (1, Vec::new()));
    assert_eq!(from.counter("cluster.origin.upstream_rq_retry_success"), 1);
    assert_eq!(to.counter("cluster.origin.upstream_rq_retry"), 0);
    from.await_gauge("cluster.origin.circuit_breakers.default.rq_retry_open", 0);
}
