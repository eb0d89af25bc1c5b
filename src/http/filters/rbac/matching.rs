//! Whether a request matches: pure questions to its head and its connection.

use crate::codec::head::RequestHead;
use crate::config::model::{NameKind, StringMatch};
use crate::http::stream::Stream;
use crate::route::field;

use super::settings::{Action, Permission, Policy, Principal, Rules};

/// A request that somebody makes.
pub(super) struct Asked<'a> {
    pub(super) head: &'a RequestHead,
    pub(super) stream: &'a Stream<'a>,
}

/// What rules say.
#[derive(Clone, Copy, Debug)]
pub(super) struct Verdict {
    pub(super) allowed: bool,
    /// The place of the policy that matched.
    pub(super) policy: Option<usize>,
}

/// Asks the policies in the order of their names, as Envoy does; the first that matches decides.
pub(super) fn judge(rules: &Rules, asked: &Asked<'_>) -> Verdict {
    let policy = rules.policies.iter().position(|policy| matches(policy, asked));
    let allowed = match rules.action {
        Action::Allow => policy.is_some(),
        Action::Deny => policy.is_none(),
        Action::Log => true,
    };
    Verdict { allowed, policy }
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
    }
}

/// Without query and fragment.
fn matches_path(path: &StringMatch, head: &RequestHead) -> bool {
    let asked = head.path_without_query();
    path.matches(asked.split(|byte| *byte == b'#').next().unwrap_or(asked))
}
