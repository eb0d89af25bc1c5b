//! Matcher trees of virtual hosts, and routes that ask for metadata and for the filter state.

use crate::support::configured::{faults, start, text};
use crate::support::proxy::Proxy;

const ANYWHERE: ([u8; 4], u16) = ([127, 0, 0, 1], 1);

fn input(of: &str) -> String {
    format!("input: {{ name: i, typed_config: {{ \"@type\": type.googleapis.com/{of} }} }}")
}

fn header(name: &str) -> String {
    input(&format!("envoy.type.matcher.v3.HttpRequestHeaderMatchInput, header_name: {name}"))
}

fn route(path: &str, says: &str) -> String {
    format!(
        "match: {{ prefix: {path} }}, name: {says}, stat_prefix: {says}, direct_response: {{ status: 200, body: {{ inline_string: {says} }} }}"
    )
}

/// Leads to one route.
fn to(path: &str, says: &str) -> String {
    format!(
        "{{ action: {{ name: a, typed_config: {{ \"@type\": type.googleapis.com/envoy.config.route.v3.Route, {} }} }} }}",
        route(path, says)
    )
}

/// Leads to several.
fn to_list(routes: &[String]) -> String {
    let routes: Vec<String> = routes.iter().map(|route| format!("{{ {route} }}")).collect();
    format!(
        "{{ action: {{ name: a, typed_config: {{ \"@type\": type.googleapis.com/envoy.config.route.v3.RouteList, routes: [{}] }} }} }}",
        routes.join(", ")
    )
}

fn begin(filters: &str, host: &str) -> Proxy {
    start(text(filters, host, ANYWHERE.into()))
}

/// What answers, or the status.
fn ask(proxy: &Proxy, head: &str) -> String {
    let mut client = proxy.connect();
    client.send(format!("{head}\r\nhost: a.test\r\n\r\n"));
    let response = client.response();
    if response.status() == 200 { response.text().to_owned() } else { response.status().to_string() }
}

#[test]
fn a_tree_leads_to_routes() {
    let tree = format!(
        "matcher: {{ matcher_tree: {{ {}, exact_match_map: {{ map: {{ one: {}, many: {}, deep: {{ matcher: {{ matcher_tree: {{ {}, \
         prefix_match_map: {{ map: {{ /a: {}, /a/b: {} }} }} }} }} }} }} }} }}, on_no_match: {} }}\n",
        header("x-to"),
        to("/one", "one"),
        to_list(&[route("/b", "second"), route("/", "third")]),
        header("\":path\""),
        to("/", "a"),
        to("/", "ab"),
        to("/", "else"),
    );
    let proxy = begin("", &tree);
    let of = |to: &str, path: &str| ask(&proxy, &format!("GET {path} HTTP/1.1\r\nx-to: {to}"));
    assert_eq!(
        [of("one", "/one/x"), of("one", "/two")],
        ["one", "404"],
        "a route that does not match is no second try"
    );
    assert_eq!([of("many", "/b"), of("many", "/c")], ["second", "third"]);
    assert_eq!([of("deep", "/a/c"), of("deep", "/a/bc"), of("deep", "/x")], ["a", "ab", "else"]);
    assert_eq!([of("nobody", "/"), ask(&proxy, "GET / HTTP/1.1")], ["else", "else"]);
    assert_eq!(proxy.counter("http.test.no_route"), 1);
}

#[test]
fn addresses_and_names_lead_to_routes() {
    const NETWORK: &str = "envoy.extensions.matching.common_inputs.network.v3";
    let tree = format!(
        "matcher: {{ matcher_tree: {{ {}, custom_match: {{ name: ip, typed_config: {{ \"@type\": type.googleapis.com/xds.type.matcher.v3.IPMatcher, \
         range_matchers: [{{ ranges: [{{ address_prefix: 10.0.0.0, prefix_len: 8 }}], on_match: {} }}, {{ ranges: [{{ address_prefix: \
         10.2.0.0, prefix_len: 16 }}, {{ address_prefix: \"fd00::\", prefix_len: 8 }}], on_match: {} }}] }} }} }} }}\n",
        input(&format!("{NETWORK}.SourceIPInput")),
        to("/", "ten"),
        to("/", "two"),
    );
    let proxy = begin("", &tree);
    let of = |from: &str| ask(&proxy, &format!("GET / HTTP/1.1\r\nx-forwarded-for: {from}"));
    assert_eq!(["10.1.1.1", "10.2.1.1", "fd00::1", "11.1.1.1"].map(of), ["ten", "two", "two", "404"]);
    let tree = format!(
        "matcher: {{ matcher_tree: {{ {}, custom_match: {{ name: names, typed_config: {{ \"@type\": \
         type.googleapis.com/xds.type.matcher.v3.ServerNameMatcher, domain_matchers: [{{ domains: [a.test, b.test], on_match: {} }}, {{ domains: \
         [\"*.test\"], on_match: {} }}] }} }} }} }}\n",
        header("x-name"),
        to("/", "exact"),
        to("/", "under"),
    );
    let proxy = begin("", &tree);
    let of = |name: &str| ask(&proxy, &format!("GET / HTTP/1.1\r\nx-name: {name}"));
    assert_eq!(["b.test", "x.y.test", "test"].map(of), ["exact", "under", "404"]);
}

