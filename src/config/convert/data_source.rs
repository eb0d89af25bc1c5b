//! `envoy.config.core.v3.DataSource`.

use bytes::Bytes;
use envoy_types::pb::envoy::config::core::v3 as core;

use super::context::Context;

/// What a `DataSource` holds; of a file at most one byte more than `limit` is read.
pub(super) fn read(cx: &mut Context, source: core::DataSource, limit: u32) -> Option<Bytes> {
    use core::data_source::Specifier;
    let core::DataSource { watched_directory, specifier } = source;
    ignore!(cx; watched_directory);
    match specifier? {
        Specifier::InlineString(text) => Some(text.into()),
        Specifier::InlineBytes(bytes) => Some(bytes.into()),
        Specifier::Filename(path) => match file(&path, u64::from(limit) + 1) {
            Ok(bytes) => Some(bytes.into()),
            Err(error) => {
                cx.error_at("filename", format!("cannot read {path}: {error}"));
                None
            }
        },
        Specifier::EnvironmentVariable(name) => match std::env::var(&name) {
            Ok(text) => Some(text.into()),
            Err(_) => {
                cx.error_at("environment_variable", format!("the environment variable {name} is not set"));
                None
            }
        },
    }
}

fn file(path: &str, limit: u64) -> std::io::Result<Vec<u8>> {
    use std::io::Read as _;
    let mut bytes = Vec::new();
    std::fs::File::open(path)?.take(limit).read_to_end(&mut bytes)?;
    Ok(bytes)
}
