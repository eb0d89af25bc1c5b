//! The `health_check` filter: it answers, or passes on and remembers, and says so when the proxy was told to fail.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use heirloom::drain::{Phase, Plan, Strategy};

use super::access_log::File;
use crate::support::configured::{faults, place, start, text};
use crate::support::http2::{ask, connect, run};
use crate::support::origin::{Origin, ok};

const HOST: &str = "
response_headers_to_add: [{ header: { key: x-host, value: all } }]
routes: [{ match: { prefix: / }, route: { cluster: origin } }]
";

fn filter(path: &str, fields: &str) -> String {
    format!(
        "- name: health{path}\n  typed_config: {{ \"@\": health_check.v3.HealthCheck, {fields}, headers: [{{ name: ':path', string_match: {{ exact: {path} }} }}] }}\n"
    )
}

fn failing() -> Phase {
    Phase::Draining(Plan { started: Instant::now(), time: Duration::ZERO, strategy: Strategy::Unhealthy })
}

#[test]
fn health_checks_are_answered_by_the_hosts_of_clusters() {
    let origin = Origin::text("here");
    let mut filters = filter("/plain", "pass_through_mode: false");
    for (path, percentages) in [
        ("/well", "{ origin: { value: 100 } }"),
        ("/none", "{ origin: { value: 100 }, unknown: { value: 1 } }"),
        ("/empty", "{ nobody: { value: 1 } }"),
        ("/zero", "{ nobody: { value: 0 } }"),
    ] {
        filters += &filter(path, &format!("pass_through_mode: false, cluster_min_healthy_percentages: {percentages}"));
    }
    let proxy = start(text(&filters, HOST, origin.address));
    let mut client = proxy.connect();
    for (path, status) in [("/plain", 200), ("/well", 200), ("/none", 503), ("/empty", 503), ("/zero", 200)] {
        let response = client.get(path);
        assert_eq!((response.status(), response.text()), (status, ""), "{path}");
        assert_eq!(response.header("x-envoy-upstream-healthchecked-cluster"), Some("service"), "{path}");
        assert_eq!(response.header("x-host"), Some("all"), "{path}");
    }
    assert_eq!(client.get("/other").text(), "here");
    assert_eq!(origin.requests(), 1);
    for (name, value) in [
        ("health_check.request_total", 5),
        ("health_check.ok", 3),
        ("health_check.failed", 2),
        ("health_check.failed_cluster_not_found", 1),
        ("health_check.failed_cluster_empty", 1),
        ("health_check.failed_cluster_unhealthy", 0),
        // Health checks are not counted here.
        ("downstream_rq_2xx", 1),
        ("downstream_rq_completed", 1),
    ] {
        assert_eq!(proxy.counter(&format!("http.test.{name}")), value, "{name}");
    }
    run(async {
        let (send, _) = connect(proxy.address).await;
        assert_eq!(ask(&send, "/well").await.unwrap().0, 200);
        assert_eq!(ask(&send, "/empty").await.unwrap().0, 503);
    });
}

#[test]
fn what_was_passed_on_is_remembered_for_a_while() {
    let ill = Arc::new(AtomicBool::new(true));
    let origin = Origin::http({
        let ill = ill.clone();
        move |_| match ill.load(Ordering::Relaxed) {
            true => b"HTTP/1.1 500 Ill\r\nx-envoy-degraded: \r\ncontent-length: 0\r\n\r\n".to_vec(),
            false => ok("well"),
        }
    });
    let filters = filter("/long", "pass_through_mode: true, cache_time: 3600s")
        + &filter("/short", "pass_through_mode: true, cache_time: 0.010s")
        + &filter("/never", "pass_through_mode: true");
    let proxy = start(text(&filters, HOST, origin.address));
    let mut client = proxy.connect();
    for path in ["/long", "/short", "/never"] {
        let response = client.get(path);
        assert_eq!(response.status(), 500, "{path}");
        assert_eq!(response.header("x-envoy-upstream-healthchecked-cluster"), Some("service"));
    }
    ill.store(false, Ordering::Relaxed);
    let again = client.get("/long");
    assert_eq!((again.status(), again.header("x-envoy-degraded")), (500, Some("")));
    assert_eq!(client.get("/never").text(), "well");
    crate::support::eventually("what is remembered is too old", || client.get("/short").status() == 200);
    assert!(proxy.counter("http.test.health_check.cached_response") >= 1);
    assert!(proxy.counter("http.test.health_check.degraded") >= 1);
}

#[test]
fn a_proxy_that_was_told_to_fail_says_so() {
    let origin = Origin::text("here");
    let file = File::new();
    let log = format!(
        r#"  access_log:
  - name: file
    filter: {{ or_filter: {{ filters: [{{ not_health_check_filter: {{}} }}, {{ status_code_filter: {{ comparison: {{ op: GE, value: {{ default_value: 500, runtime_key: k }} }} }} }}] }} }}
    typed_config:
      "@type": type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog
      path: {}
      log_format: {{ text_format_source: {{ inline_string: "%REQ(:PATH)% %RESPONSE_CODE% %RESPONSE_CODE_DETAILS% %RESPONSE_FLAGS%\n" }} }}
"#,
        file.path.display()
    );
    let filters = filter("/own", "pass_through_mode: false") + &filter("/passed", "pass_through_mode: true");
    let log: String = log.lines().map(|line| format!("        {line}\n")).collect();
    let text = text(&filters, HOST, origin.address)
        .replace("          http_filters:\n", &format!("{log}          http_filters:\n"));
    let proxy = start(text);
    assert_eq!(proxy.connect().get("/own").status(), 200);
    proxy.drain(failing());
    for path in ["/own", "/passed"] {
        let response = proxy.connect().get(path);
        assert_eq!((response.status(), response.header("connection")), (503, Some("close")), "{path}");
    }
    let other = proxy.connect().get("/other");
    assert_eq!((other.status(), other.header("x-envoy-immediate-health-check-fail")), (200, Some("true")));
    proxy.drain(Phase::Serving);
    assert_eq!(proxy.connect().get("/own").status(), 200);
    let other = proxy.connect().get("/last");
    assert_eq!(other.header("x-envoy-immediate-health-check-fail"), None);
    let expected = [
        "/own 503 health_check_failed LH",
        "/passed 503 health_check_failed LH",
        "/other 200 via_upstream -",
        "/last 200 via_upstream -",
    ];
    assert_eq!(file.lines(4), expected, "health checks that are well are not logged");
}

#[test]
fn settings_of_health_checks_are_judged() {
    for (fields, expected) in [
        ("pass_through_mode: false, cache_time: 1s", "cache_time: must not be set when pass_through_mode is false"),
        (
            "pass_through_mode: true, cluster_min_healthy_percentages: { origin: { value: 1 } }",
            "cluster_min_healthy_percentages: must not be set when pass_through_mode is true",
        ),
    ] {
        let faults = faults(&filter("/", fields), HOST);
        assert!(faults.contains(&format!("{}.{expected}", place(0))), "{faults}");
    }
    let faults = faults(&filter("/", "cache_time: 1s"), HOST);
    assert!(faults.contains(&format!("{}.pass_through_mode", place(0))), "{faults}");
}
