//! Compression, from the text of a configuration to what clients and hosts see.

use std::io::Write;
use std::sync::Arc;

use async_compression::tokio::write::{BrotliDecoder, GzipDecoder, ZstdDecoder};
use tokio::io::AsyncWriteExt;

use crate::support::filtered::{read, refuses, start, text};
use crate::support::http2;
use crate::support::origin::{Origin, ok};
use crate::support::proxy::Proxy;
use crate::support::wire::Message;

const FILTER: &str = "type.googleapis.com/envoy.extensions.filters.http.compressor.v3.Compressor";
const TO_ORIGIN: &str = "- match: { prefix: / }\n  route: { cluster: origin }\n";
const HELLO: &str = "hello hello hello hello hello hello";

fn filter(name: &str, kind: &str, settings: &str) -> String {
    let folder = kind.to_lowercase();
    format!(
        "- name: {name}\n  typed_config:\n    \"@type\": {FILTER}\n    compressor_library: {{ name: lib, typed_config: {{ \
         \"@type\": type.googleapis.com/envoy.extensions.compression.{folder}.compressor.v3.{kind} }} }}\n    {settings}\n"
    )
}

fn decoded(encoding: Option<&str>, body: &[u8]) -> Vec<u8> {
    macro_rules! with {
        ($decoder:ident) => {
            http2::run(async {
                let mut decoder = $decoder::new(Vec::new());
                decoder.write_all(body).await.unwrap();
                decoder.shutdown().await.unwrap();
                decoder.into_inner()
            })
        };
    }
    match encoding {
        Some("gzip") => with!(GzipDecoder),
        Some("br") => with!(BrotliDecoder),
        Some("zstd") => with!(ZstdDecoder),
        other => panic!("{other:?}"),
    }
}

/// A host whose response has these further headers.
fn host(headers: &'static str) -> Origin {
    Origin::http(move |_| {
        let length = HELLO.len();
        format!("HTTP/1.1 200 OK\r\n{headers}content-length: {length}\r\n\r\n{HELLO}").into_bytes()
    })
}

fn ask(proxy: &Proxy, accepts: &str) -> Message {
    let mut client = proxy.connect();
    client.send(format!("GET / HTTP/1.1\r\nhost: a\r\n{accepts}\r\n"));
    client.response()
}

#[test]
fn a_response_is_what_the_client_prefers() {
    let origin = host("etag: \"strong\"\r\nvary: origin\r\ncontent-type: text/plain; charset=utf-8\r\n");
    let filters =
        filter("a", "Gzip", "") + &filter("b", "Brotli", "") + &filter("c", "Zstd", "response_direction_config: {}");
    let proxy = start(text("", &filters, TO_ORIGIN, &[("origin", origin.address)]));
    for (accepts, encoding) in
        [("gzip", "gzip"), ("br", "br"), ("zstd", "zstd"), ("gzip;q=0.1, zstd;q=0.8, br;q=0.2", "zstd"), ("*", "gzip")]
    {
        let response = ask(&proxy, &format!("accept-encoding: {accepts}\r\n"));
        assert_eq!(response.header("content-encoding"), Some(encoding), "{accepts}");
        assert_eq!(decoded(Some(encoding), &response.body), HELLO.as_bytes());
        assert_eq!((response.header("content-length"), response.header("etag")), (None, None));
        assert_eq!(response.header("vary"), Some("origin, Accept-Encoding"));
    }
    for accepts in ["", "accept-encoding: identity\r\n", "accept-encoding: deflate, gzip;q=0\r\n"] {
        let response = ask(&proxy, accepts);
        assert_eq!((response.text(), response.header("content-encoding")), (HELLO, None));
        assert_eq!(response.header("etag"), Some("\"strong\""));
        assert_eq!(response.header("vary"), Some("origin, Accept-Encoding"), "caches must know all the same");
    }
    for (name, value) in [
        ("gzip.compressed", 2),
        ("gzip.not_compressed", 6),
        ("gzip.request.not_compressed", 8),
        ("gzip.no_accept_header", 1),
        ("gzip.header_identity", 1),
        ("gzip.header_not_valid", 1),
        ("gzip.header_wildcard", 1),
        ("gzip.header_compressor_used", 1),
        ("gzip.header_compressor_overshadowed", 3),
        ("gzip.total_uncompressed_bytes", 2 * HELLO.len() as u64),
        ("brotli.compressed", 1),
        ("zstd.response.compressed", 2),
    ] {
        assert_eq!(proxy.counter(&format!("http.test.compressor.lib.{name}")), value, "{name}");
    }
    let (status, body) = http2::run(async {
        let (send, _) = http2::connect(proxy.address).await;
        let mut request = http2::get("/");
        request.headers_mut().insert("accept-encoding", "br".parse().unwrap());
        let response = send.ready().await.unwrap().send_request(request, true).unwrap().0.await.unwrap();
        assert_eq!(response.headers()["content-encoding"], "br");
        (response.status(), http2::all(&mut response.into_body()).await.unwrap().0)
    });
    assert_eq!((status.as_u16(), decoded(Some("br"), &body)), (200, HELLO.as_bytes().to_vec()));
}

