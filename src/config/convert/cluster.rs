//! `envoy.config.cluster.v3.Cluster`.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use envoy_types::pb::envoy::config::cluster::v3 as api;
use envoy_types::pb::envoy::config::core::v3 as core;
use envoy_types::pb::google::protobuf::Any;

use super::context::Context;
use super::extension::PROTOCOL_OPTIONS;
use super::upstream_http::Options;
use super::{endpoint, filter_chain, upstream_http, values};
use crate::config::model::{
    CircuitBreakers, Cluster, Fraction, KeyedLimits, RetryBudget, TcpKeepalive, UpstreamHttp1, UpstreamProtocol,
};

/// The key under which a cluster's HTTP options stand.
const HTTP_OPTIONS: &str = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const DEFAULT_BUFFER_LIMIT: u32 = 1 << 20;
const RETRY_BUDGET_PERCENT: f64 = 20.0;
const MIN_RETRY_CONCURRENCY: u32 = 3;

pub(super) fn convert(cx: &mut Context, message: api::Cluster) -> Option<Cluster> {
    let api::Cluster {
        transport_socket_matches,
        transport_socket_matcher,
        name,
        alt_stat_name,
        stats_matcher,
        eds_cluster_config,
        connect_timeout,
        per_connection_buffer_limit_bytes,
        per_connection_buffer_high_watermark_timeout,
        lb_policy,
        load_assignment,
        health_checks,
        max_requests_per_connection,
        circuit_breakers,
        upstream_http_protocol_options,
        common_http_protocol_options,
        http_protocol_options,
        http2_protocol_options,
        typed_extension_protocol_options,
        dns_refresh_rate,
        dns_jitter,
        dns_failure_refresh_rate,
        respect_dns_ttl,
        dns_lookup_family,
        dns_resolvers,
        use_tcp_for_dns_lookups,
        dns_resolution_config,
        typed_dns_resolver_config,
        wait_for_warm_on_init,
        outlier_detection,
        cleanup_interval,
        upstream_bind_config,
        lb_subset_config,
        common_lb_config,
        transport_socket,
        metadata,
        protocol_selection,
        upstream_connection_options,
        close_connections_on_host_health_failure,
        ignore_health_on_host_removal,
        filters,
        load_balancing_policy,
        lrs_server,
        lrs_report_endpoint_metrics,
        track_timeout_budgets,
        upstream_config,
        track_cluster_stats,
        preconnect_policy,
        connection_pool_per_downstream_connection,
        queuing_policies,
        cluster_discovery_type,
        lb_config,
    } = message;
    refuse!(cx; transport_socket_matches, transport_socket_matcher, eds_cluster_config, health_checks,
        outlier_detection, upstream_bind_config, lb_subset_config, protocol_selection, filters,
        load_balancing_policy, upstream_config, connection_pool_per_downstream_connection);
    // DNS settings do nothing for addresses that are given.
    ignore!(cx; stats_matcher, per_connection_buffer_high_watermark_timeout, upstream_http_protocol_options,
        dns_refresh_rate, dns_jitter, dns_failure_refresh_rate, respect_dns_ttl, dns_lookup_family, dns_resolvers,
        use_tcp_for_dns_lookups, dns_resolution_config, typed_dns_resolver_config, wait_for_warm_on_init,
        cleanup_interval, metadata, close_connections_on_host_health_failure, ignore_health_on_host_removal, lrs_server,
        lrs_report_endpoint_metrics, track_timeout_budgets, track_cluster_stats, preconnect_policy, queuing_policies);
    discovery(cx, cluster_discovery_type);
    balancing(cx, lb_policy, lb_config, common_lb_config);
    filter_chain::transport_socket(cx, transport_socket);
    // The deprecated field, where the extension does not say otherwise.
    let older = http_protocol_options
        .map(|options| cx.at("http_protocol_options", |cx| upstream_http::http1(cx, options)))
        .unwrap_or_default();
    let options = protocol_options(cx, typed_extension_protocol_options, common_http_protocol_options);
    let protocol = match http2_protocol_options {
        // The deprecated field, where the extension does not say otherwise.
        Some(message) if options.protocol == UpstreamProtocol::Http1 => {
            UpstreamProtocol::Http2(upstream_http::http2_options(cx, message))
        }
        _ => options.protocol,
    };
    let connect_timeout = values::duration(cx, "connect_timeout", &connect_timeout).unwrap_or(CONNECT_TIMEOUT);
    let endpoints = match load_assignment {
        Some(assignment) => cx.at("load_assignment", |cx| endpoint::convert(cx, assignment)),
        None => Vec::new(),
    };
    let [limits, high_limits] =
        cx.at("circuit_breakers", |cx| self::circuit_breakers(cx, circuit_breakers.unwrap_or_default()));
    let tcp_keepalive = upstream_connection_options
        .and_then(|options| cx.at("upstream_connection_options", |cx| connection_options(cx, options)));
    let max_requests = options.max_requests_per_connection.or(values::number(&max_requests_per_connection));
    let high_limit_keys = limit_keys(cx, &name, "high", &high_limits);
    let limit_keys = limit_keys(cx, &name, "default", &limits);
    let maintenance = cx.keyed(Fraction::NONE, &format!("upstream.maintenance_mode.{name}"));
    Some(Cluster {
        stat_name: if alt_stat_name.is_empty() { name.clone() } else { alt_stat_name },
        name,
        connect_timeout,
        per_connection_buffer_limit: values::number(&per_connection_buffer_limit_bytes).unwrap_or(DEFAULT_BUFFER_LIMIT),
        endpoints,
        limit_keys,
        maintenance,
        retries: cx.keyed(Fraction::ALL, "upstream.use_retry"),
        limits,
        idle_timeout: options.idle_timeout,
        max_requests_per_connection: max_requests.unwrap_or_default(),
        tcp_keepalive,
        max_response_headers_bytes: options.max_response_headers_bytes,
        max_response_headers_count: options.max_response_headers_count,
        protocol,
        http1: if options.http1 == UpstreamHttp1::default() { older } else { options.http1 },
        mirrors: options.mirrors,
        high_limits,
        high_limit_keys,
    })
}

