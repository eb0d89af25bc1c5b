//! The peers' configurations: one listener, one route, one upstream, one worker, no access log, upstream connections kept.
//!
//! nginx and HAProxy are left lean: they add no request id and no timing header, as Envoy and heirloom do. That makes the mark
//! harder, never easier. Limits on connections and requests are far above what the works reach; timeouts outlast every work.

use std::net::SocketAddr;
use std::path::Path;

use super::Identity;
use crate::work::Shape;

/// What a configuration is made of.
pub(super) struct Setup<'a> {
    /// For files of the peer's own.
    pub(super) directory: &'a Path,
    /// For TLS.
    pub(super) identity: &'a Identity,
    /// Where it listens.
    pub(super) port: u16,
    /// What is behind it.
    pub(super) origin: SocketAddr,
    /// The most connections that any work opens.
    pub(super) many: u32,
    /// What is spoken.
    pub(super) shape: Shape,
}

/// nginx: a master, one worker.
pub(super) fn nginx(setup: &Setup<'_>) -> String {
    let Setup { port, origin, many, .. } = *setup;
    let directory = setup.directory.display();
    // Run by root, nginx gives its worker to another user, who cannot enter our directory.
    let user = if nix::unistd::geteuid().is_root() { "user root;" } else { "" };
    // It allots its connections when it starts, two for each client, and begins to close idle ones when less than a sixteenth is free.
    let connections = 2 * many + many / 4 + 100;
    let descriptors = connections + 100;
    let mut listen = format!("127.0.0.1:{port} backlog=4096");
    let mut tls = String::new();
    if setup.shape.front.is_tls() {
        listen += " ssl";
        tls = format!(
            "ssl_certificate {}; ssl_certificate_key {}; ssl_protocols TLSv1.3;",
            setup.identity.certificate.display(),
            setup.identity.key.display()
        );
    }
    if setup.shape.front.is_http2() {
        listen += " http2";
    }
    format!(
        "{user}
daemon off;
worker_processes 1;
worker_rlimit_nofile {descriptors};
pid {directory}/nginx.pid;
error_log {directory}/nginx.log error;
events {{ worker_connections {connections}; }}
http {{
    access_log off;
    client_body_temp_path {directory}/body;
    proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi;
    scgi_temp_path {directory}/scgi;
    tcp_nodelay on;
    keepalive_timeout 600s;
    keepalive_requests 1000000000;
    upstream origin {{
        server {origin};
        keepalive 10000;
        keepalive_requests 1000000000;
        keepalive_timeout 600s;
        keepalive_time 24h;
    }}
    server {{
        listen {listen};
        {tls}
        http2_max_concurrent_streams 1000;
        location / {{
            proxy_pass http://origin;
            proxy_http_version 1.1;
            proxy_set_header Connection \"\";
            proxy_set_header Host $host;
            proxy_read_timeout 120s;
        }}
    }}
}}
"
    )
}

/// HAProxy: one process, one thread.
pub(super) fn haproxy(setup: &Setup<'_>) -> String {
    let Setup { port, origin, many, .. } = *setup;
    // It allots two descriptors for each client when it starts.
    let connections = many + 500;
    let front = setup.shape.front;
    let mut bind = format!("127.0.0.1:{port} backlog 4096 maxconn {connections}");
    if front.is_tls() {
        let protocol = if front.is_http2() { "h2" } else { "http/1.1" };
        bind += &format!(" ssl crt {} alpn {protocol} ssl-min-ver TLSv1.3", setup.identity.both.display());
    } else if front.is_http2() {
        bind += " proto h2";
    }
    let server = if setup.shape.http2_behind { " proto h2" } else { "" };
    format!(
        "global
    maxconn {connections}
    nbthread 1

defaults
    mode http
    timeout connect 5s
    timeout client 600s
    timeout server 600s
    timeout http-keep-alive 600s
    http-reuse always

frontend ingress
    bind {bind}
    default_backend origin

backend origin
    server origin {origin}{server}
"
    )
}

/// Envoy, and heirloom with the very same text.
pub(super) fn envoy(setup: &Setup<'_>) -> String {
    let Setup { port, origin, .. } = *setup;
    let (host, origin_port) = (origin.ip(), origin.port());
    let (mut tls, mut http2) = (String::new(), "");
    if setup.shape.front.is_tls() {
        let protocol = if setup.shape.front.is_http2() { "h2" } else { "http/1.1" };
        tls = format!(
            r#"
      transport_socket:
        name: envoy.transport_sockets.tls
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext
          common_tls_context:
            alpn_protocols: [{protocol}]
            tls_params: {{ tls_minimum_protocol_version: TLSv1_3, tls_maximum_protocol_version: TLSv1_3 }}
            tls_certificates:
            - certificate_chain: {{ filename: "{}" }}
              private_key: {{ filename: "{}" }}"#,
            setup.identity.certificate.display(),
            setup.identity.key.display()
        );
    }
    if setup.shape.http2_behind {
        http2 = r#"
    typed_extension_protocol_options:
      envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
        "@type": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions
        explicit_http_config: { http2_protocol_options: {} }"#;
    }
    format!(
        r#"static_resources:
  listeners:
  - name: ingress
    address:
      socket_address: {{ address: 127.0.0.1, port_value: {port} }}
    filter_chains:
    - filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: ingress
          route_config:
            name: local
            virtual_hosts:
            - name: all
              domains: ["*"]
              routes:
              - match: {{ prefix: "/" }}
                route: {{ cluster: origin, timeout: 120s }}
          http_filters:
          - name: envoy.filters.http.router
            typed_config:
              "@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router{tls}
  clusters:
  - name: origin
    type: STATIC
    connect_timeout: 5s
    lb_policy: ROUND_ROBIN{http2}
    circuit_breakers:
      thresholds:
      - max_connections: 100000
        max_pending_requests: 100000
        max_requests: 100000
        max_retries: 100000
    load_assignment:
      cluster_name: origin
      endpoints:
      - lb_endpoints:
        - endpoint:
            address:
              socket_address: {{ address: {host}, port_value: {origin_port} }}
"#
    )
}
