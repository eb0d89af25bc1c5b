//! Requests that leave one worker in the middle and go on in another, as they do from epoch to epoch.
//!
//! Every journey is made moving at each step, and then once for each step with a refusal there. Client and host must not see a difference.

use std::io::Write;
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use heirloom::config::model;
use heirloom::drain::Phase;
use heirloom::drain::motion::{Frozen, Kind, Reason};
use heirloom::http::body::{Body, Frame, Source};
use heirloom::http::failure::Failure;
use heirloom::http::filter::{Answer, Extension, Filter, Next, Request};

use crate::motion::Way;
use crate::support::client::Client;
use crate::support::eventually;
use crate::support::models::*;
use crate::support::origin::Origin;
use crate::support::proxy::Proxy;
use crate::support::wire::Wire;

/// What lasts for as long as a request and its connections.
const GAUGES: [&str; 7] = [
    "listener.test.downstream_cx_active",
    "http.test.downstream_cx_active",
    "http.test.downstream_cx_http1_active",
    "http.test.downstream_rq_active",
    "cluster.origin.upstream_cx_active",
    "cluster.origin.upstream_rq_active",
    "cluster.origin.upstream_rq_pending_active",
];

/// What happens once in the life of each, wherever.
const ONCE: [&str; 7] = [
    "listener.test.downstream_cx_total",
    "http.test.downstream_cx_total",
    "http.test.downstream_rq_total",
    "cluster.origin.upstream_cx_total",
    "cluster.origin.upstream_rq_total",
    "http.test.downstream_rq_completed",
    "cluster.origin.upstream_rq_completed",
];

/// A client and a host, both in the hands of the test, and the workers that the request between them comes through.
struct Journey {
    proxies: Vec<Proxy>,
    at: usize,
    /// The steps that have been made, and the one at which nobody takes the request.
    made: usize,
    refused: Option<usize>,
    /// More than one are counted by the scenario itself.
    requests: usize,
    wires: Receiver<Wire>,
    _origin: Origin,
}

/// A host whose connections the test has in its own hands.
fn host() -> (Origin, Receiver<Wire>) {
    let (tell, wires) = channel();
    let tell = Mutex::new(tell);
    let origin = Origin::raw(move |_, wire| {
        let _ = tell.lock().unwrap().send(wire);
    });
    (origin, wires)
}

fn with_trailers(timeout: Option<Duration>) -> model::HttpConnectionManager {
    let mut config = manager(vec![route_with_timeout("/", "origin", timeout)]);
    config.http1.enable_trailers = true;
    config.http1.accept_http_10 = true;
    config
}

fn journey(steps: usize, scenario: impl Fn(&mut Journey)) {
    for refused in std::iter::once(None).chain((0..steps).map(Some)) {
        let (origin, wires) = host();
        let proxies = (0..if refused.is_none() { steps + 1 } else { 1 }).map(|_| to(&origin)).collect();
        let mut journey = Journey { proxies, at: 0, made: 0, requests: 1, refused, wires, _origin: origin };
        scenario(&mut journey);
        assert_eq!(journey.made, steps);
        if journey.requests == 1 {
            journey.is_over();
        }
    }
}

impl Journey {
    fn here(&self) -> &Proxy {
        &self.proxies[self.at]
    }

    /// The client, and the host that its request has come to.
    fn begin(&self, request: impl AsRef<[u8]>) -> (Client, Wire) {
        let mut client = self.here().connect();
        client.send(request);
        (client, self.host())
    }

    fn host(&self) -> Wire {
        self.wires.recv_timeout(crate::support::PATIENCE).unwrap()
    }

    /// Has the request go on somewhere else, or find that it cannot.
    fn step(&mut self) {
        let here = &self.proxies[self.at];
        here.await_gauge("http.test.downstream_rq_active", 1);
        here.await_gauge("cluster.origin.upstream_rq_pending_active", 0);
        let before = GAUGES.map(|gauge| here.gauge(gauge));
        self.made += 1;
        if let Some(refused) = self.refused {
            if self.made != refused + 1 {
                return;
            }
            let asked = Arc::new(AtomicUsize::new(0));
            let count = asked.clone();
            let way = Way::open_with(here, here, move |frozen| {
                assert_eq!(frozen.kind, Kind::Exchange);
                count.fetch_add(1, Ordering::Relaxed);
                Frozen { listener: "of old".into(), ..frozen }
            });
            eventually("it is offered", || asked.load(Ordering::Relaxed) == 1);
            // It goes on, and is not offered once more while the drain does.
            std::thread::park_timeout(Duration::from_millis(20));
            assert_eq!(way.close(here), (0, vec![Reason::NoListener]));
            here.drain(Phase::Serving);
            assert_eq!(GAUGES.map(|gauge| here.gauge(gauge)), before);
            return;
        }
        let next = &self.proxies[self.at + 1];
        let way = Way::open(here, next);
        here.await_gauge("listener.test.downstream_cx_active", 0);
        next.await_gauge("http.test.downstream_rq_active", 1);
        assert_eq!(GAUGES.map(|gauge| here.gauge(gauge)), [0; GAUGES.len()]);
        assert_eq!(GAUGES.map(|gauge| next.gauge(gauge)), before);
        assert_eq!(way.close(here), (1, Vec::new()));
        self.at += 1;
    }

