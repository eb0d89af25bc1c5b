//! What a request is counted by: the descriptors that rate limits make of it.
//!
//! Pure: from a request and the rate limits of its route, its virtual host or a filter to lists of keys and values. The filters that limit ask for
//! them; a request that no such filter looks at is none the slower.

use std::borrow::Cow;
use std::net::IpAddr;

use crate::codec::head::RequestHead;
use crate::config::model::{
    self, DescriptorAction, HeadField, HeaderMatch, HitsNumber, Metadata, Piece, QueryMatch, RateLimit,
};
use crate::matching::{Input, Inputs as _};

use super::conditions;
use super::facts::{field, matches, query, values};
use super::surroundings::{Asked, Surroundings};

/// A request as rate limits see it.
pub struct Counted<'a> {
    /// Its head.
    pub head: &'a RequestHead,
    /// What is known of it beside its head.
    pub around: &'a dyn Surroundings,
    /// The trusted address of its client.
    pub client: Option<IpAddr>,
    /// The name of the cluster that it goes to.
    pub cluster: Option<&'a str>,
    /// The metadata of its route.
    pub route: Option<&'a Metadata>,
    /// Makes a text of command operators.
    pub format: &'a dyn Fn(&[Piece]) -> Option<Vec<u8>>,
}

/// What a request is counted by.
#[derive(Clone, Debug, PartialEq)]
pub struct Descriptor<'a> {
    /// At least one.
    pub entries: Vec<Entry<'a>>,
    /// How much it counts; fewer than none where it gives back.
    pub hits: i64,
    /// What it was made by.
    pub by: &'a RateLimit,
}

/// A key and its value.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Entry<'a> {
    /// Not empty.
    pub key: &'a str,
    /// May be empty.
    pub value: Cow<'a, [u8]>,
}

/// The rate limits of a worker's own: their expressions have caches of their own.
#[derive(Clone, Debug, Default)]
pub struct RateLimits(Box<[RateLimit]>);

impl RateLimits {
    /// Of those of the configuration.
    pub fn compile(models: &[RateLimit]) -> Self {
        Self(models.into())
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds what those make of a request that `applies` picks.
    pub fn describe<'a>(
        &'a self,
        request: &Counted<'a>,
        applies: impl Fn(&RateLimit) -> bool,
        descriptors: &mut Vec<Descriptor<'a>>,
    ) {
        descriptors.extend(self.0.iter().filter(|limit| applies(limit)).filter_map(|limit| describe(limit, request)));
    }
}

/// `None` where an action has nothing to say that must say something.
fn describe<'a>(limit: &'a RateLimit, request: &Counted<'a>) -> Option<Descriptor<'a>> {
    let mut entries = Vec::with_capacity(limit.actions.len());
    for action in &limit.actions {
        match act(action, request) {
            Said::Entry(key, value) => entries.push(Entry { key, value }),
            Said::Nothing => {}
            Said::NoDescriptor => return None,
        }
    }
    let hits = match &limit.hits {
        None => 1,
        Some(hits) => {
            let number = match &hits.number {
                HitsNumber::Fixed(number) => *number,
                HitsNumber::Format(pieces) => {
                    let text = (request.format)(pieces)?;
                    let number: u64 = std::str::from_utf8(&text).ok()?.parse().ok()?;
                    Some(number).filter(|number| *number <= MOST_HITS)?
                }
            };
            let number = i64::try_from(number.min(MOST_HITS)).ok()?;
            if hits.negative { -number } else { number }
        }
    };
    (!entries.is_empty()).then_some(Descriptor { entries, hits, by: limit })
}

/// Envoy's.
const MOST_HITS: u64 = 1_000_000_000;

/// What an action says.
enum Said<'a> {
    Entry(&'a str, Cow<'a, [u8]>),
    Nothing,
    NoDescriptor,
}

