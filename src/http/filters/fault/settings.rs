//! `envoy.extensions.filters.http.fault.v3.HTTPFault`.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use bytes::Bytes;
use envoy_types::pb::envoy::extensions::filters::common::fault::v3 as common;
use envoy_types::pb::envoy::extensions::filters::http::fault::v3 as api;

use crate::config::extension::{Given, Reader};
use crate::config::model::{Fraction, HeaderMatch, Keyed, Settings};
use crate::runtime::{Key, Runtime, Value};

/// The settings, of the chain and of routes.
#[derive(Debug, PartialEq)]
pub(super) struct Fault {
    pub(super) delay: Option<Delay>,
    pub(super) abort: Option<Abort>,
    pub(super) limit: Option<Limit>,
    /// The cluster that the request must go to; may be empty.
    pub(super) cluster: String,
    pub(super) headers: Vec<HeaderMatch>,
    /// The nodes that it must come from, where there are any.
    pub(super) nodes: Vec<String>,
    /// The most requests that may have a fault at once.
    pub(super) max_active: Keyed<u32>,
    /// What runtime values may change.
    pub(super) keys: Keys,
    /// Callers are counted by name.
    pub(super) counts_callers: bool,
    /// Of the chain's settings: how many requests have a fault.
    pub(super) active: Count,
}

/// The runtime values that go before the settings, where there may be some.
#[derive(Debug, PartialEq)]
pub(super) struct Keys {
    pub(super) delay_percent: Option<Box<Key>>,
    pub(super) delay_duration: Option<Box<Key>>,
    pub(super) abort_percent: Option<Box<Key>>,
    pub(super) abort_http_status: Option<Box<Key>>,
    pub(super) abort_grpc_status: Option<Box<Key>>,
    pub(super) limit_percent: Option<Box<Key>>,
    /// For those that are named after who asks.
    runtime: Runtime,
}

impl Keys {
    /// `fault.http.<caller>.<name>`, as `read` reads it.
    pub(super) fn of_caller<T>(&self, caller: &str, name: &str, read: impl FnOnce(&Value) -> Option<T>) -> Option<T> {
        // The name is made only where it can mean something.
        if !self.runtime.exists() || caller.is_empty() {
            return None;
        }
        self.runtime.find(&format!("fault.http.{caller}.{name}"), read)
    }
}

/// The name that is given, or Envoy's own.
fn or(given: String, name: &str) -> String {
    if given.is_empty() { format!("fault.http.{name}") } else { given }
}

/// A number that all workers share, as they share the settings. It is no part of what the settings say.
#[derive(Debug, Default)]
pub(super) struct Count(AtomicU32);

impl PartialEq for Count {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Count {
    /// One more, unless there are so many already.
    pub(super) fn begin(&self, most: u32) -> bool {
        let more = |active: u32| (active < most).then(|| active.saturating_add(1));
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_ok()
    }

