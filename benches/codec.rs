//! What a request costs between the socket and the socket: read its head, apply the header rules, write it.

#![allow(clippy::panic, reason = "a benchmark that cannot begin has nothing else to say")]

use std::hint::black_box;
use std::net::IpAddr;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use heirloom::codec::http1::{
    Body, BodyWriter, Decoded, Framing, Limits, RequestRules, Scan, encode_request, encode_response, parse_request,
    parse_response,
};
use heirloom::config::model::HttpConnectionManager;
use heirloom::http::headers::{
    ConnectionFacts, DateCache, Ids, ResponseFacts, Rules, announce_service_time, announce_timeout, prepare_request,
    prepare_response,
};
use http::Method;

/// What a browser sends: ten headers.
const REQUEST: &[u8] = b"GET /service/items?id=12345&sort=name HTTP/1.1\r\nHost: www.example.com\r\n\
    User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0\r\n\
    Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8\r\nAccept-Language: en-US,en;q=0.5\r\n\
    Accept-Encoding: gzip, deflate, br, zstd\r\nConnection: keep-alive\r\nCookie: session=0123456789abcdef\r\n\
    Referer: https://www.example.com/\r\nCache-Control: max-age=0\r\nX-Custom-Header: some value\r\n\r\n";

const RESPONSE: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 1024\r\n\
    Cache-Control: no-cache\r\nETag: \"0123456789\"\r\nVary: accept-encoding\r\nX-Custom-Header: some value\r\n\r\n";

fn manager() -> HttpConnectionManager {
    HttpConnectionManager { stat_prefix: "h".into(), use_remote_address: true, ..HttpConnectionManager::default() }
}

fn filled(text: &[u8]) -> BytesMut {
    let mut buffer = BytesMut::with_capacity(16 * 1024);
    buffer.extend_from_slice(text);
    buffer
}

fn requests(criterion: &mut Criterion) {
    let rules = RequestRules::default();
    let header_rules = Rules::compile(&manager()).unwrap_or_else(|error| panic!("{error}"));
    let connection = ConnectionFacts {
        upgrade: false,
        mutual: false,
        local_port: Some(10000),
        peer: Some(IpAddr::from([203, 0, 113, 9])),
        own_address: Some(IpAddr::from([192, 0, 2, 1])),
        tls: false,
    };
    let parse = |mut buffer: BytesMut| match parse_request(&mut buffer, &mut Scan::default(), &rules) {
        Ok(Some(parsed)) => (parsed, buffer),
        other => panic!("{other:?}"),
    };
    let mut group = criterion.benchmark_group("request");
    group.throughput(Throughput::Bytes(REQUEST.len() as u64));
    group.bench_function("parse", |b| b.iter_batched(|| filled(REQUEST), parse, BatchSize::SmallInput));
    let (parsed, _) = parse(filled(REQUEST));
    let mut ids = Ids::random();
    group.bench_function("prepare", |b| {
        b.iter_batched(
            || parsed.head.clone(),
            |mut head| {
                let client = prepare_request(&mut head, &header_rules, &connection, &mut ids);
                announce_timeout(&mut head.headers, Duration::from_secs(15));
                (client, head)
            },
            BatchSize::SmallInput,
        );
    });
    let mut out = BytesMut::with_capacity(4096);
    group.bench_function("encode", |b| {
        b.iter(|| {
            out.clear();
            encode_request(black_box(&parsed.head), Body::Empty, &mut out);
        });
    });
    group.bench_function("all", |b| {
        b.iter_batched(
            || filled(REQUEST),
            |buffer| {
                let (mut parsed, buffer) = parse(buffer);
                let client = prepare_request(&mut parsed.head, &header_rules, &connection, &mut ids);
                announce_timeout(&mut parsed.head.headers, Duration::from_secs(15));
                out.clear();
                encode_request(&parsed.head, Body::Empty, &mut out);
                (client.is_ok(), parsed, buffer)
            },
            BatchSize::SmallInput,
        );
    });
    // As a connection does it: one buffer for all its requests.
    let mut buffer = BytesMut::with_capacity(16 * 1024);
    group.bench_function("keep-alive", |b| {
        b.iter(|| {
            buffer.reserve(4096);
            buffer.extend_from_slice(REQUEST);
            let Ok(Some(mut parsed)) = parse_request(&mut buffer, &mut Scan::default(), &rules) else { return };
            let client = prepare_request(&mut parsed.head, &header_rules, &connection, &mut ids);
            announce_timeout(&mut parsed.head.headers, Duration::from_secs(15));
            out.clear();
            encode_request(&parsed.head, Body::Empty, &mut out);
            black_box((client.is_ok(), &out));
        });
    });
    group.finish();
}

fn responses(criterion: &mut Criterion) {
    let header_rules = Rules::compile(&manager()).unwrap_or_else(|error| panic!("{error}"));
    let request = heirloom::codec::Headers::new();
    let mut dates = DateCache::default();
    let mut group = criterion.benchmark_group("response");
    group.throughput(Throughput::Bytes(RESPONSE.len() as u64));
    let mut buffer = BytesMut::with_capacity(16 * 1024);
    let mut out = BytesMut::with_capacity(4096);
    group.bench_function("keep-alive", |b| {
        b.iter(|| {
            buffer.reserve(4096);
            buffer.extend_from_slice(RESPONSE);
            let parsed = parse_response(
                &mut buffer,
                &mut Scan::default(),
                &Limits::default(),
                &Method::GET,
                heirloom::codec::http1::ResponseRules::default(),
            );
            let Ok(Some(mut parsed)) = parsed else { return };
            announce_service_time(&mut parsed.head.headers, Duration::from_millis(12));
            let date = dates.value(std::time::UNIX_EPOCH + Duration::from_secs(1_700_000_000));
            let facts = ResponseFacts { request: &request, date, upgrade: false };
            prepare_response(&mut parsed.head, &header_rules, &facts);
            out.clear();
            encode_response(&parsed.head, Body::Length(1024), &mut out);
            black_box(&out);
        });
    });
    group.finish();
}

fn bodies(criterion: &mut Criterion) {
    let data = Bytes::from(vec![b'x'; 16 * 1024]);
    let mut text = BytesMut::new();
    let mut writer = BodyWriter::new(Body::Chunked);
    for piece in data.chunks(1024) {
        let _ = writer.data(piece, &mut text);
    }
    let _ = writer.end(None, &mut text);
    let mut group = criterion.benchmark_group("body");
    group.throughput(Throughput::Bytes(data.len() as u64));
    group.bench_function("16 chunks of 1 KiB", |b| {
        b.iter_batched(
            || BytesMut::from(&text[..]),
            |mut buffer| {
                let mut framing = Framing::chunked();
                while let Ok(Decoded::Data(data)) = framing.decode(&mut buffer, &Limits::default()) {
                    black_box(data);
                }
                framing
            },
            BatchSize::SmallInput,
        );
    });
    group.finish();
}

criterion_group!(benches, requests, responses, bodies);
criterion_main!(benches);
