//! What a route does with a request.

use std::sync::Arc;
use std::time::Duration;

use crate::config::model::{
    HeadField, HeaderRules, InternalRedirects, Keyed, Mirror, Piece, RateLimit, ReplyFormat, RouteFilters,
    Substitution, Tries, UriRewrite,
};

/// What a route does with a request.
#[derive(Clone, Debug, PartialEq)]
pub enum RouteAction {
    /// `route`: it goes to a cluster.
    Forward(Box<Forward>),
    /// `redirect`.
    Redirect(Box<Redirect>),
    /// `direct_response`.
    DirectResponse {
        /// 200–599.
        status: u16,
        /// Inline or read from a file when the configuration was loaded.
        body: bytes::Bytes,
    },
    /// `direct_response` with a `body_format`.
    FormattedResponse {
        /// 200–599.
        status: u16,
        /// What `%LOCAL_REPLY_BODY%` shows.
        body: bytes::Bytes,
        /// What is made of it for each request.
        format: Box<ReplyFormat>,
    },
    /// `non_forwarding_action`: a filter answers; what gets past all of them has no cluster.
    NonForwarding,
}

impl RouteAction {
    /// To a cluster, with Envoy's defaults.
    pub fn to(cluster: impl Into<String>) -> Self {
        Self::Forward(Box::new(Forward::to(cluster)))
    }
}

/// `envoy.config.route.v3.RouteAction`.
#[derive(Clone, Debug, PartialEq)]
pub struct Forward {
    /// Where to.
    pub cluster: ClusterSpecifier,
    /// `cluster_not_found_response_code`: 503, 404 or 500.
    pub cluster_not_found: u16,
    /// `timeout`, default 15 s; `None` is off.
    pub timeout: Option<Duration>,
    /// `max_grpc_timeout`: the timeout of gRPC requests instead.
    pub grpc_timeout: Option<GrpcTimeout>,
    /// `idle_timeout` of the route: overrides the manager's stream idle timeout. `Some(None)` turns it off.
    pub idle_timeout: Option<Option<Duration>>,
    /// `flush_timeout`: overrides the manager's stream flush timeout. `Some(None)` turns it off.
    pub flush_timeout: Option<Option<Duration>>,
    /// `max_stream_duration`.
    pub max_stream_duration: MaxStreamDuration,
    /// What becomes of the path.
    pub path_rewrite: PathRewrite,
    /// What becomes of the host.
    pub host_rewrite: HostRewrite,
    /// `append_x_forwarded_host`.
    pub append_forwarded_host: bool,
    /// `hash_policy`: what a balancer that hashes looks at.
    pub hash_policy: Vec<HashPolicy>,
    /// Whether and how it is tried again.
    pub tries: Arc<Tries>,
    /// `rate_limits`: what its requests are counted by.
    pub rate_limits: Vec<RateLimit>,
    /// `include_vh_rate_limits`: those of the virtual host count, too.
    pub include_host_limits: bool,
    /// `upgrade_configs`, which come before the manager's.
    pub upgrades: Vec<RouteUpgrade>,
    /// `request_mirror_policies`, or what is said above.
    pub mirrors: Vec<Mirror>,
    /// `priority: HIGH`: it has circuit breakers and connections of its own.
    pub high_priority: bool,
    /// `internal_redirect_policy`.
    pub redirects: Option<Box<InternalRedirects>>,
}

/// The timeout of a gRPC request is what it asks for in `grpc-timeout`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GrpcTimeout {
    /// `max_grpc_timeout`: the most that it gets; `None` has no end.
    pub most: Option<Duration>,
    /// `grpc_timeout_offset`: so much earlier, where that leaves something.
    pub offset: Duration,
}

impl Forward {
    /// To a cluster, with Envoy's defaults.
    pub fn to(cluster: impl Into<String>) -> Self {
        Self {
            cluster: ClusterSpecifier::Name(cluster.into()),
            cluster_not_found: 503,
            timeout: Some(Duration::from_secs(15)),
            grpc_timeout: None,
            idle_timeout: None,
            flush_timeout: None,
            max_stream_duration: MaxStreamDuration::default(),
            path_rewrite: PathRewrite::None,
            host_rewrite: HostRewrite::None,
            append_forwarded_host: false,
            hash_policy: Vec::new(),
            tries: Arc::default(),
            rate_limits: Vec::new(),
            include_host_limits: false,
            upgrades: Vec::new(),
            mirrors: Vec::new(),
            high_priority: false,
            redirects: None,
        }
    }
}

/// Which cluster.
#[derive(Clone, Debug, PartialEq)]
pub enum ClusterSpecifier {
    /// `cluster`.
    Name(String),
    /// `cluster_header`: the request names it.
    Header(HeadField),
    /// `weighted_clusters`.
    Weighted(WeightedClusters),
}

