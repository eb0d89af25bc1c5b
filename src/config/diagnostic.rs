//! What is wrong with a configuration, and where.
//!
//! Every stage of loading reports through these types, so that an operator reads one kind of line whatever failed:
//! `FILE:LINE:COL: path.to.field: message`.

use std::fmt;
use std::sync::Arc;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Severity {
    /// The configuration is refused.
    Error,
    /// It is loaded; the operator should know.
    Warning,
}

/// A place in a text, counted from one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// Line.
    pub line: u32,
    /// Column, in characters.
    pub column: u32,
}

/// One step from a message to what it holds.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Segment {
    /// A field, by its proto name.
    Field(&'static str),
    /// An element of a list.
    Index(usize),
    /// An entry of a map, or a key that is no field.
    Key(String),
}

/// Where in the message: `static_resources.clusters[0].name`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Path(pub Vec<Segment>);

impl Path {
    /// Is `other` this place, or something within it?
    pub fn contains(&self, other: &Path) -> bool {
        other.0.starts_with(&self.0)
    }

    /// The field that it is in, by its own name.
    pub fn field(&self) -> Option<&'static str> {
        self.0.iter().rev().find_map(|segment| match segment {
            Segment::Field(name) => Some(*name),
            Segment::Index(_) | Segment::Key(_) => None,
        })
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, segment) in self.0.iter().enumerate() {
            match segment {
                Segment::Field(name) if at == 0 => f.write_str(name)?,
                Segment::Field(name) => write!(f, ".{name}")?,
                Segment::Index(index) => write!(f, "[{index}]")?,
                Segment::Key(key) if is_word(key) && at == 0 => f.write_str(key)?,
                Segment::Key(key) if is_word(key) => write!(f, ".{key}")?,
                Segment::Key(key) => write!(f, "[{key:?}]")?,
            }
        }
        Ok(())
    }
}

fn is_word(key: &str) -> bool {
    !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// How bad.
    pub severity: Severity,
    /// The file, or `--config-yaml`; `None` where the fault is in neither.
    pub source: Option<Arc<str>>,
    /// Where in that file.
    pub position: Option<Position>,
    /// Which field; empty for the whole.
    pub path: Path,
    /// What is wrong, without a full stop.
    pub message: String,
}

impl Diagnostic {
    /// A fault without a place; whoever knows the place adds it.
    pub(super) fn new(severity: Severity, path: Path, message: impl Into<String>) -> Self {
        Self { severity, source: None, position: None, path, message: message.into() }
    }

    /// The same in a file.
    pub(super) fn from(mut self, source: &Arc<str>) -> Self {
        self.source = Some(source.clone());
        self
    }

    /// The same at a position.
    pub(super) fn at(mut self, position: Position) -> Self {
        self.position = Some(position);
        self
    }
}

impl fmt::Display for Diagnostic {
    /// `FILE:LINE:COL: path.to.field: message`, without the parts that are not known.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.source, self.position) {
            (Some(source), Some(at)) => write!(f, "{source}:{}:{}: ", at.line, at.column)?,
            (Some(source), None) => write!(f, "{source}: ")?,
            (None, Some(at)) => write!(f, "{}:{}: ", at.line, at.column)?,
            (None, None) => {}
        }
        if !self.path.0.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        f.write_str(&self.message)
    }
}

/// Everything that is wrong with a configuration that was refused; at least one error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Faults {
    /// Why it was refused, in order of the text.
    pub errors: Vec<Diagnostic>,
    /// What would only have been warned about.
    pub warnings: Vec<Diagnostic>,
}

impl fmt::Display for Faults {
    /// The errors, one per line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, error) in self.errors.iter().enumerate() {
            if at > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{error}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Faults {}

/// Diagnostics as a stage finds them, bounded: a hostile text must not make a gigabyte of complaints.
#[derive(Debug, Default)]
pub(super) struct Findings {
    errors: Vec<Diagnostic>,
    warnings: Vec<Diagnostic>,
    errors_dropped: usize,
}

impl Findings {
    /// Of either severity.
    const MOST: usize = 500;

    pub(super) fn add(&mut self, diagnostic: Diagnostic) {
        match diagnostic.severity {
            Severity::Error if self.errors.len() < Self::MOST => self.errors.push(diagnostic),
            Severity::Error => self.errors_dropped += 1,
            Severity::Warning if self.warnings.len() < Self::MOST => self.warnings.push(diagnostic),
            Severity::Warning => {}
        }
    }

    pub(super) fn error(&mut self, path: &Path, position: Position, message: impl Into<String>) {
        self.add(Diagnostic::new(Severity::Error, path.clone(), message).at(position));
    }

    /// There were more errors than are kept.
    pub(super) fn is_overflowing(&self) -> bool {
        self.errors_dropped > 0
    }

    pub(super) fn into_vec(mut self) -> Vec<Diagnostic> {
        if self.errors_dropped > 0 {
            let message = format!("and {} more errors", self.errors_dropped);
            self.errors.push(Diagnostic::new(Severity::Error, Path::default(), message));
        }
        self.errors.append(&mut self.warnings);
        self.errors
    }
}
