//! `envoy.extensions.filters.http.cors.v3.CorsPolicy`.

use envoy_types::pb::envoy::extensions::filters::http::cors::v3 as api;
use http::HeaderValue;

use crate::config::extension::{Given, Reader};
use crate::config::model::{Fraction, Keyed, Settings, StringMatch};

/// What a level of the routes says. `None` leaves a field to the next level.
#[derive(Debug, PartialEq)]
pub(super) struct Policy {
    pub(super) allow_origins: Vec<StringMatch>,
    pub(super) allow_methods: Option<HeaderValue>,
    pub(super) allow_headers: Option<HeaderValue>,
    pub(super) expose_headers: Option<HeaderValue>,
    pub(super) max_age: Option<HeaderValue>,
    pub(super) allow_credentials: Option<bool>,
    pub(super) allow_private_network_access: Option<bool>,
    pub(super) forward_not_matching_preflights: Option<bool>,
    /// Of how many requests.
    pub(super) enabled: Keyed<Fraction>,
    /// Those are judged and counted, where it is not enabled.
    pub(super) shadow: Option<Keyed<Fraction>>,
}

pub(super) fn read_route(reader: &mut Reader<'_>, given: Given<'_>) -> Option<Settings> {
    let api::CorsPolicy {
        allow_origin_string_match,
        allow_methods,
        allow_headers,
        expose_headers,
        max_age,
        allow_credentials,
        filter_enabled,
        shadow_enabled,
        allow_private_network_access,
        forward_not_matching_preflights,
    } = reader.decode(given)?;
    Some(Settings::new(Policy {
        allow_origins: reader.text_matches("allow_origin_string_match", allow_origin_string_match),
        allow_methods: value(reader, "allow_methods", allow_methods),
        allow_headers: value(reader, "allow_headers", allow_headers),
        expose_headers: value(reader, "expose_headers", expose_headers),
        max_age: value(reader, "max_age", max_age),
        allow_credentials: allow_credentials.map(|value| value.value),
        allow_private_network_access: allow_private_network_access.map(|value| value.value),
        forward_not_matching_preflights: forward_not_matching_preflights.map(|value| value.value),
        enabled: filter_enabled.map_or(Fraction::ALL.into(), |message| reader.fraction(message)),
        shadow: shadow_enabled.map(|message| reader.fraction(message)),
    }))
}

/// What stands in a header as it is.
fn value(reader: &mut Reader<'_>, field: &'static str, text: String) -> Option<HeaderValue> {
    if text.is_empty() {
        return None;
    }
    let value = HeaderValue::from_str(&text);
    value.map_err(|_| reader.at(field, |reader| reader.error("is not a header's value"))).ok()
}
