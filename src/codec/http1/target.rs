//! The request line's method and target (RFC 9112, 3).

use bytes::Bytes;
use http::Method;

use super::Refusal;
use crate::codec::head::Scheme;

/// A request target taken apart.
pub(super) struct Target {
    /// Of an absolute target.
    pub(super) scheme: Option<Scheme>,
    /// Of an absolute target or a CONNECT; it replaces the host.
    pub(super) authority: Option<Bytes>,
    /// Path and query, or `*`; empty for CONNECT.
    pub(super) path: Bytes,
}

impl Target {
    /// Origin-form, absolute-form, authority-form for CONNECT, `*` for OPTIONS.
    pub(super) fn split(target: &Bytes, method: &Method, allow_absolute: bool) -> Result<Self, Refusal> {
        // Printable ASCII only; httparse lets more pass.
        if !target.iter().all(u8::is_ascii_graphic) {
            return Err(Refusal::CODEC_ERROR);
        }
        if *method == Method::CONNECT {
            return match host_and_port(target) {
                Some((_, Some(_))) => Ok(Self { scheme: None, authority: Some(target.clone()), path: Bytes::new() }),
                _ => Err(Refusal::INVALID_URL),
            };
        }
        match target.first() {
            Some(b'/') => Ok(Self { scheme: None, authority: None, path: target.clone() }),
            Some(b'*') if *method == Method::OPTIONS && target.len() == 1 => {
                Ok(Self { scheme: None, authority: None, path: target.clone() })
            }
            Some(b'*') => Err(Refusal::INVALID_URL),
            _ => Self::absolute(target, allow_absolute),
        }
    }

    fn absolute(target: &Bytes, allowed: bool) -> Result<Self, Refusal> {
        let mark = target.windows(3).position(|part| part == b"://").ok_or(Refusal::CODEC_ERROR)?;
        let (name, rest) = (&target[..mark], &target[mark + 3..]);
        let scheme = match name {
            _ if name.eq_ignore_ascii_case(b"http") => Scheme::Http,
            _ if name.eq_ignore_ascii_case(b"https") => Scheme::Https,
            [first, ..] if first.is_ascii_alphabetic() => return Err(Refusal::INVALID_SCHEME),
            _ => return Err(Refusal::CODEC_ERROR),
        };
        // As it stands it is no path, which is for others to say.
        if !allowed {
            return Ok(Self { scheme: None, authority: None, path: target.clone() });
        }
        let end = rest.iter().position(|byte| matches!(byte, b'/' | b'?' | b'#')).unwrap_or(rest.len());
        // User information is not for the upstream.
        let user = memchr::memrchr(b'@', &rest[..end]).map_or(0, |at| at + 1);
        let authority = &rest[user..end];
        if host_and_port(authority).is_none() {
            return Err(Refusal::INVALID_URL);
        }
        let path = match &rest[end..] {
            [] => Bytes::from_static(b"/"),
            path @ [b'/', ..] => target.slice_ref(path),
            // `http://host?query`: an empty path is written `/`.
            tail => [b"/", tail].concat().into(),
        };
        Ok(Self { scheme: Some(scheme), authority: Some(target.slice_ref(authority)), path })
    }
}

/// A host (not empty) and a port (digits, at most 65535) if there is one.
fn host_and_port(text: &[u8]) -> Option<(&[u8], Option<u16>)> {
    let end = match memchr::memrchr(b']', text) {
        Some(bracket) => bracket + 1,
        None => memchr::memchr(b':', text).unwrap_or(text.len()),
    };
    let (host, rest) = text.split_at(end);
    let port = match rest.split_first() {
        None => None,
        Some((b':', digits)) if digits.iter().all(u8::is_ascii_digit) => {
            Some(std::str::from_utf8(digits).ok()?.parse().ok()?)
        }
        Some(_) => return None,
    };
    (!host.is_empty() && is_authority(host)).then_some((host, port))
}

/// Whether a text has only characters that a host, a port or user information can have.
pub(super) fn is_authority(text: &[u8]) -> bool {
    text.iter().all(|byte| AUTHORITY[usize::from(*byte)])
}

static AUTHORITY: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 128 {
        table[byte] = (byte as u8).is_ascii_alphanumeric();
        byte += 1;
    }
    let marks = b"-._~%!$&'()*+,;=:[]@";
    let mut at = 0;
    while at < marks.len() {
        table[marks[at] as usize] = true;
        at += 1;
    }
    table
};

/// The methods that Envoy accepts without `allow_custom_methods`.
pub(super) fn is_known(method: &[u8]) -> bool {
    matches!(
        method,
        b"GET"
            | b"POST"
            | b"PUT"
            | b"HEAD"
            | b"DELETE"
            | b"OPTIONS"
            | b"PATCH"
            | b"CONNECT"
            | b"TRACE"
            | b"ACL"
            | b"BIND"
            | b"CHECKOUT"
            | b"COPY"
            | b"LINK"
            | b"LOCK"
            | b"MERGE"
            | b"MKACTIVITY"
            | b"MKCALENDAR"
            | b"MKCOL"
            | b"MOVE"
            | b"M-SEARCH"
            | b"NOTIFY"
            | b"PROPFIND"
            | b"PROPPATCH"
            | b"PURGE"
            | b"REBIND"
            | b"REPORT"
            | b"SEARCH"
            | b"SOURCE"
            | b"SUBSCRIBE"
            | b"UNBIND"
            | b"UNLINK"
            | b"UNLOCK"
            | b"UNSUBSCRIBE"
    )
}
