//! Rules of numbers, enums, durations and timestamps: equal, ranges, lists.

use std::cmp::Ordering;
use std::fmt;

use super::of;
use crate::config::wire::{self, Raw, Reader};

/// A number or a time.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) enum Number {
    Integer(i128),
    Float(f64),
    Time(i64, i32),
}

impl Number {
    fn compare(self, other: Self) -> Option<Ordering> {
        match (self, other) {
            (Self::Integer(left), Self::Integer(right)) => Some(left.cmp(&right)),
            (Self::Float(left), Self::Float(right)) => left.partial_cmp(&right),
            (Self::Time(left, left_nanos), Self::Time(right, right_nanos)) => {
                Some((left, left_nanos).cmp(&(right, right_nanos)))
            }
            _ => None,
        }
    }

    fn is_zero(self) -> bool {
        self == Self::Integer(0) || self == Self::Float(0.0)
    }
}

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Integer(number) => write!(f, "{number}"),
            Self::Float(number) => write!(f, "{number}"),
            Self::Time(seconds, 0) => write!(f, "{seconds}s"),
            Self::Time(seconds, nanos) => {
                let sign = if *seconds < 0 || *nanos < 0 { "-" } else { "" };
                let digits = format!("{:09}", nanos.unsigned_abs());
                write!(f, "{sign}{}.{}s", seconds.unsigned_abs(), digits.trim_end_matches('0'))
            }
        }
    }
}

/// Numbers of the rules' fields; 0 where a kind has no such rule.
pub(super) struct Numbers {
    equal: u32,
    below: u32,
    at_most: u32,
    above: u32,
    at_least: u32,
    within: u32,
    not_within: u32,
    ignore_empty: u32,
}

pub(super) const NUMERIC: Numbers =
    Numbers { equal: 1, below: 2, at_most: 3, above: 4, at_least: 5, within: 6, not_within: 7, ignore_empty: 8 };
pub(super) const ENUM: Numbers =
    Numbers { equal: 1, below: 0, at_most: 0, above: 0, at_least: 0, within: 3, not_within: 4, ignore_empty: 0 };
pub(super) const DURATION: Numbers =
    Numbers { equal: 2, below: 3, at_most: 4, above: 5, at_least: 6, within: 7, not_within: 8, ignore_empty: 0 };
pub(super) const TIMESTAMP: Numbers =
    Numbers { equal: 2, below: 3, at_most: 4, above: 5, at_least: 6, within: 0, not_within: 0, ignore_empty: 0 };

/// One end of a range.
#[derive(Clone, Copy)]
struct Bound {
    limit: Number,
    inclusive: bool,
}

impl Bound {
    fn admits(self, value: Number, side: Ordering) -> bool {
        match value.compare(self.limit) {
            Some(Ordering::Equal) => self.inclusive,
            ordering => ordering == Some(side),
        }
    }

    fn show(self, sign: &str) -> String {
        format!("{sign}{} {}", if self.inclusive { "=" } else { "" }, self.limit)
    }
}

#[derive(Default)]
struct Found {
    equal: Option<Number>,
    high: Option<Bound>,
    low: Option<Bound>,
    within: Vec<Number>,
    not_within: Vec<Number>,
    ignores_empty: bool,
}

impl Found {
    fn read(kind: u32, rules: &[u8], numbers: &Numbers) -> Self {
        let mut found = Self::default();
        let bound = |raw, inclusive| literal(kind, raw).map(|limit| Bound { limit, inclusive });
        for (number, raw) in Reader::new(rules).filter(|record| record.0 != 0) {
            if number == numbers.equal {
                found.equal = literal(kind, raw);
            } else if number == numbers.below {
                found.high = bound(raw, false);
            } else if number == numbers.at_most {
                found.high = bound(raw, true);
            } else if number == numbers.above {
                found.low = bound(raw, false);
            } else if number == numbers.at_least {
                found.low = bound(raw, true);
            } else if number == numbers.within {
                literals(kind, raw, &mut found.within);
            } else if number == numbers.not_within {
                literals(kind, raw, &mut found.not_within);
            } else if number == numbers.ignore_empty {
                found.ignores_empty = raw == Raw::Varint(1);
            }
        }
        found
    }
}

