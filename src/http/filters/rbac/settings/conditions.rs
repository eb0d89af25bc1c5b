//! What permissions and principals say.

use envoy_types::pb::envoy::config::core::v3 as core;
use envoy_types::pb::envoy::config::rbac::v3 as rbac;
use envoy_types::pb::envoy::extensions::rbac::principals::mtls_authenticated::v3 as mtls;
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3 as tls;
use envoy_types::pb::envoy::r#type::matcher::v3 as matchers;

use crate::config::extension::{Given, Reader};
use crate::config::model::{NameKind, StringMatch};

use super::{Permission, Principal, Sourced};

#[allow(deprecated, reason = "what is old is still read, or refused by its name")]
pub(super) fn permission(reader: &mut Reader<'_>, message: rbac::Permission) -> Option<Permission> {
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
        Rule::Metadata(message) => {
            let wanted = reader.at("metadata", |reader| reader.metadata_match(message))?;
            return Some(Permission::Metadata(Sourced { wanted, of_route: false }));
        }
        Rule::SourcedMetadata(message) => {
            return reader.at("sourced_metadata", |reader| sourced(reader, message)).map(Permission::Metadata);
        }
        Rule::UriTemplate(core::TypedExtensionConfig { name, typed_config }) => {
            let read = |reader: &mut Reader<'_>| reader.uri_template(&name, typed_config.as_ref());
            let template = reader.at("uri_template", |reader| reader.at("typed_config", read));
            return template.map(Permission::Template);
        }
        Rule::Matcher(_) => "matcher",
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
pub(super) fn principal(reader: &mut Reader<'_>, message: rbac::Principal) -> Option<Principal> {
    use rbac::principal::Identifier;
    match message.identifier? {
        Identifier::AndIds(set) => Some(Principal::All(principals(reader, "and_ids", set))),
        Identifier::OrIds(set) => Some(Principal::OneOf(principals(reader, "or_ids", set))),
        Identifier::NotId(id) => reader.at("not_id", |reader| principal(reader, *id)).map(Box::new).map(Principal::Not),
        Identifier::Any(_) => Some(Principal::Any),
        Identifier::Authenticated(rbac::principal::Authenticated { principal_name: None }) => {
            Some(Principal::Authenticated(None))
        }
        Identifier::Authenticated(rbac::principal::Authenticated { principal_name: Some(name) }) => {
            let read = |reader: &mut Reader<'_>| reader.at("principal_name", |reader| reader.text_match(name));
            reader.at("authenticated", read).map(|name| Principal::Authenticated(Some(name)))
        }
        Identifier::SourceIp(range) => reader.at("source_ip", |reader| reader.cidr(range)).map(Principal::Peer),
        Identifier::DirectRemoteIp(range) => {
            reader.at("direct_remote_ip", |reader| reader.cidr(range)).map(Principal::Peer)
        }
        Identifier::RemoteIp(range) => reader.at("remote_ip", |reader| reader.cidr(range)).map(Principal::Client),
        Identifier::Header(message) => {
            reader.at("header", |reader| reader.header_match(message)).map(Principal::Header)
        }
        Identifier::UrlPath(message) => path(reader, message).map(Principal::Path),
        Identifier::Metadata(message) => {
            let wanted = reader.at("metadata", |reader| reader.metadata_match(message))?;
            Some(Principal::Metadata(Sourced { wanted, of_route: false }))
        }
        Identifier::SourcedMetadata(message) => {
            reader.at("sourced_metadata", |reader| sourced(reader, message)).map(Principal::Metadata)
        }
        Identifier::FilterState(message) => {
            reader.at("filter_state", |reader| reader.filter_state_match(message)).map(Principal::State)
        }
        Identifier::Custom(core::TypedExtensionConfig { typed_config, .. }) => {
            let any = typed_config.unwrap_or_default();
            let read = |reader: &mut Reader<'_>| reader.any_of("principal", &any, &[(CERTIFICATE, certificate)]);
            reader.at("custom", |reader| reader.at("typed_config", read))
        }
    }
}

const CERTIFICATE: &str = "envoy.extensions.rbac.principals.mtls_authenticated.v3.Config";

fn certificate(reader: &mut Reader<'_>, given: Given<'_>) -> Option<Principal> {
    let mtls::Config { san_matcher, any_validated_client_certificate } = reader.decode(given)?;
    match (san_matcher, any_validated_client_certificate) {
        (None, true) => Some(Principal::Certificate(None)),
        (Some(message), false) => {
            let name = reader.at("san_matcher", |reader| alternative_name(reader, message))?;
            Some(Principal::Certificate(Some(name)))
        }
        (None, false) => {
            reader.error("one of san_matcher and any_validated_client_certificate must be set");
            None
        }
        (Some(_), true) => {
            reader.error("only one of san_matcher and any_validated_client_certificate may be set");
            None
        }
    }
}

fn alternative_name(reader: &mut Reader<'_>, message: tls::SubjectAltNameMatcher) -> Option<(NameKind, StringMatch)> {
    use tls::subject_alt_name_matcher::SanType;
    let tls::SubjectAltNameMatcher { san_type, matcher, oid } = message;
    if !oid.is_empty() {
        reader.refuse("oid");
    }
    let kind = match SanType::try_from(san_type) {
        Ok(SanType::Email) => NameKind::Email,
        Ok(SanType::Dns) => NameKind::Dns,
        Ok(SanType::Uri) => NameKind::Uri,
        Ok(SanType::IpAddress) => NameKind::IpAddress,
        _ => {
            reader.refuse("san_type");
            return None;
        }
    };
    Some((kind, reader.at("matcher", |reader| reader.text_match(matcher?))?))
}

fn sourced(reader: &mut Reader<'_>, message: rbac::SourcedMetadata) -> Option<Sourced> {
    let rbac::SourcedMetadata { metadata_matcher, metadata_source } = message;
    let wanted = reader.at("metadata_matcher", |reader| reader.metadata_match(metadata_matcher?))?;
    Some(Sourced { wanted, of_route: metadata_source == i32::from(rbac::MetadataSource::Route) })
}

fn principals(reader: &mut Reader<'_>, field: &'static str, set: rbac::principal::Set) -> Vec<Principal> {
    reader.at(field, |reader| reader.each("ids", set.ids, principal))
}

fn path(reader: &mut Reader<'_>, message: matchers::PathMatcher) -> Option<StringMatch> {
    use matchers::path_matcher::Rule;
    let Rule::Path(text) = message.rule?;
    reader.at("url_path", |reader| reader.at("path", |reader| reader.text_match(text)))
}
