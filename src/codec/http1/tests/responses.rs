use http::StatusCode;

use super::*;

#[test]
fn a_head_keeps_order_and_bytes() {
    let parsed = response(
        "HTTP/1.1 200 Whatever they say\r\nServer: X\r\nSet-Cookie: a\r\nset-cookie: b\r\nContent-Length: 3\r\n\r\n",
        &Method::GET,
    )
    .unwrap()
    .unwrap();
    assert_eq!(parsed.head.status, StatusCode::OK);
    let expected: [(&str, &[u8]); 4] =
        [("server", b"X"), ("set-cookie", b"a"), ("set-cookie", b"b"), ("content-length", b"3")];
    assert_eq!(pairs(&parsed.head.headers), expected);
    assert_eq!(parsed.framing, Framing::length(3));
    assert!(parsed.keep_alive);
}

#[test]
fn bodies_by_status_and_method() {
    let rows: &[(&str, Method, Framing, bool)] = &[
        ("HTTP/1.1 200\r\n", Method::GET, Framing::until_close(), false),
        ("HTTP/1.1 200 \r\nContent-Length: 0\r\n", Method::GET, Framing::none(), true),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n", Method::GET, Framing::chunked(), true),
        ("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n", Method::HEAD, Framing::none(), true),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n", Method::HEAD, Framing::none(), true),
        ("HTTP/1.1 200 OK\r\n", Method::HEAD, Framing::none(), true),
        ("HTTP/1.1 204 x\r\n", Method::GET, Framing::none(), true),
        ("HTTP/1.1 204 x\r\nContent-Length: 0\r\n", Method::GET, Framing::none(), true),
        ("HTTP/1.1 304 x\r\nContent-Length: 9\r\n", Method::GET, Framing::none(), true),
        ("HTTP/1.1 100 x\r\n", Method::GET, Framing::none(), true),
        ("HTTP/1.1 103 x\r\nLink: a\r\n", Method::GET, Framing::none(), true),
        ("HTTP/1.1 101 x\r\nUpgrade: y\r\nConnection: upgrade\r\n", Method::GET, Framing::until_close(), false),
        ("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n", Method::CONNECT, Framing::until_close(), false),
        ("HTTP/1.1 403 OK\r\nContent-Length: 9\r\n", Method::CONNECT, Framing::length(9), true),
        ("HTTP/1.1 200 OK\r\nContent-Length: 9\r\nConnection: close\r\n", Method::GET, Framing::length(9), false),
        ("HTTP/1.0 200 OK\r\nContent-Length: 9\r\n", Method::GET, Framing::length(9), false),
        ("HTTP/1.0 200 OK\r\nContent-Length: 9\r\nConnection: keep-alive\r\n", Method::GET, Framing::length(9), true),
        (
            "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: keep-alive\r\n",
            Method::GET,
            Framing::chunked(),
            false,
        ),
        ("HTTP/1.1 999 OK\r\nContent-Length: 0\r\n", Method::GET, Framing::none(), true),
    ];
    for (text, method, framing, keep_alive) in rows {
        let parsed = response(&format!("{text}\r\n"), method).unwrap().unwrap();
        assert_eq!((&parsed.framing, parsed.keep_alive), (framing, *keep_alive), "{method} {text:?}");
    }
    assert!(response(rows[11].0, &Method::GET).unwrap().is_none());
    assert!(response(&format!("{}\r\n", rows[11].0), &Method::GET).unwrap().unwrap().upgrade);
}

#[test]
fn heads_that_are_refused() {
    let rows = [
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n",
        "HTTP/1.1 204 OK\r\nContent-Length: 5\r\n\r\n",
        "HTTP/1.1 204 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        "HTTP/1.1 103 OK\r\nContent-Length: 5\r\n\r\n",
        "HTTP/1.1 099 OK\r\n\r\n",
        "HTTP/1.1 20 OK\r\n\r\n",
        "HTTP/1.1 2000 OK\r\n\r\n",
        "HTTP/2.0 200 OK\r\n\r\n",
        "ICY 200 OK\r\n\r\n",
        "HTTP/1.1 200 OK\nContent-Length: 2\n\n",
        "HTTP/1.1 200 OK\r\nA : 1\r\n\r\n",
        "HTTP/1.1 200 OK\r\nA: 1\r\n 2\r\n\r\n",
        "HTTP/1.1 200 OK\r\nA: \u{1}\r\n\r\n",
        "\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n",
        "SSH-2.0-x\r\n",
        "<html>",
    ];
    for text in rows {
        assert!(response(text, &Method::GET).is_err(), "{text:?}");
    }
    let limits = Limits { bytes: 100, count: 2 };
    let mut buffer = BytesMut::from("HTTP/1.1 200 OK\r\nA: 1\r\nB: 1\r\nC: 1\r\n");
    let refused = parse_response(&mut buffer, &mut Scan::default(), &limits, &Method::GET, ResponseRules::default());
    assert_eq!(refused, Err(Refusal::TOO_MANY_HEADERS));
}
