//! The `header_to_metadata` and `set_metadata` filters: what they leave for filters that come behind.

use std::rc::Rc;

use heirloom::config::extension::HttpFilterKind;
use heirloom::config::model::Settings;
use heirloom::http::filter::{Answer, Extension, Filter, Next, Request};
use http::{HeaderName, HeaderValue};
use serde_json::{Value, json};

use crate::support::client::Client;
use crate::support::configured::{faults, place, start_with, text};
use crate::support::origin::{Origin, ok};

static SHOW: [Extension; 1] = [Extension {
    kind: HttpFilterKind { type_name: "acme.Show", settings: |_, _| Some(Settings::new(())), route: None },
    build: |_| Ok(Rc::new(Show)),
}];

/// Shows the metadata that is there: of the way down to the host, of the way up to the client.
struct Show;

fn shown(next: Next<'_>) -> HeaderValue {
    let names = ["v", "n", "e", "em", "c", "r", "b", "p", "up", "a", "l", "s", "z"];
    let mut found = serde_json::Map::new();
    for namespace in ["envoy.filters.http.header_to_metadata", "own"] {
        let there = names.iter().filter_map(|name| Some((*name, next.stream().record().metadata(namespace, name)?)));
        found.extend(there.map(|(name, value)| (name.to_owned(), value)));
    }
    Value::Object(found).to_string().parse().unwrap()
}

impl Filter for Show {
    fn call<'a>(&'a self, mut request: Request<'a>, next: Next<'a>) -> Answer<'a> {
        request.head.headers.set(HeaderName::from_static("x-shown"), shown(next));
        Answer::later(async move {
            let mut response = next.run(request).await?;
            response.head.headers.set(HeaderName::from_static("x-shown"), shown(next));
            Ok(response)
        })
    }
}

const SHOWS: &str = "
- name: show
  typed_config: { '@type': type.googleapis.com/xds.type.v3.TypedStruct, type_url: type.googleapis.com/acme.Show }
";

const HEADERS: &str = r#"
- name: headers
  typed_config:
    "@": header_to_metadata.v3.Config
    request_rules:
    - { header: x-v, on_header_present: { key: v }, on_header_missing: { key: v, value: none }, remove: true }
    - { header: x-n, on_header_present: { key: "n", type: NUMBER } }
    - { header: x-e, on_header_present: { key: e, value: fixed }, on_header_missing: { key: em, value: missing } }
    - { cookie: c, on_header_present: { key: c, metadata_namespace: own } }
    - { header: x-r, on_header_present: { key: r, regex_value_rewrite: { pattern: { regex: '^/(\w+)/.*' }, substitution: '\1' } } }
    - { header: x-b, on_header_present: { key: b, encode: BASE64 } }
    - { header: x-p, on_header_present: { key: p, encode: BASE64, type: PROTOBUF_VALUE } }
    - { header: ':path', on_header_present: { key: z } }
    response_rules:
    - { header: ':status', on_header_present: { key: l, type: NUMBER } }
    - { header: x-up, on_header_present: { key: up }, remove: true }
"#;

const HEADERS_HOST: &str = r#"
routes:
- match: { prefix: /route }
  route: { cluster: origin }
  typed_per_filter_config:
    headers: { "@": header_to_metadata.v3.Config, request_rules: [{ header: x-v, on_header_present: { key: z } }] }
- match: { prefix: / }
  route: { cluster: origin }
"#;

fn ask(client: &mut Client, path: &str, headers: &str) -> (Value, Value) {
    client.send(format!("GET {path} HTTP/1.1\r\nhost: test\r\n{headers}\r\n"));
    let response = client.response();
    assert_eq!(response.header("x-up"), if path == "/route" { Some("u") } else { None });
    let up = serde_json::from_str(response.header("x-shown").unwrap()).unwrap();
    (serde_json::from_str(response.text()).unwrap(), up)
}

fn origin() -> Origin {
    Origin::http(|request| {
        assert_eq!(request.header("x-v").is_some(), request.path() == "/route" || request.path() == "/set");
        let shown = String::from_utf8(ok(request.header("x-shown").unwrap())).unwrap();
        shown.replacen("\r\n", "\r\nx-up: u\r\n", 1).into_bytes()
    })
}

