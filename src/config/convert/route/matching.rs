//! `envoy.config.route.v3.RouteMatch`.

use envoy_types::pb::envoy::config::route::v3 as api;

use crate::config::convert::context::Context;
use crate::config::convert::values;
use crate::config::model::PathMatch;

pub(super) fn path(cx: &mut Context, message: api::RouteMatch) -> Option<PathMatch> {
    use api::route_match::PathSpecifier;
    let api::RouteMatch {
        case_sensitive,
        runtime_fraction,
        headers,
        query_parameters,
        cookies,
        grpc,
        tls_context,
        dynamic_metadata,
        filter_state,
        path_specifier,
    } = message;
    refuse!(cx; runtime_fraction, headers, query_parameters, cookies, grpc, tls_context, dynamic_metadata, filter_state);
    let case_sensitive = values::is_not_false(&case_sensitive);
    let unsupported = match path_specifier? {
        PathSpecifier::Prefix(prefix) => return Some(PathMatch::Prefix { prefix, case_sensitive }),
        PathSpecifier::Path(path) => return Some(PathMatch::Exact { path, case_sensitive }),
        PathSpecifier::ConnectMatcher(api::route_match::ConnectMatcher {}) => return Some(PathMatch::Connect),
        PathSpecifier::SafeRegex(_) => "safe_regex",
        PathSpecifier::PathSeparatedPrefix(_) => "path_separated_prefix",
        PathSpecifier::PathMatchPolicy(_) => "path_match_policy",
    };
    cx.refuse(unsupported);
    None
}
