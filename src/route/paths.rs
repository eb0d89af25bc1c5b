//! First match among thousands of paths without asking each.
//!
//! Exact paths are found by hash. Prefixes stand sorted, each with the longest other prefix that it begins with, so that all prefixes of a
//! path are found with one binary search and a short walk. An expression stands under the text that all its matches begin with, and is
//! only asked about paths that begin so.

use std::collections::{BTreeMap, HashMap};

use crate::config::model::PathMatch;

/// Up to so many prefixes are tried in order; more are found by search.
const FEW: usize = 16;

/// The path matchers of one virtual host, but for those of CONNECT, which has no path; finds the lowest index that may match.
#[derive(Debug, Default)]
pub(super) struct Paths {
    sensitive: Set,
    /// Keys in lower case; asked only when there are any.
    insensitive: Set,
}

/// A path (without query) as it is asked about, perhaps several times.
pub(super) struct Asked<'a> {
    path: &'a [u8],
    lower: Option<Vec<u8>>,
}

impl Paths {
    /// From matchers in order of the file, each with whether the path alone decides: what comes behind such a one under the same key is never
    /// reached.
    pub(super) fn compile<'a>(matchers: impl Iterator<Item = (&'a PathMatch, bool)>) -> Self {
        let (mut sensitive, mut insensitive) = (Building::default(), Building::default());
        for (at, (matcher, decides)) in matchers.enumerate() {
            match matcher {
                PathMatch::Prefix { prefix, case_sensitive } => {
                    let (set, key) = key(&mut sensitive, &mut insensitive, *case_sensitive, prefix);
                    add(&mut set.prefixes, key, at, decides);
                }
                PathMatch::Exact { path, case_sensitive } => {
                    let (set, key) = key(&mut sensitive, &mut insensitive, *case_sensitive, path);
                    add(&mut set.exact, key, at, decides);
                }
                PathMatch::SeparatedPrefix { prefix, case_sensitive } => {
                    let (set, mut key) = key(&mut sensitive, &mut insensitive, *case_sensitive, prefix);
                    add(&mut set.exact, key.clone(), at, decides);
                    key.push(b'/');
                    add(&mut set.prefixes, key, at, decides);
                }
                PathMatch::Regex(regex) => add(&mut sensitive.prefixes, regex.literal_prefix(), at, false),
                PathMatch::Template(template) => {
                    add(&mut sensitive.prefixes, template.literal_prefix().into(), at, false);
                }
                PathMatch::Connect => {}
            }
        }
        Self { sensitive: sensitive.finish(), insensitive: insensitive.finish() }
    }

    /// Prepares a question.
    pub(super) fn ask<'a>(&self, path: &'a [u8]) -> Asked<'a> {
        Asked { path, lower: (!self.insensitive.is_empty()).then(|| path.to_ascii_lowercase()) }
    }

    /// The first matcher in order of the file, from the one at `from` on, that may match a path. Of an expression only its beginning has
    /// been looked at.
    pub(super) fn find(&self, asked: &Asked<'_>, from: usize) -> Option<usize> {
        let sensitive = self.sensitive.find(asked.path, from);
        match &asked.lower {
            None => sensitive,
            Some(lower) => first(sensitive, self.insensitive.find(lower, from)),
        }
    }
}

#[derive(Default)]
struct Building {
    exact: BTreeMap<Vec<u8>, Vec<usize>>,
    prefixes: BTreeMap<Vec<u8>, Vec<usize>>,
}

/// The set that a text belongs to, and its key there.
fn key<'b>(
    sensitive: &'b mut Building,
    insensitive: &'b mut Building,
    case_sensitive: bool,
    text: &str,
) -> (&'b mut Building, Vec<u8>) {
    if case_sensitive {
        (sensitive, text.as_bytes().to_vec())
    } else {
        (insensitive, text.as_bytes().to_ascii_lowercase())
    }
}

/// `usize::MAX` ends a list whose last candidate decides.
fn add(keys: &mut BTreeMap<Vec<u8>, Vec<usize>>, key: Vec<u8>, at: usize, decides: bool) {
    let list = keys.entry(key).or_default();
    if list.last() != Some(&usize::MAX) {
        list.push(at);
        list.extend(decides.then_some(usize::MAX));
    }
}