#[test]
fn headers_and_cookies_are_left_for_others() {
    let origin = origin();
    let proxy = start_with(text(&format!("{SHOWS}{HEADERS}{SHOWS}"), HEADERS_HOST, origin.address), &SHOW);
    let mut client = proxy.connect();
    let all =
        "x-v: a\r\nx-v: c\r\nx-n: 12.5\r\nx-e: \r\ncookie: d=2; c=1\r\nx-r: /foo/bar\r\nx-b: aGVsbG8=\r\nx-p: IAE=\r\n";
    let (down, up) = ask(&mut client, "/", all);
    assert_eq!(
        down,
        json!({ "v": "a,c", "n": 12.5, "e": "fixed", "c": "1", "r": "foo", "b": "hello", "p": true, "z": "/" })
    );
    assert_eq!([&up["up"], &up["l"]], [&json!("u"), &json!(200)]);
    let (down, _) = ask(&mut client, "/", "x-n: many\r\nx-b: ###\r\nx-r: zzz\r\n");
    assert_eq!(down, json!({ "v": "none", "em": "missing", "r": "zzz", "z": "/" }));
    let (down, _) = ask(&mut client, "/", "x-v: \r\nx-n: 3\r\n");
    assert_eq!(down, json!({ "em": "missing", "n": 3, "z": "/" }), "an empty value is not left");
    let long = "x".repeat(8 * 1024);
    let (down, _) = ask(&mut client, "/", &format!("x-v: {long}\r\n"));
    assert_eq!(down, json!({ "em": "missing", "z": "/" }), "nor is one that is too long");
    let (down, up) = ask(&mut client, "/route", all);
    assert_eq!((down, up), (json!({ "z": "a,c" }), json!({ "z": "a,c" })), "a route's rules stand for the chain's");
}

#[test]
fn rules_for_headers_are_judged() {
    for (from, to, expected) in [
        ("{ header: x-n,", "{ header: x-n, cookie: b,", "request_rules[1]: header and cookie cannot both be set"),
        ("{ header: x-n,", "{", "request_rules[1]: one of header and cookie must be set"),
        ("value: missing }", "value: '' }", "request_rules[2].on_header_missing.value: must not be empty"),
        ("{ key: c, metadata_namespace: own }", "{ key: c }, remove: true", "request_rules[3].remove: a cookie"),
        (
            "substitution: '\\1'",
            "substitution: '\\3'",
            "request_rules[4].on_header_present.regex_value_rewrite.substitution",
        ),
        ("{ key: r,", "{ key: r, value: v,", "request_rules[4].on_header_present: value and regex_value_rewrite"),
        (", on_header_present: { key: up }", "", "response_rules[1]: has neither"),
        ("{ header: x-up,", "{ cookie: x-up,", "response_rules[1].cookie: a response has none"),
    ] {
        assert!(HEADERS.contains(from), "{from}");
        let faults = faults(&HEADERS.replacen(from, to, 1), HEADERS_HOST);
        assert!(faults.contains(&format!("{}.{expected}", place(0))), "{faults}");
    }
}

const SET: &str = r#"
- name: set
  typed_config:
    "@": set_metadata.v3.Config
    metadata:
    - { metadata_namespace: own, value: { a: 1, l: [1], s: { x: 1, z: 2 } } }
    - { metadata_namespace: own, value: { a: 2 } }
    - { metadata_namespace: own, allow_overwrite: true, value: { l: [2], s: { x: 5 }, em: true } }
"#;

const SET_HOST: &str = r#"
routes:
- match: { prefix: /set }
  route: { cluster: origin }
  typed_per_filter_config:
    set: { "@": set_metadata.v3.Config, metadata: [{ metadata_namespace: own, value: { a: 3 } }, { metadata_namespace: own, allow_overwrite: true, value: { e: 3 } }] }
- match: { prefix: / }
  route: { cluster: origin }
"#;

#[test]
fn fixed_metadata_is_merged_where_it_may_be() {
    let origin = Origin::http(|request| ok(request.header("x-shown").unwrap()));
    let proxy = start_with(text(&format!("{SET}{SHOWS}"), SET_HOST, origin.address), &SHOW);
    let mut client = proxy.connect();
    let mut expected = json!({ "a": 1, "l": [1, 2], "s": { "x": 5, "z": 2 }, "em": true });
    let seen: Value = serde_json::from_str(client.get("/").text()).unwrap();
    assert_eq!(seen, expected);
    expected["e"] = 3.into();
    let seen: Value = serde_json::from_str(client.get("/set").text()).unwrap();
    assert_eq!(seen, expected);
    assert_eq!(proxy.counter("http.test.set_metadata.overwrite_denied"), 3);
}

#[test]
fn settings_of_metadata_are_judged() {
    for (from, to, expected) in [
        (
            "value: { a: 2 }",
            "typed_value: { '@type': type.googleapis.com/google.protobuf.Empty }",
            "metadata[1].typed_value",
        ),
        ("metadata_namespace: own, value: { a: 2 }", "value: { a: 2 }", "metadata[1].metadata_namespace"),
    ] {
        let faults = faults(&SET.replacen(from, to, 1), SET_HOST);
        assert!(faults.contains(&format!("{}.{expected}", place(0))), "{faults}");
    }
}
