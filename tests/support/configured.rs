//! A proxy from the text of a configuration: for HTTP filters, whose settings are read as an operator writes them.

use std::net::SocketAddr;

use heirloom::config::{Faults, LoadOptions, Loaded, Source, load};
use heirloom::http::filter::Extension;

use super::proxy::Proxy;

/// The text of a configuration with these HTTP filters before the router, and these fields of its one virtual host. In both `"@":` stands
/// for the type of a message of an HTTP filter. The cluster `origin` has that host, `nobody` has none.
pub fn text(filters: &str, host: &str, origin: SocketAddr) -> String {
    let indented = |text: &str, by: usize| {
        let lines = text.trim_matches('\n').lines().map(|line| format!("{:by$}{line}\n", ""));
        lines.collect::<String>().replace("\"@\": ", "\"@type\": type.googleapis.com/envoy.extensions.filters.http.")
    };
    let port = origin.port();
    format!(
        r#"
node: {{ id: test, cluster: service }}
static_resources:
  clusters:
  - name: origin
    load_assignment:
      cluster_name: origin
      endpoints:
      - lb_endpoints:
        - endpoint: {{ address: {{ socket_address: {{ address: 127.0.0.1, port_value: {port} }} }} }}
  - name: nobody
    load_assignment: {{ cluster_name: nobody }}
  listeners:
  - address: {{ socket_address: {{ address: 127.0.0.1, port_value: 0 }} }}
    filter_chains:
    - filters:
      - name: manager
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: test
          http_filters:
{filters}          - name: router
            typed_config: {{ "@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router }}
          route_config:
            virtual_hosts:
            - name: all
              domains: ["*"]
{host}"#,
        filters = indented(filters, 10),
        host = indented(host, 14),
    )
}

/// Reads such a text.
pub fn read(text: String) -> Result<Loaded, Faults> {
    read_with(text, &[])
}

fn read_with(text: String, extensions: &[Extension]) -> Result<Loaded, Faults> {
    let http_filters = heirloom::http::filters::kinds(extensions);
    load(&Source { path: None, yaml: Some(text) }, &LoadOptions { http_filters, ..LoadOptions::default() })
}

/// Starts a proxy from such a text; it must be without fault or warning.
#[track_caller]
pub fn start(text: String) -> Proxy {
    start_with(text, &[])
}

/// The same with filters of the scenario's own.
#[track_caller]
pub fn start_with(text: String, extensions: &'static [Extension]) -> Proxy {
    let loaded = read_with(text, extensions).unwrap_or_else(|faults| panic!("{faults}"));
    assert_eq!(loaded.warnings, []);
    let clusters = loaded.bootstrap.clusters.iter().map(|cluster| (**cluster).clone()).collect();
    Proxy::start_with((*loaded.bootstrap.listeners[0]).clone(), clusters, extensions)
}

/// What is said against a configuration with these filters and this virtual host.
#[track_caller]
pub fn faults(filters: &str, host: &str) -> String {
    let anywhere = SocketAddr::from(([127, 0, 0, 1], 1));
    read(text(filters, host, anywhere)).expect_err("must be refused").to_string()
}

/// The settings of the filter at that place of the chain, as faults name them.
pub fn place(at: usize) -> String {
    format!("listeners[0].filter_chains[0].filters[0].typed_config.http_filters[{at}].typed_config")
}
