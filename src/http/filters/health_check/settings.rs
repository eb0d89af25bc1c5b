//! `envoy.extensions.filters.http.health_check.v3.HealthCheck`.

use std::time::Duration;

use envoy_types::pb::envoy::extensions::filters::http::health_check::v3 as api;

use crate::config::extension::{Given, Reader};
use crate::config::model::{HeaderMatch, Settings};

/// The settings.
#[derive(Debug, PartialEq)]
pub(super) struct HealthCheck {
    /// All of them make a request a health check; none, and every request is one.
    pub(super) headers: Vec<HeaderMatch>,
    pub(super) mode: Mode,
    /// `node.cluster`, for those who ask.
    pub(super) service: String,
}

/// Who answers.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Mode {
    /// This proxy; the clusters that must have so many healthy hosts in a hundred, by name.
    Answer(Vec<(String, f64)>),
    /// The route; for how long its answer is good.
    PassThrough(Option<Duration>),
}

pub(super) fn read(reader: &mut Reader<'_>, given: Given<'_>) -> Option<Settings> {
    let api::HealthCheck { pass_through_mode, cache_time, cluster_min_healthy_percentages, headers } =
        reader.decode(given)?;
    let headers = reader.header_matches("headers", headers);
    let cache_time = reader.duration("cache_time", &cache_time);
    let passes = pass_through_mode.is_some_and(|value| value.value);
    if !passes && cache_time.is_some() {
        reader.at("cache_time", |reader| reader.error("must not be set when pass_through_mode is false"));
    }
    let mut percentages: Vec<(String, f64)> =
        cluster_min_healthy_percentages.into_iter().map(|(name, percent)| (name, percent.value)).collect();
    if passes && !percentages.is_empty() {
        reader.at("cluster_min_healthy_percentages", |reader| {
            reader.error("must not be set when pass_through_mode is true");
        });
    }
    percentages.sort_by(|one, other| one.0.cmp(&other.0));
    let mode = if passes { Mode::PassThrough(cache_time) } else { Mode::Answer(percentages) };
    let service = reader.service_cluster().to_owned();
    Some(Settings::new(HealthCheck { headers, mode, service }))
}
