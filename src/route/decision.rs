//! What is decided about a request, pinned for its life.

use std::ops::Deref;
use std::rc::Rc;

use bytes::Bytes;

use super::descriptors::RateLimits;
use super::facts::Facts;
use super::headers::HeaderMatcher;
use super::rules::{Format, HeaderEdits};
use super::weighted::Weighted;
use crate::codec::head::Headers;
use crate::config::model::{
    ClusterSpecifier, HeaderMatch, HeaderRules, Route, RouteAction, RouteFilter, RouteFilters, Settings, WeightedName,
};

/// One route as requests meet it. It reads as the route of the model.
#[derive(Debug)]
pub struct Entry {
    /// Counts through all routes of the table: the place of whatever the caller keeps per route. `usize::MAX` for a redirect that stands
    /// for no route (`require_tls`).
    pub index: usize,
    /// The place of its virtual host in the configuration.
    pub host: usize,
    /// The name of its virtual host.
    pub virtual_host: Rc<str>,
    /// Route, virtual host, table.
    pub(super) levels: [Rc<Level>; 3],
    pub(super) most_specific_wins: bool,
    pub(super) weighted: Option<Rc<Weighted>>,
    pub(super) first_target: usize,
    /// The conditions on headers of its retry policy.
    pub retriable: Retriable,
    pub(super) limits: [Option<Rc<RateLimits>>; 2],
    pub(super) route: std::sync::Arc<Route>,
}

/// The conditions on headers of a retry policy.
#[derive(Debug, Default)]
pub struct Retriable {
    /// `retriable_headers`: a response that meets one is none.
    pub response: Vec<HeaderMatcher>,
    /// `retriable_request_headers`: only requests that meet one are retried, where there are some.
    pub request: Vec<HeaderMatcher>,
}

impl Retriable {
    pub(super) fn compile(action: &RouteAction) -> Self {
        let RouteAction::Forward(forward) = action else { return Self::default() };
        let policy = &forward.tries.policy;
        let compile = |models: &[HeaderMatch]| models.iter().map(HeaderMatcher::compile).collect();
        Self { response: compile(&policy.headers), request: compile(&policy.request_headers) }
    }
}

impl Deref for Entry {
    type Target = Route;

    fn deref(&self) -> &Route {
        &self.route
    }
}

/// What one level of the configuration says about heads and filters. Most say nothing.
#[derive(Debug, Default)]
pub(super) struct Level {
    pub(super) request: HeaderEdits,
    pub(super) response: HeaderEdits,
    pub(super) filters: RouteFilters,
}

impl Level {
    /// Shares `none` where nothing is said, as at most of a million routes.
    pub(super) fn compile(rules: &HeaderRules, filters: &RouteFilters, none: &Rc<Self>) -> Rc<Self> {
        if rules.request.is_empty() && rules.response.is_empty() && filters.is_empty() {
            return none.clone();
        }
        let (request, response) = (HeaderEdits::compile(&rules.request), HeaderEdits::compile(&rules.response));
        Rc::new(Self { request, response, filters: filters.clone() })
    }
}

/// Where a request goes. Keep it as long as the request lives.
#[derive(Clone, Debug)]
pub struct Decision {
    /// The route.
    pub route: Rc<Entry>,
    /// Which of several clusters.
    choice: Option<usize>,
    /// The cluster's name, where the request has it.
    named: Option<Bytes>,
}

impl Decision {
    pub(super) fn new(route: Rc<Entry>, facts: &Facts<'_>) -> Self {
        let RouteAction::Forward(forward) = &route.action else {
            return Self { route, choice: None, named: None };
        };
        let choice = route.weighted.as_ref().map(|weighted| weighted.draw(facts));
        let named = super::weighted::named(&forward.cluster, choice, facts);
        Self { route, choice, named }
    }

    /// What requests of the route, and of its virtual host, are counted by.
    pub fn rate_limits(&self) -> [Option<&RateLimits>; 2] {
        let [route, host] = &self.route.limits;
        [route.as_deref(), host.as_deref()]
    }

