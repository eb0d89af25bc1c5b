//! Messages (RFC 9113, 8): fields, pseudo-header fields, lengths, trailers.
//!
//! A message that is malformed costs its stream (8.1.1); Envoy ends the whole connection unless `override_stream_error_on_invalid_http_message` says
//! otherwise. Names and values that cannot be a field's end it here too ([`undecodable`]): the `h2` crate refuses them while it decodes, and then it cannot
//! know what the other side remembers.

use super::Back::{Connection, Status, Stream};
use super::*;

/// A GET with fields that make it malformed.
fn wrong(name: &'static str, fields: &[(&str, &str)]) -> Case {
    case(name, get_with(fields), Stream(1, PROTOCOL))
}

/// A GET with a field that is refused while it is decoded.
fn undecodable(name: &'static str, fields: &[(&str, &str)]) -> Case {
    case(name, get_with(fields), Connection(PROTOCOL))
}

/// A GET of exactly these fields, which is malformed.
fn only(name: &'static str, fields: &[(&str, &str)]) -> Case {
    case(name, headers(1, END_STREAM, fields), Stream(1, PROTOCOL))
}

/// The same, where one of them is refused while it is decoded.
fn undecoded_only(name: &'static str, fields: &[(&str, &str)]) -> Case {
    case(name, headers(1, END_STREAM, fields), Connection(PROTOCOL))
}

/// A POST with a `content-length`, and its body.
fn long(length: &str, data: &[&[u8]]) -> Vec<u8> {
    let mut bytes =
        headers(1, if data.is_empty() { END_STREAM } else { 0 }, &[&POST[..], &[("content-length", length)]].concat());
    for (at, piece) in data.iter().enumerate() {
        bytes.extend(frame(DATA, if at + 1 == data.len() { END_STREAM } else { 0 }, 1, piece));
    }
    bytes
}

