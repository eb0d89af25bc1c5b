//! `envoy.config.route.v3.RetryPolicy`, and how much of a body is kept for it.

use std::time::Duration;

use envoy_types::pb::envoy::config::route::v3 as api;
use envoy_types::pb::google::protobuf::{UInt32Value, UInt64Value};

use super::context::Context;
use super::extension::RETRY_HOST_PREDICATES;
use super::{matcher, values};
use crate::config::model::{Keyed, ResetHeader, RetryOn, RetryPolicy};

/// Envoy's timers do not go below it either.
const LEAST_INTERVAL: Duration = Duration::from_millis(1);
/// The maximal interval of a back-off by its base, where none is given.
const INTERVALS: u32 = 10;

/// A predicate of `retry_host_predicate`.
pub(super) enum HostPredicate {
    PreviousHosts,
}

pub(super) fn policy(cx: &mut Context, message: api::RetryPolicy) -> RetryPolicy {
    let api::RetryPolicy {
        retry_on,
        num_retries,
        per_try_timeout,
        per_try_idle_timeout,
        retry_priority,
        retry_host_predicate,
        retry_options_predicates,
        host_selection_retry_max_attempts,
        retriable_status_codes,
        retry_back_off,
        rate_limited_retry_back_off,
        retriable_headers,
        retriable_request_headers,
        // A route names one cluster, and that does not change while a request lives.
        refresh_cluster_on_retry: _,
    } = message;
    refuse!(cx; retry_priority, retry_options_predicates);
    let mut policy = RetryPolicy {
        on: cx.at("retry_on", |cx| conditions(cx, &retry_on)),
        per_try_timeout: values::limit(cx, "per_try_timeout", &per_try_timeout, None),
        per_try_idle_timeout: values::limit(cx, "per_try_idle_timeout", &per_try_idle_timeout, None),
        status_codes: retriable_status_codes,
        headers: cx.each("retriable_headers", retriable_headers, matcher::header),
        request_headers: cx.each("retriable_request_headers", retriable_request_headers, matcher::header),
        ..RetryPolicy::default()
    };
    policy.retries = values::number(&num_retries).unwrap_or(policy.retries);
    let predicates = cx.each("retry_host_predicate", retry_host_predicate, |cx, predicate| {
        use api::retry_policy::retry_host_predicate::ConfigType;
        let api::retry_policy::RetryHostPredicate { name, config_type } = predicate;
        let any = config_type.map(|ConfigType::TypedConfig(any)| any);
        cx.at("typed_config", |cx| RETRY_HOST_PREDICATES.parse(cx, &name, any.as_ref()))
    });
    policy.avoid_previous_hosts = predicates.iter().any(|HostPredicate::PreviousHosts| true);
    if host_selection_retry_max_attempts != 0 {
        // Envoy takes a negative number for none.
        let attempts = host_selection_retry_max_attempts.max(0);
        policy.host_attempts = u32::try_from(attempts).unwrap_or(u32::MAX);
    }
    match retry_back_off {
        Some(back_off) => cx.at("retry_back_off", |cx| self::back_off(cx, back_off, &mut policy)),
        None => policy.base_ms = base(cx),
    }
    if let Some(back_off) = rate_limited_retry_back_off {
        cx.at("rate_limited_retry_back_off", |cx| rate_limited(cx, back_off, &mut policy));
    }
    policy
}

/// Of a route without one: requests may ask for retries all the same.
pub(super) fn none(cx: &Context) -> RetryPolicy {
    RetryPolicy { base_ms: base(cx), ..RetryPolicy::default() }
}

fn base(cx: &Context) -> Keyed<u64> {
    cx.keyed(0, "upstream.base_retry_backoff_ms")
}

/// `envoy.config.route.v3.HedgePolicy`: whether another try goes beside one that takes too long. The other two fields do nothing in Envoy.
pub(super) fn hedges(cx: &mut Context, message: api::HedgePolicy) -> bool {
    let api::HedgePolicy { initial_requests, additional_request_chance, hedge_on_per_try_timeout } = message;
    ignore!(cx; initial_requests, additional_request_chance);
    hedge_on_per_try_timeout
}

/// Envoy passes over a condition that it does not know, without a word.
fn conditions(cx: &mut Context, text: &str) -> RetryOn {
    let mut on = RetryOn::default();
    for token in text.split(',').map(str::trim).filter(|token| !token.is_empty()) {
        match RetryOn::http(token).or_else(|| RetryOn::grpc(token)) {
            Some(condition) => on = on.or(condition),
            None => cx.warn(format!("there is no condition '{token}': nothing is retried for it")),
        }
    }
    on
}

fn back_off(cx: &mut Context, message: api::retry_policy::RetryBackOff, policy: &mut RetryPolicy) {
    let api::retry_policy::RetryBackOff { base_interval, max_interval } = message;
    if let Some(base) = values::duration(cx, "base_interval", &base_interval) {
        policy.base_interval = base.max(LEAST_INTERVAL);
        policy.max_interval = policy.base_interval.saturating_mul(INTERVALS);
    }
    if let Some(max) = values::duration(cx, "max_interval", &max_interval) {
        policy.max_interval = max.max(LEAST_INTERVAL);
        if policy.max_interval < policy.base_interval {
            cx.error_at("max_interval", "must be greater than or equal to the base_interval");
        }
    }
}

fn rate_limited(cx: &mut Context, message: api::retry_policy::RateLimitedRetryBackOff, policy: &mut RetryPolicy) {
    use api::retry_policy::ResetHeaderFormat;
    let api::retry_policy::RateLimitedRetryBackOff { reset_headers, max_interval } = message;
    policy.reset_headers = cx.each("reset_headers", reset_headers, |_, header| {
        let api::retry_policy::ResetHeader { name, format } = header;
        let is_timestamp = format == ResetHeaderFormat::UnixTimestamp as i32;
        Some(ResetHeader { name: name.to_ascii_lowercase(), is_timestamp })
    });
    if let Some(max) = values::duration(cx, "max_interval", &max_interval) {
        policy.reset_max_interval = max;
    }
}

/// `request_body_buffer_limit` and `per_request_buffer_limit_bytes`, where one is set.
pub(super) fn limits(
    cx: &mut Context,
    request: &Option<UInt32Value>,
    body: &Option<UInt64Value>,
) -> Option<(Option<u64>, Option<u32>)> {
    if request.is_some() && body.is_some() {
        cx.at("per_request_buffer_limit_bytes", |cx| cx.warn("has no effect beside request_body_buffer_limit"));
    }
    (request.is_some() || body.is_some())
        .then(|| (body.as_ref().map(|limit| limit.value), request.as_ref().map(|limit| limit.value)))
}

#[cfg(test)]
mod tests;
