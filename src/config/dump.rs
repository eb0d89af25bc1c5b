//! An encoded message as JSON, the way Envoy's `config_dump` shows it: proto field names, every `Any` opened, secrets redacted.
//!
//! It reads wire bytes through the schema table, so that what a typed message would have dropped is shown too. The admin
//! endpoint calls it; nothing is kept.

mod scalar;

use super::check::unpack;
use super::schema::{Field, Kind, Message, WellKnown};
use super::wire::{self, Raw, Reader};

/// Messages within messages.
const DEEPEST: u32 = 200;

/// How it is written.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// One field per line, indented by one space.
    pub pretty: bool,
    /// Fields that the API marks as sensitive read `[redacted]`.
    pub redact: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self { pretty: true, redact: true }
    }
}

/// A bootstrap (`Loaded::wire`) as JSON.
pub fn bootstrap(wire: &[u8], options: Options) -> String {
    message("envoy.config.bootstrap.v3.Bootstrap", wire, options)
}

/// A message of the named type as JSON; `null` when the type is not known.
pub fn message(type_name: &str, wire: &[u8], options: Options) -> String {
    let mut writer = Writer { out: String::with_capacity(wire.len() * 4), options, level: 0, depth: 0 };
    match Message::by_name(type_name) {
        Some(message) => writer.message(message, wire, false),
        None => writer.out.push_str("null"),
    }
    writer.out
}

struct Writer {
    out: String,
    options: Options,
    level: usize,
    depth: u32,
}

impl Writer {
    fn new_line(&mut self) {
        if self.options.pretty {
            self.out.push('\n');
            self.out.extend(std::iter::repeat_n(' ', self.level));
        }
    }

    /// Writes an object or list; `fill` is given whether each item is the first.
    fn group(&mut self, brackets: [char; 2], fill: impl FnOnce(&mut Self, &mut bool)) {
        self.out.push(brackets[0]);
        self.level += 1;
        let mut first = true;
        fill(self, &mut first);
        self.level -= 1;
        if !first {
            self.new_line();
        }
        self.out.push(brackets[1]);
    }

    fn item(&mut self, first: &mut bool) {
        if !std::mem::replace(first, false) {
            self.out.push(',');
        }
        self.new_line();
    }

    fn key(&mut self, first: &mut bool, key: &str) {
        self.item(first);
        scalar::quote(&mut self.out, key);
        self.out.push_str(if self.options.pretty { ": " } else { ":" });
    }

    fn message(&mut self, message: Message, bytes: &[u8], redacted: bool) {
        if self.depth >= DEEPEST {
            self.out.push_str("null");
            return;
        }
        self.depth += 1;
        match message.well_known() {
            WellKnown::Any => self.any(bytes, redacted),
            WellKnown::Duration => scalar::duration(&mut self.out, wire::seconds_and_nanos(bytes)),
            WellKnown::Timestamp => scalar::timestamp(&mut self.out, wire::seconds_and_nanos(bytes)),
            WellKnown::Struct => self.structure(bytes),
            WellKnown::Value => self.value(bytes),
            WellKnown::List => self.list_value(bytes),
            WellKnown::Wrapper => {
                if let Some(field) = message.field_numbered(1) {
                    scalar::write(&mut self.out, field, wire::last(bytes, 1), redacted);
                }
            }
            WellKnown::FieldMask => {
                let paths = Reader::new(bytes).filter_map(|record| match record.1 {
                    Raw::Bytes(path) => Some(String::from_utf8_lossy(path)),
                    _ => None,
                });
                let paths: Vec<_> = paths.collect();
                scalar::quote(&mut self.out, &paths.join(","));
            }
            WellKnown::No | WellKnown::Empty => {
                self.group(['{', '}'], |this, first| this.fields(message, bytes, first, redacted));
            }
        }
        self.depth -= 1;
    }

