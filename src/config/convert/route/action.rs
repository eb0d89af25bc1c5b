//! `envoy.config.route.v3.RouteAction`: requests that go to a cluster.

use std::sync::Arc;
use std::time::Duration;

use envoy_types::pb::envoy::config::core::v3 as core;
use envoy_types::pb::envoy::config::route::v3 as api;

use super::{Inherited, Table, clusters, hash, internal_redirect};
use crate::config::convert::context::Context;
use crate::config::convert::extension::PATH_REWRITERS;
use crate::config::convert::{matcher, rate_limit, retry, upgrade, values};
use crate::config::model::{
    Forward, GrpcTimeout, HostRewrite, MaxStreamDuration, PathMatch, PathRewrite, RouteAction, UriRewrite,
};

const TIMEOUT: Duration = Duration::from_secs(15);

/// `path` is what the route matches; `inherited` is what virtual host and route say: what is said here goes before the virtual host's.
pub(super) fn forward(
    cx: &mut Context,
    message: api::RouteAction,
    table: &Table,
    path: Option<&PathMatch>,
    inherited: Inherited,
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
        // Taken by the route, which knows of filters.
        cors: _,
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
    let Inherited { mut tries, mirrors } = inherited;
    let mirrors = table.mirrors(cx, request_mirror_policies, &mirrors);
    refuse!(cx; metadata_match, retry_policy_typed_config);
    ignore!(cx; early_data_policy);
    let rate_limits = rate_limit::convert(cx, "rate_limits", rate_limits);
    let redirects = match internal_redirect_policy {
        Some(policy) => Some(cx.at("internal_redirect_policy", |cx| internal_redirect::policy(cx, policy))),
        None => internal_redirect::older(internal_redirect_action, values::number(&max_internal_redirects)),
    };
    let formatted = !path_rewrite.is_empty();
    let rewrites = [!prefix_rewrite.is_empty(), regex_rewrite.is_some(), path_rewrite_policy.is_some(), formatted];
    if rewrites.into_iter().filter(|set| *set).count() > 1 {
        cx.error("only one of prefix_rewrite, regex_rewrite, path_rewrite_policy and path_rewrite may be set");
    }
    let path_rewrite = match (regex_rewrite, path_rewrite_policy) {
        (Some(message), _) => cx.at("regex_rewrite", |cx| matcher::substitution(cx, message)).map(PathRewrite::Regex),
        (None, Some(policy)) => cx.at("path_rewrite_policy", |cx| template(cx, policy, path)),
        (None, None) if formatted => super::path_format(cx, &path_rewrite).map(PathRewrite::Format),
        (None, None) if prefix_rewrite.is_empty() => Some(PathRewrite::None),
        (None, None) => super::path_text(cx, "prefix_rewrite", prefix_rewrite).map(PathRewrite::Prefix),
    };
    let host_rewrite = host_rewrite_specifier.map_or(Some(HostRewrite::None), |rewrite| host(cx, rewrite));
    if let Some(policy) = retry_policy {
        tries.policy = cx.at("retry_policy", |cx| retry::policy(cx, policy));
    }
    if let Some(policy) = hedge_policy {
        tries.hedges = cx.at("hedge_policy", |cx| retry::hedges(cx, policy));
    }
    // A limit on the whole stream comes instead of the timeout, and not beside it, as in Envoy.
    let whole = max_stream_duration.is_some();
    if whole && timeout.is_some() {
        cx.at("timeout", |cx| cx.warn("it has no effect beside max_stream_duration"));
    }
    let timeout = values::limit(cx, "timeout", &timeout, Some(TIMEOUT)).filter(|_| !whole);
    let grpc_timeout = match whole {
        true => None,
        false => values::optional_limit(cx, "max_grpc_timeout", &max_grpc_timeout).map(|most| GrpcTimeout {
            most,
            offset: values::duration(cx, "grpc_timeout_offset", &grpc_timeout_offset).unwrap_or_default(),
        }),
    };
    let idle_timeout = values::optional_limit(cx, "idle_timeout", &idle_timeout);
    let flush_timeout = values::optional_limit(cx, "flush_timeout", &flush_timeout);
    let max_stream_duration = max_stream_duration.unwrap_or_default();
    let max_stream_duration = cx.at("max_stream_duration", |cx| stream_duration(cx, &max_stream_duration));
    let hash_policy = cx.each("hash_policy", hash_policy, hash::policy);
    let upgrades = upgrade::of_route(cx, upgrade_configs);
    let cluster = clusters::specifier(cx, cluster_specifier?, table);
    Some(RouteAction::Forward(Box::new(Forward {
        cluster: cluster?,
        cluster_not_found: not_found(cluster_not_found_response_code),
        timeout,
        grpc_timeout,
        idle_timeout,
        flush_timeout,
        max_stream_duration,
        path_rewrite: path_rewrite?,
        host_rewrite: host_rewrite?,
        append_forwarded_host: append_x_forwarded_host,
        hash_policy,
        rate_limits,
        include_host_limits: values::is_true(&include_vh_rate_limits),
        tries: Arc::new(tries),
        upgrades,
        mirrors,
        high_priority: priority == core::RoutingPriority::High as i32,
        redirects: redirects.map(Box::new),
    })))
}

