//! Copies of requests for other clusters: the request itself must never notice them.

use std::io::Write;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use heirloom::config::model::*;
use heirloom::drain::Phase;

use crate::motion::Way;
use crate::support::models::*;
use crate::support::origin::{Origin, ok};
use crate::support::proxy::Proxy;
use crate::support::wire::Message;
use crate::support::{PATIENCE, eventually};

fn to(cluster: &str) -> Mirror {
    Mirror {
        cluster: MirrorCluster::Name(cluster.into()),
        fraction: None,
        host: MirrorHost::Suffix,
        mutations: Vec::new(),
    }
}

fn mirrored(change: impl FnOnce(&mut Forward)) -> Route {
    let mut route = route("/", "origin");
    if let RouteAction::Forward(forward) = &mut route.action {
        forward.mirrors = vec![to("shadow")];
        change(forward);
    }
    route
}

fn proxy(route: Route, origin: SocketAddr, shadow: SocketAddr) -> Proxy {
    Proxy::start(manager(vec![route]), vec![cluster("origin", &[origin]), cluster("shadow", &[shadow])])
}

/// A host that hands on what it is asked, and answers.
fn listening() -> (Origin, Receiver<Message>) {
    let (sender, receiver) = channel();
    let origin = Origin::http(move |request| {
        let mut copy = request.clone();
        copy.headers.sort();
        let _ = sender.send(copy);
        ok("shadow")
    });
    (origin, receiver)
}

/// A host that takes everything and answers nothing.
fn silent() -> Origin {
    Origin::raw(|_, mut wire| {
        while let Ok(Some(mut request)) = wire.head() {
            if wire.body(&mut request, false).is_err() {
                return;
            }
        }
    })
}

#[test]
fn a_copy_has_head_and_body_and_its_answer_goes_nowhere() {
    let (shadow, copies) = listening();
    let origin = Origin::text("origin");
    let proxy = proxy(mirrored(|_| ()), origin.address, shadow.address);
    let mut client = proxy.connect();
    client.send("POST /x?y=1 HTTP/1.1\r\nhost: a.example:80\r\ncontent-length: 5\r\nx-own: 1\r\n\r\nhello");
    assert_eq!(client.response().text(), "origin");
    let copy = copies.recv_timeout(PATIENCE).unwrap();
    assert_eq!((copy.line.as_str(), copy.text()), ("POST /x?y=1 HTTP/1.1", "hello"));
    assert_eq!(copy.header("host"), Some("a.example-shadow:80"));
    assert_eq!((copy.header("x-own"), copy.header("x-envoy-internal")), (Some("1"), Some("true")));
    for (name, value) in [
        ("cluster.shadow.upstream_rq_total", 1),
        ("cluster.shadow.upstream_rq_200", 1),
        ("cluster.shadow.internal.upstream_rq_200", 1),
        ("cluster.origin.upstream_rq_200", 1),
        ("http.test.downstream_rq_total", 1),
        ("http.test.downstream_rq_2xx", 1),
        ("http.test.rq_total", 1),
    ] {
        proxy.await_counter(name, value);
    }
}

#[test]
fn a_slow_copy_holds_nothing_back() {
    let shadow = silent();
    let origin = Origin::text("origin");
    let proxy = proxy(mirrored(|_| ()), origin.address, shadow.address);
    let mut client = proxy.connect();
    for _ in 0..20 {
        assert_eq!(client.get("/").text(), "origin");
    }
    assert_eq!(proxy.counter("cluster.shadow.upstream_rq_completed"), 0, "none of them has been answered");
    eventually("all are on their way", || proxy.gauge("cluster.shadow.upstream_rq_active") == 20);
}

#[test]
fn a_copy_has_the_timeout_of_its_route() {
    let shadow = silent();
    let origin = Origin::text("origin");
    let route = mirrored(|forward| forward.timeout = Some(Duration::from_millis(200)));
    let proxy = proxy(route, origin.address, shadow.address);
    assert_eq!(proxy.connect().get("/").text(), "origin");
    proxy.await_counter("cluster.shadow.upstream_rq_timeout", 1);
    proxy.await_counter("cluster.shadow.upstream_rq_504", 1);
    proxy.await_gauge("cluster.shadow.upstream_rq_active", 0);
    assert_eq!(proxy.counter("cluster.origin.upstream_rq_timeout"), 0);
}

/// An upload that the copy's host does not take: the request's own host gets all of it, and the copy is given up at the limit.
#[test]
fn a_copy_that_falls_behind_is_given_up() {
    // It reads a head and then nothing.
    let shadow = Origin::raw(|_, mut wire| {
        let _ = wire.head();
        std::thread::park_timeout(PATIENCE / 2);
    });
    let origin = Origin::http(|request| ok(&request.body.len().to_string()));
    let limit = |forward: &mut Forward| {
        forward.tries = Arc::new(Tries { body_limit: Some(64 * 1024), ..Tries::default() });
    };
    let proxy = proxy(mirrored(limit), origin.address, shadow.address);
    let mut client = proxy.connect();
    let size = 16 * 1024 * 1024;
    client.send(format!("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: {size}\r\n\r\n"));
    client.send(vec![b'x'; size]);
    assert_eq!(client.response().text(), size.to_string());
    proxy.await_counter("cluster.origin.retry_or_shadow_abandoned", 1);
    proxy.await_gauge("cluster.shadow.upstream_cx_active", 0);
}

