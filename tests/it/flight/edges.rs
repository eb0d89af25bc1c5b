//! What lies around the middle of a request: what comes behind it, what fails, what cannot move.

use std::io::Write;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::time::Duration;

use heirloom::config::model;
use heirloom::drain::motion::{Frozen, Kind, Reason};
use heirloom::http::body::{Body, Frame, Source};
use heirloom::http::failure::Failure;
use heirloom::http::filter::{Answer, Extension, Filter, Next, Request};

use super::journey::{GAUGES, host, to, with_trailers};
use crate::motion::Way;
use crate::support::eventually;
use crate::support::models::*;
use crate::support::origin::Origin;
use crate::support::proxy::Proxy;

#[test]
fn what_was_sent_behind_the_request_is_served_behind_it() {
    let (origin, wires) = host();
    let (old, new) = (to(&origin), to(&origin));
    let mut client = old.connect();
    // The second request is read ahead and moves as bytes; of the third there is only the beginning.
    client.send("GET /1 HTTP/1.1\r\nhost: a\r\n\r\nGET /2 HTTP/1.1\r\nhost: a\r\n\r\nGET /3 HT");
    let mut host = wires.recv().unwrap();
    assert_eq!(host.head().unwrap().unwrap().path(), "/1");
    let way = Way::open(&old, &new);
    old.await_gauge("listener.test.downstream_cx_active", 0);
    let mut answer = |path: &str, head: bool| {
        if head {
            assert_eq!(host.head().unwrap().unwrap().path(), path);
        }
        host.socket.write_all(format!("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{path}").as_bytes()).unwrap();
    };
    answer("/1", false);
    answer("/2", true);
    assert_eq!((client.response().text(), client.response().text()), ("/1", "/2"));
    client.send("TP/1.1\r\nhost: a\r\n\r\n");
    answer("/3", true);
    assert_eq!(client.response().text(), "/3");
    assert_eq!(way.close(&old), (1, Vec::new()));
    let counted = [&old, &new].map(|proxy| proxy.counter("http.test.downstream_rq_total"));
    assert_eq!(counted, [1, 2]);
    assert_eq!(origin.connections(), 1);
}

#[test]
fn a_kept_connection_that_dies_behind_the_move_is_made_up_for() {
    let (origin, wires) = host();
    let (old, new) = (to(&origin), to(&origin));
    let mut client = old.connect();
    client.send("GET /1 HTTP/1.1\r\nhost: a\r\n\r\n");
    let mut host = wires.recv().unwrap();
    host.head().unwrap().unwrap();
    host.socket.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").unwrap();
    client.response();
    client.send("GET /2 HTTP/1.1\r\nhost: a\r\nx-mark: kept\r\n\r\n");
    host.head().unwrap().unwrap();
    let way = Way::open(&old, &new);
    old.await_gauge("listener.test.downstream_cx_active", 0);
    drop(host);
    let mut host = wires.recv_timeout(crate::support::PATIENCE).unwrap();
    let request = host.head().unwrap().unwrap();
    assert_eq!((request.path(), request.header("x-mark")), ("/2", Some("kept")));
    host.socket.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\nx").unwrap();
    assert_eq!(client.response().text(), "x");
    assert_eq!(way.close(&old), (1, Vec::new()));
}

#[test]
fn the_route_s_timeout_goes_on_behind_the_move() {
    let (origin, wires) = host();
    let start = |timeout| Proxy::start(with_trailers(Some(timeout)), vec![cluster("origin", &[origin.address])]);
    let (old, new) = (start(Duration::from_millis(500)), start(Duration::from_secs(3600)));
    let mut client = old.connect();
    client.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n");
    let mut host = wires.recv().unwrap();
    host.head().unwrap().unwrap();
    let way = Way::open(&old, &new);
    old.await_gauge("listener.test.downstream_cx_active", 0);
    let response = client.response();
    assert_eq!((response.status(), response.text()), (504, "upstream request timeout"));
    assert_eq!(way.close(&old), (1, Vec::new()));
    assert_eq!(new.counter("cluster.origin.upstream_rq_timeout"), 1);
    new.await_gauge("cluster.origin.upstream_rq_active", 0);
    client.assert_open();
}

