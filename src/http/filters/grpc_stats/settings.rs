//! `envoy.extensions.filters.http.grpc_stats.v3`.

use envoy_types::pb::envoy::config::core::v3 as core;
use envoy_types::pb::envoy::extensions::filters::http::grpc_stats::v3 as api;

use super::super::grpc::calls::Apart;
use crate::config::extension::{Given, Reader};
use crate::config::model::Settings;

/// The settings.
#[derive(Debug, PartialEq)]
pub(super) struct GrpcStats {
    pub(super) apart: Apart,
    pub(super) enable_upstream_stats: bool,
}

pub(super) fn read(reader: &mut Reader<'_>, given: Given<'_>) -> Option<Settings> {
    use api::filter_config::PerMethodStatSpecifier as Specifier;
    let api::FilterConfig {
        emit_filter_state,
        enable_upstream_stats,
        replace_dots_in_grpc_service_name,
        per_method_stat_specifier,
    } = reader.decode(given)?;
    if emit_filter_state {
        // Access logs alone would show it: the counters say the same of all calls.
        reader.ignore("emit_filter_state");
    }
    let apart = match per_method_stat_specifier {
        Some(Specifier::IndividualMethodStatsAllowlist(core::GrpcMethodList { services })) => {
            let named = services.into_iter().flat_map(|core::grpc_method_list::Service { name, method_names }| {
                method_names.into_iter().map(move |method| (name.clone(), method))
            });
            Apart::Listed(named.collect())
        }
        Some(Specifier::StatsForAllMethods(all)) if all.value => {
            Apart::All { without_dots: replace_dots_in_grpc_service_name }
        }
        Some(Specifier::StatsForAllMethods(_)) | None => Apart::None,
    };
    if replace_dots_in_grpc_service_name && !matches!(apart, Apart::All { .. }) {
        reader.warn("replace_dots_in_grpc_service_name has no effect without stats_for_all_methods");
    }
    Some(Settings::new(GrpcStats { apart, enable_upstream_stats }))
}
