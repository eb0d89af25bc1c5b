//! Tries beside each other: a slow host does not make a slow answer, and nothing of the others is left behind.

use std::io::Write;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use heirloom::config::model::*;
use heirloom::drain::Phase;

use crate::support::PATIENCE;
use crate::support::http2::{Host, Manners};
use crate::support::models::*;
use crate::support::origin::{Origin, ok};
use crate::support::proxy::Proxy;

const PER_TRY: Duration = Duration::from_millis(100);

fn policy(retries: u32) -> RetryPolicy {
    RetryPolicy {
        on: RetryOn::STATUS_5XX,
        retries,
        per_try_timeout: Some(PER_TRY),
        base_interval: Duration::from_millis(1),
        max_interval: Duration::from_millis(1),
        ..RetryPolicy::default()
    }
}

fn proxy(retries: u32, timeout: Duration, cluster: Cluster) -> Proxy {
    let mut route = route_with_timeout("/", "origin", Some(timeout));
    if let RouteAction::Forward(forward) = &mut route.action {
        forward.tries =
            Arc::new(Tries { policy: policy(retries), hedges: true, count_in_response: true, ..Tries::default() });
    }
    Proxy::start(manager(vec![route]), vec![cluster])
}

fn to(hosts: &[SocketAddr], retries: u32) -> Proxy {
    proxy(retries, PATIENCE, cluster("origin", hosts))
}

/// The first request is answered when the second has been, or the host's patience is over; others at once, with what their body was.
fn slow_at_first() -> Origin {
    let asked = AtomicUsize::new(0);
    Origin::raw(move |_, mut wire| {
        let Ok(Some(mut request)) = wire.head() else { return };
        let number = asked.fetch_add(1, Ordering::Relaxed);
        if wire.body(&mut request, false).is_err() {
            return;
        }
        if number == 0 {
            // Until the proxy gives it up.
            let _ = wire.head();
            return;
        }
        let _ = wire.socket.write_all(&ok(&format!("{number} {}", request.body.len())));
        let _ = wire.head();
    })
}

fn nothing_is_left(proxy: &Proxy) {
    for gauge in ["upstream_rq_active", "upstream_rq_pending_active"] {
        proxy.await_gauge(&format!("cluster.origin.{gauge}"), 0);
    }
    proxy.await_gauge("cluster.origin.circuit_breakers.default.rq_retry_open", 0);
}

#[test]
fn the_second_try_answers_for_the_first() {
    let origin = slow_at_first();
    let proxy = to(&[origin.address], 1);
    let mut client = proxy.connect();
    let size = 300_000;
    client.send(format!("POST / HTTP/1.1\r\nhost: test\r\ncontent-length: {size}\r\n\r\n"));
    client.send(vec![b'x'; size]);
    let response = client.response();
    assert_eq!((response.status(), response.text()), (200, &*format!("1 {size}")));
    assert_eq!(response.header("x-envoy-attempt-count"), Some("2"));
    nothing_is_left(&proxy);
    for (name, value) in [
        ("upstream_rq_total", 2),
        ("upstream_rq_retry", 1),
        ("upstream_rq_retry_success", 1),
        ("upstream_rq_per_try_timeout", 0),
        ("upstream_rq_completed", 1),
        ("upstream_rq_200", 1),
    ] {
        assert_eq!(proxy.counter(&format!("cluster.origin.{name}")), value, "{name}");
    }
    assert_eq!(client.get("/").status(), 200, "the client's connection is kept");
}

