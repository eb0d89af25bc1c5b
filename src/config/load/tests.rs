//! What an operator reads when a configuration is wrong, and how its parts come together.

use super::*;

/// Loads a text as if it stood in `--config-yaml`.
fn load_yaml(yaml: &str) -> Result<Loaded, Faults> {
    load(&Source { path: None, yaml: Some(yaml.to_owned()) }, &LoadOptions::default())
}

/// The lines that a refused text yields, without the name of the flag.
fn errors(yaml: &str) -> Vec<String> {
    let faults = load_yaml(yaml).unwrap_err();
    faults.to_string().lines().map(|line| line.replace("--config-yaml:", "")).collect()
}

fn warnings(yaml: &str) -> Vec<String> {
    let loaded = load_yaml(yaml).unwrap_or_else(|faults| panic!("{faults}"));
    loaded.warnings.iter().map(|warning| warning.to_string().replace("--config-yaml:", "")).collect()
}

/// A listener with one route; `manager` are more fields of its connection manager, `route` is the route.
fn listener(manager: &str, route: &str) -> String {
    format!(
        r#"
static_resources:
  clusters:
  - name: known
  listeners:
  - name: front
    address: {{ socket_address: {{ address: 127.0.0.1, port_value: 0 }} }}
    filter_chains:
    - filters:
      - name: hcm
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: front
          {manager}
          route_config:
            name: table
            virtual_hosts:
            - name: all
              domains: ["*"]
              routes:
              - {route}
          http_filters:
          - name: envoy.filters.http.router
            typed_config:
              "@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router
"#
    )
}

const TO_KNOWN: &str = "{ match: { prefix: / }, route: { cluster: known } }";

#[test]
fn faults_of_values_name_place_path_and_remedy() {
    let manager = "static_resources.listeners[0].filter_chains[0].filters[0].typed_config";
    let route = format!("{manager}.route_config.virtual_hosts[0].routes[0]");
    let cases: [(String, String); 10] = [
        (
            "static_resources: { clusters: [{ name: c, conect_timeout: 1s }] }".to_owned(),
            "1:43: static_resources.clusters[0].conect_timeout: unknown field in envoy.config.cluster.v3.Cluster, \
             did you mean `connect_timeout`?"
                .to_owned(),
        ),
        (
            "static_resources: { clusters: [{ name: c, connect_timeout: 250ms }] }".to_owned(),
            "1:60: static_resources.clusters[0].connect_timeout: `250ms`: a duration is seconds with the suffix `s`, \
             for example 0.25s"
                .to_owned(),
        ),
        (
            "static_resources: { clusters: [{ name: c, type: STATICK }] }".to_owned(),
            "1:49: static_resources.clusters[0].type: `STATICK` is not a value of \
             envoy.config.cluster.v3.Cluster.DiscoveryType, did you mean `STATIC`?; expected one of STATIC, STRICT_DNS, \
             LOGICAL_DNS, EDS, ORIGINAL_DST"
                .to_owned(),
        ),
        (
            listener("server_nam: x", TO_KNOWN),
            format!(
                "14:11: {manager}.server_nam: unknown field in \
                 envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager, \
                 did you mean `server_name`?"
            ),
        ),
        (listener("max_request_headers_kb: 0", TO_KNOWN), format!("14:11: {manager}.max_request_headers_kb: must be > 0, is 0")),
        (
            listener("", "{ match: { prefix: / }, direct_response: { status: 99 } }"),
            format!("21:60: {route}.direct_response.status: must be >= 200, is 99"),
        ),
        (
            listener("", "{ match: { prefix: / }, route: { cluster: nobody } }"),
            format!("21:50: {route}.route.cluster: route: unknown cluster 'nobody'"),
        ),
        (
            listener("", "{ match: { prefix: / } }"),
            format!(
                "21:17: {route}: one of route, redirect, direct_response, filter_action, non_forwarding_action is required"
            ),
        ),
        (
            "admin: { address: { socket_address: { address: localhost, port_value: 1 } } }".to_owned(),
            "1:39: admin.address.socket_address.address: malformed IP address: localhost (names are not resolved here)"
                .to_owned(),
        ),
        (
            "node: { id: 5 }".to_owned(),
            "1:13: node.id: expected a string, found a number (put it in quotes)".to_owned(),
        ),
    ];
    for (yaml, expected) in cases {
        assert_eq!(errors(&yaml), [expected], "{yaml}");
    }
}

