//! Role-based access control, from the text of a configuration to what clients see.

use std::sync::Arc;

use heirloom::config::model;

use crate::motion::moves_past;
use crate::support::filtered::{HELLO, filter, read, refuses, start, text};
use crate::support::http2;
use crate::support::proxy::Proxy;
use crate::support::tls::*;

const TYPE: &str = "\"@type\": type.googleapis.com/envoy.extensions.filters.http.rbac.v3.RBAC";
const ON_ROUTE: &str = "\"@type\": type.googleapis.com/envoy.extensions.filters.http.rbac.v3.RBACPerRoute";
const TEMPLATE: &str = "type.googleapis.com/envoy.extensions.path.match.uri_template.v3.UriTemplateMatchConfig";
const UPSTREAM: &str = "type.googleapis.com/envoy.extensions.rbac.matchers.upstream_ip_port.v3.UpstreamIpPortMatcher";
const CERTIFICATE: &str = "type.googleapis.com/envoy.extensions.rbac.principals.mtls_authenticated.v3.Config";
const ANYBODY: &str = "principals: [{ any: true }]";
const ANYTHING: &str = "permissions: [{ any: true }]";

fn rbac(settings: &str) -> String {
    filter("rbac", TYPE, settings)
}

fn allow(policy: &str) -> String {
    rbac(&format!("rules: {{ policies: {{ it: {{ {policy} }} }} }}"))
}

fn status(proxy: &Proxy, head: &str) -> u16 {
    let mut client = proxy.connect();
    client.send(format!("{head}\r\nhost: a.test\r\n\r\n"));
    client.response().status()
}

#[test]
fn what_the_rules_deny_is_not_done() {
    let directory = tempfile::tempdir().unwrap();
    let log = directory.path().join("log");
    let logs = format!(
        "access_log: [{{ name: a, typed_config: {{ \"@type\": \
         type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog, path: {}, log_format: {{ \
         text_format_source: {{ inline_string: \"%REQ(:path)% %RESPONSE_CODE% %RESPONSE_CODE_DETAILS%\\n\" }} }} }} }}]",
        log.display()
    );
    let rules = format!(
        "rules_stat_prefix: main., shadow_rules_stat_prefix: shadow, track_per_rule_stats: true, rules: {{ action: \
         DENY, policies: {{ no admin: {{ permissions: [{{ url_path: {{ path: {{ prefix: /admin }} }} }}], {ANYBODY} }} \
         }} }}, shadow_rules: {{ policies: {{ z: {{ {ANYTHING}, {ANYBODY} }}, a: {{ permissions: [{{ header: {{ name: \
         x-a }} }}], {ANYBODY} }} }} }}"
    );
    let routes = format!(
        "- match: {{ prefix: /open }}\n  direct_response: {{ status: 200 }}\n  typed_per_filter_config: {{ rbac: {{ \
         {ON_ROUTE} }} }}\n- match: {{ prefix: /shut }}\n  direct_response: {{ status: 200 }}\n  \
         typed_per_filter_config: {{ rbac: {{ {ON_ROUTE}, rbac: {{ rules: {{}} }} }} }}\n{HELLO}"
    );
    let proxy = start(text(&logs, &rbac(&rules), &routes, &[]));
    let mut client = proxy.connect();
    assert_eq!(client.get("/").text(), "hello");
    let response = client.get("/admin/x?y");
    assert_eq!((response.status(), response.text()), (403, "RBAC: access denied"));
    assert_eq!(client.get("/?/admin").status(), 200);
    assert_eq!((client.get("/open").status(), client.get("/shut").status()), (200, 403));
    client.send("POST /admin HTTP/1.1\r\nhost: a\r\ncontent-type: application/grpc\r\ncontent-length: 0\r\n\r\n");
    let response = client.response();
    assert_eq!((response.status(), response.header("grpc-status")), (200, Some("7")));
    let (code, body) = http2::run(async {
        let (send, _) = http2::connect(proxy.address).await;
        http2::ask(&send, "/admin").await.unwrap()
    });
    assert_eq!((code, &*body), (403, &b"RBAC: access denied"[..]));
    assert_eq!(status(&proxy, "GET / HTTP/1.1\r\nx-a: 1"), 200);
    for (name, value) in [
        ("main.allowed", 3),
        ("main.denied", 4),
        ("main.policy.no admin.denied", 3),
        ("shadow.shadow_allowed", 6),
        ("shadow.shadow_denied", 0),
        ("shadow.policy.a.shadow_allowed", 1),
        ("shadow.policy.z.shadow_allowed", 5),
    ] {
        assert_eq!(proxy.counter(&format!("http.test.rbac.{name}")), value, "{name}");
    }
    drop(client);
    let lines = || std::fs::read_to_string(&log).unwrap_or_default();
    crate::support::eventually("all is logged", || lines().lines().count() == 8);
    let lines = lines();
    let lines: Vec<&str> = lines.lines().collect();
    assert_eq!(lines[1], "/admin/x?y 403 rbac_access_denied_matched_policy[no_admin]");
    assert_eq!(lines[4], "/shut 403 rbac_access_denied_matched_policy[none]");
}

