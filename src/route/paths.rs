//! First match among thousands of paths without asking each.

use std::collections::HashMap;

use crate::config::model::PathMatch;

/// Up to so many prefixes are tried in order; more are found by hash.
const FEW: usize = 16;

/// The path matchers of one virtual host, but for those of CONNECT, which has no path; finds the lowest index that matches.
#[derive(Debug, Default)]
pub(super) struct Paths {
    sensitive: Set,
    /// Keys in lower case; asked only when there are any.
    insensitive: Set,
}

impl Paths {
    pub(super) fn compile<'a>(matchers: impl Iterator<Item = &'a PathMatch>) -> Self {
        let mut paths = Self::default();
        for (at, matcher) in matchers.enumerate() {
            match matcher {
                PathMatch::Prefix { prefix, case_sensitive: true } => paths.sensitive.add_prefix(prefix.as_bytes(), at),
                PathMatch::Prefix { prefix, case_sensitive: false } => {
                    paths.insensitive.add_prefix(prefix.to_ascii_lowercase().as_bytes(), at);
                }
                PathMatch::Exact { path, case_sensitive: true } => paths.sensitive.add_exact(path.as_bytes(), at),
                PathMatch::Exact { path, case_sensitive: false } => {
                    paths.insensitive.add_exact(path.to_ascii_lowercase().as_bytes(), at);
                }
                PathMatch::Connect => {}
            }
        }
        paths
    }

    /// The first matcher in order of the file that matches a path (without query).
    pub(super) fn find(&self, path: &[u8]) -> Option<usize> {
        let sensitive = self.sensitive.find(path);
        if self.insensitive.is_empty() {
            return sensitive;
        }
        first(sensitive, self.insensitive.find(&path.to_ascii_lowercase()))
    }
}

/// Matchers that compare alike.
#[derive(Debug, Default)]
struct Set {
    exact: HashMap<Box<[u8]>, usize>,
    prefixes: Prefixes,
}

/// Prefixes with the index of the first matcher that has them.
#[derive(Debug)]
enum Prefixes {
    /// In order.
    Few(Vec<(Box<[u8]>, usize)>),
    /// One look-up per length that occurs.
    Many { lengths: Vec<usize>, first: HashMap<Box<[u8]>, usize> },
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

    fn add_exact(&mut self, path: &[u8], at: usize) {
        self.exact.entry(path.into()).or_insert(at);
    }

    fn add_prefix(&mut self, prefix: &[u8], at: usize) {
        match &mut self.prefixes {
            Prefixes::Few(few) => {
                few.push((prefix.into(), at));
                if few.len() > FEW {
                    let few = std::mem::take(few);
                    self.prefixes = Prefixes::Many { lengths: Vec::new(), first: HashMap::new() };
                    few.into_iter().for_each(|(prefix, at)| self.add_prefix(&prefix, at));
                }
            }
            Prefixes::Many { lengths, first } => {
                if let Err(place) = lengths.binary_search(&prefix.len()) {
                    lengths.insert(place, prefix.len());
                }
                first.entry(prefix.into()).or_insert(at);
            }
        }
    }

    fn find(&self, path: &[u8]) -> Option<usize> {
        let exact = if self.exact.is_empty() { None } else { self.exact.get(path).copied() };
        let prefix = match &self.prefixes {
            Prefixes::Few(few) => few.iter().find(|(prefix, _)| path.starts_with(prefix)).map(|(_, at)| *at),
            Prefixes::Many { lengths, first } => lengths
                .iter()
                .take_while(|length| **length <= path.len())
                .filter_map(|length| first.get(&path[..*length]).copied())
                .min(),
        };
        first(exact, prefix)
    }
}

fn first(one: Option<usize>, other: Option<usize>) -> Option<usize> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}