#[test]
fn names_that_clash_are_faults_where_they_clash() {
    let cluster = "static_resources: { clusters: [{ name: c }, { name: c }] }";
    assert_eq!(errors(cluster), ["1:47: static_resources.clusters[1].name: cluster manager: duplicate cluster 'c'"]);
    let chains = "filter_chains: [{ filters: [{ name: hcm, typed_config: &hcm { \
        \"@type\": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager, \
        stat_prefix: x, route_config: {}, http_filters: [{ name: r, typed_config: { \
        \"@type\": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router } }] } }] }]";
    let listeners = format!(
        "static_resources:\n  listeners:\n  \
         - {{ name: l, address: {{ socket_address: {{ address: 127.0.0.1, port_value: 1 }} }}, {chains} }}\n  \
         - {{ name: l, address: {{ socket_address: {{ address: 127.0.0.1, port_value: 1 }} }}, {chains} }}\n"
    );
    assert_eq!(
        errors(&listeners),
        [
            "4:7: static_resources.listeners[1].name: duplicate listener name 'l'",
            "4:16: static_resources.listeners[1].address: listener 'l' has the address '127.0.0.1:1' already",
        ]
    );
    let hosts = listener("", TO_KNOWN).replace(
        "domains: [\"*\"]",
        "domains: [\"*\", a.com]\n            - name: other\n              domains: [A.com, \"*\"]",
    );
    let table = "static_resources.listeners[0].filter_chains[0].filters[0].typed_config.route_config.virtual_hosts[1]";
    assert_eq!(
        errors(&hosts),
        [
            format!(
                "21:25: {table}.domains[0]: Only unique values for domains are permitted. Duplicate entry of domain a.com \
                 in route table"
            ),
            format!("21:32: {table}.domains[1]: Only a single wildcard domain is permitted in route table"),
        ]
    );
}

#[test]
fn all_faults_are_reported_in_order_whatever_stage_found_them() {
    let yaml = listener("server_nam: x", "{ match: { prefix: / }, route: { cluster: nobody, timeout: 5 } }")
        + "stats_flush_interval: 600s\n";
    let lines = errors(&yaml);
    let starts: Vec<&str> = lines.iter().map(|line| line.split(' ').next().unwrap()).collect();
    assert_eq!(starts, ["14:11:", "21:50:", "21:76:", "26:1:"], "{lines:#?}");
}

#[test]
fn a_fault_is_not_repeated_by_what_follows_from_it() {
    // The name is missing because it could not be read, and the cluster is unknown because its name is missing.
    let yaml = listener("", "{ match: { prefix: / }, route: { cluster: \"5\" } }").replace("name: known", "name: 5");
    assert_eq!(
        errors(&yaml),
        ["4:11: static_resources.clusters[0].name: expected a string, found a number (put it in quotes)"]
    );
}

#[test]
fn what_is_not_honoured_is_refused_or_warned_about() {
    let manager = "static_resources.listeners[0].filter_chains[0].filters[0].typed_config";
    let refused = listener("append_local_overload: true", TO_KNOWN);
    let text = "is not supported yet, and ignoring it would change traffic or security";
    assert_eq!(errors(&refused), [format!("14:11: {manager}.append_local_overload: {text}")]);
    // Saying what is done anyway is no wish that could be ignored.
    assert!(warnings(&listener("stream_error_on_invalid_http_message: false", TO_KNOWN)).is_empty());
    let tuned = listener("add_proxy_protocol_connection_state: false", TO_KNOWN);
    assert_eq!(
        warnings(&tuned),
        [format!("14:11: {manager}.add_proxy_protocol_connection_state: is not supported yet and is ignored")]
    );
    let other = listener("", TO_KNOWN).replace("filters.http.router.v3.Router", "filters.http.fault.v3.HTTPFault");
    assert_eq!(
        errors(&other),
        [format!(
            "24:13: {manager}.http_filters[0].typed_config: the HTTP filter \
             envoy.extensions.filters.http.fault.v3.HTTPFault is not supported yet; known: \
             envoy.extensions.filters.http.router.v3.Router"
        )]
    );
    let dns = "static_resources: { clusters: [{ name: c, type: STRICT_DNS }] }";
    assert_eq!(
        errors(dns),
        ["1:43: static_resources.clusters[0].type: STRICT_DNS is not supported yet: only STATIC, with IP addresses"]
    );
}

