//! A proxy from the text of a configuration with HTTP filters of this library.

use std::fmt::Write;
use std::net::SocketAddr;

use heirloom::config::{Faults, LoadOptions, Loaded, Source, load};

use super::proxy::Proxy;

const MANAGER: &str = r#"
  listeners:
  - address: { socket_address: { address: 127.0.0.1, port_value: 0 } }
    filter_chains:
    - filters:
      - name: hcm
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: test
"#;

const ROUTER: &str = r#"
          - name: router
            typed_config: { "@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router }
          route_config:
            virtual_hosts:
            - name: all
              domains: ["*"]
              routes:
"#;

/// A route for all that says hello.
pub const HELLO: &str = "- match: { prefix: / }\n  direct_response: { status: 200, body: { inline_string: hello } }\n";

/// A filter of a type, with these fields of its settings.
pub fn filter(name: &str, kind: &str, settings: &str) -> String {
    format!("- name: {name}\n  typed_config: {{ {kind}, {settings} }}\n")
}

/// The text: settings of the manager, filters and routes (lists in YAML, from column 0), and these clusters.
pub fn text(manager: &str, filters: &str, routes: &str, clusters: &[(&str, SocketAddr)]) -> String {
    let mut text = String::from("static_resources:\n  clusters:\n  - name: empty\n");
    for (name, host) in clusters {
        let (ip, port) = (host.ip(), host.port());
        let _ = writeln!(
            text,
            "  - name: {name}\n    load_assignment: {{ cluster_name: {name}, endpoints: [{{ lb_endpoints: [{{ endpoint: {{ \
             address: {{ socket_address: {{ address: {ip}, port_value: {port} }} }} }} }}] }}] }}"
        );
    }
    let mut within = |indent: usize, part: &str, lines: &str| {
        text.push_str(part);
        for line in lines.lines().filter(|line| !line.trim().is_empty()) {
            let _ = writeln!(text, "{:indent$}{line}", "");
        }
    };
    within(10, MANAGER, manager);
    within(10, "          http_filters:\n", filters);
    within(14, ROUTER.trim_start_matches('\n'), routes);
    text
}

/// What becomes of a text.
pub fn read(text: String) -> Result<Loaded, Faults> {
    let http_filters = heirloom::http::filters::kinds(&[]);
    load(&Source { path: None, yaml: Some(text) }, &LoadOptions { http_filters, ..LoadOptions::default() })
}

/// The proxy of a text without faults.
#[track_caller]
pub fn start(text: String) -> Proxy {
    let bootstrap = read(text).unwrap_or_else(|faults| panic!("{faults}")).bootstrap;
    let clusters = bootstrap.clusters.iter().map(|cluster| (**cluster).clone()).collect();
    Proxy::start_with((*bootstrap.listeners[0]).clone(), clusters, &[])
}

/// Says that a text has this fault.
#[track_caller]
pub fn refuses(text: String, fault: &str) {
    let faults = read(text).map(|_| ()).unwrap_err().to_string();
    assert!(faults.contains(fault), "{fault} is not in\n{faults}");
}
