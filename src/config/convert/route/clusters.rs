//! Which cluster a request goes to: one, one that it names, or one of several by weight.

use envoy_types::pb::envoy::config::route::v3 as api;

use super::Table;
use crate::config::convert::context::Context;
use crate::config::convert::header_rules::{self, Lists};
use crate::config::convert::{http_filters, matcher, values};
use crate::config::model::{ClusterSpecifier, WeightedCluster, WeightedClusters, WeightedName};

pub(super) fn specifier(
    cx: &mut Context,
    specifier: api::route_action::ClusterSpecifier,
    table: &Table,
) -> Option<ClusterSpecifier> {
    use api::route_action::ClusterSpecifier as Specifier;
    let unsupported = match specifier {
        Specifier::Cluster(name) => {
            known(cx, "cluster", &name, table);
            return Some(ClusterSpecifier::Name(name));
        }
        Specifier::ClusterHeader(name) => {
            return matcher::field(cx, "cluster_header", &name).map(ClusterSpecifier::Header);
        }
        Specifier::WeightedClusters(message) => {
            return cx.at("weighted_clusters", |cx| weighted(cx, message, table)).map(ClusterSpecifier::Weighted);
        }
        Specifier::ClusterSpecifierPlugin(_) => "cluster_specifier_plugin",
        Specifier::InlineClusterSpecifierPlugin(_) => "inline_cluster_specifier_plugin",
    };
    cx.refuse(unsupported);
    None
}

fn known(cx: &mut Context, field: &'static str, name: &str, table: &Table) {
    if !cx.clusters.contains(name) && !cx.clusters_are_suspect {
        let text = format!("route: unknown cluster '{name}'");
        cx.at(field, |cx| match table.validates_clusters {
            true => cx.error(text),
            false => cx.warn(format!("{text}: its requests are answered here")),
        });
    }
}

fn weighted(cx: &mut Context, message: api::WeightedCluster, table: &Table) -> Option<WeightedClusters> {
    use api::weighted_cluster::RandomValueSpecifier;
    let api::WeightedCluster { clusters, total_weight, runtime_key_prefix, random_value_specifier } = message;
    let sum: u64 = clusters.iter().map(|cluster| u64::from(values::number(&cluster.weight).unwrap_or(0))).sum();
    if sum == 0 {
        cx.error_at("clusters", "the sum of the weights must be greater than 0");
    } else if sum > u64::from(u32::MAX) {
        cx.error_at("clusters", format!("the sum of the weights exceeds {}", u32::MAX));
    }
    if let Some(total) = values::number(&total_weight).filter(|total| u64::from(*total) != sum) {
        cx.error_at("total_weight", format!("is {total}, and the sum of the weights is {sum}"));
    }
    let draw_from = match random_value_specifier {
        None => None,
        Some(RandomValueSpecifier::HeaderName(name)) => Some(matcher::field(cx, "header_name", &name)?),
        Some(RandomValueSpecifier::UseHashPolicy(on)) => {
            if on.value {
                cx.refuse("use_hash_policy");
            }
            None
        }
    };
    let clusters = cx.each("clusters", clusters, |cx, cluster| weight(cx, cluster, &runtime_key_prefix, table));
    Some(WeightedClusters { clusters, draw_from })
}

fn weight(
    cx: &mut Context,
    message: api::weighted_cluster::ClusterWeight,
    prefix: &str,
    table: &Table,
) -> Option<WeightedCluster> {
    use api::weighted_cluster::cluster_weight::HostRewriteSpecifier;
    let api::weighted_cluster::ClusterWeight {
        name,
        cluster_header,
        weight,
        metadata_match,
        request_headers_to_add,
        request_headers_to_remove,
        response_headers_to_add,
        response_headers_to_remove,
        typed_per_filter_config,
        host_rewrite_specifier,
    } = message;
    refuse!(cx; metadata_match);
    let rules = header_rules::convert(
        cx,
        Lists {
            request_add: request_headers_to_add,
            request_remove: request_headers_to_remove,
            response_add: response_headers_to_add,
            response_remove: response_headers_to_remove,
        },
    );
    let key = if prefix.is_empty() { String::new() } else { format!("{prefix}.{name}") };
    let cluster = match (name.is_empty(), cluster_header.is_empty()) {
        (false, true) => {
            known(cx, "name", &name, table);
            Some(WeightedName::Name(name))
        }
        (true, false) => matcher::field(cx, "cluster_header", &cluster_header).map(WeightedName::Header),
        (true, true) => {
            cx.error("At least one of name or cluster_header need to be specified");
            None
        }
        (false, false) => {
            cx.error("Only one of name or cluster_header can be specified");
            None
        }
    };
    let host_rewrite = match host_rewrite_specifier {
        Some(HostRewriteSpecifier::HostRewriteLiteral(host)) => host,
        None => String::new(),
    };
    let filters = http_filters::of_route(cx, typed_per_filter_config);
    Some(WeightedCluster {
        cluster: cluster?,
        weight: cx.keyed(values::number(&weight).unwrap_or(0), &key),
        host_rewrite,
        rules,
        filters,
    })
}
