//! What a request from inside may ask of the router: `x-envoy-retry-on`, `x-envoy-upstream-rq-timeout-ms` and their like.
//!
//! Requests from outside have none of these headers: `headers::prepare_request` takes them away, and notes whether there are any, so that
//! others are not searched. Here they are read and taken out, as Envoy does: the host must not honour them once more.

use std::time::Duration;

use http::{HeaderName, HeaderValue};

use crate::codec::head::{Headers, tokens};
use crate::config::model::{ControlHeader, RetryOn};
use crate::http::headers::names::{
    X_ENVOY_EXPECTED_RQ_TIMEOUT_MS, X_ENVOY_HEDGE_ON_PER_TRY_TIMEOUT, X_ENVOY_MAX_RETRIES,
    X_ENVOY_RETRIABLE_HEADER_NAMES, X_ENVOY_RETRIABLE_STATUS_CODES, X_ENVOY_RETRY_GRPC_ON, X_ENVOY_RETRY_ON,
    X_ENVOY_UPSTREAM_ALT_STAT_NAME, X_ENVOY_UPSTREAM_RQ_PER_TRY_TIMEOUT_MS, X_ENVOY_UPSTREAM_RQ_TIMEOUT_ALT_RESPONSE,
    X_ENVOY_UPSTREAM_RQ_TIMEOUT_MS,
};

/// The wishes of one request.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Controls {
    /// `x-envoy-retry-on` and `x-envoy-retry-grpc-on`; what they name that does not exist is passed over.
    pub(super) retry_on: RetryOn,
    /// `x-envoy-max-retries`: replaces the policy's.
    pub(super) max_retries: Option<u32>,
    /// `x-envoy-retriable-status-codes`: beside the policy's.
    pub(super) status_codes: Vec<u32>,
    /// `x-envoy-retriable-header-names`: beside the policy's.
    pub(super) headers: Vec<HeaderName>,
    /// `x-envoy-upstream-rq-timeout-ms`: replaces the route's; zero is none.
    pub(super) timeout: Option<Duration>,
    /// `x-envoy-upstream-rq-per-try-timeout-ms`: replaces the policy's; zero is none.
    pub(super) per_try_timeout: Option<Duration>,
    /// `x-envoy-hedge-on-per-try-timeout`: replaces the policy's.
    pub(super) hedges: Option<bool>,
    /// `x-envoy-upstream-alt-stat-name`: the response is counted under this name of the cluster's too.
    pub(super) alt_stat: Option<String>,
    /// `x-envoy-upstream-rq-timeout-alt-response`: a timeout is told as 204.
    pub(super) alt_response: bool,
    /// `x-envoy-expected-rq-timeout-ms` of the proxy before this one, which replaces the route's timeout where the router respects it
    /// (`respect_expected_rq_timeout`); it goes on to the host.
    pub(super) expected: bool,
}

impl Controls {
    /// Reads them and takes them out; `respects` the timeout that another proxy has announced.
    pub(super) fn take(headers: &mut Headers, respects: bool) -> Self {
        let retry_on = conditions(headers, &X_ENVOY_RETRY_ON, RetryOn::http);
        let grpc_on = conditions(headers, &X_ENVOY_RETRY_GRPC_ON, RetryOn::grpc);
        let millis = |name| number(headers, name).map(Duration::from_millis);
        let expected = if respects { millis(&X_ENVOY_EXPECTED_RQ_TIMEOUT_MS) } else { None };
        let controls = Self {
            retry_on: retry_on.or(grpc_on),
            max_retries: number(headers, &X_ENVOY_MAX_RETRIES).map(|most| u32::try_from(most).unwrap_or(u32::MAX)),
            status_codes: list(headers, &X_ENVOY_RETRIABLE_STATUS_CODES).filter_map(|code| code.parse().ok()).collect(),
            headers: list(headers, &X_ENVOY_RETRIABLE_HEADER_NAMES).filter_map(|name| name.parse().ok()).collect(),
            timeout: expected.or_else(|| millis(&X_ENVOY_UPSTREAM_RQ_TIMEOUT_MS)),
            per_try_timeout: millis(&X_ENVOY_UPSTREAM_RQ_PER_TRY_TIMEOUT_MS),
            hedges: match headers.get(&X_ENVOY_HEDGE_ON_PER_TRY_TIMEOUT).map(HeaderValue::as_bytes) {
                Some(b"true") => Some(true),
                Some(b"false") => Some(false),
                _ => None,
            },
            alt_stat: headers.get(&X_ENVOY_UPSTREAM_ALT_STAT_NAME).and_then(stat_name),
            alt_response: headers.contains(&X_ENVOY_UPSTREAM_RQ_TIMEOUT_ALT_RESPONSE),
            expected: expected.is_some(),
        };
        // As Envoy: a wish that was not looked at goes on.
        let goes_on = |name: &HeaderName| controls.expected && *name == X_ENVOY_UPSTREAM_RQ_TIMEOUT_MS;
        headers.retain(|name, _| !is_control(name) || goes_on(name));
        controls
    }
}

/// The longest name that is counted under.
const LONGEST_STAT_NAME: usize = 128;

/// A name that can be one of statistics; others are passed over.
fn stat_name(value: &HeaderValue) -> Option<String> {
    let name = value.to_str().ok()?;
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
    let is_name = !name.is_empty() && name.len() <= LONGEST_STAT_NAME && name.bytes().all(fits);
    (is_name && !name.starts_with('.') && !name.ends_with('.')).then(|| name.to_owned())
}

