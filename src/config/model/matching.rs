//! Generic matcher trees: from a request or a connection to an action.
//!
//! The shape is that of `xds.type.matcher.v3.Matcher`; what an action is, is said by whoever has the tree. [`crate::matching`] makes trees
//! ready and asks them.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::{Cidr, Fraction, HeadField, Keyed, Regex, StringMatch, StringPattern};

/// `xds.type.matcher.v3.Matcher`.
#[derive(Clone, Debug, PartialEq)]
pub struct MatchTree<A> {
    /// What is asked.
    pub branches: Branches<A>,
    /// `on_no_match`.
    pub otherwise: Option<OnMatch<A>>,
}

/// The ways on from one place of a tree.
#[derive(Clone, Debug, PartialEq)]
pub enum Branches<A> {
    /// `matcher_list`: the first that holds. May be empty.
    List(Vec<(Predicate, OnMatch<A>)>),
    /// `exact_match_map`: the input is the key. Sorted by key.
    Exact(MatchInput, Vec<(String, OnMatch<A>)>),
    /// `prefix_match_map`: the input begins with the key; the longest first. Sorted by key.
    Prefix(MatchInput, Vec<(String, OnMatch<A>)>),
    /// `xds.type.matcher.v3.IPMatcher`: the input is an address within a range; the smallest first.
    Ranges(MatchInput, Vec<Ranges<A>>),
    /// `xds.type.matcher.v3.ServerNameMatcher`: the input is a name, or stands under one (`*.example.com`); the longest first.
    Names(MatchInput, Vec<(Vec<String>, OnMatch<A>)>),
}

/// Ranges of addresses that lead to one place.
#[derive(Clone, Debug, PartialEq)]
pub struct Ranges<A> {
    /// Any of them.
    pub ranges: Vec<Cidr>,
    /// What follows.
    pub then: OnMatch<A>,
    /// `exclusive`: not looked at once a smaller range has been tried in vain.
    pub exclusive: bool,
}

/// `xds.type.matcher.v3.Matcher.OnMatch`: what follows from a match.
#[derive(Clone, Debug, PartialEq)]
pub enum OnMatch<A> {
    /// `action`.
    Act(A),
    /// `matcher`: where it has nothing to say, nothing has matched here either.
    Match(Box<MatchTree<A>>),
}

/// `xds.type.matcher.v3.Matcher.MatcherList.Predicate`.
#[derive(Clone, Debug, PartialEq)]
pub enum Predicate {
    /// `single_predicate`.
    Input(MatchInput, InputMatch),
    /// `and_matcher`.
    All(Vec<Predicate>),
    /// `or_matcher`.
    Any(Vec<Predicate>),
    /// `not_matcher`.
    Not(Box<Predicate>),
}

/// What is looked at.
#[derive(Clone, Debug, PartialEq)]
pub enum MatchInput {
    /// `HttpRequestHeaderMatchInput`: several values are joined with commas.
    RequestHeader(HeadField),
    /// `HttpResponseHeaderMatchInput`.
    ResponseHeader(HeadField),
    /// `HttpResponseStatusCodeMatchInput`.
    Status,
    /// `HttpResponseStatusCodeClassMatchInput`: `2xx`.
    StatusClass,
    /// `HttpResponseLocalReplyMatchInput`: `true` or `false`.
    LocalReply,
    /// `HttpRequestQueryParamMatchInput`: the first of that name, decoded.
    Query(String),
    /// `DestinationIPInput`.
    DestinationIp,
    /// `DestinationPortInput`.
    DestinationPort,
    /// `SourceIPInput`: for a request, the trusted address of the client.
    SourceIp,
    /// `SourcePortInput`.
    SourcePort,
    /// `DirectSourceIPInput`: the other end of the connection.
    DirectSourceIp,
    /// `SourceTypeInput`: `local`, or nothing.
    SourceType,
    /// `ServerNameInput`.
    ServerName,
    /// `TransportProtocolInput`: `tls` or `raw_buffer`.
    TransportProtocol,
    /// `ApplicationProtocolInput`: those that the client offers, as `'h2','http/1.1'`.
    ApplicationProtocol,
    /// `UriSanInput`: of the client's certificate, joined with commas.
    UriSan,
    /// `DnsSanInput`.
    DnsSan,
    /// `SubjectInput`.
    Subject,
    /// `FilterStateInput`: the object as a text.
    FilterState(String),
    /// `DynamicMetadataInput`: no text, but a value for [`InputMatch::Metadata`].
    Metadata(MetadataPath),
    /// A text that was known when the configuration was read (an environment variable).
    Constant(Option<String>),
}

