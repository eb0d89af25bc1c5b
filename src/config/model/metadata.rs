//! Conditions on metadata and on the filter state, and the metadata that the configuration itself has.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::{Cidr, StringMatch};

/// Where a value of metadata stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MetadataPath {
    /// The namespace; most often the name of the filter that left it.
    pub namespace: String,
    /// The names of structures within one another; not empty.
    pub path: Vec<String>,
}

impl MetadataPath {
    /// The value within the structure of its namespace.
    pub fn find<'v>(&self, of: &'v serde_json::Map<String, serde_json::Value>) -> Option<&'v serde_json::Value> {
        let (first, rest) = self.path.split_first()?;
        rest.iter().try_fold(of.get(first)?, |value, key| value.as_object()?.get(key))
    }
}

/// `envoy.config.core.v3.Metadata`, by namespace: what the configuration itself says of a resource.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Metadata(pub BTreeMap<String, serde_json::Map<String, serde_json::Value>>);

impl Metadata {
    /// The value at a place.
    pub fn find(&self, at: &MetadataPath) -> Option<&serde_json::Value> {
        at.find(self.0.get(&at.namespace)?)
    }
}

/// `envoy.type.matcher.v3.MetadataMatcher`.
#[derive(Clone, Debug, PartialEq)]
pub struct MetadataMatch {
    /// Where.
    pub at: MetadataPath,
    /// What.
    pub value: ValueMatch,
    /// `invert`: then a value that is absent matches, too.
    pub invert: bool,
}

impl MetadataMatch {
    /// Whether the value that was found there, or none, matches.
    pub fn matches(&self, value: Option<&serde_json::Value>) -> bool {
        self.value.matches(value) != self.invert
    }
}

/// A number that is the same as itself, whatever it is.
#[derive(Clone, Copy, Debug)]
pub struct Double(pub f64);

impl PartialEq for Double {
    fn eq(&self, other: &Self) -> bool {
        self.0.total_cmp(&other.0).is_eq()
    }
}

impl Eq for Double {}

/// `envoy.type.matcher.v3.ValueMatcher`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ValueMatch {
    /// `null_match`.
    Null,
    /// `double_match` of one number.
    Number(Double),
    /// `double_match` from `start` up to, and without, `end`.
    Range {
        /// The first that matches.
        start: Double,
        /// The first that does not match any more.
        end: Double,
    },
    /// `string_match`.
    Text(StringMatch),
    /// `bool_match`.
    Bool(bool),
    /// `present_match`: there is something. False never matches.
    Present(bool),
    /// `list_match` with `one_of`.
    OneOf(Box<ValueMatch>),
    /// `or_match`.
    Any(Vec<ValueMatch>),
}

impl ValueMatch {
    /// Whether a value, or that there is none, matches.
    pub fn matches(&self, value: Option<&serde_json::Value>) -> bool {
        use serde_json::Value;
        match (self, value) {
            (Self::Any(any), value) => any.iter().any(|one| one.matches(value)),
            (Self::Present(wanted), value) => *wanted && value.is_some(),
            (_, None) => false,
            (Self::Null, Some(value)) => value.is_null(),
            (Self::Number(wanted), Some(value)) => value.as_f64().is_some_and(|number| number == wanted.0),
            (Self::Range { start, end }, Some(value)) => {
                value.as_f64().is_some_and(|number| number >= start.0 && number < end.0)
            }
            (Self::Text(text), Some(Value::String(value))) => text.matches(value.as_bytes()),
            (Self::Bool(wanted), Some(Value::Bool(value))) => wanted == value,
            (Self::OneOf(one), Some(Value::Array(values))) => values.iter().any(|value| one.matches(Some(value))),
            (Self::Text(_) | Self::Bool(_) | Self::OneOf(_), Some(_)) => false,
        }
    }
}

/// `envoy.type.matcher.v3.FilterStateMatcher`.
#[derive(Clone, Debug, PartialEq)]
pub struct FilterStateMatch {
    /// The name of the object.
    pub key: String,
    /// How it is judged.
    pub value: StateMatch,
}

/// How an object of the filter state is judged.
#[derive(Clone, Debug, PartialEq)]
pub enum StateMatch {
    /// `string_match`, of what it is as a text.
    Text(StringMatch),
    /// `address_match`, of an address.
    Address {
        /// One of them,
        ranges: Vec<Cidr>,
        /// or none of them.
        invert: bool,
    },
}

impl StateMatch {
    /// Whether an object matches that is this text, or this address.
    pub fn matches(&self, text: Option<&str>, address: Option<IpAddr>) -> bool {
        match self {
            Self::Text(wanted) => text.is_some_and(|text| wanted.matches(text.as_bytes())),
            Self::Address { ranges, invert } => {
                address.is_some_and(|address| ranges.iter().any(|range| range.contains(address)) != *invert)
            }
        }
    }
}
