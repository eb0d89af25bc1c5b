//! The HTTP connection manager and HTTP filters.

use std::sync::Arc;
use std::time::Duration;

use super::{
    AccessLog, Cidr, ClientCertRules, FilterModel, HeaderOps, Http2Options, IpDetection, LocalReplies,
    RouteConfiguration, StringMatch, TargetRules,
};

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
    /// `original_ip_detection_extensions`: not with the two above.
    pub ip_detection: Vec<IpDetection>,
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
    /// Paths, hosts and schemes.
    pub target: TargetRules,
    /// `x-forwarded-client-cert`.
    pub client_cert: ClientCertRules,
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
    /// `drain_timeout_jitter`: by so many percent of it, at most, each connection's is longer.
    pub drain_jitter: u32,
    /// `http1_safe_max_connection_duration`: a connection of HTTP/1 that is too old ends with its next response, and not before.
    pub safe_max_connection_duration: bool,
    /// `stream_flush_timeout`: how long a client may take nothing of a response of which all is there; the idle timeout where it is not set,
    /// `Some(None)` is off.
    pub stream_flush_timeout: Option<Option<Duration>>,
    /// `delayed_close_timeout`, default 1 s; `None` closes at once.
    pub delayed_close_timeout: Option<Duration>,
    /// `max_request_headers_kb` in bytes, default 60 KiB.
    pub max_request_headers_bytes: u32,
    /// `common_http_protocol_options.max_headers_count`, default 100.
    pub max_headers_count: u32,
    /// `common_http_protocol_options.headers_with_underscores_action`.
    pub underscores: Underscores,
    /// `upgrade_configs`: types in lower case, unique, and whether they are enabled.
    pub upgrades: Vec<(String, bool)>,
    /// `codec_type`.
    pub codec: CodecType,
    /// `http_protocol_options` for HTTP/1.
    pub http1: Http1Options,
    /// `http2_protocol_options`.
    pub http2: Http2Options,
    /// `early_header_mutation_extensions`: one after the other, first of all.
    pub early_headers: Vec<HeaderOps>,
    /// `proxy_100_continue`: the upstream says it, not we.
    pub proxy_100_continue: bool,
    /// `common_http_protocol_options.max_stream_duration`, where the route says nothing; `None` is off.
    pub max_stream_duration: Option<Duration>,
    /// `proxy_status_config`.
    pub proxy_status: Option<ProxyStatus>,
    /// `local_reply_config`.
    pub local_replies: Option<LocalReplies>,
    /// `access_log`.
    pub access_logs: Vec<AccessLog>,
    /// `access_log_options.access_log_flush_interval`: a request that lasts has a line so often.
    pub log_interval: Option<Duration>,
    /// `access_log_options.flush_access_log_on_new_request`: a new request has a line too.
    pub log_new_requests: bool,
    /// `access_log_options.flush_log_on_tunnel_successfully_established`: so has a tunnel that has been agreed on.
    pub log_new_tunnels: bool,
}

/// With Envoy's defaults, no routes, and the router alone.
impl Default for HttpConnectionManager {
    fn default() -> Self {
        Self {
            stat_prefix: String::new(),
            access_logs: Vec::new(),
            log_interval: None,
            log_new_requests: false,
            log_new_tunnels: false,
            routes: Arc::default(),
            http_filters: vec![HttpFilter::Router(Router::default())],
            server_name: "envoy".into(),
            server_header: ServerHeader::Overwrite,
            via: String::new(),
            use_remote_address: false,
            xff_num_trusted_hops: 0,
            ip_detection: Vec::new(),
            skip_xff_append: false,
            internal_addresses: Vec::new(),
            internal_unix_sockets: false,
            generate_request_id: true,
            preserve_external_request_id: false,
            always_set_request_id_in_response: false,
            add_user_agent: None,
            target: Default::default(),
            client_cert: Default::default(),
            early_headers: Vec::new(),
            proxy_100_continue: false,
            max_stream_duration: None,
            proxy_status: None,
            local_replies: None,
            idle_timeout: Some(Duration::from_secs(3600)),
            max_connection_duration: None,
            max_requests_per_connection: 0,
            stream_idle_timeout: Some(Duration::from_secs(300)),
            request_timeout: None,
            request_headers_timeout: None,
            drain_timeout: Duration::from_secs(5),
            drain_jitter: 0,
            safe_max_connection_duration: false,
            stream_flush_timeout: None,
            delayed_close_timeout: Some(Duration::from_secs(1)),
            max_request_headers_bytes: 60 * 1024,
            max_headers_count: 100,
            underscores: Underscores::Allow,
            upgrades: Vec::new(),
            codec: Default::default(),
            http1: Http1Options::default(),
            http2: Default::default(),
        }
    }
}