#[test]
fn permissions_and_principals_are_what_they_say() {
    let permission = |text: &str| format!("permissions: [{text}], {ANYBODY}");
    let principal = |text: &str| format!("{ANYTHING}, principals: [{text}]");
    let here = "{ address_prefix: 127.0.0.0, prefix_len: 8 }";
    let there = "{ address_prefix: 10.0.0.0, prefix_len: 8 }";
    let plain = "GET /a?b HTTP/1.1";
    for (policy, head, expected) in [
        (permission("{ any: true }"), plain, 200),
        (permission("{ url_path: { path: { exact: /a } } }"), plain, 200),
        (permission("{ url_path: { path: { exact: /b } } }"), plain, 403),
        (permission("{ header: { name: \":method\", string_match: { exact: GET } } }"), plain, 200),
        (permission("{ header: { name: \":method\", string_match: { exact: GET } } }"), "PUT /a HTTP/1.1", 403),
        (permission(&format!("{{ destination_ip: {here} }}")), plain, 200),
        (permission(&format!("{{ destination_ip: {there} }}")), plain, 403),
        (permission("{ destination_port: 1 }"), plain, 403),
        (permission("{ destination_port_range: { start: 2, end: 65536 } }"), plain, 200),
        (permission("{ destination_port_range: { start: 1, end: 2 } }"), plain, 403),
        (permission("{ requested_server_name: { exact: a.test } }"), plain, 403),
        (permission("{ requested_server_name: { exact: \"\" } }"), plain, 200),
        (permission("{ not_rule: { any: true } }"), plain, 403),
        (permission("{ and_rules: { rules: [{ any: true }, { destination_port: 1 }] } }"), plain, 403),
        (permission("{ or_rules: { rules: [{ destination_port: 1 }, { any: true }] } }"), plain, 200),
        (permission("{ destination_port: 1 }, { any: true }"), plain, 200),
        (principal(&format!("{{ direct_remote_ip: {here} }}")), plain, 200),
        (principal(&format!("{{ direct_remote_ip: {there} }}")), "GET / HTTP/1.1\r\nx-forwarded-for: 10.1.1.1", 403),
        (principal(&format!("{{ remote_ip: {there} }}")), "GET / HTTP/1.1\r\nx-forwarded-for: 10.1.1.1", 200),
        (principal(&format!("{{ remote_ip: {here} }}")), "GET / HTTP/1.1\r\nx-forwarded-for: 10.1.1.1", 403),
        (principal("{ header: { name: x-who, string_match: { exact: me } } }"), "GET / HTTP/1.1\r\nx-who: me", 200),
        (principal("{ header: { name: x-who, string_match: { exact: me } } }"), plain, 403),
        (principal("{ url_path: { path: { safe_regex: { regex: \"/[a-c]\" } } } }"), plain, 200),
        (
            permission(&format!(
                "{{ uri_template: {{ name: t, typed_config: {{ \"@type\": {TEMPLATE}, path_template: \"/{{x}}\" }} }} }}"
            )),
            plain,
            200,
        ),
        (
            permission(&format!(
                "{{ uri_template: {{ name: t, typed_config: {{ \"@type\": {TEMPLATE}, path_template: \"/b/{{x}}\" }} }} }}"
            )),
            plain,
            403,
        ),
        (
            principal(&format!(
                "{{ custom: {{ name: c, typed_config: {{ \"@type\": {CERTIFICATE}, any_validated_client_certificate: true }} }} }}"
            )),
            plain,
            403,
        ),
        (principal("{ authenticated: {} }"), plain, 403),
        (principal("{ not_id: { authenticated: {} } }"), plain, 200),
        (principal("{ and_ids: { ids: [{ any: true }, { authenticated: {} }] } }"), plain, 403),
        (principal("{ or_ids: { ids: [{ authenticated: {} }, { any: true }] } }"), plain, 200),
    ] {
        let proxy = start(text("", &allow(&policy), HELLO, &[]));
        assert_eq!(status(&proxy, head), expected, "{policy}\n{head}");
    }
}

