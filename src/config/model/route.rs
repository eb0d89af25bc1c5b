//! Route configurations.

use std::sync::Arc;

mod action;
mod matching;
mod rules;

pub use action::*;
pub use matching::*;
pub use rules::*;

use super::{MatchTree, Metadata, RateLimit, RouteFilters};

/// `envoy.config.route.v3.RouteConfiguration`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RouteConfiguration {
    /// May be empty.
    pub name: String,
    /// Domains are unique over all of them.
    pub virtual_hosts: Vec<VirtualHost>,
    /// `internal_only_headers`, lower case.
    pub internal_only_headers: Vec<String>,
    /// `ignore_port_in_host_matching`.
    pub ignore_port_in_host_matching: bool,
    /// `ignore_path_parameters_in_path_matching`: paths match without `;` and what follows.
    pub ignore_path_parameters: bool,
    /// `most_specific_header_mutations_wins`.
    pub most_specific_wins: bool,
    /// What is done to all heads.
    pub rules: HeaderRules,
    /// `typed_per_filter_config`.
    pub filters: RouteFilters,
}

/// `envoy.config.route.v3.VirtualHost`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct VirtualHost {
    /// For people and statistics; Envoy does not insist that it is unique.
    pub name: String,
    /// `example.com`, `*.example.com`, `example.*` or `*`; lower case.
    pub domains: Vec<String>,
    /// First match wins.
    pub routes: Vec<Arc<Route>>,
    /// `matcher`, instead of routes: its actions are routes of which the first that matches wins.
    pub matcher: Option<Arc<MatchTree<Vec<Arc<Route>>>>>,
    /// `require_tls`.
    pub require_tls: RequireTls,
    /// `virtual_clusters`: the first that matches counts.
    pub virtual_clusters: Vec<VirtualCluster>,
    /// `rate_limits`: what its requests are counted by, where their routes say nothing or say that it counts too.
    pub rate_limits: Vec<RateLimit>,
    /// What is done to its heads.
    pub rules: HeaderRules,
    /// `typed_per_filter_config`.
    pub filters: RouteFilters,
}

/// `envoy.config.route.v3.Route`.
#[derive(Clone, Debug, PartialEq)]
pub struct Route {
    /// May be empty.
    pub name: String,
    /// The paths it matches.
    pub path: PathMatch,
    /// What else it asks.
    pub conditions: Option<Box<Conditions>>,
    /// What it does.
    pub action: RouteAction,
    /// `metadata`, for those that ask for it.
    pub metadata: Option<Box<Metadata>>,
    /// `stat_prefix`, or empty: it is counted under `vhost.<host>.route.<stat_prefix>.`.
    pub stat_prefix: String,
    /// What is done to its heads.
    pub rules: HeaderRules,
    /// `typed_per_filter_config`.
    pub filters: RouteFilters,
}

impl Route {
    /// A route of a path and an action.
    pub fn new(path: PathMatch, action: RouteAction) -> Self {
        Self {
            name: String::new(),
            path,
            conditions: None,
            action,
            metadata: None,
            stat_prefix: String::new(),
            rules: HeaderRules::default(),
            filters: RouteFilters::default(),
        }
    }
}
