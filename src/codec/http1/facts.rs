//! What the headers of a message mean for its body and for the connection (RFC 9112, 6 and 9).

use http::{HeaderName, Method, StatusCode, Version, header};

use super::{Framing, Refusal, RequestRules, ResponseRules};
use crate::codec::head::{Headers, tokens};

/// What the headers say about the message and the connection.
#[derive(Default)]
pub(super) struct Facts {
    length: Option<u64>,
    /// `transfer-encoding` is there: and is it exactly `chunked`.
    pub(super) coding: Option<bool>,
    close: bool,
    keep: bool,
    upgrade_named: bool,
    upgrade: bool,
    pub(super) expect_continue: bool,
}

impl Facts {
    #[inline]
    pub(super) fn note(&mut self, name: &HeaderName, value: &[u8]) -> Result<(), Refusal> {
        if *name == header::CONTENT_LENGTH {
            let length = decimal(value).ok_or(Refusal::CODEC_ERROR)?;
            if self.length.replace(length).is_some() {
                return Err(Refusal::CODEC_ERROR);
            }
        } else if *name == header::TRANSFER_ENCODING {
            let chunked = self.coding.is_none() && value.eq_ignore_ascii_case(b"chunked");
            self.coding = Some(chunked);
        } else if *name == header::CONNECTION {
            for token in tokens(value) {
                self.close |= token.eq_ignore_ascii_case(b"close");
                self.keep |= token.eq_ignore_ascii_case(b"keep-alive");
                self.upgrade_named |= token.eq_ignore_ascii_case(b"upgrade");
            }
        } else if *name == header::UPGRADE {
            // Cleartext HTTP/2 by upgrade is not a thing we do: as if it were not asked for.
            self.upgrade |= !value.eq_ignore_ascii_case(b"h2c");
        } else if *name == header::EXPECT {
            self.expect_continue |= value.eq_ignore_ascii_case(b"100-continue");
        } else if value.len() == b"close".len() && name.as_str() == "proxy-connection" {
            // Not a standard header, but clients of proxies say it and Envoy listens.
            self.close |= value.eq_ignore_ascii_case(b"close");
        }
        Ok(())
    }

    pub(super) fn keep_alive(&self, version: Version) -> bool {
        !self.close && (version == Version::HTTP_11 || self.keep)
    }

    pub(super) fn upgrades(&self) -> bool {
        self.upgrade && self.upgrade_named
    }
}

/// Digits only; `None` when there is anything else, nothing, or too much.
fn decimal(value: &[u8]) -> Option<u64> {
    if value.is_empty() {
        return None;
    }
    value.iter().try_fold(0_u64, |sum, byte| {
        if !byte.is_ascii_digit() {
            return None;
        }
        sum.checked_mul(10)?.checked_add(u64::from(byte - b'0'))
    })
}

/// RFC 9112, 6.3, for requests.
pub(super) fn request_framing(
    facts: &Facts,
    method: &Method,
    version: Version,
    headers: &mut Headers,
    rules: &RequestRules,
) -> Result<Framing, Refusal> {
    match (facts.coding, facts.length) {
        (Some(false), _) => Err(Refusal::INVALID_TRANSFER_ENCODING),
        // A 1.0 sender cannot know the coding: whoever stands before us may have read the message otherwise.
        (Some(true), _) if version == Version::HTTP_10 => Err(Refusal::TRANSFER_ENCODING_NOT_ALLOWED),
        (Some(true), _) if *method == Method::CONNECT => Err(Refusal::INVALID_TRANSFER_ENCODING),
        (Some(true), Some(_)) if !rules.allow_chunked_length => Err(Refusal::LENGTH_AND_CHUNKED),
        (Some(true), length) => {
            if length.is_some() {
                headers.remove(&header::CONTENT_LENGTH);
            }
            Ok(Framing::chunked())
        }
        (None, Some(length)) if *method == Method::CONNECT => {
            if length > 0 {
                return Err(Refusal::BODY_DISALLOWED);
            }
            headers.remove(&header::CONTENT_LENGTH);
            Ok(Framing::none())
        }
        (None, length) => Ok(Framing::length(length.unwrap_or(0))),
    }
}

/// RFC 9112, 6.3, for responses.
pub(super) fn response_framing(
    facts: &Facts,
    method: &Method,
    status: StatusCode,
    headers: &mut Headers,
    rules: ResponseRules,
) -> Result<Framing, Refusal> {
    if facts.coding == Some(false) {
        return Err(Refusal::INVALID_TRANSFER_ENCODING);
    }
    if facts.coding.is_some() && facts.length.is_some() {
        if !rules.allow_chunked_length {
            return Err(Refusal::LENGTH_AND_CHUNKED);
        }
        headers.remove(&header::CONTENT_LENGTH);
    }
    if status.is_informational() || status == StatusCode::NO_CONTENT {
        // These end with their head; who announces a body for them would send one, and it would be read as an answer.
        if facts.coding.is_some() {
            return Err(Refusal::TRANSFER_ENCODING_NOT_ALLOWED);
        }
        if facts.length.is_some_and(|length| length > 0) {
            return Err(Refusal::LENGTH_NOT_ALLOWED);
        }
    }
    if status == StatusCode::SWITCHING_PROTOCOLS || (*method == Method::CONNECT && status.is_success()) {
        return Ok(Framing::until_close());
    }
    let bodiless = status.is_informational()
        || status == StatusCode::NO_CONTENT
        || status == StatusCode::NOT_MODIFIED
        || *method == Method::HEAD;
    Ok(match (facts.coding, facts.length) {
        _ if bodiless => Framing::none(),
        (Some(_), _) => Framing::chunked(),
        (None, Some(length)) => Framing::length(length),
        (None, None) => Framing::until_close(),
    })
}
