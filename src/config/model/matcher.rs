//! Matchers that many resources share: texts, headers, percentages, and regular expressions in the dialect of RE2.
//!
//! They are plain data with one pure question each. A compiled expression is part of its value; a worker clones it, so that
//! workers share the program and not its caches.

use http::HeaderName;
use regex::bytes::{Regex as Compiled, RegexBuilder};

/// A regular expression that must match a whole text (`envoy.type.matcher.v3.RegexMatcher`).
#[derive(Clone, Debug)]
pub struct Regex {
    text: String,
    full: Compiled,
}

impl PartialEq for Regex {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Regex {}

impl Regex {
    /// Compiles it.
    ///
    /// # Errors
    /// What is wrong with it, in one line.
    pub fn new(text: &str) -> Result<Self, String> {
        // Alone first: what is malformed must not become well-formed by what is put around it.
        compile(text)?;
        Ok(Self { full: compile(&format!(r"\A(?:{text})\z"))?, text: text.to_owned() })
    }

    /// As it was configured.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whether it matches all of `value`.
    pub fn matches(&self, value: &[u8]) -> bool {
        self.full.is_match(value)
    }

    /// A text that every match begins with; may be empty.
    pub fn literal_prefix(&self) -> Vec<u8> {
        use regex_syntax::hir::literal::{ExtractKind, Extractor};
        let parse = |unicode: bool| {
            regex_syntax::ParserBuilder::new().unicode(unicode).utf8(false).build().parse(&self.text).ok()
        };
        let Some(parsed) = parse(!self.text.is_ascii()).or_else(|| parse(true)) else { return Vec::new() };
        let found = Extractor::new().kind(ExtractKind::Prefix).extract(&parsed);
        found.longest_common_prefix().map(<[u8]>::to_vec).unwrap_or_default()
    }
}

/// As RE2 reads it: `\d`, `\w`, `\s` and `\b` mean ASCII. An expression that names characters beyond it is compiled with Unicode.
fn compile(text: &str) -> Result<Compiled, String> {
    let build = |unicode: bool| RegexBuilder::new(text).unicode(unicode).build();
    let first = if text.is_ascii() { build(false) } else { build(true) };
    first.or_else(|_| build(true)).map_err(|error| match error {
        // The last line says what; those before draw the place.
        regex::Error::Syntax(text) => text.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned(),
        other => other.to_string(),
    })
}

/// A pattern and what to put in the place of its matches (`envoy.type.matcher.v3.RegexMatchAndSubstitute`).
#[derive(Clone, Debug)]
pub struct Substitution {
    pattern: String,
    text: String,
    compiled: Compiled,
    pieces: Vec<Piece>,
}

/// A part of a substitution.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Text(Vec<u8>),
    Group(usize),
}

impl PartialEq for Substitution {
    fn eq(&self, other: &Self) -> bool {
        (&self.pattern, &self.text) == (&other.pattern, &other.text)
    }
}

impl Eq for Substitution {}

impl Substitution {
    /// Compiles both. In `text` `\1` to `\9` are the captures, `\0` is the match, and `\\` is a backslash.
    ///
    /// # Errors
    /// What is wrong with either, in one line.
    pub fn new(pattern: &str, text: &str) -> Result<Self, String> {
        let compiled = compile(pattern)?;
        let mut pieces = Vec::new();
        let mut literal = Vec::new();
        let mut bytes = text.bytes();
        while let Some(byte) = bytes.next() {
            match (byte, if byte == b'\\' { bytes.next() } else { None }) {
                (b'\\', Some(b'\\')) => literal.push(b'\\'),
                (b'\\', Some(digit)) if digit.is_ascii_digit() => {
                    let group = usize::from(digit - b'0');
                    if group >= compiled.captures_len() {
                        let most = compiled.captures_len() - 1;
                        return Err(format!("the substitution names \\{group}, the pattern has {most} captures"));
                    }
                    if !literal.is_empty() {
                        pieces.push(Piece::Text(std::mem::take(&mut literal)));
                    }
                    pieces.push(Piece::Group(group));
                }
                (b'\\', _) => return Err("in a substitution a digit or a backslash must follow a backslash".to_owned()),
                (byte, _) => literal.push(byte),
            }
        }
        if !literal.is_empty() {
            pieces.push(Piece::Text(literal));
        }
        Ok(Self { pattern: pattern.to_owned(), text: text.to_owned(), compiled, pieces })
    }

    /// `value` with every match replaced.
    pub fn replace_all(&self, value: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(value.len());
        let mut from = 0;
        for captures in self.compiled.captures_iter(value) {
            let Some(all) = captures.get(0) else { continue };
            out.extend_from_slice(&value[from..all.start()]);
            for piece in &self.pieces {
                match piece {
                    Piece::Text(text) => out.extend_from_slice(text),
                    Piece::Group(group) => {
                        out.extend_from_slice(captures.get(*group).map_or(&[][..], |group| group.as_bytes()));
                    }
                }
            }
            from = all.end();
        }
        out.extend_from_slice(&value[from..]);
        out
    }
}

