//! Which virtual host, and which of its routes.

use std::borrow::Cow;
use std::collections::HashMap;
use std::rc::Rc;

use super::headers::HeaderMatcher;
use super::paths::Paths;
use crate::codec::RequestHead;
use crate::config::model::{HeaderMatch, PathMatch, RouteAction, RouteConfiguration, VirtualHost};

/// A compiled route configuration.
#[derive(Debug)]
pub struct Table {
    name: Rc<str>,
    hosts: Vec<Host>,
    exact: HashMap<Box<[u8]>, usize>,
    /// Text behind the `*`, with the host; longest first.
    suffixes: Wildcards,
    /// Text before the `*`.
    prefixes: Wildcards,
    any: Option<usize>,
    ignore_port: bool,
    routes: usize,
}

#[derive(Debug)]
struct Host {
    routes: Vec<Rc<Entry>>,
    paths: Paths,
    /// The first route for CONNECT.
    connect: Option<usize>,
}

/// One route as requests meet it.
#[derive(Debug)]
pub struct Entry {
    /// Counts through all routes of the table: the place of whatever the caller keeps per route.
    pub index: usize,
    /// The name of its virtual host.
    pub virtual_host: Rc<str>,
    /// May be empty.
    pub name: String,
    /// What to do.
    pub action: RouteAction,
    /// The conditions on headers of its retry policy.
    pub retriable: Retriable,
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
    fn compile(action: &RouteAction) -> Self {
        let RouteAction::Cluster { tries, .. } = action else { return Self::default() };
        let compile = |models: &[HeaderMatch]| models.iter().map(HeaderMatcher::compile).collect();
        Self { response: compile(&tries.policy.headers), request: compile(&tries.policy.request_headers) }
    }
}

/// Where a request goes.
#[derive(Clone, Debug)]
pub struct Decision {
    /// The route; keep it as long as the request lives.
    pub route: Rc<Entry>,
}

impl Decision {
    /// What to do with the request.
    pub fn action(&self) -> &RouteAction {
        &self.route.action
    }
}

impl Table {
    /// Compiles a configuration that has been validated (domains unique, lower case).
    pub fn compile(configuration: &RouteConfiguration) -> Self {
        let mut table = Self {
            name: configuration.name.as_str().into(),
            hosts: Vec::with_capacity(configuration.virtual_hosts.len()),
            exact: HashMap::new(),
            suffixes: Wildcards::default(),
            prefixes: Wildcards::default(),
            any: None,
            ignore_port: configuration.ignore_port_in_host_matching,
            routes: 0,
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
    pub fn route(&self, head: &RequestHead) -> Option<Decision> {
        let host = &self.hosts[self.host(&head.authority)?];
        // A CONNECT has no path, and only a connect matcher takes it.
        let at = match head.method == http::Method::CONNECT {
            true => host.connect,
            false => host.paths.find(head.path_without_query()),
        }?;
        Some(Decision { route: host.routes[at].clone() })
    }

    fn add(&mut self, host: &VirtualHost) {
        let at = self.hosts.len();
        for domain in &host.domains {
            let domain = domain.to_ascii_lowercase();
            if domain == "*" {
                self.any = Some(at);
            } else if let Some(suffix) = domain.strip_prefix('*') {
                self.suffixes.add(suffix, at);
            } else if let Some(prefix) = domain.strip_suffix('*') {
                self.prefixes.add(prefix, at);
            } else {
                self.exact.insert(domain.into_bytes().into(), at);
            }
        }
        let virtual_host: Rc<str> = host.name.as_str().into();
        let routes: Vec<_> = host
            .routes
            .iter()
            .enumerate()
            .map(|(offset, route)| {
                Rc::new(Entry {
                    index: self.routes + offset,
                    virtual_host: virtual_host.clone(),
                    name: route.name.clone(),
                    action: route.action.clone(),
                    retriable: Retriable::compile(&route.action),
                })
            })
            .collect();
        self.routes += routes.len();
        let paths = Paths::compile(host.routes.iter().map(|route| &route.path));
        let connect = host.routes.iter().position(|route| route.path == PathMatch::Connect);
        self.hosts.push(Host { routes, paths, connect });
    }

    fn host(&self, authority: &[u8]) -> Option<usize> {
        let only_any = self.exact.is_empty() && self.suffixes.is_empty() && self.prefixes.is_empty();
        if only_any || authority.is_empty() {
            return self.any;
        }
        let authority = if self.ignore_port { without_port(authority) } else { authority };
        let name = lower_case(authority);
        self.exact
            .get(&*name)
            .copied()
            .or_else(|| self.suffixes.find(name.len(), |length| &name[name.len() - length..]))
            .or_else(|| self.prefixes.find(name.len(), |length| &name[..length]))
            .or(self.any)
    }
}

/// Wildcards of one kind by their fixed part: one look-up per length that occurs, longest first.
#[derive(Debug, Default)]
struct Wildcards {
    lengths: Vec<usize>,
    hosts: HashMap<Box<[u8]>, usize>,
}

impl Wildcards {
    fn is_empty(&self) -> bool {
        self.hosts.is_empty()
    }

    fn add(&mut self, fixed: &str, host: usize) {
        if let Err(at) = self.lengths.binary_search_by(|length| fixed.len().cmp(length)) {
            self.lengths.insert(at, fixed.len());
        }
        self.hosts.insert(fixed.as_bytes().into(), host);
    }

    /// `part` cuts so many bytes of the name. The `*` stands for at least one.
    fn find<'n>(&self, name: usize, part: impl Fn(usize) -> &'n [u8]) -> Option<usize> {
        self.lengths.iter().filter(|length| **length < name).find_map(|length| self.hosts.get(part(*length)).copied())
    }
}

fn lower_case(text: &[u8]) -> Cow<'_, [u8]> {
    if text.iter().any(u8::is_ascii_uppercase) { text.to_ascii_lowercase().into() } else { text.into() }
}

/// Cuts `:port` off, leaving an IPv6 literal whole.
fn without_port(authority: &[u8]) -> &[u8] {
    match memchr::memrchr(b':', authority) {
        Some(at) if authority[at + 1..].iter().all(u8::is_ascii_digit) && !authority[at..].contains(&b']') => {
            let host = &authority[..at];
            // `::1` without brackets is an address, not a host with a port.
            if host.contains(&b':') && !host.ends_with(b"]") { authority } else { host }
        }
        _ => authority,
    }
}