fn not_found(code: i32) -> u16 {
    use api::route_action::ClusterNotFoundResponseCode as Code;
    match Code::try_from(code) {
        Ok(Code::NotFound) => 404,
        Ok(Code::InternalServerError) => 500,
        Ok(Code::ServiceUnavailable) | Err(_) => 503,
    }
}

fn template(cx: &mut Context, policy: core::TypedExtensionConfig, path: Option<&PathMatch>) -> Option<PathRewrite> {
    let core::TypedExtensionConfig { name, typed_config } = policy;
    cx.at("typed_config", |cx| {
        let text = PATH_REWRITERS.parse(cx, &name, typed_config.as_ref())?;
        match path {
            Some(PathMatch::Template(matched)) => UriRewrite::new(matched, &text)
                .map_err(|error| cx.error_at("path_template_rewrite", error))
                .ok()
                .map(PathRewrite::Template),
            // What it matches is faulty: that has been said.
            None => None,
            Some(_) => {
                cx.error("a URI template rewrite needs a URI template in path_match_policy");
                None
            }
        }
    })
}

fn stream_duration(cx: &mut Context, message: &api::route_action::MaxStreamDuration) -> MaxStreamDuration {
    let api::route_action::MaxStreamDuration {
        max_stream_duration,
        grpc_timeout_header_max,
        grpc_timeout_header_offset,
    } = message;
    MaxStreamDuration {
        limit: values::optional_limit(cx, "max_stream_duration", max_stream_duration),
        grpc_max: values::optional_limit(cx, "grpc_timeout_header_max", grpc_timeout_header_max),
        grpc_offset: values::duration(cx, "grpc_timeout_header_offset", grpc_timeout_header_offset).unwrap_or_default(),
    }
}

fn host(cx: &mut Context, specifier: api::route_action::HostRewriteSpecifier) -> Option<HostRewrite> {
    use api::route_action::HostRewriteSpecifier as Specifier;
    match specifier {
        Specifier::AutoHostRewrite(on) if !on.value => Some(HostRewrite::None),
        Specifier::AutoHostRewrite(_) => Some(HostRewrite::Auto),
        Specifier::HostRewriteLiteral(host) => Some(HostRewrite::Literal(host)),
        Specifier::HostRewriteHeader(name) => matcher::field(cx, "host_rewrite_header", &name).map(HostRewrite::Header),
        Specifier::HostRewritePathRegex(message) => {
            cx.at("host_rewrite_path_regex", |cx| matcher::substitution(cx, message)).map(HostRewrite::PathRegex)
        }
        Specifier::HostRewrite(_) => {
            cx.refuse("host_rewrite");
            None
        }
    }
}
