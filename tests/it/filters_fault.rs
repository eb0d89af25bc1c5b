//! The `fault` filter: what it delays, aborts and slows down.

use std::time::{Duration, Instant};

use crate::support::configured::{faults, place, start, text};
use crate::support::http2::{ask, connect, run};
use crate::support::origin::{Origin, ok};

const ALL: &str = "percentage: { numerator: 100 }";

fn filter() -> String {
    format!(
        r#"
- name: fault
  typed_config:
    "@": fault.v3.HTTPFault
    abort: {{ header_abort: {{}}, {ALL} }}
    delay: {{ header_delay: {{}}, percentage: {{ numerator: 50 }} }}
    response_rate_limit: {{ header_limit: {{}}, {ALL} }}
    headers: [{{ name: x-spare, present_match: false }}]
    upstream_cluster: origin
"#
    )
}

fn host() -> String {
    let mut routes = "routes:\n".to_owned();
    for (path, fault) in [
        ("/both", format!("abort: {{ http_status: 503, {ALL} }}, delay: {{ fixed_delay: 0.05s, {ALL} }}")),
        ("/none", format!("max_active_faults: 0, abort: {{ http_status: 503, {ALL} }}")),
        ("/one", format!("max_active_faults: 1, delay: {{ fixed_delay: 3600s, {ALL} }}")),
        ("/grpc", format!("abort: {{ grpc_status: 5, {ALL} }}")),
        ("/body", format!("abort: {{ http_status: 500, response_body: own, {ALL} }}")),
        ("/slow", format!("response_rate_limit: {{ fixed_limit: {{ limit_kbps: 1 }}, {ALL} }}")),
        ("/node", format!("abort: {{ http_status: 500, {ALL} }}, downstream_nodes: [n1]")),
        ("/elsewhere", format!("abort: {{ http_status: 500, {ALL} }}, upstream_cluster: nobody")),
        ("/never", "abort: { http_status: 500, percentage: { numerator: 0 } }".to_owned()),
    ] {
        routes += &format!(
            "- match: {{ prefix: {path} }}\n  route: {{ cluster: origin }}\n  typed_per_filter_config: {{ fault: {{ \"@\": fault.v3.HTTPFault, {fault} }} }}\n"
        );
    }
    routes + "- match: { prefix: / }\n  route: { cluster: origin }\n"
}

#[test]
fn requests_are_aborted_as_is_said() {
    let origin = Origin::text("here");
    let proxy = start(text(&filter(), &host(), origin.address));
    let mut client = proxy.connect();
    for (path, headers, status, expected) in [
        ("/", "", 200, "here"),
        ("/", "x-envoy-fault-abort-request: 418\r\n", 418, "fault filter abort"),
        ("/", "x-envoy-fault-abort-request: 418\r\nx-spare: 1\r\n", 200, "here"),
        ("/", "x-envoy-fault-abort-request: 999\r\n", 200, "here"),
        ("/", "x-envoy-fault-abort-request: x\r\n", 200, "here"),
        ("/", "x-envoy-fault-abort-request: 418\r\nx-envoy-fault-abort-request-percentage: 0\r\n", 200, "here"),
        ("/both", "", 503, "fault filter abort"),
        ("/none", "", 200, "here"),
        ("/grpc", "", 200, "fault filter abort"),
        ("/body", "", 500, "own"),
        ("/node", "", 200, "here"),
        ("/node", "x-envoy-downstream-service-node: n1\r\n", 500, "fault filter abort"),
        ("/elsewhere", "", 200, "here"),
        ("/never", "", 200, "here"),
    ] {
        client.send(format!("GET {path} HTTP/1.1\r\nhost: test\r\n{headers}\r\n"));
        let response = client.response();
        assert_eq!((response.status(), response.text()), (status, expected), "{path} {headers}");
        assert_eq!(response.header("grpc-status"), None);
    }
    client.send("POST /grpc HTTP/1.1\r\nhost: test\r\ncontent-type: application/grpc\r\ncontent-length: 0\r\n\r\n");
    let response = client.response();
    assert_eq!((response.status(), response.header("grpc-status")), (200, Some("5")));
    assert_eq!(response.header("grpc-message"), Some("fault filter abort"));
    client.send("GET /both HTTP/1.1\r\nhost: test\r\nx-envoy-downstream-service-cluster: caller\r\n\r\n");
    assert_eq!(client.response().status(), 503);
    run(async {
        let (send, _) = connect(proxy.address).await;
        assert_eq!(ask(&send, "/both").await.unwrap(), (503, "fault filter abort".into()));
    });
    for (name, value) in [
        ("aborts_injected", 8),
        ("delays_injected", 3),
        ("faults_overflow", 1),
        ("response_rl_injected", 0),
        ("caller.aborts_injected", 1),
        ("caller.delays_injected", 1),
    ] {
        assert_eq!(proxy.counter(&format!("http.test.fault.{name}")), value, "{name}");
    }
    proxy.await_gauge("http.test.fault.active_faults", 0);
}