#[test]
fn a_grpc_client_is_told_in_its_own_words() {
    let routes = format!(
        "- match: {{ prefix: / }}\n  direct_response: {{ status: 503, body: {{ inline_string: \"{HELLO}\" }} }}\n"
    );
    let proxy = start(text("", &filter("a", "Gzip", ""), &routes, &[]));
    let grpc = ask(&proxy, "content-type: application/grpc\r\naccept-encoding: gzip\r\n");
    assert_eq!((grpc.header("grpc-status"), grpc.header("content-encoding")), (Some("14"), None));
    assert_eq!(grpc.header("grpc-message"), Some(HELLO));
    assert_eq!(ask(&proxy, "accept-encoding: gzip\r\n").header("content-encoding"), Some("gzip"));
}

#[test]
fn what_should_not_be_compressed_is_not() {
    let settings = |more: &str| filter("a", "Gzip", &format!("response_direction_config: {{ {more} }}"));
    for (headers, more, compressed) in [
        ("", "", true),
        ("content-type: text/html\r\n", "", true),
        ("content-type: image/png\r\n", "", false),
        ("content-type: image/png\r\n", "common_config: { content_type_matcher: [{ prefix: image/ }] }", true),
        ("content-type: text/html\r\n", "common_config: { content_type_matcher: [{ prefix: image/ }] }", false),
        ("content-encoding: br\r\n", "", false),
        ("cache-control: public, No-Transform\r\n", "", false),
        ("", "common_config: { min_content_length: 36 }", false),
        ("", "common_config: { min_content_length: 35 }", true),
        ("", "common_config: { enabled: { default_value: false, runtime_key: x } }", false),
        ("etag: W/\"a\"\r\n", "disable_on_etag_header: true", false),
        ("etag: W/\"a\"\r\n", "", true),
        ("", "uncompressible_response_codes: [200]", false),
    ] {
        let origin = host(headers);
        let proxy = start(text("", &settings(more), TO_ORIGIN, &[("origin", origin.address)]));
        let response = ask(&proxy, "accept-encoding: gzip\r\n");
        assert_eq!(response.header("content-length").is_none(), compressed, "{headers}{more}");
        if compressed {
            assert_eq!(decoded(response.header("content-encoding"), &response.body), HELLO.as_bytes());
        } else {
            assert_eq!(response.text(), HELLO);
        }
    }
    let origin = host("etag: \"a\"\r\n");
    let proxy = start(text("", &settings("weaken_etag_on_compress: true"), TO_ORIGIN, &[("origin", origin.address)]));
    assert_eq!(ask(&proxy, "accept-encoding: gzip\r\n").header("etag"), Some("W/\"a\""));
    let mut client = proxy.connect();
    client.send("HEAD / HTTP/1.1\r\nhost: a\r\naccept-encoding: gzip\r\n\r\n");
    assert_eq!(client.head().header("content-encoding"), None);
}

#[test]
fn routes_may_have_it_otherwise() {
    let origin = Origin::http(|request| ok(&format!("{HELLO} {}", request.header("accept-encoding").unwrap_or("-"))));
    let per_route = format!("\"@type\": {FILTER}PerRoute");
    let routes = format!(
        "- match: {{ prefix: /off }}\n  route: {{ cluster: origin }}\n  typed_per_filter_config: {{ a: {{ {per_route}, disabled: \
         true }} }}\n- match: {{ prefix: /keep }}\n  route: {{ cluster: origin }}\n  typed_per_filter_config: {{ a: {{ {per_route}, \
         overrides: {{ response_direction_config: {{ remove_accept_encoding_header: false }} }} }} }}\n{TO_ORIGIN}"
    );
    let filters = filter("a", "Gzip", "response_direction_config: { remove_accept_encoding_header: true }");
    let proxy = start(text("", &filters, &routes, &[("origin", origin.address)]));
    let mut client = proxy.connect();
    let mut ask = |path: &str| {
        client.send(format!("GET {path} HTTP/1.1\r\nhost: a\r\naccept-encoding: gzip\r\n\r\n"));
        client.response()
    };
    assert_eq!(ask("/off").text(), format!("{HELLO} gzip"));
    assert_eq!(decoded(Some("gzip"), &ask("/keep").body), format!("{HELLO} gzip").into_bytes());
    assert_eq!(decoded(Some("gzip"), &ask("/").body), format!("{HELLO} -").into_bytes());
}