/// `proxy_status_config`: responses that have suffered say from what, as RFC 9209 has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProxyStatus {
    /// This proxy: `literal_proxy_name`, the node's id, or `server_name`.
    pub name: String,
    /// Not `remove_details`.
    pub details: bool,
    /// Not `remove_response_flags`.
    pub flags: bool,
    /// `set_recommended_response_code`.
    pub sets_status: bool,
}

/// `codec_type`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CodecType {
    /// As ALPN says; else HTTP/2 where the connection begins with its preface.
    #[default]
    Auto,
    /// HTTP/1.
    Http1,
    /// HTTP/2.
    Http2,
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
    /// `allow_custom_methods`.
    pub custom_methods: bool,
    /// `header_key_format.proper_case_words`: names of response headers begin with capitals.
    pub proper_case: bool,
    /// `header_key_format.stateful_formatter`: how the client writes names is kept for the host.
    pub preserve_case: Option<PreserveCase>,
    /// `ignore_http_11_upgrade`.
    pub ignored_upgrades: Vec<StringMatch>,
    /// `override_stream_error_on_invalid_http_message`, or the manager's `stream_error_on_invalid_http_message`: a request that is answered with 400 by us does not
    /// end its connection where it has been understood.
    pub keeps_after_bad_request: bool,
}

/// `envoy.extensions.http.header_formatters.preserve_case.v3.PreserveCaseFormatterConfig`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PreserveCase {
    /// `formatter_type_on_envoy_headers` is `PROPER_CASE`.
    pub proper: bool,
    /// `forward_reason_phrase`.
    pub reason: bool,
}

impl Default for Http1Options {
    fn default() -> Self {
        Self {
            allow_absolute_url: true,
            accept_http_10: false,
            default_host_for_http_10: String::new(),
            enable_trailers: false,
            allow_chunked_length: false,
            custom_methods: false,
            proper_case: false,
            preserve_case: None,
            ignored_upgrades: Vec::new(),
            keeps_after_bad_request: false,
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
    /// Any other: its own code knows it.
    Extension(FilterModel),
}

/// `envoy.extensions.filters.http.router.v3.Router`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Router {
    /// `suppress_envoy_headers`.
    pub suppress_envoy_headers: bool,
    /// `strict_check_headers`: a request with one of these that says nothing sensible is refused.
    pub strict: Vec<ControlHeader>,
    /// `respect_expected_rq_timeout`: what another proxy has told of its timeout goes before the route's.
    pub respect_expected_timeout: bool,
}

/// A header that asks something of the router, and can be looked at strictly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ControlHeader {
    /// `x-envoy-upstream-rq-timeout-ms`.
    Timeout,
    /// `x-envoy-upstream-rq-per-try-timeout-ms`.
    PerTryTimeout,
    /// `x-envoy-max-retries`.
    MaxRetries,
    /// `x-envoy-retry-on`.
    RetryOn,
    /// `x-envoy-retry-grpc-on`.
    RetryGrpcOn,
}
