//! Small values: what "set" means, durations, numbers with a default.

use std::collections::HashMap;
use std::time::Duration;

use envoy_types::pb::google::protobuf;

use super::context::Context;

/// Does a field hold anything but its default?
pub(super) trait IsSet {
    fn is_set(&self) -> bool;
}

impl<T> IsSet for Option<T> {
    fn is_set(&self) -> bool {
        self.is_some()
    }
}

impl<T> IsSet for Vec<T> {
    fn is_set(&self) -> bool {
        !self.is_empty()
    }
}

impl<K, V> IsSet for HashMap<K, V> {
    fn is_set(&self) -> bool {
        !self.is_empty()
    }
}

impl IsSet for String {
    fn is_set(&self) -> bool {
        !self.is_empty()
    }
}

impl IsSet for bool {
    fn is_set(&self) -> bool {
        *self
    }
}

impl IsSet for i32 {
    fn is_set(&self) -> bool {
        *self != 0
    }
}

impl IsSet for u32 {
    fn is_set(&self) -> bool {
        *self != 0
    }
}

/// A boolean with presence, where absent means false.
pub(super) fn is_true(value: &Option<protobuf::BoolValue>) -> bool {
    value.as_ref().is_some_and(|value| value.value)
}

/// A boolean with presence, where absent means true.
pub(super) fn is_not_false(value: &Option<protobuf::BoolValue>) -> bool {
    value.as_ref().is_none_or(|value| value.value)
}

/// A number with presence.
pub(super) fn number(value: &Option<protobuf::UInt32Value>) -> Option<u32> {
    value.as_ref().map(|value| value.value)
}

/// A duration; one that is negative or malformed is an error at `field`.
pub(super) fn duration(cx: &mut Context, field: &'static str, value: &Option<protobuf::Duration>) -> Option<Duration> {
    let value = value.as_ref()?;
    let duration = u64::try_from(value.seconds).ok().zip(u32::try_from(value.nanos).ok());
    match duration {
        Some((seconds, nanos)) if nanos < 1_000_000_000 => Some(Duration::new(seconds, nanos)),
        _ => {
            cx.error_at(field, "must be a positive duration");
            None
        }
    }
}

/// A time limit where zero means none.
pub(super) fn limit(
    cx: &mut Context,
    field: &'static str,
    value: &Option<protobuf::Duration>,
    default: Option<Duration>,
) -> Option<Duration> {
    match duration(cx, field, value) {
        None => default,
        Some(limit) => Some(limit).filter(|limit| !limit.is_zero()),
    }
}

/// A time limit with presence, where zero means none.
pub(super) fn optional_limit(
    cx: &mut Context,
    field: &'static str,
    value: &Option<protobuf::Duration>,
) -> Option<Option<Duration>> {
    duration(cx, field, value).map(|limit| Some(limit).filter(|limit| !limit.is_zero()))
}
