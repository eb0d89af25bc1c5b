//! `envoy.extensions.filters.http.grpc_http1_reverse_bridge.v3`.

use envoy_types::pb::envoy::extensions::filters::http::grpc_http1_reverse_bridge::v3 as api;
use http::{HeaderName, HeaderValue};

use crate::config::extension::{Given, Reader};
use crate::config::model::Settings;

/// The settings.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct ReverseBridge {
    /// What hosts get and give.
    pub(super) content_type: HeaderValue,
    /// `withhold_grpc_frames`: they know nothing of the prefix.
    pub(super) withholds: bool,
    /// `response_size_header`.
    pub(super) size_header: Option<HeaderName>,
}

/// What a route says.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Disabled(pub(super) bool);

pub(super) fn read(reader: &mut Reader<'_>, given: Given<'_>) -> Option<Settings> {
    let api::FilterConfig { content_type, withhold_grpc_frames, response_size_header } = reader.decode(given)?;
    let content_type = HeaderValue::from_str(&content_type);
    if content_type.is_err() {
        reader.at("content_type", |reader| reader.error("cannot stand in a header"));
    }
    let size_header = match response_size_header.as_str() {
        "" => Some(None),
        name => match HeaderName::from_bytes(name.as_bytes()) {
            Ok(name) => Some(Some(name)),
            Err(_) => {
                reader.at("response_size_header", |reader| reader.error(format!("`{name}` is no name of a header")));
                None
            }
        },
    };
    let settings =
        ReverseBridge { content_type: content_type.ok()?, withholds: withhold_grpc_frames, size_header: size_header? };
    if settings.size_header.is_some() && !settings.withholds {
        reader.warn("response_size_header has no effect without withhold_grpc_frames");
    }
    Some(Settings::new(settings))
}

pub(super) fn read_route(reader: &mut Reader<'_>, given: Given<'_>) -> Option<Settings> {
    let api::FilterConfigPerRoute { disabled } = reader.decode(given)?;
    Some(Settings::new(Disabled(disabled)))
}
