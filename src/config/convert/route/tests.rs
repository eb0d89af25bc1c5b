//! Faults of routes: where they stand, and what they say.

use crate::config::{LoadOptions, Source, load};

/// What is wrong with a table of one virtual host: its fields, and its one route.
fn faults(table: &str, host: &str, route: &str) -> Vec<String> {
    let yaml = format!(
        r#"static_resources:
  clusters: [{{ name: app }}]
  listeners:
  - address: {{ socket_address: {{ address: 127.0.0.1, port_value: 0 }} }}
    filter_chains:
    - filters:
      - name: hcm
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: front
          http_filters:
          - name: r
            typed_config: {{ "@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router }}
          route_config:
            {table}
            virtual_hosts:
            - name: all
              domains: ["*"]
              {host}
              routes:
              - {route}
"#
    );
    let source = Source { path: None, yaml: Some(yaml) };
    match load(&source, &LoadOptions::default()) {
        Ok(_) => Vec::new(),
        Err(faults) => faults
            .errors
            .iter()
            .map(|fault| {
                let line = fault.position.map_or(0, |position| position.line);
                let path = fault.path.to_string();
                let path = path.rsplit("route_config.").next().unwrap_or_default().replace("virtual_hosts[0].", "");
                format!("{line} {path}: {}", fault.message)
            })
            .collect(),
    }
}

fn route_fault(route: &str) -> String {
    faults("name: t", "require_tls: NONE", route).join("\n").replace("routes[0].", "")
}

#[test]
fn faults_of_matches_and_actions() {
    let to = "route: { cluster: app }";
    let rows = [
        (format!("{{ match: {{ safe_regex: {{ regex: '(' }} }}, {to} }}"), "match.safe_regex.regex: not a regular expression: unclosed group"),
        (
            format!("{{ match: {{ prefix: /, headers: [{{ name: x, safe_regex_match: {{ regex: '[' }} }}] }}, {to} }}"),
            "match.headers[0].safe_regex_match.regex: not a regular expression: unclosed character class",
        ),
        (
            "{ match: { prefix: / }, route: { cluster: app, regex_rewrite: { pattern: { regex: a }, substitution: '\\1' } } }".to_owned(),
            "route.regex_rewrite.substitution: the substitution names \\1, the pattern has 0 captures",
        ),
        (
            "{ match: { prefix: / }, route: { cluster: app, prefix_rewrite: /a, regex_rewrite: { pattern: { regex: a }, substitution: b } } }".to_owned(),
            "route: only one of prefix_rewrite, regex_rewrite, path_rewrite_policy and path_rewrite may be set",
        ),
        (
            "{ match: { prefix: / }, route: { weighted_clusters: { clusters: [{ name: app, weight: 0 }] } } }".to_owned(),
            "route.weighted_clusters.clusters: the sum of the weights must be greater than 0",
        ),
        (
            "{ match: { prefix: / }, route: { weighted_clusters: { clusters: [{ name: app, weight: 1 }, { name: other, weight: 1 }] } } }".to_owned(),
            "route.weighted_clusters.clusters[1].name: route: unknown cluster 'other'",
        ),
        (
            "{ match: { prefix: / }, redirect: { prefix_rewrite: '/a b' } }".to_owned(),
            "redirect.prefix_rewrite: must not contain spaces or control characters",
        ),
        (
            format!("{{ match: {{ prefix: / }}, {to}, request_headers_to_add: [{{ header: {{ key: ':path', value: x }} }}] }}"),
            "request_headers_to_add[0].header.key: :-prefixed or host headers may not be modified",
        ),
        (
            format!("{{ match: {{ prefix: / }}, {to}, request_headers_to_remove: [Host] }}"),
            "request_headers_to_remove[0]: :-prefixed or host headers may not be removed",
        ),
        (
            "{ match: { prefix: / }, route: { cluster: app, path_rewrite_policy: { name: x, typed_config: { \
             '@type': type.googleapis.com/envoy.extensions.path.rewrite.uri_template.v3.UriTemplateRewriteConfig, \
             path_template_rewrite: /x } } } }"
                .to_owned(),
            "route.path_rewrite_policy.typed_config: a URI template rewrite needs a URI template in path_match_policy",
        ),
    ];
    for (route, expected) in rows {
        assert_eq!(route_fault(&route), format!("21 {expected}"), "{route}");
    }
}

#[test]
fn faults_of_mirrors() {
    let of = |policy: &str| {
        route_fault(&format!(
            "{{ match: {{ prefix: / }}, route: {{ cluster: app, request_mirror_policies: [{policy}] }} }}"
        ))
    };
    let rows = [
        ("{ cluster: other }", "[0].cluster: route: unknown shadow cluster 'other'"),
        ("{}", "[0]: one of cluster and cluster_header must be set"),
        ("{ cluster: app, cluster_header: x }", "[0]: only one of cluster and cluster_header may be set"),
        (
            "{ cluster: app, request_headers_mutations: [{ remove: Host }] }",
            "[0].request_headers_mutations[0].remove: :-prefixed or host headers may not be removed",
        ),
    ];
    for (policy, expected) in rows {
        assert_eq!(of(policy), format!("21 route.request_mirror_policies{expected}"), "{policy}");
    }
    let route = "{ match: { prefix: / }, route: { cluster: app } }";
    let found = faults("request_mirror_policies: [{ cluster: other }]", "require_tls: NONE", route);
    assert_eq!(found, ["15 request_mirror_policies[0].cluster: route: unknown shadow cluster 'other'"]);
}

#[test]
fn faults_of_internal_redirects() {
    let of = |policy: &str| {
        route_fault(&format!(
            "{{ match: {{ prefix: / }}, route: {{ cluster: app, internal_redirect_policy: {policy} }} }}"
        ))
    };
    let any = |name: &str| {
        format!(
            "{{ predicates: [{{ name: x, typed_config: {{ '@type': type.googleapis.com/envoy.extensions.{name} }} }}] }}"
        )
    };
    let rows = [
        ("{ response_headers_to_copy: [x, ':path'] }".to_owned(), "response_headers_to_copy[1]: "),
        ("{ response_headers_to_copy: [Host] }".to_owned(), "response_headers_to_copy[0]: :-prefixed headers and host"),
        (
            any("path.match.uri_template.v3.UriTemplateMatchConfig, path_template: /a"),
            "predicates[0].typed_config: the internal redirect predicate envoy.extensions.path",
        ),
        ("{ predicates: [{ name: x }] }".to_owned(), "predicates[0].typed_config: is required"),
    ];
    for (policy, expected) in rows {
        let found = of(&policy);
        assert!(found.starts_with(&format!("21 route.internal_redirect_policy.{expected}")), "{found}");
    }
}

#[test]
fn faults_of_hedging() {
    let found = route_fault("{ match: { prefix: / }, route: { cluster: app, hedge_policy: { initial_requests: 0 } } }");
    assert!(found.starts_with("21 route.hedge_policy.initial_requests: "), "{found}");
}

#[test]
fn faults_of_formats() {
    for (action, expected) in [
        ("route: { cluster: app, path_rewrite: '/%NO%' }", "route.path_rewrite: "),
        ("route: { cluster: app, path_rewrite: '/a b' }", "route.path_rewrite: must not contain spaces"),
        ("redirect: { path_rewrite: '/%REQ(' }", "redirect.path_rewrite: "),
        (
            "direct_response: { status: 200, body_format: { text_format_source: { inline_string: '%NO%' } } }",
            "direct_response.body_format.",
        ),
    ] {
        let found = route_fault(&format!("{{ match: {{ prefix: / }}, {action} }}"));
        assert!(found.starts_with(&format!("21 {expected}")), "{found}");
    }
}

#[test]
fn faults_of_timeouts_for_grpc() {
    for (most, offset, field) in [("-1s", "0s", "max_grpc_timeout"), ("1s", "-1s", "grpc_timeout_offset")] {
        let limits = format!("max_grpc_timeout: {most}, grpc_timeout_offset: {offset}");
        let found = route_fault(&format!("{{ match: {{ prefix: / }}, route: {{ cluster: app, {limits} }} }}"));
        assert!(found.starts_with(&format!("21 route.{field}: ")), "{found}");
    }
}

#[test]
fn faults_of_tables_and_hosts() {
    let route = "{ match: { prefix: / }, route: { cluster: app } }";
    let add = "response_headers_to_add: [{ header: { key: x-a, value: \"a\\nb\" } }]";
    let value = "response_headers_to_add[0].header.value: ";
    let found = faults(add, "require_tls: NONE", route);
    assert!(found.iter().any(|fault| fault.starts_with(&format!("15 {value}"))), "{found:?}");
    let found = faults("name: t", "virtual_clusters: [{ name: v, headers: [{ name: 'a b' }] }]", route);
    assert!(found.iter().any(|fault| fault.starts_with("19 virtual_clusters[0].headers[0].name: ")), "{found:?}");
}
