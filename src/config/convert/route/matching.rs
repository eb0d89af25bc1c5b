//! `envoy.config.route.v3.RouteMatch`.

use envoy_types::pb::envoy::config::core::v3 as core;
use envoy_types::pb::envoy::config::route::v3 as api;

use crate::config::convert::context::Context;
use crate::config::convert::extension::PATH_MATCHERS;
use crate::config::convert::{matcher, matching, values};
use crate::config::model::{Conditions, PathMatch, TlsMatch, UriTemplate};

/// What a route matches: the path, and what else it asks.
pub(super) fn convert(cx: &mut Context, message: api::RouteMatch) -> (Option<PathMatch>, Option<Box<Conditions>>) {
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
    let conditions = Conditions {
        headers: cx.each("headers", headers, matcher::header),
        query: cx.each("query_parameters", query_parameters, matcher::query),
        cookies: cx.each("cookies", cookies, matcher::cookie),
        grpc: grpc.is_some(),
        tls: tls_context.map(|api::route_match::TlsContextMatchOptions { presented, validated }| TlsMatch {
            presented: presented.map(|on| on.value),
            validated: validated.map(|on| on.value),
        }),
        fraction: runtime_fraction.map(|fraction| cx.fraction(fraction)),
        metadata: cx.each("dynamic_metadata", dynamic_metadata, matching::metadata),
        filter_state: cx.each("filter_state", filter_state, matching::filter_state),
    };
    let path = path(cx, path_specifier, values::is_not_false(&case_sensitive));
    (path, (!conditions.is_empty()).then(|| Box::new(conditions)))
}

fn path(
    cx: &mut Context,
    specifier: Option<api::route_match::PathSpecifier>,
    case_sensitive: bool,
) -> Option<PathMatch> {
    use api::route_match::PathSpecifier;
    match specifier? {
        PathSpecifier::Prefix(prefix) => Some(PathMatch::Prefix { prefix, case_sensitive }),
        PathSpecifier::Path(path) => Some(PathMatch::Exact { path, case_sensitive }),
        PathSpecifier::PathSeparatedPrefix(prefix) => Some(PathMatch::SeparatedPrefix { prefix, case_sensitive }),
        PathSpecifier::SafeRegex(regex) => cx.at("safe_regex", |cx| matcher::regex(cx, regex)).map(PathMatch::Regex),
        PathSpecifier::PathMatchPolicy(core::TypedExtensionConfig { name, typed_config }) => {
            let text = cx.at("path_match_policy", |cx| {
                cx.at("typed_config", |cx| PATH_MATCHERS.parse(cx, &name, typed_config.as_ref()))
            });
            text.map(PathMatch::Template)
        }
        PathSpecifier::ConnectMatcher(api::route_match::ConnectMatcher {}) => Some(PathMatch::Connect),
    }
}

/// The settings of `envoy.path.match.uri_template.uri_template_matcher`.
pub(in crate::config::convert) fn template(cx: &mut Context, text: &str) -> Option<UriTemplate> {
    UriTemplate::new(text).map_err(|error| cx.error_at("path_template", error)).ok()
}
