//! What requests are counted by: the descriptors of rate limits.

use super::{Cidr, HeadField, HeaderMatch, MatchInput, MetadataPath, Piece, QueryMatch};

/// `envoy.config.route.v3.RateLimit`: makes one descriptor of a request, or none.
#[derive(Clone, Debug, PartialEq)]
pub struct RateLimit {
    /// `stage`: filters of this stage ask for it.
    pub stage: u32,
    /// `disable_key`, or empty.
    pub disable_key: String,
    /// Each makes an entry; one that cannot leaves the whole descriptor out.
    pub actions: Vec<DescriptorAction>,
    /// `limit`, instead of what the rate limit service knows.
    pub limit: Option<LimitOverride>,
    /// `hits_addend`: how much a request counts; one where nothing is said.
    pub hits: Option<Hits>,
    /// `apply_on_stream_done`: it only counts, when the response is over.
    pub on_stream_done: bool,
    /// `x_ratelimit_option`: whether the response says how much is left; `None` leaves that to the filter.
    pub headers: Option<bool>,
}

/// `envoy.config.route.v3.RateLimit.Action`: makes an entry.
#[derive(Clone, Debug, PartialEq)]
pub enum DescriptorAction {
    /// `source_cluster`: the name of the service that this proxy belongs to.
    SourceCluster(String),
    /// `destination_cluster`: the name of the cluster that the request goes to.
    DestinationCluster,
    /// `request_headers`: the first value of a header.
    Header(Asked, HeadField),
    /// `query_parameters`: the first value of a parameter.
    Query(Asked, String),
    /// `remote_address`: the trusted address of the client.
    Address,
    /// `masked_remote_address`: the network of so many bits that it is in.
    Network {
        /// Bits of an address of IPv4.
        v4: u8,
        /// Bits of an address of IPv6.
        v6: u8,
    },
    /// `generic_key`.
    Fixed(Fixed),
    /// `header_value_match`: where all of these hold, or (false) where they do not.
    Headers(Fixed, bool, Vec<HeaderMatch>),
    /// `query_parameter_value_match`.
    Queries(Fixed, bool, Vec<QueryMatch>),
    /// `remote_address_match`: where the client is in one of these, or (false) in none.
    Within(Fixed, bool, Vec<Cidr>),
    /// `metadata`, of the request or of its route; a text that is not empty.
    Metadata {
        /// The key, and what is done without a value.
        asked: Asked,
        /// Where it stands.
        at: MetadataPath,
        /// Of the route and not of the request.
        of_route: bool,
        /// `default_value`, or empty.
        default: String,
    },
    /// `extension` with an input of matchers.
    Input(String, MatchInput),
}

/// An entry whose value the request has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// `descriptor_key`.
    pub key: String,
    /// `skip_if_absent`: without a value the entry is left out, and not the whole descriptor.
    pub skip_if_absent: bool,
}

/// An entry that is always the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fixed {
    /// `descriptor_key`.
    pub key: String,
    /// `descriptor_value`.
    pub value: String,
}

/// `envoy.config.route.v3.RateLimit.Override`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LimitOverride {
    /// `rate_limit`: so many requests, per unit.
    Fixed(u32, LimitUnit),
    /// `dynamic_metadata`: a structure that says the same.
    Metadata(MetadataPath),
}

/// `envoy.type.v3.RateLimitUnit`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LimitUnit {
    /// Not said.
    Unknown,
    /// 1 s.
    Second,
    /// 60 s.
    Minute,
    /// 60 min.
    Hour,
    /// 24 h.
    Day,
    /// As the service has it.
    Month,
    /// As the service has it.
    Year,
}

/// `envoy.config.route.v3.RateLimit.HitsAddend`.
#[derive(Clone, Debug, PartialEq)]
pub struct Hits {
    /// How many.
    pub number: HitsNumber,
    /// `is_negative_hits`: they are given back.
    pub negative: bool,
}

/// How many hits.
#[derive(Clone, Debug, PartialEq)]
pub enum HitsNumber {
    /// `number`, up to 1 000 000 000.
    Fixed(u64),
    /// `format`: what the request makes of it. Where that is no number, there is no descriptor.
    Format(Vec<Piece>),
}
