//! Requests of which others get a copy.

use super::{Fraction, HeadField, HeaderOps, Keyed};

/// `envoy.config.route.v3.RouteAction.RequestMirrorPolicy`.
#[derive(Clone, Debug, PartialEq)]
pub struct Mirror {
    /// Who gets the copy.
    pub cluster: MirrorCluster,
    /// `runtime_fraction`: of how many requests; `None` is of all.
    pub fraction: Option<Keyed<Fraction>>,
    /// Whom the copy says that it is for.
    pub host: MirrorHost,
    /// `request_headers_mutations`, one after the other.
    pub mutations: Vec<HeaderOps>,
}

/// The cluster that gets the copy.
#[derive(Clone, Debug, PartialEq)]
pub enum MirrorCluster {
    /// `cluster`.
    Name(String),
    /// `cluster_header`: the request names it. One that names none has no copy.
    Header(HeadField),
}

/// The host that a copy is for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum MirrorHost {
    /// The request's with `-shadow` behind it, before its port.
    #[default]
    Suffix,
    /// `disable_shadow_host_suffix_append`: the request's.
    Same,
    /// `host_rewrite_literal`.
    Literal(String),
}
