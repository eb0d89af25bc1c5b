//! Numbers, strings, booleans and enums of a document.

use super::{Encoder, suggest};
use crate::config::diagnostic::Position;
use crate::config::document::{Entry, Id, Node};
use crate::config::schema::{Enum, Field, Kind};
use crate::config::wire::{self, kind};

/// How a value is written: with its tag, or bare as an element of a packed list; and is zero written at all?
#[derive(Clone, Copy)]
struct Shape {
    number: u32,
    bare: bool,
    keeps_zero: bool,
}

impl Shape {
    fn tag(self, out: &mut Vec<u8>, kind: u8) {
        if !self.bare {
            wire::put_tag(out, self.number, kind);
        }
    }
}

impl Encoder<'_> {
    pub(super) fn scalar(&mut self, field: Field, id: Id, out: &mut Vec<u8>, is_element: bool) {
        let node = self.document.node(id);
        let length = if let Node::Text(text) = node { text.len() } else { 0 };
        if !self.step(id, length) || matches!(node, Node::Null) {
            return;
        }
        let shape = Shape {
            number: field.number(),
            bare: is_element && field.is_packed(),
            keeps_zero: is_element || field.has_presence(),
        };
        let position = self.document.position(id);
        match field.kind() {
            Kind::String => match string(node) {
                Ok(text) => put_bytes(out, shape, text.as_bytes()),
                Err(message) => self.fail(position, message),
            },
            Kind::Bytes => match base64(node) {
                Ok(bytes) => put_bytes(out, shape, &bytes),
                Err(message) => self.fail(position, message),
            },
            Kind::Bool => match boolean(node) {
                Some(on) if on || shape.keeps_zero => {
                    shape.tag(out, kind::VARINT);
                    out.push(u8::from(on));
                }
                Some(_) => {}
                None => self.fail(position, format!("expected true or false, found {}", node.describe())),
            },
            Kind::Double | Kind::Float => self.float(field.kind(), node, position, shape, out),
            Kind::Enum => match field.enumeration() {
                Some(of) => self.enumeration(of, node, position, shape, out),
                None => self.fail(position, "the type of this field is not known to this build"),
            },
            _ => match integer(node) {
                Ok(number) => self.integer(field.kind(), number, position, shape, out),
                Err(message) => self.fail(position, message),
            },
        }
    }

    /// The key of a map's entry, as field 1 of the entry.
    pub(super) fn map_key(&mut self, field: Field, entry: &Entry<'_>, out: &mut Vec<u8>) {
        let shape = Shape { number: field.number(), bare: false, keeps_zero: false };
        match field.kind() {
            Kind::String => {
                if self.step(entry.value, entry.key.len()) {
                    put_bytes(out, shape, entry.key.as_bytes());
                }
            }
            Kind::Bool => match &*entry.key {
                "true" => {
                    shape.tag(out, kind::VARINT);
                    out.push(1);
                }
                "false" => {}
                _ => self.fail(entry.position, "expected a boolean map key"),
            },
            of => match entry.key.parse() {
                Ok(number) => self.integer(of, number, entry.position, shape, out),
                Err(_) => self.fail(entry.position, "expected an integer map key"),
            },
        }
    }

    fn float(&mut self, of: Kind, node: &Node<'_>, position: Position, shape: Shape, out: &mut Vec<u8>) {
        let Some(number) = float(node) else {
            return self.fail(position, format!("expected a number, found {}", node.describe()));
        };
        #[allow(clippy::cast_possible_truncation, reason = "the field is a float")]
        let narrow = number as f32;
        if of == Kind::Float && number.is_finite() && !narrow.is_finite() {
            self.fail(position, format!("{number} is out of range for a float"));
        } else if number == 0.0 && !shape.keeps_zero {
            // Zero is what an absent number is.
        } else if of == Kind::Float {
            shape.tag(out, kind::FIXED32);
            out.extend(narrow.to_le_bytes());
        } else {
            shape.tag(out, kind::FIXED64);
            out.extend(number.to_le_bytes());
        }
    }

    fn enumeration(&mut self, of: Enum, node: &Node<'_>, position: Position, shape: Shape, out: &mut Vec<u8>) {
        let number = match node {
            Node::Text(text) => of.by_name(text).or_else(|| text.parse().ok()),
            Node::Number(text) => whole(text).ok().and_then(|number| i32::try_from(number).ok()),
            _ => None,
        };
        match number {
            Some(0) if !shape.keeps_zero => {}
            Some(number) => {
                shape.tag(out, kind::VARINT);
                wire::put_varint(out, i64::from(number).cast_unsigned());
            }
            None => self.fail(position, not_in(of, node)),
        }
    }

    fn integer(&mut self, of: Kind, number: i128, position: Position, shape: Shape, out: &mut Vec<u8>) {
        let (low, high) = match of {
            Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => (i128::from(i32::MIN), i128::from(i32::MAX)),
            Kind::Uint32 | Kind::Fixed32 => (0, i128::from(u32::MAX)),
            Kind::Uint64 | Kind::Fixed64 => (0, i128::from(u64::MAX)),
            _ => (i128::from(i64::MIN), i128::from(i64::MAX)),
        };
        if !(low..=high).contains(&number) {
            return self.fail(position, format!("{number} is out of range ({low} to {high})"));
        }
        if number == 0 && !shape.keeps_zero {
            return;
        }
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the range was checked")]
        match of {
            Kind::Fixed32 | Kind::Sfixed32 => {
                shape.tag(out, kind::FIXED32);
                out.extend((number as u32).to_le_bytes());
            }
            Kind::Fixed64 | Kind::Sfixed64 => {
                shape.tag(out, kind::FIXED64);
                out.extend((number as u64).to_le_bytes());
            }
            Kind::Sint32 | Kind::Sint64 => {
                shape.tag(out, kind::VARINT);
                wire::put_varint(out, wire::zigzag(number as i64));
            }
            _ => {
                shape.tag(out, kind::VARINT);
                wire::put_varint(out, number as u64);
            }
        }
    }
}

