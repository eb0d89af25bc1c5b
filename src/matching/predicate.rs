//! Predicates: whether an input is what is wanted, and what is made of such questions.

use std::net::IpAddr;

use xxhash_rust::xxh64::xxh64;

use super::{Input, Inputs};
use crate::config::model::{InputMatch, MatchInput, Predicate};

/// A predicate of a worker's own: its expressions have caches of their own.
#[derive(Debug)]
pub(super) struct Asked(Predicate);

impl Asked {
    pub(super) fn compile(model: &Predicate) -> Self {
        Self(model.clone())
    }

    /// Whether it holds; `None` where that is not known yet.
    pub(super) fn holds(&self, inputs: &dyn Inputs) -> Option<bool> {
        holds(&self.0, inputs)
    }
}

fn holds(predicate: &Predicate, inputs: &dyn Inputs) -> Option<bool> {
    match predicate {
        Predicate::Input(input, wanted) => is(input, wanted, inputs),
        // The first that does not hold, or is not known, decides.
        Predicate::All(all) => {
            for one in all {
                match holds(one, inputs) {
                    Some(true) => {}
                    other => return other,
                }
            }
            Some(true)
        }
        // One that is not known does not keep another from holding.
        Predicate::Any(any) => {
            let mut is_known = true;
            for one in any {
                match holds(one, inputs) {
                    Some(true) => return Some(true),
                    Some(false) => {}
                    None => is_known = false,
                }
            }
            is_known.then_some(false)
        }
        Predicate::Not(one) => holds(one, inputs).map(|holds| !holds),
    }
}

fn is(input: &MatchInput, wanted: &InputMatch, inputs: &dyn Inputs) -> Option<bool> {
    let text = match (inputs.get(input), wanted) {
        (Input::Later, _) => return None,
        (Input::Value(there), InputMatch::Metadata { value, invert }) => {
            return Some(value.matches(Some(&there)) != *invert);
        }
        (_, InputMatch::Metadata { value, invert }) => return Some(value.matches(None) != *invert),
        (Input::Text(text), _) => text,
        (Input::Absent | Input::Value(_), _) => return Some(false),
    };
    Some(match wanted {
        InputMatch::Text(wanted) => wanted.matches(&text),
        InputMatch::Ip(ranges) => {
            let address = std::str::from_utf8(&text).ok().and_then(|text| text.parse::<IpAddr>().ok());
            address.is_some_and(|address| ranges.iter().any(|range| range.contains(address)))
        }
        InputMatch::Hash { threshold, modulo, seed } => xxh64(&text, *seed) % (*modulo).max(1) >= *threshold,
        InputMatch::Part(part, seed) => part.holds(xxh64(&text, *seed)),
        InputMatch::Metadata { .. } => false,
    })
}
