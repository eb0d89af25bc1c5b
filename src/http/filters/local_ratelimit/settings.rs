//! The settings, and how they are read.

use std::time::Duration;

use envoy_types::pb::envoy::config::route::v3 as route;
use envoy_types::pb::envoy::extensions::common::ratelimit::v3::rate_limit_descriptor::Entry;
use envoy_types::pb::envoy::extensions::common::ratelimit::v3::{LocalRateLimitDescriptor, VhRateLimitsOptions};
use envoy_types::pb::envoy::extensions::filters::http::local_ratelimit::v3 as api;
use envoy_types::pb::envoy::r#type::v3::TokenBucket;

use super::bucket::{Bucket, Rate};
use super::rules::{Rule, Rules};
use crate::config::extension::{Given, Reader};
use crate::config::model::{Fraction, HeaderAddition, Keyed, RateLimit, Settings};

/// `envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit`, and the bucket that it is about.
#[derive(Debug, PartialEq)]
pub(super) struct Limit {
    pub(super) stat_prefix: String,
    /// What is denied gets this; 429 where it is not an error.
    pub(super) status: u16,
    /// `token_bucket`: without one, only descriptors limit.
    pub(super) rate: Option<Rate>,
    /// That of all workers.
    pub(super) bucket: Bucket,
    /// `descriptors`.
    pub(super) rules: Rules,
    /// `rate_limits`: what makes descriptors in the place of what routes say.
    pub(super) own: Vec<RateLimit>,
    /// `stage`: those of routes that are for this filter.
    pub(super) stage: u32,
    /// `vh_rate_limits`.
    pub(super) host_limits: HostLimits,
    /// `always_consume_default_token_bucket`.
    pub(super) always_default: bool,
    /// `filter_enabled`: none where it is not set.
    pub(super) enabled: Option<Keyed<Fraction>>,
    /// `filter_enforced`: none where it is not set.
    pub(super) enforced: Option<Keyed<Fraction>>,
    /// `request_headers_to_add_when_not_enforced`.
    pub(super) not_enforced: Vec<HeaderAddition>,
    /// `response_headers_to_add`.
    pub(super) denied: Vec<HeaderAddition>,
    /// `local_rate_limit_per_downstream_connection`.
    pub(super) per_connection: bool,
    /// `enable_x_ratelimit_headers`.
    pub(super) headers: bool,
    /// `enable_retry_after_header`.
    pub(super) retry_after: bool,
    /// `rate_limited_as_resource_exhausted`.
    pub(super) exhausted: bool,
}

/// `envoy.extensions.common.ratelimit.v3.VhRateLimitsOptions`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum HostLimits {
    /// Where the route has none.
    Override,
    /// Always.
    Include,
    /// Never, unless the route says so.
    Ignore,
}

/// Buckets of a descriptor that takes any values, where nothing is said: Envoy's.
const MOST_DYNAMIC: usize = 20;

/// Envoy's least.
const LEAST_INTERVAL: Duration = Duration::from_millis(50);

pub(super) fn of_chain(reader: &mut Reader<'_>, given: Given<'_>) -> Option<Settings> {
    read(reader, given, false)
}

pub(super) fn of_route(reader: &mut Reader<'_>, given: Given<'_>) -> Option<Settings> {
    read(reader, given, true)
}