pub(super) fn judge(kind: u32, rules: &[u8], value: Number, numbers: &Numbers, broken: &mut Vec<String>) {
    let rules = Found::read(kind, rules, numbers);
    if rules.ignores_empty && value.is_zero() {
        return;
    }
    if let Some(equal) = rules.equal.filter(|equal| *equal != value) {
        broken.push(format!("must be {equal}, is {value}"));
    }
    match (rules.low, rules.high) {
        // A low end above the high end forbids what lies between.
        (Some(low), Some(high)) if low.limit.compare(high.limit) == Some(Ordering::Greater) => {
            if !low.admits(value, Ordering::Greater) && !high.admits(value, Ordering::Less) {
                broken.push(format!("must be {} or {}, is {value}", high.show("<"), low.show(">")));
            }
        }
        (low, high) => {
            if let Some(low) = low.filter(|low| !low.admits(value, Ordering::Greater)) {
                broken.push(format!("must be {}, is {value}", low.show(">")));
            }
            if let Some(high) = high.filter(|high| !high.admits(value, Ordering::Less)) {
                broken.push(format!("must be {}, is {value}", high.show("<")));
            }
        }
    }
    if !rules.within.is_empty() && !rules.within.contains(&value) {
        let allowed: Vec<String> = rules.within.iter().map(Number::to_string).collect();
        broken.push(format!("must be one of {}, is {value}", allowed.join(", ")));
    }
    if rules.not_within.contains(&value) {
        broken.push(format!("must not be {value}"));
    }
}

/// A number of a rule, in the type that the rule is for.
fn literal(kind: u32, raw: Raw<'_>) -> Option<Number> {
    Some(match (kind, raw) {
        (1, Raw::Fixed32(bits)) => Number::Float(f64::from(f32::from_bits(bits))),
        (2, Raw::Fixed64(bits)) => Number::Float(f64::from_bits(bits)),
        (3 | 4, Raw::Varint(number)) => Number::Integer(number.cast_signed().into()),
        (of::ENUM, Raw::Varint(number)) => Number::Integer(wire::low_32(number).into()),
        (5 | 6, Raw::Varint(number)) => Number::Integer(number.into()),
        (7 | 8, Raw::Varint(number)) => Number::Integer(wire::unzigzag(number).into()),
        (9, Raw::Fixed32(number)) => Number::Integer(number.into()),
        (10, Raw::Fixed64(number)) => Number::Integer(number.into()),
        (11, Raw::Fixed32(number)) => Number::Integer(number.cast_signed().into()),
        (12, Raw::Fixed64(number)) => Number::Integer(number.cast_signed().into()),
        (of::DURATION | of::TIMESTAMP, Raw::Bytes(bytes)) => {
            let (seconds, nanos) = wire::seconds_and_nanos(bytes);
            Number::Time(seconds, nanos)
        }
        _ => return None,
    })
}

/// The numbers of an `in` or `not_in`, which may be packed.
fn literals(kind: u32, raw: Raw<'_>, into: &mut Vec<Number>) {
    let packed = match raw {
        Raw::Bytes(packed) if !matches!(kind, of::DURATION | of::TIMESTAMP) => packed,
        raw => return into.extend(literal(kind, raw)),
    };
    let mut reader = Reader::new(packed);
    loop {
        let raw = match kind {
            1 | 9 | 11 => reader.fixed32().map(Raw::Fixed32),
            2 | 10 | 12 => reader.fixed64().map(Raw::Fixed64),
            _ => reader.varint().map(Raw::Varint),
        };
        let Some(raw) = raw else { return };
        into.extend(literal(kind, raw));
    }
}
