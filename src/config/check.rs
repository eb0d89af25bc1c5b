//! Judges an encoded message: constraint rules, unknown, deprecated and disallowed fields, into every `Any` and `TypedStruct`.
//!
//! It works on wire bytes, so that a resource from a management server passes the same gate as a file.

mod any;

use std::collections::HashSet;

use super::diagnostic::{Diagnostic, Findings, Path, Segment, Severity};
use super::rules::{FieldRules, Judge, Value};
use super::schema::{Field, Kind, Message, WellKnown};
use super::wire::{self, Raw, Reader};

/// Messages within messages.
const DEEPEST: u32 = 100;

/// Judges `bytes` as a message of type `message`; findings have paths, no positions.
/// Types of `foreign` that the schema does not know are left to their extensions.
pub(super) fn check(message: Message, bytes: &[u8], unknown_fields: Severity, foreign: &[&'static str]) -> Findings {
    let mut checker = Checker {
        unknown_fields,
        judge: Judge::default(),
        path: Path::default(),
        findings: Findings::default(),
        rules_apply: true,
        depth: 0,
        foreign,
    };
    checker.message(message, bytes);
    checker.findings
}

struct Checker<'k> {
    unknown_fields: Severity,
    judge: Judge,
    path: Path,
    findings: Findings,
    /// Off within a message that the rules skip.
    rules_apply: bool,
    depth: u32,
    foreign: &'k [&'static str],
}

