//! What is said to a peer that broke the protocol.

use std::fmt;

use crate::fault::{Fault, Flag, Retry, Side};

/// A message that is refused. A client gets the status and the text; an upstream's message becomes a 502 whatever it says here.
/// The connection ends after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Refusal {
    /// The status of the reply.
    pub status: u16,
    /// The body of the reply; may be empty.
    pub body: &'static str,
    /// `%RESPONSE_CODE_DETAILS%`.
    pub details: &'static str,
    /// The codec refused it, so no stream exists: flag `DPE`, and `downstream_cx_protocol_error` counts. Otherwise the
    /// request was well formed and is answered like any other.
    pub codec: bool,
}

impl Refusal {
    /// Anything malformed.
    pub const CODEC_ERROR: Self = Self::codec(400, "Bad Request", "http1.codec_error");
    /// A control character in a header.
    pub const INVALID_CHARACTERS: Self = Self::codec(400, "Bad Request", "http1.invalid_characters");
    /// `content-length` beside `transfer-encoding`.
    pub const LENGTH_AND_CHUNKED: Self =
        Self::codec(400, "Bad Request", "http1.content_length_and_chunked_not_allowed");
    /// A body where there can be none, as with CONNECT.
    pub const BODY_DISALLOWED: Self = Self::codec(400, "Bad Request", "http1.body_disallowed");
    /// A length in an answer that has no body.
    pub const LENGTH_NOT_ALLOWED: Self = Self::codec(400, "Bad Request", "http1.content_length_not_allowed");
    /// `transfer-encoding` where there can be none.
    pub const TRANSFER_ENCODING_NOT_ALLOWED: Self =
        Self::codec(400, "Bad Request", "http1.transfer_encoding_not_allowed");
    /// Any transfer coding but `chunked`.
    pub const INVALID_TRANSFER_ENCODING: Self = Self::codec(501, "Not Implemented", "http1.invalid_transfer_encoding");
    /// A target that is no URL.
    pub const INVALID_URL: Self = Self::codec(400, "Bad Request", "http1.invalid_url");
    /// An absolute target of another scheme.
    pub const INVALID_SCHEME: Self = Self::codec(400, "Bad Request", "http1.invalid_scheme");
    /// A host that no URL can have.
    pub const INVALID_AUTHORITY: Self = Self::codec(400, "Bad Request", "http.invalid_authority");
    /// HTTP/1.0 where it is not accepted, 0.9, and what claims to be newer than 1.1.
    pub const LOW_VERSION: Self = Self::codec(426, "Upgrade Required", "low_version");
    /// A header name with an underscore where these are refused.
    pub const UNEXPECTED_UNDERSCORE: Self = Self::codec(400, "Bad Request", "http1.unexpected_underscore");
    /// `connection` names a header that it must not, or too many.
    pub const CONNECTION_HEADER: Self = Self::codec(400, "Bad Request", "http1.connection_header_rejected");
    /// A head above the limit of bytes.
    pub const HEADERS_TOO_LARGE: Self = Self::codec(431, "Request Header Fields Too Large", "http1.headers_too_large");
    /// A head above the limit of fields.
    pub const TOO_MANY_HEADERS: Self = Self::codec(431, "Request Header Fields Too Large", "http1.too_many_headers");

    /// No host where there must be one.
    pub const MISSING_HOST: Self = Self::of_request(400, "missing_host_header");
    /// A path with a fragment, and one that cannot be or must not need to be normalized.
    pub const PATH: Self = Self::of_request(400, "path_normalization_failed");
    /// A target that is no path.
    pub const ABSOLUTE_PATH: Self = Self::of_request(404, "absolute_path_rejected");
    /// An upgrade that is not enabled.
    pub const UPGRADE_FAILED: Self = Self::of_request(403, "upgrade_failed");

    /// Whose address must be known and is not.
    pub const fn unknown_client(status: u16) -> Self {
        Self::of_request(status, Self::UNKNOWN_CLIENT)
    }

    /// The details of [`Self::unknown_client`].
    pub const UNKNOWN_CLIENT: &str = "rejecting_because_detection_failed";

    const fn codec(status: u16, body: &'static str, details: &'static str) -> Self {
        Self { status, body, details, codec: true }
    }

    /// A refusal of a well-formed request, with an empty body.
    pub const fn of_request(status: u16, details: &'static str) -> Self {
        Self { status, body: "", details, codec: false }
    }

    /// The same for the shared vocabulary, when a client sent it.
    pub const fn fault(&self) -> Fault {
        let flag = if self.codec { Some(Flag::DownstreamProtocolError) } else { None };
        Fault { side: Side::Downstream, retry: Retry::Never, flag }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.status, self.details)
    }
}

impl std::error::Error for Refusal {}