fn act<'a>(action: &'a DescriptorAction, request: &Counted<'a>) -> Said<'a> {
    let head = request.head;
    let asked = |asked: &'a model::Asked, value: Option<Cow<'a, [u8]>>| match value {
        Some(value) => Said::Entry(&asked.key, value),
        None if asked.skip_if_absent => Said::Nothing,
        None => Said::NoDescriptor,
    };
    let fixed = |fixed: &'a model::Fixed, holds: bool| match holds {
        true => Said::Entry(&fixed.key, fixed.value.as_bytes().into()),
        false => Said::NoDescriptor,
    };
    let said = |key: &'a str, value: Option<String>| match value {
        Some(value) => Said::Entry(key, value.into_bytes().into()),
        None => Said::NoDescriptor,
    };
    match action {
        DescriptorAction::SourceCluster(name) => Said::Entry("source_cluster", name.as_bytes().into()),
        DescriptorAction::DestinationCluster => said("destination_cluster", request.cluster.map(str::to_owned)),
        DescriptorAction::Header(of, name) => asked(of, first(head, name)),
        DescriptorAction::Query(of, name) => asked(of, query(head, name).map(super::surroundings::decoded)),
        DescriptorAction::Address => said("remote_address", request.client.map(|client| client.to_string())),
        DescriptorAction::Network { v4, v6 } => {
            said("masked_remote_address", request.client.map(|client| network(client, *v4, *v6)))
        }
        DescriptorAction::Fixed(entry) => fixed(entry, true),
        DescriptorAction::Headers(entry, expected, all) => fixed(entry, all_headers(all, head) == *expected),
        DescriptorAction::Queries(entry, expected, all) => fixed(entry, all_queries(all, head) == *expected),
        DescriptorAction::Within(entry, expected, ranges) => {
            let is_within = |client: IpAddr| ranges.iter().any(|range| range.contains(client)) == *expected;
            fixed(entry, request.client.is_some_and(is_within))
        }
        DescriptorAction::Metadata { asked: of, at, of_route, default } => {
            let found = if *of_route {
                request.route.and_then(|metadata| metadata.find(at)).cloned()
            } else {
                match request.around.input(&model::MatchInput::Metadata(at.clone())) {
                    Input::Value(value) => Some(value),
                    _ => None,
                }
            };
            let text = match found {
                Some(serde_json::Value::String(text)) if !text.is_empty() => Some(text.into_bytes().into()),
                _ => Some(Cow::Borrowed(default.as_bytes())).filter(|default| !default.is_empty()),
            };
            asked(of, text)
        }
        DescriptorAction::Input(key, input) => match (Asked { head, around: request.around }).get(input) {
            Input::Text(text) => Said::Entry(key, text.into_owned().into()),
            Input::Value(_) | Input::Absent | Input::Later => Said::NoDescriptor,
        },
    }
}

/// The first value of a header that is there.
fn first<'a>(head: &'a RequestHead, name: &'a HeadField) -> Option<Cow<'a, [u8]>> {
    match name {
        HeadField::Header(name) => values(&head.headers, name).next().map(Cow::Borrowed),
        other => field(head, other),
    }
}

fn all_headers(all: &[HeaderMatch], head: &RequestHead) -> bool {
    all.iter().all(|matcher| matches(matcher, head))
}

fn all_queries(all: &[QueryMatch], head: &RequestHead) -> bool {
    all.iter().all(|matcher| conditions::has_query(matcher, head))
}

/// The network of an address, as `192.0.2.0/24`.
fn network(address: IpAddr, v4: u8, v6: u8) -> String {
    match address {
        IpAddr::V4(address) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(v4.min(32))).unwrap_or(0);
            format!("{}/{}", std::net::Ipv4Addr::from(u32::from(address) & mask), v4.min(32))
        }
        IpAddr::V6(address) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(v6.min(128))).unwrap_or(0);
            format!("{}/{}", std::net::Ipv6Addr::from(u128::from(address) & mask), v6.min(128))
        }
    }
}

#[cfg(test)]
mod tests;