#[test]
fn a_delay_is_waited_for_and_holds_a_place() {
    let origin = Origin::text("here");
    let proxy = start(text(&filter(), &host(), origin.address));
    let started = Instant::now();
    assert_eq!(proxy.connect().get("/both").status(), 503);
    assert!(started.elapsed() >= Duration::from_millis(50));
    let mut waits = proxy.connect();
    waits.send("GET /one HTTP/1.1\r\nhost: test\r\n\r\n");
    proxy.await_gauge("http.test.fault.active_faults", 1);
    assert_eq!(proxy.connect().get("/one").text(), "here", "there is no place for another");
    assert_eq!(proxy.counter("http.test.fault.faults_overflow"), 1);
    drop(waits);
    proxy.await_gauge("http.test.fault.active_faults", 0);
}

#[test]
fn a_response_comes_no_faster_than_it_may() {
    let long = "0123456789".repeat(25);
    let origin = Origin::http({
        let long = long.clone();
        move |_| ok(&long)
    });
    let proxy = start(text(&filter(), &host(), origin.address));
    let mut client = proxy.connect();
    let started = Instant::now();
    let response = client.get("/slow");
    assert_eq!((response.text(), response.header("content-length")), (&*long, Some("250")));
    // 51 bytes at once, and as many again four times, 50 ms each.
    assert!(started.elapsed() >= Duration::from_millis(150), "{:?}", started.elapsed());
    run(async {
        let (send, _) = connect(proxy.address).await;
        assert_eq!(ask(&send, "/slow").await.unwrap(), (200, long.into()));
    });
    client.send("GET / HTTP/1.1\r\nhost: test\r\nx-envoy-fault-throughput-response: 1000\r\n\r\n");
    assert_eq!(client.response().status(), 200);
    assert_eq!(proxy.counter("http.test.fault.response_rl_injected"), 3);
}

#[test]
fn settings_of_faults_are_judged() {
    for (from, to, expected) in [
        ("header_abort: {}", "http_status: 700", "abort.http_status"),
        ("header_abort: {},", "", "abort"),
        ("header_limit: {}", "fixed_limit: { limit_kbps: 0 }", "response_rate_limit.fixed_limit.limit_kbps"),
        ("header_delay: {}", "fixed_delay: 0s", "delay.fixed_delay"),
        ("upstream_cluster: origin", "filter_metadata: { a: 1 }", "filter_metadata: is not supported yet"),
        ("present_match: false", "safe_regex_match: { regex: '(' }", "headers[0].safe_regex_match.regex"),
    ] {
        let faults = faults(&filter().replacen(from, to, 1), &host());
        assert!(faults.contains(&format!("{}.{expected}", place(0))), "{faults}");
    }
    let faults = faults(&filter(), &host().replacen("http_status: 503", "http_status: 100", 1));
    assert!(faults.contains("routes[0].typed_per_filter_config.fault.abort.http_status"), "{faults}");
}
