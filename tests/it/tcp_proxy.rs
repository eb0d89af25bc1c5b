//! Bytes from a client to a host and back, whatever happens to either.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use heirloom::config::model;
use heirloom::drain::{Phase, Plan, Strategy};

use crate::support::eventually;
use crate::support::models::*;
use crate::support::origin::Origin;
use crate::support::proxy::Proxy;

fn proxy(proxy: model::TcpProxy, clusters: Vec<model::Cluster>) -> Proxy {
    Proxy::start_with(listener_of(model::NetworkFilter::TcpProxy(Arc::new(proxy))), clusters, &[])
}

fn to(address: SocketAddr) -> Proxy {
    proxy(tcp_proxy("origin"), vec![cluster("origin", &[address])])
}

/// Sends back what it gets, and ends when that ends.
fn echo() -> Origin {
    Origin::raw(|_, wire| {
        let mut socket = wire.socket;
        let mut block = [0; 4096];
        while let Ok(read @ 1..) = socket.read(&mut block) {
            socket.write_all(&block[..read]).unwrap();
        }
    })
}

/// An address where nobody listens.
fn nowhere() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// All that a tunnel counts is back where it was.
fn assert_settled(proxy: &Proxy) {
    proxy.await_gauge("listener.test.downstream_cx_active", 0);
    for gauge in ["upstream_cx_active", "upstream_rq_active", "upstream_rq_pending_active"] {
        proxy.await_gauge(&format!("cluster.origin.{gauge}"), 0);
    }
    for gauge in ["downstream_cx_rx_bytes_buffered", "downstream_cx_tx_bytes_buffered"] {
        proxy.await_gauge(&format!("tcp.test.{gauge}"), 0);
    }
}

#[test]
fn bytes_go_both_ways_and_are_counted() {
    let origin = echo();
    let proxy = to(origin.address);
    let mut client = proxy.connect();
    client.send("hello");
    assert_eq!(client.wire.bytes(5).unwrap(), b"hello");
    client.send(" again");
    assert_eq!(client.wire.bytes(6).unwrap(), b" again");
    proxy.await_gauge("cluster.origin.upstream_cx_active", 1);
    assert_eq!(proxy.gauge("cluster.origin.upstream_rq_active"), 1);
    client.finish();
    client.assert_closed();
    assert_settled(&proxy);
    for (counter, value) in [
        ("tcp.test.downstream_cx_total", 1),
        ("tcp.test.downstream_cx_rx_bytes_total", 11),
        ("tcp.test.downstream_cx_tx_bytes_total", 11),
        ("cluster.origin.upstream_cx_total", 1),
        ("cluster.origin.upstream_cx_tx_bytes_total", 11),
        ("cluster.origin.upstream_cx_rx_bytes_total", 11),
        ("cluster.origin.upstream_cx_destroy", 1),
        ("cluster.origin.upstream_rq_total", 1),
        ("listener.test.downstream_cx_destroy", 1),
    ] {
        assert_eq!(proxy.counter(counter), value, "{counter}");
    }
}

#[test]
fn a_client_that_has_ended_still_hears_the_answer() {
    let origin = Origin::raw(|_, mut wire| {
        let question = wire.rest().unwrap();
        wire.socket.write_all(&question).unwrap();
        wire.socket.write_all(b" heard").unwrap();
    });
    let proxy = to(origin.address);
    let mut client = proxy.connect();
    client.send("question");
    client.finish();
    assert_eq!(client.wire.rest().unwrap(), b"question heard");
    assert_settled(&proxy);
}

#[test]
fn a_host_that_has_ended_still_hears_the_client() {
    let (said, heard) = std::sync::mpsc::channel();
    let origin = Origin::raw(move |_, mut wire| {
        wire.socket.write_all(b"that is all").unwrap();
        wire.socket.shutdown(Shutdown::Write).unwrap();
        said.send(wire.rest().unwrap()).unwrap();
    });
    let proxy = to(origin.address);
    let mut client = proxy.connect();
    assert_eq!(client.wire.rest().unwrap(), b"that is all");
    client.send("but I have more");
    client.finish();
    assert_eq!(heard.recv_timeout(Duration::from_secs(10)).unwrap(), b"but I have more");
    assert_settled(&proxy);
}

#[test]
fn a_slow_reader_makes_the_other_side_wait_and_loses_nothing() {
    const SIZE: usize = 24 * 1024 * 1024;
    let byte = |at: usize| (at % 251) as u8;
    let origin = Origin::raw(move |_, mut wire| {
        let data: Vec<u8> = (0..SIZE).map(byte).collect();
        wire.socket.write_all(&data).unwrap();
    });
    let proxy = to(origin.address);
    let mut client = proxy.connect();
    eventually("the host is read no further", || {
        proxy.counter("cluster.origin.upstream_flow_control_paused_reading_total") > 0
    });
    let seen = proxy.counter("cluster.origin.upstream_cx_rx_bytes_total");
    assert!((seen as usize) < SIZE, "everything was read for a client that reads nothing");
    assert!(proxy.gauge("tcp.test.downstream_cx_tx_bytes_buffered") <= heirloom::local::BLOCK as u64);
    let received = client.wire.rest().unwrap();
    assert!(received.len() == SIZE && received.iter().enumerate().all(|(at, &one)| one == byte(at)));
    drop(client);
    assert_settled(&proxy);
}

