//! The validated configuration: plain data, no live objects, no protobuf.
//!
//! `config::convert` makes it from typed messages, whether they came from a file or from xDS; everything above
//! (`listener`, `http`, `upstream`, `stats`, `admin`) is built from it. Two models can be compared, which is what a reload does.
//! All defaults have been applied: a field here is the value in force.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// A whole bootstrap (`envoy.config.bootstrap.v3.Bootstrap`).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Bootstrap {
    /// Who this proxy is.
    pub node: Node,
    /// The admin endpoint, if there is one.
    pub admin: Option<Admin>,
    /// `static_resources.listeners`, names unique.
    pub listeners: Vec<Arc<Listener>>,
    /// `static_resources.clusters`, names unique.
    pub clusters: Vec<Arc<Cluster>>,
    /// Statistics: tags, sinks, flush interval.
    pub stats: Stats,
}

/// `envoy.config.core.v3.Node`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Node {
    /// `node.id`.
    pub id: String,
    /// `node.cluster`.
    pub cluster: String,
    /// `node.locality`.
    pub locality: Locality,
}

/// `envoy.config.core.v3.Locality`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Locality {
    /// Region.
    pub region: String,
    /// Zone.
    pub zone: String,
    /// Sub-zone.
    pub sub_zone: String,
}

/// `envoy.config.bootstrap.v3.Admin`.
#[derive(Clone, Debug, PartialEq)]
pub struct Admin {
    /// Where it listens.
    pub address: Address,
}

/// An address that can be bound or connected to (`envoy.config.core.v3.Address`).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Address {
    /// `socket_address` with protocol TCP.
    Tcp(SocketAddr),
    /// `pipe`.
    Unix {
        /// File path, or a name starting with `@` for the abstract name space.
        path: PathBuf,
        /// `pipe.mode`; 0 leaves the process's umask in force.
        mode: u32,
    },
}

impl std::fmt::Display for Address {
    /// As Envoy prints it: `ip:port` or the path.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tcp(address) => write!(f, "{address}"),
            Self::Unix { path, .. } => write!(f, "{}", path.display()),
        }
    }
}

/// `envoy.config.listener.v3.Listener`.
#[derive(Clone, Debug, PartialEq)]
pub struct Listener {
    /// Unique; the address where the configuration gave none.
    pub name: String,
    /// Where it listens: the main address, then the additional ones.
    pub addresses: Vec<Address>,
    /// The scope of its statistics: `stat_prefix`, or the address with `:` made `_`.
    pub stat_prefix: String,
    /// Socket options, given to whoever binds.
    pub socket: SocketOptions,
    /// `per_connection_buffer_limit_bytes`, default 1 MiB.
    pub per_connection_buffer_limit: u32,
    /// Filter chains in order of the file.
    pub filter_chains: Vec<Arc<FilterChain>>,
    /// `default_filter_chain`.
    pub default_filter_chain: Option<Arc<FilterChain>>,
    /// `drain_type` is `MODIFY_ONLY`: `/healthcheck/fail` does not drain it.
    pub drain_modify_only: bool,
}

/// The options of a listening socket that whoever binds it must apply.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct SocketOptions {
    /// `tcp_backlog_size`; `None` is the system's maximum.
    pub backlog: Option<u32>,
    /// `freebind`.
    pub freebind: bool,
    /// `transparent`.
    pub transparent: bool,
    /// `ipv4_compat` of the address is on: an IPv6 socket takes IPv4 too.
    pub ipv4_compat: bool,
    /// `tcp_fast_open_queue_length`.
    pub fast_open: Option<u32>,
}

/// `envoy.config.listener.v3.FilterChain`.
#[derive(Clone, Debug, PartialEq)]
pub struct FilterChain {
    /// May be empty.
    pub name: String,
    /// What it matches.
    pub matches: FilterChainMatch,
    /// Network filters in order, the last one terminal; without any, connections are closed at once.
    pub filters: Vec<NetworkFilter>,
}

