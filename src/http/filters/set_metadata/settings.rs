//! `envoy.extensions.filters.http.set_metadata.v3.Config`.

use envoy_types::pb::envoy::extensions::filters::http::set_metadata::v3 as api;
use serde_json::{Map, Value};

use crate::config::extension::{Given, Reader, structure};
use crate::config::model::Settings;

/// The settings: what is left, in order.
#[derive(Debug, PartialEq)]
pub(super) struct Metadata(pub(super) Vec<Entry>);

/// Values of a namespace.
#[derive(Debug, PartialEq)]
pub(super) struct Entry {
    pub(super) namespace: String,
    pub(super) value: Map<String, Value>,
    /// What is there is merged with.
    pub(super) allow_overwrite: bool,
}

#[allow(deprecated, reason = "the older way to say one entry")]
pub(super) fn read(reader: &mut Reader<'_>, given: Given<'_>) -> Option<Settings> {
    let api::Config { metadata_namespace, value, metadata } = reader.decode(given)?;
    let mut entries = Vec::with_capacity(metadata.len() + 1);
    if let (false, Some(value)) = (metadata_namespace.is_empty(), value) {
        let value = structure(&value);
        entries.push(Entry { namespace: metadata_namespace, value, allow_overwrite: true });
    }
    entries.extend(reader.each("metadata", metadata, |reader, message| {
        let api::Metadata { metadata_namespace, allow_overwrite, value, typed_value } = message;
        if typed_value.is_some() {
            reader.refuse("typed_value");
        }
        let value = value.map(|value| structure(&value)).unwrap_or_default();
        Some(Entry { namespace: metadata_namespace, value, allow_overwrite })
    }));
    Some(Settings::new(Metadata(entries)))
}
