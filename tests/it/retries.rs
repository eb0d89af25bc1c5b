//! Requests that are tried again: what for, how often, where, and what everybody is told about it.

use std::io::Write;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use heirloom::config::model::*;

use crate::support::models::*;
use crate::support::origin::{Origin, ok};
use crate::support::proxy::Proxy;

const RETRIED: &str =
    "upstream connect error or disconnect/reset before headers. retried and the latest reset reason: ";

fn on(tokens: &str) -> RetryOn {
    let of = |token: &str| RetryOn::http(token).or_else(|| RetryOn::grpc(token)).unwrap();
    tokens.split(',').map(of).fold(RetryOn::default(), RetryOn::or)
}

fn policy(tokens: &str, retries: u32) -> RetryPolicy {
    let ms = Duration::from_millis;
    RetryPolicy {
        on: on(tokens),
        retries,
        base_interval: ms(1),
        max_interval: ms(10),
        avoid_previous_hosts: true,
        host_attempts: 5,
        ..RetryPolicy::default()
    }
}

/// One route with these tries to a cluster of these hosts.
fn with(tries: Tries, hosts: &[SocketAddr], change: impl FnOnce(&mut HttpConnectionManager, &mut Cluster)) -> Proxy {
    let mut route = route("/", "origin");
    if let RouteAction::Forward(forward) = &mut route.action {
        let of_route = &mut forward.tries;
        *of_route = Arc::new(tries);
    }
    let (mut manager, mut cluster) = (manager(vec![route]), cluster("origin", hosts));
    change(&mut manager, &mut cluster);
    Proxy::start(manager, vec![cluster])
}

fn to(policy: RetryPolicy, hosts: &[SocketAddr]) -> Proxy {
    with(Tries { policy, count_in_response: true, ..Tries::default() }, hosts, |_, _| ())
}

