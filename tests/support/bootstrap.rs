//! The proxy's configuration as the restart suite needs it.

use std::fmt::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// A front proxy: `/marker` answers by itself, everything else goes to the origin.
#[derive(Clone, Debug, Default)]
pub(crate) struct Config {
    /// The cluster's one endpoint.
    pub(crate) origin: Option<SocketAddr>,
    /// Where statistics are sent.
    pub(crate) statsd: Option<SocketAddr>,
    /// What `/marker` answers, to know which configuration serves.
    pub(crate) marker: String,
    /// More listeners like the first one.
    pub(crate) more: Vec<SocketAddr>,
    /// A TCP proxy: where it listens, and where it goes. The front proxy then has WebSockets (`/ws`) and CONNECT to the same place.
    pub(crate) tunnel: Option<(SocketAddr, SocketAddr)>,
    /// Where what begins with `/streams/` goes.
    pub(crate) streams: Option<SocketAddr>,
    /// A host of HTTP/2 for WebSockets (`/ws2`).
    pub(crate) http2_tunnel: Option<SocketAddr>,
    /// More clusters, as text.
    pub(crate) clusters: String,
    /// A listener with TLS that answers and forwards as the first one does: where, and the PEM files of its certificate and key.
    pub(crate) secure: Option<(SocketAddr, PathBuf, PathBuf)>,
    /// The file of the first listener's and the tunnel's access log.
    pub(crate) access_log: Option<PathBuf>,
}

/// A virtual host whose CONNECT is for the host itself.
const FORWARDS: &str = "            - name: forwards\n              domains: [\"forward:80\"]\n              routes:\n              \
                        - match: { connect_matcher: {} }\n                route:\n                  cluster: far\n                  \
                        upgrade_configs: [{ upgrade_type: CONNECT }]\n";

/// The statistics prefix of the connection manager.
pub(crate) const HTTP: &str = "http.front";
/// How often the sinks are told.
pub(crate) const FLUSH_INTERVAL: Duration = Duration::from_millis(500);
/// The statistics prefix of the cluster.
pub(crate) const CLUSTER: &str = "cluster.origin";

impl Config {
    /// With an origin behind it.
    pub(crate) fn to(origin: SocketAddr) -> Self {
        Self { origin: Some(origin), marker: "first".into(), ..Self::default() }
    }

    /// The bootstrap file.
    pub(crate) fn text(&self, front: SocketAddr, admin: SocketAddr) -> String {
        let mut text = format!("node: {{ id: test, cluster: test }}\nadmin:\n  address: {}\n", address(admin));
        let _ = writeln!(text, "stats_flush_interval: {}s", FLUSH_INTERVAL.as_secs_f64());
        if let Some(statsd) = self.statsd {
            let _ = write!(
                text,
                "stats_sinks:\n- name: envoy.stat_sinks.statsd\n  typed_config:\n    \
                 \"@type\": type.googleapis.com/envoy.config.metrics.v3.StatsdSink\n    address: {}\n",
                address(statsd)
            );
        }
        text.push_str("static_resources:\n  listeners:\n");
        for (number, listen) in std::iter::once(&front).chain(&self.more).enumerate() {
            self.listener(&mut text, number, *listen);
        }
        if let Some((listen, chain, key)) = &self.secure {
            self.listener(&mut text, 1 + self.more.len(), *listen);
            let _ = write!(
                text,
                "      transport_socket:\n        name: envoy.transport_sockets.tls\n        typed_config:\n          \
                 \"@type\": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext\n          \
                 common_tls_context:\n            alpn_protocols: [h2, http/1.1]\n            tls_certificates:\n            - certificate_chain: {{ filename: {} }}\n              \
                 private_key: {{ filename: {} }}\n",
                chain.display(),
                key.display()
            );
        }
        if let Some((listen, _)) = self.tunnel {
            let _ = write!(
                text,
                "  - name: tunnel\n    address: {}\n    filter_chains:\n    - filters:\n      \
                 - name: envoy.filters.network.tcp_proxy\n        typed_config:\n          \
                 \"@type\": type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy\n          \
                 stat_prefix: tunnel\n          cluster: far\n",
                address(listen)
            );
            self.log(&mut text, "tcp %BYTES_RECEIVED% %BYTES_SENT% %RESPONSE_FLAGS% %DURATION%");
        }
        let far = self.tunnel.map(|(_, far)| ("far", far));
        let streams = self.streams.map(|streams| ("streams", streams));
        let origin = self.origin.map(|origin| ("origin", origin));
        let clusters: Vec<_> = origin.into_iter().chain(far).chain(streams).collect();
        if !clusters.is_empty() {
            text.push_str("  clusters:\n");
        }
        for (name, host) in clusters {
            let _ = write!(
                text,
                "  - name: {name}\n    type: STATIC\n    connect_timeout: 2s\n    load_assignment:\n      \
                 cluster_name: {name}\n      endpoints:\n      - lb_endpoints:\n        - endpoint: {{ address: {} }}\n",
                address(host)
            );
        }
        if let Some(host) = self.http2_tunnel {
            let _ = write!(
                text,
                "  - name: far2\n    type: STATIC\n    connect_timeout: 2s\n    typed_extension_protocol_options:\n      \
                 envoy.extensions.upstreams.http.v3.HttpProtocolOptions:\n        \
                 \"@type\": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions\n        \
                 explicit_http_config: {{ http2_protocol_options: {{}} }}\n    load_assignment:\n      \
                 cluster_name: far2\n      endpoints:\n      - lb_endpoints:\n        - endpoint: {{ address: {} }}\n",
                address(host)
            );
        }
        text.push_str(&self.clusters);
        text
    }

