//! Route configurations.

use std::sync::Arc;
use std::time::Duration;

use super::Tries;

/// `envoy.config.route.v3.RouteConfiguration`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RouteConfiguration {
    /// May be empty.
    pub name: String,
    /// Domains are unique over all of them.
    pub virtual_hosts: Vec<VirtualHost>,
    /// `internal_only_headers`, lower case.
    pub internal_only_headers: Vec<String>,
    /// `most_specific_header_mutations_wins`, `ignore_port_in_host_matching` and the like are refused until they are honoured.
    pub ignore_port_in_host_matching: bool,
}

/// `envoy.config.route.v3.VirtualHost`.
#[derive(Clone, Debug, PartialEq)]
pub struct VirtualHost {
    /// For people and statistics; Envoy does not insist that it is unique.
    pub name: String,
    /// `example.com`, `*.example.com`, `example.*` or `*`; lower case.
    pub domains: Vec<String>,
    /// First match wins.
    pub routes: Vec<Route>,
}

/// `envoy.config.route.v3.Route`.
#[derive(Clone, Debug, PartialEq)]
pub struct Route {
    /// May be empty.
    pub name: String,
    /// What it matches.
    pub path: PathMatch,
    /// What it does.
    pub action: RouteAction,
}

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
    /// `connect_matcher`: every CONNECT, and nothing else.
    Connect,
}

/// What a route does with a request.
#[derive(Clone, Debug, PartialEq)]
pub enum RouteAction {
    /// `route.cluster`.
    Cluster {
        /// Exists in [`Bootstrap::clusters`].
        cluster: String,
        /// `timeout`, default 15 s; `None` is off.
        timeout: Option<Duration>,
        /// `idle_timeout` of the route: overrides the manager's stream idle timeout. `Some(None)` turns it off.
        idle_timeout: Option<Option<Duration>>,
        /// Whether and how it is tried again.
        tries: Arc<Tries>,
        /// `upgrade_configs`, which come before the manager's.
        upgrades: Vec<RouteUpgrade>,
    },
    /// `direct_response`.
    DirectResponse {
        /// 200–599.
        status: u16,
        /// Inline or read from a file when the configuration was loaded.
        body: bytes::Bytes,
    },
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
