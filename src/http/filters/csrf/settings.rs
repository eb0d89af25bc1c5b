//! `envoy.extensions.filters.http.csrf.v3.CsrfPolicy`.

use envoy_types::pb::envoy::extensions::filters::http::csrf::v3 as api;

use crate::config::extension::{Given, Reader};
use crate::config::model::{Fraction, Keyed, Settings, StringMatch};

/// The settings, of the chain and of routes.
#[derive(Debug, PartialEq)]
pub(super) struct Policy {
    /// Of how many requests.
    pub(super) enabled: Keyed<Fraction>,
    /// Those are judged and counted, where it is not enabled.
    pub(super) shadow: Option<Keyed<Fraction>>,
    pub(super) additional_origins: Vec<StringMatch>,
}

pub(super) fn read(reader: &mut Reader<'_>, given: Given<'_>) -> Option<Settings> {
    let api::CsrfPolicy { filter_enabled, shadow_enabled, additional_origins } = reader.decode(given)?;
    let Some(enabled) = filter_enabled else {
        reader.at("filter_enabled", |reader| reader.error("is required"));
        return None;
    };
    Some(Settings::new(Policy {
        enabled: reader.fraction(enabled),
        shadow: shadow_enabled.map(|message| reader.fraction(message)),
        additional_origins: reader.text_matches("additional_origins", additional_origins),
    }))
}
