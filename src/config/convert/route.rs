//! `envoy.config.route.v3.RouteConfiguration` and its routes.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use envoy_types::pb::envoy::config::core::v3 as core;
use envoy_types::pb::envoy::config::route::v3 as api;

use super::context::Context;
use super::{retry, values, virtual_host};
use crate::config::model::{PathMatch, Route, RouteAction, RouteConfiguration, Tries};

const TIMEOUT: Duration = Duration::from_secs(15);
const MAX_DIRECT_RESPONSE_BODY: u32 = 4096;

/// What the routes of a table must know of it.
pub(super) struct Table {
    pub(super) name: String,
    /// An unknown cluster is an error; otherwise its requests get a 503.
    validates_clusters: bool,
    max_direct_response_body: u32,
}

pub(super) fn configuration(cx: &mut Context, message: api::RouteConfiguration) -> RouteConfiguration {
    let api::RouteConfiguration {
        name,
        virtual_hosts,
        vhds,
        internal_only_headers,
        response_headers_to_add,
        response_headers_to_remove,
        request_headers_to_add,
        request_headers_to_remove,
        most_specific_header_mutations_wins,
        validate_clusters,
        max_direct_response_body_size_bytes,
        cluster_specifier_plugins,
        request_mirror_policies,
        ignore_port_in_host_matching,
        vhost_header,
        ignore_path_parameters_in_path_matching,
        typed_per_filter_config,
        metadata,
        route_specifiers,
    } = message;
    refuse!(cx; vhds, response_headers_to_add, response_headers_to_remove, request_headers_to_add,
        request_headers_to_remove, most_specific_header_mutations_wins, cluster_specifier_plugins,
        request_mirror_policies, vhost_header, ignore_path_parameters_in_path_matching, typed_per_filter_config,
        route_specifiers);
    ignore!(cx; metadata);
    let table = Table {
        name: name.clone(),
        // True for a table that stands in the file itself.
        validates_clusters: values::is_not_false(&validate_clusters),
        max_direct_response_body: values::number(&max_direct_response_body_size_bytes)
            .unwrap_or(MAX_DIRECT_RESPONSE_BODY),
    };
    let mut seen = virtual_host::Seen::default();
    let virtual_hosts =
        cx.each("virtual_hosts", virtual_hosts, |cx, host| Some(virtual_host::convert(cx, host, &table, &mut seen)));
    let internal_only_headers = internal_only_headers.iter().map(|name| name.to_ascii_lowercase()).collect();
    RouteConfiguration { name, virtual_hosts, internal_only_headers, ignore_port_in_host_matching }
}

