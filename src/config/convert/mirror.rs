//! `envoy.config.route.v3.RouteAction.RequestMirrorPolicy`.

use envoy_types::pb::envoy::config::route::v3::route_action::RequestMirrorPolicy;

use super::context::Context;
use super::{early_headers, matcher};
use crate::config::model::{Mirror, MirrorCluster, MirrorHost};

/// The policies of one level. `must_know` says that a cluster that does not exist is an error, and not just without effect.
pub(super) fn policies(cx: &mut Context, messages: Vec<RequestMirrorPolicy>, must_know: bool) -> Vec<Mirror> {
    cx.each("request_mirror_policies", messages, |cx, message| policy(cx, message, must_know))
}

fn policy(cx: &mut Context, message: RequestMirrorPolicy, must_know: bool) -> Option<Mirror> {
    let RequestMirrorPolicy {
        cluster,
        cluster_header,
        runtime_fraction,
        trace_sampled,
        disable_shadow_host_suffix_append,
        request_headers_mutations,
        host_rewrite_literal,
    } = message;
    // Nothing is traced yet.
    ignore!(cx; trace_sampled);
    let cluster = match (cluster.is_empty(), cluster_header.is_empty()) {
        (false, true) => {
            known(cx, &cluster, must_know);
            Some(MirrorCluster::Name(cluster))
        }
        (true, false) => matcher::field(cx, "cluster_header", &cluster_header).map(MirrorCluster::Header),
        (true, true) => {
            cx.error("one of cluster and cluster_header must be set");
            None
        }
        (false, false) => {
            cx.error("only one of cluster and cluster_header may be set");
            None
        }
    };
    let host = match (host_rewrite_literal, disable_shadow_host_suffix_append) {
        (host, _) if !host.is_empty() => MirrorHost::Literal(host),
        (_, true) => MirrorHost::Same,
        (_, false) => MirrorHost::Suffix,
    };
    Some(Mirror {
        cluster: cluster?,
        fraction: runtime_fraction.map(|fraction| cx.fraction(fraction)),
        host,
        mutations: early_headers::list(cx, "request_headers_mutations", request_headers_mutations),
    })
}

fn known(cx: &mut Context, name: &str, must_know: bool) {
    if !cx.clusters.contains(name) && !cx.clusters_are_suspect {
        let text = format!("route: unknown shadow cluster '{name}'");
        cx.at("cluster", |cx| match must_know {
            true => cx.error(text),
            false => cx.warn(format!("{text}: nothing is mirrored there")),
        });
    }
}
