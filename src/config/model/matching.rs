//! Generic matcher trees: from a request or a connection to an action.
//!
//! The shape is that of `xds.type.matcher.v3.Matcher`; what an action is, is said by whoever has the tree. [`crate::matching`] makes trees
//! ready and asks them.

use super::{Cidr, Fraction, HeadField, Keyed, MetadataPath, StringMatch, ValueMatch};

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