#[test]
fn a_request_that_is_cut_cuts_its_copy() {
    let shadow = Origin::raw(|_, mut wire| {
        let Ok(Some(mut request)) = wire.head() else { return };
        assert!(wire.body(&mut request, false).is_err(), "half a request must not look like a whole one");
    });
    let origin = Origin::raw(|_, mut wire| {
        let Ok(Some(mut request)) = wire.head() else { return };
        let _ = wire.body(&mut request, false);
    });
    let proxy = proxy(mirrored(|_| ()), origin.address, shadow.address);
    let mut client = proxy.connect();
    client.send("POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n");
    eventually("the copy is on its way", || proxy.gauge("cluster.shadow.upstream_rq_active") == 1);
    drop(client);
    proxy.await_gauge("cluster.shadow.upstream_rq_active", 0);
    proxy.await_gauge("cluster.origin.upstream_rq_active", 0);
}

#[test]
fn what_is_wrong_with_a_copy_is_nobodys_business() {
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let origin = Origin::text("origin");
    let broken = Origin::raw(|_, mut wire| {
        let _ = wire.head();
        let _ = wire.socket.write_all(b"HTTP/9 what\r\n\r\n");
    });
    for (shadow, status) in [(nobody, 503), (broken.address, 502)] {
        let proxy = proxy(mirrored(|_| ()), origin.address, shadow);
        let mut client = proxy.connect();
        assert_eq!(client.get("/").text(), "origin");
        assert_eq!(client.get("/").text(), "origin", "the connection is kept");
        proxy.await_counter(&format!("cluster.shadow.internal.upstream_rq_{status}"), 2);
    }
}

#[test]
fn circuit_breakers_bound_the_copies() {
    let shadow = silent();
    let origin = Origin::text("origin");
    let limits = CircuitBreakers { max_requests: 3, ..CircuitBreakers::default() };
    let clusters =
        vec![cluster("origin", &[origin.address]), Cluster { limits, ..cluster("shadow", &[shadow.address]) }];
    let proxy = Proxy::start(manager(vec![mirrored(|_| ())]), clusters);
    let mut client = proxy.connect();
    for _ in 0..10 {
        assert_eq!(client.get("/").text(), "origin");
    }
    proxy.await_counter("cluster.shadow.upstream_rq_active_overflow", 7);
    assert_eq!(proxy.gauge("cluster.shadow.upstream_rq_active"), 3);
}

/// A connection moves while a copy of its last request is under way: the copy stays, is waited for, and ends.
#[test]
fn a_copy_keeps_no_connection_from_moving() {
    let shadow = Origin::raw(|_, mut wire| {
        let _ = wire.head();
        std::thread::park_timeout(Duration::from_millis(700));
        let _ = wire.socket.write_all(&ok("late"));
    });
    let origin = Origin::text("origin");
    let clusters = || vec![cluster("origin", &[origin.address]), cluster("shadow", &[shadow.address])];
    let old = Proxy::start(manager(vec![mirrored(|_| ())]), clusters());
    let new = Proxy::start(manager(vec![route("/", "origin")]), clusters());
    let mut client = old.connect();
    assert_eq!(client.get("/").text(), "origin");
    eventually("the copy is on its way", || old.gauge("cluster.shadow.upstream_rq_active") == 1);
    let begun = Instant::now();
    let way = Way::open(&old, &new);
    new.await_gauge("http.test.downstream_cx_active", 1);
    if begun.elapsed() < Duration::from_millis(500) {
        assert_eq!(old.gauge("cluster.shadow.upstream_rq_active"), 1, "the connection did not wait for the copy");
    }
    assert_eq!(client.get("/").text(), "origin");
    old.await_counter("cluster.shadow.upstream_rq_200", 1);
    assert_eq!(way.close(&old), (1, Vec::new()));
}

#[test]
fn the_end_of_a_drain_ends_copies() {
    let shadow = silent();
    let origin = Origin::text("origin");
    let proxy = proxy(mirrored(|_| ()), origin.address, shadow.address);
    let mut client = proxy.connect();
    assert_eq!(client.get("/").text(), "origin");
    drop(client);
    eventually("the copy is on its way", || proxy.gauge("cluster.shadow.upstream_rq_active") == 1);
    proxy.drain(Phase::Over);
    proxy.await_gauge("cluster.shadow.upstream_rq_active", 0);
}