#[test]
fn lists_of_predicates_lead_to_routes() {
    let one =
        |name: &str, value: &str| format!("{{ single_predicate: {{ {}, value_match: {{ {value} }} }} }}", header(name));
    let custom = |of: &str| {
        format!(
            "{{ single_predicate: {{ {}, custom_match: {{ name: c, typed_config: {{ \"@type\": \
         type.googleapis.com/envoy.extensions.matching.input_matchers.{of} }} }} }} }}",
            header("x-c")
        )
    };
    let matchers = [
        (
            format!(
                "{{ and_matcher: {{ predicate: [{}, {}] }} }}",
                one("x-a", "exact: \"1\""),
                one("x-b", "prefix: b")
            ),
            "and",
        ),
        (
            format!(
                "{{ or_matcher: {{ predicate: [{}, {}] }} }}",
                one("x-d", "safe_regex: { google_re2: {}, regex: \"d+\" }"),
                one("x-e", "suffix: e")
            ),
            "or",
        ),
        (custom("ip.v3.Ip, stat_prefix: a, cidr_ranges: [{ address_prefix: 10.0.0.0, prefix_len: 8 }]"), "ip"),
        (custom("consistent_hashing.v3.ConsistentHashing, modulo: 2, threshold: 1"), "hash"),
        (
            custom("runtime_fraction.v3.RuntimeFraction, runtime_fraction: { default_value: { numerator: 100 } }"),
            "part",
        ),
        (format!("{{ not_matcher: {} }}", one("x-n", "contains: nn")), "not"),
    ];
    let matchers: Vec<String> = matchers
        .iter()
        .map(|(predicate, says)| format!("{{ predicate: {predicate}, on_match: {} }}", to("/", says)))
        .collect();
    let proxy = begin("", &format!("matcher: {{ matcher_list: {{ matchers: [{}] }} }}\n", matchers.join(", ")));
    let of = |headers: &str| ask(&proxy, &format!("GET / HTTP/1.1\r\n{headers}"));
    assert_eq!([of("x-a: 1\r\nx-b: bb"), of("x-a: 1\r\nx-n: nn")], ["and", "404"]);
    assert_eq!([of("x-d: ddd"), of("x-e: the"), of("x-d: dx"), of("x-n: nn")], ["or", "or", "not", "404"]);
    assert_eq!([of("x-c: 10.1.1.1"), of("x-n: inn")], ["ip", "404"]);
    let hashed: Vec<String> = (0..40).map(|at| of(&format!("x-c: {at}"))).collect();
    let hash = hashed.iter().filter(|says| *says == "hash").count();
    assert!((5..=35).contains(&hash) && hashed.iter().all(|says| says == "hash" || says == "part"), "{hashed:?}");
}

const STATE: &str = "- name: s\n  typed_config: { \"@\": set_filter_state.v3.Config, clear_route_cache: true, on_request_headers: [{ object_key: k, \
    factory_key: envoy.string, format_string: { text_format_source: { inline_string: \"%REQ(x-k)%\" } } }, { object_key: ip, factory_key: \
    envoy.network.ip, format_string: { text_format_source: { inline_string: \"%REQ(x-ip)%\" } } }] }\n";

