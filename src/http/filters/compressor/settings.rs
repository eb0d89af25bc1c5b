//! The settings, and how they are read.

use std::pin::Pin;

use async_compression::tokio::write::{BrotliEncoder, GzipEncoder, ZstdEncoder};
use async_compression::{Level, brotli, zstd};
use envoy_types::pb::envoy::config::core::v3 as core;
use envoy_types::pb::envoy::extensions::compression::brotli::compressor::v3::Brotli;
use envoy_types::pb::envoy::extensions::compression::gzip::compressor::v3::Gzip;
use envoy_types::pb::envoy::extensions::compression::zstd::compressor::v3::Zstd;
use envoy_types::pb::envoy::extensions::filters::http::compressor::v3 as api;

use tokio::io::AsyncWrite;

use crate::config::extension::{Given, Reader};
use crate::config::model::{Keyed, Settings, StringMatch};
use crate::http::filters::recoded::Sink;

/// Envoy's least length.
const LEAST_LENGTH: u64 = 30;

/// What is compressed where nothing is said about it.
const TYPES: [&str; 8] = [
    "application/javascript",
    "application/json",
    "application/xhtml+xml",
    "image/svg+xml",
    "text/css",
    "text/html",
    "text/plain",
    "text/xml",
];

/// How it is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Library {
    Gzip { level: Option<i32> },
    Brotli { quality: i32, window: i32 },
    Zstd { level: i32, checksum: bool },
}

impl Library {
    /// What compresses into a sink.
    pub(super) fn encoder(self, sink: Sink) -> Pin<Box<dyn AsyncWrite>> {
        match self {
            Self::Gzip { level } => {
                Box::pin(GzipEncoder::with_quality(sink, level.map_or(Level::Default, Level::Precise)))
            }
            Self::Brotli { quality, window } => {
                let params = brotli::EncoderParams::default().quality(Level::Precise(quality)).window_size(window);
                Box::pin(BrotliEncoder::with_params(sink, params))
            }
            Self::Zstd { level, checksum } => {
                let params = [zstd::CParameter::checksum_flag(checksum)];
                Box::pin(ZstdEncoder::with_quality_and_params(sink, Level::Precise(level), &params))
            }
        }
    }

    /// Its `content-encoding`.
    pub(super) fn encoding(self) -> &'static str {
        match self {
            Self::Gzip { .. } => "gzip",
            Self::Brotli { .. } => "br",
            Self::Zstd { .. } => "zstd",
        }
    }

    /// Its part of the names of statistics.
    pub(super) fn stat_name(self) -> &'static str {
        match self {
            Self::Gzip { .. } => "gzip",
            Self::Brotli { .. } => "brotli",
            Self::Zstd { .. } => "zstd",
        }
    }
}

/// `envoy.extensions.filters.http.compressor.v3.Compressor`.
#[derive(Debug, PartialEq)]
pub(super) struct Compressor {
    pub(super) library: Library,
    /// `compressor_library.name`.
    pub(super) name: String,
    /// `request_direction_config`.
    pub(super) request: Option<What>,
    /// `response_direction_config`.
    pub(super) response: What,
    /// Responses count below a name of their own.
    pub(super) response_is_set: bool,
    pub(super) etag: Etag,
    pub(super) remove_accept_encoding: bool,
    /// `uncompressible_response_codes`.
    pub(super) codes: Vec<u32>,
    pub(super) choose_first: bool,
}

/// What is compressed.
#[derive(Debug, PartialEq)]
pub(super) struct What {
    /// `enabled`.
    pub(super) enabled: Keyed<bool>,
    pub(super) least: u64,
    /// `content_type_matcher`, or Envoy's list.
    pub(super) types: Vec<StringMatch>,
}

/// What becomes of an `etag` that is a strong one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Etag {
    /// It is removed.
    Remove,
    /// It becomes a weak one.
    Weaken,
    /// Nothing is compressed that has one, weak or strong.
    Keep,
}

/// `CompressorPerRoute`.
#[derive(Debug, PartialEq)]
pub(super) enum OnRoute {
    /// Responses are left as they are.
    Disabled,
    /// `response_direction_config.remove_accept_encoding_header`.
    Overrides { remove_accept_encoding: Option<bool> },
}

pub(super) fn of_chain(reader: &mut Reader<'_>, given: Given<'_>) -> Option<Settings> {
    #[allow(deprecated, reason = "what is old is refused by its name")]
    let api::Compressor {
        content_length,
        content_type,
        disable_on_etag_header,
        remove_accept_encoding_header,
        runtime_enabled,
        compressor_library,
        request_direction_config,
        response_direction_config,
        choose_first,
    } = reader.decode(given)?;
    for (field, is_set) in [
        ("content_length", content_length.is_some()),
        ("content_type", !content_type.is_empty()),
        ("disable_on_etag_header", disable_on_etag_header),
        ("remove_accept_encoding_header", remove_accept_encoding_header),
        ("runtime_enabled", runtime_enabled.is_some()),
    ] {
        if is_set {
            reader.at(field, |reader| reader.error("is deprecated: response_direction_config has taken its place"));
        }
    }
    let extension = compressor_library?;
    let name = extension.name.clone();
    let library = reader.at("compressor_library", |reader| library(reader, extension));
    let request = request_direction_config.map(|direction| {
        reader.at("request_direction_config", |reader| what(reader, direction.common_config.unwrap_or_default()))
    });
    let response_is_set = response_direction_config.is_some();
    let api::compressor::ResponseDirectionConfig {
        common_config,
        disable_on_etag_header,
        weaken_etag_on_compress,
        remove_accept_encoding_header,
        uncompressible_response_codes,
        status_header_enabled,
    } = response_direction_config.unwrap_or_default();
    let response = reader.at("response_direction_config", |reader| {
        if status_header_enabled {
            reader.refuse("status_header_enabled");
        }
        what(reader, common_config.unwrap_or_default())
    });
    let etag = match (disable_on_etag_header, weaken_etag_on_compress) {
        (true, _) => Etag::Keep,
        (false, true) => Etag::Weaken,
        (false, false) => Etag::Remove,
    };
    Some(Settings::new(Compressor {
        library: library?,
        name,
        request,
        response,
        response_is_set,
        etag,
        remove_accept_encoding: remove_accept_encoding_header,
        codes: uncompressible_response_codes,
        choose_first,
    }))
}

