//! `envoy.extensions.upstreams.http.v3.HttpProtocolOptions`: how a cluster speaks HTTP.

use std::sync::Arc;
use std::time::Duration;

use envoy_types::pb::envoy::config::core::v3 as core;
use envoy_types::pb::envoy::extensions::upstreams::http::v3 as api;

use super::context::Context;
use super::http_options::{self, IDLE_TIMEOUT, MAX_HEADERS_COUNT};
use super::{http2, mirror, values};
use crate::config::model::{Http2Options, Mirror, UpstreamHttp1, UpstreamProtocol};

/// Envoy's own limit for HTTP/1 responses, above the 60 KiB that the API names.
const MAX_RESPONSE_HEADERS_KB: u32 = 80;

/// What a cluster takes from its HTTP options.
#[derive(Clone, Debug)]
pub(super) struct Options {
    pub(super) idle_timeout: Option<Duration>,
    pub(super) max_requests_per_connection: Option<u32>,
    pub(super) max_response_headers_bytes: u32,
    pub(super) max_response_headers_count: u32,
    pub(super) protocol: UpstreamProtocol,
    pub(super) http1: UpstreamHttp1,
    pub(super) mirrors: Vec<Mirror>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            idle_timeout: Some(IDLE_TIMEOUT),
            max_requests_per_connection: None,
            max_response_headers_bytes: MAX_RESPONSE_HEADERS_KB * 1024,
            max_response_headers_count: MAX_HEADERS_COUNT,
            protocol: UpstreamProtocol::Http1,
            http1: UpstreamHttp1::default(),
            mirrors: Vec::new(),
        }
    }
}

pub(super) fn convert(cx: &mut Context, message: api::HttpProtocolOptions) -> Options {
    use api::http_protocol_options::UpstreamProtocolOptions;
    let api::HttpProtocolOptions {
        common_http_protocol_options,
        upstream_http_protocol_options,
        http_filters,
        header_validation_config,
        outlier_detection,
        request_mirror_policies,
        hash_policy,
        retry_policy,
        upstream_protocol_options,
    } = message;
    refuse!(cx; http_filters, header_validation_config, outlier_detection, retry_policy);
    // Whether the cluster is there shows when there is a request.
    let mirrors = mirror::policies(cx, request_mirror_policies, false);
    // Server names and certificate names matter only with TLS, hashes only with a policy that is refused.
    ignore!(cx; upstream_http_protocol_options, hash_policy);
    let mut http1 = UpstreamHttp1::default();
    let protocol = match upstream_protocol_options {
        Some(UpstreamProtocolOptions::ExplicitHttpConfig(explicit)) => {
            cx.at("explicit_http_config", |cx| protocol(cx, explicit, &mut http1))
        }
        Some(UpstreamProtocolOptions::UseDownstreamProtocolConfig(config)) => {
            cx.at("use_downstream_protocol_config", |cx| as_downstream(cx, config, &mut http1))
        }
        Some(UpstreamProtocolOptions::AutoConfig(_)) => {
            cx.refuse("auto_config");
            UpstreamProtocol::Http1
        }
        None => UpstreamProtocol::Http1,
    };
    let options = match common_http_protocol_options {
        Some(options) => cx.at("common_http_protocol_options", |cx| common(cx, options)),
        None => Options::default(),
    };
    Options { protocol, http1, mirrors, ..options }
}

fn as_downstream(
    cx: &mut Context,
    message: api::http_protocol_options::UseDownstreamHttpConfig,
    http1: &mut UpstreamHttp1,
) -> UpstreamProtocol {
    let api::http_protocol_options::UseDownstreamHttpConfig {
        http_protocol_options,
        http2_protocol_options,
        http3_protocol_options,
    } = message;
    ignore!(cx; http3_protocol_options);
    if let Some(options) = http_protocol_options {
        *http1 = cx.at("http_protocol_options", |cx| self::http1(cx, options));
    }
    UpstreamProtocol::AsDownstream(http2_options(cx, http2_protocol_options.unwrap_or_default()))
}

pub(super) fn http2_options(cx: &mut Context, message: core::Http2ProtocolOptions) -> Arc<Http2Options> {
    Arc::new(cx.at("http2_protocol_options", |cx| http2::convert(cx, message)))
}

fn protocol(
    cx: &mut Context,
    message: api::http_protocol_options::ExplicitHttpConfig,
    http1: &mut UpstreamHttp1,
) -> UpstreamProtocol {
    use api::http_protocol_options::explicit_http_config::ProtocolConfig;
    let api::http_protocol_options::ExplicitHttpConfig { protocol_config } = message;
    match protocol_config {
        Some(ProtocolConfig::HttpProtocolOptions(options)) => {
            *http1 = cx.at("http_protocol_options", |cx| self::http1(cx, options));
        }
        Some(ProtocolConfig::Http2ProtocolOptions(options)) => {
            return UpstreamProtocol::Http2(http2_options(cx, options));
        }
        Some(ProtocolConfig::Http3ProtocolOptions(_)) => cx.refuse("http3_protocol_options"),
        None => {}
    }
    UpstreamProtocol::Http1
}

/// HTTP/1 to the upstream.
pub(super) fn http1(cx: &mut Context, message: core::Http1ProtocolOptions) -> UpstreamHttp1 {
    let core::Http1ProtocolOptions {
        allow_absolute_url,
        accept_http_10,
        default_host_for_http_10,
        header_key_format,
        enable_trailers,
        allow_chunked_length,
        override_stream_error_on_invalid_http_message,
        send_fully_qualified_url,
        use_balsa_parser,
        allow_custom_methods,
        ignore_http_11_upgrade,
    } = message;
    // For requests that arrive, or a choice among Envoy's parsers; a host that breaks the protocol loses its connection in any case.
    ignore!(cx; override_stream_error_on_invalid_http_message, allow_absolute_url, accept_http_10, default_host_for_http_10, use_balsa_parser, allow_custom_methods,
        ignore_http_11_upgrade);
    let (proper_case, preserve_case) = cx.at("header_key_format", |cx| http_options::key_format(cx, header_key_format));
    UpstreamHttp1 {
        full_url: send_fully_qualified_url,
        proper_case,
        preserve_case,
        enable_trailers,
        allow_chunked_length,
    }
}

pub(super) fn common(cx: &mut Context, message: core::HttpProtocolOptions) -> Options {
    let core::HttpProtocolOptions {
        idle_timeout,
        max_connection_duration,
        max_connection_duration_jitter,
        max_headers_count,
        max_response_headers_kb,
        max_stream_duration,
        headers_with_underscores_action,
        max_requests_per_connection,
    } = message;
    refuse!(cx; max_stream_duration);
    // Underscores are for those who send requests: of hosts all is taken.
    ignore!(cx; headers_with_underscores_action, max_connection_duration, max_connection_duration_jitter);
    Options {
        idle_timeout: values::limit(cx, "idle_timeout", &idle_timeout, Some(IDLE_TIMEOUT)),
        max_requests_per_connection: values::number(&max_requests_per_connection),
        max_response_headers_bytes: values::number(&max_response_headers_kb)
            .unwrap_or(MAX_RESPONSE_HEADERS_KB)
            .saturating_mul(1024),
        max_response_headers_count: values::number(&max_headers_count).unwrap_or(MAX_HEADERS_COUNT),
        protocol: UpstreamProtocol::Http1,
        http1: UpstreamHttp1::default(),
        mirrors: Vec::new(),
    }
}
