//! `envoy.config.route.v3.RouteAction`: requests that go to a cluster.

use std::sync::Arc;
use std::time::Duration;

use envoy_types::pb::envoy::config::route::v3 as api;

use super::Table;
use crate::config::convert::context::Context;
use crate::config::convert::{retry, upgrade, values};
use crate::config::model::{RouteAction, Tries};

const TIMEOUT: Duration = Duration::from_secs(15);

/// `tries` is what virtual host and route say; the policy here goes before the virtual host's.
pub(super) fn forward(
    cx: &mut Context,
    message: api::RouteAction,
    table: &Table,
    mut tries: Tries,
) -> Option<RouteAction> {
    let api::RouteAction {
        cluster_not_found_response_code,
        metadata_match,
        prefix_rewrite,
        regex_rewrite,
        path_rewrite_policy,
        path_rewrite,
        append_x_forwarded_host,
        timeout,
        idle_timeout,
        flush_timeout,
        early_data_policy,
        retry_policy,
        retry_policy_typed_config,
        request_mirror_policies,
        priority,
        rate_limits,
        include_vh_rate_limits,
        hash_policy,
        cors,
        max_grpc_timeout,
        grpc_timeout_offset,
        upgrade_configs,
        internal_redirect_policy,
        internal_redirect_action,
        max_internal_redirects,
        hedge_policy,
        max_stream_duration,
        cluster_specifier,
        host_rewrite_specifier,
    } = message;
    refuse!(cx; metadata_match, prefix_rewrite, regex_rewrite, path_rewrite_policy, path_rewrite,
        append_x_forwarded_host, retry_policy_typed_config, request_mirror_policies, max_grpc_timeout,
        grpc_timeout_offset, internal_redirect_policy, internal_redirect_action, hedge_policy,
        max_stream_duration);
    // Limits per priority tune; hashes and rate limits do nothing without a policy or filter that is refused.
    ignore!(cx; flush_timeout, early_data_policy, priority, rate_limits, include_vh_rate_limits, hash_policy, cors,
        max_internal_redirects);
    if let Some(rewrite) = host_rewrite_specifier {
        host_rewrite(cx, &rewrite);
    }
    if !table.validates_clusters {
        refuse!(cx; cluster_not_found_response_code);
    }
    if let Some(policy) = retry_policy {
        tries.policy = cx.at("retry_policy", |cx| retry::policy(cx, policy));
    }
    let timeout = values::limit(cx, "timeout", &timeout, Some(TIMEOUT));
    let idle_timeout = values::duration(cx, "idle_timeout", &idle_timeout);
    let upgrades = upgrade::of_route(cx, upgrade_configs);
    let cluster = cluster(cx, cluster_specifier?, table)?;
    Some(RouteAction::Cluster {
        cluster,
        timeout,
        idle_timeout: idle_timeout.map(|idle| Some(idle).filter(|idle| !idle.is_zero())),
        tries: Arc::new(tries),
        upgrades,
    })
}

fn host_rewrite(cx: &mut Context, specifier: &api::route_action::HostRewriteSpecifier) {
    use api::route_action::HostRewriteSpecifier as Specifier;
    cx.refuse(match specifier {
        Specifier::AutoHostRewrite(on) if !on.value => return,
        Specifier::AutoHostRewrite(_) => "auto_host_rewrite",
        Specifier::HostRewriteLiteral(_) => "host_rewrite_literal",
        Specifier::HostRewriteHeader(_) => "host_rewrite_header",
        Specifier::HostRewritePathRegex(_) => "host_rewrite_path_regex",
        Specifier::HostRewrite(_) => "host_rewrite",
    });
}

fn cluster(cx: &mut Context, specifier: api::route_action::ClusterSpecifier, table: &Table) -> Option<String> {
    use api::route_action::ClusterSpecifier;
    let unsupported = match specifier {
        ClusterSpecifier::Cluster(name) => {
            if !cx.clusters.contains(&name) && !cx.clusters_are_suspect {
                let text = format!("route: unknown cluster '{name}'");
                cx.at("cluster", |cx| match table.validates_clusters {
                    true => cx.error(text),
                    false => cx.warn(format!("{text}: its requests will get a 503")),
                });
            }
            return Some(name);
        }
        ClusterSpecifier::ClusterHeader(_) => "cluster_header",
        ClusterSpecifier::WeightedClusters(_) => "weighted_clusters",
        ClusterSpecifier::ClusterSpecifierPlugin(_) => "cluster_specifier_plugin",
        ClusterSpecifier::InlineClusterSpecifierPlugin(_) => "inline_cluster_specifier_plugin",
    };
    cx.refuse(unsupported);
    None
}