/// What is compressed in a direction.
fn what(reader: &mut Reader<'_>, message: api::compressor::CommonDirectionConfig) -> What {
    #[allow(deprecated, reason = "what is old is read like what has taken its place")]
    let api::compressor::CommonDirectionConfig { enabled, min_content_length, content_type, content_type_matcher } =
        message;
    let matchers = reader.at("common_config", |reader| {
        reader.each("content_type_matcher", content_type_matcher, |reader, message| reader.text_match(message))
    });
    let named = content_type.into_iter().map(StringMatch::exact);
    let mut types: Vec<StringMatch> = named.chain(matchers).collect();
    if types.is_empty() {
        types = TYPES.into_iter().map(StringMatch::exact).collect();
    }
    let enabled = reader.flag(enabled, true);
    let least = min_content_length.map_or(LEAST_LENGTH, |length| length.value.into());
    What { enabled, least, types }
}

fn library(reader: &mut Reader<'_>, message: core::TypedExtensionConfig) -> Option<Library> {
    let any = message.typed_config?;
    let given = Given::Message(&any.value);
    reader.at("typed_config", |reader| match any.type_url.rsplit('/').next().unwrap_or_default() {
        "envoy.extensions.compression.gzip.compressor.v3.Gzip" => {
            let Gzip { memory_level, compression_level, compression_strategy, window_bits, chunk_size } =
                reader.decode(given)?;
            for (field, is_set) in [
                ("memory_level", memory_level.is_some()),
                ("compression_strategy", compression_strategy != 0),
                ("window_bits", window_bits.is_some()),
                ("chunk_size", chunk_size.is_some()),
            ] {
                if is_set {
                    reader.ignore(field);
                }
            }
            Some(Library::Gzip { level: Some(compression_level).filter(|level| *level > 0) })
        }
        "envoy.extensions.compression.brotli.compressor.v3.Brotli" => {
            let Brotli {
                quality,
                encoder_mode,
                window_bits,
                input_block_bits,
                chunk_size,
                disable_literal_context_modeling,
            } = reader.decode(given)?;
            for (field, is_set) in [
                ("encoder_mode", encoder_mode != 0),
                ("input_block_bits", input_block_bits.is_some()),
                ("chunk_size", chunk_size.is_some()),
                ("disable_literal_context_modeling", disable_literal_context_modeling),
            ] {
                if is_set {
                    reader.ignore(field);
                }
            }
            let number = |value: Option<_>, default| {
                value
                    .and_then(|value: envoy_types::pb::google::protobuf::UInt32Value| value.value.try_into().ok())
                    .unwrap_or(default)
            };
            Some(Library::Brotli { quality: number(quality, 3), window: number(window_bits, 18) })
        }
        "envoy.extensions.compression.zstd.compressor.v3.Zstd" => {
            let Zstd { compression_level, enable_checksum, strategy, dictionary, chunk_size } = reader.decode(given)?;
            if dictionary.is_some() {
                reader.refuse("dictionary");
            }
            for (field, is_set) in [("strategy", strategy != 0), ("chunk_size", chunk_size.is_some())] {
                if is_set {
                    reader.ignore(field);
                }
            }
            let level = compression_level.map_or(3, |level| level.value);
            let level = i32::try_from(level).ok().filter(|level| (1..=22).contains(level));
            if level.is_none() {
                reader.at("compression_level", |reader| reader.error("must be from 1 to 22"));
            }
            Some(Library::Zstd { level: level?, checksum: enable_checksum })
        }
        other => {
            reader.error(format!("`{other}` is no compressor library that is supported: gzip, brotli and zstd are"));
            None
        }
    })
}

pub(super) fn of_route(reader: &mut Reader<'_>, given: Given<'_>) -> Option<Settings> {
    use api::compressor_per_route::Override;
    let api::CompressorPerRoute { r#override } = reader.decode(given)?;
    let said = match r#override? {
        Override::Disabled(_) => OnRoute::Disabled,
        Override::Overrides(api::CompressorOverrides { response_direction_config, compressor_library }) => {
            if compressor_library.is_some() {
                reader.at("overrides", |reader| reader.refuse("compressor_library"));
            }
            let removes = response_direction_config.and_then(|direction| direction.remove_accept_encoding_header);
            OnRoute::Overrides { remove_accept_encoding: removes.map(|value| value.value) }
        }
    };
    Some(Settings::new(said))
}
