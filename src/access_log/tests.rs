//! Lines from facts, with nothing of a connection.

use std::time::{Duration, Instant};

use http::{HeaderName, HeaderValue, Method, StatusCode};

use super::*;
use crate::config::model::{
    AccessLog, Comparison, ComparisonOp, Fraction, LogBody, LogFilter, LogFormat, LogHeaderMatch, LogHeaderValue,
    LogSink, Moment,
};
use crate::config::{self, LoadOptions, Source, model::NetworkFilter};
use crate::fault::Flag;

/// The formats as the configuration reads them.
fn formats(log_formats: &str) -> Vec<AccessLog> {
    let yaml = format!(
        "static_resources:\n  listeners:\n  - name: l\n    address: {{ socket_address: {{ address: 127.0.0.1, port_value: 1 }} }}\n    \
         filter_chains:\n    - filters:\n      - name: t\n        typed_config:\n          \
         \"@type\": type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy\n          \
         stat_prefix: t\n          cluster: c\n          access_log:\n          - name: f\n            typed_config:\n              \
         \"@type\": type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog\n              path: /dev/null\n              \
         {log_formats}\n"
    );
    let source = Source { yaml: Some(yaml), ..Source::default() };
    let loaded = config::load(&source, &LoadOptions::default()).map_err(|faults| faults.to_string()).unwrap();
    match &loaded.bootstrap.listeners[0].filter_chains[0].filters[0] {
        NetworkFilter::TcpProxy(proxy) => proxy.access_logs.clone(),
        other => panic!("{other:?}"),
    }
}

fn text(format: &str) -> String {
    let quoted = serde_json::Value::from(format);
    line(&formats(&format!("log_format: {{ text_format_source: {{ inline_string: {quoted} }} }}"))[0])
}

/// A request as the tests below see it.
fn line(model: &AccessLog) -> String {
    let mut wanted = Wanted::default();
    let format = Format::compile(&model.format, &mut wanted);
    let logs = Logs { logs: Vec::new(), wanted, line: RefCell::default() };
    let mut written = Vec::new();
    format.render(LogType::DownstreamEnd, &request(&logs), &mut written);
    String::from_utf8(written).unwrap()
}

