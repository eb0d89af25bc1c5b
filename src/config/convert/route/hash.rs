//! `envoy.config.route.v3.RouteAction.HashPolicy`.

use envoy_types::pb::envoy::config::route::v3::route_action as api;

use crate::config::convert::context::Context;
use crate::config::convert::{matcher, values};
use crate::config::model::{HashPolicy, HashSource};

pub(super) fn policy(cx: &mut Context, message: api::HashPolicy) -> Option<HashPolicy> {
    use api::hash_policy::{
        ConnectionProperties, Cookie, CookieAttribute, FilterState, Header, PolicySpecifier, QueryParameter,
    };
    let api::HashPolicy { terminal, policy_specifier } = message;
    let source = match policy_specifier? {
        PolicySpecifier::Header(Header { header_name, regex_rewrite }) => cx.at("header", |cx| {
            let field = matcher::field(cx, "header_name", &header_name);
            let rewrite = match regex_rewrite {
                Some(message) => Some(cx.at("regex_rewrite", |cx| matcher::substitution(cx, message))?),
                None => None,
            };
            Some(HashSource::Header(field?, rewrite))
        })?,
        PolicySpecifier::Cookie(Cookie { name, ttl, path, attributes }) => HashSource::Cookie {
            name,
            ttl: cx.at("cookie", |cx| values::duration(cx, "ttl", &ttl)),
            path,
            attributes: attributes.into_iter().map(|CookieAttribute { name, value }| (name, value)).collect(),
        },
        // False says that nothing is looked at.
        PolicySpecifier::ConnectionProperties(ConnectionProperties { source_ip }) => {
            source_ip.then_some(HashSource::SourceIp)?
        }
        PolicySpecifier::QueryParameter(QueryParameter { name }) => HashSource::Query(name),
        PolicySpecifier::FilterState(FilterState { key }) => HashSource::FilterState(key),
    };
    Some(HashPolicy { source, terminal })
}
