//! Role-based access control, from the text of a configuration to what clients see.

use std::io::Write;
use std::sync::Arc;

use heirloom::config::model;

use crate::motion::Way;
use crate::support::filtered::{read, refuses, start, text};
use crate::support::http2;
use crate::support::origin::Origin;
use crate::support::proxy::Proxy;
use crate::support::tls::*;

const TYPE: &str = "\"@type\": type.googleapis.com/envoy.extensions.filters.http.rbac.v3.RBAC";
const ON_ROUTE: &str = "\"@type\": type.googleapis.com/envoy.extensions.filters.http.rbac.v3.RBACPerRoute";
const HELLO: &str = "- match: { prefix: / }\n  direct_response: { status: 200, body: { inline_string: hello } }\n";
const ANYBODY: &str = "principals: [{ any: true }]";
const ANYTHING: &str = "permissions: [{ any: true }]";

fn rbac(settings: &str) -> String {
    format!("- name: rbac\n  typed_config: {{ {TYPE}, {settings} }}\n")
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
        (principal("{ authenticated: {} }"), plain, 403),
        (principal("{ not_id: { authenticated: {} } }"), plain, 200),
        (principal("{ and_ids: { ids: [{ any: true }, { authenticated: {} }] } }"), plain, 403),
        (principal("{ or_ids: { ids: [{ authenticated: {} }, { any: true }] } }"), plain, 200),
    ] {
        let proxy = start(text("", &allow(&policy), HELLO, &[]));
        assert_eq!(status(&proxy, head), expected, "{policy}\n{head}");
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
    let (go_on, may_go_on) = std::sync::mpsc::channel::<()>();
    let may_go_on = std::sync::Mutex::new(may_go_on);
    let origin = Origin::raw(move |_, mut wire| {
        wire.head().unwrap();
        may_go_on.lock().unwrap().recv().unwrap();
        wire.socket.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello").unwrap();
    });
    let routes = "- match: { prefix: / }\n  route: { cluster: origin }\n";
    let filters = allow(&format!("{ANYTHING}, {ANYBODY}"));
    let begin = || start(text("", &filters, routes, &[("origin", origin.address)]));
    let (from, to) = (begin(), begin());
    let mut client = from.connect();
    client.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n");
    from.await_gauge("cluster.origin.upstream_rq_active", 1);
    let way = Way::open(&from, &to);
    to.await_gauge("cluster.origin.upstream_rq_active", 1);
    go_on.send(()).unwrap();
    assert_eq!(client.response().text(), "hello");
    assert_eq!(way.close(&from), (1, Vec::new()));
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
                "permissions: [{{ sourced_metadata: {{ metadata_matcher: {{ filter: a, path: [{{ key: a }}], value: {{ present_match: true }} }} }} }}], {ANYBODY}"
            ),
            "permissions[0].sourced_metadata: is not supported yet",
        ),
        (
            format!(
                "{ANYTHING}, principals: [{{ not_id: {{ filter_state: {{ key: a, string_match: {{ exact: a }} }} }} }}]"
            ),
            "principals[0].not_id.filter_state: is not supported yet",
        ),
        (format!("{ANYTHING}, principals: []"), "principals: "),
        (format!("{ANYTHING}, {ANYBODY}, condition: {{}}"), "condition: is not supported yet"),
    ] {
        refuses(text("", &allow(&policy), HELLO, &[]), &format!("{place}.{fault}"));
    }
    let on_route = format!(
        "- match: {{ prefix: / }}\n  direct_response: {{ status: 200 }}\n  typed_per_filter_config: {{ rbac: {{ \
         {ON_ROUTE}, rbac: {{ shadow_matcher: {{}} }} }} }}\n"
    );
    refuses(text("", &rbac(""), &on_route, &[]), "typed_per_filter_config.rbac.rbac.shadow_matcher: ");
}