/// The first of the headers to be looked at strictly that says nothing sensible.
pub(super) fn refused<'h>(strict: &[ControlHeader], headers: &'h Headers) -> Option<(&'static str, &'h HeaderValue)> {
    let number = |text: &str| text.parse::<u64>().is_ok();
    let each =
        |text: &str, known: fn(&str) -> Option<RetryOn>| text.split(',').all(|token| known(token.trim()).is_some());
    strict.iter().find_map(|header| {
        let name: &'static HeaderName = match header {
            ControlHeader::Timeout => &X_ENVOY_UPSTREAM_RQ_TIMEOUT_MS,
            ControlHeader::PerTryTimeout => &X_ENVOY_UPSTREAM_RQ_PER_TRY_TIMEOUT_MS,
            ControlHeader::MaxRetries => &X_ENVOY_MAX_RETRIES,
            ControlHeader::RetryOn => &X_ENVOY_RETRY_ON,
            ControlHeader::RetryGrpcOn => &X_ENVOY_RETRY_GRPC_ON,
        };
        let value = headers.get(name)?;
        let sensible = std::str::from_utf8(value.as_bytes()).is_ok_and(|text| match header {
            ControlHeader::RetryOn => each(text, RetryOn::http),
            ControlHeader::RetryGrpcOn => each(text, RetryOn::grpc),
            _ => number(text),
        });
        (!sensible).then_some((name.as_str(), value))
    })
}

fn is_control(name: &HeaderName) -> bool {
    [
        &X_ENVOY_RETRY_ON,
        &X_ENVOY_RETRY_GRPC_ON,
        &X_ENVOY_MAX_RETRIES,
        &X_ENVOY_RETRIABLE_STATUS_CODES,
        &X_ENVOY_RETRIABLE_HEADER_NAMES,
        &X_ENVOY_HEDGE_ON_PER_TRY_TIMEOUT,
        &X_ENVOY_UPSTREAM_RQ_TIMEOUT_MS,
        &X_ENVOY_UPSTREAM_RQ_PER_TRY_TIMEOUT_MS,
        &X_ENVOY_UPSTREAM_ALT_STAT_NAME,
        &X_ENVOY_UPSTREAM_RQ_TIMEOUT_ALT_RESPONSE,
    ]
    .into_iter()
    .any(|control| control == name)
}

fn conditions(headers: &Headers, name: &HeaderName, known: fn(&str) -> Option<RetryOn>) -> RetryOn {
    list(headers, name).filter_map(known).fold(RetryOn::default(), RetryOn::or)
}

fn list<'h>(headers: &'h Headers, name: &'h HeaderName) -> impl Iterator<Item = &'h str> {
    let values = headers.get_all(name).flat_map(|value| tokens(value.as_bytes()));
    values.filter_map(|token| std::str::from_utf8(token).ok())
}

fn number(headers: &Headers, name: &HeaderName) -> Option<u64> {
    headers.get(name).map(HeaderValue::as_bytes).and_then(|text| std::str::from_utf8(text).ok()?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(fields: &[(&'static str, &'static str)]) -> Headers {
        let fields = fields.iter();
        fields.map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value))).collect()
    }

    #[test]
    fn wishes_are_read_and_taken_out() {
        let mut given = headers(&[
            ("x-envoy-retry-on", "5xx, bogus,cancelled"),
            ("a", "1"),
            ("x-envoy-retry-grpc-on", "cancelled"),
            ("x-envoy-max-retries", "7"),
            ("x-envoy-retriable-status-codes", "409,  x,418"),
            ("x-envoy-retriable-header-names", "x-again, bad name"),
            ("x-envoy-upstream-rq-timeout-ms", "0"),
            ("x-envoy-upstream-rq-per-try-timeout-ms", "250"),
            ("x-envoy-hedge-on-per-try-timeout", "true"),
            ("x-envoy-upstream-rq-timeout-alt-response", "yes"),
            ("x-envoy-upstream-alt-stat-name", "by.caller"),
        ]);
        let controls = Controls::take(&mut given, false);
        assert_eq!(given, headers(&[("a", "1")]));
        assert_eq!(
            controls,
            Controls {
                retry_on: RetryOn::STATUS_5XX.or(RetryOn::GRPC_CANCELLED),
                max_retries: Some(7),
                status_codes: vec![409, 418],
                headers: vec![HeaderName::from_static("x-again")],
                timeout: Some(Duration::ZERO),
                per_try_timeout: Some(Duration::from_millis(250)),
                hedges: Some(true),
                alt_stat: Some("by.caller".to_owned()),
                alt_response: true,
                expected: false,
            }
        );
    }

    #[test]
    fn what_another_proxy_has_announced_goes_before_the_wish_and_goes_on() {
        let fields = [("x-envoy-expected-rq-timeout-ms", "700"), ("x-envoy-upstream-rq-timeout-ms", "900")];
        let mut given = headers(&fields);
        let controls = Controls::take(&mut given, true);
        assert_eq!((controls.timeout, controls.expected), (Some(Duration::from_millis(700)), true));
        assert_eq!(given, headers(&fields), "a wish that was not looked at goes on");
        let controls = Controls::take(&mut headers(&fields), false);
        assert_eq!((controls.timeout, controls.expected), (Some(Duration::from_millis(900)), false));
    }

    #[test]
    fn what_is_no_number_is_taken_out_and_asks_for_nothing() {
        let mut given = headers(&[("x-envoy-max-retries", "-1"), ("x-envoy-upstream-rq-timeout-ms", "soon")]);
        assert_eq!(Controls::take(&mut given, true), Controls::default());
        assert!(given.is_empty());
    }
}
