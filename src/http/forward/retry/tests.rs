//! The rules, condition by condition.

use http::HeaderValue;

use super::*;
use crate::config::model::ResetHeader;
use http::Method;

fn made(policy: &RetryPolicy, retriable: &Retriable, head: &RequestHead, controls: Controls) -> Retries {
    Retries::new(policy, Retries::conditions(policy, retriable, head, &controls), controls)
}

fn on(tokens: &str) -> RetryOn {
    let of = |token: &str| RetryOn::http(token).or_else(|| RetryOn::grpc(token)).unwrap();
    tokens.split(',').map(of).fold(RetryOn::default(), RetryOn::or)
}

fn policy(tokens: &str) -> RetryPolicy {
    RetryPolicy { on: on(tokens), retries: 2, ..RetryPolicy::default() }
}

fn fields(fields: &[(&'static str, &'static str)]) -> Headers {
    fields.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value))).collect()
}

fn start(policy: &RetryPolicy, retriable: &Retriable) -> Retries {
    made(policy, retriable, &RequestHead::new(Method::GET, "a", "/"), Controls::default())
}

fn retried(policy: &RetryPolicy, event: Event<'_>) -> bool {
    let retriable = Retriable::default();
    matches!(start(policy, &retriable).judge(event, policy, &retriable, 0, 0), Verdict::Again(_))
}

fn answer(policy: &RetryPolicy, status: u16, headers: &[(&'static str, &'static str)]) -> bool {
    retried(policy, Event::Answer(StatusCode::from_u16(status).unwrap(), &fields(headers)))
}

#[test]
fn statuses() {
    for (tokens, yes, no) in [
        ("5xx", &[500u16, 501, 503, 504, 599][..], &[200u16, 302, 409, 429, 499][..]),
        ("gateway-error", &[502, 503, 504], &[500, 501, 505]),
        ("retriable-4xx", &[409], &[404, 429, 503]),
        ("retriable-status-codes", &[418], &[419, 503]),
        ("reset,connect-failure,refused-stream,reset-before-request", &[], &[503]),
        ("5xx,retriable-4xx", &[409, 500], &[404]),
    ] {
        let policy = RetryPolicy { status_codes: vec![418], ..policy(tokens) };
        for status in yes {
            assert!(answer(&policy, *status, &[]), "{tokens} {status}");
        }
        for status in no {
            assert!(!answer(&policy, *status, &[]), "{tokens} {status}");
        }
    }
}

#[test]
fn headers_of_the_answer() {
    assert!(answer(&policy("envoy-ratelimited"), 429, &[("x-envoy-ratelimited", "true")]));
    assert!(!answer(&policy("envoy-ratelimited"), 429, &[]));
    assert!(!answer(&policy("5xx"), 503, &[("x-envoy-ratelimited", "true")]), "only the one condition is for it");
    for (token, code) in [
        ("cancelled", "1"),
        ("deadline-exceeded", "4"),
        ("resource-exhausted", "8"),
        ("internal", "13"),
        ("unavailable", "14"),
    ] {
        for (_, status) in GRPC.map(|(code, _)| ("", std::str::from_utf8(code).unwrap())) {
            assert_eq!(answer(&policy(token), 200, &[("grpc-status", status)]), status == code, "{token} {status}");
        }
    }
    let with = |tokens: &str, wanted: &'static str| {
        let again = HeaderMatcher::present(HeaderName::from_static("x-again"));
        let retriable = Retriable { response: vec![again], request: Vec::new() };
        let policy = policy(tokens);
        let headers = fields(&[(wanted, "1")]);
        let event = Event::Answer(StatusCode::OK, &headers);
        matches!(start(&policy, &retriable).judge(event, &policy, &retriable, 0, 0), Verdict::Again(_))
    };
    assert!(with("retriable-headers", "x-again"));
    assert!(!with("retriable-headers", "x-other") && !with("5xx", "x-again"));
}

#[test]
fn resets() {
    let (seen, unseen) = (Event::Reset { unseen: false }, Event::Reset { unseen: true });
    for (tokens, expected) in [
        // Reset after it was sent, reset before, no connection, handed back.
        ("5xx", [true, true, true, true]),
        ("gateway-error", [true, true, true, true]),
        ("reset", [true, true, true, true]),
        ("reset-before-request", [false, true, true, false]),
        ("connect-failure", [false, false, true, false]),
        ("refused-stream", [false, false, false, false]),
        ("http3-post-connect-failure", [false, false, false, false]),
        ("retriable-4xx,retriable-headers,unavailable", [false, false, false, false]),
    ] {
        let policy = policy(tokens);
        let found = [seen, unseen, Event::ConnectFailure, Event::Handover].map(|event| retried(&policy, event));
        assert_eq!(found, expected, "{tokens}");
        assert!(!retried(&policy, Event::Overflow), "{tokens}");
    }
    assert!(retried(&policy("refused-stream"), Event::Refused) && retried(&policy("5xx"), Event::Refused));
    assert!(!retried(&policy("connect-failure,reset-before-request"), Event::Refused));
    let listed = RetryPolicy { status_codes: vec![379], ..policy("retriable-status-codes") };
    assert!(retried(&listed, Event::Handover) && !retried(&listed, seen));
}

