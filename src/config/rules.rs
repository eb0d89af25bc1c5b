//! Constraint rules (protoc-gen-validate), evaluated straight from their encoded form.
//!
//! The API's protos carry a `validate.FieldRules` per field; the schema table keeps them as they are. This module judges one
//! value at a time and knows nothing of messages: [`super::check`] walks them.

mod number;
mod text;

use std::cell::RefCell;
use std::collections::HashMap;

use super::wire::{Raw, Reader};
use number::Number;

/// A value as the rules see it.
#[derive(Clone, Copy, Debug)]
pub(super) enum Value<'a> {
    Integer(i128),
    Float(f64),
    Bool(bool),
    Text(&'a str),
    Bytes(&'a [u8]),
    Enum {
        number: i32,
        is_defined: bool,
    },
    /// Seconds, nanoseconds.
    Duration(i64, i32),
    Timestamp(i64, i32),
    /// An `Any`, by its URL.
    Any(&'a str),
}

/// Fields of `validate.FieldRules`.
mod of {
    pub(super) const BOOL: u32 = 13;
    pub(super) const STRING: u32 = 14;
    pub(super) const BYTES: u32 = 15;
    pub(super) const ENUM: u32 = 16;
    pub(super) const MESSAGE: u32 = 17;
    pub(super) const REPEATED: u32 = 18;
    pub(super) const MAP: u32 = 19;
    pub(super) const ANY: u32 = 20;
    pub(super) const DURATION: u32 = 21;
    pub(super) const TIMESTAMP: u32 = 22;
}

/// The rules of one field, or of the elements, keys or values in it.
#[derive(Clone, Copy, Default)]
pub(super) struct FieldRules {
    /// The message must be there.
    pub(super) is_required: bool,
    /// The message is not looked into.
    pub(super) is_skipped: bool,
    typed: Option<(u32, &'static [u8])>,
}

/// How many there may be, in a list or a map.
#[derive(Clone, Copy, Default)]
pub(super) struct Count {
    least: Option<u64>,
    most: Option<u64>,
    may_be_empty: bool,
}

/// The rules of a list.
#[derive(Clone, Copy, Default)]
pub(super) struct ListRules {
    pub(super) count: Count,
    pub(super) is_unique: bool,
    pub(super) elements: FieldRules,
}

/// The rules of a map.
#[derive(Clone, Copy, Default)]
pub(super) struct MapRules {
    pub(super) count: Count,
    pub(super) keys: Option<FieldRules>,
    pub(super) values: FieldRules,
}

impl FieldRules {
    /// Reads an encoded `validate.FieldRules`.
    pub(super) fn parse(encoded: &'static [u8]) -> Self {
        let mut rules = Self::default();
        for record in Reader::new(encoded) {
            match record {
                (of::MESSAGE, Raw::Bytes(message)) => {
                    rules.is_skipped |= is_on(message, 1);
                    rules.is_required |= is_on(message, 2);
                }
                (number, Raw::Bytes(typed)) => rules.typed = Some((number, typed)),
                _ => {}
            }
        }
        // Durations, timestamps and `Any` have a `required` of their own.
        if let Some((of::ANY..=of::TIMESTAMP, typed)) = rules.typed {
            rules.is_required |= is_on(typed, 1);
        }
        rules
    }

    pub(super) fn list(self) -> ListRules {
        let mut rules = ListRules::default();
        let Some((of::REPEATED, typed)) = self.typed else { return rules };
        for record in Reader::new(typed) {
            match record {
                (1, Raw::Varint(least)) => rules.count.least = Some(least),
                (2, Raw::Varint(most)) => rules.count.most = Some(most),
                (3, Raw::Varint(on)) => rules.is_unique = on != 0,
                (4, Raw::Bytes(elements)) => rules.elements = Self::parse(elements),
                (5, Raw::Varint(on)) => rules.count.may_be_empty = on != 0,
                _ => {}
            }
        }
        rules
    }

    pub(super) fn map(self) -> MapRules {
        let mut rules = MapRules::default();
        let Some((of::MAP, typed)) = self.typed else { return rules };
        for record in Reader::new(typed) {
            match record {
                (1, Raw::Varint(least)) => rules.count.least = Some(least),
                (2, Raw::Varint(most)) => rules.count.most = Some(most),
                (4, Raw::Bytes(keys)) => rules.keys = Some(Self::parse(keys)),
                (5, Raw::Bytes(values)) => rules.values = Self::parse(values),
                (6, Raw::Varint(on)) => rules.count.may_be_empty = on != 0,
                _ => {}
            }
        }
        rules
    }
}

impl Count {
    /// Judges a number of `what` (items, entries).
    pub(super) fn check(self, what: &str, count: usize) -> Option<String> {
        let number = count as u64;
        match (self.least, self.most) {
            _ if count == 0 && self.may_be_empty => None,
            (Some(least), Some(most)) if least == most && number != least => {
                Some(format!("must have exactly {least} {what}, has {count}"))
            }
            (Some(least), _) if number < least => Some(format!("must have at least {least} {what}, has {count}")),
            (_, Some(most)) if number > most => Some(format!("must have at most {most} {what}, has {count}")),
            _ => None,
        }
    }
}

/// Judges values; keeps the patterns that it has compiled.
#[derive(Default)]
pub(super) struct Judge {
    patterns: RefCell<HashMap<&'static str, Option<regex::Regex>>>,
}

impl Judge {
    /// Every rule that `value` breaks.
    pub(super) fn judge(&self, rules: FieldRules, value: Value<'_>) -> Vec<String> {
        let mut broken = Vec::new();
        let Some((kind, typed)) = rules.typed else { return broken };
        match (kind, value) {
            (1..=12, Value::Integer(number)) => {
                number::judge(kind, typed, Number::Integer(number), &number::NUMERIC, &mut broken);
            }
            (1..=12, Value::Float(number)) => {
                number::judge(kind, typed, Number::Float(number), &number::NUMERIC, &mut broken);
            }
            (of::BOOL, Value::Bool(on)) => {
                let wanted = Reader::new(typed).find(|record| record.0 == 1).map(|record| record.1 != Raw::Varint(0));
                if let Some(wanted) = wanted.filter(|wanted| *wanted != on) {
                    broken.push(format!("must be {wanted}"));
                }
            }
            (of::STRING, Value::Text(value)) => text::judge(self, typed, value, &mut broken),
            (of::BYTES, Value::Bytes(value)) => text::judge_bytes(typed, value, &mut broken),
            (of::ENUM, Value::Enum { number, is_defined }) => {
                if is_on(typed, 2) && !is_defined {
                    broken.push(format!("{number} is not a value of the enum"));
                }
                number::judge(kind, typed, Number::Integer(number.into()), &number::ENUM, &mut broken);
            }
            (of::DURATION, Value::Duration(seconds, nanos)) => {
                number::judge(kind, typed, Number::Time(seconds, nanos), &number::DURATION, &mut broken);
            }
            (of::TIMESTAMP, Value::Timestamp(seconds, nanos)) => {
                number::judge(kind, typed, Number::Time(seconds, nanos), &number::TIMESTAMP, &mut broken);
            }
            (of::ANY, Value::Any(url)) => {
                let listed = |number| Reader::new(typed).filter(move |record| record.0 == number);
                let is_url = |record: (u32, Raw<'_>)| record.1 == Raw::Bytes(url.as_bytes());
                let allowed = listed(2).next().is_none() || listed(2).any(is_url);
                if !allowed || listed(3).any(is_url) {
                    broken.push(format!("the type `{url}` may not stand here"));
                }
            }
            _ => {}
        }
        broken
    }

    fn matches(&self, pattern: &'static str, text: &str) -> bool {
        let mut patterns = self.patterns.borrow_mut();
        let pattern = patterns.entry(pattern).or_insert_with(|| regex::Regex::new(pattern).ok());
        pattern.as_ref().is_none_or(|pattern| pattern.is_match(text))
    }
}

/// Is a boolean field set?
fn is_on(encoded: &[u8], number: u32) -> bool {
    Reader::new(encoded).any(|record| record == (number, Raw::Varint(1)))
}
