//! `envoy.config.listener.v3.FilterChain` and what it matches.

use std::collections::{HashMap, HashSet};
use std::hash::Hash;
use std::sync::Arc;

use envoy_types::pb::envoy::config::core::v3 as core;
use envoy_types::pb::envoy::config::listener::v3 as api;

use super::context::Context;
use super::extension::{CLIENT_SOCKETS, NETWORK_FILTERS, TRANSPORT_SOCKETS, type_of};
use super::{address, http_filters, values};
use crate::config::model::{
    DownstreamTls, FilterChain, FilterChainMatch, NetworkFilter, NetworkFilterModel, SourceType,
};

pub(super) fn convert(cx: &mut Context, message: api::FilterChain) -> Option<FilterChain> {
    let api::FilterChain {
        filter_chain_match,
        filters,
        use_proxy_proto,
        metadata,
        transport_socket,
        transport_socket_connect_timeout,
        name,
    } = message;
    let use_proxy_proto = values::is_true(&use_proxy_proto);
    refuse!(cx; use_proxy_proto);
    ignore!(cx; metadata);
    let handshake_timeout =
        values::limit(cx, "transport_socket_connect_timeout", &transport_socket_connect_timeout, None);
    let tls = client_socket(cx, transport_socket);
    let count = filters.len();
    let filters = cx.each("filters", filters.into_iter().enumerate(), |cx, (at, message)| {
        let filter = filter(cx, message);
        match filter.as_ref().is_none_or(NetworkFilter::is_terminal) {
            true if at + 1 < count => cx.error("a terminal filter must be the last of its filter chain"),
            false if at + 1 == count => {
                cx.error("is not a terminal filter, and must not be the last of its filter chain")
            }
            _ => {}
        }
        filter
    });
    if count == 0 {
        cx.at("filters", |cx| cx.warn("there are none: connections of this chain are closed at once"));
    }
    let matches = cx.at("filter_chain_match", |cx| matches(cx, filter_chain_match.unwrap_or_default()));
    Some(FilterChain { name, matches, filters, tls, handshake_timeout })
}

/// Refuses chains among which some connection could not choose.
pub(super) fn must_not_overlap(cx: &mut Context, chains: &[FilterChain]) {
    let mut groups: HashMap<(Option<u16>, SourceType), Vec<&FilterChain>> = HashMap::new();
    for chain in chains {
        let matches = &chain.matches;
        let group = groups.entry((matches.destination_port, matches.source_type)).or_default();
        if let Some(other) = group.iter().find(|other| overlaps(&other.matches, matches)) {
            let text = if other.matches == *matches {
                format!("filter chain '{}' has the same matching rules defined as '{}'", chain.name, other.name)
            } else {
                format!("filter chains '{}' and '{}' have overlapping matching rules", other.name, chain.name)
            };
            cx.error_at("filter_chains", text);
        }
        group.push(chain);
    }
}

/// Do the two, equal in port and source type, share a value of every other rule? To have no rule is a value of its own.
fn overlaps(left: &FilterChainMatch, right: &FilterChainMatch) -> bool {
    fn share<T: Eq + Hash>(left: &[T], right: &[T]) -> bool {
        let (short, long) = if left.len() < right.len() { (left, right) } else { (right, left) };
        let known: HashSet<&T> = short.iter().collect();
        left.is_empty() && right.is_empty() || long.iter().any(|one| known.contains(one))
    }
    share(&left.destination, &right.destination)
        && share(&left.direct_source, &right.direct_source)
        && share(&left.source, &right.source)
        && share(&left.source_ports, &right.source_ports)
        && share(&left.server_names, &right.server_names)
        && left.transport_protocol == right.transport_protocol
        && share(&left.application_protocols, &right.application_protocols)
}

/// What a filter chain's clients speak below their protocol. One that could not be read is none, beside its fault.
fn client_socket(cx: &mut Context, message: Option<core::TransportSocket>) -> Option<Arc<DownstreamTls>> {
    let core::TransportSocket { name, config_type } = message?;
    let any = config_type.map(|core::transport_socket::ConfigType::TypedConfig(any)| any);
    let parsed =
        cx.at("transport_socket", |cx| cx.at("typed_config", |cx| CLIENT_SOCKETS.parse(cx, &name, any.as_ref())));
    parsed.flatten()
}

/// TLS towards hosts is not there yet; the socket that adds nothing may be named.
pub(super) fn transport_socket(cx: &mut Context, message: Option<core::TransportSocket>) {
    let Some(core::TransportSocket { name, config_type }) = message else { return };
    let any = config_type.map(|core::transport_socket::ConfigType::TypedConfig(any)| any);
    cx.at("transport_socket", |cx| cx.at("typed_config", |cx| TRANSPORT_SOCKETS.parse(cx, &name, any.as_ref())));
}

fn filter(cx: &mut Context, message: api::Filter) -> Option<NetworkFilter> {
    let api::Filter { name, config_type } = message;
    let any = match config_type {
        Some(api::filter::ConfigType::TypedConfig(any)) => Some(any),
        Some(api::filter::ConfigType::ConfigDiscovery(_)) => {
            cx.refuse("config_discovery");
            return None;
        }
        None => None,
    };
    let type_name = any.as_ref().map(type_of).unwrap_or_default();
    let kind = cx.network_filters.iter().copied().find(|kind| kind.type_name == type_name);
    cx.at("typed_config", |cx| {
        if let (Some(kind), Some(any)) = (kind, &any) {
            let settings = http_filters::settings(cx, any, kind.type_name, kind.settings)?;
            let is_terminal = kind.is_terminal;
            return Some(NetworkFilter::Extension(NetworkFilterModel { name, type_name, settings, is_terminal }));
        }
        let others = cx.network_filters.iter().map(|kind| kind.type_name).collect();
        NETWORK_FILTERS.parse_among(cx, &name, any.as_ref(), others)
    })
}

fn matches(cx: &mut Context, message: api::FilterChainMatch) -> FilterChainMatch {
    use api::filter_chain_match::ConnectionSourceType;
    let api::FilterChainMatch {
        destination_port,
        prefix_ranges,
        address_suffix,
        suffix_len,
        direct_source_prefix_ranges,
        source_type,
        source_prefix_ranges,
        source_ports,
        server_names,
        transport_protocol,
        application_protocols,
    } = message;
    refuse!(cx; address_suffix, suffix_len);
    FilterChainMatch {
        destination_port: values::number(&destination_port).and_then(|port| u16::try_from(port).ok()),
        destination: cx.each("prefix_ranges", prefix_ranges, address::cidr),
        direct_source: cx.each("direct_source_prefix_ranges", direct_source_prefix_ranges, address::cidr),
        source_type: match ConnectionSourceType::try_from(source_type) {
            Ok(ConnectionSourceType::SameIpOrLoopback) => SourceType::SameIpOrLoopback,
            Ok(ConnectionSourceType::External) => SourceType::External,
            Ok(ConnectionSourceType::Any) | Err(_) => SourceType::Any,
        },
        source: cx.each("source_prefix_ranges", source_prefix_ranges, address::cidr),
        source_ports: cx.each("source_ports", source_ports, |_, port| u16::try_from(port).ok()),
        server_names: cx.each("server_names", server_names, |cx, name| {
            let plain = name.strip_prefix("*.").unwrap_or(&name);
            if plain.contains('*') || plain.is_empty() {
                cx.error("is neither a name nor *. and a name: partial wildcards are not supported");
            }
            Some(name.to_ascii_lowercase())
        }),
        transport_protocol,
        application_protocols,
    }
}
