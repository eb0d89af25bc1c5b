//! HTTP/1.0 and 1.1 without IO, strict from the first byte (RFC 9112).
//!
//! A connection owns a read buffer, a [`Scan`] while it waits for a head, and a [`Framing`] while it reads a body:
//!
//! ```text
//!   bytes ──▶ parse_request ──▶ Parsed { head, framing, … } ──▶ framing.decode ──▶ Data | NeedMore | End(trailers)
//!   bytes ◀── encode_request / encode_response ◀── head, Body ◀── BodyWriter.{data,end}
//! ```
//!
//! What is refused is refused as soon as it is certain, as a [`Refusal`] that carries Envoy's status, text and details. No
//! byte is looked at more than a fixed number of times, however slowly bytes arrive.

mod cases;
mod encode;
mod facts;
mod framing;
mod parse;
mod refusal;
mod scan;
mod target;

pub use cases::{CaseRules, Cases};
pub use encode::{Body, BodyMismatch, BodyWriter, ChunkPrefix, encode_request, encode_response, proper_case};
pub use framing::{Decoded, Framing, FramingError, StateError};
pub use parse::{Parsed, RequestRules, ResponseRules, Underscores, parse_request, parse_response};
pub use refusal::Refusal;
pub use scan::Scan;

/// What a head (or the trailers after a body) may hold at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes, first line included (`max_request_headers_kb`, `max_response_headers_kb`).
    pub bytes: usize,
    /// Header fields (`max_headers_count`).
    pub count: usize,
}

impl Default for Limits {
    /// Envoy's defaults for requests.
    fn default() -> Self {
        Self { bytes: 60 * 1024, count: 100 }
    }
}

#[cfg(test)]
mod tests;