impl<A> MatchTree<A> {
    /// Shows every input that the tree may look at.
    pub fn each_input(&self, see: &mut dyn FnMut(&MatchInput)) {
        let then = |then: &OnMatch<A>, see: &mut dyn FnMut(&MatchInput)| {
            if let OnMatch::Match(tree) = then {
                tree.each_input(see);
            }
        };
        match &self.branches {
            Branches::List(list) => list.iter().for_each(|(predicate, next)| {
                predicate.each_input(see);
                then(next, see);
            }),
            Branches::Exact(input, map) | Branches::Prefix(input, map) => {
                see(input);
                map.iter().for_each(|(_, next)| then(next, see));
            }
            Branches::Ranges(input, ranges) => {
                see(input);
                ranges.iter().for_each(|range| then(&range.then, see));
            }
            Branches::Names(input, names) => {
                see(input);
                names.iter().for_each(|(_, next)| then(next, see));
            }
        }
        self.otherwise.iter().for_each(|next| then(next, see));
    }
}

impl Predicate {
    fn each_input(&self, see: &mut dyn FnMut(&MatchInput)) {
        match self {
            Self::Input(input, _) => see(input),
            Self::All(all) | Self::Any(all) => all.iter().for_each(|one| one.each_input(see)),
            Self::Not(one) => one.each_input(see),
        }
    }
}

impl MatchInput {
    /// Whether it is known of a connection before its filter chain is.
    pub fn is_of_connection(&self) -> bool {
        matches!(
            self,
            Self::DestinationIp
                | Self::DestinationPort
                | Self::SourceIp
                | Self::SourcePort
                | Self::DirectSourceIp
                | Self::SourceType
                | Self::ServerName
                | Self::TransportProtocol
                | Self::ApplicationProtocol
                | Self::Constant(_)
        )
    }

    /// Whether it is known of a request before it has a response.
    pub fn is_of_request(&self) -> bool {
        !self.is_of_response() && !matches!(self, Self::TransportProtocol | Self::ApplicationProtocol)
    }

    /// Whether it is of a response.
    pub fn is_of_response(&self) -> bool {
        matches!(self, Self::ResponseHeader(_) | Self::Status | Self::StatusClass | Self::LocalReply)
    }
}

/// How an input is judged.
#[derive(Clone, Debug, PartialEq)]
pub enum InputMatch {
    /// `value_match`.
    Text(StringMatch),
    /// `envoy.extensions.matching.input_matchers.ip.v3.Ip`: an address in one of them.
    Ip(Vec<Cidr>),
    /// `…consistent_hashing.v3.ConsistentHashing`: the hash of the input, modulo, is not below the threshold.
    Hash {
        /// Not below this,
        threshold: u64,
        /// modulo this (not 0).
        modulo: u64,
        /// What the hash begins with.
        seed: u64,
    },
    /// `…runtime_fraction.v3.RuntimeFraction`: a part of all inputs, by their hash.
    Part(Keyed<Fraction>, u64),
    /// `…metadata.v3.Metadata`: a value of the metadata.
    Metadata {
        /// How.
        value: ValueMatch,
        /// `invert`.
        invert: bool,
    },
}

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

impl StringMatch {
    /// An expression for all of a text.
    pub fn regex(regex: Regex) -> Self {
        Self { pattern: StringPattern::Regex(regex), ignore_case: false }
    }
}