#[test]
fn a_tunnel_in_which_nothing_moves_is_closed() {
    let origin = echo();
    let idle = model::TcpProxy { idle_timeout: Some(Duration::from_millis(80)), ..tcp_proxy("origin") };
    let proxy = proxy(idle, vec![cluster("origin", &[origin.address])]);
    let mut client = proxy.connect();
    client.send("x");
    assert_eq!(client.wire.bytes(1).unwrap(), b"x");
    client.assert_closed();
    assert_settled(&proxy);
    assert_eq!(proxy.counter("tcp.test.idle_timeout"), 1);
    assert_eq!(proxy.counter("cluster.origin.upstream_cx_destroy_local"), 1);
}

#[test]
fn a_tunnel_that_is_too_old_is_closed_though_it_is_busy() {
    let origin = Origin::raw(|_, mut wire| while wire.socket.write_all(&[7; 1024]).is_ok() {});
    let old = model::TcpProxy { max_connection_duration: Some(Duration::from_millis(80)), ..tcp_proxy("origin") };
    let proxy = proxy(old, vec![cluster("origin", &[origin.address])]);
    let mut client = proxy.connect();
    let _ = client.wire.rest();
    assert_settled(&proxy);
    assert_eq!(proxy.counter("tcp.test.max_downstream_connection_duration"), 1);
}

#[test]
fn a_host_that_refuses_is_followed_by_the_next() {
    let origin = echo();
    let twice = model::TcpProxy { max_connect_attempts: 2, ..tcp_proxy("origin") };
    let proxy = proxy(twice, vec![cluster("origin", &[nowhere(), origin.address])]);
    for _ in 0..2 {
        let mut client = proxy.connect();
        client.send("x");
        assert_eq!(client.wire.bytes(1).unwrap(), b"x");
    }
    assert_eq!(proxy.counter("cluster.origin.upstream_cx_connect_attempts_exceeded"), 0);
    assert!(proxy.counter("cluster.origin.upstream_cx_connect_fail") >= 1);
}

#[test]
fn nobody_takes_it_and_the_client_is_closed() {
    let twice = model::TcpProxy { max_connect_attempts: 2, ..tcp_proxy("origin") };
    let proxy = proxy(twice, vec![cluster("origin", &[nowhere()])]);
    proxy.connect().assert_closed();
    assert_settled(&proxy);
    assert_eq!(proxy.counter("cluster.origin.upstream_cx_total"), 2);
    assert_eq!(proxy.counter("cluster.origin.upstream_cx_connect_fail"), 2);
    assert_eq!(proxy.counter("cluster.origin.upstream_cx_connect_attempts_exceeded"), 1);
}

#[test]
fn no_cluster_no_healthy_host_and_the_client_is_closed() {
    let missing = proxy(tcp_proxy("nowhere"), Vec::new());
    missing.connect().assert_closed();
    assert_eq!(missing.counter("tcp.test.downstream_cx_no_route"), 1);

    let mut ill = cluster("origin", &[nowhere()]);
    ill.endpoints[0].healthy = false;
    let proxy = proxy(tcp_proxy("origin"), vec![ill]);
    proxy.connect().assert_closed();
    assert_settled(&proxy);
    assert_eq!(proxy.counter("cluster.origin.upstream_cx_none_healthy"), 1);
    assert_eq!(proxy.counter("cluster.origin.upstream_cx_total"), 0);
}

#[test]
fn one_connection_more_than_the_limit_is_closed() {
    let origin = echo();
    let mut narrow = cluster("origin", &[origin.address]);
    narrow.limits.max_connections = 1;
    let proxy = proxy(tcp_proxy("origin"), vec![narrow]);
    let mut first = proxy.connect();
    first.send("x");
    assert_eq!(first.wire.bytes(1).unwrap(), b"x");
    assert_eq!(proxy.gauge("cluster.origin.circuit_breakers.default.cx_open"), 1);
    proxy.connect().assert_closed();
    assert_eq!(proxy.counter("cluster.origin.upstream_cx_overflow"), 1);
    drop(first);
    assert_settled(&proxy);
    let mut third = proxy.connect();
    third.send("y");
    assert_eq!(third.wire.bytes(1).unwrap(), b"y");
}

#[test]
fn a_reset_is_passed_on() {
    let origin = Origin::raw(|_, mut wire| {
        wire.bytes(1).unwrap();
        socket2::SockRef::from(&wire.socket).set_linger(Some(Duration::ZERO)).unwrap();
    });
    let proxy = to(origin.address);
    let mut client = proxy.connect();
    client.send("x");
    let error = client.wire.rest().unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    assert_settled(&proxy);
    assert_eq!(proxy.counter("cluster.origin.upstream_cx_destroy_remote"), 1);
}

#[test]
fn a_drain_leaves_a_tunnel_alone_until_its_deadline() {
    let origin = echo();
    let proxy = to(origin.address);
    let mut client = proxy.connect();
    client.send("x");
    assert_eq!(client.wire.bytes(1).unwrap(), b"x");
    let plan =
        Plan { started: std::time::Instant::now(), time: Duration::from_secs(600), strategy: Strategy::Immediate };
    proxy.drain(Phase::Draining(plan));
    client.send("y");
    assert_eq!(client.wire.bytes(1).unwrap(), b"y");
    client.assert_open();
    proxy.drain(Phase::Over);
    client.assert_closed();
    assert_settled(&proxy);
}
