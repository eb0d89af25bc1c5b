//! gRPC-Web: browsers, over either version of HTTP.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::Request;

use crate::support::filtered::{refuses, start, text};
use crate::support::grpc::{Host, message, over_http2};
use crate::support::http2::{all, connect, run, send_all};
use crate::support::proxy::Proxy;

const FILTERS: &str = "- name: cors\n  typed_config: { \"@type\": type.googleapis.com/envoy.extensions.filters.http.cors.v3.Cors }\n\
                       - name: web\n  typed_config: { \"@type\": type.googleapis.com/envoy.extensions.filters.http.grpc_web.v3.GrpcWeb }\n";
const ROUTES: &str = "- match: { prefix: /nobody }\n  route: { cluster: empty }\n- match: { prefix: / }\n  route: { cluster: origin }\n  typed_per_filter_config:\n    \
                      cors:\n      \"@type\": type.googleapis.com/envoy.extensions.filters.http.cors.v3.CorsPolicy\n      \
                      allow_origin_string_match: [{ exact: \"https://app\" }]\n";
const TEXT: &str = "application/grpc-web-text";

fn proxy(host: &Host) -> Proxy {
    start(over_http2(&text("", FILTERS, ROUTES, &[("origin", host.address)])))
}

fn post(path: &str, kind: &str) -> Request<()> {
    let request = Request::post(format!("http://test{path}"));
    request.header("content-type", kind).header("accept", kind).header("origin", "https://app").body(()).unwrap()
}

fn trailers(text: &str) -> Vec<u8> {
    let mut frame = message(text).to_vec();
    frame[0] = 0x80;
    frame
}

#[test]
fn text_is_a_stream_both_ways_however_it_is_cut() {
    let host = Host::start();
    let proxy = proxy(&host);
    run(async {
        let (send, _) = connect(proxy.address).await;
        let (response, mut stream) = send.ready().await.unwrap().send_request(post("/a.B/Echo", TEXT), false).unwrap();
        let one = STANDARD.encode(message("one"));
        let (begin, end) = one.as_bytes().split_at(5);
        send_all(&mut stream, Bytes::copy_from_slice(begin), false).await.unwrap();
        let response = response.await.unwrap();
        assert_eq!(response.headers()["content-type"], "application/grpc-web-text+proto");
        assert_eq!(response.headers()["access-control-allow-origin"], "https://app");
        let mut body = response.into_body();
        // The first message comes back before there is another.
        send_all(&mut stream, Bytes::copy_from_slice(end), false).await.unwrap();
        let mut came = Vec::new();
        while came.len() < one.len() {
            came.extend_from_slice(&body.data().await.unwrap().unwrap());
        }
        assert_eq!(came, one.as_bytes());
        let two = STANDARD.encode(message("second"));
        send_all(&mut stream, two.clone().into(), true).await.unwrap();
        let (rest, http_trailers) = all(&mut body).await.unwrap();
        let expected = two + &STANDARD.encode(trailers("grpc-status:0\r\n"));
        assert_eq!((std::str::from_utf8(&rest).unwrap(), http_trailers.len()), (&*expected, 0));
    });
    assert_eq!(proxy.counter("cluster.origin.grpc-web.a.B.Echo.success"), 1);
}

#[test]
fn over_http1_a_body_in_chunks_becomes_a_call() {
    let host = Host::start();
    let proxy = proxy(&host);
    let mut client = proxy.connect();
    let mut asked = String::from(
        "POST /a.B/Echo HTTP/1.1\r\nhost: a\r\ncontent-type: application/grpc-web-text\r\ntransfer-encoding: chunked\r\n\r\n",
    );
    for letter in STANDARD.encode(message("hello")).chars() {
        asked += &format!("1\r\n{letter}\r\n");
    }
    client.send(asked + "0\r\n\r\n");
    let response = client.response();
    assert_eq!(response.header("content-type"), Some("application/grpc-web+proto"));
    assert_eq!(response.body, [&message("hello")[..], &trailers("grpc-status:0\r\n")].concat());
    // The connection goes on.
    client.send(
        "POST /a.B/Status7 HTTP/1.1\r\nhost: a\r\ncontent-type: application/grpc-web\r\ncontent-length: 0\r\n\r\n",
    );
    let response = client.response();
    assert_eq!((response.status(), response.header("grpc-status"), response.body.len()), (200, Some("7"), 0));
    assert_eq!(proxy.counter("cluster.origin.grpc-web.a.B.Status7.7"), 1);
}

#[test]
fn what_is_no_grpc_is_told_in_the_head_and_no_more_of_it_than_a_head_holds() {
    let host = Host::start();
    let proxy = proxy(&host);
    let mut client = proxy.connect();
    let mut ask = |path: &str| {
        client.send(format!(
            "POST {path} HTTP/1.1\r\nhost: a\r\ncontent-type: application/grpc-web\r\ncontent-length: 0\r\n\r\n"
        ));
        client.response()
    };
    let page = ask("/a.B/Html");
    assert_eq!((page.status(), page.header("grpc-status"), page.body.len()), (502, Some("14"), 0));
    assert_eq!(page.header("grpc-message").map(str::len), Some(16 * 1024));
    let nobody = ask("/nobody.S/M");
    assert_eq!((nobody.status(), nobody.header("grpc-status")), (503, Some("14")));
    assert_eq!(nobody.header("grpc-message"), Some("no healthy upstream"));
    assert_eq!(proxy.counter("cluster.empty.upstream_rq_503"), 1);
}

#[test]
fn what_is_no_base64_is_refused_and_nothing_else_disturbed() {
    let host = Host::start();
    let proxy = proxy(&host);
    for body in ["AAA!", "AAAAAAA", "A===", "AAAAAANhYmM=\r\n"] {
        let mut client = proxy.connect();
        let length = body.len();
        client.send(format!(
            "POST /a.B/Waits HTTP/1.1\r\nhost: a\r\ncontent-type: {TEXT}\r\ncontent-length: {length}\r\n\r\n{body}"
        ));
        let response = client.response();
        assert_eq!((response.status(), response.header("grpc-status")), (400, Some("13")), "{body}");
        assert_eq!(response.header("grpc-message"), Some("Bad gRPC-web request, invalid base64 data."));
    }
    assert_eq!(proxy.counter("cluster.origin.upstream_rq_400"), 0);
    run(async {
        let (send, _) = connect(proxy.address).await;
        let (response, mut stream) = send.ready().await.unwrap().send_request(post("/a.B/Echo", TEXT), false).unwrap();
        send_all(&mut stream, STANDARD.encode(message("x")).into(), true).await.unwrap();
        assert_eq!(response.await.unwrap().status(), 200);
    });
}

#[test]
fn settings_that_cannot_be_are_refused_where_they_stand() {
    let filters = FILTERS.replace("GrpcWeb }", "GrpcWeb, text: true }");
    refuses(
        text("", &filters, ROUTES, &[("origin", "127.0.0.1:1".parse().unwrap())]),
        "http_filters[1].typed_config.text",
    );
}
