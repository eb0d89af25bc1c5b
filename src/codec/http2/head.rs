//! Heads and trailers between the `h2` crate and ours (RFC 9113, 8.2 and 8.3).
//!
//! The crate has checked pseudo-headers, names and connection-specific fields of what it read. What is about one HTTP/1 connection is
//! left out of what we write, because an HTTP/2 peer would take the whole message for malformed.

use bytes::{Bytes, BytesMut};
use h2::ext::Protocol;
use http::header::{self, HeaderMap};
use http::uri::{Authority, PathAndQuery};
use http::{HeaderValue, Method, Uri, Version, request, response};

use crate::codec::head::{Headers, RequestHead, ResponseHead, Scheme};
use crate::codec::http1::{RequestRules, Underscores};

/// Room for the headers that a proxy adds.
const SPARE_HEADERS: usize = 10;

/// A head that cannot be gone on with: the stream is reset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Malformed {
    /// More fields than `max_headers_count`.
    TooManyHeaders,
    /// A name with an underscore where these are refused.
    Underscore,
    /// A host, a path or a field that HTTP/2 cannot carry.
    Field,
}

impl Malformed {
    /// `%RESPONSE_CODE_DETAILS%`.
    pub const fn details(self) -> &'static str {
        match self {
            Self::TooManyHeaders => "http2.too_many_headers",
            Self::Underscore => "http2.unexpected_underscore",
            Self::Field => "http2.invalid.header.field",
        }
    }
}

/// A request that was read, as a head. An extended CONNECT (RFC 8441) becomes the upgrade that it stands for: a GET with `upgrade` and
/// `connection`, so that nobody above sees the difference; one for `bytestream` is a CONNECT.
///
/// # Errors
/// See [`Malformed`]. `dropped` counts headers that `headers_with_underscores_action` dropped.
pub fn request_head(parts: request::Parts, rules: &RequestRules, dropped: &mut u64) -> Result<RequestHead, Malformed> {
    let request::Parts { method, uri, headers, mut extensions, .. } = parts;
    let mut list = headers_from(headers, rules, dropped)?;
    let authority = match uri.authority() {
        Some(authority) if names_user(authority.as_str().as_bytes()) => return Err(Malformed::Field),
        Some(authority) => Bytes::copy_from_slice(authority.as_str().as_bytes()),
        None if method == Method::CONNECT => return Err(Malformed::Field),
        None => host(&list)?,
    };
    list.remove(&header::HOST);
    let protocol = extensions.remove::<Protocol>().filter(|protocol| protocol.as_str() != "bytestream");
    let path = match (&method, &protocol, uri.path_and_query()) {
        (&Method::CONNECT, None, _) | (_, _, None) => Bytes::new(),
        // The server as a whole is for OPTIONS alone (RFC 9113, 8.3.1).
        (method, _, Some(path)) if path.as_str() == "*" && *method != Method::OPTIONS => return Err(Malformed::Field),
        (_, _, Some(path)) => Bytes::copy_from_slice(path.as_str().as_bytes()),
    };
    let mut method = method;
    if let Some(protocol) = protocol {
        let protocol = HeaderValue::from_str(protocol.as_str()).map_err(|_| Malformed::Field)?;
        list.append(header::UPGRADE, protocol);
        list.append(header::CONNECTION, HeaderValue::from_static("upgrade"));
        method = Method::GET;
    }
    let scheme = match uri.scheme_str() {
        Some("https") => Some(Scheme::Https),
        Some("http") => Some(Scheme::Http),
        _ => None,
    };
    Ok(RequestHead { method, scheme, authority, path, version: Version::HTTP_2, headers: list, cases: None })
}

/// The host of a request without `:authority`, which came over HTTP/1 before.
fn host(headers: &Headers) -> Result<Bytes, Malformed> {
    let host = headers.get(&header::HOST).map(HeaderValue::as_bytes).ok_or(Malformed::Field)?;
    if names_user(host) || Authority::try_from(host).is_err() {
        return Err(Malformed::Field);
    }
    Ok(Bytes::copy_from_slice(host))
}

/// User information is nothing for a proxy to pass on (RFC 9113, 8.3.1).
fn names_user(authority: &[u8]) -> bool {
    memchr::memchr(b'@', authority).is_some()
}

/// A response that was read, as a head.
///
/// # Errors
/// [`Malformed::TooManyHeaders`].
pub fn response_head(parts: response::Parts, most: usize) -> Result<ResponseHead, Malformed> {
    if parts.headers.len() > most {
        return Err(Malformed::TooManyHeaders);
    }
    Ok(ResponseHead {
        status: parts.status,
        version: Version::HTTP_2,
        headers: trailers_from(parts.headers),
        cases: None,
    })
}

