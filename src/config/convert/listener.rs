//! `envoy.config.listener.v3.Listener`.

use std::sync::Arc;

use envoy_types::pb::envoy::config::listener::v3 as api;

use super::context::Context;
use super::{access_log, address, chain_matcher, filter_chain, listener_filter, values};
use crate::config::model::{ConnectionLimits, Listener, SocketOptions};

const DEFAULT_BUFFER_LIMIT: u32 = 1 << 20;

pub(super) fn convert(cx: &mut Context, message: api::Listener) -> Option<Listener> {
    let api::Listener {
        name,
        address,
        additional_addresses,
        stat_prefix,
        stats_matcher,
        filter_chains,
        fcds_config,
        filter_chain_matcher,
        use_original_dst,
        default_filter_chain,
        per_connection_buffer_limit_bytes,
        per_connection_buffer_high_watermark_timeout,
        metadata,
        deprecated_v1,
        drain_type,
        listener_filters,
        listener_filters_timeout,
        continue_on_listener_filters_timeout,
        transparent,
        freebind,
        socket_options,
        tcp_fast_open_queue_length,
        traffic_direction,
        udp_listener_config,
        api_listener,
        connection_balance_config,
        // How many sockets there are per address is the supervisor's choice.
        reuse_port: _,
        enable_reuse_port: _,
        access_log,
        tcp_backlog_size,
        max_connections_to_accept_per_socket_event,
        bind_to_port,
        enable_mptcp,
        ignore_global_conn_limit,
        bypass_overload_manager,
        tcp_keepalive,
        listener_specifier,
    } = message;
    refuse!(cx; fcds_config, socket_options, udp_listener_config, api_listener);
    ignore!(cx; stats_matcher, per_connection_buffer_high_watermark_timeout, metadata, traffic_direction, connection_balance_config,
        max_connections_to_accept_per_socket_event, enable_mptcp, bypass_overload_manager,
        tcp_keepalive);
    let use_original_dst = values::is_true(&use_original_dst);
    refuse!(cx; use_original_dst);
    if let Some(api::listener::ListenerSpecifier::InternalListener(_)) = listener_specifier {
        cx.refuse("internal_listener");
    }
    must_bind(cx, &bind_to_port, deprecated_v1);
    let first = address::required(cx, "address", address);
    let more = cx.each("additional_addresses", additional_addresses, additional_address);
    let count = filter_chains.len();
    let filter_chains = cx.each("filter_chains", filter_chains, filter_chain::convert);
    let default_filter_chain =
        default_filter_chain.and_then(|chain| cx.at("default_filter_chain", |cx| filter_chain::convert(cx, chain)));
    let matcher = match filter_chain_matcher {
        Some(message) => chain_matcher::convert(cx, message, &filter_chains, filter_chains.len() == count),
        None => {
            filter_chain::must_not_overlap(cx, &filter_chains);
            None
        }
    };
    if count == 0 && default_filter_chain.is_none() {
        cx.error_at("filter_chains", "no filter chains specified");
    }
    let timeout = values::duration(cx, "listener_filters_timeout", &listener_filters_timeout);
    let needs_hello = match &matcher {
        Some(tree) => chain_matcher::needs_hello(tree),
        None => listener_filter::needs_hello(&filter_chains),
    };
    let inspection =
        listener_filter::convert(cx, listener_filters, timeout, continue_on_listener_filters_timeout, needs_hello);
    let first = first?;
    let ipv4_compat = first.ipv4_compat || more.iter().any(|address| address.ipv4_compat);
    let shown = first.address.to_string();
    let name = if name.is_empty() { shown.clone() } else { name };
    let access_logs = access_log::each(cx, access_log);
    Some(Listener {
        access_logs,
        limits: limits(cx, &name, ignore_global_conn_limit),
        stat_prefix: if stat_prefix.is_empty() { shown.replace(':', "_") } else { stat_prefix },
        name,
        addresses: std::iter::once(first).chain(more).map(|converted| converted.address).collect(),
        socket: SocketOptions {
            backlog: values::number(&tcp_backlog_size),
            freebind: values::is_true(&freebind),
            transparent: values::is_true(&transparent),
            ipv4_compat,
            fast_open: values::number(&tcp_fast_open_queue_length),
        },
        per_connection_buffer_limit: values::number(&per_connection_buffer_limit_bytes).unwrap_or(DEFAULT_BUFFER_LIMIT),
        filter_chains: filter_chains.into_iter().map(Arc::new).collect(),
        matcher,
        default_filter_chain: default_filter_chain.map(Arc::new),
        inspection,
        drain_modify_only: drain_type == api::listener::DrainType::ModifyOnly as i32,
    })
}

/// Nothing else says how many connections there may be.
fn limits(cx: &Context, name: &str, ignore_global_conn_limit: bool) -> Option<Box<ConnectionLimits>> {
    let key = format!("envoy.resource_limits.listener.{name}.connection_limit");
    let all = || cx.keyed(u64::MAX, "overload.global_downstream_max_connections");
    cx.runtime.exists().then(|| {
        Box::new(ConnectionLimits { own: cx.keyed(u64::MAX, &key), all: (!ignore_global_conn_limit).then(all) })
    })
}

/// A listener that only takes over connections of others needs the original destination, which is not there yet.
fn must_bind(
    cx: &mut Context,
    bind_to_port: &Option<envoy_types::pb::google::protobuf::BoolValue>,
    deprecated: Option<api::listener::DeprecatedV1>,
) {
    if !values::is_not_false(bind_to_port) {
        cx.refuse("bind_to_port");
    }
    if let Some(api::listener::DeprecatedV1 { bind_to_port }) = deprecated
        && !values::is_not_false(&bind_to_port)
    {
        cx.at("deprecated_v1", |cx| cx.refuse("bind_to_port"));
    }
}

fn additional_address(cx: &mut Context, message: api::AdditionalAddress) -> Option<address::Converted> {
    let api::AdditionalAddress { address, socket_options, tcp_keepalive } = message;
    refuse!(cx; socket_options);
    ignore!(cx; tcp_keepalive);
    address::required(cx, "address", address)
}
