//! A request between a client and a host that are both in the hands of the test, and the workers that it comes through.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use heirloom::config::model;
use heirloom::drain::Phase;
use heirloom::drain::motion::{Frozen, Kind, Reason};

use crate::motion::Way;
use crate::support::client::Client;
use crate::support::eventually;
use crate::support::models::*;
use crate::support::origin::Origin;
use crate::support::proxy::Proxy;
use crate::support::wire::Wire;

/// What lasts for as long as a request and its connections.
pub(super) const GAUGES: [&str; 7] = [
    "listener.test.downstream_cx_active",
    "http.test.downstream_cx_active",
    "http.test.downstream_cx_http1_active",
    "http.test.downstream_rq_active",
    "cluster.origin.upstream_cx_active",
    "cluster.origin.upstream_rq_active",
    "cluster.origin.upstream_rq_pending_active",
];

/// What happens once in the life of each, wherever.
pub(super) const ONCE: [&str; 7] = [
    "listener.test.downstream_cx_total",
    "http.test.downstream_cx_total",
    "http.test.downstream_rq_total",
    "cluster.origin.upstream_cx_total",
    "cluster.origin.upstream_rq_total",
    "http.test.downstream_rq_completed",
    "cluster.origin.upstream_rq_completed",
];

/// A client and a host, both in the hands of the test, and the workers that the request between them comes through.
pub(super) struct Journey {
    proxies: Vec<Proxy>,
    at: usize,
    /// The steps that have been made, and the one at which nobody takes the request.
    made: usize,
    refused: Option<usize>,
    /// More than one are counted by the scenario itself.
    pub(super) requests: usize,
    wires: Receiver<Wire>,
    _origin: Origin,
}

/// A host whose connections the test has in its own hands.
pub(super) fn host() -> (Origin, Receiver<Wire>) {
    let (tell, wires) = channel();
    let tell = Mutex::new(tell);
    let origin = Origin::raw(move |_, wire| {
        let _ = tell.lock().unwrap().send(wire);
    });
    (origin, wires)
}

pub(super) fn with_trailers(timeout: Option<Duration>) -> model::HttpConnectionManager {
    let mut config = manager(vec![route_with_timeout("/", "origin", timeout)]);
    config.http1.enable_trailers = true;
    config.http1.accept_http_10 = true;
    config
}

pub(super) fn journey(steps: usize, scenario: impl Fn(&mut Journey)) {
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
    pub(super) fn here(&self) -> &Proxy {
        &self.proxies[self.at]
    }

    /// The client, and the host that its request has come to.
    pub(super) fn begin(&self, request: impl AsRef<[u8]>) -> (Client, Wire) {
        let mut client = self.here().connect();
        client.send(request);
        (client, self.host())
    }

    pub(super) fn host(&self) -> Wire {
        self.wires.recv_timeout(crate::support::PATIENCE).unwrap()
    }

    /// Has the request go on somewhere else, or find that it cannot.
    pub(super) fn step(&mut self) {
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

    pub(super) fn sum(&self, counter: &str) -> u64 {
        self.proxies.iter().map(|proxy| proxy.counter(counter)).sum()
    }

    /// Whatever it was, it has been counted once, and nothing of it is left anywhere.
    pub(super) fn is_over(&self) {
        for gauge in ["http.test.downstream_rq_active", "cluster.origin.upstream_rq_active"] {
            self.here().await_gauge(gauge, 0);
        }
        for counter in ONCE {
            // A 100 is a response too, our own and a host's.
            let interim = match counter.strip_suffix("rq_completed") {
                Some(of) => self.sum(&format!("{of}rq_1xx")),
                None => 0,
            };
            assert_eq!(self.sum(counter), 1 + interim, "{counter}");
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

pub(super) fn chunk(data: &[u8]) -> Vec<u8> {
    [format!("{:x}\r\n", data.len()).as_bytes(), data, b"\r\n"].concat()
}

/// Reads chunks until so many bytes have come.
pub(super) fn chunks(wire: &mut Wire, length: usize) -> Vec<u8> {
    let mut data = Vec::new();
    while data.len() < length {
        let (more, _) = wire.chunk().unwrap();
        assert!(!more.is_empty(), "the end after {} bytes", data.len());
        data.extend(more);
    }
    data
}

/// The byte at a position of a body.
pub(super) fn byte(at: usize) -> u8 {
    ((at * 31 + at / 251) % 253) as u8
}

pub(super) fn bytes(length: usize) -> Vec<u8> {
    (0..length).map(byte).collect()
}

pub(super) fn to(origin: &Origin) -> Proxy {
    Proxy::start(with_trailers(None), vec![cluster("origin", &[origin.address])])
}