#[test]
fn routes_ask_for_what_filters_have_left() {
    let metadata = "- name: md\n  typed_config: { \"@\": header_to_metadata.v3.Config, request_rules: [{ header: x-m, on_header_present: { \
         metadata_namespace: ns, key: m } }] }\n";
    let host = format!(
        "routes:\n- {{ {} }}\n- {{ {} }}\n- {{ {} }}\n- {{ {} }}\n",
        route("/", "state").replace("prefix: / ", "prefix: /, filter_state: [{ key: k, string_match: { exact: special } }] "),
        route("/", "address").replace("prefix: / ", "prefix: /, filter_state: [{ key: ip, address_match: { ranges: [{ address_prefix: 10.0.0.0, prefix_len: 8 }] } }] "),
        route("/", "metadata").replace("prefix: / ", "prefix: /, dynamic_metadata: [{ filter: ns, path: [{ key: m }], value: { string_match: { exact: special } } }] "),
        route("/", "else"),
    );
    let proxy = begin(&format!("{metadata}{STATE}"), &host);
    let of = |headers: &str| ask(&proxy, &format!("GET / HTTP/1.1\r\n{headers}"));
    assert_eq!([of("x-k: special"), of("x-k: plain"), of("x-m: special")], ["state", "else", "metadata"]);
    assert_eq!([of("x-ip: 10.1.1.1"), of("x-ip: 11.1.1.1"), of("x-ip: none")], ["address", "else", "else"]);
    // The filter has not worked yet when the route is found first, and without clearing it stays.
    let kept = begin(&format!("{metadata}{}", STATE.replace("clear_route_cache: true, ", "")), &host);
    assert_eq!(ask(&kept, "GET / HTTP/1.1\r\nx-k: special"), "else");
}

#[test]
fn the_filter_state_is_for_access_rules_too() {
    let state = |more: &str| STATE.replace("object_key: k,", &format!("object_key: k, {more}"));
    let rules = |wanted: &str| {
        format!(
            "- name: r\n  typed_config: {{ \"@\": rbac.v3.RBAC, rules: {{ policies: {{ p: {{ permissions: [{{ any: true }}], principals: [{{ \
             filter_state: {{ {wanted} }} }}] }} }} }} }}\n"
        )
    };
    let host = format!("routes: [{{ {} }}]", route("/", "in"));
    for (more, wanted, headers, expected) in [
        ("", "key: k, string_match: { exact: me }", "x-k: me", "in"),
        ("", "key: k, string_match: { exact: me }", "x-k: you", "403"),
        ("", "key: k, string_match: { exact: \"-\" }", "x: y", "in"),
        ("skip_if_empty: true, ", "key: k, string_match: { exact: \"-\" }", "x: y", "in"),
        (
            "",
            "key: k, address_match: { ranges: [{ address_prefix: 10.0.0.0, prefix_len: 8 }] }",
            "x-k: 10.1.1.1",
            "403",
        ),
        (
            "",
            "key: ip, address_match: { ranges: [{ address_prefix: 10.0.0.0, prefix_len: 8 }] }",
            "x-ip: 10.1.1.1",
            "in",
        ),
        (
            "",
            "key: ip, address_match: { ranges: [{ address_prefix: 10.0.0.0, prefix_len: 8 }], invert_match: true }",
            "x-ip: 11.1.1.1",
            "in",
        ),
        ("", "key: ip, string_match: { exact: 10.1.1.1 }", "x-ip: 10.1.1.1", "403"),
        ("", "key: ip, address_match: { ranges: [{ address_prefix: 0.0.0.0 }] }", "x-ip: none", "403"),
    ] {
        let proxy = begin(&(state(more) + &rules(wanted)), &host);
        assert_eq!(ask(&proxy, &format!("GET / HTTP/1.1\r\n{headers}")), expected, "{wanted} {headers}");
    }
    let omit = STATE.replace(
        "{ text_format_source: { inline_string: \"%REQ(x-k)",
        "{ omit_empty_values: true, text_format_source: { inline_string: \"%REQ(x-k)",
    );
    let proxy = begin(&(omit.clone() + &rules("key: k, string_match: { exact: \"\" }")), &host);
    assert_eq!(ask(&proxy, "GET / HTTP/1.1\r\nx: y"), "in");
    let proxy = begin(
        &(omit.replace("object_key: k,", "object_key: k, skip_if_empty: true,")
            + &rules("key: k, string_match: { exact: \"\" }")),
        &host,
    );
    assert_eq!(ask(&proxy, "GET / HTTP/1.1\r\nx: y"), "403");
}

