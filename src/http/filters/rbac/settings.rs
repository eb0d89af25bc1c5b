//! The settings, and how they are read.

use std::collections::HashMap;

use envoy_types::pb::envoy::config::rbac::v3 as rbac;
use envoy_types::pb::envoy::extensions::filters::http::rbac::v3 as api;
use envoy_types::pb::xds::r#type::matcher::v3 as tree;

use crate::config::extension::{Given, Reader};
use crate::config::model::{
    Cidr, FilterStateMatch, HeaderMatch, MatchTree, MetadataMatch, NameKind, Settings, StringMatch, UriTemplate,
};

mod conditions;

use conditions::{permission, principal};

/// `envoy.extensions.filters.http.rbac.v3.RBAC`. Of a route that says nothing: no rules.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Control {
    pub(super) rules: Option<Basis>,
    /// `rules_stat_prefix`.
    pub(super) prefix: String,
    pub(super) shadow: Option<Basis>,
    /// `shadow_rules_stat_prefix`.
    pub(super) shadow_prefix: String,
    /// `track_per_rule_stats`.
    pub(super) per_policy: bool,
}

/// What decides.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Basis {
    /// `rules`.
    Rules(Rules),
    /// `matcher`; a request for which it says nothing is denied.
    Matcher(MatchTree<Ruling>),
}

/// `envoy.config.rbac.v3.Action`.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Ruling {
    pub(super) name: String,
    pub(super) action: Action,
}

/// `envoy.config.rbac.v3.RBAC`.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Rules {
    pub(super) action: Action,
    /// By name.
    pub(super) policies: Vec<Policy>,
}

/// What follows from a policy that matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// The request is allowed; without one it is denied.
    Allow,
    /// The request is denied; without one it is allowed.
    Deny,
    /// Nothing: it is noted for the access logs.
    Log,
}

/// Any of the permissions and any of the principals.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Policy {
    pub(super) name: String,
    pub(super) permissions: Vec<Permission>,
    pub(super) principals: Vec<Principal>,
}

/// What is done.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Permission {
    All(Vec<Self>),
    OneOf(Vec<Self>),
    Not(Box<Self>),
    Any,
    Header(HeaderMatch),
    Path(StringMatch),
    Destination(Cidr),
    /// From `start` up to, and without, `end`.
    Ports {
        start: u32,
        end: u32,
    },
    ServerName(StringMatch),
    Metadata(Sourced),
    Template(UriTemplate),
}

/// Who does it.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Principal {
    All(Vec<Self>),
    OneOf(Vec<Self>),
    Not(Box<Self>),
    Any,
    /// Over TLS, and with this name where there is one.
    Authenticated(Option<StringMatch>),
    /// The other end of the connection.
    Peer(Cidr),
    /// The trusted client address.
    Client(Cidr),
    Header(HeaderMatch),
    Path(StringMatch),
    Metadata(Sourced),
    State(FilterStateMatch),
    /// A client certificate that was found valid, with a name where one is asked for.
    Certificate(Option<(NameKind, StringMatch)>),
}

/// `envoy.config.rbac.v3.SourcedMetadata`.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Sourced {
    pub(super) wanted: MetadataMatch,
    /// That of the route, and not what filters have left.
    pub(super) of_route: bool,
}

pub(super) fn of_chain(reader: &mut Reader<'_>, given: Given<'_>) -> Option<Settings> {
    let message = reader.decode(given)?;
    control(reader, message).map(Settings::new)
}

pub(super) fn of_route(reader: &mut Reader<'_>, given: Given<'_>) -> Option<Settings> {
    let api::RbacPerRoute { rbac } = reader.decode(given)?;
    let Some(message) = rbac else { return Some(Settings::new(Control::default())) };
    reader.at("rbac", |reader| control(reader, message)).map(Settings::new)
}