    fn sum(&self, counter: &str) -> u64 {
        self.proxies.iter().map(|proxy| proxy.counter(counter)).sum()
    }

    /// Whatever it was, it has been counted once, and nothing of it is left anywhere.
    fn is_over(&self) {
        for gauge in ["http.test.downstream_rq_active", "cluster.origin.upstream_rq_active"] {
            self.here().await_gauge(gauge, 0);
        }
        for counter in ONCE {
            assert_eq!(self.sum(counter), 1, "{counter}");
        }
        for proxy in &self.proxies[..self.at] {
            for gauge in GAUGES {
                assert_eq!(proxy.gauge(gauge), 0, "{gauge} of one that was left");
            }
            assert_eq!(proxy.counter("http.test.downstream_cx_destroy"), 0);
            assert_eq!(proxy.counter("cluster.origin.upstream_cx_destroy"), 0);
        }
    }
}

fn chunk(data: &[u8]) -> Vec<u8> {
    [format!("{:x}\r\n", data.len()).as_bytes(), data, b"\r\n"].concat()
}

/// Reads chunks until so many bytes have come.
fn chunks(wire: &mut Wire, length: usize) -> Vec<u8> {
    let mut data = Vec::new();
    while data.len() < length {
        let (more, _) = wire.chunk().unwrap();
        assert!(!more.is_empty(), "the end after {} bytes", data.len());
        data.extend(more);
    }
    data
}

/// The byte at a position of a body.
fn byte(at: usize) -> u8 {
    ((at * 31 + at / 251) % 253) as u8
}

fn bytes(length: usize) -> Vec<u8> {
    (0..length).map(byte).collect()
}

#[test]
fn a_stream_of_events_goes_on_and_its_connections_are_kept() {
    journey(4, |journey| {
        let (mut client, mut host) = journey.begin("GET /events HTTP/1.1\r\nhost: a\r\n\r\n");
        host.head().unwrap().unwrap();
        host.socket.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").unwrap();
        assert_eq!(client.head().header("connection"), None);
        journey.step();
        host.socket.write_all(&chunk(b"data: one\n\n")).unwrap();
        assert_eq!(client.wire.chunk().unwrap().0, b"data: one\n\n");
        journey.step();
        // A part of a chunk, and then a part of a chunk's size.
        host.socket.write_all(b"14\r\n0123456789").unwrap();
        assert_eq!(chunks(&mut client.wire, 10), b"0123456789");
        journey.step();
        host.socket.write_all(b"abcdefghij\r\n0").unwrap();
        assert_eq!(chunks(&mut client.wire, 10), b"abcdefghij");
        journey.step();
        host.socket.write_all(b"005\r\nxyz..\r\n0\r\nx-end: yes\r\n\r\n").unwrap();
        assert_eq!(chunks(&mut client.wire, 5), b"xyz..");
        assert_eq!(client.wire.chunk().unwrap(), (Vec::new(), vec![("x-end".to_owned(), "yes".to_owned())]));
        journey.is_over();
        // Both connections are what they were before: the next request takes them.
        client.send("GET /next HTTP/1.1\r\nhost: a\r\n\r\n");
        assert_eq!(host.head().unwrap().unwrap().path(), "/next");
        host.socket.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").unwrap();
        assert_eq!(client.response().status(), 204);
        assert_eq!(journey.sum("cluster.origin.upstream_cx_total"), 1);
        assert_eq!(journey.sum("cluster.origin.upstream_rq_total"), 2);
        journey.requests = 2;
    });
}

