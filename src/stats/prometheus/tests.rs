use super::*;
use crate::stats::names::{self, CodeCounters};
use crate::stats::tags::{Rule, RuleValue};
use crate::stats::{Reporter, Scope};

#[test]
fn golden() {
    let root = Scope::detached();
    for name in ["up", "we\"ird\\n"] {
        let cluster = names::cluster(&root, name);
        CodeCounters::new(&cluster).record(200);
        cluster.gauge("upstream_cx_active").add(4);
        cluster.counter("upstream_cx_total");
    }
    root.scope("server").gauge_latest("version").set(10_376_576);
    let time = root.scope("http").scope("in").histogram("downstream_rq_time");
    for value in [0, 1, 13, 100, 109, 4_000_000] {
        time.record(value);
    }
    let reporter = Reporter::new(&root, Vec::new());
    let stats = reporter.snapshot(|name, _| name != names::OVERFLOW);
    let expected = r##"# TYPE envoy_cluster_upstream_cx_total counter
envoy_cluster_upstream_cx_total{envoy_cluster_name="up"} 0
envoy_cluster_upstream_cx_total{envoy_cluster_name="we\"ird\\n"} 0
# TYPE envoy_cluster_upstream_rq counter
envoy_cluster_upstream_rq{envoy_response_code="200",envoy_cluster_name="up"} 1
envoy_cluster_upstream_rq{envoy_response_code="200",envoy_cluster_name="we\"ird\\n"} 1
# TYPE envoy_cluster_upstream_rq_completed counter
envoy_cluster_upstream_rq_completed{envoy_cluster_name="up"} 1
envoy_cluster_upstream_rq_completed{envoy_cluster_name="we\"ird\\n"} 1
# TYPE envoy_cluster_upstream_rq_xx counter
envoy_cluster_upstream_rq_xx{envoy_response_code_class="2",envoy_cluster_name="up"} 1
envoy_cluster_upstream_rq_xx{envoy_response_code_class="2",envoy_cluster_name="we\"ird\\n"} 1
# TYPE envoy_cluster_upstream_cx_active gauge
envoy_cluster_upstream_cx_active{envoy_cluster_name="up"} 4
envoy_cluster_upstream_cx_active{envoy_cluster_name="we\"ird\\n"} 4
# TYPE envoy_server_version gauge
envoy_server_version 10376576
# TYPE envoy_http_downstream_rq_time histogram
envoy_http_downstream_rq_time_bucket{envoy_http_conn_manager_prefix="in",le="0.5"} 1
envoy_http_downstream_rq_time_bucket{envoy_http_conn_manager_prefix="in",le="1"} 2
envoy_http_downstream_rq_time_bucket{envoy_http_conn_manager_prefix="in",le="5"} 2
envoy_http_downstream_rq_time_bucket{envoy_http_conn_manager_prefix="in",le="10"} 2
envoy_http_downstream_rq_time_bucket{envoy_http_conn_manager_prefix="in",le="25"} 3
envoy_http_downstream_rq_time_bucket{envoy_http_conn_manager_prefix="in",le="50"} 3
envoy_http_downstream_rq_time_bucket{envoy_http_conn_manager_prefix="in",le="100"} 5
envoy_http_downstream_rq_time_bucket{envoy_http_conn_manager_prefix="in",le="250"} 5
envoy_http_downstream_rq_time_bucket{envoy_http_conn_manager_prefix="in",le="500"} 5
envoy_http_downstream_rq_time_bucket{envoy_http_conn_manager_prefix="in",le="1000"} 5
envoy_http_downstream_rq_time_bucket{envoy_http_conn_manager_prefix="in",le="2500"} 5
envoy_http_downstream_rq_time_bucket{envoy_http_conn_manager_prefix="in",le="5000"} 5
envoy_http_downstream_rq_time_bucket{envoy_http_conn_manager_prefix="in",le="10000"} 5
envoy_http_downstream_rq_time_bucket{envoy_http_conn_manager_prefix="in",le="30000"} 5
envoy_http_downstream_rq_time_bucket{envoy_http_conn_manager_prefix="in",le="60000"} 5
envoy_http_downstream_rq_time_bucket{envoy_http_conn_manager_prefix="in",le="300000"} 5
envoy_http_downstream_rq_time_bucket{envoy_http_conn_manager_prefix="in",le="600000"} 5
envoy_http_downstream_rq_time_bucket{envoy_http_conn_manager_prefix="in",le="1800000"} 5
envoy_http_downstream_rq_time_bucket{envoy_http_conn_manager_prefix="in",le="3600000"} 5
envoy_http_downstream_rq_time_bucket{envoy_http_conn_manager_prefix="in",le="+Inf"} 6
envoy_http_downstream_rq_time_sum{envoy_http_conn_manager_prefix="in"} 4000223
envoy_http_downstream_rq_time_count{envoy_http_conn_manager_prefix="in"} 6
"##;
    assert_eq!(render(&stats, &Tags::default()).unwrap(), expected);
}

#[test]
fn a_fixed_tag_is_on_everything() {
    let root = Scope::detached();
    root.counter("x.y-z").inc();
    let fixed = Rule { name: "data.center".to_owned(), value: RuleValue::Fixed("a\nb".to_owned()) };
    let tags = Tags::new(&[fixed], true).unwrap();
    let stats = root.store().segment().snapshot(|_, _| true);
    let expected = "# TYPE envoy_x_y_z counter\nenvoy_x_y_z{data_center=\"a\\nb\"} 1\n";
    assert_eq!(render(&stats, &tags).unwrap(), expected);
    assert_eq!(render(&[], &tags).unwrap(), "");
}