impl Checker<'_> {
    fn add(&mut self, severity: Severity, message: impl Into<String>) {
        self.findings.add(Diagnostic::new(severity, self.path.clone(), message));
    }

    fn within<T>(&mut self, segment: Segment, work: impl FnOnce(&mut Self) -> T) -> T {
        self.path.0.push(segment);
        let result = work(self);
        self.path.0.pop();
        result
    }

    fn message(&mut self, message: Message, bytes: &[u8]) {
        if self.depth >= DEEPEST {
            return self.add(Severity::Error, "nested too deeply");
        }
        self.depth += 1;
        match message.well_known() {
            WellKnown::Any => self.any(bytes),
            WellKnown::No | WellKnown::Empty => self.fields(message, bytes),
            _ => {}
        }
        if message.is_typed_struct() {
            self.typed_struct(bytes);
        }
        self.depth -= 1;
    }

    fn fields(&mut self, message: Message, bytes: &[u8]) {
        let mut reader = Reader::new(bytes);
        let mut records: Vec<(u32, Raw<'_>)> = reader.by_ref().collect();
        if !reader.is_empty() {
            return self.add(Severity::Error, format!("malformed {}", message.name()));
        }
        self.unknown_numbers(message, &records);
        let set = set_members(message, &mut records);
        // Stable, so that of several values of one field the last stays the last.
        records.sort_by_key(|record| record.0);
        for field in message.fields() {
            let number = field.number();
            let from = records.partition_point(|record| record.0 < number);
            let to = records.partition_point(|record| record.0 <= number);
            let values: Vec<Raw<'_>> = records.get(from..to).into_iter().flatten().map(|record| record.1).collect();
            let rules = field.rules().map(FieldRules::parse);
            if !values.is_empty() || rules.is_some() {
                self.within(Segment::Field(field.name()), |this| this.field(field, &values, rules.unwrap_or_default()));
            }
        }
        for oneof in message.oneofs().filter(|oneof| oneof.required && !set.contains(&oneof.index)) {
            if !self.rules_apply {
                continue;
            }
            let members = message.fields().filter(|field| field.oneof() == Some(oneof.index));
            let members: Vec<&str> = members.map(Field::name).collect();
            self.add(Severity::Error, format!("one of {} is required", members.join(", ")));
        }
    }

    fn unknown_numbers(&mut self, message: Message, records: &[(u32, Raw<'_>)]) {
        let unknown = records.iter().map(|record| record.0).filter(|number| message.field_numbered(*number).is_none());
        let mut numbers: Vec<u32> = unknown.collect();
        numbers.sort_unstable();
        numbers.dedup();
        if !numbers.is_empty() {
            self.add(self.unknown_fields, format!("unknown field numbers {numbers:?} in {}", message.name()));
        }
    }

    fn field(&mut self, field: Field, values: &[Raw<'_>], rules: FieldRules) {
        if !values.is_empty() {
            self.standing(field, values);
        }
        if field.is_map() {
            self.map(field, values, rules);
        } else if field.is_repeated() {
            self.list(field, values, rules);
        } else if field.kind() == Kind::Message && values.len() > 1 {
            // A message that stands several times is merged.
            let parts = values.iter().filter_map(|value| if let Raw::Bytes(part) = value { Some(*part) } else { None });
            let merged: Vec<u8> = parts.flatten().copied().collect();
            self.value(field, Some(Raw::Bytes(&merged)), rules);
        } else {
            self.value(field, values.last().copied(), rules);
        }
    }

    /// Deprecated, disallowed, unfinished.
    fn standing(&mut self, field: Field, values: &[Raw<'_>]) {
        if field.is_disallowed() {
            self.add(Severity::Error, "is no longer allowed: it will be removed from the API");
        } else if field.is_deprecated() {
            self.add(Severity::Warning, "is deprecated");
        }
        if field.is_work_in_progress() {
            self.add(Severity::Warning, "is work in progress in the API");
        }
        if let (Some(of), Some(Raw::Varint(number))) = (field.enumeration(), values.last())
            && let Some(value) = of.by_number(wire::low_32(*number)).filter(|value| value.is_deprecated())
        {
            self.add(Severity::Warning, format!("the value {} is deprecated", value.name));
        }
    }

    fn map(&mut self, field: Field, values: &[Raw<'_>], rules: FieldRules) {
        let rules = rules.map();
        if let Some(broken) = rules.count.check("entries", values.len()).filter(|_| self.rules_apply) {
            self.add(Severity::Error, broken);
        }
        let Some((key_field, value_field)) = field.key_and_value() else { return };
        for value in values {
            let Raw::Bytes(entry) = value else { continue };
            let key = wire::last(entry, 1);
            let shown = match key {
                Some(Raw::Bytes(text)) => String::from_utf8_lossy(text).into_owned(),
                Some(Raw::Varint(number)) => number.to_string(),
                _ => String::new(),
            };
            let is_message = value_field.kind() == Kind::Message;
            let value = wire::last(entry, 2).or(is_message.then_some(Raw::Bytes(&[])));
            self.within(Segment::Key(shown), |this| {
                if let Some(rules) = rules.keys {
                    // An absent key is an empty one.
                    this.rule(key_field, key, rules);
                }
                this.value(value_field, value, rules.values);
            });
        }
    }

    fn list(&mut self, field: Field, values: &[Raw<'_>], rules: FieldRules) {
        let rules = rules.list();
        let elements = if field.is_packed() { unpack(field, values) } else { values.to_vec() };
        if self.rules_apply {
            if let Some(broken) = rules.count.check("items", elements.len()) {
                self.add(Severity::Error, broken);
            }
            if rules.is_unique {
                let mut seen = HashSet::with_capacity(elements.len());
                for (at, element) in elements.iter().enumerate().filter(|(_, element)| !seen.insert(**element)) {
                    let _ = element;
                    self.within(Segment::Index(at), |this| this.add(Severity::Error, "items must be unique"));
                }
            }
        }
        for (at, element) in elements.iter().enumerate() {
            self.within(Segment::Index(at), |this| this.value(field, Some(*element), rules.elements));
        }
    }

    fn value(&mut self, field: Field, raw: Option<Raw<'_>>, rules: FieldRules) {
        if field.kind() != Kind::Message {
            if raw.is_some() || !field.has_presence() {
                self.rule(field, raw, rules);
            }
            return;
        }
        let Some(Raw::Bytes(bytes)) = raw else {
            // Of a oneof only the member that is set is looked at.
            if rules.is_required && self.rules_apply && field.oneof().is_none() {
                self.add(Severity::Error, "is required");
            }
            return;
        };
        let Some(message) = field.message() else { return };
        self.rule(field, raw, rules);
        let before = self.rules_apply;
        self.rules_apply &= !rules.is_skipped;
        self.message(message, bytes);
        self.rules_apply = before;
    }

    fn rule(&mut self, field: Field, raw: Option<Raw<'_>>, rules: FieldRules) {
        if !self.rules_apply {
            return;
        }
        let value = match (field.message(), raw) {
            (Some(message), Some(Raw::Bytes(bytes))) => of_message(message, bytes),
            (Some(_), _) => None,
            (None, raw) => scalar(field, raw),
        };
        let Some(value) = value else { return };
        for broken in self.judge.judge(rules, value) {
            self.add(Severity::Error, broken);
        }
    }
}

/// The oneofs that have a member. Where several members of one stand, as after a merge, the last counts; the others are taken
/// out of the records.
fn set_members(message: Message, records: &mut Vec<(u32, Raw<'_>)>) -> HashSet<u8> {
    let members: Vec<(u32, u8)> = message.fields().filter_map(|field| Some((field.number(), field.oneof()?))).collect();
    if members.is_empty() {
        return HashSet::new();
    }
    let oneof_of = |number: u32| members.iter().find(|member| member.0 == number).map(|member| member.1);
    let mut set = HashSet::new();
    let mut winners = HashSet::new();
    for (number, _) in records.iter().rev() {
        if let Some(oneof) = oneof_of(*number)
            && set.insert(oneof)
        {
            winners.insert(*number);
        }
    }
    records.retain(|record| oneof_of(record.0).is_none() || winners.contains(&record.0));
    set
}

/// What rules judge in a message of a well-known type.
fn of_message<'a>(message: Message, bytes: &'a [u8]) -> Option<Value<'a>> {
    let (seconds, nanos) = wire::seconds_and_nanos(bytes);
    match message.well_known() {
        WellKnown::Duration => Some(Value::Duration(seconds, nanos)),
        WellKnown::Timestamp => Some(Value::Timestamp(seconds, nanos)),
        WellKnown::Wrapper => scalar(message.field_numbered(1)?, wire::last(bytes, 1)),
        WellKnown::Any => std::str::from_utf8(wire::last_bytes(bytes, 1)).ok().map(Value::Any),
        _ => None,
    }
}

/// A value that is no message; absent is the default.
fn scalar<'a>(field: Field, raw: Option<Raw<'a>>) -> Option<Value<'a>> {
    let bits = match raw {
        Some(Raw::Varint(bits) | Raw::Fixed64(bits)) => bits,
        Some(Raw::Fixed32(bits)) => bits.into(),
        _ => 0,
    };
    let bytes = if let Some(Raw::Bytes(bytes)) = raw { bytes } else { &[] };
    let low = wire::low_32(bits);
    Some(match field.kind() {
        Kind::Double => Value::Float(f64::from_bits(bits)),
        Kind::Float => Value::Float(f32::from_bits(low.cast_unsigned()).into()),
        Kind::Int64 | Kind::Sfixed64 => Value::Integer(bits.cast_signed().into()),
        Kind::Int32 | Kind::Sfixed32 => Value::Integer(low.into()),
        Kind::Uint64 | Kind::Fixed64 => Value::Integer(bits.into()),
        Kind::Uint32 | Kind::Fixed32 => Value::Integer(low.cast_unsigned().into()),
        Kind::Sint32 | Kind::Sint64 => Value::Integer(wire::unzigzag(bits).into()),
        Kind::Bool => Value::Bool(bits != 0),
        Kind::String => Value::Text(std::str::from_utf8(bytes).ok()?),
        Kind::Bytes => Value::Bytes(bytes),
        Kind::Enum => {
            let is_defined = field.enumeration().is_none_or(|of| of.by_number(low).is_some());
            Value::Enum { number: low, is_defined }
        }
        Kind::Message => return None,
    })
}

/// The elements of a packed list.
pub(super) fn unpack<'a>(field: Field, values: &[Raw<'a>]) -> Vec<Raw<'a>> {
    let mut elements = Vec::new();
    for value in values {
        let Raw::Bytes(packed) = value else {
            elements.push(*value);
            continue;
        };
        let mut reader = Reader::new(packed);
        loop {
            let element = match field.kind() {
                Kind::Double | Kind::Fixed64 | Kind::Sfixed64 => reader.fixed64().map(Raw::Fixed64),
                Kind::Float | Kind::Fixed32 | Kind::Sfixed32 => reader.fixed32().map(Raw::Fixed32),
                _ => reader.varint().map(Raw::Varint),
            };
            let Some(element) = element else { break };
            elements.push(element);
        }
    }
    elements
}