#[test]
fn what_a_connection_manager_cannot_do_is_said_where_it_stands() {
    let manager = "static_resources.listeners[0].filter_chains[0].filters[0].typed_config";
    let text = "is not supported yet, and ignoring it would change traffic or security";
    let header = "\"@type\": type.googleapis.com/envoy.extensions.http.original_ip_detection.custom_header.v3.CustomHeaderConfig";
    let early =
        "\"@type\": type.googleapis.com/envoy.extensions.http.early_header_mutation.header_mutation.v3.HeaderMutation";
    let rows = [
        (
            "{strip_matching_host_port: true, strip_any_host_port: true}".to_owned(),
            "strip_matching_host_port: only one of strip_matching_host_port and strip_any_host_port can be set".to_owned(),
        ),
        (
            "{scheme_header_transformation: {match_upstream: true}}".to_owned(),
            format!("scheme_header_transformation.match_upstream: {text}"),
        ),
        (
            "{forward_client_cert_details: SANITIZE_SET, set_current_client_cert_details: {cert: true}}".to_owned(),
            format!("set_current_client_cert_details.cert: {text}"),
        ),
        (
            format!("{{use_remote_address: true, original_ip_detection_extensions: [{{name: h, typed_config: {{{header}, header_name: x}}}}]}}"),
            "original_ip_detection_extensions: cannot be combined with use_remote_address".to_owned(),
        ),
        (
            format!("{{original_ip_detection_extensions: [{{name: h, typed_config: {{{header}, header_name: \"a b\"}}}}]}}"),
            "original_ip_detection_extensions[0].typed_config.header_name: \"a b\" is not a valid HTTP header name".to_owned(),
        ),
        (
            format!("{{early_header_mutation_extensions: [{{name: h, typed_config: {{{early}, mutations: [{{remove: \":path\"}}]}}}}]}}"),
            "early_header_mutation_extensions[0].typed_config.mutations[0].remove: :-prefixed or host headers may not be removed"
                .to_owned(),
        ),
        (
            "{local_reply_config: {body_format: {text_format_source: {inline_string: \"%NO_SUCH%\"}}}}".to_owned(),
            "local_reply_config.body_format.text_format_source.inline_string: Not supported field in StreamInfo: NO_SUCH".to_owned(),
        ),
        (
            "{original_ip_detection_extensions: [{name: h, typed_config: {\"@type\": type.googleapis.com/envoy.extensions.http.\
             original_ip_detection.xff.v3.XffConfig, xff_num_trusted_hops: 1, xff_trusted_cidrs: {cidrs: [{address_prefix: 10.0.0.0, prefix_len: 8}]}}}]}"
                .to_owned(),
            "original_ip_detection_extensions[0].typed_config: Cannot set both xff_num_trusted_hops and xff_trusted_cidrs".to_owned(),
        ),
    ];
    for (fields, expected) in rows {
        // One field a line, in the block of the manager.
        let block = fields[1..fields.len() - 1].replace(", forward", "\n          forward");
        let block = block.replacen(", strip_any", "\n          strip_any", 1);
        let block = block.replacen(", set_current", "\n          set_current", 1);
        let block = block.replacen(", original_ip", "\n          original_ip", 1);
        let found = errors(&listener(&block, TO_KNOWN));
        assert_eq!(found.len(), 1, "{fields}: {found:#?}");
        let (at, rest) = found[0].split_once(": ").unwrap();
        assert_eq!(rest, format!("{manager}.{expected}"), "{fields}");
        assert!(at.starts_with("14:") || at.starts_with("15:"), "{at}");
    }
}

#[test]
fn a_typed_struct_is_read_as_the_type_that_it_names() {
    let router = "\"@type\": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router";
    let wrapped = "\"@type\": type.googleapis.com/xds.type.v3.TypedStruct\n              \
        type_url: type.googleapis.com/envoy.extensions.filters.http.router.v3.Router\n              \
        value: { suppress_envoy_headers: true }";
    let yaml = listener("", TO_KNOWN).replace(router, wrapped);
    let bootstrap = load_yaml(&yaml).unwrap().bootstrap;
    let model::NetworkFilter::HttpConnectionManager(manager) = &bootstrap.listeners[0].filter_chains[0].filters[0]
    else {
        panic!("no connection manager");
    };
    assert_eq!(
        manager.http_filters,
        [model::HttpFilter::Router(model::Router { suppress_envoy_headers: true, ..model::Router::default() })]
    );
    let faulty = yaml.replace("suppress_envoy_headers", "supress_envoy_headers");
    let found = errors(&faulty);
    assert!(
        found[0].starts_with("27:24: ") && found[0].contains("did you mean `suppress_envoy_headers`?"),
        "{found:#?}"
    );
}

#[test]
fn texts_that_are_no_configuration_say_so() {
    assert_eq!(errors("# nothing\n"), [" the configuration is empty"]);
    let unclosed = errors("a: [1\nb: 2").remove(0);
    assert!(unclosed.starts_with("1:4: not YAML: the `[` here is not closed: "), "{unclosed}");
    assert_eq!(errors("- a\n"), ["1:1: expected an object (envoy.config.bootstrap.v3.Bootstrap), found a list"]);
    let nothing = load(&Source::default(), &LoadOptions::default()).unwrap_err();
    assert_eq!(nothing.to_string(), "at least one of --config-path (-c) and --config-yaml must be given");
}