pub(super) fn cases() -> Vec<Case> {
    let [method, scheme, path, authority] = GET;
    let trailers = |flags, fields: &[(&str, &str)]| [post(1), frame(DATA, 0, 1, b"abc"), headers(1, flags, fields)];
    vec![
        // 8.1
        case("8.1 trailers", trailers(END_STREAM, &[("x-sum", "1")]), Status(1, 200)),
        case("8.1 trailers that do not end it", trailers(0, &[("x-sum", "1")]), Stream(1, PROTOCOL)),
        // The crate passes nothing of it on, and neither do we.
        case("8.1 trailers with a method", trailers(END_STREAM, &[(":method", "GET")]), Status(1, 200)),
        case("8.1 trailers with a name in upper case", trailers(END_STREAM, &[("X-Sum", "1")]), Connection(PROTOCOL)),
        // 8.1.1
        case("8.1.1 as long as announced", long("6", &[b"abc", b"def"]), Status(1, 200)),
        case("8.1.1 shorter than announced", long("7", &[b"abc", b"def"]), Stream(1, PROTOCOL)),
        case("8.1.1 longer than announced", long("5", &[b"abc", b"def"]), Stream(1, PROTOCOL)),
        case("8.1.1 a length and no body", long("5", &[]), Stream(1, PROTOCOL)),
        case("8.1.1 a length of nothing and a body", long("0", &[b"abc"]), Stream(1, PROTOCOL)),
        case("8.1.1 a length that is no number", long("five", &[b"abcde"]), Stream(1, PROTOCOL)),
        case("8.1.1 a length below nothing", long("-5", &[b"abcde"]), Stream(1, PROTOCOL)),
        case("8.1.1 a length with a sign", long("+5", &[b"abcde"]), Stream(1, PROTOCOL)),
        case("8.1.1 a list of lengths", long("5, 5", &[b"abcde"]), Stream(1, PROTOCOL)),
        case(
            "8.1.1 two lengths",
            [
                headers(1, 0, &[&POST[..], &[("content-length", "3"), ("content-length", "4")]].concat()),
                frame(DATA, 1, 1, b"abc"),
            ],
            Stream(1, PROTOCOL),
        ),
        // 8.2.1
        undecodable("8.2.1 a name in upper case", &[("X-a", "1")]),
        undecodable("8.2.1 a name with a space", &[("x a", "1")]),
        undecodable("8.2.1 a name with a colon", &[("x:a", "1")]),
        undecodable("8.2.1 no name", &[("", "1")]),
        undecodable("8.2.1 a name beyond ASCII", &[("x\u{e9}", "1")]),
        undecodable("8.2.1 a value with NUL", &[("x", "a\0b")]),
        undecodable("8.2.1 a value with CR", &[("x", "a\rb")]),
        undecodable("8.2.1 a value with LF", &[("x", "a\nhost: b")]),
        // As in Envoy: an HTTP/1 host reads it without the space.
        case("8.2.1 a value that begins with a space", get_with(&[("x", " a")]), Status(1, 200)),
        case("8.2.1 a value that ends with a tab", get_with(&[("x", "a\t")]), Status(1, 200)),
        case("8.2.1 a value of nothing", get_with(&[("x", "")]), Status(1, 200)),
        // 8.2.2
        wrong("8.2.2 connection", &[("connection", "close")]),
        wrong("8.2.2 keep-alive", &[("keep-alive", "1")]),
        wrong("8.2.2 proxy-connection", &[("proxy-connection", "close")]),
        wrong("8.2.2 transfer-encoding", &[("transfer-encoding", "chunked")]),
        wrong("8.2.2 upgrade", &[("upgrade", "h2c")]),
        wrong("8.2.2 te with more than trailers", &[("te", "trailers, gzip")]),
        case("8.2.2 te with trailers", get_with(&[("te", "trailers")]), Status(1, 200)),
        // 8.2.3
        case("8.2.3 a cookie in crumbs", get_with(&[("cookie", "a=1"), ("cookie", "b=2")]), Status(1, 200)),
        // 8.3
        only("8.3 a pseudo-header after a field", &[method, scheme, ("x", "1"), path, authority]),
        undecodable("8.3 a pseudo-header of nobody", &[(":x", "1")]),
        wrong("8.3 one of responses", &[(":status", "200")]),
        undecoded_only("8.3 a pseudo-header in upper case", &[(":Method", "GET"), scheme, path, authority]),
        // 8.3.1
        only("8.3.1 no method", &[scheme, path, authority]),
        only("8.3.1 no scheme", &[method, path, authority]),
        only("8.3.1 no path", &[method, scheme, authority]),
        only("8.3.1 an empty path", &[method, scheme, (":path", ""), authority]),
        undecoded_only("8.3.1 an empty method", &[(":method", ""), scheme, path, authority]),
        undecoded_only("8.3.1 a method that is no token", &[(":method", "G E T"), scheme, path, authority]),
        only("8.3.1 two methods", &[method, method, scheme, path, authority]),
        only("8.3.1 two schemes", &[method, scheme, scheme, path, authority]),
        only("8.3.1 two paths", &[method, scheme, path, path, authority]),
        only("8.3.1 two authorities", &[method, scheme, path, authority, authority]),
        only("8.3.1 an authority with a user", &[method, scheme, path, (":authority", "user@test")]),
        only("8.3.1 an authority with a space", &[method, scheme, path, (":authority", "te st")]),
        only("8.3.1 a path with a space", &[method, scheme, (":path", "/a b"), authority]),
        only("8.3.1 a path that does not begin as one", &[method, scheme, (":path", "abc"), authority]),
        only("8.3.1 an asterisk that is no OPTIONS", &[method, scheme, (":path", "*"), authority]),
        // No route is for it: the prefix / is none of an asterisk.
        case(
            "8.3.1 an asterisk",
            headers(1, END_STREAM, &[(":method", "OPTIONS"), scheme, (":path", "*"), authority]),
            Status(1, 404),
        ),
        case(
            "8.3.1 a host instead of an authority",
            headers(1, END_STREAM, &[method, scheme, path, ("host", "test")]),
            Status(1, 200),
        ),
        // As in Envoy: the authority counts, and the host goes no further.
        case("8.3.1 a host that is another", get_with(&[("host", "other")]), Status(1, 200)),
        case("8.3.1 neither host nor authority", headers(1, END_STREAM, &[method, scheme, path]), Stream(1, PROTOCOL)),
        // 8.5
        only("8.5 CONNECT with a path", &[(":method", "CONNECT"), scheme, path, (":authority", "test:80")]),
        only("8.3.1 a host with a user", &[method, scheme, path, ("host", "user@test")]),
        only("8.3.1 a host that is a path", &[method, scheme, path, ("host", "te/st")]),
        // As in Envoy: what it is called on this side is no matter of the host.
        case(
            "8.3.1 a scheme of nobody's",
            headers(1, END_STREAM, &[method, (":scheme", "ftp"), path, authority]),
            Status(1, 200),
        ),
        only("8.5 CONNECT without an authority", &[(":method", "CONNECT")]),
        only(
            "8441 4 a protocol that is not allowed",
            &[(":method", "CONNECT"), (":protocol", "websocket"), scheme, path, authority],
        ),
        only("8441 4 a protocol without CONNECT", &[method, (":protocol", "websocket"), scheme, path, authority]),
    ]
}