impl Building {
    fn finish(self) -> Set {
        let exact = self.exact.into_iter().map(|(key, list)| (key.into(), Candidates::of(list))).collect();
        let mut keys: Vec<Key> = Vec::with_capacity(self.prefixes.len());
        // Sorted, a key comes behind all that it begins with: the open ones stand on the stack.
        let mut open: Vec<usize> = Vec::new();
        for (text, list) in self.prefixes {
            while open.last().is_some_and(|&at| !text.starts_with(&keys[at].text)) {
                open.pop();
            }
            let parent = open.last().copied();
            open.push(keys.len());
            keys.push(Key { text: text.into(), parent, candidates: Candidates::of(list) });
        }
        let mut few: Vec<(Box<[u8]>, usize)> = Vec::new();
        if keys.len() <= FEW {
            few = keys.iter().flat_map(|key| key.candidates.iter().map(|at| (key.text.clone(), at))).collect();
            few.sort_by_key(|(_, at)| *at);
        }
        let prefixes = if keys.len() <= FEW && few.len() <= FEW { Prefixes::Few(few) } else { Prefixes::Many(keys) };
        Set { exact, prefixes }
    }
}

/// Matchers that compare alike.
#[derive(Debug, Default)]
struct Set {
    exact: HashMap<Box<[u8]>, Candidates>,
    prefixes: Prefixes,
}

#[derive(Debug)]
enum Prefixes {
    /// In order of the file.
    Few(Vec<(Box<[u8]>, usize)>),
    /// In order of the text.
    Many(Vec<Key>),
}

#[derive(Debug)]
struct Key {
    text: Box<[u8]>,
    /// The longest other key that this one begins with.
    parent: Option<usize>,
    candidates: Candidates,
}

/// Matchers under one key, in order of the file.
#[derive(Debug)]
enum Candidates {
    One(usize),
    Several(Box<[usize]>),
}

impl Candidates {
    fn of(mut list: Vec<usize>) -> Self {
        list.retain(|at| *at != usize::MAX);
        match list[..] {
            [one] => Self::One(one),
            _ => Self::Several(list.into()),
        }
    }

    fn iter(&self) -> impl Iterator<Item = usize> + '_ {
        let (one, several) = match self {
            Self::One(one) => (Some(*one), &[][..]),
            Self::Several(several) => (None, &several[..]),
        };
        one.into_iter().chain(several.iter().copied())
    }

    fn find(&self, from: usize) -> Option<usize> {
        match self {
            Self::One(at) => Some(*at).filter(|at| *at >= from),
            Self::Several(list) => list.get(list.partition_point(|at| *at < from)).copied(),
        }
    }
}

impl Default for Prefixes {
    fn default() -> Self {
        Self::Few(Vec::new())
    }
}

impl Set {
    fn is_empty(&self) -> bool {
        self.exact.is_empty() && matches!(&self.prefixes, Prefixes::Few(few) if few.is_empty())
    }

    fn find(&self, path: &[u8], from: usize) -> Option<usize> {
        let exact = if self.exact.is_empty() { None } else { self.exact.get(path).and_then(|list| list.find(from)) };
        let prefix = match &self.prefixes {
            Prefixes::Few(few) => {
                few.iter().find(|(prefix, at)| *at >= from && path.starts_with(prefix)).map(|(_, at)| *at)
            }
            Prefixes::Many(keys) => many(keys, path, from),
        };
        first(exact, prefix)
    }
}

/// Whatever key is a prefix of the path is the last key that is not behind the path, or one that this begins with.
fn many(keys: &[Key], path: &[u8], from: usize) -> Option<usize> {
    let mut at = keys.partition_point(|key| *key.text <= *path).checked_sub(1);
    let mut found = None;
    while let Some(key) = at.map(|at| &keys[at]) {
        if path.starts_with(&key.text) {
            found = first(found, key.candidates.find(from));
        }
        at = key.parent;
    }
    found
}

fn first(one: Option<usize>, other: Option<usize>) -> Option<usize> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}