/// A filter that leaves these in the metadata of every request.
const METADATA: &str = "- name: md\n  typed_config: { \"@type\": \
    type.googleapis.com/envoy.extensions.filters.http.set_metadata.v3.Config, metadata: [{ metadata_namespace: ns, value: { s: \
    text, num: 3, b: true, z: null, l: [a, 1], o: { x: deep } } }] }\n";

#[test]
fn metadata_is_asked_as_in_envoy() {
    let asked = |path: &str, value: &str| {
        format!("sourced_metadata: {{ metadata_matcher: {{ filter: ns, path: [{path}], value: {{ {value} }} }} }}")
    };
    let key = |key: &str| format!("{{ key: {key} }}");
    for (wanted, expected) in [
        (asked(&key("s"), "string_match: { exact: text }"), 200),
        (asked(&key("s"), "string_match: { exact: other }"), 403),
        (asked(&key("s"), "present_match: true"), 200),
        (asked(&key("o"), "present_match: true"), 200),
        (asked(&key("z"), "present_match: true"), 200),
        (asked(&key("q"), "present_match: true"), 403),
        (asked(&key("q"), "present_match: false"), 403),
        (asked(&key("s"), "present_match: false"), 403),
        (asked(&key("z"), "null_match: {}"), 200),
        (asked(&key("q"), "null_match: {}"), 403),
        (asked(&key("num"), "double_match: { range: { start: 3, end: 4 } }"), 200),
        (asked(&key("num"), "double_match: { range: { start: 2, end: 3 } }"), 403),
        (asked(&key("l"), "list_match: { one_of: { double_match: { exact: 1 } } }"), 200),
        (asked(&key("l"), "list_match: { one_of: { string_match: { exact: b } } }"), 403),
        (asked(&key("b"), "bool_match: true"), 200),
        (asked(&key("b"), "bool_match: false"), 403),
        (asked("{ key: o }, { key: x }", "string_match: { prefix: de }"), 200),
        (asked("{ key: s }, { key: x }", "present_match: true"), 403),
        (asked(&key("s"), "or_match: { value_matchers: [{ null_match: {} }, { string_match: { exact: text } }] }"), 200),
        ("sourced_metadata: { metadata_matcher: { filter: none, path: [{ key: a }], value: { present_match: true }, invert: true } }".into(), 200),
        ("sourced_metadata: { metadata_source: ROUTE, metadata_matcher: { filter: of, path: [{ key: r }], value: { string_match: { exact: route } } } }".into(), 200),
        ("sourced_metadata: { metadata_source: ROUTE, metadata_matcher: { filter: ns, path: [{ key: s }], value: { present_match: true } } }".into(), 403),
    ] {
        let routes = HELLO.replace("  direct_response", "  metadata: { filter_metadata: { of: { r: route } } }\n  direct_response");
        for policy in [format!("permissions: [{{ {wanted} }}], {ANYBODY}"), format!("{ANYTHING}, principals: [{{ {wanted} }}]")] {
            let proxy = start(text("", &(METADATA.to_owned() + &allow(&policy)), &routes, &[]));
            assert_eq!(status(&proxy, "GET / HTTP/1.1"), expected, "{policy}");
        }
    }
}

