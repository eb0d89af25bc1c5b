//! Which virtual host, and which of its routes.

use std::collections::HashMap;
use std::convert::Infallible;
use std::rc::Rc;
use std::sync::Arc;

use super::decision::{Decision, Entry, Level, Retriable};
use super::descriptors::RateLimits;
use super::facts::Facts;
use super::hosts::{Hosts, without_port};
use super::paths::Paths;
use super::surroundings::Asked;
use super::{conditions, weighted};
use crate::config::model::{
    Conditions, PathMatch, RateLimit, Redirect, RedirectPath, Regex, RequireTls, Route, RouteAction,
    RouteConfiguration, UriTemplate, VirtualCluster, VirtualHost,
};
use crate::matching::Tree;

/// A compiled route configuration.
#[derive(Debug)]
pub struct Table {
    name: Rc<str>,
    level: Rc<Level>,
    /// The level that says nothing.
    none: Rc<Level>,
    most_specific_wins: bool,
    hosts: Vec<Host>,
    by_name: Hosts,
    ignore_port: bool,
    ignore_path_parameters: bool,
    routes: usize,
    /// Names of clusters by [`Decision::target`].
    targets: Vec<Option<String>>,
}

#[derive(Debug)]
struct Host {
    routes: Vec<Rc<Entry>>,
    /// What each route asks beside what its path has found; most ask nothing.
    further: HashMap<usize, Further>,
    order: Order,
    require_tls: RequireTls,
    to_https: Rc<Entry>,
    clusters: Vec<VirtualCluster>,
}

/// How a virtual host finds its route.
#[derive(Debug)]
enum Order {
    /// `routes`.
    List(List),
    /// `matcher`.
    Tree(Box<Tree<List>>),
}

/// Routes of which the first that matches is taken.
#[derive(Debug)]
struct List {
    /// The place of the first one among those of the virtual host.
    first: usize,
    paths: Paths,
    /// The places here of those for CONNECT, in order.
    connect: Vec<usize>,
}

/// What a route asks beside the beginning of its path. Expressions are the worker's own.
#[derive(Debug)]
struct Further {
    pattern: Option<Pattern>,
    conditions: Option<Box<Conditions>>,
}

#[derive(Debug)]
enum Pattern {
    Regex(Regex),
    Template(UriTemplate),
}

impl Table {
    /// Compiles a configuration that has been validated (domains unique, lower case).
    pub fn compile(configuration: &RouteConfiguration) -> Self {
        let none = Rc::default();
        let mut table = Self {
            name: configuration.name.as_str().into(),
            level: Level::compile(&configuration.rules, &configuration.filters, &none),
            none,
            most_specific_wins: configuration.most_specific_wins,
            hosts: Vec::with_capacity(configuration.virtual_hosts.len()),
            by_name: Hosts::default(),
            ignore_port: configuration.ignore_port_in_host_matching,
            ignore_path_parameters: configuration.ignore_path_parameters,
            routes: 0,
            targets: Vec::new(),
        };
        for host in &configuration.virtual_hosts {
            table.add(host);
        }
        table
    }

    /// The name of the route configuration.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// All routes, in order of [`Entry::index`].
    pub fn entries(&self) -> impl Iterator<Item = &Rc<Entry>> {
        self.hosts.iter().flat_map(|host| &host.routes)
    }

    /// The names of the clusters that requests may go to, in order of [`Decision::target`]; `None` where the request names it.
    pub fn targets(&self) -> impl Iterator<Item = Option<&str>> {
        self.targets.iter().map(Option::as_deref)
    }

    /// How many routes there are.
    pub fn len(&self) -> usize {
        self.routes
    }

    /// Whether there is no route at all.
    pub fn is_empty(&self) -> bool {
        self.routes == 0
    }