/// `envoy.type.matcher.v3.StringMatcher`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StringMatch {
    /// What.
    pub pattern: StringPattern,
    /// Without regard to ASCII case; not for expressions, which say so themselves.
    pub ignore_case: bool,
}

/// The pattern of a [`StringMatch`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StringPattern {
    /// All of it.
    Exact(String),
    /// Its beginning.
    Prefix(String),
    /// Its end.
    Suffix(String),
    /// A part of it.
    Contains(String),
    /// All of it, by an expression.
    Regex(Regex),
}

impl StringMatch {
    /// An exact match with case.
    pub fn exact(text: impl Into<String>) -> Self {
        Self { pattern: StringPattern::Exact(text.into()), ignore_case: false }
    }

    /// Whether it matches.
    pub fn matches(&self, value: &[u8]) -> bool {
        let same = |one: &[u8], other: &str| {
            if self.ignore_case { one.eq_ignore_ascii_case(other.as_bytes()) } else { one == other.as_bytes() }
        };
        match &self.pattern {
            StringPattern::Exact(text) => same(value, text),
            StringPattern::Prefix(text) => value.get(..text.len()).is_some_and(|part| same(part, text)),
            StringPattern::Suffix(text) => {
                value.len().checked_sub(text.len()).is_some_and(|at| same(&value[at..], text))
            }
            StringPattern::Contains(text) if self.ignore_case => {
                text.is_empty() || value.windows(text.len()).any(|part| same(part, text))
            }
            StringPattern::Contains(text) => memchr::memmem::find(value, text.as_bytes()).is_some(),
            StringPattern::Regex(regex) => regex.matches(value),
        }
    }
}

/// Where a value of a request head stands: a header, or what HTTP/2 calls a pseudo header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HeadField {
    /// `:method`.
    Method,
    /// `:scheme`.
    Scheme,
    /// `:authority` or `host`.
    Authority,
    /// `:path`, with the query.
    Path,
    /// `:status`, of responses.
    Status,
    /// Any other header.
    Header(HeaderName),
}

impl HeadField {
    /// By its name in the configuration; `None` for one that no head can have.
    pub fn named(name: &str) -> Option<Self> {
        Some(match name.to_ascii_lowercase().as_str() {
            ":method" => Self::Method,
            ":scheme" => Self::Scheme,
            ":authority" | "host" => Self::Authority,
            ":path" => Self::Path,
            ":status" => Self::Status,
            other => Self::Header(other.parse().ok()?),
        })
    }
}

/// `envoy.config.route.v3.HeaderMatcher`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeaderMatch {
    /// Which; several values of one name are joined with commas.
    pub field: HeadField,
    /// How.
    pub pattern: HeaderPattern,
    /// `invert_match`: a header that is absent does not match all the same.
    pub invert: bool,
    /// `treat_missing_header_as_empty`.
    pub missing_is_empty: bool,
}

/// How a header is matched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HeaderPattern {
    /// It is there, or (false) it is not.
    Present(bool),
    /// A whole number from `start` up to, and without, `end`.
    Range {
        /// The first that matches.
        start: i64,
        /// The first that does not match any more.
        end: i64,
    },
    /// Its value.
    Text(StringMatch),
}

impl HeaderMatch {
    /// Whether a header with these values matches: each is judged alone, so that nobody hides one behind another.
    pub fn matches_each<'a>(&self, values: impl Iterator<Item = &'a [u8]>) -> bool {
        let mut values = values.peekable();
        match values.peek() {
            None => self.matches(None),
            // Inverted: none of them may be what is not wanted.
            Some(_) if self.invert => values.all(|value| self.matches(Some(value))),
            Some(_) => values.any(|value| self.matches(Some(value))),
        }
    }

    /// Whether a header of that value, or without one, matches.
    pub fn matches(&self, value: Option<&[u8]>) -> bool {
        let value = value.or(if self.missing_is_empty { Some(&[]) } else { None });
        let matched = match (&self.pattern, value) {
            (HeaderPattern::Present(wanted), value) => value.is_some() == *wanted,
            (_, None) => return false,
            (HeaderPattern::Range { start, end }, Some(value)) => std::str::from_utf8(value)
                .ok()
                .and_then(|text| text.trim_ascii().parse::<i64>().ok())
                .is_some_and(|number| (*start..*end).contains(&number)),
            (HeaderPattern::Text(text), Some(value)) => text.matches(value),
        };
        matched != self.invert
    }
}

/// `envoy.type.v3.FractionalPercent`: so many of so many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fraction {
    /// So many,
    pub numerator: u32,
    /// of 100, 10 000 or 1 000 000.
    pub denominator: u32,
}

impl Fraction {
    /// Whether a random number falls within.
    pub fn holds(self, random: u64) -> bool {
        random % u64::from(self.denominator.max(1)) < u64::from(self.numerator)
    }
}