/// `envoy.config.route.v3.WeightedCluster`.
#[derive(Clone, Debug, PartialEq)]
pub struct WeightedClusters {
    /// The sum of the weights is in 1..=`u32::MAX`.
    pub clusters: Vec<WeightedCluster>,
    /// `header_name`: the header that has the number to draw with, where it is a number.
    pub draw_from: Option<HeadField>,
}

/// `envoy.config.route.v3.WeightedCluster.ClusterWeight`.
#[derive(Clone, Debug, PartialEq)]
pub struct WeightedCluster {
    /// Its cluster.
    pub cluster: WeightedName,
    /// So many of the sum.
    pub weight: Keyed<u32>,
    /// `host_rewrite_literal`, or empty.
    pub host_rewrite: String,
    /// What is done to heads that go this way.
    pub rules: HeaderRules,
    /// `typed_per_filter_config`.
    pub filters: RouteFilters,
}

/// Whose name a weighted cluster has.
#[derive(Clone, Debug, PartialEq)]
pub enum WeightedName {
    /// `name`.
    Name(String),
    /// `cluster_header`.
    Header(HeadField),
}

/// `envoy.config.route.v3.RouteAction.MaxStreamDuration`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MaxStreamDuration {
    /// `max_stream_duration`: `Some(None)` is no limit.
    pub limit: Option<Option<Duration>>,
    /// `grpc_timeout_header_max`: take `grpc-timeout`, up to this; `Some(None)` takes any.
    pub grpc_max: Option<Option<Duration>>,
    /// `grpc_timeout_header_offset`: what is taken off it.
    pub grpc_offset: Duration,
}

/// What becomes of a path; the query stays.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum PathRewrite {
    /// Nothing.
    #[default]
    None,
    /// `prefix_rewrite`: instead of what the route matched.
    Prefix(String),
    /// `regex_rewrite`.
    Regex(Substitution),
    /// `path_rewrite_policy` with a URI template.
    Template(UriRewrite),
    /// `path_rewrite`: a text with operators, for the whole path.
    Format(Vec<Piece>),
}

/// What becomes of the host.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum HostRewrite {
    /// Nothing.
    #[default]
    None,
    /// `host_rewrite_literal`.
    Literal(String),
    /// `host_rewrite_header`: what that header says.
    Header(HeadField),
    /// `host_rewrite_path_regex`: made of the path.
    PathRegex(Substitution),
    /// `auto_host_rewrite`: the hostname of the endpoint that was picked.
    Auto,
}

/// `envoy.config.route.v3.RedirectAction`.
#[derive(Clone, Debug, PartialEq)]
pub struct Redirect {
    /// `https_redirect` or `scheme_redirect`; empty keeps the request's.
    pub scheme: String,
    /// `host_redirect`; empty keeps the request's.
    pub host: String,
    /// `port_redirect`; `None` keeps the request's.
    pub port: Option<u16>,
    /// The path.
    pub path: RedirectPath,
    /// 301, 302, 303, 307 or 308.
    pub status: u16,
    /// `strip_query`.
    pub strip_query: bool,
}

/// The path of a redirect.
#[derive(Clone, Debug, PartialEq)]
pub enum RedirectPath {
    /// `path_redirect`, with its own query if it has one.
    Path(String),
    /// As a request's would be rewritten; [`PathRewrite::None`] keeps it.
    Rewrite(PathRewrite),
}

/// `envoy.config.route.v3.RouteAction.HashPolicy`.
#[derive(Clone, Debug, PartialEq)]
pub struct HashPolicy {
    /// What is hashed.
    pub source: HashSource,
    /// Nothing further is looked at once there is a hash.
    pub terminal: bool,
}

/// What a hash policy looks at.
#[derive(Clone, Debug, PartialEq)]
pub enum HashSource {
    /// The values of a header, after a substitution.
    Header(HeadField, Option<Substitution>),
    /// A cookie.
    Cookie {
        /// Its name.
        name: String,
        /// Make one where there is none: how long it lives; zero is for the session.
        ttl: Option<Duration>,
        /// Its path, or empty.
        path: String,
        /// `attributes`: written as they are, the value where there is one.
        attributes: Vec<(String, String)>,
    },
    /// The client's address.
    SourceIp,
    /// The first query parameter of that name.
    Query(String),
    /// `filter_state`: an object of that name that can be hashed.
    FilterState(String),
}

/// `envoy.config.route.v3.RouteAction.UpgradeConfig`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteUpgrade {
    /// `upgrade_type`, in lower case and unique; `connect` is the method.
    pub kind: String,
    /// `enabled`, default true.
    pub enabled: bool,
    /// `connect_config`: a CONNECT ends here, and what it carries goes to the host as it is.
    pub terminate: bool,
}
