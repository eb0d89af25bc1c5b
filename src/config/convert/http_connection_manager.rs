//! `envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager`.

use std::sync::Arc;
use std::time::Duration;

use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3 as api;
use envoy_types::pb::google::protobuf::BoolValue;

use super::context::Context;
use super::extension::REQUEST_IDS;
use super::http_options::{self, Common};
use super::{
    access_log, address, client_cert, early_headers, http_filters, http_target, http2, ip_detection, local_reply,
    route, upgrade, values,
};
use crate::config::model::{Cidr, CodecType, HttpConnectionManager, ProxyStatus, RouteConfiguration, ServerHeader};

const STREAM_IDLE_TIMEOUT: Duration = Duration::from_secs(300);
const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);
const DELAYED_CLOSE_TIMEOUT: Duration = Duration::from_secs(1);
const MAX_REQUEST_HEADERS_KB: u32 = 60;

pub(super) fn convert(cx: &mut Context, message: api::HttpConnectionManager) -> Option<HttpConnectionManager> {
    let api::HttpConnectionManager {
        codec_type,
        stat_prefix,
        http_filters,
        add_user_agent,
        tracing,
        common_http_protocol_options,
        http1_safe_max_connection_duration,
        http_protocol_options,
        http2_protocol_options,
        http3_protocol_options,
        server_name,
        server_header_transformation,
        scheme_header_transformation,
        max_request_headers_kb,
        stream_idle_timeout,
        stream_flush_timeout,
        request_timeout,
        request_headers_timeout,
        drain_timeout,
        drain_timeout_jitter,
        delayed_close_timeout,
        access_log,
        access_log_flush_interval,
        flush_access_log_on_new_request,
        access_log_options,
        use_remote_address,
        xff_num_trusted_hops,
        original_ip_detection_extensions,
        early_header_mutation_extensions,
        internal_address_config,
        skip_xff_append,
        via,
        generate_request_id,
        preserve_external_request_id,
        always_set_request_id_in_response,
        forward_client_cert_details,
        set_current_client_cert_details,
        forward_client_cert_matcher,
        proxy_100_continue,
        represent_ipv4_remote_address_as_ipv4_mapped_ipv6,
        upgrade_configs,
        normalize_path,
        merge_slashes,
        path_with_escaped_slashes_action,
        request_id_extension,
        local_reply_config,
        strip_matching_host_port,
        stream_error_on_invalid_http_message,
        path_normalization_options,
        strip_trailing_host_dot,
        proxy_status_config,
        typed_header_validation_config,
        append_x_forwarded_port,
        append_local_overload,
        add_proxy_protocol_connection_state,
        forward_proto_config,
        route_specifier,
        strip_port_mode,
    } = message;
    let stream_error_on_invalid = values::is_true(&stream_error_on_invalid_http_message);
    refuse!(cx; forward_client_cert_matcher, represent_ipv4_remote_address_as_ipv4_mapped_ipv6,
        path_normalization_options, typed_header_validation_config, append_local_overload);
    // It is about addresses from the PROXY protocol, which no connection here has.
    ignore!(cx; forward_proto_config);
    ignore!(cx; tracing, http3_protocol_options, add_proxy_protocol_connection_state);
    let target = http_target::convert(
        cx,
        http_target::Fields {
            normalize_path,
            merge_slashes,
            path_with_escaped_slashes_action,
            strip_matching_host_port,
            strip_port_mode,
            strip_trailing_host_dot,
            append_x_forwarded_port,
            scheme_header_transformation,
        },
    );
    if let Some(any) = request_id_extension.and_then(|extension| extension.typed_config) {
        cx.at("request_id_extension", |cx| cx.at("typed_config", |cx| REQUEST_IDS.parse(cx, "", Some(&any))));
    }
    let codec = codec(cx, codec_type);
    let common = cx.at("common_http_protocol_options", |cx| {
        http_options::downstream_common(cx, common_http_protocol_options.unwrap_or_default())
    });
    let Common {
        idle_timeout,
        max_connection_duration,
        max_requests_per_connection,
        max_headers_count,
        underscores,
        max_stream_duration,
    } = common;
    let http1 = cx.at("http_protocol_options", |cx| {
        http_options::downstream_http1(cx, http_protocol_options.unwrap_or_default(), stream_error_on_invalid)
    });
    let says_so = http2_protocol_options.as_ref().is_some_and(|options| {
        options.stream_error_on_invalid_http_messaging
            || options.override_stream_error_on_invalid_http_message.is_some()
    });
    let mut http2 =
        cx.at("http2_protocol_options", |cx| http2::convert(cx, http2_protocol_options.unwrap_or_default()));
    http2.stream_error_on_invalid |= stream_error_on_invalid && !says_so;
    let access_logs = access_log::each(cx, access_log);
    let (on_new_request, log_new_tunnels, log_interval) =
        cx.at("access_log_options", |cx| log_options(cx, access_log_options.unwrap_or_default()));
    let (internal_addresses, internal_unix_sockets) = internal(cx, internal_address_config);
    let http_filters = http_filters::chain(cx, http_filters);
    let routes = routes(cx, route_specifier);
    let server_name = if server_name.is_empty() { "envoy".to_owned() } else { server_name };
    let proxy_status =
        proxy_status_config.map(|message| cx.at("proxy_status_config", |cx| proxy_status(cx, message, &server_name)));
    // The field of old means the same.
    let old_interval = values::limit(cx, "access_log_flush_interval", &access_log_flush_interval, None);
    Some(HttpConnectionManager {
        log_interval: log_interval.or(old_interval),
        proxy_status,
        stat_prefix,
        routes: Arc::new(routes?),
        http_filters,
        server_name,
        server_header: server_header(server_header_transformation),
        via,
        use_remote_address: values::is_true(&use_remote_address),
        ip_detection: ip_detection::each(
            cx,
            original_ip_detection_extensions,
            values::is_true(&use_remote_address),
            xff_num_trusted_hops,
        ),
        xff_num_trusted_hops,
        skip_xff_append,
        internal_addresses,
        internal_unix_sockets,
        generate_request_id: values::is_not_false(&generate_request_id),
        preserve_external_request_id,
        always_set_request_id_in_response,
        add_user_agent: user_agent(cx, &add_user_agent),
        target,
        client_cert: client_cert::convert(cx, forward_client_cert_details, set_current_client_cert_details),
        idle_timeout,
        max_connection_duration,
        max_requests_per_connection,
        stream_idle_timeout: values::limit(cx, "stream_idle_timeout", &stream_idle_timeout, Some(STREAM_IDLE_TIMEOUT)),
        request_timeout: values::limit(cx, "request_timeout", &request_timeout, None),
        request_headers_timeout: values::limit(cx, "request_headers_timeout", &request_headers_timeout, None),
        drain_timeout: values::duration(cx, "drain_timeout", &drain_timeout).unwrap_or(DRAIN_TIMEOUT),
        drain_jitter: drain_timeout_jitter.map_or(0, |percent| percent.value.clamp(0.0, 100.0) as u32),
        safe_max_connection_duration: http1_safe_max_connection_duration,
        stream_flush_timeout: values::optional_limit(cx, "stream_flush_timeout", &stream_flush_timeout),
        delayed_close_timeout: values::limit(
            cx,
            "delayed_close_timeout",
            &delayed_close_timeout,
            Some(DELAYED_CLOSE_TIMEOUT),
        ),
        max_request_headers_bytes: values::number(&max_request_headers_kb)
            .unwrap_or(MAX_REQUEST_HEADERS_KB)
            .saturating_mul(1024),
        max_headers_count,
        underscores,
        upgrades: upgrade::of_manager(cx, upgrade_configs),
        codec,
        http1,
        http2,
        early_headers: early_headers::each(cx, early_header_mutation_extensions),
        proxy_100_continue,
        max_stream_duration,
        local_replies: local_reply::convert(cx, local_reply_config),
        access_logs,
        log_new_requests: flush_access_log_on_new_request || on_new_request,
        log_new_tunnels,
    })
}