#[test]
fn a_download_with_full_buffers_goes_on_byte_for_byte() {
    const SIZE: usize = 12 * 1024 * 1024;
    let body = Arc::new(bytes(SIZE));
    journey(3, |journey| {
        let (mut client, mut host) = journey.begin("GET / HTTP/1.1\r\nhost: a\r\n\r\n");
        host.head().unwrap().unwrap();
        let sent = body.clone();
        let sender = std::thread::spawn(move || {
            let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {SIZE}\r\n\r\n");
            host.socket.write_all(head.as_bytes()).unwrap();
            for part in sent.chunks(9_999) {
                host.socket.write_all(part).unwrap();
            }
            host
        });
        let paused = "cluster.origin.upstream_flow_control_paused_reading_total";
        journey.here().await_counter(paused, 1);
        journey.step();
        assert_eq!(client.head().header("content-length"), Some(&*SIZE.to_string()));
        let mut read = client.wire.bytes(1_000_000).unwrap();
        journey.step();
        read.extend(client.wire.bytes(3_333_333).unwrap());
        journey.step();
        read.extend(client.wire.bytes(SIZE - read.len()).unwrap());
        assert!(read == *body, "every byte in its place");
        drop(sender.join().unwrap());
        client.assert_open();
        let resumed = "cluster.origin.upstream_flow_control_resumed_reading_total";
        assert_eq!(journey.sum(paused), journey.sum(resumed));
    });
}

#[test]
fn a_chunked_upload_goes_on_and_so_does_its_answer() {
    journey(4, |journey| {
        let head = "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n";
        let (mut client, mut host) = journey.begin(head);
        assert!(host.head().unwrap().unwrap().chunked);
        client.send("a\r\n01234");
        assert_eq!(chunks(&mut host, 5), b"01234");
        journey.step();
        client.send("56789\r\n1");
        assert_eq!(chunks(&mut host, 5), b"56789");
        journey.step();
        // The answer begins before the upload ends.
        host.socket.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").unwrap();
        host.socket.write_all(&chunk(b"so far, so good")).unwrap();
        assert_eq!(client.head().status(), 200);
        assert_eq!(chunks(&mut client.wire, 15), b"so far, so good");
        client.send("0\r\nabcdefghijklmnop\r\n");
        assert_eq!(chunks(&mut host, 16), b"abcdefghijklmnop");
        journey.step();
        client.send("0\r\nx-sent: ");
        journey.step();
        client.send("all\r\n\r\n");
        assert_eq!(host.chunk().unwrap(), (Vec::new(), vec![("x-sent".to_owned(), "all".to_owned())]));
        host.socket.write_all(b"0\r\n\r\n").unwrap();
        assert_eq!(client.wire.chunk().unwrap().0, b"");
    });
}

#[test]
fn a_long_upload_arrives_byte_for_byte_and_is_answered_at_its_end() {
    const SIZE: usize = 12 * 1024 * 1024;
    let body = Arc::new(bytes(SIZE));
    journey(3, |journey| {
        let head = format!("PUT / HTTP/1.1\r\nhost: a\r\ncontent-length: {SIZE}\r\n\r\n");
        let (mut client, mut host) = journey.begin(head);
        assert_eq!(host.head().unwrap().unwrap().header("content-length"), Some(&*SIZE.to_string()));
        let mut socket = client.wire.socket.try_clone().unwrap();
        let sent = body.clone();
        let sender = std::thread::spawn(move || {
            for part in sent.chunks(7_777) {
                socket.write_all(part).unwrap();
            }
        });
        let paused = "http.test.downstream_flow_control_paused_reading_total";
        journey.here().await_counter(paused, 1);
        journey.step();
        let mut read = host.bytes(2_000_000).unwrap();
        journey.step();
        read.extend(host.bytes(4_444_444).unwrap());
        journey.step();
        read.extend(host.bytes(SIZE - read.len()).unwrap());
        assert!(read == *body, "every byte in its place");
        sender.join().unwrap();
        host.socket.write_all(b"HTTP/1.1 201 Created\r\ncontent-length: 4\r\n\r\ndone").unwrap();
        let response = client.response();
        assert_eq!((response.status(), response.text()), (201, "done"));
        client.assert_open();
        assert_eq!(journey.sum("http.test.downstream_flow_control_resumed_reading_total"), journey.sum(paused));
    });
}