#[test]
fn a_client_that_leaves_and_a_host_that_breaks_are_noticed_behind_the_move() {
    let (origin, wires) = host();
    let (old, new) = (to(&origin), to(&origin));
    let begin = || {
        let mut client = old.connect();
        client.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n");
        let mut host = wires.recv().unwrap();
        host.head().unwrap().unwrap();
        host.socket.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nabc").unwrap();
        client.head();
        assert_eq!(client.wire.bytes(3).unwrap(), b"abc");
        (client, host)
    };
    let ((leaver, mut left), (mut client, breaker)) = (begin(), begin());
    let way = Way::open(&old, &new);
    old.await_gauge("listener.test.downstream_cx_active", 0);
    drop(leaver);
    assert!(left.rest().is_ok_and(|rest| rest.is_empty()));
    drop(breaker);
    client.assert_closed();
    assert_eq!(way.close(&old), (2, Vec::new()));
    new.await_gauge("http.test.downstream_rq_active", 0);
    assert_eq!(new.counter("http.test.downstream_rq_rx_reset"), 1);
    assert_eq!(new.counter("http.test.downstream_rq_tx_reset"), 1, "to who has gone nothing is said");
    new.await_gauge("cluster.origin.upstream_cx_active", 0);
    assert_eq!(new.counter("cluster.origin.upstream_cx_destroy_with_active_rq"), 2);
}

#[test]
fn what_the_other_side_cannot_go_on_with_stays_and_its_connection_moves_later() {
    let (other, _) = host();
    let mut full = cluster("origin", &[other.address]);
    full.limits.max_connections = 0;
    type Change = fn(Frozen) -> Frozen;
    let cases: [(Vec<model::Cluster>, Change, Reason); 4] = [
        (Vec::new(), |frozen| frozen, Reason::NoCluster),
        (vec![full], |frozen| frozen, Reason::Limit),
        (vec![cluster("origin", &[other.address])], spoil, Reason::Record),
        (vec![cluster("origin", &[other.address])], without_host, Reason::Record),
    ];
    for (clusters, change, reason) in cases {
        let (origin, wires) = host();
        let (old, new) = (to(&origin), Proxy::start(with_trailers(None), clusters));
        let mut client = old.connect();
        client.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n");
        let mut host = wires.recv().unwrap();
        host.head().unwrap().unwrap();
        let refused = Arc::new(AtomicUsize::new(0));
        let count = refused.clone();
        let way = Way::open_with(&old, &new, move |frozen| match frozen.kind {
            Kind::Exchange => {
                count.fetch_add(1, Ordering::Relaxed);
                change(frozen)
            }
            _ => frozen,
        });
        eventually("it is offered", || refused.load(Ordering::Relaxed) == 1);
        host.socket.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nab").unwrap();
        assert_eq!(client.head().header("connection"), None);
        host.socket.write_all(b"cde").unwrap();
        assert_eq!(client.wire.bytes(5).unwrap(), b"abcde");
        old.await_gauge("listener.test.downstream_cx_active", 0);
        new.await_gauge("listener.test.downstream_cx_active", 1);
        assert_eq!(way.close(&old), (1, vec![reason]));
        for gauge in ["http.test.downstream_rq_active", "cluster.origin.upstream_cx_active"] {
            assert_eq!(new.gauge(gauge), 0, "{gauge} after {reason:?}");
        }
        assert_eq!(old.gauge("http.test.downstream_rq_active"), 0);
        assert_eq!(new.counter("cluster.origin.upstream_cx_destroy"), 0);
        client.assert_open();
    }
}

fn spoil(frozen: Frozen) -> Frozen {
    Frozen { record: vec![0xff; 7], ..frozen }
}

fn without_host(mut frozen: Frozen) -> Frozen {
    frozen.sockets.truncate(1);
    frozen
}

#[test]
fn a_record_that_is_cut_or_changed_anywhere_is_refused_or_gone_on_with() {
    let (origin, wires) = host();
    let (old, new) = (to(&origin), to(&origin));
    let mut client = old.connect();
    client.send("POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n5\r\nab");
    let mut host = wires.recv().unwrap();
    host.head().unwrap().unwrap();
    host.socket.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nxy").unwrap();
    client.head();
    let (tell, records) = channel();
    let way = Way::open_with(&old, &new, move |frozen| {
        tell.send(frozen.record.clone()).unwrap();
        Frozen { listener: "of old".into(), ..frozen }
    });
    let record = records.recv_timeout(crate::support::PATIENCE).unwrap();
    way.close(&old);
    let (mut taken, mut refused) = (0, 0);
    let lengths = (0..record.len()).map(|length| record[..length].to_vec());
    let changed = (0..record.len()).flat_map(|at| {
        [0x01, 0x80, 0xff].map(|bits| {
            let mut record = record.clone();
            record[at] ^= bits;
            record
        })
    });
    for record in lengths.chain(changed) {
        let socket = || std::os::fd::OwnedFd::from(std::os::unix::net::UnixStream::pair().unwrap().0);
        let frozen = Frozen {
            kind: Kind::Exchange,
            listener: "test".into(),
            peer: None,
            local: None,
            age: Duration::ZERO,
            sockets: vec![socket(), socket()],
            record,
        };
        // Work that is dropped instead of begun leaves nothing behind; what is begun ends with its peers, which are gone.
        let keep = taken % 2 == 0;
        let thawed = new.on_worker(move |worker| {
            let thawed = worker.set.thaw(frozen)?;
            if keep {
                thawed.begin();
            }
            Ok::<(), Reason>(())
        });
        match thawed {
            Ok(()) => taken += 1,
            Err(_) => refused += 1,
        }
    }
    assert!(taken > 0 && refused > 0, "{taken} taken, {refused} refused");
    for gauge in &GAUGES {
        new.await_gauge(gauge, 0);
    }
    assert_eq!(new.counter("cluster.origin.upstream_cx_total"), 0);
}

