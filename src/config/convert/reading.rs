//! What filters read of the messages that many settings share: the same conversions, offered by [`Reader`].

use std::time::Duration;

use envoy_types::pb::envoy::config::core::v3 as core;
use envoy_types::pb::envoy::config::route::v3 as route;
use envoy_types::pb::envoy::r#type::matcher::v3 as matchers;
use envoy_types::pb::google::protobuf;

use super::{address, header_rules, matcher, values};
use crate::config::extension::Reader;
use crate::config::model::{Cidr, Fraction, HeaderAddition, HeaderMatch, StringMatch};

impl Reader<'_> {
    /// Reads every element of a list; those that are faulty are left out.
    pub fn each<S, T>(
        &mut self,
        field: &'static str,
        elements: impl IntoIterator<Item = S>,
        mut read: impl FnMut(&mut Reader<'_>, S) -> Option<T>,
    ) -> Vec<T> {
        self.context.each(field, elements, |context, element| read(&mut Reader { context }, element))
    }

    /// Reads within an entry of a map.
    pub fn at_key<T>(&mut self, key: &str, read: impl FnOnce(&mut Reader<'_>) -> T) -> T {
        self.context.at_key(key, |context| read(&mut Reader { context }))
    }

    /// A duration; one that is negative or malformed is an error at `field`.
    pub fn duration(&mut self, field: &'static str, value: &Option<protobuf::Duration>) -> Option<Duration> {
        values::duration(self.context, field, value)
    }

    /// A part of all requests; the default of a runtime key, which nothing overrides here.
    pub fn fraction(&mut self, message: core::RuntimeFractionalPercent) -> Fraction {
        matcher::fraction(message)
    }

    /// A condition on a header.
    pub fn header_match(&mut self, message: route::HeaderMatcher) -> Option<HeaderMatch> {
        matcher::header(self.context, message)
    }

    /// A condition on a text.
    pub fn string_match(&mut self, message: matchers::StringMatcher) -> Option<StringMatch> {
        matcher::text(self.context, message)
    }

    /// A range of addresses.
    pub fn cidr(&mut self, message: core::CidrRange) -> Option<Cidr> {
        address::cidr(self.context, message)
    }

    /// Headers to be added.
    pub fn additions(&mut self, field: &'static str, messages: Vec<core::HeaderValueOption>) -> Vec<HeaderAddition> {
        self.context.each(field, messages, header_rules::addition)
    }
}