#[test]
fn a_matcher_decides_in_the_place_of_rules() {
    let input = |of: &str| format!("input: {{ name: i, typed_config: {{ \"@type\": type.googleapis.com/{of} }} }}");
    let act = |name: &str, action: &str| {
        format!(
            "action: {{ name: a, typed_config: {{ \"@type\": type.googleapis.com/envoy.config.rbac.v3.Action, name: \"{name}\", \
             action: {action} }} }}"
        )
    };
    let header = input("envoy.type.matcher.v3.HttpRequestHeaderMatchInput, header_name: x-who");
    let tree = format!(
        "{{ matcher_tree: {{ {header}, exact_match_map: {{ map: {{ me: {{ {} }}, you: {{ {} }}, it: {{ {} }} }} }} }} }}",
        act("let me", "ALLOW"),
        act("not you", "DENY"),
        act("look at it", "LOG"),
    );
    let shadow = format!("shadow_matcher: {{ on_no_match: {{ {} }} }}", act("nobody", "DENY"));
    let settings =
        format!("track_per_rule_stats: true, shadow_rules_stat_prefix: dark, rules: {{}}, matcher: {tree}, {shadow}");
    let loaded = read(text("", &rbac(&settings), HELLO, &[])).unwrap_or_else(|faults| panic!("{faults}"));
    let warnings: Vec<String> = loaded.warnings.iter().map(ToString::to_string).collect();
    assert!(warnings.iter().any(|text| text.contains("rules: is ignored where there is a matcher")), "{warnings:?}");
    let proxy = start(text("", &rbac(&settings), HELLO, &[]));
    let of = |who: &str| status(&proxy, &format!("GET / HTTP/1.1\r\nx-who: {who}"));
    assert_eq!([of("me"), of("you"), of("it"), of("nobody")], [200, 403, 200, 403]);
    for (name, value) in [
        ("allowed", 2),
        ("denied", 2),
        ("policy.let me.allowed", 1),
        ("policy.not you.denied", 1),
        ("dark.shadow_denied", 4),
        ("dark.policy.nobody.shadow_denied", 4),
    ] {
        assert_eq!(proxy.counter(&format!("http.test.rbac.{name}")), value, "{name}");
    }
    const NETWORK: &str = "envoy.extensions.matching.common_inputs.network.v3";
    for (of, value, expected) in [
        (format!("{NETWORK}.SourceIPInput"), "10.1.1.1", 200),
        (format!("{NETWORK}.SourcePortInput"), "0", 200),
        (format!("{NETWORK}.DirectSourceIPInput"), "127.0.0.1", 200),
        (format!("{NETWORK}.DestinationIPInput"), "127.0.0.1", 200),
        (format!("{NETWORK}.DestinationPortInput"), "1", 403),
        (format!("{NETWORK}.SourceTypeInput"), "local", 200),
        (format!("{NETWORK}.ServerNameInput"), "a.test", 403),
        ("envoy.type.matcher.v3.HttpRequestQueryParamMatchInput, query_param: q".to_owned(), "a b", 200),
        ("envoy.extensions.matching.common_inputs.ssl.v3.SubjectInput".to_owned(), "a", 403),
        ("envoy.extensions.matching.common_inputs.ssl.v3.DnsSanInput".to_owned(), "a", 403),
        ("envoy.extensions.matching.common_inputs.ssl.v3.UriSanInput".to_owned(), "a", 403),
    ] {
        let one = format!("{{ single_predicate: {{ {}, value_match: {{ exact: \"{value}\" }} }} }}", input(&of));
        let list = format!(
            "matcher: {{ matcher_list: {{ matchers: [{{ predicate: {one}, on_match: {{ {} }} }}] }} }}",
            act("a", "ALLOW")
        );
        let proxy = start(text("", &rbac(&list), HELLO, &[]));
        assert_eq!(status(&proxy, "GET /?q=a%20b HTTP/1.1\r\nx-forwarded-for: 10.1.1.1"), expected, "{of}");
    }
}

