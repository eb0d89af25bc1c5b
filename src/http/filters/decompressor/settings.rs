//! The settings, and how they are read.

use std::pin::Pin;

use async_compression::tokio::write::{BrotliDecoder, GzipDecoder, ZstdDecoder};
use async_compression::zstd::DParameter;
use envoy_types::pb::envoy::config::core::v3 as core;
use envoy_types::pb::envoy::extensions::compression::brotli::decompressor::v3::Brotli;
use envoy_types::pb::envoy::extensions::compression::gzip::decompressor::v3::Gzip;
use envoy_types::pb::envoy::extensions::compression::zstd::decompressor::v3::Zstd;
use envoy_types::pb::envoy::extensions::filters::http::decompressor::v3 as api;
use tokio::io::AsyncWrite;

use crate::config::extension::{Given, Reader};
use crate::config::model::{Keyed, Settings};
use crate::http::filters::recoded::Sink;

/// Envoy's `max_inflate_ratio`.
const RATIO: u32 = 100;

/// The window of zstd that a decoder on the web must have, and no more: eight megabytes, as a power of two (RFC 9659).
const WINDOW: u32 = 23;

/// What is undone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Library {
    Gzip { ratio: u32 },
    Brotli,
    Zstd,
}

impl Library {
    /// What decompresses into a sink.
    pub(super) fn decoder(self, sink: Sink) -> Pin<Box<dyn AsyncWrite>> {
        match self {
            Self::Gzip { .. } => Box::pin(GzipDecoder::new(sink)),
            Self::Brotli => Box::pin(BrotliDecoder::new(sink)),
            Self::Zstd => Box::pin(ZstdDecoder::with_params(sink, &[DParameter::window_log_max(WINDOW)])),
        }
    }

    /// How many times longer a body may become. The others have no limit in Envoy, and need none: bodies are never held whole.
    pub(super) fn ratio(self) -> Option<u32> {
        match self {
            Self::Gzip { ratio } => Some(ratio),
            Self::Brotli | Self::Zstd => None,
        }
    }

    /// Its `content-encoding`.
    pub(super) fn encoding(self) -> &'static str {
        match self {
            Self::Gzip { .. } => "gzip",
            Self::Brotli => "br",
            Self::Zstd => "zstd",
        }
    }

    /// Its part of the names of statistics.
    pub(super) fn stat_name(self) -> &'static str {
        match self {
            Self::Gzip { .. } => "gzip",
            Self::Brotli => "brotli",
            Self::Zstd => "zstd",
        }
    }
}

/// `envoy.extensions.filters.http.decompressor.v3.Decompressor`.
#[derive(Debug, PartialEq)]
pub(super) struct Decompressor {
    pub(super) library: Library,
    /// `decompressor_library.name`.
    pub(super) name: String,
    /// `request_direction_config`.
    pub(super) request: Direction,
    /// `response_direction_config`.
    pub(super) response: Direction,
    /// `advertise_accept_encoding`.
    pub(super) advertises: bool,
}

/// What is said of a direction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Direction {
    /// `enabled`.
    pub(super) enabled: Keyed<bool>,
    /// `ignore_no_transform_header`.
    pub(super) ignores_no_transform: bool,
}

pub(super) fn of_chain(reader: &mut Reader<'_>, given: Given<'_>) -> Option<Settings> {
    let api::Decompressor { decompressor_library, request_direction_config, response_direction_config } =
        reader.decode(given)?;
    let extension = decompressor_library?;
    let name = extension.name.clone();
    let library = reader.at("decompressor_library", |reader| library(reader, extension))?;
    let api::decompressor::RequestDirectionConfig { common_config, advertise_accept_encoding } =
        request_direction_config.unwrap_or_default();
    let request = direction(reader, common_config);
    let api::decompressor::ResponseDirectionConfig { common_config } = response_direction_config.unwrap_or_default();
    let response = direction(reader, common_config);
    let advertises = advertise_accept_encoding.is_none_or(|value| value.value);
    Some(Settings::new(Decompressor { library, name, request, response, advertises }))
}

fn direction(reader: &Reader<'_>, message: Option<api::decompressor::CommonDirectionConfig>) -> Direction {
    let api::decompressor::CommonDirectionConfig { enabled, ignore_no_transform_header } = message.unwrap_or_default();
    Direction { enabled: reader.flag(enabled, true), ignores_no_transform: ignore_no_transform_header }
}

fn library(reader: &mut Reader<'_>, message: core::TypedExtensionConfig) -> Option<Library> {
    let any = message.typed_config?;
    let given = Given::Message(&any.value);
    reader.at("typed_config", |reader| match any.type_url.rsplit('/').next().unwrap_or_default() {
        "envoy.extensions.compression.gzip.decompressor.v3.Gzip" => {
            let Gzip { window_bits, chunk_size, max_inflate_ratio } = reader.decode(given)?;
            for (field, is_set) in [("window_bits", window_bits.is_some()), ("chunk_size", chunk_size.is_some())] {
                if is_set {
                    reader.ignore(field);
                }
            }
            Some(Library::Gzip { ratio: max_inflate_ratio.map_or(RATIO, |ratio| ratio.value) })
        }
        "envoy.extensions.compression.brotli.decompressor.v3.Brotli" => {
            let Brotli { disable_ring_buffer_reallocation, chunk_size } = reader.decode(given)?;
            for (field, is_set) in [
                ("disable_ring_buffer_reallocation", disable_ring_buffer_reallocation),
                ("chunk_size", chunk_size.is_some()),
            ] {
                if is_set {
                    reader.ignore(field);
                }
            }
            Some(Library::Brotli)
        }
        "envoy.extensions.compression.zstd.decompressor.v3.Zstd" => {
            let Zstd { dictionaries, chunk_size } = reader.decode(given)?;
            if !dictionaries.is_empty() {
                reader.refuse("dictionaries");
            }
            if chunk_size.is_some() {
                reader.ignore("chunk_size");
            }
            Some(Library::Zstd)
        }
        other => {
            reader.error(format!("`{other}` is no decompressor library that is supported: gzip, brotli and zstd are"));
            None
        }
    })
}
