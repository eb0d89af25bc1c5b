//! The settings, and how they are read.

use std::collections::HashMap;

use envoy_types::pb::envoy::config::rbac::v3 as rbac;
use envoy_types::pb::envoy::extensions::filters::http::rbac::v3 as api;
use envoy_types::pb::envoy::r#type::matcher::v3 as matchers;

use crate::config::extension::{Given, Reader};
use crate::config::model::{Cidr, HeaderMatch, Settings, StringMatch};

/// `envoy.extensions.filters.http.rbac.v3.RBAC`. Of a route that says nothing: no rules.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Control {
    pub(super) rules: Option<Rules>,
    /// `rules_stat_prefix`.
    pub(super) prefix: String,
    pub(super) shadow: Option<Rules>,
    /// `shadow_rules_stat_prefix`.
    pub(super) shadow_prefix: String,
    /// `track_per_rule_stats`.
    pub(super) per_policy: bool,
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
    for (field, is_set) in [("matcher", matcher.is_some()), ("shadow_matcher", shadow_matcher.is_some())] {
        if is_set {
            reader.refuse(field);
        }
    }
    // Both are read, so that all faults are told.
    let enforced = enforced.map(|message| reader.at("rules", |reader| rules(reader, message)));
    let shadow = shadow_rules.map(|message| reader.at("shadow_rules", |reader| rules(reader, message)));
    Some(Control {
        rules: enforced.map_or(Some(None), |rules| rules.map(Some))?,
        prefix: rules_stat_prefix,
        shadow: shadow.map_or(Some(None), |rules| rules.map(Some))?,
        shadow_prefix: shadow_rules_stat_prefix,
        per_policy: track_per_rule_stats,
    })
}

fn rules(reader: &mut Reader<'_>, message: rbac::Rbac) -> Option<Rules> {
    let rbac::Rbac { action, policies: messages, audit_logging_options } = message;
    if audit_logging_options.is_some() {
        reader.refuse("audit_logging_options");
    }
    let action = match rbac::rbac::Action::try_from(action) {
        Ok(rbac::rbac::Action::Allow) => Some(Action::Allow),
        Ok(rbac::rbac::Action::Deny) => Some(Action::Deny),
        Ok(rbac::rbac::Action::Log) => Some(Action::Log),
        // The rules of the API have refused it already.
        Err(_) => None,
    };
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

#[allow(deprecated, reason = "what is old is still read, or refused by its name")]
fn permission(reader: &mut Reader<'_>, message: rbac::Permission) -> Option<Permission> {
    use rbac::permission::Rule;
    let refused = match message.rule? {
        Rule::AndRules(set) => return Some(Permission::All(permissions(reader, "and_rules", set))),
        Rule::OrRules(set) => return Some(Permission::OneOf(permissions(reader, "or_rules", set))),
        Rule::NotRule(rule) => {
            return reader.at("not_rule", |reader| permission(reader, *rule)).map(Box::new).map(Permission::Not);
        }
        Rule::Any(_) => return Some(Permission::Any),
        Rule::Header(message) => {
            return reader.at("header", |reader| reader.header_match(message)).map(Permission::Header);
        }
        Rule::UrlPath(message) => return path(reader, message).map(Permission::Path),
        Rule::DestinationIp(range) => {
            return reader.at("destination_ip", |reader| reader.cidr(range)).map(Permission::Destination);
        }
        Rule::DestinationPort(port) => return Some(Permission::Ports { start: port, end: port.saturating_add(1) }),
        Rule::DestinationPortRange(range) => {
            return reader.at("destination_port_range", |reader| ports(reader, range.start, range.end));
        }
        Rule::RequestedServerName(message) => {
            let name = reader.at("requested_server_name", |reader| reader.text_match(message));
            return name.map(Permission::ServerName);
        }
        Rule::Metadata(_) => "metadata",
        Rule::SourcedMetadata(_) => "sourced_metadata",
        Rule::Matcher(_) => "matcher",
        Rule::UriTemplate(_) => "uri_template",
    };
    reader.refuse(refused);
    None
}

fn permissions(reader: &mut Reader<'_>, field: &'static str, set: rbac::permission::Set) -> Vec<Permission> {
    reader.at(field, |reader| reader.each("rules", set.rules, permission))
}

fn ports(reader: &mut Reader<'_>, start: i32, end: i32) -> Option<Permission> {
    let within = |port: i32| u32::try_from(port).ok().filter(|port| *port <= 65536);
    match (within(start), within(end)) {
        (Some(start), Some(end)) if start < end => return Some(Permission::Ports { start, end }),
        (Some(_), Some(_)) => {
            reader.error(format!("range start {start} cannot be greater or equal than range end {end}"));
        }
        (None, _) => reader.error(format!("range start {start} is out of bounds")),
        (_, None) => reader.error(format!("range end {end} is out of bounds")),
    }
    None
}

#[allow(deprecated, reason = "what is old is still read, or refused by its name")]
fn principal(reader: &mut Reader<'_>, message: rbac::Principal) -> Option<Principal> {
    use rbac::principal::Identifier;
    let refused = match message.identifier? {
        Identifier::AndIds(set) => return Some(Principal::All(principals(reader, "and_ids", set))),
        Identifier::OrIds(set) => return Some(Principal::OneOf(principals(reader, "or_ids", set))),
        Identifier::NotId(id) => {
            return reader.at("not_id", |reader| principal(reader, *id)).map(Box::new).map(Principal::Not);
        }
        Identifier::Any(_) => return Some(Principal::Any),
        Identifier::Authenticated(rbac::principal::Authenticated { principal_name: None }) => {
            return Some(Principal::Authenticated(None));
        }
        Identifier::Authenticated(rbac::principal::Authenticated { principal_name: Some(name) }) => {
            let read = |reader: &mut Reader<'_>| reader.at("principal_name", |reader| reader.text_match(name));
            return reader.at("authenticated", read).map(|name| Principal::Authenticated(Some(name)));
        }
        Identifier::SourceIp(range) => {
            return reader.at("source_ip", |reader| reader.cidr(range)).map(Principal::Peer);
        }
        Identifier::DirectRemoteIp(range) => {
            return reader.at("direct_remote_ip", |reader| reader.cidr(range)).map(Principal::Peer);
        }
        Identifier::RemoteIp(range) => {
            return reader.at("remote_ip", |reader| reader.cidr(range)).map(Principal::Client);
        }
        Identifier::Header(message) => {
            return reader.at("header", |reader| reader.header_match(message)).map(Principal::Header);
        }
        Identifier::UrlPath(message) => return path(reader, message).map(Principal::Path),
        Identifier::Metadata(_) => "metadata",
        Identifier::SourcedMetadata(_) => "sourced_metadata",
        Identifier::FilterState(_) => "filter_state",
        Identifier::Custom(_) => "custom",
    };
    reader.refuse(refused);
    None
}

fn principals(reader: &mut Reader<'_>, field: &'static str, set: rbac::principal::Set) -> Vec<Principal> {
    reader.at(field, |reader| reader.each("ids", set.ids, principal))
}

fn path(reader: &mut Reader<'_>, message: matchers::PathMatcher) -> Option<StringMatch> {
    use matchers::path_matcher::Rule;
    let Rule::Path(text) = message.rule?;
    reader.at("url_path", |reader| reader.at("path", |reader| reader.text_match(text)))
}
