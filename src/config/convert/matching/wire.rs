//! Messages that the API's package does not carry: `xds.type.matcher.v3.IPMatcher` and `ServerNameMatcher`.

use envoy_types::pb::xds::core::v3::CidrRange;
use envoy_types::pb::xds::r#type::matcher::v3::matcher::OnMatch;

use crate::config::proto::Decode;

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct IpMatcher {
    #[prost(message, repeated, tag = "1")]
    pub(super) range_matchers: Vec<IpRangeMatcher>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct IpRangeMatcher {
    #[prost(message, repeated, tag = "1")]
    pub(super) ranges: Vec<CidrRange>,
    #[prost(message, optional, tag = "2")]
    pub(super) on_match: Option<OnMatch>,
    #[prost(bool, tag = "3")]
    pub(super) exclusive: bool,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct ServerNameMatcher {
    #[prost(message, repeated, tag = "1")]
    pub(super) domain_matchers: Vec<DomainMatcher>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct DomainMatcher {
    #[prost(string, repeated, tag = "1")]
    pub(super) domains: Vec<String>,
    #[prost(message, optional, tag = "2")]
    pub(super) on_match: Option<OnMatch>,
}

impl Decode for IpMatcher {
    fn decode_wire(bytes: &[u8]) -> Result<Self, String> {
        <Self as prost::Message>::decode(bytes).map_err(|error| error.to_string())
    }
}

impl Decode for ServerNameMatcher {
    fn decode_wire(bytes: &[u8]) -> Result<Self, String> {
        <Self as prost::Message>::decode(bytes).map_err(|error| error.to_string())
    }
}
