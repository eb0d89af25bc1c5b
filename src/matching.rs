//! Generic matcher trees, ready to be asked: from a request or a connection to an action.
//!
//! [`Tree::compile`] makes a tree of a worker's own from a validated model: maps are hashes, prefixes are found by search, ranges and names by
//! one look-up per length that occurs. What is asked about stands behind [`Inputs`], so that routes, filters and listeners use one engine.
//! An answer has three values, as Envoy's: found, not found, and not known yet, where an input comes later. Trees are as deep as the
//! configuration allows, which bounds the recursion; nothing here allocates but what an input has to. A tree lives as long as the configuration
//! that it is part of and holds no state, so neither a reload nor a drain has anything to do with it.

use std::borrow::Cow;

use crate::config::model::MatchInput;

mod names;
mod predicate;
mod prefixes;
mod ranges;
mod tree;

pub use tree::Tree;

/// What a tree is asked about.
pub trait Inputs {
    /// What is there for an input.
    fn get<'a>(&'a self, input: &'a MatchInput) -> Input<'a>;
}

/// What is there for an input.
#[derive(Clone, Debug, PartialEq)]
pub enum Input<'a> {
    /// A text.
    Text(Cow<'a, [u8]>),
    /// A value of metadata.
    Value(serde_json::Value),
    /// Nothing, and there will be nothing.
    Absent,
    /// Nothing yet.
    Later,
}

impl<'a> Input<'a> {
    /// A text, where there is one that is not empty.
    pub fn text(text: Option<impl Into<Cow<'a, [u8]>>>) -> Self {
        match text.map(Into::into) {
            Some(text) if !text.is_empty() => Self::Text(text),
            _ => Self::Absent,
        }
    }

    /// What was formatted.
    pub fn shown(value: impl ToString) -> Self {
        Self::Text(Cow::Owned(value.to_string().into_bytes()))
    }
}

/// What a tree says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Match<T> {
    /// This action.
    Found(T),
    /// Nothing.
    None,
    /// Nothing yet: an input that decides comes later.
    NotYet,
}

impl<T> Match<T> {
    /// The action, where there is one.
    pub fn found(self) -> Option<T> {
        match self {
            Self::Found(action) => Some(action),
            Self::None | Self::NotYet => None,
        }
    }
}

#[cfg(test)]
mod tests;
