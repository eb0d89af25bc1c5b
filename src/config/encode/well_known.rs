//! The types with a JSON form of their own: `Any`, `Struct` and its parts, times, field masks.

use super::{Encoder, suggest};
use crate::config::diagnostic::Severity;
use crate::config::document::{Id, Node};
use crate::config::schema::{Message, WellKnown};
use crate::config::wire::{self, kind};

/// Numbers of the fields of `google.protobuf.Value`.
mod value {
    pub(super) const NULL: u32 = 1;
    pub(super) const NUMBER: u32 = 2;
    pub(super) const STRING: u32 = 3;
    pub(super) const BOOL: u32 = 4;
    pub(super) const STRUCT: u32 = 5;
    pub(super) const LIST: u32 = 6;
}

impl Encoder<'_> {
    /// `{"@type": URL, fields...}`; an empty object is an `Any` without a type.
    pub(super) fn any(&mut self, id: Id, out: &mut Vec<u8>) {
        let document = self.document;
        let Node::Map(entries) = document.node(id) else {
            let found = document.node(id).describe();
            return self.fail_at(id, format!("expected an object with \"@type\", found {found}"));
        };
        let Some(entry) = entries.iter().find(|entry| entry.key == "@type") else {
            if !entries.is_empty() {
                self.fail_at(id, "\"@type\" is missing");
            }
            return;
        };
        let Node::Text(url) = document.node(entry.value) else {
            return self.fail_at(entry.value, "\"@type\" must be a string");
        };
        let name = match url.rsplit_once('/') {
            Some((host, name)) if !host.is_empty() => name,
            _ => {
                let text = format!("\"@type\" must look like type.googleapis.com/full.Name, found `{url}`");
                return self.fail_at(entry.value, text);
            }
        };
        let Some(message) = Message::by_name(name) else {
            return self
                .fail_at(entry.value, format!("unknown type `{name}`{}", suggest::among(name, Message::names())));
        };
        if !self.step(id, url.len()) {
            return;
        }
        let mut inner = Vec::new();
        self.deeper(id, 1, |this| match message.well_known() {
            WellKnown::No | WellKnown::Empty => this.fields(id, message, &mut inner, true),
            _ => this.any_of_well_known(id, message, &mut inner),
        });
        wire::put_bytes(out, 1, url.as_bytes());
        if !inner.is_empty() {
            wire::put_bytes(out, 2, &inner);
        }
    }

    /// Types with a JSON form of their own stand under the key `value`.
    fn any_of_well_known(&mut self, id: Id, message: Message, out: &mut Vec<u8>) {
        let document = self.document;
        let Node::Map(entries) = document.node(id) else { return };
        self.duplicates(id, Severity::Warning);
        for entry in entries.iter().filter(|entry| entry.key != "@type") {
            if entry.key == "value" {
                self.message(entry.value, message, out);
            } else {
                self.fail(
                    entry.position,
                    format!("with the type {} only the key `value` may stand here", message.name()),
                );
            }
        }
    }

    pub(super) fn structure(&mut self, id: Id, out: &mut Vec<u8>) {
        let document = self.document;
        let entries = match document.node(id) {
            Node::Map(entries) => entries,
            other => {
                let found = other.describe();
                return self.fail_at(id, format!("expected an object (google.protobuf.Struct), found {found}"));
            }
        };
        self.duplicates_in_map(id);
        // The struct, and the entries of its map.
        self.deeper(id, 2, |this| {
            for entry in entries {
                wire::put_nested(out, 1, |out| {
                    if !entry.key.is_empty() && this.step(id, entry.key.len()) {
                        wire::put_bytes(out, 1, entry.key.as_bytes());
                    }
                    wire::put_nested(out, 2, |out| this.value(entry.value, out));
                });
            }
        });
    }

    pub(super) fn list_value(&mut self, id: Id, out: &mut Vec<u8>) {
        let document = self.document;
        let ids = match document.node(id) {
            Node::List(ids) => ids,
            other => return self.fail_at(id, format!("expected a list, found {}", other.describe())),
        };
        self.deeper(id, 1, |this| {
            for id in ids {
                wire::put_nested(out, 1, |out| this.value(*id, out));
            }
        });
    }

    pub(super) fn value(&mut self, id: Id, out: &mut Vec<u8>) {
        let node = self.document.node(id);
        let length = if let Node::Text(text) = node { text.len() } else { 0 };
        if !self.step(id, length) {
            return;
        }
        match node {
            Node::Null => {
                wire::put_tag(out, value::NULL, kind::VARINT);
                out.push(0);
            }
            Node::Number(number) => {
                wire::put_tag(out, value::NUMBER, kind::FIXED64);
                out.extend(number.parse::<f64>().unwrap_or_default().to_le_bytes());
            }
            Node::Text(text) => wire::put_bytes(out, value::STRING, text.as_bytes()),
            Node::Bool(on) => {
                wire::put_tag(out, value::BOOL, kind::VARINT);
                out.push(u8::from(*on));
            }
            Node::Map(_) => self.deeper(id, 1, |this| {
                wire::put_nested(out, value::STRUCT, |out| this.structure(id, out));
            }),
            Node::List(_) => self.deeper(id, 1, |this| {
                wire::put_nested(out, value::LIST, |out| this.list_value(id, out));
            }),
        }
    }

    pub(super) fn time(&mut self, id: Id, out: &mut Vec<u8>, parse: fn(&str) -> Result<(i64, i32), &'static str>) {
        match self.document.node(id) {
            Node::Text(text) => match parse(text) {
                Ok((seconds, nanos)) => {
                    for (number, part) in [(1, seconds), (2, i64::from(nanos))] {
                        if part != 0 {
                            wire::put_tag(out, number, kind::VARINT);
                            wire::put_varint(out, part.cast_unsigned());
                        }
                    }
                }
                Err(message) => self.fail_at(id, format!("`{text}`: {message}")),
            },
            Node::Number(number) => self.fail_at(id, format!("a duration needs its unit: write {number}s")),
            other => self.fail_at(id, format!("expected a duration such as 0.25s, found {}", other.describe())),
        }
    }

    /// `"fooBar,baz"`: paths in camel case, joined by commas.
    pub(super) fn field_mask(&mut self, id: Id, out: &mut Vec<u8>) {
        let Node::Text(text) = self.document.node(id) else {
            let found = self.document.node(id).describe();
            return self.fail_at(id, format!("expected a field mask string, found {found}"));
        };
        if !self.step(id, text.len() * 2) {
            return;
        }
        for path in text.split(',').filter(|path| !path.is_empty()) {
            let mut snake = String::with_capacity(path.len() + 4);
            for letter in path.chars() {
                if letter.is_ascii_uppercase() {
                    snake.push('_');
                }
                snake.push(letter.to_ascii_lowercase());
            }
            wire::put_bytes(out, 1, snake.as_bytes());
        }
    }
}
