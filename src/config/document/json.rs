//! JSON as Google's lenient reader takes it: bare keys, single quotes and trailing commas are fine, comments are not.

use std::borrow::Cow;

use super::{DEEPEST, Document, Entry, Format, Id, Node, SyntaxError};
use crate::config::diagnostic::Position;

pub(super) fn parse(text: &str) -> Result<Document<'_>, SyntaxError> {
    let mut parser = Parser { text, at: 0, line: 1, line_start: 0, document: Document::empty(Format::Json) };
    let root = parser.value(0)?;
    parser.skip_space();
    if parser.at != text.len() {
        return Err(parser.error("extraneous characters after the end of the JSON value"));
    }
    parser.document.root = root;
    Ok(parser.document)
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
    line: u32,
    line_start: usize,
    document: Document<'a>,
}

impl<'a> Parser<'a> {
    /// The next byte; 0 at the end.
    fn peek(&self) -> u8 {
        self.text.as_bytes().get(self.at).copied().unwrap_or_default()
    }

    fn rest(&self) -> &'a str {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn position(&self) -> Position {
        let before = self.text.get(self.line_start..self.at).unwrap_or_default();
        let column = u32::try_from(before.chars().count()).unwrap_or(u32::MAX - 1);
        Position { line: self.line, column: column + 1 }
    }

    fn error(&self, message: &str) -> SyntaxError {
        SyntaxError::new(self.position(), message)
    }

    fn skip_space(&mut self) {
        while let b' ' | b'\t' | b'\r' | b'\n' = self.peek() {
            if self.peek() == b'\n' {
                self.line += 1;
                self.line_start = self.at + 1;
            }
            self.at += 1;
        }
    }

    fn value(&mut self, depth: usize) -> Result<Id, SyntaxError> {
        self.skip_space();
        if depth > DEEPEST {
            return Err(self.error("nested too deeply"));
        }
        if self.document.is_full() {
            return Err(self.error("the configuration is too large"));
        }
        let position = self.position();
        let id = self.document.push(Node::Null, position);
        let node = match self.peek() {
            b'{' => self.map(depth)?,
            b'[' => self.list(depth)?,
            b'"' | b'\'' => Node::Text(self.string()?),
            _ => match self.word() {
                "null" => Node::Null,
                "true" => Node::Bool(true),
                "false" => Node::Bool(false),
                word if is_number(word) => Node::Number(word.into()),
                _ => return Err(SyntaxError::new(position, "expected a JSON value")),
            },
        };
        if let Some(slot) = self.document.nodes.get_mut(id) {
            slot.0 = node;
        }
        Ok(id)
    }

    fn map(&mut self, depth: usize) -> Result<Node<'a>, SyntaxError> {
        self.at += 1;
        let mut entries = Vec::new();
        loop {
            self.skip_space();
            if self.peek() == b'}' {
                self.at += 1;
                return Ok(Node::Map(entries));
            }
            let position = self.position();
            let key = match self.peek() {
                b'"' | b'\'' => self.string()?,
                _ => match self.word() {
                    "" => return Err(self.error("expected a key or '}'")),
                    word => Cow::Borrowed(word),
                },
            };
            self.skip_space();
            if self.peek() != b':' {
                return Err(self.error("expected ':'"));
            }
            self.at += 1;
            let value = self.value(depth + 1)?;
            entries.push(Entry { key, position, value });
            self.comma(b'}', "expected ',' or '}'")?;
        }
    }

    fn list(&mut self, depth: usize) -> Result<Node<'a>, SyntaxError> {
        self.at += 1;
        let mut elements = Vec::new();
        loop {
            self.skip_space();
            if self.peek() == b']' {
                self.at += 1;
                return Ok(Node::List(elements));
            }
            elements.push(self.value(depth + 1)?);
            self.comma(b']', "expected ',' or ']'")?;
        }
    }

    /// A comma, or the end that the caller will see next.
    fn comma(&mut self, end: u8, message: &str) -> Result<(), SyntaxError> {
        self.skip_space();
        match self.peek() {
            b',' => self.at += 1,
            byte if byte == end => {}
            _ => return Err(self.error(message)),
        }
        Ok(())
    }

    fn word(&mut self) -> &'a str {
        let rest = self.rest();
        let is_part = |byte: &u8| byte.is_ascii_alphanumeric() || b"_-+.$".contains(byte);
        let length = rest.bytes().take_while(is_part).count();
        self.at += length;
        rest.get(..length).unwrap_or_default()
    }

    fn string(&mut self) -> Result<Cow<'a, str>, SyntaxError> {
        let start = self.position();
        let quote = char::from(self.peek());
        self.at += 1;
        let from = self.at;
        let mut owned: Option<String> = None;
        loop {
            let Some(next) = self.rest().chars().next() else {
                return Err(SyntaxError::new(start, "the string does not end"));
            };
            if next == quote {
                let borrowed = self.text.get(from..self.at).unwrap_or_default();
                self.at += 1;
                return Ok(owned.map_or(Cow::Borrowed(borrowed), Cow::Owned));
            }
            if u32::from(next) < 0x20 {
                return Err(self.error("control character in a string"));
            }
            if next == '\\' {
                let mut text =
                    owned.take().unwrap_or_else(|| self.text.get(from..self.at).unwrap_or_default().to_owned());
                text.push(self.escape()?);
                owned = Some(text);
                continue;
            }
            if let Some(text) = &mut owned {
                text.push(next);
            }
            self.at += next.len_utf8();
        }
    }

    fn escape(&mut self) -> Result<char, SyntaxError> {
        let escaped = self.rest().as_bytes().get(1).copied().unwrap_or_default();
        if escaped == b'u' {
            return self.unicode_escape();
        }
        let character = match escaped {
            b'n' => '\n',
            b't' => '\t',
            b'r' => '\r',
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'"' | b'\\' | b'/' | b'\'' => char::from(escaped),
            _ => return Err(self.error("bad escape in a string")),
        };
        self.at += 2;
        Ok(character)
    }

    fn unicode_escape(&mut self) -> Result<char, SyntaxError> {
        let unit = |text: &str, at: usize| {
            let escape = text.get(at..at + 6)?;
            let digits = escape.strip_prefix("\\u")?;
            digits.bytes().all(|byte| byte.is_ascii_hexdigit()).then(|| u32::from_str_radix(digits, 16).ok())?
        };
        let rest = self.rest();
        let Some(first) = unit(rest, 0) else {
            return Err(self.error("bad \\u escape in a string"));
        };
        let (code, length) = match (first, unit(rest, 6)) {
            (0xd800..0xdc00, Some(second @ 0xdc00..0xe000)) => {
                (0x1_0000 + ((first - 0xd800) << 10) + (second - 0xdc00), 12)
            }
            _ => (first, 6),
        };
        let Some(character) = char::from_u32(code) else {
            return Err(self.error("unpaired surrogate in a string"));
        };
        self.at += length;
        Ok(character)
    }
}

fn is_number(word: &str) -> bool {
    word.ends_with(|last: char| last.is_ascii_digit()) && word.parse::<f64>().is_ok()
}
