//! The local rate limit, from the text of a configuration to what clients see.

use crate::motion::moves_past;
use crate::support::filtered::{filter, refuses, start, text};
use crate::support::http2;
use crate::support::origin::{Origin, ok};
use crate::support::proxy::Proxy;

const TYPE: &str =
    "\"@type\": type.googleapis.com/envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit, stat_prefix: lim";
const ALWAYS: &str = "filter_enabled: { default_value: { numerator: 100 } }, filter_enforced: { default_value: { \
                      numerator: 100 } }";
/// It does not fill within a test.
const TWO: &str = "token_bucket: { max_tokens: 2, fill_interval: 3600s }";

fn limit(settings: &str) -> String {
    filter("lim", TYPE, settings)
}

fn hello(path: &str, own: &str) -> String {
    let direct = "direct_response: { status: 200, body: { inline_string: hello } }";
    if own.is_empty() {
        return format!("- match: {{ prefix: {path} }}\n  {direct}\n");
    }
    format!("- match: {{ prefix: {path} }}\n  {direct}\n  typed_per_filter_config: {{ lim: {{ {TYPE}, {own} }} }}\n")
}

fn counted(proxy: &Proxy) -> [u64; 4] {
    ["enabled", "ok", "rate_limited", "enforced"]
        .map(|name| proxy.counter(&format!("lim.http_local_rate_limit.{name}")))
}

#[test]
fn requests_beyond_the_bucket_are_denied_until_it_fills() {
    let all = format!(
        "{ALWAYS}, {TWO}, enable_x_ratelimit_headers: DRAFT_VERSION_03, enable_retry_after_header: true, \
         response_headers_to_add: [{{ header: {{ key: x-limited, value: \"%REQ(:path)%\" }} }}]"
    );
    let proxy = start(text("", &limit(&all), &hello("/", ""), &[]));
    let mut client = proxy.connect();
    for left in ["1", "0"] {
        let response = client.get("/");
        assert_eq!((response.status(), response.text()), (200, "hello"));
        assert_eq!(response.header("x-ratelimit-limit"), Some("2"));
        assert_eq!(response.header("x-ratelimit-remaining"), Some(left));
        assert_eq!(response.header("x-limited"), None);
    }
    // The bucket is that of all connections, and the connection lives on.
    let mut other = proxy.connect();
    for client in [&mut client, &mut other] {
        let response = client.get("/path");
        assert_eq!((response.status(), response.text()), (429, "local_rate_limited"));
        assert_eq!(response.header("x-limited"), Some("/path"));
        assert_eq!(response.header("x-ratelimit-remaining"), Some("0"));
        let wait: u64 = response.header("retry-after").unwrap().parse().unwrap();
        assert!((3000..=3600).contains(&wait), "{wait}");
        assert_eq!(response.header("x-ratelimit-reset"), response.header("retry-after"));
    }
    assert_eq!(counted(&proxy), [4, 2, 2, 2]);
    client.send("POST /a.B/C HTTP/1.1\r\nhost: a\r\ncontent-type: application/grpc\r\ncontent-length: 0\r\n\r\n");
    let response = client.response();
    assert_eq!((response.status(), response.header("grpc-status")), (200, Some("14")));
    assert_eq!(response.header("grpc-message"), Some("local_rate_limited"));
    let (status, body) = http2::run(async {
        let (send, _) = http2::connect(proxy.address).await;
        http2::ask(&send, "/").await.unwrap()
    });
    assert_eq!((status, &*body), (429, &b"local_rate_limited"[..]));
}

#[test]
fn a_bucket_fills_by_the_clock() {
    let fast = "token_bucket: { max_tokens: 1, fill_interval: 0.05s }";
    let proxy = start(text("", &limit(&format!("{ALWAYS}, {fast}")), &hello("/", ""), &[]));
    let mut client = proxy.connect();
    assert_eq!(client.get("/").status(), 200);
    crate::support::eventually("there is a token again", || client.get("/").status() == 200);
}

#[test]
fn every_connection_has_its_own_bucket_where_that_is_asked_for() {
    let settings = format!("{ALWAYS}, {TWO}, local_rate_limit_per_downstream_connection: true");
    let proxy = start(text("", &limit(&settings), &hello("/", ""), &[]));
    // More than the filter keeps without looking for those that are full again.
    for _ in 0..100 {
        let mut client = proxy.connect();
        let statuses: Vec<u16> = (0..3).map(|_| client.get("/").status()).collect();
        assert_eq!(statuses, [200, 200, 429]);
    }
}