#[test]
fn a_stream_stays_one() {
    let (go_on, may_go_on) = std::sync::mpsc::channel::<()>();
    let may_go_on = std::sync::Mutex::new(may_go_on);
    let origin = Origin::raw(move |_, mut wire| {
        wire.head().unwrap();
        wire.socket.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\none\n\r\n").unwrap();
        may_go_on.lock().unwrap().recv().unwrap();
        wire.socket.write_all(b"4\r\ntwo\n\r\n0\r\n\r\n").unwrap();
    });
    for kind in ["Gzip", "Brotli", "Zstd"] {
        let proxy = start(text("", &filter("a", kind, ""), TO_ORIGIN, &[("origin", origin.address)]));
        let mut client = proxy.connect();
        client.send("GET / HTTP/1.1\r\nhost: a\r\naccept-encoding: gzip, br, zstd\r\n\r\n");
        let head = client.head();
        // What came is there before the next is written.
        let mut body = Vec::new();
        let deadline = std::time::Instant::now() + crate::support::PATIENCE;
        while !shows(head.header("content-encoding"), &body, b"one\n") {
            assert!(std::time::Instant::now() < deadline);
            body.extend(client.wire.chunk().unwrap().0);
        }
        go_on.send(()).unwrap();
        loop {
            let (chunk, _) = client.wire.chunk().unwrap();
            if chunk.is_empty() {
                break;
            }
            body.extend(chunk);
        }
        assert_eq!(decoded(head.header("content-encoding"), &body), b"one\ntwo\n");
    }
}

/// Whether the beginning of a stream is enough to see a text.
fn shows(encoding: Option<&str>, body: &[u8], text: &[u8]) -> bool {
    macro_rules! with {
        ($decoder:ident) => {
            http2::run(async {
                let mut decoder = $decoder::new(Vec::new());
                decoder.write_all(body).await.unwrap();
                drop(decoder.flush().await);
                decoder.into_inner()
            })
        };
    }
    let seen: Vec<u8> = match encoding {
        _ if body.is_empty() => return false,
        Some("gzip") => with!(GzipDecoder),
        Some("br") => with!(BrotliDecoder),
        Some("zstd") => with!(ZstdDecoder),
        other => panic!("{other:?}"),
    };
    seen == text
}

#[test]
fn a_long_body_comes_whole_whichever_way_it_goes() {
    // Half of it cannot be compressed, half of it very well.
    let mut state = 1u64;
    let mut noise = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 56) as u8
    };
    let body: Arc<Vec<u8>> =
        Arc::new((0..3_000_000).map(|at| if at % 200_000 < 100_000 { noise() } else { b'a' }).collect());
    let sent = body.clone();
    let origin = Origin::http(move |request| {
        if request.method() == "POST" {
            assert_eq!((request.header("content-encoding"), request.header("content-length")), (Some("gzip"), None));
            return ok(&(decoded(Some("gzip"), &request.body) == *sent).to_string());
        }
        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", sent.len());
        [head.as_bytes(), &sent].concat()
    });
    for (kind, encoding) in [("Gzip", "gzip"), ("Brotli", "br"), ("Zstd", "zstd")] {
        let proxy = start(text("", &filter("a", kind, ""), TO_ORIGIN, &[("origin", origin.address)]));
        let response = ask(&proxy, &format!("accept-encoding: {encoding}\r\n"));
        assert!(response.body.len() < body.len() * 2 / 3);
        assert!(decoded(Some(encoding), &response.body) == *body);
    }
    let proxy =
        start(text("", &filter("a", "Gzip", "request_direction_config: {}"), TO_ORIGIN, &[("origin", origin.address)]));
    let mut client = proxy.connect();
    client.send(format!("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: {}\r\n\r\n", body.len()));
    client.send(&**body);
    assert_eq!(client.response().text(), "true");
    assert_eq!(proxy.counter("http.test.compressor.lib.gzip.request.total_uncompressed_bytes"), body.len() as u64);
}

#[test]
fn faults_have_their_place() {
    let routes = "- match: { prefix: / }\n  direct_response: { status: 200 }\n";
    let place = "http_filters[0].typed_config";
    let library = |text: &str| {
        format!(
            "- name: a\n  typed_config: {{ \"@type\": {FILTER}, compressor_library: {{ name: a, typed_config: {{ {text} }} }} }}\n"
        )
    };
    let of = |kind: &str| format!("\"@type\": type.googleapis.com/envoy.extensions.compression.{kind}");
    for (filters, fault) in [
        (filter("a", "Gzip", "content_length: 3"), "content_length: is deprecated"),
        (
            filter("a", "Gzip", "response_direction_config: { status_header_enabled: true }"),
            "response_direction_config.status_header_enabled: is not supported yet",
        ),
        (
            library(&format!("{}, compression_level: 77", of("zstd.compressor.v3.Zstd"))),
            "compressor_library.typed_config.compression_level: must be from 1 to 22",
        ),
        (
            library(&of("gzip.decompressor.v3.Gzip")),
            "compressor_library.typed_config: `envoy.extensions.compression.gzip.decompressor.v3.Gzip` is no compressor library",
        ),
        (format!("- name: a\n  typed_config: {{ \"@type\": {FILTER} }}\n"), "compressor_library: "),
    ] {
        refuses(text("", &filters, routes, &[]), &format!("{place}.{fault}"));
    }
    let tuned = library(&format!("{}, window_bits: 12", of("gzip.compressor.v3.Gzip")));
    let loaded = read(text("", &tuned, routes, &[])).unwrap_or_else(|faults| panic!("{faults}"));
    assert!(
        loaded
            .warnings
            .iter()
            .any(|warning| warning.to_string().contains("window_bits: is not supported yet and is ignored"))
    );
}