#[test]
fn a_client_is_known_by_its_certificate() {
    let authority = Authority::default();
    let named = |name: &str| {
        let policy = format!(
            "permissions: [{{ requested_server_name: {{ exact: a.test }} }}], principals: [{{ authenticated: {name} }}]"
        );
        let loaded = read(text("", &allow(&policy), HELLO, &[])).unwrap_or_else(|faults| panic!("{faults}"));
        let clients = model::ClientValidation {
            required: false,
            trusted: vec![authority.certificate.clone()],
            ..model::ClientValidation::default()
        };
        let tls = model::DownstreamTls { clients: Some(clients), ..tls(&[&authority.issue(&["a.test"])]) };
        Proxy::start_with(secured((*loaded.bootstrap.listeners[0]).clone(), tls), Vec::new(), &[])
    };
    let ask = |proxy: &Proxy, own: Option<&Issued>| {
        let config = Arc::new(authority.client_with(&[&rustls::version::TLS13], own));
        Secure::connect(proxy.address, &config, "a.test").get("/").status()
    };
    let me = authority.issue(&["other.test", "me.test"]);
    let proxy = named("{ principal_name: { exact: me.test } }");
    assert_eq!((ask(&proxy, Some(&me)), ask(&proxy, None)), (200, 403));
    assert_eq!(ask(&named("{ principal_name: { exact: you.test } }"), Some(&me)), 403);
    assert_eq!(ask(&named("{}"), None), 200, "any TLS, as in Envoy");
}

#[test]
fn a_request_that_was_let_through_can_move() {
    moves_past(&allow(&format!("{ANYTHING}, {ANYBODY}")));
}

#[test]
fn faults_have_their_place() {
    let place = "http_filters[0].typed_config.rules.policies.it";
    for (policy, fault) in [
        (
            format!("permissions: [{{ destination_port_range: {{ start: 3, end: 2 }} }}], {ANYBODY}"),
            "permissions[0].destination_port_range: range start 3 cannot be greater or equal than range end 2",
        ),
        (
            format!("permissions: [{{ destination_port_range: {{ start: -1, end: 2 }} }}], {ANYBODY}"),
            "permissions[0].destination_port_range: range start -1 is out of bounds",
        ),
        (
            format!(
                "permissions: [{{ and_rules: {{ rules: [{{ url_path: {{ path: {{ safe_regex: {{ regex: \"(\" }} }} }} }}] }} }}], {ANYBODY}"
            ),
            "permissions[0].and_rules.rules[0].url_path.path.safe_regex.regex: not a regular expression",
        ),
        (
            format!(
                "permissions: [{{ matcher: {{ name: a, typed_config: {{ \"@type\": {UPSTREAM} }} }} }}], {ANYBODY}"
            ),
            "permissions[0].matcher: is not supported yet",
        ),
        (
            format!(
                "{ANYTHING}, principals: [{{ custom: {{ name: a, typed_config: {{ \"@type\": {CERTIFICATE} }} }} }}]"
            ),
            "principals[0].custom.typed_config: one of san_matcher and any_validated_client_certificate must be set",
        ),
        (format!("{ANYTHING}, principals: []"), "principals: "),
        (format!("{ANYTHING}, {ANYBODY}, condition: {{}}"), "condition: is not supported yet"),
    ] {
        refuses(text("", &allow(&policy), HELLO, &[]), &format!("{place}.{fault}"));
    }
    let on_route = format!(
        "- match: {{ prefix: / }}\n  direct_response: {{ status: 200 }}\n  typed_per_filter_config: {{ rbac: {{ \
         {ON_ROUTE}, rbac: {{ shadow_matcher: {{ on_no_match: {{ action: {{ name: a }} }} }} }} }} }}\n"
    );
    refuses(
        text("", &rbac(""), &on_route, &[]),
        "typed_per_filter_config.rbac.rbac.shadow_matcher.on_no_match.action.typed_config: is required",
    );
}
