//! What filters read of the messages that decide who may come in: the same conversions, offered by [`Reader`].

use envoy_types::pb::envoy::config::core::v3 as core;
use envoy_types::pb::envoy::config::route::v3 as route;

use super::{address, matcher};
use crate::config::extension::Reader;
use crate::config::model::{Cidr, HeaderMatch};

impl Reader<'_> {
    /// A condition on a header.
    pub fn header_match(&mut self, message: route::HeaderMatcher) -> Option<HeaderMatch> {
        matcher::header(self.context, message)
    }

    /// A range of addresses.
    pub fn cidr(&mut self, message: core::CidrRange) -> Option<Cidr> {
        address::cidr(self.context, message)
    }
}