fn request(logs: &Logs) -> Live {
    let started = Instant::now().checked_sub(Duration::from_secs(9)).unwrap();
    let mut live = Live::new(started);
    let mut head = RequestHead::new(Method::POST, "shop.example:81", "/cart/7?a=1&b=&a=2");
    for (name, value) in
        [("x-a", "one"), ("x-a", "two"), ("x-quote", "say \"hi\"\\"), ("content-type", "application/grpc+proto")]
    {
        head.headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    head.headers.append(HeaderName::from_static("x-latin"), HeaderValue::from_bytes(b"caf\xe9").unwrap());
    logs.keep_request(&mut live, &head);
    let mut response = ResponseHead::new(StatusCode::OK);
    response.headers.append(HeaderName::from_static("x-b"), HeaderValue::from_static("back"));
    logs.keep_response(&mut live, &response);
    let trailers = [(HeaderName::from_static("grpc-status"), HeaderValue::from_static("5"))];
    logs.keep_trailers(&mut live, &trailers.into_iter().collect());
    live.reach(Moment::RequestEnd, started + Duration::from_millis(2));
    live.reach(Moment::ResponseBegin, started + Duration::from_millis(30));
    live.reach(Moment::SendEnd, started + Duration::from_micros(44_500));
    live.tried("10.0.0.1:80".to_owned());
    live.tried("[::1]:80".to_owned());
    live.reach(Moment::UpstreamSendBegin, started);
    let context = &mut live.context;
    context.attempts = 2;
    context.started_ns = 1_700_000_000_123_456_789;
    (context.received, context.sent, context.status, context.protocol) = (5, 6, 200, 11);
    context.flags = Flag::UpstreamConnectionFailure.bit() | Flag::UpstreamRetryLimitExceeded.bit();
    context.details = "via upstream{a b}".to_owned();
    context.connection_id = 77;
    context.peer = "192.168.17.4:5000".to_owned();
    context.client = "10.1.2.3:0".to_owned();
    context.local = "[2001:db8::1]:443".to_owned();
    context.host = "[::1]:80".to_owned();
    context.host_name = "svc.example:80".to_owned();
    context.cluster = "people".to_owned();
    context.cluster_raw = "machine".to_owned();
    context.route = "cart".to_owned();
    context.listener = "front".to_owned();
    live
}

#[test]
fn every_operator_shows_what_envoy_shows() {
    for (format, shown) in [
        ("%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%", "POST /cart/7?a=1&b=&a=2 HTTP/1.1"),
        ("%REQ(X-A)%|%REQ(x-none?X-A):4%|%REQ(X-NONE)%|%REQUEST_HEADER(:authority)%", "one,two|one,|-|shop.example:81"),
        ("%RESP(X-B):99% %RESPONSE_HEADER(:STATUS)% %RESP(x-c)%", "back 200 -"),
        ("%TRAILER(GRPC-STATUS)% %RESPONSE_TRAILER(x)%", "5 -"),
        (
            "%RESPONSE_CODE% %RESPONSE_FLAGS% %RESPONSE_FLAGS_LONG%",
            "200 UF,URX UpstreamConnectionFailure,UpstreamRetryLimitExceeded",
        ),
        ("%RESPONSE_CODE_DETAILS% %RESPONSE_CODE_DETAILS(ALLOW_WHITESPACES)%", "via_upstream{a_b} via upstream{a b}"),
        ("%BYTES_RECEIVED% %BYTES_SENT% %RESPONSE_TRAILERS_BYTES% %BYTES_RETRANSMITTED%", "5 6 12 0"),
        ("%REQUEST_DURATION% %RESPONSE_DURATION% %RESPONSE_TX_DURATION% %REQUEST_TX_DURATION%", "2 30 14 -"),
        ("%COMMON_DURATION(DS_RX_BEG:DS_TX_END:us)% %COMMON_DURATION(DS_TX_END:DS_RX_BEG:ms)%", "44500 -"),
        (
            "%ROUTE_NAME% %UPSTREAM_CLUSTER% %UPSTREAM_CLUSTER_RAW% %LISTENER_NAME% %FILTER_CHAIN_NAME%",
            "cart people machine front -",
        ),
        (
            "%UPSTREAM_HOST% %UPSTREAM_HOST_NAME% %UPSTREAM_HOST_NAME_WITHOUT_PORT%",
            "[::1]:80 svc.example:80 svc.example",
        ),
        ("%UPSTREAM_REQUEST_ATTEMPT_COUNT% %UPSTREAM_HOSTS_ATTEMPTED%", "2 10.0.0.1:80,[::1]:80"),
        ("%UPSTREAM_HOSTS_ATTEMPTED_WITHOUT_PORT% %UPSTREAM_REMOTE_PORT%", "10.0.0.1,::1 80"),
        ("%DOWNSTREAM_REMOTE_ADDRESS% %DOWNSTREAM_DIRECT_REMOTE_ADDRESS%", "10.1.2.3:0 192.168.17.4:5000"),
        ("%DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT(16)% %DOWNSTREAM_DIRECT_REMOTE_PORT%", "192.168.0.0/16 5000"),
        (
            "%DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT% %DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT(32)%",
            "2001:db8::1 2001:db8::/32",
        ),
        ("%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT(0)% %DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT(99)%", "0.0.0.0/0 -"),
        (
            "%GRPC_STATUS% %GRPC_STATUS(SNAKE_STRING)% %GRPC_STATUS(NUMBER)% %GRPC_STATUS_NUMBER%",
            "NotFound NOT_FOUND 5 5",
        ),
        ("%QUERY_PARAM(a)% %QUERY_PARAM(b)%. %QUERY_PARAM(c)% %QUERY_PARAMS%", "1 . - a=1&b=&a=2"),
        ("%PATH% %PATH(NQ)% %PATH(NQ:ORIG)% %PATH(WQ:PATH):3%", "/cart/7?a=1&b=&a=2 /cart/7 - /ca"),
        ("%REQUESTED_SERVER_NAME% %REQUESTED_SERVER_NAME(SNI_FIRST)%", "- shop.example:81"),
        ("%CONNECTION_ID% %ACCESS_LOG_TYPE% %LOCAL_REPLY_BODY%.%CUSTOM_FLAGS%.", "77 DownstreamEnd .."),
        ("%DOWNSTREAM_TLS_VERSION%%DOWNSTREAM_PEER_SUBJECT%%DYNAMIC_METADATA(a:b):3%%TRACE_ID%", "----"),
        ("100%% sure%%", "100% sure%"),
        ("%START_TIME%", "2023-11-14T22:13:20.123Z"),
        ("%START_TIME(%s.%3f)% %START_TIME(%s.%6f %f %1f)%", "1700000000.123 1700000000.123456 123456789 1"),
        ("%START_TIME(%Y/%m/%d %H:%M:%E3S %E*S %Ez)%", "2023/11/14 22:13:20.123 20.123456789 +00:00"),
        ("%START_TIME(%Q %)%", "%Q %"),
        ("plain\n", "plain\n"),
    ] {
        assert_eq!(text(format), shown, "{format}");
    }
    let unique = text("%UNIQUE_ID%");
    assert_eq!(unique.len(), 36);
    assert_ne!(unique, text("%UNIQUE_ID%"));
    let duration: u64 = text("%DURATION%").parse().unwrap();
    assert!((9_000..60_000).contains(&duration), "{duration}");
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    assert!(text("%EMIT_TIME(%s)%").parse::<u64>().unwrap().abs_diff(now) < 60);
    assert!(!text("%HOSTNAME%").is_empty());
    assert_eq!(text("%ENVIRONMENT(HEIRLOOM_NO_SUCH_VARIABLE)%"), "-");
    assert_eq!(text("%ENVIRONMENT(CARGO_PKG_NAME):4%"), "heir");
}

#[test]
fn the_default_format_is_envoys() {
    assert_eq!(
        line(&formats("")[0]).replace(|c: char| c.is_ascii_digit(), "0"),
        "[0000-00-00T00:00:00.000Z] \"POST /cart/0?a=0&b=&a=0 HTTP/0.0\" 000 UF,URX 0 0 0000 - \"-\" \"-\" \"-\" \"shop.example:00\" \"[::0]:00\"\n"
    );
}

#[test]
fn json_keeps_types_and_sorts_keys() {
    let model = formats(
        "log_format: { json_format: { z: '%RESPONSE_CODE%', a: '%REQ(X-NONE)%', m: 'x %REQ(X-NONE)% %BYTES_SENT%', c: { b: '%PROTOCOL%', a: ['%BYTES_SENT%', true, 3, null] }, q: '%REQ(X-QUOTE)%', l: '%REQ(X-LATIN)%', f: '%CUSTOM_FLAGS%', s: '%START_TIME(%s)%' } }",
    );
    assert_eq!(
        line(&model[0]),
        "{\"a\":null,\"c\":{\"a\":[6,true,3,null],\"b\":\"HTTP/1.1\"},\"f\":\"\",\"l\":\"caf\\u00e9\",\"m\":\"x - 6\",\
         \"q\":\"say \\\"hi\\\"\\\\\",\"s\":\"1700000000\",\"z\":200}\n"
    );
    let parsed: serde_json::Value = serde_json::from_str(&line(&model[0])).unwrap();
    assert_eq!(parsed["q"], "say \"hi\"\\");
}

#[test]
fn what_is_empty_is_left_out_where_that_is_asked_for() {
    let json = "log_format: { omit_empty_values: true, json_format: { a: '%REQ(X-NONE)%', b: 'x%REQ(X-NONE)%y', c: { d: '%TRACE_ID%' }, e: ['%TRACE_ID%', q], f: '%RESPONSE_FLAGS%', j: '%LOCAL_REPLY_BODY%' } }";
    assert_eq!(line(&formats(json)[0]), "{\"b\":\"xy\",\"e\":[\"q\"],\"f\":\"UF,URX\",\"j\":\"\"}\n");
    let text = "log_format: { omit_empty_values: true, text_format_source: { inline_string: '[%REQ(X-NONE)%][%RESPONSE_FLAGS%][%TRACE_ID%]' } }";
    assert_eq!(line(&formats(text)[0]), "[][UF,URX][]");
}

/// Whether a line of the request above passes.
fn passes(filter: &LogFilter) -> bool {
    let mut wanted = Wanted::default();
    let filter = Filter::compile(filter, &mut wanted);
    let logs = Logs { logs: Vec::new(), wanted, line: RefCell::default() };
    filter.passes(LogType::DownstreamEnd, &request(&logs))
}

#[test]
fn filters_let_through_what_they_say() {
    let status = |op, value: u32| LogFilter::StatusCode(Comparison { op, value: value.into() });
    let duration = |op, value: u32| LogFilter::Duration(Comparison { op, value: value.into() });
    let (yes, no) = (status(ComparisonOp::Eq, 200), status(ComparisonOp::Ne, 200));
    for (filter, expected) in [
        (status(ComparisonOp::Ge, 200), true),
        (status(ComparisonOp::Ge, 201), false),
        (status(ComparisonOp::Le, 199), false),
        (duration(ComparisonOp::Ge, 9_000), true),
        (duration(ComparisonOp::Le, 8_000), false),
        (LogFilter::And(vec![yes.clone(), no.clone()]), false),
        (LogFilter::Or(vec![no.clone(), yes.clone()]), true),
        (LogFilter::NotHealthCheck, true),
        (LogFilter::Flags(None), true),
        (LogFilter::Flags(Some(vec![Flag::NoRouteFound])), false),
        (LogFilter::Flags(Some(vec![])), false),
        (LogFilter::GrpcStatus { statuses: vec![5], exclude: false }, true),
        (LogFilter::GrpcStatus { statuses: vec![5], exclude: true }, false),
        (LogFilter::Types { types: vec![LogType::DownstreamEnd], exclude: false }, true),
        (LogFilter::Types { types: vec![LogType::DownstreamEnd], exclude: true }, false),
        (LogFilter::Share { fraction: Fraction::NONE.into(), independent: false }, false),
        (LogFilter::Share { fraction: Fraction::ALL.into(), independent: true }, true),
    ] {
        assert_eq!(passes(&filter), expected, "{filter:?}");
    }
}

#[test]
fn a_header_filter_looks_at_the_request() {
    use crate::config::model::Case::{Ignored, Sensitive};
    let of = |name: &'static str, value, invert, missing_is_empty| {
        let name = LogHeader::Named(HeaderName::from_static(name));
        passes(&LogFilter::Header(LogHeaderMatch { name, value, invert, missing_is_empty }))
    };
    assert!(of("x-a", LogHeaderValue::Present(true), false, false));
    assert!(!of("x-a", LogHeaderValue::Present(true), true, false));
    assert!(of("x-z", LogHeaderValue::Present(false), false, false));
    assert!(of("x-a", LogHeaderValue::Exact("ONE,two".into(), Ignored), false, false));
    assert!(!of("x-a", LogHeaderValue::Exact("ONE,two".into(), Sensitive), false, false));
    assert!(of("x-a", LogHeaderValue::Prefix("one".into(), Sensitive), false, false));
    assert!(of("x-a", LogHeaderValue::Suffix("two".into(), Sensitive), false, false));
    assert!(of("x-a", LogHeaderValue::Contains(",".into(), Sensitive), false, false));
    assert!(of("x-a", LogHeaderValue::Regex("one,t.o|x".into()), false, false));
    assert!(!of("x-a", LogHeaderValue::Regex("one".into()), false, false), "the whole value");
    assert!(!of("x-a", LogHeaderValue::Range(0, 9), false, false));
    assert!(!of("x-z", LogHeaderValue::Exact("a".into(), Sensitive), true, false), "what is missing does not match");
    assert!(
        of("x-z", LogHeaderValue::Exact("a".into(), Sensitive), true, true),
        "and as an empty one it does not, inverted"
    );
}

#[test]
fn what_nobody_shows_is_not_kept() {
    let logs = Logs { logs: Vec::new(), wanted: Wanted::default(), line: RefCell::default() };
    let live = request(&logs);
    let kept = live.context.request.as_ref().unwrap();
    let mut bare = Kept::default();
    bare.bytes = kept.bytes;
    assert_eq!(*kept, bare);
    let LogFormat { body: LogBody::Text(_), .. } = &formats("")[0].format else { panic!("a text") };
    assert!(Logs::build(&[], &Files::default()).unwrap().is_none());
    let absent = AccessLog { sink: LogSink::File("/nonexistent/log".into()), ..formats("")[0].clone() };
    let error = Logs::build(&[absent], &Files::default()).map(|_| ()).unwrap_err().to_string();
    assert!(error.starts_with("unable to open file '/nonexistent/log': "), "{error}");
}
