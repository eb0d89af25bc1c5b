//! Decompression, from the text of a configuration to what clients and hosts see.

use async_compression::tokio::write::{BrotliEncoder, GzipEncoder, ZstdEncoder};
use tokio::io::AsyncWriteExt;

use crate::support::client::Client;
use crate::support::filtered::{refuses, start, text};
use crate::support::http2;
use crate::support::origin::{Origin, ok};
use crate::support::proxy::Proxy;

const FILTER: &str = "type.googleapis.com/envoy.extensions.filters.http.decompressor.v3.Decompressor";
const TO_ORIGIN: &str = "- match: { prefix: / }\n  route: { cluster: origin }\n";
const HELLO: &str = "hello hello hello hello hello hello";
const KINDS: [(&str, &str); 3] = [("Gzip", "gzip"), ("Brotli", "br"), ("Zstd", "zstd")];

fn filter(kind: &str, settings: &str) -> String {
    let folder = kind.to_lowercase();
    format!(
        "- name: a\n  typed_config:\n    \"@type\": {FILTER}\n    decompressor_library: {{ name: lib, typed_config: {{ \
         \"@type\": type.googleapis.com/envoy.extensions.compression.{folder}.decompressor.v3.{kind} }} }}\n    {settings}\n"
    )
}

fn encoded(encoding: &str, body: &[u8]) -> Vec<u8> {
    macro_rules! with {
        ($encoder:ident) => {
            http2::run(async {
                let mut encoder = $encoder::new(Vec::new());
                encoder.write_all(body).await.unwrap();
                encoder.shutdown().await.unwrap();
                encoder.into_inner()
            })
        };
    }
    match encoding {
        "gzip" => with!(GzipEncoder),
        "br" => with!(BrotliEncoder),
        "zstd" => with!(ZstdEncoder),
        other => panic!("{other}"),
    }
}

fn post(client: &mut Client, encoding: &str, body: &[u8]) {
    let length = body.len();
    client.send(format!(
        "POST / HTTP/1.1\r\nhost: a\r\ncontent-encoding: {encoding}\r\ncontent-length: {length}\r\n\r\n"
    ));
    client.send(body);
}

/// Says how the request came.
fn echo() -> Origin {
    Origin::http(|request| {
        let shown = |name: &str| request.header(name).unwrap_or("-").to_owned();
        let text = String::from_utf8_lossy(&request.body).into_owned();
        ok(&[shown("content-encoding"), shown("content-length"), shown("accept-encoding"), text].join("|"))
    })
}

fn counted(proxy: &Proxy, name: &str) -> u64 {
    proxy.counter(&format!("http.test.decompressor.lib.{name}"))
}

#[test]
fn requests_go_on_as_they_were() {
    let origin = echo();
    for (kind, encoding) in KINDS {
        let proxy = start(text("", &filter(kind, ""), TO_ORIGIN, &[("origin", origin.address)]));
        let mut client = proxy.connect();
        let coded = encoded(encoding, HELLO.as_bytes());
        post(&mut client, encoding, &coded);
        assert_eq!(client.response().text(), format!("-|-|{encoding}|{HELLO}"));
        // The last of several codings is undone, another is none of the filter's.
        post(&mut client, &format!("identity, {encoding}"), &coded);
        assert_eq!(client.response().text(), format!("identity|-|{encoding}|{HELLO}"));
        post(&mut client, "deflate", HELLO.as_bytes());
        assert_eq!(client.response().text(), format!("deflate|{}|{encoding}|{HELLO}", HELLO.len()));
        client.send("GET / HTTP/1.1\r\nhost: a\r\naccept-encoding: deflate\r\n\r\n");
        assert_eq!(client.response().text(), format!("-|-|deflate,{encoding}|"));
        let stats = kind.to_lowercase();
        assert_eq!(counted(&proxy, &format!("{stats}.request.decompressed")), 2);
        assert_eq!(
            counted(&proxy, &format!("{stats}.request.not_decompressed")),
            1,
            "what has no body is none of its business"
        );
        assert_eq!(counted(&proxy, &format!("{stats}.request.total_uncompressed_bytes")), 2 * HELLO.len() as u64);
        assert_eq!(counted(&proxy, &format!("{stats}.response.not_decompressed")), 4);
    }
}

