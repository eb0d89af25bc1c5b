//! What the settings of HTTP filters have in common with routes, read by the same code.

use envoy_types::pb::envoy::config::core::v3 as core;
use envoy_types::pb::envoy::config::route::v3 as route;
use envoy_types::pb::envoy::r#type::matcher::v3 as api;
use envoy_types::pb::envoy::r#type::v3 as kind;
use envoy_types::pb::google::protobuf;
use http::HeaderName;

use super::{header_rules, matcher, values};
use crate::config::extension::Reader;
use crate::config::model::{Fraction, HeaderAddition, HeaderMatch, Keyed, StringMatch, Substitution};
use crate::runtime::{Key, Runtime};

impl Reader<'_> {
    /// Reads every element of a list; those that cannot be read have been told of and are left out.
    pub fn each<S, T>(
        &mut self,
        field: &'static str,
        elements: impl IntoIterator<Item = S>,
        mut read: impl FnMut(&mut Reader<'_>, S) -> Option<T>,
    ) -> Vec<T> {
        self.context.each(field, elements, |context, element| read(&mut Reader::new(context), element))
    }

    /// Reads within an entry of a map.
    pub fn at_key<T>(&mut self, key: &str, read: impl FnOnce(&mut Reader<'_>) -> T) -> T {
        self.context.at_key(key, |context| read(&mut Reader::new(context)))
    }

    /// Conditions on headers.
    pub fn header_matches(&mut self, field: &'static str, messages: Vec<route::HeaderMatcher>) -> Vec<HeaderMatch> {
        self.context.each(field, messages, matcher::header)
    }

    /// Conditions on texts.
    pub fn text_matches(&mut self, field: &'static str, messages: Vec<api::StringMatcher>) -> Vec<StringMatch> {
        self.context.each(field, messages, matcher::text)
    }

    /// A condition on a text.
    pub fn text_match(&mut self, message: api::StringMatcher) -> Option<StringMatch> {
        matcher::text(self.context, message)
    }

    /// A pattern and what stands for its matches.
    pub fn substitution(&mut self, message: api::RegexMatchAndSubstitute) -> Option<Substitution> {
        matcher::substitution(self.context, message)
    }

    /// A part of all requests, unless a runtime value says otherwise.
    pub fn fraction(&self, message: core::RuntimeFractionalPercent) -> Keyed<Fraction> {
        self.context.fraction(message)
    }

    /// A switch that is `otherwise` where nothing is said, unless a runtime value says otherwise.
    pub fn flag(&self, message: Option<core::RuntimeFeatureFlag>, otherwise: bool) -> Keyed<bool> {
        self.context.flag(message, otherwise)
    }

    /// The runtime values: for settings whose names in it are made of what a request says.
    pub fn runtime(&self) -> &Runtime {
        &self.context.runtime
    }

    /// The name of a runtime value; `None` where no layer can have one.
    pub fn key(&self, name: &str) -> Option<Box<Key>> {
        self.context.runtime.key(name)
    }

    /// A setting that the runtime value of that name replaces.
    pub fn keyed<T: Copy>(&self, default: T, name: &str) -> Keyed<T> {
        self.context.keyed(default, name)
    }

    /// A part of all requests; none where nothing is said.
    pub fn percentage(&mut self, message: Option<kind::FractionalPercent>) -> Fraction {
        matcher::percent(message.unwrap_or_default())
    }

    /// A header that is added.
    pub fn header_addition(&mut self, message: core::HeaderValueOption) -> Option<HeaderAddition> {
        header_rules::addition(self.context, message)
    }

    /// A header that is removed.
    pub fn header_removal(&mut self, name: String) -> Option<HeaderName> {
        header_rules::removal(self.context, name)
    }

    /// A duration; one that is negative or malformed is an error at `field`.
    pub fn duration(&mut self, field: &'static str, value: &Option<protobuf::Duration>) -> Option<std::time::Duration> {
        values::duration(self.context, field, value)
    }

    /// `node.cluster`: the service that this proxy belongs to; may be empty.
    pub fn service_cluster(&self) -> &str {
        &self.context.node.cluster
    }
}
