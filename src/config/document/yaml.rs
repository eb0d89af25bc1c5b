//! YAML events to a tree, with the scalar rules of yaml-cpp as Envoy drives it.

use std::borrow::Cow;
use std::collections::HashMap;

use saphyr_parser::{Event, Marker, Parser, ScalarStyle};

use super::{DEEPEST, Document, Entry, Format, Id, Node, SyntaxError};
use crate::config::diagnostic::Position;

pub(super) fn parse(text: &str) -> Result<Document<'_>, SyntaxError> {
    let mut builder =
        Builder { document: Document::empty(Format::Yaml), anchors: HashMap::new(), open: Vec::new(), root: None };
    for event in Parser::new_from_str(text) {
        let (event, span) = match event {
            Ok(event) => event,
            Err(error) => return Err(builder.syntax_error(text, position(error.marker()), error.info())),
        };
        // Envoy loads the first document of a stream.
        if matches!(event, Event::DocumentEnd) {
            break;
        }
        builder.take(event, position(&span.start))?;
    }
    let mut document = builder.document;
    document.root = match builder.root {
        Some(root) => root,
        None => document.push(Node::Null, Position { line: 1, column: 1 }),
    };
    Ok(document)
}

#[allow(clippy::cast_possible_truncation, reason = "texts are bounded far below four billion lines")]
fn position(marker: &Marker) -> Position {
    Position { line: marker.line() as u32, column: marker.col() as u32 + 1 }
}

struct Builder<'a> {
    document: Document<'a>,
    /// `None` while the anchored value is still open: an alias within it would be a cycle.
    anchors: HashMap<usize, Option<Id>>,
    open: Vec<Open<'a>>,
    root: Option<Id>,
}

/// A map or list whose end has not come yet.
struct Open<'a> {
    id: Id,
    anchor: usize,
    is_map: bool,
    key: Option<Key<'a>>,
}

struct Key<'a> {
    text: Cow<'a, str>,
    position: Position,
    /// Tagged `!ignore`: Envoy leaves such entries out, as a place for anchors.
    ignored: bool,
}

impl<'a> Builder<'a> {
    fn take(&mut self, event: Event<'a>, position: Position) -> Result<(), SyntaxError> {
        if self.document.is_full() {
            return Err(SyntaxError::new(position, "the configuration is too large"));
        }
        let wants_key = self.open.last().is_some_and(|open| open.is_map && open.key.is_none());
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                if wants_key {
                    let ignored = tag.is_some_and(|tag| tag.handle == "!" && tag.suffix == "ignore");
                    let text = if style == ScalarStyle::Plain && is_null(&text) { "null".into() } else { text };
                    if let Some(open) = self.open.last_mut() {
                        open.key = Some(Key { text, position, ignored });
                    }
                    return Ok(());
                }
                let node = if style == ScalarStyle::Plain { plain(text) } else { Node::Text(text) };
                let id = self.document.push(node, position);
                if anchor != 0 {
                    self.anchors.insert(anchor, Some(id));
                }
                self.close(id, position)
            }
            Event::SequenceStart(anchor, _) => self.start(Node::List(Vec::new()), anchor, false, position),
            Event::MappingStart(anchor, _) => self.start(Node::Map(Vec::new()), anchor, true, position),
            Event::SequenceEnd | Event::MappingEnd => match self.open.pop() {
                Some(open) => {
                    if open.anchor != 0 {
                        self.anchors.insert(open.anchor, Some(open.id));
                    }
                    self.close(open.id, position)
                }
                None => Ok(()),
            },
            Event::Alias(anchor) => match self.anchors.get(&anchor) {
                Some(Some(id)) => self.close(*id, position),
                _ => Err(SyntaxError::new(position, "the alias names an unknown anchor, or one that it is part of")),
            },
            _ => Ok(()),
        }
    }

    fn start(&mut self, node: Node<'a>, anchor: usize, is_map: bool, position: Position) -> Result<(), SyntaxError> {
        if self.open.last().is_some_and(|open| open.is_map && open.key.is_none()) {
            return Err(SyntaxError::new(position, "the keys of a map must be plain values"));
        }
        if self.open.len() > DEEPEST {
            return Err(SyntaxError::new(position, "nested too deeply"));
        }
        let id = self.document.push(node, position);
        if anchor != 0 {
            self.anchors.insert(anchor, None);
        }
        self.open.push(Open { id, anchor, is_map, key: None });
        Ok(())
    }

    /// What the scanner stumbles over lines after a `{` or `[` is most often that its end is missing: then that is the place.
    fn syntax_error(&self, text: &str, at: Position, message: &str) -> SyntaxError {
        let innermost = self.open.last().map(|open| self.document.position(open.id));
        let Some(start) = innermost.filter(|start| start.line < at.line) else {
            return SyntaxError::new(at, message);
        };
        match letter(text, start) {
            Some(bracket @ ('{' | '[')) => {
                let message = format!("the `{bracket}` here is not closed: {message} (line {})", at.line);
                SyntaxError::new(start, message)
            }
            _ => SyntaxError::new(at, message),
        }
    }

    /// A value is complete: hand it to the map or list that it stands in.
    fn close(&mut self, id: Id, position: Position) -> Result<(), SyntaxError> {
        let Some(open) = self.open.last_mut() else {
            self.root = Some(id);
            return Ok(());
        };
        let into = self.document.nodes.get_mut(open.id).map(|node| &mut node.0);
        match into {
            Some(Node::List(ids)) => ids.push(id),
            Some(Node::Map(entries)) => {
                let Some(key) = open.key.take() else {
                    return Err(SyntaxError::new(position, "the keys of a map must be plain values"));
                };
                if !key.ignored {
                    entries.push(Entry { key: key.text, position: key.position, value: id });
                }
            }
            _ => {}
        }
        Ok(())
    }
}