#[test]
fn what_is_not_enabled_is_let_through_and_what_is_not_enforced_is_marked() {
    let origin = Origin::http(|request| ok(request.header("x-would").unwrap_or("-")));
    let on = "filter_enabled: { default_value: { numerator: 100 } }";
    let mark = "request_headers_to_add_when_not_enforced: [{ header: { key: x-would, value: \"%REQ(:method)%\" } }]";
    let routes = "- match: { prefix: / }\n  route: { cluster: origin }\n";
    let clusters = [("origin", origin.address)];
    let counts_only = start(text("", &limit(&format!("{on}, {TWO}, {mark}")), routes, &clusters));
    let mut client = counts_only.connect();
    let marks: Vec<String> = (0..3).map(|_| client.get("/").text().to_owned()).collect();
    assert_eq!(marks, ["-", "-", "GET"]);
    assert_eq!(counted(&counts_only), [3, 2, 1, 0]);
    let off = start(text("", &limit(TWO), routes, &clusters));
    let mut client = off.connect();
    assert!((0..3).all(|_| client.get("/").text() == "-"));
    assert_eq!(counted(&off), [0; 4]);
}

#[test]
fn a_route_has_its_own_limit() {
    let own = format!("{ALWAYS}, token_bucket: {{ max_tokens: 1, fill_interval: 3600s }}, status: {{ code: 503 }}");
    let harmless = format!("{ALWAYS}, token_bucket: {{ max_tokens: 0, fill_interval: 1s }}, status: {{ code: 200 }}");
    let routes = hello("/own", &own) + &hello("/none", &harmless) + &hello("/", "");
    let proxy = start(text("", &limit("filter_enabled: { default_value: { numerator: 0 } }"), &routes, &[]));
    let mut client = proxy.connect();
    let mut ask = |path: &str| client.get(path).status();
    assert_eq!([ask("/"), ask("/own"), ask("/own"), ask("/")], [200, 200, 503, 200]);
    assert_eq!(ask("/none"), 429, "a status that is no error is none for a denial");
}

#[test]
fn a_request_that_was_let_through_can_move() {
    let (from, to) = moves_past(&limit(&format!("{ALWAYS}, {TWO}")));
    assert_eq!((counted(&from)[1], counted(&to)[1]), (1, 0));
}

#[test]
fn faults_have_their_place() {
    let routes = hello("/", "");
    let place = "http_filters[0].typed_config";
    for (settings, fault) in [
        (
            "token_bucket: { max_tokens: 1, fill_interval: 0.01s }".to_owned(),
            format!("{place}.token_bucket.fill_interval: local rate limit token bucket fill timer must be >= 50ms"),
        ),
        (
            format!(
                "{TWO}, descriptors: [{{ entries: [{{ key: a, value: b }}], {TWO} }}, {{ entries: [{{ key: a, value: b }}], {TWO} }}]"
            ),
            format!("{place}.descriptors[1]: duplicate descriptor in the local rate descriptor: a=b"),
        ),
        (
            "descriptors: [{ entries: [{ key: a }], token_bucket: { max_tokens: 1, fill_interval: 0.01s } }]"
                .to_owned(),
            format!(
                "{place}.descriptors[0].token_bucket.fill_interval: local rate limit descriptor token bucket fill timer must be >= 50ms"
            ),
        ),
        (
            format!("{TWO}, rate_limits: [{{ stage: 1, actions: [{{ remote_address: {{}} }}] }}]"),
            format!("{place}.rate_limits[0]: 'stage' field and 'disable_key' field are not supported"),
        ),
        (
            format!(
                "{TWO}, rate_limits: [{{ limit: {{ rate_limit: {{ unit: DAY }} }}, actions: [{{ remote_address: {{}} }}] }}]"
            ),
            format!("{place}.rate_limits[0]: 'limit' field is not supported"),
        ),
        (
            format!("{TWO}, local_cluster_rate_limit: {{}}"),
            format!("{place}.local_cluster_rate_limit: is not supported yet"),
        ),
        (
            format!("{TWO}, response_headers_to_add: [{{ header: {{ key: \":path\", value: a }} }}]"),
            format!("{place}.response_headers_to_add[0].header.key: "),
        ),
        (format!("{TWO}, stage: 11"), format!("{place}.stage: ")),
    ] {
        refuses(text("", &limit(&settings), &routes, &[]), &fault);
    }
    let on_route = text("", &limit(TWO), &hello("/", ALWAYS), &[]);
    refuses(on_route, "typed_per_filter_config.lim: local rate limit token bucket must be set for per filter configs");
}