    /// The route for a request; `None` is Envoy's `route_not_found`. One virtual host is picked, and if none of its routes
    /// matches there is no second try.
    pub fn route(&self, facts: &Facts<'_>) -> Option<Decision> {
        let head = facts.head;
        let authority = if self.ignore_port { without_port(&head.authority) } else { &head.authority };
        let host = self.hosts.get(self.by_name.find(authority)?)?;
        if host.must_redirect(facts) {
            return Some(Decision::new(host.to_https.clone(), facts));
        }
        let list = match &host.order {
            Order::List(list) => list,
            Order::Tree(tree) => tree.find(&Asked { head, around: facts.around }).found()?,
        };
        let at = self.first(host, list, facts)?;
        Some(Decision::new(host.routes.get(at)?.clone(), facts))
    }

    /// The place of the first route of a list that matches.
    fn first(&self, host: &Host, list: &List, facts: &Facts<'_>) -> Option<usize> {
        let head = facts.head;
        // A CONNECT has no path, and only a connect matcher takes it.
        if head.method == http::Method::CONNECT {
            let mut places = list.connect.iter().map(|at| list.first + at);
            return places.find(|at| host.further_holds(*at, &[], facts));
        }
        let mut path = head.path_without_query();
        if self.ignore_path_parameters
            && let Some(at) = memchr::memchr(b';', path)
        {
            path = &path[..at];
        }
        let asked = list.paths.ask(path);
        let mut from = 0;
        while let Some(at) = list.paths.find(&asked, from) {
            if host.further_holds(list.first + at, path, facts) {
                return Some(list.first + at);
            }
            from = at + 1;
        }
        None
    }

    /// The virtual cluster of a request: its place among those of its virtual host, or the number of them for one that none of them takes;
    /// `None` where the virtual host has none.
    pub fn virtual_cluster(&self, decision: &Decision, facts: &Facts<'_>) -> Option<usize> {
        let clusters = &self.hosts.get(decision.route.host)?.clusters;
        let found = clusters.iter().position(|cluster| conditions::headers(&cluster.headers, facts));
        (!clusters.is_empty()).then(|| found.unwrap_or(clusters.len()))
    }

    fn add(&mut self, host: &VirtualHost) {
        let at = self.hosts.len();
        for domain in &host.domains {
            self.by_name.add(&domain.to_ascii_lowercase(), at);
        }
        let virtual_host: Rc<str> = host.name.as_str().into();
        let level = Level::compile(&host.rules, &host.filters, &self.none);
        let mut building = Building {
            at,
            virtual_host: &virtual_host,
            level: &level,
            limits: limits(&host.rate_limits),
            routes: Vec::new(),
            further: HashMap::new(),
        };
        let order = match &host.matcher {
            None => Order::List(self.add_routes(&mut building, &host.routes)),
            Some(matcher) => {
                let made = Tree::compile(matcher, &mut |routes: &Vec<Arc<Route>>| {
                    Ok::<_, Infallible>(self.add_routes(&mut building, routes))
                });
                match made {
                    Ok(tree) => Order::Tree(Box::new(tree)),
                    Err(never) => match never {},
                }
            }
        };
        let Building { routes, further, .. } = building;
        self.routes += routes.len();
        let to_https = to_https(at, &virtual_host);
        self.hosts.push(Host {
            routes,
            further,
            order,
            require_tls: host.require_tls,
            to_https,
            clusters: host.virtual_clusters.clone(),
        });
    }