fn letter(text: &str, at: Position) -> Option<char> {
    let line = text.lines().nth((at.line as usize).checked_sub(1)?)?;
    line.chars().nth((at.column as usize).checked_sub(1)?)
}

fn is_null(text: &str) -> bool {
    matches!(text, "" | "~" | "null" | "Null" | "NULL")
}

/// An unquoted scalar.
fn plain(text: Cow<'_, str>) -> Node<'_> {
    if is_null(&text) {
        return Node::Null;
    }
    if let Some(on) = boolean(&text) {
        return Node::Bool(on);
    }
    // Envoy asks for a 64-bit integer first, and hands on as a number what fits 32 bits; the rest stays text.
    match integer(&text) {
        Some(number) if i32::try_from(number).is_ok() => Node::Number(number.to_string().into()),
        Some(number) => Node::Text(number.to_string().into()),
        None => Node::Text(text),
    }
}

/// yaml-cpp's booleans: all lower, all upper, or first upper.
fn boolean(text: &str) -> Option<bool> {
    let (first, rest) = text.as_bytes().split_first()?;
    let rest_lower = rest.iter().all(u8::is_ascii_lowercase);
    let upper = first.is_ascii_uppercase() && rest.iter().all(u8::is_ascii_uppercase);
    if text.len() > 5 || !(upper || rest_lower && first.is_ascii_alphabetic()) {
        return None;
    }
    match text.to_ascii_lowercase().as_str() {
        "y" | "yes" | "true" | "on" => Some(true),
        "n" | "no" | "false" | "off" => Some(false),
        _ => None,
    }
}

/// What a C++ stream reads as a whole 64-bit integer, base found from the prefix.
fn integer(text: &str) -> Option<i64> {
    let (negative, digits) = match text.as_bytes().first()? {
        b'-' => (true, text.get(1..)?),
        b'+' => (false, text.get(1..)?),
        _ => (false, text),
    };
    if !digits.as_bytes().first()?.is_ascii_digit() {
        return None;
    }
    let hex = digits.strip_prefix("0x").or_else(|| digits.strip_prefix("0X"));
    let value = match (hex, digits.strip_prefix('0')) {
        (Some(hex), _) if hex.starts_with(['+', '-']) => return None,
        (Some(hex), _) => i128::from_str_radix(hex, 16).ok()?,
        (None, Some(octal)) if octal.starts_with(['+', '-']) => return None,
        (None, Some(octal)) if !octal.is_empty() => i128::from_str_radix(octal, 8).ok()?,
        _ => digits.parse().ok()?,
    };
    i64::try_from(if negative { -value } else { value }).ok()
}
