//! Circuit breakers, and the queue in front of them.

use std::io::Write;
use std::sync::{Arc, Condvar, Mutex};

use heirloom::config::model::{CircuitBreakers, Cluster, RouteAction};

use crate::support::models::*;
use crate::support::origin::{Origin, ok};
use crate::support::proxy::Proxy;

/// An origin that answers only once the gate is open.
struct Gate {
    open: Mutex<bool>,
    changed: Condvar,
}

impl Gate {
    fn origin() -> (Arc<Self>, Origin) {
        let gate = Arc::new(Self { open: Mutex::new(false), changed: Condvar::new() });
        let origin = Origin::http({
            let gate = gate.clone();
            move |_| {
                let guard = gate.open.lock().unwrap();
                let (guard, timeout) =
                    gate.changed.wait_timeout_while(guard, crate::support::PATIENCE, |open| !*open).unwrap();
                assert!(!timeout.timed_out());
                drop(guard);
                ok("through")
            }
        });
        (gate, origin)
    }

    fn open(&self) {
        *self.open.lock().unwrap() = true;
        self.changed.notify_all();
    }
}

fn with(origin: &Origin, limits: CircuitBreakers) -> Proxy {
    let mut limited = cluster("origin", &[origin.address]);
    limited.limits = limits;
    Proxy::start(manager(vec![route("/", "origin")]), vec![limited])
}

const OVERFLOW: &str = "upstream connect error or disconnect/reset before headers. reset reason: overflow";

#[test]
fn requests_above_the_limit_overflow() {
    let (gate, origin) = Gate::origin();
    let proxy = with(&origin, CircuitBreakers { max_requests: 2, ..CircuitBreakers::default() });
    let mut clients: Vec<_> = (0..2).map(|_| proxy.connect()).collect();
    for client in &mut clients {
        client.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n");
    }
    proxy.await_gauge("cluster.origin.upstream_rq_active", 2);
    assert_eq!(proxy.gauge("cluster.origin.circuit_breakers.default.rq_open"), 1);
    let response = proxy.connect().get("/");
    assert_eq!((response.status(), response.text()), (503, OVERFLOW));
    assert_eq!(response.header("x-envoy-overloaded"), Some("true"));
    assert_eq!(proxy.counter("cluster.origin.upstream_rq_active_overflow"), 1);
    gate.open();
    for client in &mut clients {
        assert_eq!(client.response().text(), "through");
    }
    assert_eq!(proxy.gauge("cluster.origin.circuit_breakers.default.rq_open"), 0);
    assert_eq!(proxy.connect().get("/").text(), "through");
}

#[test]
fn requests_above_the_connections_wait_in_a_bounded_queue() {
    let (gate, origin) = Gate::origin();
    let limits = CircuitBreakers { max_connections: 2, max_pending_requests: 3, ..CircuitBreakers::default() };
    let proxy = with(&origin, limits);
    let mut clients: Vec<_> = (0..5).map(|_| proxy.connect()).collect();
    for (at, client) in clients.iter_mut().enumerate() {
        client.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n");
        proxy.await_counter("cluster.origin.upstream_rq_pending_total", at as u64 + 1);
    }
    proxy.await_gauge("cluster.origin.upstream_rq_active", 2);
    proxy.await_gauge("cluster.origin.upstream_rq_pending_active", 3);
    assert_eq!(proxy.gauge("cluster.origin.circuit_breakers.default.cx_open"), 1);
    assert_eq!(proxy.gauge("cluster.origin.circuit_breakers.default.rq_pending_open"), 1);
    let response = proxy.connect().get("/");
    assert_eq!((response.status(), response.text()), (503, OVERFLOW));
    assert_eq!(proxy.counter("cluster.origin.upstream_rq_pending_overflow"), 1);
    assert!(proxy.counter("cluster.origin.upstream_cx_overflow") >= 3);
    // One who waits gives up; the others get the connections as they become free.
    drop(clients.pop());
    proxy.await_gauge("cluster.origin.upstream_rq_pending_active", 2);
    assert_eq!(proxy.counter("cluster.origin.upstream_rq_cancelled"), 1);
    gate.open();
    for client in &mut clients {
        assert_eq!(client.response().text(), "through");
    }
    assert_eq!(origin.connections(), 2);
    assert_eq!(proxy.gauge("cluster.origin.upstream_rq_pending_active"), 0);
}

#[test]
fn a_waiting_request_gets_the_place_of_a_connection_that_closes() {
    let origin = Origin::raw(|number, mut wire| {
        wire.head().unwrap();
        if number == 0 {
            // Until the second request waits for our place.
            wire.bytes(4).unwrap();
        }
        wire.socket.write_all(b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok").unwrap();
    });
    let limits = CircuitBreakers { max_connections: 1, ..CircuitBreakers::default() };
    let proxy = with(&origin, limits);
    let mut first = proxy.connect();
    first.send("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 4\r\n\r\n");
    proxy.await_gauge("cluster.origin.upstream_rq_active", 1);
    let mut second = proxy.connect();
    second.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n");
    proxy.await_gauge("cluster.origin.upstream_rq_pending_active", 1);
    first.send("done");
    assert_eq!(first.response().text(), "ok");
    assert_eq!(second.response().text(), "ok");
    assert_eq!(origin.connections(), 2);
}

#[test]
fn upstream_connections_serve_their_limit_of_requests() {
    let origin = Origin::text("x");
    let mut limited = cluster("origin", &[origin.address]);
    limited.max_requests_per_connection = 2;
    let proxy = Proxy::start(manager(vec![route("/", "origin")]), vec![limited]);
    let mut client = proxy.connect();
    for _ in 0..6 {
        client.get("/");
    }
    assert_eq!(origin.connections(), 3);
    assert_eq!(proxy.counter("cluster.origin.upstream_cx_max_requests"), 3);
}

/// Requests of high priority have limits of their own, and connections: what is full for the others is not for them.
#[test]
fn the_high_priority_has_limits_of_its_own() {
    let origin = Origin::raw(|_, mut wire| {
        while let Ok(Some(request)) = wire.head() {
            if request.path() != "/wait" {
                let _ = wire.socket.write_all(&ok("x"));
            }
        }
    });
    let mut high = route("/high", "origin");
    if let RouteAction::Forward(forward) = &mut high.action {
        forward.high_priority = true;
    }
    let one = CircuitBreakers { max_requests: 1, ..CircuitBreakers::default() };
    let cluster = Cluster { limits: one, high_limits: one, ..cluster("origin", &[origin.address]) };
    let proxy = Proxy::start(manager(vec![high, route("/", "origin")]), vec![cluster]);
    let gauge = |priority: &str, name: &str| proxy.gauge(&format!("cluster.origin.circuit_breakers.{priority}.{name}"));
    let (mut waiting, mut client) = (proxy.connect(), proxy.connect());
    waiting.send("GET /wait HTTP/1.1\r\nhost: test\r\n\r\n");
    proxy.await_gauge("cluster.origin.circuit_breakers.default.rq_open", 1);
    assert_eq!(client.get("/").status(), 503);
    assert_eq!(client.get("/high").status(), 200);
    assert_eq!(client.get("/high").status(), 200);
    assert_eq!(gauge("high", "rq_open"), 0);
    assert_eq!(proxy.counter("cluster.origin.upstream_rq_active_overflow"), 1);
    assert_eq!(
        proxy.counter("cluster.origin.upstream_cx_total"),
        3,
        "one was made and then not used, one is the high priority's"
    );
    drop(waiting);
    proxy.await_gauge("cluster.origin.upstream_rq_active", 0);
}
