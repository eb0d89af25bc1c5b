//! `envoy.extensions.filters.http.buffer.v3`.

use envoy_types::pb::envoy::extensions::filters::http::buffer::v3 as api;

use crate::config::extension::{Given, Reader};
use crate::config::model::Settings;

/// The settings.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Buffer {
    /// The most that is held of one request.
    pub(super) max_request_bytes: u32,
}

/// What a route says.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum BufferPerRoute {
    /// Nothing is held.
    Disabled,
    /// These settings hold instead.
    Override(Buffer),
}

pub(super) fn read(reader: &mut Reader<'_>, given: Given<'_>) -> Option<Settings> {
    let message = reader.decode(given)?;
    buffer(reader, message).map(Settings::new)
}

fn buffer(reader: &mut Reader<'_>, message: api::Buffer) -> Option<Buffer> {
    let api::Buffer { max_request_bytes } = message;
    match max_request_bytes.map(|value| value.value) {
        Some(most) if most > 0 => Some(Buffer { max_request_bytes: most }),
        _ => {
            reader.at("max_request_bytes", |reader| reader.error("must be greater than 0"));
            None
        }
    }
}

pub(super) fn read_route(reader: &mut Reader<'_>, given: Given<'_>) -> Option<Settings> {
    let api::BufferPerRoute { r#override } = reader.decode(given)?;
    let said = match r#override {
        Some(api::buffer_per_route::Override::Disabled(_)) => BufferPerRoute::Disabled,
        Some(api::buffer_per_route::Override::Buffer(message)) => {
            BufferPerRoute::Override(reader.at("buffer", |reader| buffer(reader, message))?)
        }
        None => {
            reader.error("must say `disabled` or `buffer`");
            return None;
        }
    };
    Some(Settings::new(said))
}
