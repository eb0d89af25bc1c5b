//! `envoy.config.route.v3.VirtualHost`, and the uniqueness of names and domains.

use std::collections::HashSet;
use std::sync::Arc;

use envoy_types::pb::envoy::config::route::v3 as api;
use envoy_types::pb::google::protobuf::Any;

use super::context::Context;
use super::extension::{Category, Extension, decode};
use super::header_rules::{self, Lists};
use super::matching::Place;
use super::route::{self, Inherited, Table};
use super::{cors, http_filters, matcher, matching, rate_limit, retry};
use crate::config::model::{RequireTls, Route, Tries, VirtualCluster, VirtualHost};

/// Names and domains of one table so far.
#[derive(Default)]
pub(super) struct Seen {
    names: HashSet<String>,
    domains: HashSet<String>,
}

pub(super) fn convert(cx: &mut Context, message: api::VirtualHost, table: &Table, seen: &mut Seen) -> VirtualHost {
    let api::VirtualHost {
        name,
        domains,
        routes,
        matcher,
        require_tls,
        virtual_clusters,
        rate_limits,
        request_headers_to_add,
        request_headers_to_remove,
        response_headers_to_add,
        response_headers_to_remove,
        cors,
        typed_per_filter_config,
        include_request_attempt_count,
        include_attempt_count_in_response,
        retry_policy,
        retry_policy_typed_config,
        hedge_policy,
        include_is_timeout_retry_header,
        per_request_buffer_limit_bytes,
        request_body_buffer_limit,
        request_mirror_policies,
        metadata,
        route_specifiers,
    } = message;
    refuse!(cx; retry_policy_typed_config, route_specifiers);
    ignore!(cx; metadata);
    let rate_limits = rate_limit::convert(cx, "rate_limits", rate_limits);
    let limits = retry::limits(cx, &per_request_buffer_limit_bytes, &request_body_buffer_limit);
    let (body_limit, request_limit) = limits.unwrap_or_default();
    let tries = Tries {
        policy: match retry_policy {
            Some(policy) => cx.at("retry_policy", |cx| retry::policy(cx, policy)),
            None => retry::none(cx),
        },
        count_in_request: include_request_attempt_count,
        count_in_response: include_attempt_count_in_response,
        timeout_in_request: include_is_timeout_retry_header,
        body_limit,
        request_limit,
        hedges: hedge_policy.is_some_and(|policy| cx.at("hedge_policy", |cx| retry::hedges(cx, policy))),
    };
    let mirrors = table.mirrors(cx, request_mirror_policies, table.own_mirrors());
    let inherited = Inherited { tries, mirrors };
    // Envoy accepts it; nothing but a statistic goes by the name.
    if !name.is_empty() && !seen.names.insert(name.clone()) {
        cx.at("name", |cx| cx.warn(format!("another virtual host of this table is called '{name}' too")));
    }
    let domains = cx.each("domains", domains, |cx, domain| {
        let domain = domain.to_ascii_lowercase();
        if seen.domains.insert(domain.clone()) {
            return Some(domain);
        }
        let table = &table.name;
        cx.error(match domain.as_str() {
            "*" => format!("Only a single wildcard domain is permitted in route {table}"),
            domain => format!(
                "Only unique values for domains are permitted. Duplicate entry of domain {domain} in route {table}"
            ),
        });
        None
    });
    let routes = cx.each("routes", routes, |cx, message| route::convert(cx, message, table, &inherited).map(Arc::new));
    if matcher.is_some() && !routes.is_empty() {
        cx.error("cannot set both matcher and routes on virtual host");
    }
    let matcher = matcher.and_then(|message| {
        let mut action = |cx: &mut Context, name: &str, any: &Any| {
            let routes = ROUTES.parse(cx, name, Some(any))?;
            route_list(cx, routes, table, &inherited)
        };
        cx.at("matcher", |cx| matching::tree(cx, message, Place::Request, &mut action)).map(Arc::new)
    });
    let rules = header_rules::convert(
        cx,
        Lists {
            request_add: request_headers_to_add,
            request_remove: request_headers_to_remove,
            response_add: response_headers_to_add,
            response_remove: response_headers_to_remove,
        },
    );
    let mut filters = http_filters::of_route(cx, typed_per_filter_config);
    cors::add(cx, cors, &mut filters);
    VirtualHost {
        name,
        domains,
        routes,
        matcher,
        require_tls: required_tls(require_tls),
        rate_limits,
        virtual_clusters: cx.each("virtual_clusters", virtual_clusters, virtual_cluster),
        rules,
        filters,
    }
}

fn required_tls(kind: i32) -> RequireTls {
    use api::virtual_host::TlsRequirementType;
    match TlsRequirementType::try_from(kind) {
        Ok(TlsRequirementType::All) => RequireTls::All,
        Ok(TlsRequirementType::ExternalOnly) => RequireTls::External,
        Ok(TlsRequirementType::None) | Err(_) => RequireTls::None,
    }
}

fn virtual_cluster(cx: &mut Context, message: api::VirtualCluster) -> Option<VirtualCluster> {
    let api::VirtualCluster { headers, name } = message;
    Some(VirtualCluster { name, headers: cx.each("headers", headers, matcher::header) })
}

/// What the matcher of a virtual host leads to.
enum Found {
    Route(Box<api::Route>),
    List(Vec<api::Route>),
}

const ROUTES: Category<Found> = Category {
    what: "action of a virtual host's matcher",
    extensions: &[
        Extension {
            type_name: "envoy.config.route.v3.Route",
            parse: |cx, bytes| decode(cx, bytes).map(|route| Found::Route(Box::new(route))),
        },
        Extension {
            type_name: "envoy.config.route.v3.RouteList",
            parse: |cx, bytes| decode(cx, bytes).map(|api::RouteList { routes }| Found::List(routes)),
        },
    ],
};

fn route_list(cx: &mut Context, found: Found, table: &Table, inherited: &Inherited) -> Option<Vec<Arc<Route>>> {
    match found {
        Found::Route(message) => route::convert(cx, *message, table, inherited).map(|route| vec![Arc::new(route)]),
        Found::List(messages) => {
            let routes = |cx: &mut Context, message| route::convert(cx, message, table, inherited).map(Arc::new);
            Some(cx.each("routes", messages, routes))
        }
    }
}