/// `envoy.config.listener.v3.FilterChainMatch`, without what needs TLS.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct FilterChainMatch {
    /// `destination_port`.
    pub destination_port: Option<u16>,
    /// `prefix_ranges`: destination networks; empty matches all.
    pub destination: Vec<Cidr>,
    /// `direct_source_prefix_ranges`.
    pub direct_source: Vec<Cidr>,
    /// `source_type`.
    pub source_type: SourceType,
    /// `source_prefix_ranges`.
    pub source: Vec<Cidr>,
    /// `source_ports`.
    pub source_ports: Vec<u16>,
}

/// `FilterChainMatch.ConnectionSourceType`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum SourceType {
    /// Any source.
    #[default]
    Any,
    /// Loopback, or the same address as the destination.
    SameIpOrLoopback,
    /// Anything else.
    External,
}

/// `envoy.config.core.v3.CidrRange`, host bits cleared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Cidr {
    /// Network address.
    pub network: IpAddr,
    /// 0–32 or 0–128.
    pub prefix: u8,
}

/// A network filter with its settings.
#[derive(Clone, Debug, PartialEq)]
pub enum NetworkFilter {
    /// `envoy.filters.network.http_connection_manager`.
    HttpConnectionManager(Arc<HttpConnectionManager>),
    /// `envoy.filters.network.tcp_proxy`.
    TcpProxy(Arc<TcpProxy>),
}

/// `envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TcpProxy {
    /// Scope of its statistics (`tcp.<stat_prefix>.`).
    pub stat_prefix: String,
    /// Where connections go; one that does not exist closes them.
    pub cluster: String,
    /// `idle_timeout`: without a byte in either direction for so long a connection is closed; default 1 h, `None` is off.
    pub idle_timeout: Option<Duration>,
    /// `max_downstream_connection_duration`, from the accept on.
    pub max_connection_duration: Option<Duration>,
    /// `max_connect_attempts`, at least 1.
    pub max_connect_attempts: u32,
}

/// `envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager`.
#[derive(Clone, Debug, PartialEq)]
pub struct HttpConnectionManager {
    /// Scope of its statistics (`http.<stat_prefix>.`).
    pub stat_prefix: String,
    /// The route table.
    pub routes: Arc<RouteConfiguration>,
    /// HTTP filters in order; the last is the router.
    pub http_filters: Vec<HttpFilter>,
    /// `server_name`, default `envoy`.
    pub server_name: String,
    /// `server_header_transformation`.
    pub server_header: ServerHeader,
    /// `via`, or empty.
    pub via: String,
    /// `use_remote_address`, default false.
    pub use_remote_address: bool,
    /// `xff_num_trusted_hops`.
    pub xff_num_trusted_hops: u32,
    /// `skip_xff_append`.
    pub skip_xff_append: bool,
    /// `internal_address_config`: nothing is internal by default.
    pub internal_addresses: Vec<Cidr>,
    /// `internal_address_config.unix_sockets`.
    pub internal_unix_sockets: bool,
    /// `generate_request_id`, default true.
    pub generate_request_id: bool,
    /// `preserve_external_request_id`.
    pub preserve_external_request_id: bool,
    /// `always_set_request_id_in_response`.
    pub always_set_request_id_in_response: bool,
    /// `add_user_agent`: the node's cluster and id to send upstream (`x-envoy-downstream-service-*`, `user-agent`).
    pub add_user_agent: Option<(String, String)>,
    /// `common_http_protocol_options.idle_timeout`, default 1 h; `None` is off.
    pub idle_timeout: Option<Duration>,
    /// `common_http_protocol_options.max_connection_duration`.
    pub max_connection_duration: Option<Duration>,
    /// `common_http_protocol_options.max_requests_per_connection`; 0 is unlimited.
    pub max_requests_per_connection: u32,
    /// `stream_idle_timeout`, default 5 min; `None` is off.
    pub stream_idle_timeout: Option<Duration>,
    /// `request_timeout`; `None` is off.
    pub request_timeout: Option<Duration>,
    /// `request_headers_timeout`; `None` is off.
    pub request_headers_timeout: Option<Duration>,
    /// `drain_timeout`, default 5 s.
    pub drain_timeout: Duration,
    /// `delayed_close_timeout`, default 1 s; `None` closes at once.
    pub delayed_close_timeout: Option<Duration>,
    /// `max_request_headers_kb` in bytes, default 60 KiB.
    pub max_request_headers_bytes: u32,
    /// `common_http_protocol_options.max_headers_count`, default 100.
    pub max_headers_count: u32,
    /// `common_http_protocol_options.headers_with_underscores_action`.
    pub underscores: Underscores,
    /// `http_protocol_options` for HTTP/1.
    pub http1: Http1Options,
}

