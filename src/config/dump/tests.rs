//! JSON as Envoy's `config_dump` writes it (compared with real Envoy's for the examples; here what they do not hold).

use super::*;
use crate::config::load::validate;
use crate::config::{LoadOptions, Source};

/// What a bootstrap reads after it has been loaded.
fn dumped(yaml: &str, options: Options) -> String {
    let source = Source { path: None, yaml: Some(yaml.to_owned()) };
    let validated = validate(&source, &LoadOptions::default()).unwrap_or_else(|faults| panic!("{faults}"));
    bootstrap(&validated.wire, options)
}

const SHORT: Options = Options { pretty: false, redact: true };

#[test]
fn values_have_the_forms_of_proto_json() {
    // A fraction without quotes is text to Envoy's YAML reader, unless the field is a number.
    let cases = [
        ("stats_flush_interval: 0.25s", r#"{"stats_flush_interval":"0.250s"}"#),
        ("stats_server_version_override: 7", r#"{"stats_server_version_override":"7"}"#),
        (
            "node: { metadata: { a: [1, 2.5, x, true, ~, {}], b: \"\\\"\\n\\u0001\" } }",
            r#"{"node":{"metadata":{"a":[1,"2.5","x",true,null,{}],"b":"\"\n\u0001"}}}"#,
        ),
        (
            "node: { user_agent_build_version: { version: { major_number: 1 } } }",
            r#"{"node":{"user_agent_build_version":{"version":{"major_number":1}}}}"#,
        ),
        (
            "stats_config: { histogram_bucket_settings: [{ match: { prefix: a }, buckets: [1, 2.5] }] }",
            r#"{"stats_config":{"histogram_bucket_settings":[{"match":{"prefix":"a"},"buckets":[1,2.5]}]}}"#,
        ),
        (
            "static_resources: { clusters: [{ name: c, lb_policy: random, connect_timeout: { seconds: 3 } }] }",
            r#"{"static_resources":{"clusters":[{"name":"c","connect_timeout":"3s","lb_policy":"RANDOM"}]}}"#,
        ),
    ];
    for (yaml, expected) in cases {
        assert_eq!(dumped(yaml, SHORT), expected, "{yaml}");
    }
}

#[test]
fn it_is_indented_by_one_space() {
    let yaml = "node: { id: a, client_features: [b] }";
    let expected = "{\n \"node\": {\n  \"id\": \"a\",\n  \"client_features\": [\n   \"b\"\n  ]\n }\n}";
    assert_eq!(dumped(yaml, Options::default()), expected);
}

#[test]
fn secrets_are_redacted_unless_asked_for() {
    let yaml = "static_resources: { secrets: [{ name: s, tls_certificate: { \
        private_key: { inline_string: key }, password: { inline_bytes: aGVsbG8= } } }] }";
    let redacted = dumped(yaml, SHORT);
    assert!(redacted.contains(r#""private_key":{"inline_string":"[redacted]"}"#), "{redacted}");
    assert!(redacted.contains(r#""password":{"inline_bytes":"W3JlZGFjdGVkXQ=="}"#), "{redacted}");
    let open = dumped(yaml, Options { pretty: false, redact: false });
    assert!(open.contains(r#""inline_string":"key""#) && open.contains(r#""inline_bytes":"aGVsbG8=""#), "{open}");
}

#[test]
fn times_are_written_as_they_are_read() {
    let mut out = String::new();
    scalar::timestamp(&mut out, (951_827_696, 789_000_000));
    scalar::timestamp(&mut out, (-1, 0));
    scalar::duration(&mut out, (0, -500_000_000));
    assert_eq!(out, r#""2000-02-29T12:34:56.789Z""1969-12-31T23:59:59Z""-0.500s""#);
}
