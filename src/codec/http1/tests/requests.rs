use super::*;
use crate::codec::head::Scheme;

#[test]
fn a_head_keeps_order_and_bytes() {
    let parsed = request("GET /a?b=%41 HTTP/1.1\r\nUser-Agent: x\r\nHost: Example.com:80\r\nX-Mixed:\t A,  b \r\nEmpty:\r\nx-mixed: c\r\n\r\n")
        .unwrap()
        .unwrap();
    assert_eq!(parsed.head.method, Method::GET);
    assert_eq!(parsed.head.path, "/a?b=%41");
    assert_eq!(parsed.head.path_without_query(), b"/a");
    assert_eq!(parsed.head.authority, "Example.com:80");
    let expected: [(&str, &[u8]); 4] = [("user-agent", b"x"), ("x-mixed", b"A,  b"), ("empty", b""), ("x-mixed", b"c")];
    assert_eq!(pairs(&parsed.head.headers), expected);
    assert_eq!(parsed.framing, Framing::none());
    assert!(parsed.keep_alive && !parsed.upgrade && !parsed.expect_continue);
}

#[test]
fn heads_that_are_refused() {
    use Refusal as R;
    let rows: &[(&str, Refusal)] = &[
        // Lengths and codings.
        (
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\n",
            R::LENGTH_AND_CHUNKED,
        ),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\nTransfer-Encoding: chunked\r\n\r\n",
            R::LENGTH_AND_CHUNKED,
        ),
        ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", R::INVALID_TRANSFER_ENCODING),
        ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, gzip\r\n\r\n", R::INVALID_TRANSFER_ENCODING),
        ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, chunked\r\n\r\n", R::INVALID_TRANSFER_ENCODING),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
            R::INVALID_TRANSFER_ENCODING,
        ),
        ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n", R::INVALID_TRANSFER_ENCODING),
        ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: identity\r\n\r\n", R::INVALID_TRANSFER_ENCODING),
        ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding:\r\n\r\n", R::INVALID_TRANSFER_ENCODING),
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\n", R::CODEC_ERROR),
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n", R::CODEC_ERROR),
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2, 2\r\n\r\n", R::CODEC_ERROR),
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +2\r\n\r\n", R::CODEC_ERROR),
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -2\r\n\r\n", R::CODEC_ERROR),
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0x2\r\n\r\n", R::CODEC_ERROR),
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2 2\r\n\r\n", R::CODEC_ERROR),
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length:\r\n\r\n", R::CODEC_ERROR),
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 18446744073709551616\r\n\r\n", R::CODEC_ERROR),
        // Lines and characters. Envoy lets folded lines, bare LF and a lone CR pass; we do not.
        ("GET / HTTP/1.1\r\nHost: a\r\nA: 1\r\n 2\r\n\r\n", R::CODEC_ERROR),
        ("GET / HTTP/1.1\r\n Host: a\r\n\r\n", R::CODEC_ERROR),
        ("GET / HTTP/1.1\r\nHost: a\nA: 1\r\n\r\n", R::CODEC_ERROR),
        ("GET / HTTP/1.1\nHost: a\n\n", R::CODEC_ERROR),
        ("GET / HTTP/1.1\r\nHost: a\r\n\n", R::CODEC_ERROR),
        ("\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", R::CODEC_ERROR),
        ("GET / HTTP/1.1\r\nHost: a\r\nA: 1\r2\r\n\r\n", R::INVALID_CHARACTERS),
        ("GET / HTTP/1.1\r\nHost: a\r\nA: 1\u{0}2\r\n\r\n", R::INVALID_CHARACTERS),
        ("GET / HTTP/1.1\r\nHost: a\r\nA: 1\u{1}2\r\n\r\n", R::INVALID_CHARACTERS),
        ("GET / HTTP/1.1\r\nHost: a\r\nA: 1\u{7f}2\r\n\r\n", R::INVALID_CHARACTERS),
        ("GET / HTTP/1.1\r\nHost: a\r\nA : 1\r\n\r\n", R::CODEC_ERROR),
        ("GET / HTTP/1.1\r\nHost: a\r\nA\t: 1\r\n\r\n", R::CODEC_ERROR),
        ("GET / HTTP/1.1\r\nHost: a\r\nA(b: 1\r\n\r\n", R::CODEC_ERROR),
        ("GET / HTTP/1.1\r\nHost: a\r\n: 1\r\n\r\n", R::CODEC_ERROR),
        ("GET / HTTP/1.1\r\nHost: a\r\nabc\r\n\r\n", R::CODEC_ERROR),
        // The request line.
        ("get / HTTP/1.1\r\nHost: a\r\n\r\n", R::CODEC_ERROR),
        ("FOO / HTTP/1.1\r\nHost: a\r\n\r\n", R::CODEC_ERROR),
        ("GET  / HTTP/1.1\r\nHost: a\r\n\r\n", R::CODEC_ERROR),
        ("GET /  HTTP/1.1\r\nHost: a\r\n\r\n", R::CODEC_ERROR),
        ("GET / HTTP/1.1 \r\nHost: a\r\n\r\n", R::CODEC_ERROR),
        (" GET / HTTP/1.1\r\nHost: a\r\n\r\n", R::CODEC_ERROR),
        ("GET /a b HTTP/1.1\r\nHost: a\r\n\r\n", R::CODEC_ERROR),
        ("GET /ä HTTP/1.1\r\nHost: a\r\n\r\n", R::CODEC_ERROR),
        ("GET /a\u{1}b HTTP/1.1\r\nHost: a\r\n\r\n", R::INVALID_CHARACTERS),
        ("GET abc HTTP/1.1\r\nHost: a\r\n\r\n", R::CODEC_ERROR),
        ("GET * HTTP/1.1\r\nHost: a\r\n\r\n", R::INVALID_URL),
        ("OPTIONS *x HTTP/1.1\r\nHost: a\r\n\r\n", R::INVALID_URL),
        ("GET ftp://b/ HTTP/1.1\r\nHost: a\r\n\r\n", R::INVALID_SCHEME),
        ("GET http:///y HTTP/1.1\r\nHost: a\r\n\r\n", R::INVALID_URL),
        ("GET http://b:99999/ HTTP/1.1\r\nHost: a\r\n\r\n", R::INVALID_URL),
        ("GET http://b:x/ HTTP/1.1\r\nHost: a\r\n\r\n", R::INVALID_URL),
        ("GET http://b:80:80/ HTTP/1.1\r\nHost: a\r\n\r\n", R::INVALID_URL),
        ("GET ://b/ HTTP/1.1\r\nHost: a\r\n\r\n", R::CODEC_ERROR),
        ("CONNECT /x HTTP/1.1\r\nHost: a\r\n\r\n", R::INVALID_URL),
        ("CONNECT abc HTTP/1.1\r\nHost: a\r\n\r\n", R::INVALID_URL),
        ("CONNECT a:80 HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n", R::BODY_DISALLOWED),
        ("CONNECT a:80 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", R::INVALID_TRANSFER_ENCODING),
        // Versions.
        ("GET / HTTP/1.0\r\nHost: a\r\n\r\n", R::LOW_VERSION),
        ("GET / HTTP/1.2\r\nHost: a\r\n\r\n", R::LOW_VERSION),
        ("GET / HTTP/2.0\r\nHost: a\r\n\r\n", R::LOW_VERSION),
        ("GET /\r\n\r\n", R::LOW_VERSION),
        ("GET /\r\n", R::LOW_VERSION),
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", R::CODEC_ERROR),
        // Hosts.
        ("GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", R::INVALID_AUTHORITY),
        ("GET / HTTP/1.1\r\nHost: a b\r\n\r\n", R::INVALID_AUTHORITY),
    ];
    for (text, expected) in rows {
        assert_eq!(request(text).map(|_| "accepted"), Err(*expected), "{text:?}");
    }
}

