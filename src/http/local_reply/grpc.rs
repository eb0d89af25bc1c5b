//! Replies to gRPC requests: the status is in `grpc-status`, the text in `grpc-message`, and there is no body (gRPC over HTTP/2, Responses).

use bytes::Bytes;
use http::{HeaderName, HeaderValue, StatusCode, header};

use crate::codec::head::ResponseHead;

/// Turns a reply into one that a gRPC client understands; `silent` leaves the text out, as for HEAD.
pub(super) fn translate(head: &mut ResponseHead, body: &Bytes, silent: bool) {
    let status = HeaderName::from_static("grpc-status");
    let is_json = head.headers.get(&header::CONTENT_TYPE).is_some_and(|value| value == "application/json");
    head.headers.remove(&header::CONTENT_LENGTH);
    head.headers.set(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    if !head.headers.contains(&status) {
        head.headers.append(status, HeaderValue::from(code(head.status)));
    }
    head.status = StatusCode::OK;
    // The end of a line of JSON is not a part of it.
    let text = if is_json { body.strip_suffix(b"\n").unwrap_or(body) } else { body };
    if !text.is_empty() && !silent {
        head.headers.append(HeaderName::from_static("grpc-message"), message(text));
    }
}

/// The status for a status of HTTP.
pub(in crate::http) fn code(status: StatusCode) -> u16 {
    match status.as_u16() {
        400 => 13,
        401 => 16,
        403 => 7,
        404 => 12,
        429 | 502..=504 => 14,
        _ => 2,
    }
}

/// A text as a header: what is not printable ASCII is `%XX`.
pub(in crate::http) fn message(text: &[u8]) -> HeaderValue {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    let mut out = Vec::with_capacity(text.len());
    for byte in text {
        if matches!(byte, b' '..b'~') && *byte != b'%' {
            out.push(*byte);
        } else {
            out.extend_from_slice(&[b'%', HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
        }
    }
    // Printable ASCII is a header's value.
    HeaderValue::from_maybe_shared(Bytes::from(out)).unwrap_or_else(|_| HeaderValue::from_static(""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_and_statuses_are_those_of_envoy() {
        assert_eq!(message("fine €~%\n".as_bytes()), "fine %E2%82%AC%7E%25%0A");
        let codes = [400, 401, 403, 404, 410, 429, 500, 502, 503, 504, 200];
        let expected = [13, 16, 7, 12, 2, 14, 2, 14, 14, 14, 2];
        assert_eq!(codes.map(|status| code(StatusCode::from_u16(status).unwrap())), expected);
    }
}
