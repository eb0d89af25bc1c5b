use http::{HeaderName, HeaderValue, StatusCode, Version, header};

use super::*;

fn headers(list: &[(&'static str, &'static str)]) -> Headers {
    list.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value))).collect()
}

fn written(write: impl FnOnce(&mut BytesMut)) -> String {
    let mut out = BytesMut::new();
    write(&mut out);
    String::from_utf8(out.to_vec()).unwrap()
}

#[test]
fn the_body_decides_what_a_request_says_about_it() {
    let length = &[("a", "1"), ("content-length", "02"), ("b", "2")][..];
    let plain = &[("a", "1"), ("transfer-encoding", "gzip")][..];
    let rows: &[(Method, &[_], Body, &str)] = &[
        (Method::GET, plain, Body::Empty, "a: 1\r\n"),
        (Method::DELETE, plain, Body::Empty, "a: 1\r\n"),
        (Method::GET, length, Body::Empty, "a: 1\r\ncontent-length: 0\r\nb: 2\r\n"),
        (Method::POST, plain, Body::Empty, "a: 1\r\ncontent-length: 0\r\n"),
        (Method::OPTIONS, plain, Body::Empty, "a: 1\r\ncontent-length: 0\r\n"),
        (Method::POST, length, Body::Length(2), "a: 1\r\ncontent-length: 2\r\nb: 2\r\n"),
        (Method::POST, plain, Body::Length(7), "a: 1\r\ncontent-length: 7\r\n"),
        (Method::POST, length, Body::Chunked, "a: 1\r\nb: 2\r\ntransfer-encoding: chunked\r\n"),
    ];
    for (method, list, body, expected) in rows {
        let mut head = RequestHead::new(method.clone(), bytes("h"), bytes("/p?q"));
        head.headers = headers(list);
        let expected = format!("{method} /p?q HTTP/1.1\r\nhost: h\r\n{expected}\r\n");
        assert_eq!(written(|out| encode_request(&head, *body, out)), expected, "{method} {body:?}");
    }
    let head = RequestHead::new(Method::CONNECT, bytes("h:1"), Bytes::new());
    assert_eq!(
        written(|out| encode_request(&head, Body::UntilClose, out)),
        "CONNECT h:1 HTTP/1.1\r\nhost: h:1\r\n\r\n"
    );
}

#[test]
fn the_body_decides_what_a_response_says_about_it() {
    let length = &[("content-length", "9")][..];
    let rows: &[(u16, Version, &[_], Body, &str)] = &[
        (200, Version::HTTP_11, &[], Body::Empty, "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"),
        (200, Version::HTTP_11, length, Body::Length(9), "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n"),
        (200, Version::HTTP_11, length, Body::Chunked, "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"),
        (200, Version::HTTP_10, length, Body::UntilClose, "HTTP/1.0 200 OK\r\n\r\n"),
        (200, Version::HTTP_11, length, Body::Suppressed, "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n"),
        (200, Version::HTTP_11, &[], Body::Suppressed, "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"),
        (200, Version::HTTP_10, &[], Body::Suppressed, "HTTP/1.0 200 OK\r\n\r\n"),
        (304, Version::HTTP_11, &[], Body::Suppressed, "HTTP/1.1 304 Not Modified\r\n\r\n"),
        (304, Version::HTTP_11, length, Body::Suppressed, "HTTP/1.1 304 Not Modified\r\ncontent-length: 9\r\n\r\n"),
        (204, Version::HTTP_11, &[("content-length", "0")], Body::Empty, "HTTP/1.1 204 No Content\r\n\r\n"),
        (100, Version::HTTP_11, &[], Body::Empty, "HTTP/1.1 100 Continue\r\n\r\n"),
        (299, Version::HTTP_11, &[], Body::Empty, "HTTP/1.1 299 Unknown\r\ncontent-length: 0\r\n\r\n"),
        (418, Version::HTTP_11, &[], Body::Empty, "HTTP/1.1 418 Unknown\r\ncontent-length: 0\r\n\r\n"),
        (413, Version::HTTP_11, &[], Body::Empty, "HTTP/1.1 413 Payload Too Large\r\ncontent-length: 0\r\n\r\n"),
    ];
    for (status, version, list, body, expected) in rows {
        let mut head = ResponseHead::new(StatusCode::from_u16(*status).unwrap());
        head.version = *version;
        head.headers = headers(list);
        assert_eq!(written(|out| encode_response(&head, *body, out)), *expected, "{body:?}");
    }
}

#[test]
fn a_body_is_held_to_its_announcement() {
    let mut out = BytesMut::new();
    let mut writer = BodyWriter::new(Body::Length(3));
    writer.data(b"ab", &mut out).unwrap();
    assert_eq!(writer.end(None, &mut out), Err(BodyMismatch));
    assert_eq!(writer.data(b"cd", &mut out), Err(BodyMismatch));
    writer.data(b"c", &mut out).unwrap();
    writer.end(None, &mut out).unwrap();
    assert_eq!(out, "abc");
    assert_eq!(writer.data(b"d", &mut out), Err(BodyMismatch));
    assert_eq!(BodyWriter::new(Body::Suppressed).data(b"d", &mut out), Err(BodyMismatch));
}

#[test]
fn chunks_are_framed() {
    let text = written(|out| {
        let mut writer = BodyWriter::new(Body::Chunked);
        writer.data(b"hello world, hello", out).unwrap();
        writer.data(b"", out).unwrap();
        writer.data(b"!", out).unwrap();
        writer.end(Some(&headers(&[("t", "1")])), out).unwrap();
    });
    assert_eq!(text, "12\r\nhello world, hello\r\n1\r\n!\r\n0\r\nt: 1\r\n\r\n");
    for length in [1, 9, 10, 15, 16, 255, 256, 65_535, 65_536, usize::MAX] {
        let (prefix, suffix) = BodyWriter::new(Body::Chunked).frame(length).unwrap();
        assert_eq!(prefix.as_slice(), format!("{length:x}\r\n").as_bytes());
        assert_eq!(suffix, b"\r\n");
    }
}

#[test]
fn the_list_of_headers_keeps_places() {
    let mut list = headers(&[("a", "1"), ("b", "2"), ("a", "3"), ("c", "4"), ("a", "5")]);
    list.set(HeaderName::from_static("a"), HeaderValue::from_static("x"));
    assert_eq!(pairs(&list), [("a", &b"x"[..]), ("b", b"2"), ("c", b"4")]);
    list.set(header::DATE, HeaderValue::from_static("d"));
    assert!(list.remove(&HeaderName::from_static("b")) && !list.remove(&header::HOST));
    assert_eq!(pairs(&list), [("a", &b"x"[..]), ("c", b"4"), ("date", b"d")]);
    list.append(header::DATE, HeaderValue::from_static("e"));
    assert_eq!(list.get(&header::DATE).unwrap(), "d");
    assert_eq!(list.get_all(&header::DATE).count(), 2);
}