/// `envoy.config.core.v3.Http1ProtocolOptions`, downstream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Http1Options {
    /// `allow_absolute_url`, default true.
    pub allow_absolute_url: bool,
    /// `accept_http_10`.
    pub accept_http_10: bool,
    /// `default_host_for_http_10`.
    pub default_host_for_http_10: String,
    /// `enable_trailers`.
    pub enable_trailers: bool,
    /// `allow_chunked_length`.
    pub allow_chunked_length: bool,
}

impl Default for Http1Options {
    fn default() -> Self {
        Self {
            allow_absolute_url: true,
            accept_http_10: false,
            default_host_for_http_10: String::new(),
            enable_trailers: false,
            allow_chunked_length: false,
        }
    }
}

/// `server_header_transformation`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ServerHeader {
    /// Replace whatever the upstream said.
    #[default]
    Overwrite,
    /// Only where the upstream said nothing.
    AppendIfAbsent,
    /// As the upstream said.
    PassThrough,
}

/// `headers_with_underscores_action`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Underscores {
    /// Pass them on.
    #[default]
    Allow,
    /// 400.
    RejectRequest,
    /// Drop the header.
    DropHeader,
}

/// An HTTP filter with its settings.
#[derive(Clone, Debug, PartialEq)]
pub enum HttpFilter {
    /// `envoy.filters.http.router`.
    Router(Router),
}

/// `envoy.extensions.filters.http.router.v3.Router`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Router {
    /// `suppress_envoy_headers`.
    pub suppress_envoy_headers: bool,
}

/// `envoy.config.route.v3.RouteConfiguration`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RouteConfiguration {
    /// May be empty.
    pub name: String,
    /// Domains are unique over all of them.
    pub virtual_hosts: Vec<VirtualHost>,
    /// `internal_only_headers`, lower case.
    pub internal_only_headers: Vec<String>,
    /// `most_specific_header_mutations_wins`, `ignore_port_in_host_matching` and the like are refused until they are honoured.
    pub ignore_port_in_host_matching: bool,
}

/// `envoy.config.route.v3.VirtualHost`.
#[derive(Clone, Debug, PartialEq)]
pub struct VirtualHost {
    /// For people and statistics; Envoy does not insist that it is unique.
    pub name: String,
    /// `example.com`, `*.example.com`, `example.*` or `*`; lower case.
    pub domains: Vec<String>,
    /// First match wins.
    pub routes: Vec<Route>,
}

/// `envoy.config.route.v3.Route`.
#[derive(Clone, Debug, PartialEq)]
pub struct Route {
    /// May be empty.
    pub name: String,
    /// What it matches.
    pub path: PathMatch,
    /// What it does.
    pub action: RouteAction,
}

/// The path specifier of a route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PathMatch {
    /// `prefix`.
    Prefix {
        /// Begins with `/` (or is empty).
        prefix: String,
        /// `case_sensitive`, default true.
        case_sensitive: bool,
    },
    /// `path`: the whole path without the query.
    Exact {
        /// The path.
        path: String,
        /// `case_sensitive`, default true.
        case_sensitive: bool,
    },
}

/// What a route does with a request.
#[derive(Clone, Debug, PartialEq)]
pub enum RouteAction {
    /// `route.cluster`.
    Cluster {
        /// Exists in [`Bootstrap::clusters`].
        cluster: String,
        /// `timeout`, default 15 s; `None` is off.
        timeout: Option<Duration>,
        /// `idle_timeout` of the route: overrides the manager's stream idle timeout. `Some(None)` turns it off.
        idle_timeout: Option<Option<Duration>>,
    },
    /// `direct_response`.
    DirectResponse {
        /// 200–599.
        status: u16,
        /// Inline or read from a file when the configuration was loaded.
        body: bytes::Bytes,
    },
}

