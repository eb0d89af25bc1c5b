//! Headers that Envoy keeps one of: a second one is joined to the first with a comma, before anybody looks.

use bytes::Bytes;
use http::{HeaderName, HeaderValue};

use crate::codec::Headers;

/// Whether a name may have come twice: a few bits instead of a comparison with all others. It errs on the side of yes.
#[derive(Default)]
pub(super) struct Seen {
    bits: [u64; 4],
    again: bool,
}

impl Seen {
    pub(super) fn note(&mut self, name: &HeaderName) {
        let name = name.as_str().as_bytes();
        let middle = name.get(name.len() / 2).copied().unwrap_or_default();
        let last = name.last().copied().unwrap_or_default();
        let hash = (name.len() as u8).wrapping_mul(37) ^ middle.wrapping_mul(11) ^ last.wrapping_mul(5);
        let (word, bit) = (&mut self.bits[usize::from(hash >> 6)], 1 << (hash & 63));
        self.again |= *word & bit != 0;
        *word |= bit;
    }

    pub(super) fn again(&self) -> bool {
        self.again
    }
}

/// Joins what came more than once, at the place of the first.
pub(super) fn join(headers: &mut Headers) {
    let mut twice: Vec<HeaderName> = Vec::new();
    for (at, (name, _)) in headers.iter().enumerate() {
        let before = || headers.iter().take(at).any(|(earlier, _)| earlier == name);
        if is_inline(name.as_str()) && !twice.contains(name) && before() {
            twice.push(name.clone());
        }
    }
    for name in twice {
        let mut text = Vec::new();
        for value in headers.get_all(&name) {
            if !text.is_empty() {
                text.push(b',');
            }
            text.extend_from_slice(value.as_bytes());
        }
        // Of `te` only one word is left.
        if name == http::header::TE {
            text = b"trailers".to_vec();
        }
        // Valid values joined by commas are valid.
        if let Ok(value) = HeaderValue::from_maybe_shared(Bytes::from(text)) {
            headers.set(name, value);
        }
    }
}

/// What Envoy 1.40 was seen to join.
fn is_inline(name: &str) -> bool {
    if let Some(rest) = name.strip_prefix("x-envoy-") {
        return !matches!(
            rest,
            "upstream-service-time" | "original-method" | "original-dst-host" | "ratelimited" | "peer-metadata"
        );
    }
    matches!(
        name,
        "accept"
            | "accept-encoding"
            | "access-control-request-headers"
            | "access-control-request-method"
            | "access-control-request-private-network"
            | "authorization"
            | "cache-control"
            | "cdn-loop"
            | "content-encoding"
            | "content-type"
            | "expect"
            | "grpc-accept-encoding"
            | "grpc-timeout"
            | "if-match"
            | "if-modified-since"
            | "if-none-match"
            | "if-range"
            | "if-unmodified-since"
            | "origin"
            | "pragma"
            | "proxy-status"
            | "referer"
            | "te"
            | "user-agent"
            | "via"
            | "x-client-trace-id"
            | "x-forwarded-client-cert"
            | "x-forwarded-for"
            | "x-forwarded-host"
            | "x-forwarded-port"
            | "x-forwarded-proto"
            | "x-request-id"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_came_twice_is_noticed_and_joined_where_envoy_joins_it() {
        let given = [
            "user-agent: x",
            "foo: 1",
            "cookie: a",
            "user-agent: y",
            "foo: 2",
            "cookie: b",
            "te: trailers",
            "te: trailers",
        ];
        let mut seen = Seen::default();
        let mut headers = Headers::new();
        for field in given {
            let (name, value) = field.split_once(": ").unwrap();
            let name: HeaderName = name.parse().unwrap();
            seen.note(&name);
            headers.append(name, HeaderValue::from_static(value));
        }
        assert!(seen.again());
        join(&mut headers);
        let text: Vec<String> =
            headers.iter().map(|(name, value)| format!("{name}: {}", value.to_str().unwrap())).collect();
        assert_eq!(text, ["user-agent: x,y", "foo: 1", "cookie: a", "foo: 2", "cookie: b", "te: trailers"]);
    }

    #[test]
    fn most_requests_are_not_suspected() {
        let mut seen = Seen::default();
        for name in ["user-agent", "accept", "accept-encoding", "connection", "content-type", "content-length"] {
            seen.note(&HeaderName::from_static(name));
        }
        assert!(!seen.again());
    }
}
