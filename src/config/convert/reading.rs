//! What filters read of the messages that decide who may come in: the same conversions, offered by [`Reader`].

use envoy_types::pb::envoy::config::core::v3 as core;
use envoy_types::pb::envoy::config::route::v3 as route;
use envoy_types::pb::google::protobuf::Any;

use super::extension::PATH_MATCHERS;
use super::{access_log, address, matcher};
use crate::config::extension::Reader;
use crate::config::model::{Cidr, HeaderMatch, LogFormat, UriTemplate};

impl Reader<'_> {
    /// A condition on a header.
    pub fn header_match(&mut self, message: route::HeaderMatcher) -> Option<HeaderMatch> {
        matcher::header(self.context, message)
    }

    /// A range of addresses.
    pub fn cidr(&mut self, message: core::CidrRange) -> Option<Cidr> {
        address::cidr(self.context, message)
    }

    /// A text with command operators.
    pub fn format(&mut self, message: core::SubstitutionFormatString) -> Option<LogFormat> {
        access_log::substitution(self.context, message)
    }

    /// A URI template, by its name and type.
    pub fn uri_template(&mut self, name: &str, any: Option<&Any>) -> Option<UriTemplate> {
        PATH_MATCHERS.parse(self.context, name, any)
    }
}
