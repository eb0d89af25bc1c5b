//! The `cors` and `csrf` filters: what pages of other origins may do.

use crate::support::client::Client;
use crate::support::configured::{faults, place, start, text};
use crate::support::http2::{connect, run};
use crate::support::origin::Origin;
use crate::support::wire::Message;

const CORS: &str = "
- name: cors
  typed_config: { \"@\": cors.v3.Cors }
";

const CORS_HOST: &str = "
response_headers_to_add: [{ header: { key: x-host, value: all } }]
typed_per_filter_config:
  cors:
    \"@\": cors.v3.CorsPolicy
    allow_origin_string_match: [{ suffix: .ok.example }]
    allow_methods: GET,PUT
    expose_headers: x-exposed
    max_age: '5'
    allow_credentials: true
    allow_private_network_access: true
routes:
- match: { prefix: /here }
  route: { cluster: origin }
  typed_per_filter_config:
    cors: { \"@\": cors.v3.CorsPolicy, forward_not_matching_preflights: false, allow_headers: x-a, allow_credentials: false }
- match: { prefix: /shadow }
  route: { cluster: origin }
  typed_per_filter_config:
    cors: { \"@\": cors.v3.CorsPolicy, filter_enabled: { default_value: { numerator: 0 } }, shadow_enabled: { default_value: { numerator: 100 } } }
- match: { prefix: /off }
  route: { cluster: origin }
  typed_per_filter_config:
    cors: { \"@\": cors.v3.CorsPolicy, filter_enabled: { default_value: { numerator: 0 } } }
- match: { prefix: / }
  route: { cluster: origin }
";

fn send(client: &mut Client, method: &str, path: &str, headers: &str) -> Message {
    client.send(format!("{method} {path} HTTP/1.1\r\nhost: test:80\r\n{headers}\r\n"));
    client.response()
}

fn fields(response: &Message) -> Vec<String> {
    let fields = response.headers.iter().filter(|(name, _)| name.starts_with("access-control") || name == "x-host");
    let mut fields: Vec<String> = fields.map(|(name, value)| format!("{name}: {value}")).collect();
    fields.sort();
    fields
}

#[test]
fn pages_are_told_what_they_may_do() {
    let origin = Origin::text("here");
    let proxy = start(text(CORS, CORS_HOST, origin.address));
    let mut client = proxy.connect();
    let good = "origin: https://a.ok.example\r\n";
    let asks = "access-control-request-method: PUT\r\naccess-control-request-private-network: true\r\n";
    let preflight = send(&mut client, "OPTIONS", "/", &format!("{good}{asks}"));
    assert_eq!((preflight.status(), preflight.text()), (200, ""));
    let expected = [
        "access-control-allow-credentials: true",
        "access-control-allow-methods: GET,PUT",
        "access-control-allow-origin: https://a.ok.example",
        "access-control-allow-private-network: true",
        "access-control-expose-headers: x-exposed",
        "access-control-max-age: 5",
    ];
    assert_eq!(fields(&preflight), expected, "and nothing that the route adds");
    let preflight = send(&mut client, "OPTIONS", "/here", &format!("origin: https://bad\r\n{asks}"));
    let expected = [
        "access-control-allow-headers: x-a",
        "access-control-allow-methods: GET,PUT",
        "access-control-allow-private-network: true",
        "access-control-max-age: 5",
    ];
    assert_eq!(fields(&preflight), expected);
    assert_eq!(origin.requests(), 0);
    let forwarded = send(&mut client, "OPTIONS", "/", &format!("origin: https://bad\r\n{asks}"));
    assert_eq!((forwarded.text(), fields(&forwarded)), ("here", vec!["x-host: all".into()]));
    let actual = send(&mut client, "GET", "/", good);
    let expected = [
        "access-control-allow-credentials: true",
        "access-control-allow-origin: https://a.ok.example",
        "access-control-expose-headers: x-exposed",
        "x-host: all",
    ];
    assert_eq!(fields(&actual), expected);
    let count = |name: &str| proxy.counter(&format!("http.test.cors.{name}"));
    assert_eq!((count("origin_valid"), count("origin_invalid")), (2, 2));
    for (path, headers) in [("/", ""), ("/off", good), ("/shadow", good), ("/", "origin: https://bad\r\n")] {
        assert_eq!(fields(&send(&mut client, "GET", path, headers)), ["x-host: all"], "{path} {headers}");
    }
    assert_eq!((count("origin_valid"), count("origin_invalid")), (3, 3), "in shadow it is counted");
    run(async {
        let (send, _) = connect(proxy.address).await;
        let request = http::Request::options("http://test/").header("origin", "https://b.ok.example");
        let request = request.header("access-control-request-method", "PUT").body(()).unwrap();
        let response = send.ready().await.unwrap().send_request(request, true).unwrap().0.await.unwrap();
        assert_eq!(response.headers()["access-control-allow-origin"], "https://b.ok.example");
    });
}

#[test]
fn policies_for_origins_are_judged() {
    for (from, to, expected) in [
        ("{ suffix: .ok.example }", "{ safe_regex: { regex: '(' } }", "allow_origin_string_match[0].safe_regex.regex"),
        ("max_age: '5'", "max_age: \"a\\nb\"", "max_age: is not a header's value"),
        ("allow_methods: GET,PUT", "allow_method: GET", "unknown field"),
    ] {
        let faults = faults(CORS, &CORS_HOST.replacen(from, to, 1));
        assert!(faults.contains("virtual_hosts[0].typed_per_filter_config.cors"), "{faults}");
        assert!(faults.contains(expected), "{faults}");
    }
}

const CSRF: &str = "
- name: csrf
  typed_config:
    \"@\": csrf.v3.CsrfPolicy
    filter_enabled: { default_value: { numerator: 100 } }
    additional_origins: [{ suffix: ok.example }]
";

const CSRF_HOST: &str = "
routes:
- match: { prefix: /shadow }
  route: { cluster: origin }
  typed_per_filter_config:
    csrf: { \"@\": csrf.v3.CsrfPolicy, filter_enabled: { default_value: { numerator: 0 } }, shadow_enabled: { default_value: { numerator: 100 } } }
- match: { prefix: / }
  route: { cluster: origin }
";

#[test]
fn changes_come_from_pages_of_the_host_that_is_asked() {
    let origin = Origin::text("here");
    let proxy = start(text(CSRF, CSRF_HOST, origin.address));
    let mut client = proxy.connect();
    for (method, path, headers, status) in [
        ("GET", "/", "", 200),
        ("POST", "/", "", 403),
        ("POST", "/", "origin: null\r\nreferer: http://test:80/x\r\n", 403),
        ("PUT", "/", "origin: http://test:80\r\n", 200),
        ("DELETE", "/", "referer: http://test:80/x?y\r\n", 200),
        ("PATCH", "/", "origin: http://test\r\n", 403),
        ("POST", "/", "origin: https://x.ok.example/a\r\n", 200),
        ("POST", "/", "origin: https://x.ok.example:443\r\n", 403),
        ("POST", "/shadow", "origin: https://x.ok.example\r\n", 200),
        ("POST", "/shadow", "", 200),
    ] {
        let response = send(&mut client, method, path, &format!("content-length: 0\r\n{headers}"));
        assert_eq!(response.status(), status, "{method} {path} {headers}");
        assert_eq!(response.text(), if status == 403 { "Invalid origin" } else { "here" });
    }
    let count = |name: &str| proxy.counter(&format!("http.test.csrf.{name}"));
    assert_eq!((count("missing_source_origin"), count("request_invalid"), count("request_valid")), (3, 3, 3));
}

#[test]
fn settings_against_forgery_are_judged() {
    let filter = CSRF.replace("filter_enabled: { default_value: { numerator: 100 } }", "");
    let without = faults(&filter, CSRF_HOST);
    assert!(without.contains(&format!("{}.filter_enabled", place(0))), "{without}");
    let host = CSRF_HOST.replace("csrf: {", "csrf: { additional_origins: [{ exact: x, ignore: 1 }],");
    let unknown = faults(CSRF, &host);
    assert!(unknown.contains("routes[0].typed_per_filter_config.csrf.additional_origins[0]"), "{unknown}");
}