    fn fields(&mut self, message: Message, bytes: &[u8], first: &mut bool, redacted: bool) {
        for field in message.fields() {
            let records = Reader::new(bytes).filter(|record| record.0 == field.number());
            let values: Vec<Raw<'_>> = records.map(|record| record.1).collect();
            if values.is_empty() {
                continue;
            }
            let redacted = redacted || self.options.redact && field.is_sensitive();
            self.key(first, field.name());
            if field.is_map() {
                self.map(field, &values, redacted);
            } else if field.is_repeated() {
                let elements = if field.is_packed() { unpack(field, &values) } else { values };
                self.group(['[', ']'], |this, first| {
                    for element in elements {
                        this.item(first);
                        this.single(field, Some(element), redacted);
                    }
                });
            } else if field.kind() == Kind::Message && values.len() > 1 {
                let parts =
                    values.iter().filter_map(|value| if let Raw::Bytes(part) = value { Some(*part) } else { None });
                let merged: Vec<u8> = parts.flatten().copied().collect();
                self.single(field, Some(Raw::Bytes(&merged)), redacted);
            } else {
                self.single(field, values.last().copied(), redacted);
            }
        }
    }

    fn map(&mut self, field: Field, values: &[Raw<'_>], redacted: bool) {
        let entries = field.key_and_value();
        self.group(['{', '}'], |this, first| {
            let Some((key_field, value_field)) = entries else { return };
            for value in values {
                let Raw::Bytes(entry) = value else { continue };
                this.key(first, &scalar::map_key(key_field, wire::last(entry, 1)));
                this.single(value_field, wire::last(entry, 2), redacted);
            }
        });
    }

    fn single(&mut self, field: Field, value: Option<Raw<'_>>, redacted: bool) {
        match (field.message(), value) {
            (Some(message), Some(Raw::Bytes(bytes))) => self.message(message, bytes, redacted),
            (Some(message), _) => self.message(message, &[], redacted),
            (None, value) => scalar::write(&mut self.out, field, value, redacted),
        }
    }

    fn any(&mut self, bytes: &[u8], redacted: bool) {
        let url = String::from_utf8_lossy(wire::last_bytes(bytes, 1));
        let inner = wire::last_bytes(bytes, 2);
        self.group(['{', '}'], |this, first| {
            if !url.is_empty() {
                this.key(first, "@type");
                scalar::quote(&mut this.out, &url);
            }
            match Message::by_url(&url) {
                Some(message) if matches!(message.well_known(), WellKnown::No | WellKnown::Empty) => {
                    this.fields(message, inner, first, redacted);
                }
                Some(message) => {
                    this.key(first, "value");
                    this.message(message, inner, redacted);
                }
                None if inner.is_empty() => {}
                None => {
                    this.key(first, "value");
                    scalar::base64(&mut this.out, inner);
                }
            }
        });
    }

    fn structure(&mut self, bytes: &[u8]) {
        self.group(['{', '}'], |this, first| {
            for record in Reader::new(bytes) {
                let (_, Raw::Bytes(entry)) = record else { continue };
                this.key(first, &String::from_utf8_lossy(wire::last_bytes(entry, 1)));
                this.value(wire::last_bytes(entry, 2));
            }
        });
    }

    fn list_value(&mut self, bytes: &[u8]) {
        self.group(['[', ']'], |this, first| {
            for record in Reader::new(bytes) {
                if let (_, Raw::Bytes(element)) = record {
                    this.item(first);
                    this.value(element);
                }
            }
        });
    }

    fn value(&mut self, bytes: &[u8]) {
        let value = if self.depth >= DEEPEST { None } else { Reader::new(bytes).last() };
        self.depth += 1;
        match value {
            Some((2, Raw::Fixed64(bits))) => scalar::double(&mut self.out, f64::from_bits(bits)),
            Some((3, Raw::Bytes(text))) => scalar::quote(&mut self.out, &String::from_utf8_lossy(text)),
            Some((4, Raw::Varint(on))) => self.out.push_str(if on != 0 { "true" } else { "false" }),
            Some((5, Raw::Bytes(inner))) => self.structure(inner),
            Some((6, Raw::Bytes(list))) => self.list_value(list),
            _ => self.out.push_str("null"),
        }
        self.depth -= 1;
    }
}

#[cfg(test)]
mod tests;