#[test]
fn faults_have_their_place() {
    let on_match = |tree: &str| format!("matcher: {{ on_no_match: {{ matcher: {tree} }} }}\n");
    let nested = |depth: usize| {
        (0..depth).fold("{}".to_owned(), |within, _| format!("{{ on_no_match: {{ matcher: {within} }} }}"))
    };
    let tree = |input: &str, kind: &str| format!("matcher: {{ matcher_tree: {{ {input}, {kind} }} }}\n");
    let exact = format!("exact_match_map: {{ map: {{ a: {} }} }}", to("/", "a"));
    for (host, fault) in [
        (format!("matcher: {{ on_no_match: {} }}\nroutes: [{{ {} }}]\n", to("/", "a"), route("/", "b")), "cannot set both matcher and routes on virtual host"),
        (on_match(&nested(20)), "more than 16 matchers within one another"),
        (tree(&input("envoy.type.matcher.v3.HttpResponseHeaderMatchInput, header_name: a"), &exact), "matcher.matcher_tree.input: is of a response"),
        (tree(&input("xds.type.matcher.v3.HttpAttributesCelMatchInput"), &exact), "the matching input xds.type.matcher.v3.HttpAttributesCelMatchInput is not supported yet"),
        (
            tree(&input("envoy.extensions.matching.common_inputs.network.v3.DynamicMetadataInput, filter: a, path: [{ key: b }]"), &exact),
            "matcher.matcher_tree.input: metadata is no text",
        ),
        (tree(&header("a"), "exact_match_map: { map: {} }"), "matcher.matcher_tree.exact_match_map.map: "),
        (
            tree(&header("a"), "custom_match: { name: ip, typed_config: { \"@type\": type.googleapis.com/xds.type.matcher.v3.IPMatcher, range_matchers: [{ ranges: [{ address_prefix: x }] }] } }"),
            "range_matchers[0].ranges[0].address_prefix: malformed IP address: x",
        ),
        (
            tree(&header("a"), &format!("custom_match: {{ name: names, typed_config: {{ \"@type\": type.googleapis.com/xds.type.matcher.v3.ServerNameMatcher, domain_matchers: [{{ domains: [\"a.*\"], on_match: {} }}] }} }}", to("/", "a"))),
            "domain_matchers[0].domains[0]: `a.*` is no name",
        ),
        ("matcher: { on_no_match: { action: { name: a, typed_config: { \"@type\": type.googleapis.com/envoy.config.rbac.v3.Action, name: a } } } }\n".into(), "the action of a virtual host's matcher envoy.config.rbac.v3.Action is not supported yet"),
        (format!("matcher: {{ on_no_match: {} }}\n", to("/", "a").replace("direct_response: { status: 200", "direct_response: { status: 20")), "on_no_match.action.typed_config.direct_response.status: "),
    ] {
        let told = faults("", &host);
        assert!(told.contains(fault), "{fault} is not in\n{told}");
    }
    let told = faults(&STATE.replace("factory_key: envoy.string", "factory_key: envoy.strong"), "routes: []");
    assert!(
        told.contains("on_request_headers[0].factory_key: 'envoy.strong' does not have an object factory"),
        "{told}"
    );
    let told =
        faults(&STATE.replace("factory_key: envoy.string", "factory_key: envoy.tcp_proxy.cluster"), "routes: []");
    assert!(told.contains("on_request_headers[0].factory_key: is not supported yet"), "{told}");
}

/// A log of one line for each request, of this format and with this filter.
fn log(path: &std::path::Path, format: &str, filter: &str) -> String {
    format!(
        "{{ name: a, {filter} typed_config: {{ \"@type\": type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog, path: {}, \
         log_format: {{ {format} }} }} }}",
        path.display()
    )
}

const LEAVES: &str = "- name: md\n  typed_config: { \"@type\": type.googleapis.com/envoy.extensions.filters.http.set_metadata.v3.Config, metadata: [{ \
    metadata_namespace: ns, value: { s: te xt, num: 3, b: true, z: null, l: [a, 1], o: { x: deep } } }] }\n- name: fs\n  typed_config: { \
    \"@type\": type.googleapis.com/envoy.extensions.filters.http.set_filter_state.v3.Config, on_request_headers: [{ object_key: k, factory_key: \
    envoy.string, format_string: { text_format_source: { inline_string: \"a \\\"b\\\"\" } } }, { object_key: ip, factory_key: envoy.network.ip, \
    format_string: { text_format_source: { inline_string: 10.1.1.1 } } }] }\n";

