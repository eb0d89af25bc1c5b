use super::names::{CodeCounters, HttpStats, OVERFLOW, OriginStats, ServerStats};
use super::*;

fn number(store: &Store, name: &str) -> Option<u64> {
    store.segment().snapshot(|other, _| other == name).pop().map(|stat| stat.value.count())
}

#[test]
fn scopes_make_names() {
    let root = Scope::detached();
    let scope = root.scope("listener").scope("[::1]:80\n");
    scope.counter("downstream_cx_total").add(2);
    assert_eq!(number(root.store(), "listener.[__1]_80_.downstream_cx_total"), Some(2));
    let again = root.scope("listener").scope("[::1]:80\n").counter("downstream_cx_total");
    again.inc();
    assert_eq!(again.lane_value(), 3);
}

#[test]
fn threads_count_in_lanes_of_their_own() {
    let store = Store::detached();
    std::thread::scope(|scope| {
        for _ in 0..3 {
            let store = &store;
            let lane = store.lane().unwrap();
            scope.spawn(move || {
                let root = Scope::root(store, lane);
                let http = HttpStats::new(&names::http(&root, "in"));
                for status in [200, 204, 404, 999] {
                    http.downstream_rq_active.inc();
                    http.response(status);
                    http.downstream_rq_time.record(5);
                }
                http.downstream_rq_active.sub(3);
            });
        }
    });
    assert_eq!(number(&store, "http.in.downstream_rq_2xx"), Some(6));
    assert_eq!(number(&store, "http.in.downstream_rq_completed"), Some(12));
    assert_eq!(number(&store, "http.in.downstream_rq_active"), Some(3));
    assert_eq!(number(&store, "http.in.downstream_rq_time"), Some(12));
}

#[test]
fn response_codes_appear_when_they_are_first_seen() {
    let root = Scope::detached();
    let cluster = names::cluster(&root, "up");
    let codes = CodeCounters::new(&cluster);
    let origin = OriginStats::new(&cluster, "internal");
    assert_eq!(root.store().segment().snapshot(|_, _| true), []);
    for status in [200, 200, 503, 0, 600, 65535] {
        codes.record(status);
        origin.record(status, Some(1));
    }
    for prefix in ["cluster.up.", "cluster.up.internal."] {
        let shown = |name: &str| number(root.store(), &format!("{prefix}{name}"));
        assert_eq!(shown("upstream_rq_200"), Some(2));
        assert_eq!(shown("upstream_rq_2xx"), Some(2));
        assert_eq!(shown("upstream_rq_5xx"), Some(1));
        assert_eq!(shown("upstream_rq_completed"), Some(6));
        assert_eq!(shown("upstream_rq_600"), None);
    }
    assert_eq!(number(root.store(), "cluster.up.internal.upstream_rq_time"), Some(6));
}

#[test]
fn what_finds_no_room_is_counted_and_shown() {
    let geometry = Geometry { names: 40, lanes: 1, ..Geometry::small() };
    let store = Store::new(Segment::create(geometry).unwrap(), 0);
    let root = Scope::root(&store, store.lane().unwrap());
    let mut reporter = Reporter::new(&root, Vec::new());
    ServerStats::new(&root);
    assert_eq!(reporter.snapshot(|name, _| name == OVERFLOW)[0].value, Value::Number(0));
    let lost = HttpStats::new(&names::http(&root, "in"));
    lost.downstream_rq_total.inc();
    assert_eq!(lost.downstream_rq_total.lane_value(), 1, "a counter without a place still counts for itself");
    let private = Scope::root(&store, store.lane_or_private());
    private.counter(OVERFLOW).add(1000);
    let (names, lanes) = store.segment().refused();
    assert!(names > 20 && lanes == 1);
    for _ in 0..3 {
        assert_eq!(reporter.snapshot(|name, _| name == OVERFLOW)[0].value, Value::Number(names + lanes));
        reporter.flush();
    }
}

#[test]
fn intervals_are_what_the_last_flush_saw() {
    let root = Scope::detached();
    let histogram = root.histogram("time");
    let mut reporter = Reporter::new(&root, Vec::new());
    histogram.record(7);
    assert_eq!(reporter.interval("time"), []);
    reporter.flush();
    histogram.record(9);
    assert_eq!(reporter.interval("time"), [Bin { bin: 7, count: 1 }]);
    reporter.flush();
    assert_eq!(reporter.interval("time"), [Bin { bin: 9, count: 1 }]);
    reporter.flush();
    assert_eq!(reporter.interval("time"), []);
    histogram.record(9);
    root.store().segment().set_newest(1);
    reporter.flush();
    assert_eq!(reporter.interval("time"), [], "not the newest any more");
    assert_eq!(root.store().segment().take_deltas()[0].value.count(), 1, "which took nothing away from the newest");
}
