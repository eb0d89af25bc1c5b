//! A YAML or JSON text as a small tree with positions.
//!
//! Scalars are typed as Envoy types them (its YAML goes through yaml-cpp and JSON before it becomes a message), so that what
//! it reads from a file is what we read. The tree lives in one arena and borrows from the text; both are freed when the
//! configuration has been loaded.

mod json;
mod yaml;

use std::borrow::Cow;
use std::collections::HashMap;

use super::diagnostic::{Path, Position, Segment};
use super::schema::is_camel;

/// The most values that a text may hold; far beyond any real configuration.
const MOST_NODES: usize = 2_000_000;

/// How deep maps and lists may be nested in a text; messages have a lower limit of their own.
const DEEPEST: usize = 200;

/// The most elements that the search for a place counts through.
const MOST_ELEMENTS: usize = MOST_NODES;

/// Index into [`Document::nodes`].
pub(super) type Id = usize;

/// How a text is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    Yaml,
    Json,
}

#[derive(Debug)]
pub(super) enum Node<'a> {
    Null,
    Bool(bool),
    /// As it was written, in decimal.
    Number(Cow<'a, str>),
    Text(Cow<'a, str>),
    List(Vec<Id>),
    Map(Vec<Entry<'a>>),
}

impl Node<'_> {
    /// For messages: `found a number`.
    pub(super) fn describe(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool(_) => "a boolean",
            Self::Number(_) => "a number",
            Self::Text(_) => "a string",
            Self::List(_) => "a list",
            Self::Map(_) => "an object",
        }
    }
}

/// An entry of a map.
#[derive(Debug)]
pub(super) struct Entry<'a> {
    pub(super) key: Cow<'a, str>,
    pub(super) position: Position,
    pub(super) value: Id,
}

/// A key that stands twice in one map: the later one counts.
#[derive(Debug)]
pub(super) struct Duplicate {
    map: Id,
    pub(super) key: String,
    pub(super) position: Position,
    pub(super) first: Position,
}

/// The text is no YAML, or no JSON.
#[derive(Debug)]
pub(super) struct SyntaxError {
    pub(super) position: Position,
    pub(super) message: String,
}

impl SyntaxError {
    fn new(position: Position, message: impl Into<String>) -> Self {
        Self { position, message: message.into() }
    }
}

/// A parsed text.
#[derive(Debug)]
pub(super) struct Document<'a> {
    nodes: Vec<(Node<'a>, Position)>,
    pub(super) root: Id,
    pub(super) format: Format,
    /// By map.
    duplicates: Vec<Duplicate>,
}

impl<'a> Document<'a> {
    /// Parses a text; of several YAML documents the first counts.
    ///
    /// # Errors
    /// The first fault: after it nothing can be made of the rest.
    pub(super) fn parse(text: &'a str, format: Format) -> Result<Self, SyntaxError> {
        let mut document = match format {
            Format::Yaml => yaml::parse(text)?,
            Format::Json => json::parse(text)?,
        };
        document.drop_duplicates();
        Ok(document)
    }

    fn empty(format: Format) -> Self {
        Self { nodes: Vec::new(), root: 0, format, duplicates: Vec::new() }
    }

    /// An empty tree to be built by hand (from a `Struct`), without positions.
    pub(super) fn synthetic() -> Self {
        Self::empty(Format::Yaml)
    }

    pub(super) fn push(&mut self, node: Node<'a>, position: Position) -> Id {
        self.nodes.push((node, position));
        self.nodes.len() - 1
    }

