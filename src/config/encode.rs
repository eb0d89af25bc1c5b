//! A document as protobuf wire bytes, read with the leniencies of Google's JSON reader as Envoy drives it.
//!
//! Every fault is reported and the rest is read on; what is faulty is left out of the bytes. Bounded in depth, in steps and in
//! bytes, because a text of ten lines can, through aliases, stand for gigabytes.

mod scalar;
mod suggest;
mod time;
mod well_known;

pub(in crate::config) use scalar::from_base64;

use super::diagnostic::{Diagnostic, Findings, Path, Position, Segment, Severity};
use super::document::{Document, Entry, Format, Id, Node};
use super::schema::{Field, Kind, Message, WellKnown};
use super::wire;

/// Messages within messages; prost reads no deeper either.
const DEEPEST: u32 = 100;
/// Values visited, with every alias counted each time: so many of any text, and so many times what the text holds.
const FREE_STEPS: usize = 100_000;
const MOST_EXPANSION: usize = 20;
/// Bytes of strings written, with every alias counted each time.
const MOST_BYTES: usize = 64 << 20;

/// What became of a document.
pub(super) struct Encoded {
    /// The message without its faulty parts.
    pub(super) wire: Vec<u8>,
    /// A bound was reached: the rest was not looked at.
    pub(super) is_partial: bool,
    pub(super) findings: Findings,
}

/// Encodes a document as a message of type `message`.
pub(super) fn encode(document: &Document<'_>, message: Message, unknown_fields: Severity) -> Encoded {
    let mut encoder = Encoder {
        document,
        unknown_fields,
        path: Path::default(),
        findings: Findings::default(),
        depth: 0,
        steps_left: FREE_STEPS.saturating_add(document.len().saturating_mul(MOST_EXPANSION)),
        bytes_left: MOST_BYTES,
        exhausted: false,
    };
    let mut wire = Vec::new();
    encoder.message(document.root, message, &mut wire);
    Encoded { wire, is_partial: encoder.exhausted, findings: encoder.findings }
}

struct Encoder<'d> {
    document: &'d Document<'d>,
    unknown_fields: Severity,
    path: Path,
    findings: Findings,
    depth: u32,
    steps_left: usize,
    bytes_left: usize,
    exhausted: bool,
}