#[test]
fn what_is_certain_is_refused_before_the_head_is_complete() {
    let rows: &[(&[u8], Refusal)] = &[
        (b"\x16\x03\x01\x00\xfa\x01\x00", Refusal::CODEC_ERROR),
        (b"GET\0", Refusal::CODEC_ERROR),
        (b"GET / HTTP/1.1\r\nHost: a\r\nA b: 1\r\n", Refusal::CODEC_ERROR),
        (b"GET / HTTP/1.1\r\nHost: a\r\nA: \x01", Refusal::INVALID_CHARACTERS),
        (b"GET / HTTP/1.1\n", Refusal::CODEC_ERROR),
        (b"FOO / HTTP/1.1\r\nHo", Refusal::CODEC_ERROR),
        (b"GET / HTTP/3.0\r\nHo", Refusal::LOW_VERSION),
        (b"\rG", Refusal::CODEC_ERROR),
    ];
    for (start, expected) in rows {
        let mut buffer = BytesMut::from(*start);
        let refused = parse_request(&mut buffer, &mut Scan::default(), &RequestRules::default());
        assert_eq!(refused.map(|_| ()), Err(*expected), "{:?}", String::from_utf8_lossy(start));
    }
}

#[test]
fn targets_and_hosts() {
    let rows: &[(&str, Option<Scheme>, &str, &str)] = &[
        ("GET http://b:1/y?q HTTP/1.1\r\nHost: a\r\n", Some(Scheme::Http), "b:1", "/y?q"),
        ("GET http://b/y HTTP/1.1\r\n", Some(Scheme::Http), "b", "/y"),
        ("GET HTTPS://b HTTP/1.1\r\nHost: a\r\n", Some(Scheme::Https), "b", "/"),
        ("GET http://[::1]:8080/ HTTP/1.1\r\nHost: a\r\n", Some(Scheme::Http), "[::1]:8080", "/"),
        // Envoy answers 404 here; RFC 9112 says that an empty path is `/`.
        ("GET http://b?x HTTP/1.1\r\nHost: a\r\n", Some(Scheme::Http), "b", "/?x"),
        // User information never reaches the upstream.
        ("GET http://u:p@b/y HTTP/1.1\r\nHost: a\r\n", Some(Scheme::Http), "b", "/y"),
        ("GET /a\"<>{}|\\^`#f HTTP/1.1\r\nHost: a\r\n", None, "a", "/a\"<>{}|\\^`#f"),
        ("GET //x//../y HTTP/1.1\r\nHost: a\r\n", None, "a", "//x//../y"),
        ("GET /http://b/ HTTP/1.1\r\nHost: a\r\n", None, "a", "/http://b/"),
        ("OPTIONS * HTTP/1.1\r\nHost: a\r\n", None, "a", "*"),
        ("CONNECT b:443 HTTP/1.1\r\nHost: a\r\n", None, "b:443", ""),
        ("GET / HTTP/1.1\r\nHost:\r\n", None, "", "/"),
        ("GET / HTTP/1.1\r\nHost: u@a\r\n", None, "u@a", "/"),
        ("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n", None, "a,b", "/"),
    ];
    for (text, scheme, authority, path) in rows {
        let head = request(&format!("{text}\r\n")).unwrap().unwrap().head;
        assert_eq!(
            (head.scheme, &head.authority[..], &head.path[..]),
            (*scheme, authority.as_bytes(), path.as_bytes()),
            "{text:?}"
        );
        assert!(head.headers.is_empty(), "{text:?}");
    }
    let rules = RequestRules { allow_absolute_url: false, ..RequestRules::default() };
    // It is no path, and answered as one that is none.
    let head = request_by("GET http://b/ HTTP/1.1\r\nHost: a\r\n\r\n", &rules).unwrap().unwrap().head;
    assert_eq!((&head.authority[..], &head.path[..]), (&b"a"[..], &b"http://b/"[..]));
}