#[test]
fn retries_end() {
    let (policy, retriable) = (policy("5xx"), Retriable::default());
    let mut retries = start(&policy, &retriable);
    let mut judge = |event| retries.judge(event, &policy, &retriable, 0, 7);
    let none = Headers::new();
    let bad = Event::Answer(StatusCode::BAD_GATEWAY, &none);
    let good = Event::Answer(StatusCode::NOT_FOUND, &none);
    assert!(matches!(judge(bad), Verdict::Again(_)));
    assert!(matches!(judge(Event::Reset { unseen: false }), Verdict::Again(_)));
    assert_eq!(judge(bad), Verdict::Exhausted);
    let mut retries = start(&policy, &retriable);
    let mut judge = |event| retries.judge(event, &policy, &retriable, 0, 7);
    assert_eq!(judge(good), Verdict::Settled { after_retry: false });
    assert!(matches!(judge(bad), Verdict::Again(_)));
    assert_eq!(judge(good), Verdict::Settled { after_retry: true });
}

#[test]
fn what_is_gone_can_only_be_handed_back() {
    let (policy, retriable) = (policy("5xx"), Retriable::default());
    let mut retries = start(&policy, &retriable);
    retries.give_up();
    let mut judge = |event| retries.judge(event, &policy, &retriable, 0, 7);
    assert_eq!(judge(Event::Reset { unseen: true }), Verdict::Settled { after_retry: false });
    assert!(matches!(judge(Event::Handover), Verdict::Again(_)));
}

#[test]
fn pauses_double_and_stay_below_the_maximum() {
    let ms = Duration::from_millis;
    let policy = RetryPolicy { retries: 6, base_interval: ms(20), max_interval: ms(100), ..policy("5xx") };
    let retriable = Retriable::default();
    for random in [0, 1, 19, 1_000_003, u64::MAX] {
        let mut retries = start(&policy, &retriable);
        for below in [20, 40, 80, 160, 160, 160] {
            let Verdict::Again(Pause::Exponential(pause)) =
                retries.judge(Event::ConnectFailure, &policy, &retriable, 0, random)
            else {
                panic!("no retry");
            };
            assert_eq!(pause, ms(random % below).min(ms(100)));
        }
    }
}

#[test]
fn a_host_may_ask_to_be_left_alone() {
    let header = |name: &str, is_timestamp| ResetHeader { name: name.into(), is_timestamp };
    let policy = RetryPolicy {
        reset_headers: vec![header("retry-after", false), header("x-reset", true)],
        reset_max_interval: Duration::from_secs(60),
        ..policy("5xx")
    };
    let asked = |given: &[(&'static str, &'static str)], random| {
        let (retriable, headers) = (Retriable::default(), fields(given));
        let event = Event::Answer(StatusCode::SERVICE_UNAVAILABLE, &headers);
        match start(&policy, &retriable).judge(event, &policy, &retriable, 1000, random) {
            Verdict::Again(Pause::RateLimited(wait)) => Some(wait),
            Verdict::Again(Pause::Exponential(_)) => None,
            other => panic!("{other:?}"),
        }
    };
    let s = Duration::from_secs;
    assert_eq!(asked(&[("retry-after", "10")], 0), Some(s(10)));
    assert_eq!(asked(&[("retry-after", "10")], 4999), Some(s(10) + Duration::from_millis(4999)));
    assert_eq!(asked(&[("retry-after", "10")], 5000), Some(s(10)), "less than half as long again");
    assert_eq!(asked(&[("x-reset", "1030")], 0), Some(s(30)));
    assert_eq!(asked(&[("retry-after", "61"), ("x-reset", "1030")], 0), Some(s(30)), "too long is not asked");
    for nothing in [("retry-after", "soon"), ("retry-after", "0"), ("x-reset", "999"), ("x-reset", "2000")] {
        assert_eq!(asked(&[nothing], 0), None, "{nothing:?}");
    }
}

#[test]
fn a_request_asks_for_more_and_may_be_asked_for_a_header() {
    let policy = policy("5xx");
    let head = RequestHead::new(Method::GET, "a", "/");
    let none = Headers::new();
    let controls = || Controls {
        retry_on: RetryOn::RETRIABLE_STATUS_CODES,
        max_retries: Some(1),
        status_codes: vec![404],
        ..Controls::default()
    };
    let retriable = Retriable::default();
    let mut retries = made(&policy, &retriable, &head, controls());
    let mut judge = |status| retries.judge(Event::Answer(status, &none), &policy, &retriable, 0, 0);
    assert!(matches!(judge(StatusCode::NOT_FOUND), Verdict::Again(_)));
    assert_eq!(judge(StatusCode::BAD_GATEWAY), Verdict::Exhausted);
    let asks =
        Retriable { request: vec![HeaderMatcher::present(HeaderName::from_static("x"))], ..Retriable::default() };
    assert!(!made(&policy, &asks, &head, controls()).enabled());
    let mut head = head;
    head.headers.append(HeaderName::from_static("x"), HeaderValue::from_static("1"));
    assert!(made(&policy, &asks, &head, controls()).enabled());
}