#[test]
fn files_that_cannot_be_read_say_why() {
    let folder = tempfile::tempdir().unwrap();
    let attempt = |name: &str| {
        let path = folder.path().join(name);
        let shown = path.display().to_string();
        let faults = load(&Source { path: Some(path), yaml: None }, &LoadOptions::default()).unwrap_err();
        faults.to_string().replace(&shown, "FILE")
    };
    assert_eq!(attempt("absent.yaml"), "FILE: cannot be read: No such file or directory (os error 2)");
    std::fs::create_dir(folder.path().join("folder.yaml")).unwrap();
    assert_eq!(attempt("folder.yaml"), "FILE: cannot be read: Is a directory (os error 21)");
    std::fs::write(folder.path().join("config.txt"), "{}").unwrap();
    assert_eq!(attempt("config.txt"), "FILE: the name of a configuration file must end in .yaml, .yml or .json");
    std::fs::write(folder.path().join("binary.yaml"), b"node:\n  id: \xff\n").unwrap();
    assert_eq!(attempt("binary.yaml"), "FILE:2:7: is not UTF-8");
    std::fs::write(folder.path().join("empty.json"), "").unwrap();
    assert_eq!(attempt("empty.json"), "FILE:1:1: not JSON: expected a JSON value");
}

#[test]
fn the_text_of_the_flag_is_merged_over_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("base.json");
    let base = r#"{ "node": { "id": "file", "cluster": "file" },
                    "static_resources": { "clusters": [{ "name": "one" }, { "name": "two" }] } }"#;
    std::fs::write(&path, base).unwrap();
    let merged =
        |yaml: &str| load(&Source { path: Some(path.clone()), yaml: Some(yaml.to_owned()) }, &LoadOptions::default());
    let loaded = merged("node: { id: flag }\nstatic_resources: { clusters: [{ name: three, lb_policy: 0 }] }").unwrap();
    assert_eq!((loaded.bootstrap.node.id.as_str(), loaded.bootstrap.node.cluster.as_str()), ("flag", "file"));
    let names: Vec<&str> = loaded.bootstrap.clusters.iter().map(|cluster| cluster.name.as_str()).collect();
    assert_eq!(names, ["one", "two", "three"]);
    // A fault in the merged message leads back to the text that it came from.
    let faults =
        merged("static_resources:\n  clusters:\n  - name: two\n  - name: four\n    lb_policy: MAGLEV\n").unwrap_err();
    let lines: Vec<String> = faults.errors.iter().map(ToString::to_string).collect();
    assert_eq!(
        lines,
        [
            "--config-yaml:3:5: static_resources.clusters[2].name: cluster manager: duplicate cluster 'two'",
            "--config-yaml:5:5: static_resources.clusters[3].lb_policy: MAGLEV is not supported yet: only ROUND_ROBIN",
        ]
    );
}

#[test]
fn a_oneof_that_is_set_in_both_texts_is_what_the_later_says() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("base.yaml");
    std::fs::write(&path, "admin: { address: { socket_address: { address: 127.0.0.1, port_value: 1 } } }").unwrap();
    let yaml = Some("admin: { address: { pipe: { path: /tmp/admin } } }".to_owned());
    let loaded = load(&Source { path: Some(path), yaml }, &LoadOptions::default()).unwrap();
    assert_eq!(loaded.bootstrap.admin.unwrap().address.to_string(), "/tmp/admin");
}

