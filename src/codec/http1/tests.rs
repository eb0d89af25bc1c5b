use bytes::BytesMut;
use http::{Method, StatusCode, header};

use super::*;

#[test]
fn a_request_is_read_and_written() {
    let mut buffer = BytesMut::from(
        &b"POST /a?b=1 HTTP/1.1\r\nUser-Agent: x\r\nHost: example.com\r\nContent-Length: 5\r\nX-Mixed: A, b \r\n\r\nhello"[..],
    );
    let mut parsed = parse_request(&mut buffer, &mut Scan::default(), &RequestRules::default()).unwrap().unwrap();
    assert_eq!(parsed.head.path, "/a?b=1");
    assert!(parsed.keep_alive && !parsed.upgrade && !parsed.expect_continue);
    let Decoded::Data(data) = parsed.framing.decode(&mut buffer, &Limits::default()).unwrap() else { panic!() };
    assert_eq!(data, "hello");
    assert!(parsed.framing.is_done() && buffer.is_empty());
    let mut out = BytesMut::new();
    encode_request(&parsed.head, Body::Length(5), &mut out);
    assert_eq!(
        out,
        "POST /a?b=1 HTTP/1.1\r\nhost: example.com\r\nuser-agent: x\r\ncontent-length: 5\r\nx-mixed: A, b\r\n\r\n"
    );
}

#[test]
fn a_response_is_read_and_written() {
    let mut buffer = BytesMut::from(
        &b"HTTP/1.1 200 Fine\r\nTransfer-Encoding: chunked\r\nServer: s\r\n\r\n5;x=y\r\nhello\r\n0\r\nT: 1\r\n\r\n"[..],
    );
    let mut parsed =
        parse_response(&mut buffer, &mut Scan::default(), &Limits::default(), &Method::GET).unwrap().unwrap();
    assert_eq!(parsed.head.status, StatusCode::OK);
    let Decoded::Data(data) = parsed.framing.decode(&mut buffer, &Limits::default()).unwrap() else { panic!() };
    assert_eq!(data, "hello");
    let Decoded::End(trailers) = parsed.framing.decode(&mut buffer, &Limits::default()).unwrap() else { panic!() };
    assert_eq!(trailers.get(&header::HeaderName::from_static("t")).unwrap(), "1");
    let mut out = BytesMut::new();
    encode_response(&parsed.head, Body::Chunked, &mut out);
    let mut writer = BodyWriter::new(Body::Chunked);
    writer.data(b"hello world, hello", &mut out).unwrap();
    writer.end(None, &mut out).unwrap();
    assert_eq!(
        out,
        "HTTP/1.1 200 OK\r\nserver: s\r\ntransfer-encoding: chunked\r\n\r\n12\r\nhello world, hello\r\n0\r\n\r\n"
    );
}