/// Where the endpoints come from: only from the configuration itself so far.
fn discovery(cx: &mut Context, discovery: Option<api::cluster::ClusterDiscoveryType>) {
    use api::cluster::{ClusterDiscoveryType, DiscoveryType};
    match discovery {
        None => {}
        Some(ClusterDiscoveryType::ClusterType(_)) => cx.refuse("cluster_type"),
        Some(ClusterDiscoveryType::Type(number)) => match DiscoveryType::try_from(number) {
            Ok(DiscoveryType::Static) => {}
            Ok(other) => {
                let name = other.as_str_name();
                cx.error_at("type", format!("{name} is not supported yet: only STATIC, with IP addresses"));
            }
            Err(_) => cx.error_at("type", format!("{number} is not a discovery type")),
        },
    }
}

fn balancing(
    cx: &mut Context,
    policy: i32,
    settings: Option<api::cluster::LbConfig>,
    common: Option<api::cluster::CommonLbConfig>,
) {
    use api::cluster::{LbConfig, LbPolicy};
    match LbPolicy::try_from(policy) {
        Ok(LbPolicy::RoundRobin) => {}
        Ok(other) => {
            let name = other.as_str_name();
            cx.error_at("lb_policy", format!("{name} is not supported yet: only ROUND_ROBIN"));
        }
        Err(_) => cx.error_at("lb_policy", format!("{policy} is not a load balancing policy")),
    }
    match settings {
        None => {}
        Some(LbConfig::RoundRobinLbConfig(_)) => cx.refuse("round_robin_lb_config"),
        // Settings of a policy that is not in use.
        Some(LbConfig::RingHashLbConfig(_)) => cx.ignore("ring_hash_lb_config"),
        Some(LbConfig::MaglevLbConfig(_)) => cx.ignore("maglev_lb_config"),
        Some(LbConfig::OriginalDstLbConfig(_)) => cx.ignore("original_dst_lb_config"),
        Some(LbConfig::LeastRequestLbConfig(_)) => cx.ignore("least_request_lb_config"),
    }
    let Some(common) = common else { return };
    let api::cluster::CommonLbConfig {
        healthy_panic_threshold,
        update_merge_window,
        ignore_new_hosts_until_first_hc,
        close_connections_on_host_set_change,
        consistent_hashing_lb_config,
        override_host_status,
        locality_config_specifier,
    } = common;
    cx.at("common_lb_config", |cx| {
        use api::cluster::common_lb_config::LocalityConfigSpecifier;
        refuse!(cx; healthy_panic_threshold, override_host_status);
        ignore!(cx; update_merge_window, ignore_new_hosts_until_first_hc, close_connections_on_host_set_change,
            consistent_hashing_lb_config);
        match locality_config_specifier {
            None => {}
            Some(LocalityConfigSpecifier::ZoneAwareLbConfig(_)) => cx.refuse("zone_aware_lb_config"),
            Some(LocalityConfigSpecifier::LocalityWeightedLbConfig(_)) => cx.refuse("locality_weighted_lb_config"),
        }
    });
}

