//! Limits of their own for requests that have a descriptor: by all of its entries, or by their keys, with a bucket for each of the values that come.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use crate::route::Descriptor;

use super::bucket::{Bucket, Rate};

/// All rules of a filter.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Rules {
    all: Vec<Rule>,
    exact: HashMap<Box<[u8]>, usize>,
    /// By keys alone, in order of the configuration.
    wild: HashMap<Box<[u8]>, Vec<usize>>,
}

/// `envoy.extensions.common.ratelimit.v3.LocalRateLimitDescriptor`.
#[derive(Debug, PartialEq)]
pub(super) struct Rule {
    /// Without a value where any will do.
    entries: Vec<(String, Option<String>)>,
    pub(super) rate: Rate,
    /// `shadow_mode`: it counts and denies nothing.
    pub(super) shadow: bool,
    buckets: Buckets,
}

/// The buckets of a rule, of all workers.
#[derive(Debug, PartialEq)]
enum Buckets {
    One(Arc<Bucket>),
    /// By the values that came, the latest so many of them.
    Many(Latest),
}

/// The rule of a descriptor.
pub(super) struct Found<'r> {
    pub(super) at: usize,
    pub(super) rule: &'r Rule,
    /// What tells its bucket from others of the rule.
    pub(super) key: Box<[u8]>,
}

impl Rule {
    /// At most `most` buckets where any values will do.
    pub(super) fn new(entries: Vec<(String, Option<String>)>, rate: Rate, shadow: bool, most: usize) -> Self {
        let buckets = if entries.iter().all(|(_, value)| value.is_some()) {
            Buckets::One(Arc::default())
        } else {
            Buckets::Many(Latest { most: most.max(1), kept: Mutex::default() })
        };
        Self { entries, rate, shadow, buckets }
    }

    /// As Envoy writes it.
    fn name(&self) -> String {
        let entries = self.entries.iter().map(|(key, value)| format!("{key}={}", value.as_deref().unwrap_or_default()));
        entries.collect::<Vec<_>>().join(", ")
    }

    fn takes(&self, descriptor: &Descriptor<'_>) -> bool {
        let wanted = self.entries.iter().map(|(_, value)| value);
        let mut both = wanted.zip(&descriptor.entries);
        both.all(|(wanted, entry)| wanted.as_ref().is_none_or(|wanted| wanted.as_bytes() == &*entry.value))
    }
}

impl Found<'_> {
    /// Its bucket among those of all workers.
    pub(super) fn bucket(&self) -> Arc<Bucket> {
        match &self.rule.buckets {
            Buckets::One(bucket) => bucket.clone(),
            Buckets::Many(latest) => latest.get(&self.key),
        }
    }
}

impl Rules {
    /// Adds a rule.
    ///
    /// # Errors
    /// There is one for the same descriptor, whose name is given; what has been added is of no use any more.
    pub(super) fn add(&mut self, rule: Rule) -> Result<(), String> {
        let at = self.all.len();
        let is_new = match &rule.buckets {
            Buckets::One(_) => {
                let parts = rule.entries.iter().flat_map(|(key, value)| [key.as_str(), value.as_deref().unwrap_or("")]);
                self.exact.insert(key(parts.map(str::as_bytes)), at).is_none()
            }
            Buckets::Many(_) => {
                let same = self.wild.entry(key(rule.entries.iter().map(|(key, _)| key.as_bytes()))).or_default();
                let is_new =
                    !same.iter().any(|at| self.all.get(*at).is_some_and(|other| other.entries == rule.entries));
                same.push(at);
                is_new
            }
        };
        if !is_new {
            return Err(rule.name());
        }
        self.all.push(rule);
        Ok(())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    pub(super) fn get(&self, at: usize) -> Option<&Rule> {
        self.all.get(at)
    }

    /// The rule for a descriptor: the one with all its values, or else the first that takes them.
    pub(super) fn find(&self, descriptor: &Descriptor<'_>) -> Option<Found<'_>> {
        let entries = &descriptor.entries;
        let all = key(entries.iter().flat_map(|entry| [entry.key.as_bytes(), &*entry.value]));
        let at = match self.exact.get(&all) {
            Some(at) => *at,
            None if self.wild.is_empty() => return None,
            None => {
                let candidates = self.wild.get(&key(entries.iter().map(|entry| entry.key.as_bytes())))?;
                let takes = |at: &&usize| self.all.get(**at).is_some_and(|rule| rule.takes(descriptor));
                *candidates.iter().find(takes)?
            }
        };
        Some(Found { at, rule: self.all.get(at)?, key: all })
    }
}

/// Parts that cannot be taken for others, one behind the other.
fn key<'p>(parts: impl Iterator<Item = &'p [u8]>) -> Box<[u8]> {
    let mut key = Vec::new();
    for part in parts {
        key.extend_from_slice(&part.len().to_le_bytes());
        key.extend_from_slice(part);
    }
    key.into()
}

/// The buckets that were asked for last. What they hold is no part of what was configured: as settings, all are equal.
#[derive(Debug)]
struct Latest {
    most: usize,
    kept: Mutex<Kept>,
}

impl PartialEq for Latest {
    fn eq(&self, other: &Self) -> bool {
        self.most == other.most
    }
}

#[derive(Debug, Default)]
struct Kept {
    /// With when it was asked for.
    buckets: HashMap<Box<[u8]>, (u64, Arc<Bucket>)>,
    by_time: BTreeMap<u64, Box<[u8]>>,
    now: u64,
}

impl Latest {
    fn get(&self, key: &[u8]) -> Arc<Bucket> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let Kept { buckets, by_time, now } = &mut *kept;
        *now += 1;
        if let Some((asked, bucket)) = buckets.get_mut(key) {
            by_time.remove(asked);
            *asked = *now;
            by_time.insert(*now, key.into());
            return bucket.clone();
        }
        if buckets.len() >= self.most
            && let Some((_, oldest)) = by_time.pop_first()
        {
            buckets.remove(&oldest);
        }
        let bucket = Arc::<Bucket>::default();
        buckets.insert(key.into(), (*now, bucket.clone()));
        by_time.insert(*now, key.into());
        bucket
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_latest_buckets_are_kept() {
        let latest = Latest { most: 2, kept: Mutex::default() };
        let one = latest.get(b"1");
        latest.get(b"2");
        assert!(Arc::ptr_eq(&one, &latest.get(b"1")));
        latest.get(b"3");
        assert!(Arc::ptr_eq(&one, &latest.get(b"1")), "2 was older");
        assert_eq!(latest.kept.lock().unwrap().buckets.len(), 2);
        assert_eq!(latest.kept.lock().unwrap().by_time.len(), 2);
    }

    #[test]
    fn parts_are_told_apart() {
        let of = |parts: &[&str]| key(parts.iter().map(|part| part.as_bytes()));
        assert_ne!(of(&["a", "bc"]), of(&["ab", "c"]));
        assert_ne!(of(&["a"]), of(&["a", ""]));
    }
}