fn read(reader: &mut Reader<'_>, given: Given<'_>, on_route: bool) -> Option<Settings> {
    let api::LocalRateLimit {
        stat_prefix,
        status,
        token_bucket,
        filter_enabled,
        filter_enforced,
        request_headers_to_add_when_not_enforced,
        response_headers_to_add,
        descriptors,
        stage,
        local_rate_limit_per_downstream_connection,
        local_cluster_rate_limit,
        enable_x_ratelimit_headers,
        vh_rate_limits,
        always_consume_default_token_bucket,
        rate_limited_as_resource_exhausted,
        rate_limits,
        max_dynamic_descriptors,
        enable_retry_after_header,
    } = reader.decode(given)?;
    if local_cluster_rate_limit.is_some() {
        reader.refuse("local_cluster_rate_limit");
    }
    let enabled = filter_enabled.map(|part| reader.fraction(part));
    let enforced = filter_enforced.map(|part| reader.fraction(part));
    let mut additions =
        |field, messages| reader.each(field, messages, |reader, message| reader.header_addition(message));
    let not_enforced = additions("request_headers_to_add_when_not_enforced", request_headers_to_add_when_not_enforced);
    let denied = additions("response_headers_to_add", response_headers_to_add);
    let rate = match token_bucket {
        Some(bucket) => Some(reader.at("token_bucket", |reader| rate(reader, bucket, ""))?),
        None if on_route => {
            reader.error("local rate limit token bucket must be set for per filter configs");
            return None;
        }
        None => None,
    };
    let most = max_dynamic_descriptors.and_then(|most| usize::try_from(most.value).ok()).unwrap_or(MOST_DYNAMIC);
    let rules = rules(reader, descriptors, most)?;
    let own = own_limits(reader, rate_limits)?;
    let status = status.and_then(|status| u16::try_from(status.code).ok()).filter(|code| (400..600).contains(code));
    Some(Settings::new(Limit {
        stat_prefix,
        status: status.unwrap_or(429),
        rate,
        bucket: Bucket::default(),
        rules,
        own,
        stage,
        host_limits: match VhRateLimitsOptions::try_from(vh_rate_limits) {
            Ok(VhRateLimitsOptions::Include) => HostLimits::Include,
            Ok(VhRateLimitsOptions::Ignore) => HostLimits::Ignore,
            Ok(VhRateLimitsOptions::Override) | Err(_) => HostLimits::Override,
        },
        always_default: always_consume_default_token_bucket.is_none_or(|always| always.value),
        enabled,
        enforced,
        not_enforced,
        denied,
        per_connection: local_rate_limit_per_downstream_connection,
        headers: enable_x_ratelimit_headers != 0,
        retry_after: enable_retry_after_header,
        exhausted: rate_limited_as_resource_exhausted,
    }))
}

fn rules(reader: &mut Reader<'_>, messages: Vec<LocalRateLimitDescriptor>, most: usize) -> Option<Rules> {
    let count = messages.len();
    let mut rules = Rules::default();
    let read = reader.each("descriptors", messages, |reader, message| {
        let LocalRateLimitDescriptor { entries, token_bucket, shadow_mode } = message;
        let entries =
            entries.into_iter().map(|Entry { key, value }| (key, Some(value).filter(|value| !value.is_empty())));
        let rate = reader.at("token_bucket", |reader| rate(reader, token_bucket?, "descriptor "))?;
        let added = rules.add(Rule::new(entries.collect(), rate, shadow_mode, most));
        added
            .map_err(|rule| {
                reader.error(format!("duplicate descriptor in the local rate descriptor: {rule}"));
            })
            .ok()
    });
    (read.len() == count).then_some(rules)
}

/// Limits of the filter's own: what is for other filters, or for a service, is not for them.
fn own_limits(reader: &mut Reader<'_>, messages: Vec<route::RateLimit>) -> Option<Vec<RateLimit>> {
    let count = messages.len();
    let own = reader.rate_limits("rate_limits", messages);
    let read = reader.each("rate_limits", own, |reader, limit| {
        if limit.stage != 0 || !limit.disable_key.is_empty() {
            reader.error("'stage' field and 'disable_key' field are not supported");
        } else if limit.limit.is_some() {
            reader.error("'limit' field is not supported");
        } else if limit.on_stream_done {
            reader.at("apply_on_stream_done", |reader| reader.error("has no effect here: there is no service to tell"));
        } else {
            return Some(limit);
        }
        None
    });
    (read.len() == count).then_some(read)
}

fn rate(reader: &mut Reader<'_>, message: TokenBucket, of: &str) -> Option<Rate> {
    let TokenBucket { max_tokens, tokens_per_fill, fill_interval } = message;
    let interval = reader.duration("fill_interval", &fill_interval)?;
    if interval < LEAST_INTERVAL {
        reader.at("fill_interval", |reader| {
            reader.error(format!("local rate limit {of}token bucket fill timer must be >= 50ms"));
        });
        return None;
    }
    Some(Rate::new(max_tokens, tokens_per_fill.map_or(1, |tokens| tokens.value), interval))
}