#[test]
fn access_logs_show_and_ask_for_what_filters_have_left() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("log");
    let text_of = |format: &str| log(&path, &format!("text_format_source: {{ inline_string: \"{format}\\n\" }}"), "");
    let filtered = |says: &str, key: &str, value: &str, more: &str| {
        let filter = format!(
            "filter: {{ metadata_filter: {{ matcher: {{ filter: ns, path: [{{ key: {key} }}], value: {{ {value} }} }}{more} }} }},"
        );
        log(&path, &format!("text_format_source: {{ inline_string: \"{says}\\n\" }}"), &filter)
    };
    let json = "json_format: { a: \"%DYNAMIC_METADATA(ns:s)%\", b: \"%DYNAMIC_METADATA(ns:num)%\", c: \"%DYNAMIC_METADATA(ns:o)%\", d: \
                \"%DYNAMIC_METADATA(ns:z)%\", e: \"%DYNAMIC_METADATA(ns:l)% %DYNAMIC_METADATA(ns:b)%\", f: \"%FILTER_STATE(k)%\", g: \
                \"%FILTER_STATE(k:PLAIN):3%\", h: \"%FILTER_STATE(ip)%\" }";
    let logs = [
        text_of(
            "1 %DYNAMIC_METADATA(ns:s)% %DYNAMIC_METADATA(ns:o:x)% %DYNAMIC_METADATA(ns:q)% %DYNAMIC_METADATA(ns:s):2%",
        ),
        text_of(
            "2 %FILTER_STATE(k)% %FILTER_STATE(k:PLAIN)% %FILTER_STATE(ip:PLAIN)% %FILTER_STATE(ip)% %FILTER_STATE(q)%",
        ),
        log(&path, json, ""),
        filtered("3 match", "s", "string_match: { exact: te xt }", ""),
        filtered("3 other", "s", "string_match: { exact: other }", ""),
        filtered("3 absent", "q", "string_match: { exact: a }", ""),
        filtered("3 absent and asked for", "q", "string_match: { exact: a }", ", match_if_key_not_found: false"),
        filtered("3 null", "z", "string_match: { exact: a }", ""),
    ];
    let manager = format!("access_log: [{}]\n", logs.join(", "));
    let proxy = crate::support::filtered::start(crate::support::filtered::text(
        &manager,
        LEAVES,
        crate::support::filtered::HELLO,
        &[],
    ));
    assert_eq!(proxy.connect().get("/").status(), 200);
    let lines = || {
        let mut lines: Vec<String> =
            std::fs::read_to_string(&path).unwrap_or_default().lines().map(str::to_owned).collect();
        lines.sort();
        lines
    };
    crate::support::eventually("all is logged", || lines().len() == 5);
    assert_eq!(
        lines(),
        [
            "1 te xt deep - te",
            "2 \"a \\\"b\\\"\" a \"b\" 10.1.1.1:0 - -",
            "3 absent",
            "3 match",
            "{\"a\":\"te xt\",\"b\":3,\"c\":{\"x\":\"deep\"},\"d\":null,\"e\":\"[\\\"a\\\",1] true\",\"f\":\"a \\\"b\\\"\",\"g\":\"a \\\"\",\"h\":null}",
        ]
    );
}

#[test]
fn a_request_moves_with_what_filters_have_said_of_it() {
    crate::motion::moves_past(LEAVES);
}

#[test]
fn a_line_that_is_written_in_another_epoch_has_it_too() {
    use crate::support::filtered;
    use std::io::Write;
    let (tell, wires) = std::sync::mpsc::channel();
    let tell = std::sync::Mutex::new(tell);
    let origin = crate::support::origin::Origin::raw(move |_, wire| drop(tell.lock().unwrap().send(wire)));
    let directory = tempfile::tempdir().unwrap();
    let begin = |name: &str| {
        let format = "text_format_source: { inline_string: \"%DYNAMIC_METADATA(ns:o:x)% %FILTER_STATE(k:PLAIN)%\\n\" }";
        let manager = format!("access_log: [{}]\n", log(&directory.path().join(name), format, ""));
        let routes = "- match: { prefix: / }\n  route: { cluster: origin }\n";
        filtered::start(filtered::text(&manager, LEAVES, routes, &[("origin", origin.address)]))
    };
    let (old, new) = (begin("old"), begin("new"));
    let mut client = old.connect();
    client.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n");
    let mut host = wires.recv_timeout(crate::support::PATIENCE).unwrap();
    host.head().unwrap().unwrap();
    host.socket.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 8\r\n\r\nhalf").unwrap();
    assert_eq!(client.head().status(), 200);
    let way = crate::motion::Way::open(&old, &new);
    new.await_gauge("http.test.downstream_rq_active", 1);
    host.socket.write_all(b"done").unwrap();
    assert_eq!(client.wire.bytes(8).unwrap(), b"halfdone");
    assert_eq!(way.close(&old), (1, Vec::new()));
    let line = || std::fs::read_to_string(directory.path().join("new")).unwrap_or_default();
    crate::support::eventually("the line is written", || !line().is_empty());
    assert_eq!(line(), "deep a \"b\"\n");
}