/// A request to be sent. With `upgrade`, the name of a protocol, it is an extended CONNECT.
///
/// # Errors
/// [`Malformed::Field`]: a host or a path that no URI has.
pub fn request(head: RequestHead, upgrade: Option<&str>) -> Result<http::Request<()>, Malformed> {
    let RequestHead { method, scheme, authority, path, headers, .. } = head;
    let mut uri = http::uri::Parts::default();
    if !authority.is_empty() {
        uri.authority = Some(Authority::from_maybe_shared(authority).map_err(|_| Malformed::Field)?);
    }
    if method != Method::CONNECT {
        uri.scheme = Some(match scheme {
            Some(Scheme::Https) => http::uri::Scheme::HTTPS,
            Some(Scheme::Http) | None => http::uri::Scheme::HTTP,
        });
        uri.path_and_query = Some(PathAndQuery::from_maybe_shared(path).map_err(|_| Malformed::Field)?);
    }
    let mut request = http::Request::new(());
    *request.version_mut() = Version::HTTP_2;
    *request.uri_mut() = Uri::from_parts(uri).map_err(|_| Malformed::Field)?;
    *request.headers_mut() = to_map(headers, true);
    *request.method_mut() = method;
    if let Some(protocol) = upgrade {
        *request.method_mut() = Method::CONNECT;
        request.extensions_mut().insert(Protocol::from(protocol));
    }
    Ok(request)
}

/// A response to be sent.
pub fn response(head: ResponseHead) -> http::Response<()> {
    let mut response = http::Response::new(());
    *response.version_mut() = Version::HTTP_2;
    *response.status_mut() = head.status;
    *response.headers_mut() = to_map(head.headers, false);
    response
}

/// Trailers to be sent.
pub fn to_trailers(headers: Headers) -> HeaderMap {
    to_map(headers, false)
}

/// Trailers, or any fields that have been read.
pub fn trailers_from(map: HeaderMap) -> Headers {
    let mut headers = Headers::with_capacity(map.len() + SPARE_HEADERS);
    let mut last = None;
    for (name, value) in map {
        if name.is_some() {
            last = name;
        }
        if let Some(name) = &last {
            headers.append(name.clone(), value);
        }
    }
    headers
}

fn headers_from(map: HeaderMap, rules: &RequestRules, dropped: &mut u64) -> Result<Headers, Malformed> {
    if map.len() > rules.limits.count {
        return Err(Malformed::TooManyHeaders);
    }
    let mut headers = trailers_from(map);
    join_cookies(&mut headers)?;
    if rules.underscores != Underscores::Allow {
        let before = headers.len();
        headers.retain(|name, _| !name.as_str().contains('_'));
        let found = (before - headers.len()) as u64;
        match rules.underscores {
            Underscores::Reject if found > 0 => return Err(Malformed::Underscore),
            _ => *dropped += found,
        }
    }
    Ok(headers)
}

/// Crumbs of one cookie header make one again (RFC 9113, 8.2.3): HTTP/1 has only one.
fn join_cookies(headers: &mut Headers) -> Result<(), Malformed> {
    if headers.get_all(&header::COOKIE).nth(1).is_none() {
        return Ok(());
    }
    let mut joined = BytesMut::new();
    for crumb in headers.get_all(&header::COOKIE) {
        if !joined.is_empty() {
            joined.extend_from_slice(b"; ");
        }
        joined.extend_from_slice(crumb.as_bytes());
    }
    let value = HeaderValue::from_maybe_shared(joined.freeze()).map_err(|_| Malformed::Field)?;
    headers.set(header::COOKIE, value);
    Ok(())
}

/// Without what is about a connection. Of a request, `te: trailers` goes along.
fn to_map(headers: Headers, request: bool) -> HeaderMap {
    let mut map = HeaderMap::with_capacity(headers.len());
    for (name, mut value) in headers {
        match name.as_str() {
            "connection" | "transfer-encoding" | "upgrade" | "host" | "keep-alive" | "proxy-connection"
            | "http2-settings" => continue,
            "te" if !(request && value.as_bytes() == b"trailers") => continue,
            // Another one in each message: in the compression table they would push out what comes again, and the encoder would compare each
            // with all before it.
            "x-request-id" | "x-envoy-upstream-service-time" | "traceparent" => value.set_sensitive(true),
            _ => {}
        }
        map.append(name, value);
    }
    map
}

