//! Listeners, filter chains, and network filters.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use super::{AccessLog, Address, DownstreamTls, HttpConnectionManager, Keyed, MatchTree, NetworkFilterModel};

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
    /// `filter_chain_matcher`: leads to the name of a filter chain, and goes before what those match themselves.
    pub matcher: Option<Arc<MatchTree<String>>>,
    /// `default_filter_chain`.
    pub default_filter_chain: Option<Arc<FilterChain>>,
    /// `envoy.filters.listener.tls_inspector`, named or needed by a filter chain: which chain is found out by what the client says first.
    pub inspection: Option<Inspection>,
    /// `access_log`: a line for each connection when it has ended, also for one that no filter chain has taken.
    pub access_logs: Vec<AccessLog>,
    /// How many connections there may be, where a runtime value may say so.
    pub limits: Option<Box<ConnectionLimits>>,
    /// `drain_type` is `MODIFY_ONLY`: `/healthcheck/fail` does not drain it.
    pub drain_modify_only: bool,
}

/// How many connections there may be; without end where no runtime value is there.
#[derive(Clone, Debug, PartialEq)]
pub struct ConnectionLimits {
    /// `envoy.resource_limits.listener.<name>.connection_limit`.
    pub own: Keyed<u64>,
    /// `overload.global_downstream_max_connections`; not where `ignore_global_conn_limit` says so.
    pub all: Option<Keyed<u64>>,
}

/// How a client's first bytes are looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inspection {
    /// `listener_filters_timeout`: how long they may take; default 15 s, `None` is off.
    pub timeout: Option<Duration>,
    /// `continue_on_listener_filters_timeout`: who says nothing is taken for a plain connection.
    pub continue_on_timeout: bool,
    /// `max_client_hello_size`, at most 16 KiB.
    pub max_hello: usize,
    /// `close_connection_on_client_hello_parsing_errors`: what begins like TLS and is none is closed, and not taken for plain.
    pub close_on_errors: bool,
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
    /// `transport_socket`, where it is TLS.
    pub tls: Option<Arc<DownstreamTls>>,
    /// `transport_socket_connect_timeout`: how long the handshake may take.
    pub handshake_timeout: Option<Duration>,
}

/// `envoy.config.listener.v3.FilterChainMatch`.
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
    /// `server_names` in lower case: `a.example`, or `*.example` for everything below.
    pub server_names: Vec<String>,
    /// `transport_protocol`: `tls`, `raw_buffer`; empty matches all.
    pub transport_protocol: String,
    /// `application_protocols`: one of them is among those that the client offers (ALPN).
    pub application_protocols: Vec<String>,
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

impl Cidr {
    /// Whether an address is of this network; one of the other family is not.
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.network, address) {
            (IpAddr::V4(network), IpAddr::V4(address)) => {
                let host = 32 - u32::from(self.prefix.min(32));
                u64::from(u32::from(network) ^ u32::from(address)) >> host == 0
            }
            (IpAddr::V6(network), IpAddr::V6(address)) => {
                let host = 128 - u32::from(self.prefix.min(128));
                (u128::from(network) ^ u128::from(address)).checked_shr(host).unwrap_or(0) == 0
            }
            _ => false,
        }
    }
}

/// A network filter with its settings.
#[derive(Clone, Debug, PartialEq)]
pub enum NetworkFilter {
    /// `envoy.filters.network.http_connection_manager`.
    HttpConnectionManager(Arc<HttpConnectionManager>),
    /// `envoy.filters.network.tcp_proxy`.
    TcpProxy(Arc<TcpProxy>),
    /// One that the program brings along.
    Extension(NetworkFilterModel),
}

impl NetworkFilter {
    /// It keeps the connection until it ends.
    pub fn is_terminal(&self) -> bool {
        match self {
            Self::HttpConnectionManager(_) | Self::TcpProxy(_) => true,
            Self::Extension(model) => model.is_terminal,
        }
    }
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
    /// `access_log`.
    pub access_logs: Vec<AccessLog>,
    /// `access_log_options.flush_access_log_on_start`: a new connection has a line too.
    pub log_start: bool,
    /// `access_log_options.flush_access_log_on_connected`: so has the host's taking it.
    pub log_connected: bool,
}
