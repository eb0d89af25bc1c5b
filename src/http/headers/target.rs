//! A request's path and host in their normal form (`normalize_path` and what belongs to it), before anybody looks at them.

use bytes::Bytes;
use http::{HeaderValue, Method, header};

use crate::codec::head::RequestHead;
use crate::codec::http1::Refusal;
use crate::config::model::{EscapedSlashes, StripPort, TargetRules};

/// Why a request goes no further.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Turned {
    /// It is refused.
    Refused(Refusal),
    /// The client is to ask for this path instead (`UNESCAPE_AND_REDIRECT`).
    Redirected(Bytes),
}

impl From<Refusal> for Turned {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

/// Puts the path, and then the host, in the form that the rules want. `port` is the listener's.
pub(super) fn apply(head: &mut RequestHead, rules: &TargetRules, port: Option<u16>) -> Result<(), Turned> {
    // A CONNECT has no path, and its port says where to.
    if head.method == Method::CONNECT {
        return Ok(());
    }
    let end = head.path_without_query().len();
    if let Some((path, redirect)) = rewritten(&head.path[..end], rules)? {
        let target = Bytes::from([&path[..], &head.path[end..]].concat());
        if redirect {
            let grpc = head.headers.get(&header::CONTENT_TYPE).is_some_and(is_grpc);
            return Err(if grpc { Refusal::PATH.into() } else { Turned::Redirected(target) });
        }
        head.path = target;
    }
    if rules.strip_trailing_dot {
        strip_dot(&mut head.authority);
    }
    match rules.strip_port {
        StripPort::No => {}
        StripPort::Matching => {
            strip_port(&mut head.authority, |number| port.is_some_and(|port| number == u32::from(port)))
        }
        StripPort::Any => strip_port(&mut head.authority, |_| true),
    }
    Ok(())
}

/// `application/grpc`, with or without what follows a `+`.
pub(super) fn is_grpc(value: &HeaderValue) -> bool {
    matches!(value.as_bytes().strip_prefix(b"application/grpc"), Some([] | [b'+', ..]))
}

/// The path as the rules want it, and whether the client is to be sent there; `None` where it may be that already.
fn rewritten(path: &[u8], rules: &TargetRules) -> Result<Option<(Vec<u8>, bool)>, Refusal> {
    let mut result: Option<Vec<u8>> = None;
    let mut redirect = false;
    if rules.escaped_slashes != EscapedSlashes::Keep
        && let Some(unescaped) = unescape_slashes(path)
    {
        match rules.escaped_slashes {
            EscapedSlashes::Reject => return Err(Refusal::PATH),
            action => redirect = action == EscapedSlashes::Redirect,
        }
        result = Some(unescaped);
    }
    if rules.normalize_path {
        result = Some(normalize(result.as_deref().unwrap_or(path))?);
    }
    if rules.merge_slashes {
        let now = result.as_deref().unwrap_or(path);
        if now.windows(2).any(|pair| pair == b"//") {
            result = Some(merge(now));
        }
    }
    Ok(result.map(|path| (path, redirect)))
}

/// `%2F` and `%5C` as what they stand for; `None` where there is neither.
fn unescape_slashes(path: &[u8]) -> Option<Vec<u8>> {
    let mut out = None;
    let mut at = 0;
    while at < path.len() {
        let slash = match &path[at..] {
            [b'%', b'2', b'F' | b'f', ..] => Some(b'/'),
            [b'%', b'5', b'C' | b'c', ..] => Some(b'\\'),
            _ => None,
        };
        if let Some(slash) = slash {
            out.get_or_insert_with(|| path[..at].to_vec()).push(slash);
            at += 3;
        } else {
            if let Some(out) = &mut out {
                out.push(path[at]);
            }
            at += 1;
        }
    }
    out
}

/// RFC 3986, 6.2.2, as browsers do it: `.` and `..` are resolved, a backslash is a slash, unreserved characters stand for themselves, and
/// those that no path may have are escaped. An escaped NUL is refused.
fn normalize(path: &[u8]) -> Result<Vec<u8>, Refusal> {
    let mut out = Vec::with_capacity(path.len() + 8);
    let mut segments = path.split(|byte| matches!(byte, b'/' | b'\\')).skip(1).peekable();
    while let Some(segment) = segments.next() {
        let start = out.len();
        out.push(b'/');
        decode_unreserved(segment, &mut out)?;
        let ends = segments.peek().is_none();
        match &out[start + 1..] {
            b"." => out.truncate(start),
            b".." => out.truncate(memchr::memrchr(b'/', &out[..start]).unwrap_or(0)),
            _ => continue,
        }
        if ends {
            out.push(b'/');
        }
    }
    Ok(out)
}

/// A segment with unreserved characters as themselves, and what no path may have escaped.
fn decode_unreserved(segment: &[u8], out: &mut Vec<u8>) -> Result<(), Refusal> {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    let mut at = 0;
    while let Some(byte) = segment.get(at).copied() {
        at += 1;
        if byte == b'%'
            && let Some([high, low]) = segment.get(at..at + 2)
            && let (Some(high), Some(low)) = (hex(*high), hex(*low))
        {
            match high << 4 | low {
                0 => return Err(Refusal::PATH),
                letter if is_unreserved(letter) => out.push(letter),
                // What is escaped otherwise stays as the client wrote it.
                _ => out.extend_from_slice(&segment[at - 1..at + 2]),
            }
            at += 2;
        } else if matches!(byte, b'"' | b'<' | b'>' | b'^' | b'`' | b'{' | b'|' | b'}') || !byte.is_ascii_graphic() {
            out.extend_from_slice(&[b'%', HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
        } else {
            out.push(byte);
        }
    }
    Ok(())
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok())
}

const fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

/// One slash where there were several.
fn merge(path: &[u8]) -> Vec<u8> {
    let mut out: Vec<u8> = Vec::with_capacity(path.len());
    for byte in path {
        if !(*byte == b'/' && out.last() == Some(&b'/')) {
            out.push(*byte);
        }
    }
    out
}

/// Takes the dot off a host, whether a port follows or not.
fn strip_dot(host: &mut Bytes) {
    let Some(dot) = memchr::memrchr(b'.', host) else { return };
    match host.get(dot + 1) {
        None => host.truncate(dot),
        Some(b':') => *host = Bytes::from([&host[..dot], &host[dot + 1..]].concat()),
        Some(_) => {}
    }
}

/// Takes the port off a host, where there is one and `which` wants it gone.
fn strip_port(host: &mut Bytes, which: impl FnOnce(u32) -> bool) {
    let Some(colon) = memchr::memrchr(b':', host) else { return };
    if memchr::memrchr(b']', host).is_some_and(|bracket| bracket > colon) {
        return;
    }
    let number = std::str::from_utf8(&host[colon + 1..]).ok().and_then(|digits| digits.parse().ok());
    if number.is_some_and(which) {
        host.truncate(colon);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(rules: &TargetRules, path: &'static str) -> Result<String, Turned> {
        let mut head = RequestHead::new(Method::GET, "a", path);
        apply(&mut head, rules, None)?;
        Ok(String::from_utf8(head.path.to_vec()).unwrap())
    }

    fn host(rules: &TargetRules, host: &'static str) -> String {
        let mut head = RequestHead::new(Method::GET, host, "/");
        apply(&mut head, rules, Some(8080)).unwrap();
        String::from_utf8(head.authority.to_vec()).unwrap()
    }

    #[test]
    fn paths_as_envoy_normalizes_them() {
        let rules = TargetRules { normalize_path: true, ..TargetRules::default() };
        for (given, expected) in [
            ("/", "/"),
            ("/a/./b/../c", "/a/c"),
            ("/..", "/"),
            ("/../../x", "/x"),
            ("/a/..", "/"),
            ("/a/b/.", "/a/b/"),
            ("/.", "/"),
            ("/a/%2e%2E/b", "/b"),
            ("/a/%2e", "/a/"),
            ("/%41%7e%2d%5f%5e", "/A~-_%5e"),
            ("/a\\b", "/a/b"),
            ("/a%2fb%5Cc", "/a%2fb%5Cc"),
            ("//a//b///", "//a//b///"),
            ("/a//../b", "/a/b"),
            ("/a%zz", "/a%zz"),
            ("/a%4", "/a%4"),
            ("/a%", "/a%"),
            ("/a%25%32", "/a%252"),
            ("/a;{}[]|^`\"<>", "/a;%7B%7D[]%7C%5E%60%22%3C%3E"),
            ("/a/..%2fb", "/a/..%2fb"),
            ("/a/.../b", "/a/.../b"),
            ("/a/../b?x=/../%41//y", "/b?x=/../%41//y"),
        ] {
            assert_eq!(path(&rules, given), Ok(expected.to_owned()), "{given}");
        }
        assert_eq!(path(&rules, "/a%00b"), Err(Refusal::PATH.into()));
    }

    #[test]
    fn slashes_that_are_escaped_or_too_many() {
        let escaped = |escaped_slashes| TargetRules { escaped_slashes, ..TargetRules::default() };
        let all = |rules| TargetRules { normalize_path: true, merge_slashes: true, ..rules };
        let forward = escaped(EscapedSlashes::Forward);
        assert_eq!(path(&forward, "/a%2fb%5Cc%2F?%2f"), Ok("/a/b\\c/?%2f".into()));
        assert_eq!(path(&all(forward.clone()), "/a/..%2f%2f%5cb"), Ok("/b".into()));
        let reject = escaped(EscapedSlashes::Reject);
        assert_eq!(path(&reject, "/%2F"), Err(Refusal::PATH.into()));
        assert_eq!(path(&reject, "//x/../y"), Ok("//x/../y".into()));
        let redirect = all(escaped(EscapedSlashes::Redirect));
        assert_eq!(path(&redirect, "/a%2f..%2fb?q"), Err(Turned::Redirected("/b?q".into())));
        assert_eq!(path(&redirect, "//a/../b"), Ok("/b".into()));
        let merge = TargetRules { merge_slashes: true, ..TargetRules::default() };
        assert_eq!(path(&merge, "//a//b///?//"), Ok("/a/b/?//".into()));
        assert_eq!(path(&merge, "//"), Ok("/".into()));
        let mut grpc = RequestHead::new(Method::POST, "a", "/a%2fb");
        grpc.headers.append(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc+proto"));
        assert_eq!(apply(&mut grpc, &redirect, None), Err(Refusal::PATH.into()));
    }

    #[test]
    fn hosts_without_ports_and_dots() {
        let rules =
            |strip_port, strip_trailing_dot| TargetRules { strip_port, strip_trailing_dot, ..TargetRules::default() };
        let rows = [
            // as given, without a matching port, without any, without the dot, without both
            ("a:8080", "a", "a", "a:8080", "a"),
            ("a:08080", "a", "a", "a:08080", "a"),
            ("a:1", "a:1", "a", "a:1", "a"),
            ("a:", "a:", "a:", "a:", "a:"),
            ("a:x", "a:x", "a:x", "a:x", "a:x"),
            ("a.", "a.", "a.", "a", "a"),
            ("a.:80", "a.:80", "a.", "a:80", "a"),
            ("a..:9", "a..:9", "a..", "a.:9", "a."),
            ("a.b", "a.b", "a.b", "a.b", "a.b"),
            ("[::1]", "[::1]", "[::1]", "[::1]", "[::1]"),
            ("[::1]:8080", "[::1]", "[::1]", "[::1]:8080", "[::1]"),
            (".", ".", ".", "", ""),
        ];
        for (given, matching, any, dot, both) in rows {
            assert_eq!(host(&rules(StripPort::Matching, false), given), matching, "{given}");
            assert_eq!(host(&rules(StripPort::Any, false), given), any, "{given}");
            assert_eq!(host(&rules(StripPort::No, true), given), dot, "{given}");
            assert_eq!(host(&rules(StripPort::Any, true), given), both, "{given}");
        }
    }
}
