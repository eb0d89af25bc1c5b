//! Whether a request matches: pure questions to its head and its connection.

use std::convert::Infallible;

use crate::codec::head::RequestHead;
use crate::config::model::{NameKind, StringMatch};
use crate::http::stream::Stream;
use crate::matching::Tree;
use crate::route::{self, Surroundings as _, field};

use super::settings::{Action, Basis, Permission, Policy, Principal, Rules, Ruling, Sourced};

/// A request that somebody makes.
pub(super) struct Asked<'a> {
    pub(super) head: &'a RequestHead,
    pub(super) stream: &'a Stream<'a>,
}

/// What rules say.
#[derive(Clone, Copy, Debug)]
pub(super) struct Verdict {
    pub(super) allowed: bool,
    /// The place of the policy, or of the action of the matcher, that matched.
    pub(super) policy: Option<usize>,
    /// What the access logs are told, where somebody asks for that.
    pub(super) hint: Option<bool>,
}

/// Rules or a matcher of a worker's own: expressions have caches of their own.
pub(super) struct Judge {
    basis: Ready,
    /// Of the policies, or of the actions of the matcher.
    pub(super) names: Vec<String>,
}

enum Ready {
    Rules(Rules),
    Matcher {
        tree: Box<Tree<(usize, Action)>>,
        /// One of its actions is to log.
        logs: bool,
    },
}

impl Judge {
    pub(super) fn new(basis: &Basis) -> Self {
        match basis {
            Basis::Rules(rules) => {
                let names = rules.policies.iter().map(|policy| policy.name.clone()).collect();
                Self { basis: Ready::Rules(rules.clone()), names }
            }
            Basis::Matcher(model) => {
                let (mut names, mut logs) = (Vec::new(), false);
                let made = Tree::compile(model, &mut |ruling: &Ruling| {
                    names.push(ruling.name.clone());
                    logs |= ruling.action == Action::Log;
                    Ok::<_, Infallible>((names.len() - 1, ruling.action))
                });
                let tree = match made {
                    Ok(tree) => Box::new(tree),
                    Err(never) => match never {},
                };
                Self { basis: Ready::Matcher { tree, logs }, names }
            }
        }
    }

    /// What is said of a request. Policies are asked in the order of their names, as Envoy does; the first that matches decides. What a matcher
    /// says nothing of is denied.
    pub(super) fn judge(&self, asked: &Asked<'_>) -> Verdict {
        match &self.basis {
            Ready::Rules(rules) => {
                let policy = rules.policies.iter().position(|policy| matches(policy, asked));
                let allowed = match rules.action {
                    Action::Allow => policy.is_some(),
                    Action::Deny => policy.is_none(),
                    Action::Log => true,
                };
                Verdict { allowed, policy, hint: (rules.action == Action::Log).then_some(policy.is_some()) }
            }
            Ready::Matcher { tree, logs } => {
                let request = route::Asked { head: asked.head, around: asked.stream };
                let found = tree.find(&request).found();
                Verdict {
                    allowed: found.is_some_and(|(_, action)| *action != Action::Deny),
                    policy: found.map(|(at, _)| *at),
                    hint: found.filter(|_| *logs).map(|(_, action)| *action == Action::Log),
                }
            }
        }
    }
}

fn matches(policy: &Policy, asked: &Asked<'_>) -> bool {
    policy.permissions.iter().any(|permission| permits(permission, asked))
        && policy.principals.iter().any(|principal| is(principal, asked))
}

/// Whether the request is what the permission is about.
fn permits(permission: &Permission, asked: &Asked<'_>) -> bool {
    let facts = asked.stream.facts();
    match permission {
        Permission::All(all) => all.iter().all(|one| permits(one, asked)),
        Permission::OneOf(any) => any.iter().any(|one| permits(one, asked)),
        Permission::Not(one) => !permits(one, asked),
        Permission::Any => true,
        Permission::Header(header) => header.matches(field(asked.head, &header.field).as_deref()),
        Permission::Path(path) => matches_path(path, asked.head),
        Permission::Destination(range) => facts.local.ip().is_some_and(|ip| range.contains(ip)),
        Permission::Ports { start, end } => {
            facts.local.socket().is_some_and(|socket| (*start..*end).contains(&u32::from(socket.port())))
        }
        Permission::ServerName(name) => {
            let asked = facts.tls.as_ref().and_then(|tls| tls.server_name.as_deref());
            name.matches(asked.unwrap_or_default().as_bytes())
        }
        Permission::Metadata(sourced) => has_metadata(sourced, asked),
        Permission::Template(template) => template.matches(asked.head.path_without_query()),
    }
}

/// Whether it comes from whom the principal names.
fn is(principal: &Principal, asked: &Asked<'_>) -> bool {
    let facts = asked.stream.facts();
    match principal {
        Principal::All(all) => all.iter().all(|one| is(one, asked)),
        Principal::OneOf(any) => any.iter().any(|one| is(one, asked)),
        Principal::Not(one) => !is(one, asked),
        Principal::Any => true,
        Principal::Header(header) => header.matches(field(asked.head, &header.field).as_deref()),
        Principal::Path(path) => matches_path(path, asked.head),
        Principal::Peer(range) => facts.peer.ip().is_some_and(|ip| range.contains(ip)),
        Principal::Client(range) => asked.stream.record().client.get().is_some_and(|ip| range.contains(ip)),
        Principal::Authenticated(name) => {
            let Some(tls) = &facts.tls else { return false };
            let Some(name) = name else { return true };
            let Some(peer) = &tls.peer else { return name.matches(b"") };
            let of = |kind: NameKind| peer.names.iter().filter(move |(of, _)| *of == kind);
            let mut names = of(NameKind::Uri).chain(of(NameKind::Dns)).map(|(_, name)| name.as_str());
            names.any(|one| name.matches(one.as_bytes())) || name.matches(peer.subject.as_bytes())
        }
        Principal::Metadata(sourced) => has_metadata(sourced, asked),
        Principal::State(wanted) => asked.stream.filter_state(wanted),
        // A certificate that is kept has been verified.
        Principal::Certificate(wanted) => {
            let Some(peer) = facts.tls.as_ref().and_then(|tls| tls.peer.as_ref()) else { return false };
            let Some((kind, wanted)) = wanted else { return true };
            peer.names.iter().any(|(of, name)| of == kind && wanted.matches(name.as_bytes()))
        }
    }
}

fn has_metadata(sourced: &Sourced, asked: &Asked<'_>) -> bool {
    if !sourced.of_route {
        return asked.stream.metadata(&sourced.wanted);
    }
    let decision = asked.stream.record().route.borrow();
    let metadata = decision.as_ref().and_then(|decision| decision.route.metadata.as_deref());
    sourced.wanted.matches(metadata.and_then(|metadata| metadata.find(&sourced.wanted.at)))
}

/// Without query and fragment.
fn matches_path(path: &StringMatch, head: &RequestHead) -> bool {
    let asked = head.path_without_query();
    path.matches(asked.split(|byte| *byte == b'#').next().unwrap_or(asked))
}
