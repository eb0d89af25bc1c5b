//! `envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy`.

use std::time::Duration;

use envoy_types::pb::envoy::extensions::filters::network::tcp_proxy::v3 as api;

use super::context::Context;
use super::{access_log, values};
use crate::config::model::TcpProxy;

const IDLE_TIMEOUT: Duration = Duration::from_secs(3600);

pub(super) fn convert(cx: &mut Context, message: api::TcpProxy) -> Option<TcpProxy> {
    let api::TcpProxy {
        stat_prefix,
        on_demand,
        metadata_match,
        idle_timeout,
        downstream_idle_timeout,
        upstream_idle_timeout,
        access_log,
        max_connect_attempts,
        backoff_options,
        hash_policy,
        tunneling_config,
        max_downstream_connection_duration,
        max_downstream_connection_duration_jitter_percentage,
        access_log_flush_interval,
        flush_access_log_on_connected,
        access_log_options,
        proxy_protocol_tlvs,
        proxy_protocol_tlv_merge_policy,
        upstream_connect_mode,
        max_early_data_bytes,
        check_drain_close,
        cluster_specifier,
    } = message;
    let check_drain_close = values::is_true(&check_drain_close);
    refuse!(cx; on_demand, metadata_match, downstream_idle_timeout, upstream_idle_timeout, tunneling_config,
        upstream_connect_mode);
    // Hashes matter only with a policy that is refused, and TLVs only with the PROXY protocol. Early data would only be read sooner.
    ignore!(cx; access_log_flush_interval, backoff_options, hash_policy, max_downstream_connection_duration_jitter_percentage, proxy_protocol_tlvs,
        proxy_protocol_tlv_merge_policy, max_early_data_bytes, check_drain_close);
    let access_logs = access_log::each(cx, access_log);
    let mut flush = cx.at("access_log_options", |cx| log_options(cx, access_log_options.unwrap_or_default()));
    flush.connected |= flush_access_log_on_connected;
    Some(TcpProxy {
        access_logs,
        log_start: flush.start,
        log_connected: flush.connected,
        stat_prefix,
        cluster: cluster(cx, cluster_specifier?)?,
        idle_timeout: values::limit(cx, "idle_timeout", &idle_timeout, Some(IDLE_TIMEOUT)),
        max_connection_duration: values::duration(
            cx,
            "max_downstream_connection_duration",
            &max_downstream_connection_duration,
        ),
        max_connect_attempts: values::number(&max_connect_attempts).unwrap_or(1).max(1),
    })
}

/// Which lines there are before the last.
struct Flush {
    start: bool,
    connected: bool,
}

fn log_options(cx: &mut Context, message: api::tcp_proxy::TcpAccessLogOptions) -> Flush {
    let api::tcp_proxy::TcpAccessLogOptions {
        access_log_flush_interval,
        flush_access_log_on_connected: connected,
        flush_access_log_on_start: start,
    } = message;
    ignore!(cx; access_log_flush_interval);
    Flush { start, connected }
}

fn cluster(cx: &mut Context, specifier: api::tcp_proxy::ClusterSpecifier) -> Option<String> {
    use api::tcp_proxy::ClusterSpecifier;
    match specifier {
        ClusterSpecifier::Cluster(name) if name.is_empty() => {
            cx.error_at("cluster", "must not be empty");
            None
        }
        ClusterSpecifier::Cluster(name) => {
            // As in Envoy: the cluster may come later.
            if !cx.clusters.contains(&name) && !cx.clusters_are_suspect {
                cx.at("cluster", |cx| cx.warn(format!("unknown cluster '{name}': its connections will be closed")));
            }
            Some(name)
        }
        ClusterSpecifier::WeightedClusters(_) => {
            cx.refuse("weighted_clusters");
            None
        }
    }
}