fn control(reader: &mut Reader<'_>, message: api::Rbac) -> Option<Control> {
    let api::Rbac {
        rules: enforced,
        rules_stat_prefix,
        matcher,
        shadow_rules,
        shadow_matcher,
        shadow_rules_stat_prefix,
        track_per_rule_stats,
    } = message;
    // Both are read, so that all faults are told.
    let enforced = basis(reader, ["rules", "matcher"], enforced, matcher);
    let shadow = basis(reader, ["shadow_rules", "shadow_matcher"], shadow_rules, shadow_matcher);
    Some(Control {
        rules: enforced?,
        prefix: rules_stat_prefix,
        shadow: shadow?,
        shadow_prefix: shadow_rules_stat_prefix,
        per_policy: track_per_rule_stats,
    })
}

/// Rules, or the matcher that goes before them.
fn basis(
    reader: &mut Reader<'_>,
    [field, matcher_field]: [&'static str; 2],
    message: Option<rbac::Rbac>,
    matcher: Option<tree::Matcher>,
) -> Option<Option<Basis>> {
    if message.is_some() && matcher.is_some() {
        reader.at(field, |reader| reader.warn(format!("is ignored where there is a {matcher_field}")));
    }
    let rules = message.map(|message| reader.at(field, |reader| rules(reader, message)));
    let matcher = matcher.map(|message| {
        reader.at(matcher_field, |reader| {
            reader.match_tree(message, |reader, _, any| reader.any_of("action", any, &[(RULING, ruling)]))
        })
    });
    match (rules, matcher) {
        (None, None) => Some(None),
        (Some(None), _) => None,
        (_, Some(tree)) => tree.map(|tree| Some(Basis::Matcher(tree))),
        (Some(rules), None) => rules.map(|rules| Some(Basis::Rules(rules))),
    }
}

const RULING: &str = "envoy.config.rbac.v3.Action";

fn ruling(reader: &mut Reader<'_>, given: Given<'_>) -> Option<Ruling> {
    let rbac::Action { name, action: number } = reader.decode(given)?;
    Some(Ruling { name, action: action(number)? })
}

fn action(number: i32) -> Option<Action> {
    match rbac::rbac::Action::try_from(number) {
        Ok(rbac::rbac::Action::Allow) => Some(Action::Allow),
        Ok(rbac::rbac::Action::Deny) => Some(Action::Deny),
        Ok(rbac::rbac::Action::Log) => Some(Action::Log),
        // The rules of the API have refused it already.
        Err(_) => None,
    }
}

fn rules(reader: &mut Reader<'_>, message: rbac::Rbac) -> Option<Rules> {
    let rbac::Rbac { action, policies: messages, audit_logging_options } = message;
    if audit_logging_options.is_some() {
        reader.refuse("audit_logging_options");
    }
    let action = self::action(action);
    let policies = reader.at("policies", |reader| policies(reader, messages));
    Some(Rules { action: action?, policies: policies? })
}

fn policies(reader: &mut Reader<'_>, messages: HashMap<String, rbac::Policy>) -> Option<Vec<Policy>> {
    let mut messages: Vec<_> = messages.into_iter().collect();
    messages.sort_by(|one, other| one.0.cmp(&other.0));
    let read = messages.into_iter().map(|(name, message)| {
        let key = name.clone();
        reader.at_key(&key, |reader| policy(reader, name, message))
    });
    // All are read before one that is faulty spoils them.
    let read: Vec<Option<Policy>> = read.collect();
    read.into_iter().collect()
}

fn policy(reader: &mut Reader<'_>, name: String, message: rbac::Policy) -> Option<Policy> {
    let rbac::Policy { permissions, principals, condition, checked_condition, cel_config } = message;
    for (field, is_set) in [
        ("condition", condition.is_some()),
        ("checked_condition", checked_condition.is_some()),
        ("cel_config", cel_config.is_some()),
    ] {
        if is_set {
            reader.refuse(field);
        }
    }
    Some(Policy {
        name,
        permissions: reader.each("permissions", permissions, permission),
        principals: reader.each("principals", principals, principal),
    })
}
