//! The peers' configurations: one listener, one route, one upstream, one worker, no access log, upstream connections kept.
//!
//! nginx and HAProxy are left lean: they add no request id and no timing header, as Envoy and heirloom do. That makes the mark
//! harder, never easier. Limits on connections and requests are far above what the works reach; timeouts outlast every work.

use std::net::SocketAddr;
use std::path::Path;

/// nginx: a master, one worker.
pub(super) fn nginx(directory: &Path, port: u16, origin: SocketAddr, many: u32) -> String {
    let directory = directory.display();
    // Run by root, nginx gives its worker to another user, who cannot enter our directory.
    let user = if nix::unistd::geteuid().is_root() { "user root;" } else { "" };
    // It allots its connections when it starts, two for each client, and begins to close idle ones when less than a sixteenth is free.
    let connections = 2 * many + many / 4 + 100;
    let descriptors = connections + 100;
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
        listen 127.0.0.1:{port} backlog=4096;
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
pub(super) fn haproxy(port: u16, origin: SocketAddr, many: u32) -> String {
    // It allots two descriptors for each client when it starts.
    let connections = many + 500;
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
    bind 127.0.0.1:{port} backlog 4096 maxconn {connections}
    default_backend origin

backend origin
    server origin {origin}
"
    )
}

/// Envoy, and heirloom with the very same text.
pub(super) fn envoy(port: u16, origin: SocketAddr) -> String {
    let (host, origin_port) = (origin.ip(), origin.port());
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
              "@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router
  clusters:
  - name: origin
    type: STATIC
    connect_timeout: 5s
    lb_policy: ROUND_ROBIN
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