impl Encoder<'_> {
    fn fail(&mut self, position: Position, message: impl Into<String>) {
        self.findings.error(&self.path, position, message);
    }

    fn fail_at(&mut self, id: Id, message: impl Into<String>) {
        self.fail(self.document.position(id), message);
    }

    fn within<T>(&mut self, segment: Segment, work: impl FnOnce(&mut Self) -> T) -> T {
        self.path.0.push(segment);
        let result = work(self);
        self.path.0.pop();
        result
    }

    /// Counts one value; false when the budget is spent, which is reported once.
    fn step(&mut self, id: Id, bytes: usize) -> bool {
        let left = self.steps_left.checked_sub(1).zip(self.bytes_left.checked_sub(bytes));
        if let Some((steps, bytes)) = left {
            (self.steps_left, self.bytes_left) = (steps, bytes);
        } else if !self.exhausted {
            self.fail_at(id, "the configuration is too large once its aliases are expanded");
        }
        self.exhausted |= left.is_none() || self.findings.is_overflowing();
        !self.exhausted
    }

    /// Runs `work` some levels deeper, unless that is too deep.
    fn deeper(&mut self, id: Id, levels: u32, work: impl FnOnce(&mut Self)) {
        if self.depth + levels > DEEPEST {
            return self.fail_at(id, "nested too deeply");
        }
        self.depth += levels;
        work(self);
        self.depth -= levels;
    }

    fn message(&mut self, id: Id, message: Message, out: &mut Vec<u8>) {
        if self.step(id, 0) {
            self.deeper(id, 1, |this| this.message_body(id, message, out));
        }
    }

    fn message_body(&mut self, id: Id, message: Message, out: &mut Vec<u8>) {
        let node = self.document.node(id);
        match (message.well_known(), node) {
            (WellKnown::Any, _) => self.any(id, out),
            (WellKnown::Value, _) => self.value(id, out),
            (WellKnown::Struct, _) => self.structure(id, out),
            // `{seconds: 1}` for a duration and `{value: 5}` for a wrapper are taken, as they were in old files.
            (_, Node::Map(_)) => self.fields(id, message, out, false),
            (WellKnown::List, _) => self.list_value(id, out),
            (WellKnown::Wrapper, _) => {
                if let Some(field) = message.field_numbered(1) {
                    self.singular(field, id, out, false);
                }
            }
            (WellKnown::Duration, _) => self.time(id, out, time::duration),
            (WellKnown::Timestamp, _) => self.time(id, out, time::timestamp),
            (WellKnown::FieldMask, _) => self.field_mask(id, out),
            (WellKnown::No | WellKnown::Empty, _) => {
                let message = format!("expected an object ({}), found {}", message.name(), node.describe());
                self.fail_at(id, message);
            }
        }
    }

    fn fields(&mut self, id: Id, message: Message, out: &mut Vec<u8>, in_any: bool) {
        let document = self.document;
        let Node::Map(entries) = document.node(id) else { return };
        self.duplicates(id, Severity::Warning);
        let mut set: Vec<(Field, Id)> = Vec::with_capacity(entries.len());
        for entry in entries {
            // The type of an `Any` stands among the fields of what it holds.
            if in_any && entry.key == "@type" {
                continue;
            }
            if !self.step(entry.value, 0) {
                return;
            }
            match message.field_named(&entry.key) {
                Some(field) if self.conflicts(field, entry, message, &set) => {}
                Some(field) => set.push((field, entry.value)),
                None => self.unknown_field(entry, message),
            }
        }
        // In the order of the numbers, stable for a field that stands under both of its names.
        set.sort_by_key(|(field, _)| field.number());
        for (field, id) in set {
            self.within(Segment::Field(field.name()), |this| this.field(field, id, out));
        }
    }

    fn unknown_field(&mut self, entry: &Entry<'_>, message: Message) {
        let names = message.fields().map(Field::name);
        let text = format!("unknown field in {}{}", message.name(), suggest::among(&entry.key, names));
        let mut path = self.path.clone();
        path.0.push(Segment::Key(entry.key.to_string()));
        self.findings.add(Diagnostic::new(self.unknown_fields, path, text).at(entry.position));
    }

    /// Is another member of the same oneof set already?
    fn conflicts(&mut self, field: Field, entry: &Entry<'_>, message: Message, set: &[(Field, Id)]) -> bool {
        let is_null = |id: Id| matches!(self.document.node(id), Node::Null);
        let Some(oneof) = field.oneof().filter(|_| !is_null(entry.value)) else { return false };
        let other = set.iter().find(|(other, id)| other.oneof() == Some(oneof) && !is_null(*id));
        let Some((other, _)) = other else { return false };
        let name = message.oneofs().find(|one| one.index == oneof).map_or("", |one| one.name);
        let text = format!("conflicts with {}: only one of the oneof {name} may be set", other.name());
        self.within(Segment::Field(field.name()), |this| this.fail(entry.position, text));
        true
    }

    fn field(&mut self, field: Field, id: Id, out: &mut Vec<u8>) {
        if field.is_map() {
            self.map(field, id, out);
        } else if !field.is_repeated() {
            self.singular(field, id, out, false);
        } else if matches!(self.document.node(id), Node::Null) {
            // Null leaves a list empty.
        } else if field.is_packed() {
            let mut packed = Vec::new();
            self.elements(field, id, &mut packed, &mut 0);
            if !packed.is_empty() {
                wire::put_bytes(out, field.number(), &packed);
            }
        } else {
            self.elements(field, id, out, &mut 0);
        }
    }

    fn map(&mut self, field: Field, id: Id, out: &mut Vec<u8>) {
        let entries = match self.document.node(id) {
            Node::Null => return,
            Node::Map(entries) => entries,
            other => return self.fail_at(id, format!("expected an object (map), found {}", other.describe())),
        };
        let Some((key_field, value_field)) = field.key_and_value() else { return };
        self.duplicates_in_map(id);
        self.deeper(id, 1, |this| {
            for entry in entries {
                this.within(Segment::Key(entry.key.to_string()), |this| {
                    wire::put_nested(out, field.number(), |out| {
                        this.map_key(key_field, entry, out);
                        this.singular(value_field, entry.value, out, false);
                    });
                });
            }
        });
    }

    /// Keys that stand twice in this map. Envoy takes the last, which is hardly ever what was meant.
    fn duplicates(&mut self, id: Id, severity: Severity) {
        for duplicate in self.document.duplicates_in(id) {
            let mut path = self.path.clone();
            path.0.push(Segment::Key(duplicate.key.clone()));
            let message = match severity {
                Severity::Warning => {
                    format!("duplicate key, first on line {}: the last value counts", duplicate.first.line)
                }
                Severity::Error => format!("duplicate key, first on line {}", duplicate.first.line),
            };
            self.findings.add(Diagnostic::new(severity, path, message).at(duplicate.position));
        }
    }

    /// Google's JSON reader refuses a key that stands twice in a proto map; of YAML it never sees the first.
    fn duplicates_in_map(&mut self, id: Id) {
        let is_json = self.document.format == Format::Json;
        self.duplicates(id, if is_json { Severity::Error } else { Severity::Warning });
    }

    /// The elements of a list: nested lists are flattened, a lone value is a list of one, null is a default element.
    fn elements(&mut self, field: Field, id: Id, out: &mut Vec<u8>, index: &mut usize) {
        let Node::List(ids) = self.document.node(id) else {
            return self.element(field, id, out, index);
        };
        let well_known = field.message().map_or(WellKnown::No, Message::well_known);
        for id in ids {
            let is_list = matches!(self.document.node(*id), Node::List(_));
            if is_list && !matches!(well_known, WellKnown::Value | WellKnown::List) {
                if !self.step(*id, 0) {
                    return;
                }
                self.deeper(*id, 1, |this| this.elements(field, *id, out, index));
            } else {
                self.element(field, *id, out, index);
            }
        }
    }

    fn element(&mut self, field: Field, id: Id, out: &mut Vec<u8>, index: &mut usize) {
        let takes_null = field.message().is_some_and(|message| message.well_known() == WellKnown::Value);
        let is_null = matches!(self.document.node(id), Node::Null) && !takes_null;
        self.within(Segment::Index(*index), |this| {
            if is_null { this.default_element(field, id, out) } else { this.singular(field, id, out, true) }
        });
        *index += 1;
    }

    fn default_element(&mut self, field: Field, id: Id, out: &mut Vec<u8>) {
        if !self.step(id, 0) {
            return;
        }
        match field.kind() {
            Kind::Message | Kind::String | Kind::Bytes => wire::put_bytes(out, field.number(), b""),
            Kind::Float | Kind::Fixed32 | Kind::Sfixed32 => out.extend([0; 4]),
            Kind::Double | Kind::Fixed64 | Kind::Sfixed64 => out.extend([0; 8]),
            _ => out.push(0),
        }
    }

    /// One value of a field; of a packed list's element only the payload is written.
    fn singular(&mut self, field: Field, id: Id, out: &mut Vec<u8>, is_element: bool) {
        if field.kind() != Kind::Message {
            return self.scalar(field, id, out, is_element);
        }
        let Some(message) = field.message() else {
            return self.fail_at(id, "the type of this field is not known to this build");
        };
        if matches!(self.document.node(id), Node::Null) && message.well_known() != WellKnown::Value {
            return;
        }
        wire::put_nested(out, field.number(), |out| self.message(id, message, out));
    }
}