    /// Adds routes, of which the first that matches is taken, to those of a virtual host.
    fn add_routes(&mut self, host: &mut Building<'_>, routes: &[Arc<Route>]) -> List {
        let first = host.routes.len();
        host.routes.reserve(routes.len());
        for (offset, route) in routes.iter().enumerate() {
            let offset = first + offset;
            let weighted = weighted::compile(&route.action, &self.none).map(Rc::new);
            let first_target = self.targets.len();
            weighted::targets(&route.action, &mut self.targets);
            host.routes.push(Rc::new(Entry {
                index: self.routes + offset,
                host: host.at,
                virtual_host: host.virtual_host.clone(),
                levels: [
                    Level::compile(&route.rules, &route.filters, &self.none),
                    host.level.clone(),
                    self.level.clone(),
                ],
                most_specific_wins: self.most_specific_wins,
                weighted,
                first_target,
                retriable: Retriable::compile(&route.action),
                limits: [of_route(route), host.limits.clone()],
                route: route.clone(),
            }));
            if let Some(asks) = Further::of(route) {
                host.further.insert(offset, asks);
            }
        }
        let decides = |at| !host.further.contains_key(&(first + at));
        let paths = Paths::compile(routes.iter().enumerate().map(|(at, route)| (&route.path, decides(at))));
        let connect = routes.iter().enumerate().filter(|(_, route)| route.path == PathMatch::Connect);
        List { first, paths, connect: connect.map(|(at, _)| at).collect() }
    }
}

/// A virtual host that is being made.
struct Building<'h> {
    at: usize,
    virtual_host: &'h Rc<str>,
    level: &'h Rc<Level>,
    limits: Option<Rc<RateLimits>>,
    routes: Vec<Rc<Entry>>,
    further: HashMap<usize, Further>,
}

fn of_route(route: &Route) -> Option<Rc<RateLimits>> {
    match &route.action {
        RouteAction::Forward(forward) => limits(&forward.rate_limits),
        _ => None,
    }
}

fn limits(models: &[RateLimit]) -> Option<Rc<RateLimits>> {
    (!models.is_empty()).then(|| Rc::new(RateLimits::compile(models)))
}

/// The answer to plain text where TLS is required. No rule applies to it.
fn to_https(host: usize, virtual_host: &Rc<str>) -> Rc<Entry> {
    let redirect = Redirect {
        scheme: "https".to_owned(),
        host: String::new(),
        port: None,
        path: RedirectPath::Rewrite(Default::default()),
        status: 301,
        strip_query: false,
    };
    let path = PathMatch::Prefix { prefix: String::new(), case_sensitive: true };
    Rc::new(Entry {
        index: usize::MAX,
        host,
        virtual_host: virtual_host.clone(),
        levels: Default::default(),
        most_specific_wins: false,
        weighted: None,
        first_target: usize::MAX,
        retriable: Retriable::default(),
        limits: Default::default(),
        route: Route::new(path, RouteAction::Redirect(Box::new(redirect))).into(),
    })
}

impl Host {
    fn further_holds(&self, at: usize, path: &[u8], facts: &Facts<'_>) -> bool {
        self.further.is_empty() || self.further.get(&at).is_none_or(|further| further.holds(path, facts))
    }

    fn must_redirect(&self, facts: &Facts<'_>) -> bool {
        let applies = match self.require_tls {
            RequireTls::None => return false,
            RequireTls::External => !facts.internal,
            RequireTls::All => true,
        };
        let forwarded = http::HeaderName::from_static("x-forwarded-proto");
        applies && facts.head.headers.get(&forwarded).is_none_or(|value| value.as_bytes() != b"https")
    }
}

impl Further {
    fn of(route: &Route) -> Option<Self> {
        let pattern = match &route.path {
            PathMatch::Regex(regex) => Some(Pattern::Regex(regex.clone())),
            PathMatch::Template(template) => Some(Pattern::Template(template.clone())),
            PathMatch::Prefix { .. }
            | PathMatch::Exact { .. }
            | PathMatch::SeparatedPrefix { .. }
            | PathMatch::Connect => None,
        };
        let conditions = route.conditions.clone().filter(|conditions| !conditions.is_empty());
        (pattern.is_some() || conditions.is_some()).then_some(Self { pattern, conditions })
    }

    fn holds(&self, path: &[u8], facts: &Facts<'_>) -> bool {
        let matches = match &self.pattern {
            None => true,
            Some(Pattern::Regex(regex)) => regex.matches(path),
            Some(Pattern::Template(template)) => template.matches(path),
        };
        matches && self.conditions.as_deref().is_none_or(|conditions| conditions::hold(conditions, facts))
    }
}