/// The first is slow and good, the second is bad: what is good wins, late as it is.
#[test]
fn a_bad_answer_does_not_win_over_one_to_come() {
    let asked = Arc::new(AtomicUsize::new(0));
    let origin = Origin::raw({
        let asked = asked.clone();
        move |_, mut wire| {
            while let Ok(Some(_)) = wire.head() {
                if asked.fetch_add(1, Ordering::Relaxed) > 0 {
                    let _ = wire.socket.write_all(b"HTTP/1.1 503 No\r\ncontent-length: 3\r\n\r\nbad");
                    continue;
                }
                let begun = Instant::now();
                while asked.load(Ordering::Relaxed) < 2 && begun.elapsed() < PATIENCE / 2 {
                    std::thread::park_timeout(Duration::from_millis(5));
                }
                std::thread::park_timeout(Duration::from_millis(100));
                let _ = wire.socket.write_all(&ok("good"));
            }
        }
    });
    let proxy = to(&[origin.address], 1);
    let response = proxy.connect().get("/");
    assert_eq!((response.status(), response.text()), (200, "good"));
    assert_eq!(asked.load(Ordering::Relaxed), 2);
    nothing_is_left(&proxy);
}

#[test]
fn a_breaker_that_is_open_leaves_the_first_alone() {
    let origin = Origin::raw(|_, mut wire| {
        let _ = wire.head();
        std::thread::park_timeout(3 * PER_TRY);
        let _ = wire.socket.write_all(&ok("late"));
        let _ = wire.head();
    });
    let limits = CircuitBreakers { max_retries: 0, ..CircuitBreakers::default() };
    let proxy = proxy(1, PATIENCE, Cluster { limits, ..cluster("origin", &[origin.address]) });
    assert_eq!(proxy.connect().get("/").text(), "late");
    assert_eq!(proxy.counter("cluster.origin.upstream_rq_retry_overflow"), 1);
    assert_eq!(proxy.counter("cluster.origin.upstream_rq_total"), 1);
}

#[test]
fn all_of_them_end_with_the_route() {
    let origin = Origin::raw(|_, mut wire| while let Ok(Some(_)) = wire.head() {});
    let proxy = proxy(2, 5 * PER_TRY, cluster("origin", &[origin.address]));
    assert_eq!(proxy.connect().get("/").status(), 504);
    nothing_is_left(&proxy);
    assert_eq!(proxy.counter("cluster.origin.upstream_rq_total"), 3);
    assert_eq!(proxy.counter("cluster.origin.upstream_rq_timeout"), 3);
    assert_eq!(proxy.counter("cluster.origin.upstream_rq_504"), 3);
}

#[test]
fn streams_to_http2_hosts_are_hedged_and_reset() {
    let host = Host::start(Manners::default());
    let mut cluster = cluster("origin", &[host.address]);
    cluster.protocol = UpstreamProtocol::Http2(Arc::new(Http2Options::default()));
    let proxy = proxy(1, 5 * PER_TRY, cluster);
    let mut client = proxy.connect();
    client.send("POST /hang HTTP/1.1\r\nhost: test\r\ncontent-length: 5\r\n\r\nhello");
    assert_eq!(client.response().status(), 504);
    nothing_is_left(&proxy);
    assert_eq!(proxy.counter("cluster.origin.upstream_rq_total"), 2);
    assert_eq!(host.connections(), 1, "both on one connection, which goes on");
}

#[test]
fn a_client_that_leaves_ends_all_of_them() {
    let origin = Origin::raw(|_, mut wire| while let Ok(Some(_)) = wire.head() {});
    let proxy = to(&[origin.address], 1);
    let mut client = proxy.connect();
    client.send("GET / HTTP/1.1\r\nhost: test\r\n\r\n");
    proxy.await_gauge("cluster.origin.upstream_rq_active", 2);
    drop(client);
    nothing_is_left(&proxy);
}

/// A request that is tried beside itself ends where it began; at the drain's deadline all of its tries do.
#[test]
fn the_end_of_a_drain_ends_all_of_them() {
    let origin = Origin::raw(|_, mut wire| while let Ok(Some(_)) = wire.head() {});
    let proxy = to(&[origin.address], 1);
    let mut client = proxy.connect();
    client.send("GET / HTTP/1.1\r\nhost: test\r\n\r\n");
    proxy.await_gauge("cluster.origin.upstream_rq_active", 2);
    proxy.drain(Phase::Over);
    client.assert_closed();
    nothing_is_left(&proxy);
}
