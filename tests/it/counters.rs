//! After all is said and done the numbers must add up.

use std::net::TcpListener;

use crate::support::models::*;
use crate::support::origin::Origin;
use crate::support::proxy::Proxy;

#[test]
fn counters_add_up_over_a_mixed_load() {
    let origin = Origin::http(|request| {
        let status = request.path().trim_start_matches("/status/");
        format!("HTTP/1.1 {status} X\r\ncontent-length: 2\r\n\r\nab").into_bytes()
    });
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let proxy = Proxy::start(
        manager(vec![route("/status", "origin"), route("/dead", "dead"), direct("/direct", 302, "")]),
        vec![cluster("origin", &[origin.address]), cluster("dead", &[nobody])],
    );
    let mut sent = [0u64; 6];
    let mut clients: Vec<_> = (0..8).map(|_| proxy.connect()).collect();
    for round in 0..25 {
        for client in &mut clients {
            let path = match round % 5 {
                0 => "/status/200",
                1 => "/status/404",
                2 => "/status/503",
                3 => "/dead",
                _ => "/direct",
            };
            sent[usize::from(client.get(path).status() / 100)] += 1;
        }
    }
    drop(clients);
    proxy.await_gauge("http.test.downstream_cx_active", 0);
    proxy.await_gauge("listener.test.downstream_cx_active", 0);
    for (class, count) in sent.iter().enumerate().skip(2) {
        assert_eq!(proxy.counter(&format!("http.test.downstream_rq_{class}xx")), *count);
        assert_eq!(proxy.counter(&format!("listener.test.http.test.downstream_rq_{class}xx")), *count);
    }
    for (name, value) in [
        ("http.test.downstream_rq_total", 200),
        ("http.test.downstream_rq_http1_total", 200),
        ("http.test.downstream_rq_completed", 200),
        ("http.test.rq_total", 200),
        ("http.test.downstream_cx_total", 8),
        ("http.test.downstream_cx_destroy", 8),
        ("http.test.downstream_cx_destroy_remote", 8),
        ("listener.test.downstream_cx_total", 8),
        ("listener.test.downstream_cx_destroy", 8),
        ("listener.test.worker_0.downstream_cx_total", 8),
        ("cluster.origin.upstream_rq_total", 120),
        ("cluster.origin.upstream_rq_completed", 120),
        ("cluster.origin.upstream_rq_200", 40),
        ("cluster.origin.upstream_rq_4xx", 40),
        ("cluster.origin.external.upstream_rq_503", 40),
        ("cluster.dead.upstream_rq_503", 40),
        ("cluster.dead.upstream_cx_connect_fail", 40),
        ("cluster.dead.upstream_cx_total", 40),
    ] {
        assert_eq!(proxy.counter(name), value, "{name}");
    }
    for name in [
        "http.test.downstream_rq_active",
        "http.test.downstream_cx_http1_active",
        "cluster.origin.upstream_rq_active",
        "cluster.origin.upstream_rq_pending_active",
        "cluster.dead.upstream_cx_active",
        "listener.test.worker_0.downstream_cx_active",
    ] {
        assert_eq!(proxy.gauge(name), 0, "{name}");
    }
}

#[test]
fn bytes_are_counted_as_they_pass() {
    let origin = Origin::text("12345");
    let proxy = Proxy::start(manager(vec![route("/", "origin")]), vec![cluster("origin", &[origin.address])]);
    let mut client = proxy.connect();
    let request = "GET / HTTP/1.1\r\nhost: a\r\n\r\n";
    client.send(request);
    client.response();
    assert_eq!(proxy.counter("http.test.downstream_cx_rx_bytes_total"), request.len() as u64);
    let answer = "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n12345";
    assert_eq!(proxy.counter("cluster.origin.upstream_cx_rx_bytes_total"), answer.len() as u64);
    assert!(proxy.counter("cluster.origin.upstream_cx_tx_bytes_total") > request.len() as u64);
    assert!(proxy.counter("http.test.downstream_cx_tx_bytes_total") > answer.len() as u64);
}
