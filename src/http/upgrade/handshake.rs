//! The handshake of a WebSocket (RFC 6455, 4), of which HTTP/2 knows nothing (RFC 8441, 5): where one side speaks HTTP/1 and the other HTTP/2, we say what
//! the one waits for and the other never said.

use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderValue, Version, header};

use crate::codec::head::{RequestHead, ResponseHead};

/// What is put behind a key (RFC 6455, 1.3).
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

fn is_websocket(head: &RequestHead) -> bool {
    head.headers.get(&header::UPGRADE).is_some_and(|kind| kind.as_bytes().eq_ignore_ascii_case(b"websocket"))
}

/// The answer to the request's key, if it has one.
pub(in crate::http) fn expected(head: &RequestHead) -> Option<HeaderValue> {
    let key = head.headers.get(&header::SEC_WEBSOCKET_KEY).filter(|_| is_websocket(head))?;
    let sum = digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, &[key.as_bytes(), GUID].concat());
    HeaderValue::from_str(&STANDARD.encode(sum)).ok()
}

/// Gives a request of an HTTP/2 client the key that a host of HTTP/1 asks for. True if it had none.
pub(in crate::http) fn give_key(head: &mut RequestHead, draw: impl Fn() -> u64) -> bool {
    if head.version != Version::HTTP_2 || !is_websocket(head) || head.headers.contains(&header::SEC_WEBSOCKET_KEY) {
        return false;
    }
    // Nobody is to be kept from guessing it: it shows that the host knows the protocol.
    let nonce = [draw().to_ne_bytes(), draw().to_ne_bytes()].concat();
    let Ok(key) = HeaderValue::from_str(&STANDARD.encode(nonce)) else { return false };
    head.headers.append(header::SEC_WEBSOCKET_KEY, key);
    true
}

/// Makes the head that grants a tunnel what a client of HTTP/2 is told: 200 for 101, and nothing about a connection, which is not its stream.
pub(in crate::http) fn over_http2(head: &mut ResponseHead) {
    if head.status == http::StatusCode::SWITCHING_PROTOCOLS {
        head.status = http::StatusCode::OK;
        head.headers.remove(&header::UPGRADE);
        head.headers.remove(&header::CONNECTION);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(version: Version, fields: &[(http::HeaderName, &'static str)]) -> RequestHead {
        let mut head = RequestHead::new(http::Method::GET, "a", "/");
        head.version = version;
        for (name, value) in fields {
            head.headers.append(name.clone(), HeaderValue::from_static(value));
        }
        head
    }

    #[test]
    fn the_answer_is_that_of_the_rfc() {
        let key = (header::SEC_WEBSOCKET_KEY, "dGhlIHNhbXBsZSBub25jZQ==");
        let asks = head(Version::HTTP_11, &[(header::UPGRADE, "WebSocket"), key.clone()]);
        assert_eq!(expected(&asks).unwrap(), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        assert_eq!(expected(&head(Version::HTTP_11, &[(header::UPGRADE, "other"), key])), None);
        assert_eq!(expected(&head(Version::HTTP_11, &[(header::UPGRADE, "websocket")])), None);
    }

    #[test]
    fn only_who_has_no_key_and_needs_one_gets_it() {
        let upgrade = (header::UPGRADE, "websocket");
        let mut asks = head(Version::HTTP_2, std::slice::from_ref(&upgrade));
        assert!(give_key(&mut asks, || 7));
        let key = asks.headers.get(&header::SEC_WEBSOCKET_KEY).unwrap().as_bytes().to_vec();
        assert_eq!(STANDARD.decode(key).unwrap().len(), 16);
        assert!(!give_key(&mut asks, || 7));
        assert!(!give_key(&mut head(Version::HTTP_11, &[upgrade]), || 7));
        assert!(!give_key(&mut head(Version::HTTP_2, &[(header::UPGRADE, "other")]), || 7));
    }
}