    /// One less.
    pub(super) fn end(&self) {
        let less = |active: u32| Some(active.saturating_sub(1));
        // Always taken.
        let _ = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
    }
}

#[derive(Debug, PartialEq)]
pub(super) struct Delay {
    pub(super) how: DelayHow,
    pub(super) percentage: Fraction,
}

#[derive(Debug, PartialEq)]
pub(super) enum DelayHow {
    Fixed(Duration),
    Header,
}

#[derive(Debug, PartialEq)]
pub(super) struct Abort {
    pub(super) how: AbortHow,
    pub(super) percentage: Fraction,
    pub(super) body: Bytes,
}

#[derive(Debug, PartialEq)]
pub(super) enum AbortHow {
    Http(u16),
    Grpc(u32),
    Header,
}

#[derive(Debug, PartialEq)]
pub(super) struct Limit {
    pub(super) how: LimitHow,
    pub(super) percentage: Fraction,
}

#[derive(Debug, PartialEq)]
pub(super) enum LimitHow {
    /// KiB in a second.
    Fixed(u64),
    Header,
}

pub(super) fn read(reader: &mut Reader<'_>, given: Given<'_>) -> Option<Settings> {
    let api::HttpFault {
        delay,
        abort,
        upstream_cluster,
        headers,
        downstream_nodes,
        max_active_faults,
        response_rate_limit,
        delay_percent_runtime,
        abort_percent_runtime,
        delay_duration_runtime,
        abort_http_status_runtime,
        max_active_faults_runtime,
        response_rate_limit_percent_runtime,
        abort_grpc_status_runtime,
        disable_downstream_cluster_stats,
        filter_metadata,
    } = reader.decode(given)?;
    if filter_metadata.is_some() {
        reader.refuse("filter_metadata");
    }
    let headers = reader.header_matches("headers", headers);
    let has_delay = delay.is_some();
    let delay = delay.and_then(|message| reader.at("delay", |reader| self::delay(reader, message)));
    let has_abort = abort.is_some();
    let abort = abort.and_then(|message| reader.at("abort", |reader| self::abort(reader, message)));
    let has_limit = response_rate_limit.is_some();
    let limit =
        response_rate_limit.and_then(|message| reader.at("response_rate_limit", |reader| self::limit(reader, message)));
    // What was given and could not be read has been told of.
    if (has_delay && delay.is_none()) || (has_abort && abort.is_none()) || (has_limit && limit.is_none()) {
        return None;
    }
    Some(Settings::new(Fault {
        delay,
        abort,
        limit,
        cluster: upstream_cluster,
        headers,
        nodes: downstream_nodes,
        max_active: reader.keyed(
            max_active_faults.map_or(u32::MAX, |value| value.value),
            &or(max_active_faults_runtime, "max_active_faults"),
        ),
        keys: Keys {
            delay_percent: reader.key(&or(delay_percent_runtime, "delay.fixed_delay_percent")),
            delay_duration: reader.key(&or(delay_duration_runtime, "delay.fixed_duration_ms")),
            abort_percent: reader.key(&or(abort_percent_runtime, "abort.abort_percent")),
            abort_http_status: reader.key(&or(abort_http_status_runtime, "abort.http_status")),
            abort_grpc_status: reader.key(&or(abort_grpc_status_runtime, "abort.grpc_status")),
            limit_percent: reader.key(&or(response_rate_limit_percent_runtime, "rate_limit.response_percent")),
            runtime: reader.runtime().clone(),
        },
        counts_callers: !disable_downstream_cluster_stats,
        active: Count::default(),
    }))
}

fn delay(reader: &mut Reader<'_>, message: common::FaultDelay) -> Option<Delay> {
    use common::fault_delay::FaultDelaySecifier as How;
    let common::FaultDelay { percentage, fault_delay_secifier } = message;
    let how = match fault_delay_secifier {
        Some(How::FixedDelay(time)) => DelayHow::Fixed(reader.duration("fixed_delay", &Some(time))?),
        Some(How::HeaderDelay(_)) => DelayHow::Header,
        None => {
            reader.error("must say `fixed_delay` or `header_delay`");
            return None;
        }
    };
    Some(Delay { how, percentage: reader.percentage(percentage) })
}

fn abort(reader: &mut Reader<'_>, message: api::FaultAbort) -> Option<Abort> {
    use api::fault_abort::ErrorType;
    let api::FaultAbort { percentage, response_body, error_type } = message;
    let how = match error_type {
        Some(ErrorType::HttpStatus(status)) => match u16::try_from(status) {
            Ok(status @ 200..=599) => AbortHow::Http(status),
            _ => {
                reader.at("http_status", |reader| reader.error("must be from 200 to 599"));
                return None;
            }
        },
        Some(ErrorType::GrpcStatus(status)) => AbortHow::Grpc(status),
        Some(ErrorType::HeaderAbort(_)) => AbortHow::Header,
        None => {
            reader.error("must say `http_status`, `grpc_status` or `header_abort`");
            return None;
        }
    };
    let body = if response_body.is_empty() { Bytes::from_static(b"fault filter abort") } else { response_body.into() };
    Some(Abort { how, percentage: reader.percentage(percentage), body })
}

fn limit(reader: &mut Reader<'_>, message: common::FaultRateLimit) -> Option<Limit> {
    use common::fault_rate_limit::{FixedLimit, LimitType};
    let common::FaultRateLimit { percentage, limit_type } = message;
    let how = match limit_type {
        Some(LimitType::FixedLimit(FixedLimit { limit_kbps })) if limit_kbps > 0 => LimitHow::Fixed(limit_kbps),
        Some(LimitType::FixedLimit(_)) => {
            reader.at("fixed_limit", |reader| {
                reader.at("limit_kbps", |reader| reader.error("must be greater than 0"));
            });
            return None;
        }
        Some(LimitType::HeaderLimit(_)) => LimitHow::Header,
        None => {
            reader.error("must say `fixed_limit` or `header_limit`");
            return None;
        }
    };
    Some(Limit { how, percentage: reader.percentage(percentage) })
}