fn put_bytes(out: &mut Vec<u8>, shape: Shape, bytes: &[u8]) {
    if shape.keeps_zero || !bytes.is_empty() {
        wire::put_bytes(out, shape.number, bytes);
    }
}

fn string<'n>(node: &'n Node<'_>) -> Result<&'n str, String> {
    match node {
        Node::Text(text) => Ok(text),
        Node::Bool(_) | Node::Number(_) => {
            Err(format!("expected a string, found {} (put it in quotes)", node.describe()))
        }
        _ => Err(format!("expected a string, found {}", node.describe())),
    }
}

fn boolean(node: &Node<'_>) -> Option<bool> {
    match node {
        Node::Bool(on) => Some(*on),
        Node::Text(text) => match text.to_ascii_lowercase().as_str() {
            "true" | "t" | "yes" | "y" | "1" => Some(true),
            "false" | "f" | "no" | "n" | "0" => Some(false),
            _ => None,
        },
        _ => None,
    }
}

fn float(node: &Node<'_>) -> Option<f64> {
    match node {
        Node::Number(text) => text.parse().ok(),
        Node::Text(text) => match &**text {
            "NaN" => Some(f64::NAN),
            "Infinity" => Some(f64::INFINITY),
            "-Infinity" => Some(f64::NEG_INFINITY),
            text => text.parse::<f64>().ok().filter(|number| number.is_finite()),
        },
        _ => None,
    }
}

fn integer(node: &Node<'_>) -> Result<i128, String> {
    match node {
        Node::Number(text) | Node::Text(text) => whole(text),
        other => Err(format!("expected an integer, found {}", other.describe())),
    }
}

/// A whole number, also one written as `1024.0` or `1e3`.
fn whole(text: &str) -> Result<i128, String> {
    if let Ok(number) = text.parse::<i128>() {
        return Ok(number);
    }
    let has_digit = text.bytes().any(|byte| byte.is_ascii_digit());
    let number = text.parse::<f64>().ok().filter(|number| number.is_finite() && has_digit);
    let number = number.ok_or_else(|| format!("expected an integer, found `{text}`"))?;
    if number.fract() != 0.0 {
        return Err(format!("expected an integer, found {text}"));
    }
    // Beyond 2^54 a double has lost digits.
    if number.abs() > 1.8e16 {
        return Err(format!("{text} is out of range"));
    }
    #[allow(clippy::cast_possible_truncation, reason = "it is whole and small enough")]
    Ok(number as i128)
}

fn not_in(of: Enum, node: &Node<'_>) -> String {
    let names: Vec<&str> = of.values().map(|value| value.name).collect();
    let (shown, hint) = match node {
        Node::Text(text) => (format!("`{text}`"), suggest::among(text, names.iter().copied())),
        other => (other.describe().to_owned(), String::new()),
    };
    let all = if names.len() <= 12 { format!("; expected one of {}", names.join(", ")) } else { String::new() };
    format!("{shown} is not a value of {}{hint}{all}", of.name())
}

fn base64(node: &Node<'_>) -> Result<Vec<u8>, String> {
    let Node::Text(text) = node else {
        return Err(format!("expected a base64 string, found {}", node.describe()));
    };
    from_base64(text)
}

/// What a text in base64 stands for: standard and URL-safe alphabets, padding optional.
pub(in crate::config) fn from_base64(text: &str) -> Result<Vec<u8>, String> {
    let digits = text.trim_end_matches('=');
    if text.len() - digits.len() > 2 || digits.len() % 4 == 1 {
        return Err("not base64".to_owned());
    }
    let mut bytes = Vec::with_capacity(digits.len() * 3 / 4);
    let (mut buffer, mut bits) = (0u32, 0);
    for digit in digits.bytes() {
        let value = match digit {
            b'A'..=b'Z' => digit - b'A',
            b'a'..=b'z' => digit - b'a' + 26,
            b'0'..=b'9' => digit - b'0' + 52,
            b'+' | b'-' => 62,
            b'/' | b'_' => 63,
            _ => return Err("not base64".to_owned()),
        };
        buffer = buffer << 6 | u32::from(value);
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            bytes.push((buffer >> bits & 0xff) as u8);
            buffer &= (1 << bits) - 1;
        }
    }
    Ok(bytes)
}