fn nobody() -> SocketAddr {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

fn answer(head: &str, body: &str) -> Vec<u8> {
    format!("HTTP/1.1 {head}\r\ncontent-length: {}\r\n\r\n{body}", body.len()).into_bytes()
}

/// Answers with one of these after the other, the last for ever.
fn scripted(answers: Vec<Vec<u8>>) -> Origin {
    let next = AtomicUsize::new(0);
    Origin::http(move |_| {
        let at = next.fetch_add(1, Ordering::Relaxed).min(answers.len() - 1);
        answers[at].clone()
    })
}

/// Takes a request and closes.
fn closing() -> Origin {
    Origin::raw(|_, mut wire| {
        let _ = wire.head();
    })
}

fn count(proxy: &Proxy, name: &str) -> u64 {
    proxy.counter(&format!("cluster.origin.{name}"))
}

#[test]
fn a_bad_answer_is_not_passed_on_while_there_are_retries() {
    for (tokens, head) in [
        ("5xx", "500 Bad"),
        ("gateway-error", "502 Bad"),
        ("retriable-4xx", "409 Bad"),
        ("retriable-status-codes", "418 Bad"),
        ("retriable-headers", "200 OK\r\nx-again: yes"),
        ("envoy-ratelimited", "429 Bad\r\nx-envoy-ratelimited: true"),
        ("unavailable", "200 OK\r\ngrpc-status: 14"),
        ("resource-exhausted", "200 OK\r\ngrpc-status: 8"),
    ] {
        let again = HeaderMatch {
            field: HeadField::named("x-again").unwrap(),
            pattern: HeaderPattern::Present(true),
            invert: false,
            missing_is_empty: false,
        };
        let policy = RetryPolicy { status_codes: vec![418], headers: vec![again], ..policy(tokens, 3) };
        let origin = scripted(vec![answer(head, "bad"), answer(head, "bad"), ok("good")]);
        let proxy = to(policy, &[origin.address]);
        let mut client = proxy.connect();
        let response = client.get("/");
        assert_eq!((response.status(), response.text()), (200, "good"), "{tokens}");
        assert_eq!(response.header("x-envoy-attempt-count"), Some("3"), "{tokens}");
        let status = head.split(' ').next().unwrap();
        for (name, value) in [
            ("upstream_rq_total", 3),
            ("upstream_rq_retry", 2),
            ("upstream_rq_retry_success", 1),
            ("upstream_rq_retry_backoff_exponential", 2),
            ("upstream_rq_retry_limit_exceeded", 0),
            ("upstream_rq_completed", 1),
            ("retry.upstream_rq_completed", 2),
            (&format!("retry.upstream_rq_{status}"), 2),
        ] {
            assert_eq!(count(&proxy, name), value, "{tokens}: {name}");
        }
        assert_eq!(client.get("/").status(), 200, "the client's connection is kept");
    }
}

#[test]
fn what_no_condition_names_is_passed_on() {
    for (tokens, head, status) in [
        ("gateway-error", "500 Bad", 500),
        ("5xx", "409 Bad", 409),
        ("5xx", "503 Bad\r\nx-envoy-ratelimited: true", 503),
        ("connect-failure,reset,refused-stream", "503 Bad", 503),
        ("unavailable", "200 OK\r\ngrpc-status: 8", 200),
    ] {
        let origin = scripted(vec![answer(head, "first"), ok("second")]);
        let proxy = to(policy(tokens, 3), &[origin.address]);
        let response = proxy.connect().get("/");
        assert_eq!((response.status(), response.text()), (status, "first"), "{tokens} {head}");
        assert_eq!(count(&proxy, "upstream_rq_retry"), 0);
    }
}

#[test]
fn when_no_retry_is_left_the_last_answer_is_passed_on() {
    let origin = scripted(vec![answer("503 Bad", "one"), answer("502 Bad", "two"), answer("500 Bad", "three")]);
    let proxy = to(policy("5xx", 2), &[origin.address]);
    let response = proxy.connect().get("/");
    assert_eq!((response.status(), response.text()), (500, "three"));
    assert_eq!(count(&proxy, "upstream_rq_retry_limit_exceeded"), 1);
    assert_eq!(count(&proxy, "upstream_rq_retry"), 2);
    assert_eq!(count(&proxy, "upstream_rq_retry_success"), 0);
    assert_eq!(count(&proxy, "upstream_rq_completed"), 1);
    proxy.await_gauge("cluster.origin.upstream_rq_active", 0);
}

#[test]
fn a_host_that_is_not_there_is_left_for_one_that_is() {
    let origin = Origin::text("here");
    for tokens in ["connect-failure", "reset-before-request", "reset", "5xx", "gateway-error"] {
        let proxy = to(policy(tokens, 1), &[nobody(), origin.address]);
        let mut client = proxy.connect();
        for _ in 0..4 {
            assert_eq!(client.get("/").text(), "here", "{tokens}");
        }
        assert!(count(&proxy, "upstream_rq_retry") >= 1, "{tokens}");
        assert_eq!(count(&proxy, "upstream_rq_retry"), count(&proxy, "upstream_rq_retry_success"));
    }
}

#[test]
fn the_last_failure_says_that_it_was_not_the_first() {
    let proxy = to(policy("connect-failure", 2), &[nobody()]);
    let response = proxy.connect().get("/");
    assert_eq!((response.status(), response.text()), (503, &*format!("{RETRIED}remote connection failure")));
    assert_eq!(response.header("x-envoy-attempt-count"), Some("3"));
    assert_eq!(count(&proxy, "upstream_rq_retry_limit_exceeded"), 1);
    assert_eq!(count(&proxy, "upstream_cx_connect_fail"), 3);
    proxy.await_gauge("cluster.origin.circuit_breakers.default.rq_retry_open", 0);
}

#[test]
fn a_host_that_goes_away_is_a_reset() {
    for (tokens, again) in [
        ("reset", true),
        ("5xx", true),
        ("gateway-error", true),
        ("reset-before-request", false),
        ("connect-failure", false),
        ("retriable-4xx", false),
    ] {
        let (bad, good) = (closing(), Origin::text("here"));
        let proxy = to(policy(tokens, 1), &[bad.address, good.address]);
        let response = proxy.connect().get("/");
        assert_eq!(response.status(), if again { 200 } else { 503 }, "{tokens}");
        assert_eq!(bad.connections(), 1, "{tokens}");
    }
}

#[test]
fn one_try_may_not_take_for_ever() {
    let slow = Origin::raw(|_, mut wire| {
        let _ = wire.rest();
    });
    let fast = Origin::text("fast");
    let limited = |retries| RetryPolicy { per_try_timeout: Some(Duration::from_millis(100)), ..policy("5xx", retries) };
    let tries = Tries { policy: limited(1), timeout_in_request: true, ..Tries::default() };
    let proxy = with(tries, &[slow.address, fast.address], |_, _| ());
    assert_eq!(proxy.connect().get("/").text(), "fast");
    assert_eq!(count(&proxy, "upstream_rq_per_try_timeout"), 1);
    assert_eq!(count(&proxy, "upstream_rq_timeout"), 0);
    // Without a retry it is a timeout like another.
    let proxy = to(limited(0), &[slow.address]);
    let response = proxy.connect().get("/");
    assert_eq!((response.status(), response.text()), (504, "upstream request timeout"));
    assert_eq!(count(&proxy, "upstream_rq_retry_limit_exceeded"), 1);
    proxy.await_gauge("cluster.origin.upstream_cx_active", 0);
    // It needs no condition to be one.
    let bare = RetryPolicy { per_try_idle_timeout: Some(Duration::from_millis(100)), ..RetryPolicy::default() };
    let proxy = to(bare, &[slow.address]);
    assert_eq!(proxy.connect().get("/").status(), 504);
    assert_eq!(count(&proxy, "upstream_rq_per_try_idle_timeout"), 1);
}

#[test]
fn an_answer_that_stands_still_ends_by_the_idle_limit_of_its_try() {
    let origin = Origin::raw(|_, mut wire| {
        wire.head().unwrap();
        wire.socket.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf").unwrap();
        let _ = wire.rest();
    });
    let idle = Some(Duration::from_millis(150));
    let limits = RetryPolicy { per_try_timeout: idle, per_try_idle_timeout: idle, ..policy("5xx", 3) };
    let proxy = to(limits, &[origin.address]);
    let mut client = proxy.connect();
    client.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n");
    assert!(client.try_response().is_err(), "it had begun, and cannot be tried again");
    proxy.await_counter("cluster.origin.upstream_rq_per_try_idle_timeout", 1);
    assert_eq!(count(&proxy, "upstream_rq_per_try_timeout"), 0);
    assert_eq!(count(&proxy, "upstream_rq_retry"), 0);
}

#[test]
fn too_many_retries_at_once_are_none() {
    let origin = scripted(vec![answer("503 Bad", "bad"), ok("good")]);
    let tries = Tries { policy: policy("5xx", 5), ..Tries::default() };
    let proxy = with(tries, &[origin.address], |_, cluster| cluster.limits.max_retries = 0);
    let response = proxy.connect().get("/");
    assert_eq!((response.status(), response.text()), (503, "bad"));
    assert_eq!(count(&proxy, "upstream_rq_retry_overflow"), 1);
    assert_eq!(count(&proxy, "upstream_rq_retry"), 0);
    assert_eq!(proxy.gauge("cluster.origin.circuit_breakers.default.rq_retry_open"), 1);
}

#[test]
fn a_budget_bounds_retries_that_wait() {
    // Both first tries fail; the host asks for a long pause, so that the first retry is still in progress when the second is asked for.
    let origin = Origin::http(|_| answer("503 Bad\r\nretry-after: 60", "bad"));
    let limits = RetryPolicy {
        reset_headers: vec![ResetHeader { name: "retry-after".into(), is_timestamp: false }],
        ..policy("5xx", 1)
    };
    let budget = RetryBudget { percent: 0.0, min_concurrency: 1 };
    let tries = Tries { policy: limits, ..Tries::default() };
    let proxy = with(tries, &[origin.address], |_, cluster| cluster.limits.retry_budget = Some(budget));
    let mut first = proxy.connect();
    first.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n");
    proxy.await_counter("cluster.origin.upstream_rq_retry", 1);
    assert_eq!(count(&proxy, "upstream_rq_retry_backoff_ratelimited"), 1);
    assert_eq!(proxy.gauge("cluster.origin.circuit_breakers.default.rq_retry_open"), 1);
    assert_eq!(proxy.connect().get("/").status(), 503);
    assert_eq!(count(&proxy, "upstream_rq_retry_overflow"), 1);
    // The client goes away, and what it had of the budget comes back.
    drop(first);
    proxy.await_gauge("cluster.origin.circuit_breakers.default.rq_retry_open", 0);
    proxy.await_gauge("http.test.downstream_rq_active", 0);
}

#[test]
fn the_routes_timeout_is_for_all_tries_together() {
    let origin = scripted(vec![answer("503 Bad", "bad")]);
    let slow = RetryPolicy {
        base_interval: Duration::from_millis(40),
        max_interval: Duration::from_millis(40),
        ..policy("5xx", 1_000_000)
    };
    let tries = Tries { policy: slow, ..Tries::default() };
    let proxy = with(tries, &[origin.address], |manager, cluster| {
        let routes = Arc::make_mut(&mut manager.routes);
        let route = Arc::make_mut(&mut routes.virtual_hosts[0].routes[0]);
        if let RouteAction::Forward(forward) = &mut route.action {
            let timeout = &mut forward.timeout;
            *timeout = Some(Duration::from_millis(300));
        }
        cluster.limits.max_retries = 10;
    });
    let started = Instant::now();
    assert_eq!(proxy.connect().get("/").status(), 504);
    assert!(started.elapsed() >= Duration::from_millis(290));
    assert!(count(&proxy, "upstream_rq_retry") >= 2);
    assert_eq!(count(&proxy, "upstream_rq_timeout"), 1);
    proxy.await_gauge("cluster.origin.circuit_breakers.default.rq_retry_open", 0);
}

#[test]
fn each_host_has_one_try_where_previous_hosts_are_avoided() {
    let bad: Vec<Origin> = (0..3).map(|_| scripted(vec![answer("503 Bad", "bad")])).collect();
    let good = Origin::text("good");
    let mut hosts: Vec<SocketAddr> = bad.iter().map(|origin| origin.address).collect();
    hosts.push(good.address);
    let proxy = to(policy("5xx", 3), &hosts);
    let mut client = proxy.connect();
    for round in 1..=6 {
        let response = client.get("/");
        assert_eq!((response.status(), response.text()), (200, "good"), "round {round}");
        let most = bad.iter().map(Origin::requests).max().unwrap();
        assert!(most <= round, "a host was asked twice for one request");
    }
}

#[test]
fn host_and_client_are_told_how_often() {
    let seen = Arc::new(std::sync::Mutex::new(Vec::new()));
    let tell = seen.clone();
    let next = AtomicUsize::new(0);
    let origin = Origin::http(move |request| {
        let header = |name| request.header(name).map(str::to_owned);
        let expected = header("x-envoy-expected-rq-timeout-ms").unwrap().parse::<u64>().unwrap();
        tell.lock().unwrap().push((header("x-envoy-attempt-count"), header("x-envoy-is-timeout-retry"), expected));
        let good = next.fetch_add(1, Ordering::Relaxed) % 3 == 2;
        if good { ok("good") } else { answer("503 Bad", "") }
    });
    let tries = Tries {
        policy: policy("5xx", 5),
        count_in_request: true,
        count_in_response: true,
        timeout_in_request: true,
        ..Tries::default()
    };
    let proxy = with(tries, &[origin.address], |_, _| ());
    let mut client = proxy.connect();
    for _ in 0..2 {
        assert_eq!(client.get("/").header("x-envoy-attempt-count"), Some("3"));
        let seen = std::mem::take(&mut *seen.lock().unwrap());
        let told: Vec<_> = seen.iter().map(|(count, again, _)| (count.as_deref(), again.as_deref())).collect();
        assert_eq!(told, [(Some("1"), None), (Some("2"), Some("false")), (Some("3"), Some("false"))]);
        assert_eq!(seen[0].2, 15_000);
        assert!(seen[2].2 <= seen[1].2 && seen[1].2 <= 15_000, "what is left is announced: {seen:?}");
    }
    assert_eq!(origin.connections(), 1, "an answer without a body leaves its connection free");
}

#[test]
fn a_request_from_inside_may_ask_for_its_own_tries() {
    let ask = "x-envoy-retry-on: retriable-status-codes,bogus\r\nx-envoy-retriable-status-codes: 404\r\n\
               x-envoy-max-retries: 2\r\nx-envoy-upstream-rq-timeout-ms: 3000\r\n\
               x-envoy-upstream-rq-per-try-timeout-ms: 1000\r\n";
    for internal in [true, false] {
        let leaked = Arc::new(std::sync::Mutex::new(Vec::new()));
        let seen = leaked.clone();
        let next = AtomicUsize::new(0);
        let origin = Origin::http(move |request| {
            let names = request.headers.iter().filter(|(name, _)| name.starts_with("x-envoy-"));
            seen.lock().unwrap().push(names.cloned().collect::<Vec<_>>());
            if next.fetch_add(1, Ordering::Relaxed) < 2 { answer("404 Bad", "bad") } else { ok("good") }
        });
        let proxy = with(Tries::default(), &[origin.address], |manager, _| {
            manager.use_remote_address = true;
            if internal {
                manager.internal_addresses = vec![Cidr { network: "127.0.0.0".parse().unwrap(), prefix: 8 }];
            }
        });
        let mut client = proxy.connect();
        client.send(format!("GET / HTTP/1.1\r\nhost: a\r\n{ask}\r\n"));
        assert_eq!(client.response().status(), if internal { 200 } else { 404 });
        assert_eq!(count(&proxy, "upstream_rq_total"), if internal { 3 } else { 1 });
        for headers in &*leaked.lock().unwrap() {
            let value = |wanted: &str| headers.iter().find(|(name, _)| name == wanted).map(|(_, value)| value.as_str());
            let expected = if internal { "1000" } else { "15000" };
            assert_eq!(value("x-envoy-expected-rq-timeout-ms"), Some(expected));
            for gone in ["retry-on", "max-retries", "retriable-status-codes", "upstream-rq-timeout-ms"] {
                assert_eq!(value(&format!("x-envoy-{gone}")), None);
            }
        }
    }
}

#[test]
fn only_requests_with_the_header_are_retried_where_one_is_asked_for() {
    let model = HeaderMatch {
        field: HeadField::named("x-idempotent").unwrap(),
        pattern: HeaderPattern::Text(StringMatch::exact("yes")),
        invert: false,
        missing_is_empty: false,
    };
    let origin = scripted(vec![answer("503 Bad", "bad"), answer("503 Bad", "bad"), ok("good")]);
    let proxy = to(RetryPolicy { request_headers: vec![model], ..policy("5xx", 3) }, &[origin.address]);
    let mut client = proxy.connect();
    assert_eq!(client.get("/").status(), 503);
    client.send("GET / HTTP/1.1\r\nhost: a\r\nx-idempotent: yes\r\n\r\n");
    assert_eq!(client.response().text(), "good");
}