#[test]
fn a_long_poll_is_answered_where_it_has_gone() {
    journey(3, |journey| {
        let (mut client, mut host) = journey.begin("GET /poll HTTP/1.1\r\nhost: a\r\n\r\n");
        host.head().unwrap().unwrap();
        journey.step();
        host.socket.write_all(b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\nHTTP/1.1 2").unwrap();
        assert_eq!(client.response().status(), 103);
        journey.step();
        host.socket.write_all(b"00 OK\r\ncontent-le").unwrap();
        journey.step();
        host.socket.write_all(b"ngth: 4\r\n\r\nnews").unwrap();
        let response = client.response();
        assert_eq!((response.text(), response.header("connection")), ("news", None));
        client.assert_open();
    });
}

#[test]
fn answers_without_a_body_and_those_that_end_with_the_connection() {
    // What the host sends, what the client gets of it, and whether its connection ends.
    let cases: [(&str, &str, &[u8], u16, &str, bool); 5] = [
        ("HEAD", "1.1", b"HTTP/1.1 200 OK\r\ncontent-length: 77\r\n\r\n", 200, "", false),
        ("GET", "1.1", b"HTTP/1.1 204 No Content\r\n\r\n", 204, "", false),
        ("GET", "1.1", b"HTTP/1.1 304 Not Modified\r\ncontent-length: 77\r\n\r\n", 304, "", false),
        ("GET", "1.1", b"HTTP/1.1 200 OK\r\n\r\nup to the end", 200, "up to the end", false),
        ("GET", "1.0", b"HTTP/1.1 200 OK\r\n\r\nup to the end", 200, "up to the end", true),
    ];
    for (method, version, answer, status, text, closes) in cases {
        journey(1, |journey| {
            let mut head = format!("{method} / HTTP/{version}\r\nhost: a\r\n");
            if version == "1.0" {
                head.push_str("connection: keep-alive\r\n");
            }
            let (mut client, mut host) = journey.begin(head + "\r\n");
            host.head().unwrap().unwrap();
            journey.step();
            host.socket.write_all(answer).unwrap();
            drop(host);
            let response = if method == "HEAD" { client.head() } else { client.response() };
            assert_eq!((response.status(), response.text()), (status, text));
            if closes { client.assert_closed() } else { client.assert_open() }
        });
    }
}

#[test]
fn a_body_up_to_the_end_of_the_connection_moves_in_its_middle() {
    journey(2, |journey| {
        let (mut client, mut host) = journey.begin("GET / HTTP/1.0\r\nhost: a\r\n\r\n");
        host.head().unwrap().unwrap();
        host.socket.write_all(b"HTTP/1.1 200 OK\r\n\r\none ").unwrap();
        assert_eq!(client.head().header("connection"), Some("close"));
        assert_eq!(client.wire.bytes(4).unwrap(), b"one ");
        journey.step();
        host.socket.write_all(b"two ").unwrap();
        assert_eq!(client.wire.bytes(4).unwrap(), b"two ");
        journey.step();
        host.socket.write_all(b"three").unwrap();
        drop(host);
        assert_eq!(client.wire.rest().unwrap(), b"three");
    });
}

#[test]
fn an_expectation_has_been_met_before_the_move() {
    journey(1, |journey| {
        let head = "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\nexpect: 100-continue\r\n\r\n";
        let (mut client, mut host) = journey.begin(head);
        host.head().unwrap().unwrap();
        assert_eq!(client.response().status(), 100);
        journey.step();
        client.send("hello");
        assert_eq!(host.bytes(5).unwrap(), b"hello");
        host.socket.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").unwrap();
        assert_eq!(client.response().status(), 204);
    });
}

fn to(origin: &Origin) -> Proxy {
    Proxy::start(with_trailers(None), vec![cluster("origin", &[origin.address])])
}

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
    assert_eq!(new.counter("http.test.downstream_rq_tx_reset"), 2);
    new.await_gauge("cluster.origin.upstream_cx_active", 0);
    assert_eq!(new.counter("cluster.origin.upstream_cx_destroy_with_active_rq"), 2);
}

#[test]
fn what_the_other_side_cannot_go_on_with_stays_and_its_connection_moves_later() {
    let (other, _) = host();
    let mut full = cluster("origin", &[other.address]);
    full.limits.max_connections = 0;
    let cases: [(Vec<model::Cluster>, fn(Frozen) -> Frozen, Reason); 4] = [
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
        let thawed = new.on_worker(move |worker| match worker.set.thaw(frozen) {
            Ok(thawed) if keep => Ok(thawed.begin()),
            Ok(thawed) => Ok(drop(thawed)),
            Err(reason) => Err(reason),
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
