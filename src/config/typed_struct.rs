//! `TypedStruct`: a message of a named type, written as a `Struct`.
//!
//! The `Struct` becomes a document again and is encoded with the schema of the type that it names.

use super::diagnostic::{Diagnostic, Position, Severity};
use super::document::{Document, Entry, Id, Node};
use super::encode::encode;
use super::schema::Message;
use super::wire::{self, Raw, Reader};

const DEEPEST: u32 = 100;

/// The bytes of the message that an encoded `TypedStruct` stands for, and what is wrong with it.
pub(super) fn resolve(bytes: &[u8], message: Message, unknown_fields: Severity) -> (Vec<u8>, Vec<Diagnostic>) {
    let mut document = Document::synthetic();
    document.root = structure(wire::last_bytes(bytes, 2), &mut document, 0);
    let encoded = encode(&document, message, unknown_fields);
    (encoded.wire, encoded.findings.into_vec())
}

/// An encoded `google.protobuf.Struct` as JSON.
pub(super) fn to_json(bytes: &[u8]) -> serde_json::Value {
    let mut document = Document::synthetic();
    let root = structure(bytes, &mut document, 0);
    json(&document, root)
}

fn json(document: &Document<'_>, id: Id) -> serde_json::Value {
    match document.node(id) {
        Node::Null => serde_json::Value::Null,
        Node::Bool(on) => (*on).into(),
        Node::Number(number) => serde_json::from_str(number).unwrap_or_default(),
        Node::Text(text) => text.to_string().into(),
        Node::List(ids) => ids.iter().map(|id| json(document, *id)).collect(),
        Node::Map(entries) => {
            let entries = entries.iter().map(|entry| (entry.key.to_string(), json(document, entry.value)));
            serde_json::Value::Object(entries.collect())
        }
    }
}

fn structure<'a>(bytes: &'a [u8], document: &mut Document<'a>, depth: u32) -> Id {
    let mut entries = Vec::new();
    for record in Reader::new(bytes) {
        let (_, Raw::Bytes(entry)) = record else { continue };
        let key = String::from_utf8_lossy(wire::last_bytes(entry, 1));
        let value = value(wire::last_bytes(entry, 2), document, depth + 1);
        entries.push(Entry { key, position: Position::default(), value });
    }
    document.push(Node::Map(entries), Position::default())
}

fn value<'a>(bytes: &'a [u8], document: &mut Document<'a>, depth: u32) -> Id {
    let record = if depth > DEEPEST { None } else { Reader::new(bytes).last() };
    let node = match record {
        Some((2, Raw::Fixed64(bits))) => Node::Number(number(f64::from_bits(bits)).into()),
        Some((3, Raw::Bytes(text))) => Node::Text(String::from_utf8_lossy(text)),
        Some((4, Raw::Varint(on))) => Node::Bool(on != 0),
        Some((5, Raw::Bytes(inner))) => return structure(inner, document, depth),
        Some((6, Raw::Bytes(list))) => {
            let elements = Reader::new(list).filter_map(|record| match record.1 {
                Raw::Bytes(element) => Some(value(element, document, depth + 1)),
                _ => None,
            });
            Node::List(elements.collect())
        }
        _ => Node::Null,
    };
    document.push(node, Position::default())
}

/// A double as JSON writes it: whole numbers without a point.
pub(super) fn number(value: f64) -> String {
    if value.fract() == 0.0 && value.abs() < 1e15 { format!("{value:.0}") } else { format!("{value:?}") }
}