#[test]
fn a_host_that_the_cluster_has_no_more_is_kept_for_its_request_alone() {
    let (origin, wires) = host();
    let other = Origin::text("from the other");
    let (old, new) = (to(&origin), to(&other));
    let mut client = old.connect();
    client.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n");
    let mut host = wires.recv().unwrap();
    host.head().unwrap().unwrap();
    let way = Way::open(&old, &new);
    old.await_gauge("listener.test.downstream_cx_active", 0);
    host.socket.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 8\r\n\r\nfrom old").unwrap();
    assert_eq!(client.response().text(), "from old");
    assert!(host.rest().is_ok_and(|rest| rest.is_empty()), "closed when the request is over");
    assert_eq!(client.get("/").text(), "from the other");
    assert_eq!(way.close(&old), (1, Vec::new()));
    assert_eq!(new.counter("cluster.origin.upstream_cx_destroy"), 1);
    assert_eq!(new.gauge("cluster.origin.upstream_cx_active"), 1);
}

static PASSES: [Extension; 1] = [Extension { kind: filter_kind("test.Filter"), build: |_| Ok(Rc::new(Passes)) }];
static WRAPS: [Extension; 1] = [Extension { kind: filter_kind("test.Filter"), build: |_| Ok(Rc::new(Wraps)) }];

/// Changes the request and has nothing to do with the response.
struct Passes;

impl Filter for Passes {
    fn call<'a>(&'a self, mut request: Request<'a>, next: Next<'a>) -> Answer<'a> {
        request.head.headers.append("x-passed".parse().unwrap(), "1".parse().unwrap());
        next.run(request)
    }
}

/// Is between the host and the client to the last byte.
struct Wraps;

impl Filter for Wraps {
    fn call<'a>(&'a self, request: Request<'a>, next: Next<'a>) -> Answer<'a> {
        Answer::later(async move {
            let mut response = next.run(request).await?;
            response.body = Body::Other(Box::new(Wrapped(response.body)));
            Ok(response)
        })
    }
}

struct Wrapped<'a>(Body<'a>);

impl Source for Wrapped<'_> {
    fn poll_frame(&mut self, context: &mut std::task::Context<'_>) -> std::task::Poll<Result<Frame, Failure>> {
        self.0.poll_frame(context)
    }

    fn length(&self) -> Option<u64> {
        self.0.length()
    }
}

#[test]
fn a_filter_that_has_nothing_left_to_do_does_not_hinder_and_one_that_has_does() {
    for (filters, moves) in [(&PASSES, true), (&WRAPS, false)] {
        let (origin, wires) = host();
        let start = || {
            let mut config = with_trailers(None);
            config.http_filters = crate::support::models::filters(&["test.Filter"; 2]);
            Proxy::start_with(listener(config), vec![cluster("origin", &[origin.address])], filters)
        };
        let (old, new) = (start(), start());
        let mut client = old.connect();
        client.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n");
        let mut host = wires.recv().unwrap();
        host.head().unwrap().unwrap();
        let way = Way::open(&old, &new);
        if moves {
            old.await_gauge("listener.test.downstream_cx_active", 0);
        } else {
            client.assert_open();
        }
        host.socket.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nab").unwrap();
        assert_eq!(client.head().header("connection"), None);
        assert_eq!(client.wire.bytes(2).unwrap(), b"ab");
        client.assert_open();
        assert_eq!(old.gauge("http.test.downstream_rq_active"), u64::from(!moves));
        host.socket.write_all(b"cd").unwrap();
        assert_eq!(client.wire.bytes(2).unwrap(), b"cd");
        old.await_gauge("listener.test.downstream_cx_active", 0);
        assert_eq!(way.close(&old), (1, Vec::new()), "in the middle or behind its end");
        client.assert_open();
    }
}