#[test]
fn the_command_line_overrides_the_node() {
    let source =
        Source { path: None, yaml: Some("node: { id: a, cluster: b, locality: { region: r, zone: z } }".to_owned()) };
    let options = LoadOptions {
        service_cluster: Some("cluster".to_owned()),
        service_zone: Some("zone".to_owned()),
        ..LoadOptions::default()
    };
    let loaded = load(&source, &options).unwrap();
    let node = &loaded.bootstrap.node;
    assert_eq!((node.id.as_str(), node.cluster.as_str()), ("a", "cluster"));
    assert_eq!((node.locality.region.as_str(), node.locality.zone.as_str()), ("r", "zone"));
    let shown =
        crate::config::dump::bootstrap(&loaded.wire, crate::config::dump::Options { pretty: false, redact: true });
    assert_eq!(shown, r#"{"node":{"id":"a","cluster":"cluster","locality":{"region":"r","zone":"zone"}}}"#);
}

#[test]
fn unknown_fields_can_be_allowed() {
    let source = Source { path: None, yaml: Some("node: { idd: a }".to_owned()) };
    let options = LoadOptions { allow_unknown_static_fields: true, ..LoadOptions::default() };
    let warnings = load(&source, &options).unwrap().warnings;
    assert_eq!(warnings.len(), 1);
    assert_eq!(
        warnings[0].to_string(),
        "--config-yaml:1:9: node.idd: unknown field in envoy.config.core.v3.Node, did you mean `id`?"
    );
}

#[test]
fn a_tcp_proxy_is_told_what_it_cannot_have() {
    let tcp = |fields: &str| {
        format!(
            r#"
static_resources:
  clusters:
  - name: known
  listeners:
  - name: front
    address: {{ socket_address: {{ address: 127.0.0.1, port_value: 0 }} }}
    filter_chains:
    - filters:
      - name: tcp
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy
          stat_prefix: tcp
          {fields}
"#
        )
    };
    let ends_with = |found: Vec<String>, expected: &str| {
        assert!(found.len() == 1 && found[0].ends_with(expected), "expected {expected}, found {found:#?}");
    };
    let place = "static_resources.listeners[0].filter_chains[0].filters[0].typed_config";
    let refused = "is not supported yet, and ignoring it would change traffic or security";
    for (fields, at, text) in [
        ("cluster: known\n          downstream_idle_timeout: 3s", ".downstream_idle_timeout", refused),
        ("cluster: known\n          tunneling_config: { hostname: a }", ".tunneling_config", refused),
        ("cluster: known\n          upstream_connect_mode: ON_DOWNSTREAM_DATA", ".upstream_connect_mode", refused),
        ("weighted_clusters: { clusters: [{ name: known, weight: 1 }] }", ".weighted_clusters", refused),
        ("cluster: \"\"", ".cluster", "must not be empty"),
    ] {
        ends_with(errors(&tcp(fields)), &format!("{place}{at}: {text}"));
    }
    ends_with(
        warnings(&tcp("cluster: nowhere")),
        &format!("{place}.cluster: unknown cluster 'nowhere': its connections will be closed"),
    );
    ends_with(
        warnings(&tcp("cluster: known\n          backoff_options: { base_interval: 1s }")),
        &format!("{place}.backoff_options: is not supported yet and is ignored"),
    );
}

#[test]
fn faults_of_tls_name_their_place() {
    let tls = |context: &str, matches: &str| {
        let yaml = listener("", TO_KNOWN);
        let socket = format!(
            "- filter_chain_match: {{ {matches} }}\n      transport_socket:\n        name: tls\n        typed_config:\n          \
             \"@type\": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext\n          \
             {context}\n      filters:"
        );
        errors(&yaml.replacen("- filters:", &socket, 1))
    };
    let common = "static_resources.listeners[0].filter_chains[0].transport_socket.typed_config.common_tls_context";
    let certificate = "certificate_chain: { inline_string: x }, private_key: { inline_string: none }";
    for (context, path, text) in [
        ("common_tls_context: {}".to_owned(), "tls_certificates", "there are none"),
        (
            format!("common_tls_context: {{ tls_certificates: [{{ {certificate} }}] }}"),
            "tls_certificates[0].certificate_chain",
            "holds no certificate in PEM",
        ),
        (
            format!("common_tls_context: {{ tls_certificates: [{{ {certificate} }}] }}"),
            "tls_certificates[0].private_key",
            "holds no private key in PEM",
        ),
        (
            "common_tls_context: { tls_certificates: [{ certificate_chain: { filename: /no/such } }] }".to_owned(),
            "tls_certificates[0].certificate_chain.filename",
            "cannot read /no/such",
        ),
        (
            "common_tls_context: { tls_params: { tls_minimum_protocol_version: TLSv1_0 } }".to_owned(),
            "tls_params.tls_minimum_protocol_version",
            "TLS below 1.2 is not spoken",
        ),
        (
            "common_tls_context: { tls_params: { cipher_suites: [AES128-SHA] } }".to_owned(),
            "tls_params.cipher_suites[0]",
            "the cipher suite AES128-SHA is not spoken",
        ),
    ] {
        let found = tls(&context, "");
        assert!(
            found.iter().any(|line| line.contains(&format!("{common}.{path}")) && line.contains(text)),
            "{found:#?}"
        );
    }
    let found = tls("common_tls_context: {}", "server_names: [\"a*.test\"]");
    assert!(
        found.iter().any(|line| line.contains("server_names[0]") && line.contains("partial wildcards")),
        "{found:#?}"
    );
}
