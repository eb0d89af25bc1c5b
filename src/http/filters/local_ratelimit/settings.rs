//! The settings, and how they are read.

use std::time::Duration;

use envoy_types::pb::envoy::extensions::filters::http::local_ratelimit::v3 as api;
use envoy_types::pb::envoy::r#type::v3::TokenBucket;

use super::bucket::{Bucket, Rate};
use crate::config::extension::{Given, Reader};
use crate::config::model::{Fraction, HeaderAddition, Keyed, Settings};

/// `envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit`, and the bucket that it is about.
#[derive(Debug, PartialEq)]
pub(super) struct Limit {
    pub(super) stat_prefix: String,
    /// What is denied gets this; 429 where it is not an error.
    pub(super) status: u16,
    pub(super) rate: Rate,
    /// That of all workers.
    pub(super) bucket: Bucket,
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
    for (field, is_set) in [
        ("descriptors", !descriptors.is_empty()),
        ("rate_limits", !rate_limits.is_empty()),
        ("local_cluster_rate_limit", local_cluster_rate_limit.is_some()),
    ] {
        if is_set {
            reader.refuse(field);
        }
    }
    // They are about descriptors, which there are none of.
    for (field, is_set) in [
        ("stage", stage != 0),
        ("vh_rate_limits", vh_rate_limits != 0),
        ("always_consume_default_token_bucket", always_consume_default_token_bucket.is_some()),
        ("max_dynamic_descriptors", max_dynamic_descriptors.is_some()),
    ] {
        if is_set {
            reader.ignore(field);
        }
    }
    let enabled = filter_enabled.map(|part| reader.fraction(part));
    let enforced = filter_enforced.map(|part| reader.fraction(part));
    let mut additions =
        |field, messages| reader.each(field, messages, |reader, message| reader.header_addition(message));
    let not_enforced = additions("request_headers_to_add_when_not_enforced", request_headers_to_add_when_not_enforced);
    let denied = additions("response_headers_to_add", response_headers_to_add);
    let rate = match token_bucket {
        Some(bucket) => reader.at("token_bucket", |reader| rate(reader, bucket))?,
        None if on_route => {
            reader.error("local rate limit token bucket must be set for per filter configs");
            return None;
        }
        None if enabled.as_ref().is_some_and(|part| !part.is_never()) => {
            reader.error("token_bucket is required where filter_enabled is not 0 %");
            return None;
        }
        None => Rate::new(0, 1, LEAST_INTERVAL),
    };
    let status = status.and_then(|status| u16::try_from(status.code).ok()).filter(|code| (400..600).contains(code));
    Some(Settings::new(Limit {
        stat_prefix,
        status: status.unwrap_or(429),
        rate,
        bucket: Bucket::default(),
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

fn rate(reader: &mut Reader<'_>, message: TokenBucket) -> Option<Rate> {
    let TokenBucket { max_tokens, tokens_per_fill, fill_interval } = message;
    let interval = reader.duration("fill_interval", &fill_interval)?;
    if interval < LEAST_INTERVAL {
        reader.at("fill_interval", |reader| reader.error("local rate limit token bucket fill timer must be >= 50ms"));
        return None;
    }
    Some(Rate::new(max_tokens, tokens_per_fill.map_or(1, |tokens| tokens.value), interval))
}