#[cfg(test)]
mod tests {
    use http::HeaderName;

    use super::*;

    fn parts(build: http::request::Builder) -> request::Parts {
        build.body(()).unwrap().into_parts().0
    }

    #[test]
    fn a_request_keeps_its_parts() {
        let read = parts(
            http::Request::get("https://shop.example:8443/a?b=c")
                .header("cookie", "a=1")
                .header("x-one", "1")
                .header("cookie", "b=2")
                .header("x_two", "2"),
        );
        let rules = RequestRules { underscores: Underscores::Drop, ..RequestRules::default() };
        let mut dropped = 0;
        let head = request_head(read, &rules, &mut dropped).unwrap();
        assert_eq!((&*head.authority, &*head.path), (&b"shop.example:8443"[..], &b"/a?b=c"[..]));
        assert_eq!((head.scheme, head.version, dropped), (Some(Scheme::Https), Version::HTTP_2, 1));
        assert_eq!(head.headers.get(&header::COOKIE).unwrap(), "a=1; b=2");
        assert_eq!(head.headers.get_all(&header::COOKIE).count(), 1);
        let sent = request(head, None).unwrap();
        assert_eq!(sent.uri(), "https://shop.example:8443/a?b=c");
        assert_eq!(sent.headers()["x-one"], "1");
    }

    #[test]
    fn limits_and_underscores_are_refused() {
        let read = || parts(http::Request::get("http://a/").header("x_a", "1").header("y", "2"));
        let rules = RequestRules { underscores: Underscores::Reject, ..RequestRules::default() };
        assert_eq!(request_head(read(), &rules, &mut 0), Err(Malformed::Underscore));
        let mut rules = RequestRules::default();
        rules.limits.count = 1;
        assert_eq!(request_head(read(), &rules, &mut 0), Err(Malformed::TooManyHeaders));
    }

    #[test]
    fn who_is_asked_must_be_said_and_said_alone() {
        let read = |parts| request_head(parts, &RequestRules::default(), &mut 0).map(|head| head.authority);
        let of = |method: &str, uri: &str, host: Option<&str>| {
            let build = http::Request::builder().method(method).uri(uri);
            read(parts(if let Some(host) = host { build.header("host", host) } else { build }))
        };
        assert_eq!(of("GET", "/", Some("a:80")), Ok(Bytes::from_static(b"a:80")));
        assert_eq!(of("GET", "http://a/", Some("b")), Ok(Bytes::from_static(b"a")));
        assert_eq!(of("OPTIONS", "*", Some("a")), Ok(Bytes::from_static(b"a")));
        for (method, uri, host) in [
            ("GET", "/", None),
            ("GET", "/", Some("")),
            ("GET", "/", Some("a b")),
            ("GET", "/", Some("a/b")),
            ("GET", "/", Some("user@a")),
            ("GET", "http://user@a/", None),
            ("GET", "*", Some("a")),
            ("CONNECT", "/", Some("a")),
        ] {
            assert_eq!(of(method, uri, host), Err(Malformed::Field), "{method} {uri} {host:?}");
        }
    }

    #[test]
    fn an_extended_connect_is_an_upgrade_and_becomes_one_again() {
        let mut read = parts(http::Request::builder().method(Method::CONNECT).uri("http://a/chat"));
        read.extensions.insert(Protocol::from_static("websocket"));
        let head = request_head(read, &RequestRules::default(), &mut 0).unwrap();
        assert_eq!((&head.method, &*head.path), (&Method::GET, &b"/chat"[..]));
        assert_eq!(head.headers.get(&header::UPGRADE).unwrap(), "websocket");
        let sent = request(head, Some("websocket")).unwrap();
        assert_eq!((sent.method(), sent.uri().path()), (&Method::CONNECT, "/chat"));
        assert_eq!(sent.extensions().get::<Protocol>().unwrap().as_str(), "websocket");
        assert!(sent.headers().is_empty());
    }

    #[test]
    fn what_is_about_a_connection_is_not_sent() {
        let mut head = ResponseHead::new(http::StatusCode::OK);
        for (name, value) in
            [("connection", "close"), ("transfer-encoding", "chunked"), ("keep-alive", "1"), ("x", "y")]
        {
            head.headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        let sent = response(head);
        assert_eq!(sent.headers().len(), 1);
        assert_eq!(sent.headers()["x"], "y");
    }

    #[test]
    fn a_host_that_no_uri_has_is_refused() {
        let head = RequestHead::new(Method::GET, "a b", "/");
        assert_eq!(request(head, None).unwrap_err(), Malformed::Field);
    }
}