/// A listener whose filter chains `near` and `far`, and the default one, answer with their names.
fn listener(fields: &str, own: &str) -> String {
    let chain = |says: &str| {
        format!(
            "filters: [{{ name: hcm, typed_config: {{ \"@type\": \
             type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager, stat_prefix: test, \
             http_filters: [{{ name: r, typed_config: {{ \"@type\": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router }} }}], \
             route_config: {{ virtual_hosts: [{{ name: all, domains: [\"*\"], routes: [{{ {} }}] }}] }} }} }}]",
            route("/", says)
        )
    };
    format!(
        "static_resources:\n  listeners:\n  - address: {{ socket_address: {{ address: 127.0.0.1, port_value: 0 }} }}\n    {fields}\n    filter_chains:\n    - {{ name: \
         near, {own} {} }}\n    - {{ name: far, {} }}\n    default_filter_chain: {{ {} }}\n",
        chain("near"),
        chain("far"),
        chain("default"),
    )
}

#[test]
fn a_tree_leads_to_filter_chains() {
    use crate::support::filtered;
    const NETWORK: &str = "envoy.extensions.matching.common_inputs.network.v3";
    let to = |name: &str| {
        format!(
            "{{ action: {{ name: a, typed_config: {{ \"@type\": type.googleapis.com/google.protobuf.StringValue, value: {name} }} }} }}"
        )
    };
    let by = |of: &str, key: &str, then: &str| {
        let input = input(&format!("{NETWORK}.{of}"));
        format!(
            "filter_chain_matcher: {{ matcher_tree: {{ {input}, exact_match_map: {{ map: {{ {key}: {} }} }} }} }}",
            to(then)
        )
    };
    let inspected = "listener_filters: [{ name: t, typed_config: { \"@type\": \
                     type.googleapis.com/envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector } }]\n    ";
    for (fields, says) in [
        (by("DirectSourceIPInput", "127.0.0.1", "near"), "near"),
        (by("SourceTypeInput", "local", "far"), "far"),
        (by("DestinationIPInput", "127.0.0.2", "near"), "default"),
        (inspected.to_owned() + &by("TransportProtocolInput", "raw_buffer", "far"), "far"),
        (inspected.to_owned() + &by("ServerNameInput", "a.test", "far"), "default"),
    ] {
        let proxy = filtered::start(listener(&fields, ""));
        assert_eq!(ask(&proxy, "GET / HTTP/1.1"), says, "{fields}");
    }
    let ignored = filtered::read(listener(
        &by("SourceTypeInput", "local", "near"),
        "filter_chain_match: { destination_port: 1 },",
    ));
    let warnings: Vec<String> =
        ignored.unwrap_or_else(|faults| panic!("{faults}")).warnings.iter().map(ToString::to_string).collect();
    assert!(warnings.iter().any(|text| text.contains("filter_chain_match of 'near' has no effect")), "{warnings:?}");
    let near = by("SourceTypeInput", "local", "near");
    for (text, fault) in [
        (listener(&near, "").replace("name: far", "name: near"), "\"name\" field is duplicated with value 'near'"),
        (listener(&near, "").replace("name: far, ", ""), "\"name\" field is required when using a listener matcher"),
        (
            listener(&by("SourceTypeInput", "local", "none"), ""),
            "exact_match_map.map.local.action.typed_config: no filter chain is called 'none'",
        ),
        (
            listener(
                &near.replace(
                    &format!("{NETWORK}.SourceTypeInput"),
                    "envoy.extensions.matching.common_inputs.ssl.v3.SubjectInput",
                ),
                "",
            ),
            "matcher_tree.input: is not known before the filter chain is chosen",
        ),
        (
            listener(
                &near.replace("google.protobuf.StringValue, value: near", "envoy.config.rbac.v3.Action, name: a"),
                "",
            ),
            "the action of a filter_chain_matcher must be a google.protobuf.StringValue",
        ),
    ] {
        filtered::refuses(text, fault);
    }
}
