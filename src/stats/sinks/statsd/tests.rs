use std::collections::HashMap;
use std::time::Duration;

use super::*;
use crate::stats::{Reporter, Scope, Segment, Store};

struct Server {
    socket: UdpSocket,
}

impl Server {
    fn new() -> Self {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        Self { socket }
    }

    fn sink(&self) -> Vec<Box<dyn Sink>> {
        vec![Box::new(Statsd::new(self.socket.local_addr().unwrap(), "").unwrap())]
    }

    /// As many datagrams as one flush sends for these statistics; the last one carries a gauge that says so.
    fn receive(&self) -> Vec<String> {
        let mut lines = Vec::new();
        loop {
            let mut buffer = [0; 2048];
            let len = self.socket.recv(&mut buffer).unwrap();
            let line = String::from_utf8(buffer[..len].to_vec()).unwrap();
            if line.starts_with("envoy.zz_end:") {
                return lines;
            }
            lines.push(line);
        }
    }
}

#[test]
fn lines_are_envoys() {
    let server = Server::new();
    let root = Scope::detached();
    let mut reporter = Reporter::new(&root, server.sink());
    root.gauge_latest("zz_end").set(1);
    let cluster = root.scope("cluster").scope("a|b");
    cluster.counter("never");
    cluster.counter("upstream_rq_total").add(3);
    cluster.gauge("upstream_rq_active").inc();
    let time = cluster.histogram("upstream_rq_time");
    for value in [5, 5, 1234] {
        time.record(value);
    }
    for _ in 0..50 {
        time.record(77);
    }
    reporter.flush();
    let mut lines = server.receive();
    lines.sort();
    assert_eq!(
        lines,
        [
            "envoy.cluster.a_b.upstream_rq_active:1|g",
            "envoy.cluster.a_b.upstream_rq_time:1200|ms",
            "envoy.cluster.a_b.upstream_rq_time:5|ms",
            "envoy.cluster.a_b.upstream_rq_time:5|ms",
            "envoy.cluster.a_b.upstream_rq_time:77|ms|@0.02",
            "envoy.cluster.a_b.upstream_rq_total:3|c",
        ]
    );
    cluster.gauge("upstream_rq_active").dec();
    reporter.flush();
    let lines = server.receive();
    assert_eq!(
        lines,
        ["envoy.cluster.a_b.upstream_rq_active:0|g", "envoy.cluster.a_b.upstream_rq_total:0|c"],
        "a counter that was ever used goes on, with 0"
    );
}

/// Epochs follow each other, some killed between two flushes: the deltas add up to the counters.
#[test]
fn a_restart_neither_repeats_nor_skips_a_delta() {
    let server = Server::new();
    let segment = Segment::heap();
    let mut received: HashMap<String, u64> = HashMap::new();
    let mut timers = 0;
    for epoch in 0..12 {
        let store = Store::new(segment.clone(), epoch);
        let root = Scope::root(&store, store.lane().unwrap());
        let mut reporter = Reporter::new(&root, server.sink());
        segment.set_newest(epoch);
        root.gauge_latest("zz_end").set(1);
        let (counter, time) = (root.counter("requests"), root.histogram("time"));
        for flush in 0..3 {
            counter.add(epoch + flush);
            for _ in 0..epoch {
                time.record(3);
            }
            reporter.flush();
            for line in server.receive() {
                let (name, value) = line.split_once(':').unwrap();
                let (value, kind) = value.split_once('|').unwrap();
                match kind {
                    "c" => *received.entry(name.to_owned()).or_default() += value.parse::<u64>().unwrap(),
                    "ms" => timers += 1,
                    sampled => {
                        let rate: f64 = sampled.strip_prefix("ms|@").unwrap().parse().unwrap();
                        timers += (1.0 / rate).round() as u64;
                    }
                }
            }
        }
        counter.add(100);
        if epoch > 0 && epoch % 2 == 0 {
            segment.fold(epoch - 1);
            segment.fold(epoch - 2);
        }
    }
    let counted = segment.counted("requests").unwrap();
    assert_eq!(received["envoy.requests"], counted - 100, "all but what the last epoch has not flushed yet");
    let recorded: u64 = (0..12).map(|epoch| epoch * 3).sum();
    assert_eq!(timers, recorded);
}

#[test]
fn a_server_that_is_not_there_does_no_harm() {
    let gone = Server::new().sink();
    let root = Scope::detached();
    let mut reporter = Reporter::new(&root, gone);
    root.counter("requests").inc();
    for _ in 0..3 {
        reporter.flush();
    }
    assert!(Statsd::new((Ipv6Addr::LOCALHOST, 9).into(), "p").is_ok());
}
