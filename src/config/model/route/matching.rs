//! What a route matches.

use crate::config::model::{
    FilterStateMatch, Fraction, HeaderMatch, Keyed, MetadataMatch, Regex, StringMatch, UriTemplate,
};

/// The path specifier of a route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PathMatch {
    /// `prefix`.
    Prefix {
        /// Begins with `/` (or is empty).
        prefix: String,
        /// `case_sensitive`, default true.
        case_sensitive: bool,
    },
    /// `path`: the whole path without the query.
    Exact {
        /// The path.
        path: String,
        /// `case_sensitive`, default true.
        case_sensitive: bool,
    },
    /// `path_separated_prefix`: the prefix alone, or with `/` behind it.
    SeparatedPrefix {
        /// Does not end with `/`.
        prefix: String,
        /// `case_sensitive`, default true.
        case_sensitive: bool,
    },
    /// `safe_regex`: the whole path without the query.
    Regex(Regex),
    /// `path_match_policy` with a URI template.
    Template(UriTemplate),
    /// `connect_matcher`: a CONNECT, which has no path.
    Connect,
}

/// What a route asks beside the path.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Conditions {
    /// `headers`: all of them.
    pub headers: Vec<HeaderMatch>,
    /// `query_parameters`: all of them.
    pub query: Vec<QueryMatch>,
    /// `cookies`: all of them.
    pub cookies: Vec<CookieMatch>,
    /// `grpc`: `content-type` says so.
    pub grpc: bool,
    /// `tls_context`.
    pub tls: Option<TlsMatch>,
    /// `runtime_fraction`.
    pub fraction: Option<Keyed<Fraction>>,
    /// `dynamic_metadata`: all of them.
    pub metadata: Vec<MetadataMatch>,
    /// `filter_state`: all of them.
    pub filter_state: Vec<FilterStateMatch>,
}

impl Conditions {
    /// Whether nothing is asked.
    pub fn is_empty(&self) -> bool {
        self.headers.is_empty()
            && self.query.is_empty()
            && self.cookies.is_empty()
            && !self.grpc
            && self.tls.is_none()
            && self.fraction.is_none()
            && self.metadata.is_empty()
            && self.filter_state.is_empty()
    }
}

/// `envoy.config.route.v3.QueryParameterMatcher`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueryMatch {
    /// The first of that name counts.
    pub name: String,
    /// How.
    pub pattern: QueryPattern,
}

/// How a query parameter is matched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum QueryPattern {
    /// It is there, or (false) it is not.
    Present(bool),
    /// Its value, with its percent signs as they came.
    Text(StringMatch),
}

/// `envoy.config.route.v3.CookieMatcher`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CookieMatch {
    /// The cookie.
    pub name: String,
    /// Its value.
    pub text: StringMatch,
    /// `invert_match`: then a cookie that is absent matches.
    pub invert: bool,
}

/// `envoy.config.route.v3.RouteMatch.TlsContextMatchOptions`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TlsMatch {
    /// The client has shown a certificate.
    pub presented: Option<bool>,
    /// It has been found valid.
    pub validated: Option<bool>,
}

/// `envoy.config.route.v3.VirtualCluster`: requests that are counted together.
#[derive(Clone, Debug, PartialEq)]
pub struct VirtualCluster {
    /// As in `vhost.<host>.vcluster.<name>.`.
    pub name: String,
    /// All must match.
    pub headers: Vec<HeaderMatch>,
}

/// `envoy.config.route.v3.VirtualHost.TlsRequirementType`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RequireTls {
    /// Plain text is served.
    #[default]
    None,
    /// Plain text from outside is redirected.
    External,
    /// All plain text is redirected.
    All,
}
