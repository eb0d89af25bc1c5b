//! Ending well: boundaries, deadlines, requests that arrive at the last moment.

use std::io::Write;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use heirloom::drain::{Phase, Plan, Strategy};

use crate::support::models::*;
use crate::support::origin::Origin;
use crate::support::proxy::Proxy;
use crate::support::{client::Client, wire::Wire};

fn to(origin: &Origin) -> Proxy {
    Proxy::start(manager(vec![route("/", "origin")]), vec![cluster("origin", &[origin.address])])
}

fn draining() -> Phase {
    Phase::Draining(Plan { started: Instant::now(), time: Duration::from_secs(600), strategy: Strategy::Immediate })
}

#[test]
fn a_draining_worker_says_close_with_the_next_response() {
    let origin = Origin::text("x");
    let proxy = to(&origin);
    let mut client = proxy.connect();
    let mut idle = proxy.connect();
    client.get("/");
    proxy.drain(draining());
    client.assert_open();
    assert_eq!(client.get("/").header("connection"), Some("close"));
    client.assert_closed();
    idle.assert_open();
    assert_eq!(idle.get("/").header("connection"), Some("close"));
    idle.assert_closed();
    assert_eq!(proxy.counter("http.test.downstream_cx_drain_close"), 2);
    proxy.await_gauge("http.test.downstream_cx_active", 0);
    assert_eq!(proxy.on_worker(|worker| worker.set.connections()), 0);
}

#[test]
fn a_drain_that_is_called_off_is_forgotten() {
    let origin = Origin::text("x");
    let proxy = to(&origin);
    let mut client = proxy.connect();
    client.get("/");
    proxy.drain(draining());
    proxy.drain(Phase::Serving);
    assert_eq!(client.get("/").header("connection"), None);
    client.assert_open();
}

#[test]
fn at_the_deadline_idle_connections_close_and_busy_ones_are_cut_and_counted() {
    let origin = Origin::raw(|_, mut wire| {
        let _ = wire.rest();
    });
    let proxy = to(&origin);
    let mut idle = proxy.connect();
    let mut busy = proxy.connect();
    busy.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n");
    let mut partial = proxy.connect();
    partial.send("GET / HT");
    proxy.await_gauge("cluster.origin.upstream_rq_active", 1);
    proxy.await_counter("listener.test.downstream_cx_total", 3);
    proxy.drain(draining());
    proxy.drain(Phase::Over);
    idle.assert_closed();
    busy.assert_closed();
    partial.assert_closed();
    proxy.await_gauge("http.test.downstream_cx_active", 0);
    assert_eq!(proxy.counter("http.test.downstream_cx_destroy_local_active_rq"), 1);
    assert_eq!(proxy.counter("http.test.downstream_cx_destroy"), 3);
    proxy.await_gauge("cluster.origin.upstream_cx_active", 0);
}

#[test]
fn a_request_that_has_arrived_at_the_deadline_is_served() {
    let origin = Origin::text("x");
    let proxy = to(&origin);
    let mut clients: Vec<_> = (0..50).map(|_| proxy.connect()).collect();
    for client in &mut clients {
        client.get("/");
    }
    // The requests reach the sockets while the worker is kept from looking.
    let sockets: Vec<TcpStream> = clients.iter().map(|client| client.wire.socket.try_clone().unwrap()).collect();
    proxy.on_worker(move |worker| {
        for mut socket in sockets {
            socket.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").unwrap();
        }
        worker.drain.set(draining());
        worker.drain.set(Phase::Over);
    });
    for client in &mut clients {
        let response = client.response();
        assert_eq!((response.text(), response.header("connection")), ("x", Some("close")));
        client.assert_closed();
    }
    proxy.await_gauge("http.test.downstream_cx_active", 0);
}

#[test]
fn stopping_leaves_connections_in_the_queue_and_accepting_again_takes_them() {
    let origin = Origin::text("x");
    let proxy = to(&origin);
    let mut before = proxy.connect();
    before.get("/");
    proxy.on_worker(|worker| worker.set.stop_accepting());
    let mut queued: Vec<Client> = (0..20).map(|_| proxy.connect()).collect();
    for client in &mut queued {
        client.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n");
    }
    queued[0].assert_open();
    assert_eq!(before.get("/").text(), "x", "who is in is served");
    assert_eq!(proxy.counter("listener.test.downstream_cx_total"), 1);
    proxy.on_worker(|worker| worker.set.accept().unwrap());
    for client in &mut queued {
        assert_eq!(client.response().text(), "x");
    }
}

#[test]
fn a_long_response_outlives_the_start_of_a_drain() {
    let origin = Origin::raw(|_, mut wire: Wire| {
        wire.head().unwrap();
        wire.socket.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 20\r\n\r\n0123456789").unwrap();
        assert_eq!(wire.rest().unwrap(), b"");
    });
    let proxy = to(&origin);
    let mut client = proxy.connect();
    client.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n");
    client.head();
    assert_eq!(client.wire.bytes(10).unwrap(), b"0123456789");
    proxy.drain(draining());
    client.assert_open();
    drop(client);
    proxy.await_gauge("http.test.downstream_cx_active", 0);
}