    /// An access log, where a filter's settings stand.
    fn log(&self, text: &mut String, format: &str) {
        if let Some(path) = &self.access_log {
            let _ = write!(
                text,
                "          access_log:\n          - name: file\n            typed_config:\n              \
                 \"@type\": type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog\n              \
                 path: {}\n              log_format: {{ text_format_source: {{ inline_string: \"{format}\\n\" }} }}\n",
                path.display()
            );
        }
    }

    fn listener(&self, text: &mut String, number: usize, listen: SocketAddr) {
        let _ = write!(
            text,
            "  - name: front{number}\n    address: {}\n    filter_chains:\n    - filters:\n      \
             - name: envoy.filters.network.http_connection_manager\n        typed_config:\n          \
             \"@type\": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager\n          \
             stat_prefix: front\n          upgrade_configs: [{{ upgrade_type: websocket }}]\n          \
             http2_protocol_options: {{ allow_connect: true }}\n          http_filters:\n          - name: envoy.filters.http.router\n            \
             typed_config: {{ \"@type\": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router }}\n          \
             route_config:\n            virtual_hosts:\n{}            - name: all\n              domains: [\"*\"]\n              \
             routes:\n              - match: {{ path: /marker }}\n                \
             direct_response: {{ status: 200, body: {{ inline_string: \"{}\" }} }}\n",
            address(listen),
            if self.tunnel.is_some() { FORWARDS } else { "" },
            self.marker
        );
        if self.streams.is_some() {
            text.push_str(
                "              - match: { prefix: /streams/ }\n                route: { cluster: streams, timeout: 0s }\n",
            );
        }
        if self.http2_tunnel.is_some() {
            text.push_str(
                "              - match: { prefix: /ws2 }\n                route: { cluster: far2, timeout: 0s }\n",
            );
        }
        if self.tunnel.is_some() {
            text.push_str(
                "              - match: { prefix: /ws }\n                route: { cluster: far, timeout: 0s }\n              \
                 - match: { connect_matcher: {} }\n                route:\n                  cluster: far\n                  \
                 upgrade_configs: [{ upgrade_type: CONNECT, connect_config: {} }]\n",
            );
        }
        if self.origin.is_some() {
            text.push_str(
                "              - match: { prefix: / }\n                route: { cluster: origin, timeout: 0s }\n",
            );
        }
        self.log(text, "http %REQ(:PATH)% %RESPONSE_CODE% %BYTES_SENT% %RESPONSE_FLAGS% %DURATION% %CONNECTION_ID%");
    }
}

fn address(address: SocketAddr) -> String {
    format!("{{ socket_address: {{ address: {}, port_value: {} }} }}", address.ip(), address.port())
}