/// HTTP options: the extension, or the deprecated field where there is none.
fn protocol_options(
    cx: &mut Context,
    typed: HashMap<String, Any>,
    deprecated: Option<core::HttpProtocolOptions>,
) -> Options {
    let deprecated =
        deprecated.map(|options| cx.at("common_http_protocol_options", |cx| upstream_http::common(cx, options)));
    let mut found = None;
    cx.at("typed_extension_protocol_options", |cx| {
        for (key, any) in &typed {
            cx.at_key(key, |cx| match key.as_str() {
                HTTP_OPTIONS => found = PROTOCOL_OPTIONS.parse(cx, key, Some(any)),
                _ => cx.error(format!("no protocol options go by this name; known: {HTTP_OPTIONS}")),
            });
        }
    });
    found.or(deprecated).unwrap_or_default()
}

/// Those of the default priority, and those of the high one; of several for one the first counts.
fn circuit_breakers(cx: &mut Context, message: api::CircuitBreakers) -> [CircuitBreakers; 2] {
    let api::CircuitBreakers { thresholds, per_host_thresholds } = message;
    refuse!(cx; per_host_thresholds);
    let mut found = [None, None];
    cx.each("thresholds", thresholds, |cx, message| {
        let api::circuit_breakers::Thresholds {
            priority,
            max_connections,
            max_pending_requests,
            max_requests,
            max_retries,
            retry_budget,
            track_remaining,
            max_connection_pools,
        } = message;
        ignore!(cx; track_remaining, max_connection_pools);
        let default = CircuitBreakers::default();
        let retry_budget = retry_budget.map(|budget| cx.at("retry_budget", |cx| self::retry_budget(cx, budget)));
        let limits = CircuitBreakers {
            max_connections: values::number(&max_connections).unwrap_or(default.max_connections),
            max_pending_requests: values::number(&max_pending_requests).unwrap_or(default.max_pending_requests),
            max_requests: values::number(&max_requests).unwrap_or(default.max_requests),
            max_retries: values::number(&max_retries).unwrap_or(default.max_retries),
            retry_budget,
        };
        let [of_default, of_high] = &mut found;
        let of_priority = if priority == core::RoutingPriority::High as i32 { of_high } else { of_default };
        of_priority.get_or_insert(limits);
        None::<()>
    });
    found.map(Option::unwrap_or_default)
}

/// The names of runtime values that go before the limits.
fn limit_keys(cx: &Context, cluster: &str, priority: &str, limits: &CircuitBreakers) -> Option<Arc<KeyedLimits>> {
    if !cx.runtime.exists() {
        return None;
    }
    let name = |limit: &str| format!("circuit_breakers.{cluster}.{priority}.{limit}");
    let number = |default, limit| cx.keyed(default, &name(limit));
    let budget = limits.retry_budget;
    let budget =
        budget.unwrap_or(RetryBudget { percent: RETRY_BUDGET_PERCENT, min_concurrency: MIN_RETRY_CONCURRENCY });
    Some(Arc::new(KeyedLimits {
        max_connections: number(limits.max_connections, "max_connections"),
        max_pending_requests: number(limits.max_pending_requests, "max_pending_requests"),
        max_requests: number(limits.max_requests, "max_requests"),
        max_retries: number(limits.max_retries, "max_retries"),
        budget_percent: cx.keyed(budget.percent, &name("retry_budget.budget_percent")),
        budget_min_concurrency: number(budget.min_concurrency, "retry_budget.min_retry_concurrency"),
    }))
}

fn retry_budget(cx: &mut Context, message: api::circuit_breakers::thresholds::RetryBudget) -> RetryBudget {
    let api::circuit_breakers::thresholds::RetryBudget { budget_percent, budget_interval, min_retry_concurrency } =
        message;
    // Without it only what is in flight counts, which allows fewer retries and never more.
    ignore!(cx; budget_interval);
    RetryBudget {
        percent: budget_percent.map_or(RETRY_BUDGET_PERCENT, |percent| percent.value),
        min_concurrency: values::number(&min_retry_concurrency).unwrap_or(MIN_RETRY_CONCURRENCY),
    }
}

fn connection_options(cx: &mut Context, message: api::UpstreamConnectionOptions) -> Option<TcpKeepalive> {
    let api::UpstreamConnectionOptions {
        tcp_keepalive,
        set_local_interface_name_on_upstream_connections,
        happy_eyeballs_config,
    } = message;
    ignore!(cx; set_local_interface_name_on_upstream_connections, happy_eyeballs_config);
    let core::TcpKeepalive { keepalive_probes, keepalive_time, keepalive_interval } = tcp_keepalive?;
    Some(TcpKeepalive {
        probes: values::number(&keepalive_probes),
        time: values::number(&keepalive_time),
        interval: values::number(&keepalive_interval),
    })
}