/// Whether a new request has a line of its own, and a tunnel that has been agreed on.
fn log_options(
    cx: &mut Context,
    message: api::http_connection_manager::HcmAccessLogOptions,
) -> (bool, bool, Option<Duration>) {
    let api::http_connection_manager::HcmAccessLogOptions {
        access_log_flush_interval,
        flush_access_log_on_new_request,
        flush_log_on_tunnel_successfully_established,
    } = message;
    let interval = values::limit(cx, "access_log_flush_interval", &access_log_flush_interval, None);
    (flush_access_log_on_new_request, flush_log_on_tunnel_successfully_established, interval)
}

fn proxy_status(
    cx: &mut Context,
    message: api::http_connection_manager::ProxyStatusConfig,
    server_name: &str,
) -> ProxyStatus {
    use api::http_connection_manager::proxy_status_config::ProxyName;
    let api::http_connection_manager::ProxyStatusConfig {
        remove_details,
        // There are none beside the details.
        remove_connection_termination_details: _,
        remove_response_flags,
        set_recommended_response_code,
        proxy_name,
    } = message;
    let name = match proxy_name {
        Some(ProxyName::UseNodeId(true)) => cx.node.id.clone(),
        Some(ProxyName::LiteralProxyName(name)) => name,
        Some(ProxyName::UseNodeId(false)) | None => server_name.to_owned(),
    };
    if http::HeaderValue::from_str(&name).is_err() {
        cx.error(format!("the name of the proxy, {name:?}, is not a header's value"));
    }
    ProxyStatus {
        name,
        details: !remove_details,
        flags: !remove_response_flags,
        sets_status: set_recommended_response_code,
    }
}

