//! `envoy.extensions.filters.http.grpc_http1_bridge.v3`.

use envoy_types::pb::envoy::extensions::filters::http::grpc_http1_bridge::v3 as api;

use crate::config::extension::{Given, Reader};
use crate::config::model::Settings;

/// The settings.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Bridge {
    /// `upgrade_protobuf_to_grpc`.
    pub(super) upgrades: bool,
    /// `ignore_query_parameters`.
    pub(super) ignores_query: bool,
}

pub(super) fn read(reader: &mut Reader<'_>, given: Given<'_>) -> Option<Settings> {
    let api::Config { upgrade_protobuf_to_grpc, ignore_query_parameters } = reader.decode(given)?;
    Some(Settings::new(Bridge { upgrades: upgrade_protobuf_to_grpc, ignores_query: ignore_query_parameters }))
}
