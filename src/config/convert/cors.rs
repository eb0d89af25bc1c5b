//! `cors` of routes and virtual hosts: the fields of old for the filter `envoy.filters.http.cors`, read as its own settings are.

use envoy_types::pb::envoy::config::route::v3 as api;
use envoy_types::pb::envoy::extensions::filters::http::cors::v3 as own;
use prost::Message as _;

use super::context::Context;
use super::http_filters;
use crate::config::extension::Given;
use crate::config::model::{RouteFilter, RouteFilters};

/// The settings of the chain's filter; without the filter the fields mean nothing.
pub(super) const FILTER: &str = "envoy.extensions.filters.http.cors.v3.Cors";
const POLICY: &str = "envoy.extensions.filters.http.cors.v3.CorsPolicy";

/// Adds what the fields say, for every filter of which `typed_per_filter_config` says nothing on this level.
pub(super) fn add(cx: &mut Context, message: Option<api::CorsPolicy>, filters: &mut RouteFilters) {
    let Some(message) = message else { return };
    cx.at("cors", |cx| {
        if cx.cors_filters.is_empty() {
            return cx.warn("there is no HTTP filter envoy.filters.http.cors that it would be for");
        }
        let bytes = modern(message).encode_to_vec();
        let kind = cx.http_filters.iter().filter_map(|kind| kind.route).find(|kind| kind.type_name == POLICY);
        let Some(settings) = kind.and_then(|kind| http_filters::read(cx, kind.settings, Given::Message(&bytes))) else {
            return;
        };
        for name in cx.cors_filters.clone() {
            if let Err(at) = filters.0.binary_search_by(|filter| filter.name.cmp(&name)) {
                filters.0.insert(at, RouteFilter { name, disabled: false, settings: Some(settings.clone()) });
            }
        }
    });
}

fn modern(message: api::CorsPolicy) -> own::CorsPolicy {
    let api::CorsPolicy {
        allow_origin_string_match,
        allow_methods,
        allow_headers,
        expose_headers,
        max_age,
        allow_credentials,
        shadow_enabled,
        allow_private_network_access,
        forward_not_matching_preflights,
        enabled_specifier,
    } = message;
    own::CorsPolicy {
        allow_origin_string_match,
        allow_methods,
        allow_headers,
        expose_headers,
        max_age,
        allow_credentials,
        filter_enabled: enabled_specifier.map(|api::cors_policy::EnabledSpecifier::FilterEnabled(enabled)| enabled),
        shadow_enabled,
        allow_private_network_access,
        forward_not_matching_preflights,
    }
}
