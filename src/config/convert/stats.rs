//! Statistics settings: tags, flush interval, sinks.

use std::collections::HashSet;

use envoy_types::pb::envoy::config::core::v3::address::Address::SocketAddress;
use envoy_types::pb::envoy::config::metrics::v3 as api;
use envoy_types::pb::google::protobuf;

use super::context::Context;
use super::extension::STATS_SINKS;
use super::{address, values};
use crate::config::model::{Address, Stats, StatsSink, TagRule, TagValue};

/// The tags that have an extractor of their own; a tag without regex or value must be one of them.
const DEFAULT_TAGS: &[&str] = &[
    "envoy.clientssl_prefix",
    "envoy.cluster_name",
    "envoy.connection_limit_prefix",
    "envoy.dns_filter_prefix",
    "envoy.dynamo_operation",
    "envoy.dynamo_partition_id",
    "envoy.dynamo_table",
    "envoy.ext_authz_prefix",
    "envoy.fault_downstream_cluster",
    "envoy.google_grpc_client_prefix",
    "envoy.grpc_bridge_method",
    "envoy.grpc_bridge_service",
    "envoy.http_conn_manager_prefix",
    "envoy.http_user_agent",
    "envoy.listener_address",
    "envoy.local_http_ratelimit_prefix",
    "envoy.local_listener_ratelimit_prefix",
    "envoy.local_network_ratelimit_prefix",
    "envoy.mongo_callsite",
    "envoy.mongo_cmd",
    "envoy.mongo_collection",
    "envoy.mongo_prefix",
    "envoy.proxy_protocol_prefix",
    "envoy.proxy_protocol_version",
    "envoy.ratelimit_prefix",
    "envoy.rbac_http_prefix",
    "envoy.rbac_policy_name",
    "envoy.rbac_prefix",
    "envoy.rds_route_config",
    "envoy.redis_prefix",
    "envoy.response_code",
    "envoy.response_code_class",
    "envoy.route",
    "envoy.scoped_rds_config",
    "envoy.ssl_cipher",
    "envoy.ssl_cipher_suite",
    "envoy.ssl_curve",
    "envoy.ssl_sigalg",
    "envoy.ssl_version",
    "envoy.tcp_prefix",
    "envoy.thrift_prefix",
    "envoy.tls_certificate",
    "envoy.udp_prefix",
    "envoy.virtual_cluster",
    "envoy.virtual_host",
    "envoy.worker_id",
    "envoy.xds_authority",
    "envoy.xds_resource_name",
];

pub(super) fn convert(
    cx: &mut Context,
    config: Option<api::StatsConfig>,
    flush_interval: Option<protobuf::Duration>,
    sinks: Vec<api::StatsSink>,
) -> Stats {
    let mut stats = Stats::default();
    if let Some(interval) = values::duration(cx, "stats_flush_interval", &flush_interval) {
        stats.flush_interval = interval;
    }
    if let Some(config) = config {
        cx.at("stats_config", |cx| settings(cx, config, &mut stats));
    }
    stats.sinks = cx.each("stats_sinks", sinks, |cx, sink| {
        let api::StatsSink { name, config_type } = sink;
        let any = config_type.map(|api::stats_sink::ConfigType::TypedConfig(any)| any);
        cx.at("typed_config", |cx| STATS_SINKS.parse(cx, &name, any.as_ref()))
    });
    stats
}

fn settings(cx: &mut Context, message: api::StatsConfig, stats: &mut Stats) {
    let api::StatsConfig {
        stats_tags,
        use_all_default_tags,
        stats_matcher,
        histogram_bucket_settings,
        allow_default_tag_overrides,
    } = message;
    ignore!(cx; stats_matcher, histogram_bucket_settings, allow_default_tag_overrides);
    stats.use_default_tags = values::is_not_false(&use_all_default_tags);
    let mut names = HashSet::new();
    stats.tags = cx.each("stats_tags", stats_tags, |cx, tag| {
        let rule = self::tag(cx, tag)?;
        if !names.insert(rule.name.clone()) {
            cx.at("tag_name", |cx| cx.warn(format!("the tag '{}' is specified twice", rule.name)));
        }
        Some(rule)
    });
}

fn tag(cx: &mut Context, message: api::TagSpecifier) -> Option<TagRule> {
    let api::TagSpecifier { tag_name: name, tag_value } = message;
    if name.is_empty() {
        cx.error_at("tag_name", "must not be empty");
        return None;
    }
    let value = match tag_value {
        Some(api::tag_specifier::TagValue::FixedValue(value)) => TagValue::Fixed(value),
        // An empty regex is none.
        Some(api::tag_specifier::TagValue::Regex(regex)) if !regex.is_empty() => {
            let captures = match regex::Regex::new(&regex) {
                Ok(regex) => regex.captures_len(),
                Err(error) => {
                    cx.error_at("regex", format!("not a regular expression: {}", one_line(&error.to_string())));
                    return None;
                }
            };
            if captures < 2 {
                cx.at("regex", |cx| {
                    cx.warn("has no capture that would say what to cut out of a name: it does nothing")
                });
                return None;
            }
            TagValue::Regex(regex)
        }
        _ if DEFAULT_TAGS.contains(&name.as_str()) => TagValue::Default,
        _ => {
            let text = format!("No regex specified for tag specifier and no default regex for name: '{name}'");
            cx.error_at("tag_name", text);
            return None;
        }
    };
    Some(TagRule { name, value })
}

/// The last line of a pattern error says what is wrong; those before it draw a picture.
fn one_line(text: &str) -> &str {
    text.lines().last().unwrap_or(text).trim()
}

pub(super) fn statsd(cx: &mut Context, message: api::StatsdSink) -> Option<StatsSink> {
    let api::StatsdSink { prefix, statsd_specifier } = message;
    let prefix = if prefix.is_empty() { "envoy".to_owned() } else { prefix };
    match statsd_specifier? {
        api::statsd_sink::StatsdSpecifier::Address(mut address) => {
            // Envoy sends over UDP whatever the protocol says.
            if let Some(SocketAddress(socket)) = &mut address.address {
                socket.protocol = 0;
            }
            match address::required(cx, "address", Some(address))?.address {
                Address::Tcp(address) => Some(StatsSink::Statsd { address, prefix }),
                Address::Unix { .. } => {
                    cx.error_at("address", "must be an IP address and a port");
                    None
                }
            }
        }
        api::statsd_sink::StatsdSpecifier::TcpClusterName(_) => {
            cx.refuse("tcp_cluster_name");
            None
        }
    }
}