#[test]
fn what_follows_for_the_connection() {
    // keep-alive, waits for 100, upgrade
    let rows: &[(&str, [bool; 3])] = &[
        ("", [true, false, false]),
        ("Connection: close\r\n", [false, false, false]),
        ("Connection: x, CLOSE\r\n", [false, false, false]),
        ("Connection: keep-alive\r\nConnection: close\r\n", [false, false, false]),
        ("Connection: closed\r\n", [true, false, false]),
        ("Proxy-Connection: close\r\n", [false, false, false]),
        ("Expect: 100-Continue\r\n", [true, true, false]),
        ("Expect: more\r\n", [true, false, false]),
        ("Connection: Upgrade\r\nUpgrade: websocket\r\n", [true, false, true]),
        ("Upgrade: websocket\r\n", [true, false, false]),
        ("Connection: upgrade\r\n", [true, false, false]),
        ("Connection: upgrade, http2-settings\r\nUpgrade: h2c\r\n", [true, false, false]),
    ];
    for (fields, expected) in rows {
        let parsed = request(&format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n")).unwrap().unwrap();
        assert_eq!([parsed.keep_alive, parsed.expect_continue, parsed.upgrade], *expected, "{fields:?}");
    }
}

#[test]
fn http_10_where_it_is_accepted() {
    let rules = RequestRules { accept_http_10: true, default_host: bytes("dflt"), ..RequestRules::default() };
    let parsed = request_by("GET / HTTP/1.0\r\nExpect: 100-continue\r\n\r\n", &rules).unwrap().unwrap();
    assert_eq!(parsed.head.authority, "dflt");
    assert!(!parsed.keep_alive && !parsed.expect_continue);
    let parsed = request_by("GET / HTTP/1.0\r\nHost: h\r\nConnection: Keep-Alive\r\n\r\n", &rules).unwrap().unwrap();
    assert_eq!(parsed.head.authority, "h");
    assert!(parsed.keep_alive);
    // Stricter than Envoy: whoever is before us may not know the coding.
    let chunked = "POST / HTTP/1.0\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n";
    assert_eq!(request_by(chunked, &rules), Err(Refusal::TRANSFER_ENCODING_NOT_ALLOWED));
    let hostless = RequestRules { default_host: Bytes::new(), ..rules };
    for text in ["GET / HTTP/1.0\r\n\r\n", "GET / HTTP/1.1\r\n\r\n"] {
        let parsed = request_by(text, &hostless).unwrap().unwrap();
        assert!(parsed.hostless && parsed.head.authority.is_empty(), "{text}");
    }
}

#[test]
fn bodies_by_head() {
    let rows: &[(&str, Framing)] = &[
        ("POST / HTTP/1.1\r\nHost: a\r\n\r\n", Framing::none()),
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n", Framing::none()),
        ("GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 007\r\n\r\n", Framing::length(7)),
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 18446744073709551615\r\n\r\n", Framing::length(u64::MAX)),
        ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding:  ChunKed \r\n\r\n", Framing::chunked()),
        ("CONNECT a:1 HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n", Framing::none()),
    ];
    for (text, framing) in rows {
        assert_eq!(request(text).unwrap().unwrap().framing, *framing, "{text:?}");
    }
    let rules = RequestRules { allow_chunked_length: true, ..RequestRules::default() };
    let both = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n";
    let parsed = request_by(both, &rules).unwrap().unwrap();
    assert_eq!(parsed.framing, Framing::chunked());
    assert!(!parsed.head.headers.contains(&http::header::CONTENT_LENGTH));
}

#[test]
fn underscores() {
    let text = "GET / HTTP/1.1\r\nHost: a\r\na_b: 1\r\nc-d: 2\r\n\r\n";
    let with = |underscores| request_by(text, &RequestRules { underscores, ..RequestRules::default() });
    assert_eq!(with(Underscores::Allow).unwrap().unwrap().head.headers.len(), 2);
    assert_eq!(pairs(&with(Underscores::Drop).unwrap().unwrap().head.headers), [("c-d", &b"2"[..])]);
    assert_eq!(with(Underscores::Reject), Err(Refusal::UNEXPECTED_UNDERSCORE));
}

#[test]
fn limits_hold_exactly() {
    let with_fields = |count: usize| {
        let fields: String = (1..count).map(|at| format!("a{at}: 1\r\n")).collect();
        request(&format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n")).map(|parsed| parsed.unwrap().head.headers.len())
    };
    assert_eq!(with_fields(100), Ok(99));
    assert_eq!(with_fields(101), Err(Refusal::TOO_MANY_HEADERS));
    let sized = |size: usize| {
        let frame = "GET / HTTP/1.1\r\nHost: a\r\nA: \r\n\r\n".len();
        request(&format!("GET / HTTP/1.1\r\nHost: a\r\nA: {}\r\n\r\n", "x".repeat(size - frame))).map(|_| ())
    };
    assert_eq!(sized(60 * 1024), Ok(()));
    assert_eq!(sized(60 * 1024 + 1), Err(Refusal::HEADERS_TOO_LARGE));
    // Without an end in sight: as soon as the limit is passed.
    let endless = format!("GET /{}", "x".repeat(60 * 1024));
    assert_eq!(request(&endless), Err(Refusal::HEADERS_TOO_LARGE));
    // More fields than fit on the stack.
    let rules = RequestRules { limits: Limits { bytes: 1 << 20, count: 1000 }, ..RequestRules::default() };
    let fields: String = (0..900).map(|at| format!("a{at}: 1\r\n")).collect();
    let parsed = request_by(&format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n"), &rules).unwrap().unwrap();
    assert_eq!(parsed.head.headers.len(), 900);
}

#[test]
fn empty_lines_before_a_request_are_dropped_up_to_a_bound() {
    let head = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    for count in [1, 2, 8] {
        assert!(request(&format!("{}{head}", "\r\n".repeat(count))).unwrap().is_some());
    }
    assert_eq!(request(&format!("{}{head}", "\r\n".repeat(9))), Err(Refusal::CODEC_ERROR));
    let mut reader = request_reader();
    for byte in "\r\n".repeat(9).bytes() {
        reader.feed(&[byte]);
    }
    assert_eq!(reader.events, [Event::Refused(Refusal::CODEC_ERROR)]);
}

#[test]
fn a_slow_sender_costs_no_more_than_a_fast_one() {
    // Every byte of a head may be looked at a fixed number of times: judged parts and the final parse. The sum of what is
    // judged is bounded by the number of lines that come to be seen incomplete.
    let text = format!("GET / HTTP/1.1\r\nHost: a\r\nA: {}\r\n\r\n", "x".repeat(50_000));
    let mut buffer = BytesMut::new();
    let mut scan = Scan::default();
    let mut judged = 0;
    for byte in text.bytes() {
        buffer.extend_from_slice(&[byte]);
        if scan.find_end(&buffer, true, &Limits::default()).unwrap().is_none()
            && let Some((part, _)) = scan.unjudged(&buffer)
        {
            judged += part.len();
        }
    }
    assert!(judged <= 2 * text.len(), "{judged} bytes judged of {}", text.len());
}