#[test]
fn responses_come_as_they_were_over_both_protocols() {
    for (kind, encoding) in KINDS {
        let coded = encoded(encoding, HELLO.as_bytes());
        let origin = Origin::http(move |request| {
            let fixed = if request.path() == "/fixed" { "cache-control: no-transform\r\n" } else { "" };
            let length = coded.len();
            let head =
                format!("HTTP/1.1 200 OK\r\n{fixed}content-encoding: {encoding}\r\ncontent-length: {length}\r\n\r\n");
            [head.as_bytes(), &coded].concat()
        });
        let proxy = start(text("", &filter(kind, ""), TO_ORIGIN, &[("origin", origin.address)]));
        let mut client = proxy.connect();
        let response = client.get("/");
        assert_eq!((response.text(), response.header("content-encoding")), (HELLO, None));
        assert_eq!(client.get("/fixed").header("content-encoding"), Some(encoding));
        let (status, body) = http2::run(async {
            let (send, _) = http2::connect(proxy.address).await;
            http2::ask(&send, "/").await.unwrap()
        });
        assert_eq!((status, &*body), (200, HELLO.as_bytes()));
        let eager = filter(kind, "response_direction_config: { common_config: { ignore_no_transform_header: true } }");
        let proxy = start(text("", &eager, TO_ORIGIN, &[("origin", origin.address)]));
        assert_eq!(proxy.connect().get("/fixed").text(), HELLO);
        let off = filter(
            kind,
            "response_direction_config: { common_config: { enabled: { default_value: false, runtime_key: x } } }",
        );
        let proxy = start(text("", &off, TO_ORIGIN, &[("origin", origin.address)]));
        assert_eq!(proxy.connect().get("/").header("content-encoding"), Some(encoding));
    }
}

#[test]
fn what_is_not_what_it_says_is_refused_and_nothing_else_disturbed() {
    let origin = echo();
    for (kind, encoding) in KINDS {
        let proxy = start(text("", &filter(kind, ""), TO_ORIGIN, &[("origin", origin.address)]));
        let whole = encoded(encoding, HELLO.repeat(100).as_bytes());
        for broken in [&b"this is no compressed text at all"[..], &whole[..whole.len() / 2]] {
            let mut client = proxy.connect();
            post(&mut client, encoding, broken);
            assert_eq!(client.response().status(), 400, "{kind}");
        }
        let mut client = proxy.connect();
        post(&mut client, encoding, &whole);
        assert_eq!(client.response().status(), 200);
    }
}

#[test]
fn a_bomb_is_cut_and_a_long_body_is_not() {
    let long = vec![b'a'; 8_000_000];
    let size = long.len();
    let sizes = Origin::http(|request| ok(&request.body.len().to_string()));
    let bomb = encoded("gzip", &long);
    let clusters = [("origin", sizes.address)];
    let proxy = start(text("", &filter("Gzip", ""), TO_ORIGIN, &clusters));
    let mut client = proxy.connect();
    post(&mut client, "gzip", &bomb);
    assert_eq!(client.response().status(), 400, "a thousand times what came");
    let generous = filter("Gzip", "").replace("v3.Gzip }", "v3.Gzip, max_inflate_ratio: 1032 }");
    for (filter, encoding) in [(generous, "gzip"), (filter("Brotli", ""), "br"), (filter("Zstd", ""), "zstd")] {
        let proxy = start(text("", &filter, TO_ORIGIN, &clusters));
        let mut client = proxy.connect();
        post(&mut client, encoding, &encoded(encoding, &long));
        assert_eq!(client.response().text(), size.to_string(), "{encoding}");
    }
}

#[test]
fn faults_have_their_place() {
    let place = "http_filters[0].typed_config.decompressor_library";
    let other = filter("Gzip", "").replace("decompressor.v3.Gzip", "compressor.v3.Gzip");
    let zero = filter("Gzip", "").replace("v3.Gzip }", "v3.Gzip, max_inflate_ratio: 0 }");
    for (filters, fault) in [
        (other, ".typed_config: `envoy.extensions.compression.gzip.compressor.v3.Gzip` is no decompressor library"),
        (zero, ".typed_config.max_inflate_ratio: "),
        (format!("- name: a\n  typed_config: {{ \"@type\": {FILTER} }}\n"), ": "),
    ] {
        refuses(text("", &filters, TO_ORIGIN, &[("origin", ([127, 0, 0, 1], 1).into())]), &format!("{place}{fault}"));
    }
}