/// `tries` is what the virtual host says.
pub(super) fn convert(cx: &mut Context, message: api::Route, table: &Table, tries: &Tries) -> Option<Route> {
    let api::Route {
        name,
        r#match,
        metadata,
        decorator,
        typed_per_filter_config,
        request_headers_to_add,
        request_headers_to_remove,
        response_headers_to_add,
        response_headers_to_remove,
        tracing,
        per_request_buffer_limit_bytes,
        stat_prefix,
        request_body_buffer_limit,
        route_specifiers,
        action,
    } = message;
    refuse!(cx; typed_per_filter_config, request_headers_to_add, request_headers_to_remove, response_headers_to_add,
        response_headers_to_remove, route_specifiers);
    ignore!(cx; metadata, decorator, tracing, stat_prefix);
    let mut tries = tries.clone();
    if let Some(limits) = retry::limits(cx, &per_request_buffer_limit_bytes, &request_body_buffer_limit) {
        (tries.body_limit, tries.request_limit) = limits;
    }
    let path = cx.at("match", |cx| path_match(cx, r#match.unwrap_or_default()));
    let action = match action {
        Some(api::route::Action::Route(message)) => cx.at("route", |cx| forward(cx, message, table, tries)),
        Some(api::route::Action::DirectResponse(message)) => {
            cx.at("direct_response", |cx| direct_response(cx, message, table))
        }
        Some(other) => {
            cx.refuse(match other {
                api::route::Action::Redirect(_) => "redirect",
                api::route::Action::FilterAction(_) => "filter_action",
                _ => "non_forwarding_action",
            });
            None
        }
        None => None,
    };
    Some(Route { name, path: path?, action: action? })
}

fn path_match(cx: &mut Context, message: api::RouteMatch) -> Option<PathMatch> {
    use api::route_match::PathSpecifier;
    let api::RouteMatch {
        case_sensitive,
        runtime_fraction,
        headers,
        query_parameters,
        cookies,
        grpc,
        tls_context,
        dynamic_metadata,
        filter_state,
        path_specifier,
    } = message;
    refuse!(cx; runtime_fraction, headers, query_parameters, cookies, grpc, tls_context, dynamic_metadata, filter_state);
    let case_sensitive = values::is_not_false(&case_sensitive);
    let unsupported = match path_specifier? {
        PathSpecifier::Prefix(prefix) => return Some(PathMatch::Prefix { prefix, case_sensitive }),
        PathSpecifier::Path(path) => return Some(PathMatch::Exact { path, case_sensitive }),
        PathSpecifier::SafeRegex(_) => "safe_regex",
        PathSpecifier::ConnectMatcher(_) => "connect_matcher",
        PathSpecifier::PathSeparatedPrefix(_) => "path_separated_prefix",
        PathSpecifier::PathMatchPolicy(_) => "path_match_policy",
    };
    cx.refuse(unsupported);
    None
}

fn forward(cx: &mut Context, message: api::RouteAction, table: &Table, mut tries: Tries) -> Option<RouteAction> {
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
        grpc_timeout_offset, upgrade_configs, internal_redirect_policy, internal_redirect_action, hedge_policy,
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
    let cluster = cluster(cx, cluster_specifier?, table)?;
    Some(RouteAction::Cluster {
        cluster,
        timeout,
        idle_timeout: idle_timeout.map(|idle| Some(idle).filter(|idle| !idle.is_zero())),
        tries: Arc::new(tries),
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

fn direct_response(cx: &mut Context, message: api::DirectResponseAction, table: &Table) -> Option<RouteAction> {
    let api::DirectResponseAction { status, body, body_format } = message;
    refuse!(cx; body_format);
    let limit = table.max_direct_response_body;
    let body = match body {
        Some(source) => cx.at("body", |cx| data(cx, source, limit))?,
        None => Bytes::new(),
    };
    if body.len() > limit as usize {
        cx.error_at("body", format!("response body size is {} bytes; maximum is {limit}", body.len()));
        return None;
    }
    Some(RouteAction::DirectResponse { status: u16::try_from(status).ok()?, body })
}

/// What a `DataSource` holds; of a file at most one byte more than `limit` is read.
fn data(cx: &mut Context, source: core::DataSource, limit: u32) -> Option<Bytes> {
    use core::data_source::Specifier;
    let core::DataSource { watched_directory, specifier } = source;
    ignore!(cx; watched_directory);
    match specifier? {
        Specifier::InlineString(text) => Some(text.into()),
        Specifier::InlineBytes(bytes) => Some(bytes.into()),
        Specifier::Filename(path) => match read(&path, u64::from(limit) + 1) {
            Ok(bytes) => Some(bytes.into()),
            Err(error) => {
                cx.error_at("filename", format!("cannot read {path}: {error}"));
                None
            }
        },
        Specifier::EnvironmentVariable(name) => match std::env::var(&name) {
            Ok(text) => Some(text.into()),
            Err(_) => {
                cx.error_at("environment_variable", format!("the environment variable {name} is not set"));
                None
            }
        },
    }
}

fn read(path: &str, limit: u64) -> std::io::Result<Vec<u8>> {
    use std::io::Read as _;
    let mut bytes = Vec::new();
    std::fs::File::open(path)?.take(limit).read_to_end(&mut bytes)?;
    Ok(bytes)
}