/// `envoy.config.cluster.v3.Cluster`.
#[derive(Clone, Debug, PartialEq)]
pub struct Cluster {
    /// Unique.
    pub name: String,
    /// The scope of its statistics: `alt_stat_name` or the name.
    pub stat_name: String,
    /// `connect_timeout`, default 5 s.
    pub connect_timeout: Duration,
    /// `per_connection_buffer_limit_bytes`, default 1 MiB.
    pub per_connection_buffer_limit: u32,
    /// Endpoints in order of the file.
    pub endpoints: Vec<Endpoint>,
    /// `circuit_breakers.thresholds` for the default priority.
    pub limits: CircuitBreakers,
    /// Idle upstream connections are closed after this (default 1 h); `None` is off.
    pub idle_timeout: Option<Duration>,
    /// `max_requests_per_connection`; 0 is unlimited.
    pub max_requests_per_connection: u32,
    /// `upstream_connection_options.tcp_keepalive`.
    pub tcp_keepalive: Option<TcpKeepalive>,
    /// Response head: `max_response_headers_kb` in bytes, default 80 KiB for HTTP/1 as Envoy shows it.
    pub max_response_headers_bytes: u32,
    /// Response head: header count, default 100.
    pub max_response_headers_count: u32,
}

/// `envoy.config.core.v3.TcpKeepalive`; `None` leaves the system's value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TcpKeepalive {
    /// Probes.
    pub probes: Option<u32>,
    /// Seconds before the first probe.
    pub time: Option<u32>,
    /// Seconds between probes.
    pub interval: Option<u32>,
}

/// One upstream host.
#[derive(Clone, Debug, PartialEq)]
pub struct Endpoint {
    /// Where it is.
    pub address: Address,
    /// `load_balancing_weight`, at least 1.
    pub weight: u32,
    /// `locality` of its group.
    pub locality: Locality,
    /// `health_status` says it takes traffic (UNKNOWN, HEALTHY or DEGRADED).
    pub healthy: bool,
    /// `hostname`, or empty.
    pub hostname: String,
}

/// `CircuitBreakers.Thresholds`, with Envoy's defaults (1024 each).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CircuitBreakers {
    /// Connections to the cluster.
    pub max_connections: u32,
    /// Requests that wait for a connection.
    pub max_pending_requests: u32,
    /// Requests in flight.
    pub max_requests: u32,
}

impl Default for CircuitBreakers {
    fn default() -> Self {
        Self { max_connections: 1024, max_pending_requests: 1024, max_requests: 1024 }
    }
}

/// Statistics settings of the bootstrap.
#[derive(Clone, Debug, PartialEq)]
pub struct Stats {
    /// `stats_flush_interval`, default 5 s.
    pub flush_interval: Duration,
    /// `stats_config.stats_tags`.
    pub tags: Vec<TagRule>,
    /// `stats_config.use_all_default_tags`, default true.
    pub use_default_tags: bool,
    /// `stats_sinks`.
    pub sinks: Vec<StatsSink>,
}

impl Default for Stats {
    fn default() -> Self {
        Self { flush_interval: Duration::from_secs(5), tags: Vec::new(), use_default_tags: true, sinks: Vec::new() }
    }
}

/// `envoy.config.metrics.v3.TagSpecifier`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TagRule {
    /// `tag_name`.
    pub name: String,
    /// How the value is found.
    pub value: TagValue,
}

/// How a tag gets its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TagValue {
    /// `fixed_value`.
    Fixed(String),
    /// `regex`, checked when the configuration was loaded: the first capture is cut from the name, the second (or the first) is the value.
    Regex(String),
    /// Neither: the default extractor of that name.
    Default,
}

/// A statistics sink.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StatsSink {
    /// `envoy.stat_sinks.statsd` over UDP.
    Statsd {
        /// Where to.
        address: SocketAddr,
        /// `prefix`, default `envoy`.
        prefix: String,
    },
}
