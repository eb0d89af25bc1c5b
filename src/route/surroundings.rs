//! What a matcher or a condition asks of a request beside its head: only the one who has the request knows.

use std::borrow::Cow;

use crate::codec::head::RequestHead;
use crate::config::model::{FilterStateMatch, MatchInput, MetadataMatch};
use crate::matching::{Input, Inputs};

use super::facts::{field, query};

/// A request's connection, metadata and filter state.
pub trait Surroundings {
    /// An input that is not of the request's head.
    fn input(&self, input: &MatchInput) -> Input<'_>;

    /// Whether the dynamic metadata match.
    fn metadata(&self, wanted: &MetadataMatch) -> bool;

    /// Whether the filter state matches.
    fn filter_state(&self, wanted: &FilterStateMatch) -> bool;

    /// The hash of an object of the filter state that can be hashed.
    fn hash(&self, key: &str) -> Option<u64>;
}

/// The surroundings of a head of which nothing else is known.
#[derive(Clone, Copy, Debug)]
pub struct Nothing;

impl Surroundings for Nothing {
    fn input(&self, _: &MatchInput) -> Input<'_> {
        Input::Absent
    }

    fn metadata(&self, wanted: &MetadataMatch) -> bool {
        wanted.matches(None)
    }

    fn filter_state(&self, _: &FilterStateMatch) -> bool {
        false
    }

    fn hash(&self, _: &str) -> Option<u64> {
        None
    }
}

/// A request, as matcher trees ask it.
#[derive(Clone, Copy)]
pub struct Asked<'a> {
    /// Its head.
    pub head: &'a RequestHead,
    /// All else.
    pub around: &'a dyn Surroundings,
}

impl Inputs for Asked<'_> {
    fn get<'a>(&'a self, input: &'a MatchInput) -> Input<'a> {
        match input {
            MatchInput::RequestHeader(name) => field(self.head, name).map_or(Input::Absent, Input::Text),
            MatchInput::Query(name) => {
                query(self.head, name).map_or(Input::Absent, |value| Input::Text(decoded(value)))
            }
            MatchInput::Constant(text) => {
                text.as_ref().map_or(Input::Absent, |text| Input::Text(text.as_bytes().into()))
            }
            MatchInput::ResponseHeader(_) | MatchInput::Status | MatchInput::StatusClass | MatchInput::LocalReply => {
                Input::Later
            }
            other => self.around.input(other),
        }
    }
}

/// Without percent signs; what is no encoding stays.
pub(super) fn decoded(value: &[u8]) -> Cow<'_, [u8]> {
    if !value.contains(&b'%') {
        return value.into();
    }
    let digit =
        |byte: Option<&u8>| byte.and_then(|byte| char::from(*byte).to_digit(16)).and_then(|it| u8::try_from(it).ok());
    let mut out = Vec::with_capacity(value.len());
    let mut at = 0;
    while let Some(byte) = value.get(at) {
        match (byte, digit(value.get(at + 1)), digit(value.get(at + 2))) {
            (b'%', Some(high), Some(low)) => {
                out.push(high << 4 | low);
                at += 3;
            }
            (byte, ..) => {
                out.push(*byte);
                at += 1;
            }
        }
    }
    out.into()
}
