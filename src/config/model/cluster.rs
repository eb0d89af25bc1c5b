//! Clusters.

use std::sync::Arc;
use std::time::Duration;

use super::{Address, Fraction, Http2Options, Keyed, Locality, Mirror, PreserveCase};

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
    /// The same where runtime values may change them (`circuit_breakers.<cluster>.default.*`).
    pub limit_keys: Option<Arc<KeyedLimits>>,
    /// The part of its requests that are answered here, as a runtime value says: `upstream.maintenance_mode.<cluster>`.
    pub maintenance: Keyed<Fraction>,
    /// The part of its failed requests that may be tried again: `upstream.use_retry`.
    pub retries: Keyed<Fraction>,
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
    /// The protocol of `HttpProtocolOptions`.
    pub protocol: UpstreamProtocol,
    /// How HTTP/1 is spoken.
    pub http1: UpstreamHttp1,
    /// `request_mirror_policies` of `HttpProtocolOptions`: they go before those of routes.
    pub mirrors: Vec<Mirror>,
    /// `circuit_breakers.thresholds` for the high priority.
    pub high_limits: CircuitBreakers,
    /// The same where runtime values may change them (`circuit_breakers.<cluster>.high.*`).
    pub high_limit_keys: Option<Arc<KeyedLimits>>,
}

/// What is spoken to a cluster.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum UpstreamProtocol {
    /// `explicit_http_config.http_protocol_options`, or nothing.
    #[default]
    Http1,
    /// `explicit_http_config.http2_protocol_options`: HTTP/2, from the first byte.
    Http2(Arc<Http2Options>),
    /// `use_downstream_protocol_config`: whatever the client spoke.
    AsDownstream(Arc<Http2Options>),
}

impl UpstreamProtocol {
    /// The options of HTTP/2, where it may be spoken.
    pub fn http2(&self) -> Option<&Arc<Http2Options>> {
        match self {
            Self::Http1 => None,
            Self::Http2(options) | Self::AsDownstream(options) => Some(options),
        }
    }
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

/// `Http1ProtocolOptions` of a cluster: how request heads are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UpstreamHttp1 {
    /// `send_fully_qualified_url`: the target is a whole URL.
    pub full_url: bool,
    /// `header_key_format.proper_case_words`: names begin with capitals.
    pub proper_case: bool,
    /// `header_key_format.stateful_formatter`: how the host writes names is kept for the client.
    pub preserve_case: Option<PreserveCase>,
    /// `enable_trailers`: of requests and of responses.
    pub enable_trailers: bool,
    /// `allow_chunked_length`, of responses.
    pub allow_chunked_length: bool,
}

/// `CircuitBreakers.Thresholds`, with Envoy's defaults (1024 each, 3 retries).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CircuitBreakers {
    /// Connections to the cluster.
    pub max_connections: u32,
    /// Requests that wait for a connection.
    pub max_pending_requests: u32,
    /// Requests in flight.
    pub max_requests: u32,
    /// Retries in progress.
    pub max_retries: u32,
    /// `retry_budget`: instead of [`Self::max_retries`].
    pub retry_budget: Option<RetryBudget>,
}

/// [`CircuitBreakers`], each by the name of its runtime value.
#[derive(Clone, Debug, PartialEq)]
pub struct KeyedLimits {
    /// `max_connections`.
    pub max_connections: Keyed<u32>,
    /// `max_pending_requests`.
    pub max_pending_requests: Keyed<u32>,
    /// `max_requests`.
    pub max_requests: Keyed<u32>,
    /// `max_retries`.
    pub max_retries: Keyed<u32>,
    /// `retry_budget.budget_percent`.
    pub budget_percent: Keyed<f64>,
    /// `retry_budget.min_retry_concurrency`.
    pub budget_min_concurrency: Keyed<u32>,
}

impl KeyedLimits {
    /// What is in force now. A value of the budget makes one where there is none.
    pub fn now(&self, configured: &CircuitBreakers) -> CircuitBreakers {
        let has_budget = configured.retry_budget.is_some()
            || self.budget_percent.is_given()
            || self.budget_min_concurrency.is_given();
        CircuitBreakers {
            max_connections: self.max_connections.now(),
            max_pending_requests: self.max_pending_requests.now(),
            max_requests: self.max_requests.now(),
            max_retries: self.max_retries.now(),
            retry_budget: has_budget.then(|| RetryBudget {
                percent: self.budget_percent.now(),
                min_concurrency: self.budget_min_concurrency.now(),
            }),
        }
    }
}

/// `CircuitBreakers.Thresholds.RetryBudget`: retries as a part of the requests that are in flight or wait for a connection.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RetryBudget {
    /// `budget_percent`, default 20; from 0 to 100.
    pub percent: f64,
    /// `min_retry_concurrency`, default 3: so many may be in progress however few requests there are.
    pub min_concurrency: u32,
}

impl Default for CircuitBreakers {
    fn default() -> Self {
        Self {
            max_connections: 1024,
            max_pending_requests: 1024,
            max_requests: 1024,
            max_retries: 3,
            retry_budget: None,
        }
    }
}