    pub(super) fn node(&self, id: Id) -> &Node<'a> {
        self.nodes.get(id).map_or(&Node::Null, |node| &node.0)
    }

    pub(super) fn position(&self, id: Id) -> Position {
        self.nodes.get(id).map(|node| node.1).unwrap_or_default()
    }

    /// Nothing but space and comments.
    pub(super) fn is_empty(&self) -> bool {
        matches!(self.node(self.root), Node::Null)
    }

    /// How many values there are, aliases counted once.
    pub(super) fn len(&self) -> usize {
        self.nodes.len()
    }

    /// The keys that stood twice in this map.
    pub(super) fn duplicates_in(&self, map: Id) -> &[Duplicate] {
        let from = self.duplicates.partition_point(|duplicate| duplicate.map < map);
        let to = self.duplicates.partition_point(|duplicate| duplicate.map <= map);
        self.duplicates.get(from..to).unwrap_or_default()
    }

    fn is_full(&self) -> bool {
        self.nodes.len() >= MOST_NODES
    }

    fn drop_duplicates(&mut self) {
        for (id, (node, _)) in self.nodes.iter_mut().enumerate() {
            let Node::Map(entries) = node else { continue };
            let mut seen: HashMap<&str, usize> = HashMap::with_capacity(entries.len());
            let mut superseded = Vec::new();
            for (at, entry) in entries.iter().enumerate() {
                let Some(earlier) = seen.insert(&entry.key, at) else { continue };
                let first = entries.get(earlier).map(|entry| entry.position).unwrap_or_default();
                let key = entry.key.to_string();
                self.duplicates.push(Duplicate { map: id, key, position: entry.position, first });
                superseded.push(earlier);
            }
            if superseded.is_empty() {
                continue;
            }
            let mut at = 0;
            superseded.sort_unstable();
            entries.retain(|_| {
                at += 1;
                superseded.binary_search(&(at - 1)).is_err()
            });
        }
    }
}

/// Finds the place of a field in the texts that a message was merged from, in order of the merge.
///
/// Where nothing stands at the path, the place of the innermost thing around it.
pub(super) fn locate(documents: &[&Document<'_>], path: &Path) -> Option<(usize, Position)> {
    let mut here: Vec<(usize, Id)> = documents.iter().enumerate().map(|(at, document)| (at, document.root)).collect();
    let mut best = None;
    for segment in &path.0 {
        let mut next = Vec::new();
        match segment {
            Segment::Index(index) => {
                let mut left = *index;
                for (at, id) in here {
                    let mut elements = Vec::new();
                    flatten(documents[at], id, 0, &mut elements);
                    if let Some(element) = elements.get(left) {
                        next.push((at, *element, documents[at].position(*element)));
                        break;
                    }
                    left -= elements.len();
                }
            }
            Segment::Field(name) => step(documents, &here, |key| key == *name || is_camel(key, name), &mut next),
            Segment::Key(name) => step(documents, &here, |key| key == name, &mut next),
        }
        let Some((at, id, position)) = next.last() else {
            return best.map(|(at, id, position)| (at, inside(documents[at], id).unwrap_or(position)));
        };
        best = Some((*at, *id, *position));
        here = next.into_iter().map(|(at, id, _)| (at, id)).collect();
    }
    best.map(|(at, _, position)| (at, position))
}

/// Something is missing in here: where its first neighbour stands.
fn inside(document: &Document<'_>, id: Id) -> Option<Position> {
    match document.node(id) {
        Node::Map(entries) if !entries.is_empty() => Some(document.position(id)),
        _ => None,
    }
}

fn step(
    documents: &[&Document<'_>],
    here: &[(usize, Id)],
    is_wanted: impl Fn(&str) -> bool,
    next: &mut Vec<(usize, Id, Position)>,
) {
    for (at, id) in here {
        if let Node::Map(entries) = documents[*at].node(*id)
            && let Some(entry) = entries.iter().rev().find(|entry| is_wanted(&entry.key))
        {
            next.push((*at, entry.value, entry.position));
        }
    }
}

/// The elements of a list as a message sees them: nested lists are one, and a lone value is a list of one.
///
/// Bounded in depth, and in what it visits: aliases can make a small text endless.
fn flatten(document: &Document<'_>, id: Id, depth: usize, elements: &mut Vec<Id>) {
    match document.node(id) {
        Node::List(ids) if depth == 0 || depth < DEEPEST && elements.len() < MOST_ELEMENTS => {
            for id in ids {
                match document.node(*id) {
                    Node::List(inner) if !inner.is_empty() => flatten(document, *id, depth + 1, elements),
                    Node::List(_) => {}
                    _ => elements.push(*id),
                }
            }
        }
        Node::List(_) | Node::Null => {}
        _ => elements.push(id),
    }
}
