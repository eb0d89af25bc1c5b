//! HTTP options of the downstream side, and the router's.

use std::time::Duration;

use envoy_types::pb::envoy::config::core::v3 as api;
use envoy_types::pb::envoy::extensions::filters::http::router::v3 as router_api;
use envoy_types::pb::envoy::extensions::http::header_formatters::preserve_case::v3 as preserve;

use super::context::Context;
use super::extension::CASE_FORMATTERS;
use super::matcher;
use super::values;
use crate::config::model::{ControlHeader, Http1Options, PreserveCase, Router, Underscores};

pub(super) const IDLE_TIMEOUT: Duration = Duration::from_secs(3600);
pub(super) const MAX_HEADERS_COUNT: u32 = 100;

/// What a connection manager takes from `common_http_protocol_options`.
pub(super) struct Common {
    pub(super) idle_timeout: Option<Duration>,
    pub(super) max_connection_duration: Option<Duration>,
    pub(super) max_requests_per_connection: u32,
    pub(super) max_headers_count: u32,
    pub(super) underscores: Underscores,
    pub(super) max_stream_duration: Option<Duration>,
}

pub(super) fn downstream_common(cx: &mut Context, message: api::HttpProtocolOptions) -> Common {
    let api::HttpProtocolOptions {
        idle_timeout,
        max_connection_duration,
        max_connection_duration_jitter,
        max_headers_count,
        max_response_headers_kb,
        max_stream_duration,
        headers_with_underscores_action,
        max_requests_per_connection,
    } = message;
    // The limit on responses is for the upstream side.
    ignore!(cx; max_connection_duration_jitter, max_response_headers_kb);
    let idle_timeout = values::limit(cx, "idle_timeout", &idle_timeout, Some(IDLE_TIMEOUT));
    let max_connection_duration = values::duration(cx, "max_connection_duration", &max_connection_duration);
    if max_connection_duration == Some(Duration::ZERO) {
        cx.error_at("max_connection_duration", "must be longer than 0s: every connection would be closed at once");
    }
    Common {
        idle_timeout,
        max_connection_duration,
        max_requests_per_connection: values::number(&max_requests_per_connection).unwrap_or_default(),
        max_headers_count: values::number(&max_headers_count).unwrap_or(MAX_HEADERS_COUNT),
        underscores: underscores(headers_with_underscores_action),
        max_stream_duration: values::limit(cx, "max_stream_duration", &max_stream_duration, None),
    }
}

fn underscores(action: i32) -> Underscores {
    use api::http_protocol_options::HeadersWithUnderscoresAction;
    match HeadersWithUnderscoresAction::try_from(action) {
        Ok(HeadersWithUnderscoresAction::RejectRequest) => Underscores::RejectRequest,
        Ok(HeadersWithUnderscoresAction::DropHeader) => Underscores::DropHeader,
        Ok(HeadersWithUnderscoresAction::Allow) | Err(_) => Underscores::Allow,
    }
}

pub(super) fn downstream_http1(
    cx: &mut Context,
    message: api::Http1ProtocolOptions,
    stream_error_on_invalid: bool,
) -> Http1Options {
    let api::Http1ProtocolOptions {
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
    // The first is for the upstream side, the second chooses among Envoy's parsers.
    ignore!(cx; send_fully_qualified_url, use_balsa_parser);
    let (proper_case, preserve_case) = cx.at("header_key_format", |cx| key_format(cx, header_key_format));
    Http1Options {
        allow_absolute_url: values::is_not_false(&allow_absolute_url),
        accept_http_10,
        default_host_for_http_10,
        enable_trailers,
        allow_chunked_length,
        custom_methods: allow_custom_methods,
        proper_case,
        preserve_case,
        ignored_upgrades: cx.each("ignore_http_11_upgrade", ignore_http_11_upgrade, matcher::text),
        keeps_after_bad_request: override_stream_error_on_invalid_http_message
            .map_or(stream_error_on_invalid, |value| value.value),
    }
}

/// Whether names begin with capitals, or are written as they came.
pub(super) fn key_format(
    cx: &mut Context,
    format: Option<api::http1_protocol_options::HeaderKeyFormat>,
) -> (bool, Option<PreserveCase>) {
    use api::http1_protocol_options::header_key_format::HeaderFormat;
    match format.and_then(|format| format.header_format) {
        None => (false, None),
        Some(HeaderFormat::ProperCaseWords(_)) => (true, None),
        Some(HeaderFormat::StatefulFormatter(extension)) => {
            let any = extension.typed_config;
            let parsed = cx.at("stateful_formatter", |cx| {
                cx.at("typed_config", |cx| CASE_FORMATTERS.parse(cx, &extension.name, any.as_ref()))
            });
            (false, parsed)
        }
    }
}

pub(super) fn preserve_case(message: preserve::PreserveCaseFormatterConfig) -> PreserveCase {
    use preserve::preserve_case_formatter_config::FormatterTypeOnEnvoyHeaders;
    let preserve::PreserveCaseFormatterConfig { forward_reason_phrase, formatter_type_on_envoy_headers } = message;
    PreserveCase {
        proper: formatter_type_on_envoy_headers == FormatterTypeOnEnvoyHeaders::ProperCase as i32,
        reason: forward_reason_phrase,
    }
}

pub(super) fn router(cx: &mut Context, message: router_api::Router) -> Router {
    let router_api::Router {
        dynamic_stats,
        start_child_span,
        upstream_log,
        upstream_log_options,
        suppress_envoy_headers,
        strict_check_headers,
        respect_expected_rq_timeout,
        suppress_grpc_request_failure_code_stats,
        upstream_http_filters,
        reject_connect_request_early_data,
    } = message;
    refuse!(cx; upstream_http_filters);
    let strict = cx.each("strict_check_headers", strict_check_headers, |cx, name| match name.as_str() {
        "x-envoy-upstream-rq-timeout-ms" => Some(ControlHeader::Timeout),
        "x-envoy-upstream-rq-per-try-timeout-ms" => Some(ControlHeader::PerTryTimeout),
        "x-envoy-max-retries" => Some(ControlHeader::MaxRetries),
        "x-envoy-retry-on" => Some(ControlHeader::RetryOn),
        "x-envoy-retry-grpc-on" => Some(ControlHeader::RetryGrpcOn),
        // The rules of the API have said so already.
        _ => {
            cx.error("is not a header that can be checked");
            None
        }
    });
    let dynamic_stats = !values::is_not_false(&dynamic_stats);
    ignore!(cx; dynamic_stats, start_child_span, upstream_log, upstream_log_options,
        suppress_grpc_request_failure_code_stats, reject_connect_request_early_data);
    Router { suppress_envoy_headers, strict, respect_expected_timeout: respect_expected_rq_timeout }
}
