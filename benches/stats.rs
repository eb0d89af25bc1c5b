//! What counting costs, and what reading costs.
//!
//! The budget of a count is a nanosecond; an atomic addition on the same memory stands beside it for comparison.

use std::hint::black_box;
use std::sync::atomic::{AtomicU64, Ordering};

use criterion::{Criterion, criterion_group, criterion_main};
use heirloom::stats::names::{self, ClusterStats, CodeCounters, HttpStats};
use heirloom::stats::prometheus;
use heirloom::stats::tags::Tags;
use heirloom::stats::{Geometry, Reporter, Scope, Segment, Store};

fn root() -> Scope {
    #[allow(clippy::expect_used, reason = "a bench may stop")]
    let segment = Segment::create(Geometry::default()).expect("a segment");
    let store = Store::new(segment, 0);
    let lane = store.lane_or_private();
    Scope::root(&store, lane)
}

fn counting(c: &mut Criterion) {
    let root = root();
    let counter = root.counter("counter");
    let gauge = root.gauge("gauge");
    let histogram = root.histogram("histogram");
    let codes = CodeCounters::new(&root);
    let locked = AtomicU64::new(0);
    c.bench_function("counter/inc", |b| b.iter(|| black_box(&counter).inc()));
    c.bench_function("counter/locked-for-comparison", |b| {
        b.iter(|| black_box(&locked).fetch_add(1, Ordering::Relaxed))
    });
    c.bench_function("gauge/inc-dec", |b| {
        b.iter(|| {
            black_box(&gauge).inc();
            black_box(&gauge).dec();
        });
    });
    c.bench_function("histogram/record", |b| b.iter(|| black_box(&histogram).record(black_box(1234))));
    c.bench_function("codes/record", |b| b.iter(|| black_box(&codes).record(black_box(200))));
}

fn reading(c: &mut Criterion) {
    let root = root();
    let mut reporter = Reporter::new(&root, Vec::new());
    for i in 0..20 {
        let http = HttpStats::new(&names::http(&root, &format!("http{i}")));
        http.downstream_rq_time.record(i);
        let cluster = ClusterStats::new(&names::cluster(&root, &format!("cluster{i}")));
        cluster.upstream_rq_time.record(i);
    }
    let stats = reporter.snapshot(|_, _| true);
    let tags = Tags::default();
    let size = stats.len();
    c.bench_function(&format!("snapshot/{size}"), |b| b.iter(|| reporter.snapshot(|_, _| true)));
    c.bench_function(&format!("prometheus/{size}"), |b| b.iter(|| prometheus::render(&stats, &tags)));
    c.bench_function(&format!("flush/{size}"), |b| b.iter(|| reporter.flush()));
}

criterion_group!(benches, counting, reading);
criterion_main!(benches);
