//! Lines, text and JSON.

use std::io::Write;

use super::Live;
use super::format::{Body, Format, Json, Part, Show};
use super::value::Value;
use crate::config::model::LogType;

/// Appends a line of a format.
pub(super) fn line(format: &Format, kind: LogType, live: &Live, line: &mut Vec<u8>) {
    match &format.body {
        Body::Text(parts) => text(parts, format.omit_empty, kind, live, line),
        Body::Json(value) => {
            json(value, format.omit_empty, kind, live, line);
            line.push(b'\n');
        }
    }
}

fn text(parts: &[Part], omit_empty: bool, kind: LogType, live: &Live, line: &mut Vec<u8>) {
    for part in parts {
        match part {
            Part::Literal(literal) => line.extend_from_slice(literal.as_bytes()),
            Part::Value(show, most) => match show.of(kind, live) {
                Value::Missing if omit_empty => {}
                Value::Missing => line.push(b'-'),
                Value::Empty => {}
                Value::Text(text) => line.extend_from_slice(cut(&text, *most)),
                Value::Number(number) => line.extend_from_slice(itoa::Buffer::new().format(number).as_bytes()),
                Value::Json(text) => line.extend_from_slice(cut(text.as_bytes(), *most)),
                Value::Quoted(text) => {
                    let mut quoted = Vec::new();
                    string(text.as_bytes(), &mut quoted);
                    line.extend_from_slice(cut(&quoted, *most));
                }
            },
        }
    }
}

fn cut(text: &[u8], most: Option<usize>) -> &[u8] {
    most.and_then(|most| text.get(..most)).unwrap_or(text)
}

/// Appends a value; where nothing is to be shown and nothing stands for that, tells so with `false`.
fn json(value: &Json, omit_empty: bool, kind: LogType, live: &Live, line: &mut Vec<u8>) {
    match value {
        Json::Literal(literal) => line.extend_from_slice(literal.as_bytes()),
        Json::Value(show, most) => {
            if !single(show, *most, kind, live, line) {
                line.extend_from_slice(b"null");
            }
        }
        Json::Text(parts) => {
            let mut whole = Vec::new();
            text(parts, omit_empty, kind, live, &mut whole);
            string(&whole, line);
        }
        Json::List(values) => {
            line.push(b'[');
            let mut first = true;
            for value in values {
                entry(None, value, omit_empty, kind, live, line, &mut first);
            }
            line.push(b']');
        }
        Json::Object(entries) => {
            line.push(b'{');
            let mut first = true;
            for (key, value) in entries {
                entry(Some(key), value, omit_empty, kind, live, line, &mut first);
            }
            line.push(b'}');
        }
    }
}

fn entry(
    key: Option<&str>,
    value: &Json,
    omit_empty: bool,
    kind: LogType,
    live: &Live,
    line: &mut Vec<u8>,
    first: &mut bool,
) {
    let before = line.len();
    if !*first {
        line.push(b',');
    }
    if let Some(key) = key {
        string(key.as_bytes(), line);
        line.push(b':');
    }
    match value {
        Json::Value(show, most) if omit_empty => {
            if !single(show, *most, kind, live, line) {
                line.truncate(before);
                return;
            }
        }
        value => {
            let begin = line.len();
            json(value, omit_empty, kind, live, line);
            // An object in which nothing is left is nothing itself.
            if omit_empty && matches!(value, Json::Object(_)) && line.get(begin..) == Some(b"{}") {
                line.truncate(before);
                return;
            }
        }
    }
    *first = false;
}

/// Appends the value of a single operator; false where it has none.
fn single(show: &Show, most: Option<usize>, kind: LogType, live: &Live, line: &mut Vec<u8>) -> bool {
    match show.of(kind, live) {
        Value::Missing => return false,
        Value::Empty => line.extend_from_slice(b"\"\""),
        Value::Text(text) => string(cut(&text, most), line),
        Value::Number(number) => line.extend_from_slice(itoa::Buffer::new().format(number).as_bytes()),
        Value::Json(text) => line.extend_from_slice(text.as_bytes()),
        Value::Quoted(text) => string(cut(text.as_bytes(), most), line),
    }
    true
}

/// Appends a JSON string. A byte that is not UTF-8 is taken for a letter of Latin-1, as Envoy does, so that the line can be read.
fn string(text: &[u8], line: &mut Vec<u8>) {
    line.push(b'"');
    for chunk in text.utf8_chunks() {
        for letter in chunk.valid().chars() {
            match letter {
                '\n' => line.extend_from_slice(b"\\n"),
                '\r' => line.extend_from_slice(b"\\r"),
                '\t' => line.extend_from_slice(b"\\t"),
                '"' => line.extend_from_slice(b"\\\""),
                '\\' => line.extend_from_slice(b"\\\\"),
                letter if letter < ' ' || letter == '\u{7f}' => {
                    // A vector takes everything.
                    let _ = write!(line, "\\u{:04x}", u32::from(letter));
                }
                letter => line.extend_from_slice(letter.encode_utf8(&mut [0; 4]).as_bytes()),
            }
        }
        for byte in chunk.invalid() {
            let _ = write!(line, "\\u{byte:04x}");
        }
    }
    line.push(b'"');
}