    /// What to do with the request.
    pub fn action(&self) -> &RouteAction {
        &self.route.action
    }

    /// The place of its cluster among [`super::Table::targets`]; `None` where it goes to none.
    pub fn target(&self) -> Option<usize> {
        matches!(self.action(), RouteAction::Forward(_)).then(|| self.route.first_target + self.choice.unwrap_or(0))
    }

    /// The name of the cluster that it goes to, whether there is one of that name or not.
    pub fn cluster_name(&self) -> Option<&str> {
        let RouteAction::Forward(forward) = self.action() else { return None };
        match &forward.cluster {
            ClusterSpecifier::Name(name) => Some(name),
            ClusterSpecifier::Header(_) => self.named_cluster(),
            ClusterSpecifier::Weighted(weighted) => match &weighted.clusters.get(self.choice?)?.cluster {
                WeightedName::Name(name) => Some(name),
                WeightedName::Header(_) => self.named_cluster(),
            },
        }
    }

    /// The cluster that the request itself names.
    pub fn named_cluster(&self) -> Option<&str> {
        std::str::from_utf8(self.named.as_deref()?).ok()
    }

    /// `host_rewrite_literal` of the weighted cluster; may be empty.
    pub fn weighted_host(&self) -> &[u8] {
        self.weighted().map_or(&[], |(weighted, at)| weighted.host(at))
    }

    /// Applies what is configured for requests that go this way. `format` makes the values that are not fixed.
    pub fn apply_to_request(&self, headers: &mut Headers, format: &mut Format<'_>) {
        self.each_level(|level| level.request.apply(headers, format));
    }

    /// Whether anything is configured for responses.
    pub fn has_response_rules(&self) -> bool {
        let mut has = false;
        self.each_level(|level| has |= !level.response.is_empty());
        has
    }

    /// Whether values for requests, and for responses, have operators.
    pub fn has_formats(&self) -> (bool, bool) {
        let (mut request, mut response) = (false, false);
        self.each_level(|level| {
            request |= level.request.has_formats();
            response |= level.response.has_formats();
        });
        (request, response)
    }

    /// Applies what is configured for responses that come this way.
    pub fn apply_to_response(&self, headers: &mut Headers, format: &mut Format<'_>) {
        self.each_level(|level| level.response.apply(headers, format));
    }

    /// What is said of a filter where it is said most specifically.
    pub fn filter<'d>(&'d self, name: &'d str) -> Option<&'d RouteFilter> {
        self.filter_levels(name).next()
    }

    /// What is said of a filter, from the most specific to the least: weighted cluster, route, virtual host, table.
    pub fn filter_levels<'d>(&'d self, name: &'d str) -> impl Iterator<Item = &'d RouteFilter> {
        let weighted = self.weighted().map(|(weighted, at)| &**weighted.level(at));
        weighted
            .into_iter()
            .chain(self.route.levels.iter().map(|level| &**level))
            .filter_map(|level| level.filters.get(name))
    }

    /// The settings of a filter here, where they are of its type.
    pub fn settings<'d, T: 'static>(&'d self, name: &'d str) -> Option<&'d T> {
        self.filter_levels(name).find_map(|said| said.settings.as_ref().and_then(Settings::get))
    }

    fn weighted(&self) -> Option<(&Weighted, usize)> {
        self.route.weighted.as_deref().zip(self.choice)
    }

    /// In the order in which Envoy applies them: the weighted cluster first, whoever wins.
    fn each_level(&self, mut work: impl FnMut(&Level)) {
        if let Some((weighted, at)) = self.weighted() {
            work(weighted.level(at));
        }
        let [route, host, table] = &self.route.levels;
        let order = if self.route.most_specific_wins { [table, host, route] } else { [route, host, table] };
        order.into_iter().for_each(|level| work(level));
    }
}
