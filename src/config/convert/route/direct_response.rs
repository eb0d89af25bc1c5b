//! `envoy.config.route.v3.DirectResponseAction`, and data sources.

use bytes::Bytes;
use envoy_types::pb::envoy::config::core::v3 as core;
use envoy_types::pb::envoy::config::route::v3 as api;

use super::Table;
use crate::config::convert::context::Context;
use crate::config::convert::local_reply;
use crate::config::model::RouteAction;

pub(super) fn convert(cx: &mut Context, message: api::DirectResponseAction, table: &Table) -> Option<RouteAction> {
    let api::DirectResponseAction { status, body, body_format } = message;
    let limit = table.max_direct_response_body;
    let body = match body {
        Some(source) => cx.at("body", |cx| data(cx, source, limit))?,
        None => Bytes::new(),
    };
    if body.len() > limit as usize {
        cx.error_at("body", format!("response body size is {} bytes; maximum is {limit}", body.len()));
        return None;
    }
    let status = u16::try_from(status).ok()?;
    Some(match body_format {
        None => RouteAction::DirectResponse { status, body },
        Some(format) => {
            let format = cx.at("body_format", |cx| local_reply::format(cx, format))?;
            RouteAction::FormattedResponse { status, body, format: Box::new(format) }
        }
    })
}

/// What a `DataSource` holds; of a file at most one byte more than `limit` is read.
pub(in crate::config::convert) fn data(cx: &mut Context, source: core::DataSource, limit: u32) -> Option<Bytes> {
    use core::data_source::Specifier;
    let core::DataSource { watched_directory, specifier } = source;
    ignore!(cx; watched_directory);
    match specifier? {
        Specifier::InlineString(text) => Some(text.into()),
        Specifier::InlineBytes(bytes) => Some(bytes.into()),
        Specifier::Filename(path) => match read(&path, u64::from(limit) + 1) {
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

fn read(path: &str, limit: u64) -> std::io::Result<Vec<u8>> {
    use std::io::Read as _;
    let mut bytes = Vec::new();
    std::fs::File::open(path)?.take(limit).read_to_end(&mut bytes)?;
    Ok(bytes)
}