/// What is spoken: AUTO goes by ALPN, else by the first bytes.
fn codec(cx: &mut Context, codec_type: i32) -> CodecType {
    use api::http_connection_manager::CodecType as Api;
    match Api::try_from(codec_type) {
        Ok(Api::Http1) => CodecType::Http1,
        Ok(Api::Http2) => CodecType::Http2,
        Ok(Api::Auto) | Err(_) => CodecType::Auto,
        Ok(Api::Http3) => {
            cx.refuse("codec_type");
            CodecType::Auto
        }
    }
}

fn server_header(transformation: i32) -> ServerHeader {
    use api::http_connection_manager::ServerHeaderTransformation;
    match ServerHeaderTransformation::try_from(transformation) {
        Ok(ServerHeaderTransformation::AppendIfAbsent) => ServerHeader::AppendIfAbsent,
        Ok(ServerHeaderTransformation::PassThrough) => ServerHeader::PassThrough,
        Ok(ServerHeaderTransformation::Overwrite) | Err(_) => ServerHeader::Overwrite,
    }
}

fn user_agent(cx: &Context, add_user_agent: &Option<BoolValue>) -> Option<(String, String)> {
    values::is_true(add_user_agent).then(|| (cx.node.cluster.clone(), cx.node.id.clone()))
}

fn internal(
    cx: &mut Context,
    message: Option<api::http_connection_manager::InternalAddressConfig>,
) -> (Vec<Cidr>, bool) {
    let api::http_connection_manager::InternalAddressConfig { unix_sockets, cidr_ranges } = message.unwrap_or_default();
    let cidrs = cx.at("internal_address_config", |cx| cx.each("cidr_ranges", cidr_ranges, address::cidr));
    (cidrs, unix_sockets)
}

fn routes(
    cx: &mut Context,
    specifier: Option<api::http_connection_manager::RouteSpecifier>,
) -> Option<RouteConfiguration> {
    use api::http_connection_manager::RouteSpecifier;
    match specifier? {
        RouteSpecifier::RouteConfig(message) => cx.at("route_config", |cx| Some(route::configuration(cx, message))),
        RouteSpecifier::Rds(_) => {
            cx.refuse("rds");
            None
        }
        RouteSpecifier::ScopedRoutes(_) => {
            cx.refuse("scoped_routes");
            None
        }
    }
}
