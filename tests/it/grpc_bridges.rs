//! gRPC for clients of HTTP/1, and to hosts of HTTP/1.

use crate::support::client::Client;
use crate::support::filtered::{refuses, start, text};
use crate::support::grpc::{Host, call, message, over_http2};
use crate::support::http2::{all, connect, run, send_all};
use crate::support::origin::Origin;
use crate::support::proxy::Proxy;
use crate::support::wire::Message;

const TO_ORIGIN: &str = "- match: { prefix: / }\n  route: { cluster: origin }\n";
const BRIDGE: &str = "- name: bridge\n  typed_config:\n    \"@type\": type.googleapis.com/envoy.extensions.filters.http.grpc_http1_bridge.v3.Config\n    \
                      upgrade_protobuf_to_grpc: true\n    ignore_query_parameters: true\n";

fn reverse(settings: &str) -> String {
    format!(
        "- name: reverse\n  typed_config:\n    \"@type\": \
         type.googleapis.com/envoy.extensions.filters.http.grpc_http1_reverse_bridge.v3.FilterConfig\n    {settings}\n"
    )
}

/// Holds no more than this of a message.
fn holding(text: &str, bytes: usize) -> String {
    text.replace(
        "  listeners:\n  - address",
        &format!("  listeners:\n  - per_connection_buffer_limit_bytes: {bytes}\n    address"),
    )
}

fn bridge(host: &Host) -> Proxy {
    start(holding(&over_http2(&text("", BRIDGE, TO_ORIGIN, &[("origin", host.address)])), 50_000))
}

fn post(client: &mut Client, path: &str, kind: &str, body: &[u8]) -> Message {
    let length = body.len();
    client.send(format!("POST {path} HTTP/1.1\r\nhost: a\r\ncontent-type: {kind}\r\ncontent-length: {length}\r\n\r\n"));
    client.send(body);
    client.response()
}

#[test]
fn trailers_become_headers_and_a_failed_call_is_a_503() {
    let host = Host::start();
    let proxy = bridge(&host);
    let mut client = proxy.connect();
    let response = post(&mut client, "/a.B/Echo?query", "application/grpc", &message("hello"));
    assert_eq!((response.status(), response.header("grpc-status")), (200, Some("0")));
    assert_eq!((response.header("content-length"), &response.body[..]), (Some("10"), &message("hello")[..]));
    let response = post(&mut client, "/a.B/Fails", "application/grpc", &message("hello"));
    assert_eq!((response.status(), response.header("grpc-status")), (503, Some("13")));
    // The host said 200.
    assert_eq!(proxy.counter("cluster.origin.upstream_rq_200"), 2);
    assert_eq!(proxy.counter("http.test.downstream_rq_5xx"), 1);
}

#[test]
fn bare_messages_are_calls_and_are_answered_bare() {
    let host = Host::start();
    let proxy = bridge(&host);
    let mut client = proxy.connect();
    let response = post(&mut client, "/a.B/Echo", "application/x-protobuf", b"hello");
    assert_eq!((response.status(), response.header("grpc-status"), response.text()), (200, Some("0"), "hello"));
    // Longer than may be held: its length is known, and it is not held.
    let response = post(&mut client, "/a.B/Fails", "application/x-protobuf", &[b'm'; 60_000]);
    assert_eq!((response.status(), response.header("grpc-status"), response.text()), (503, Some("13"), "half"));
    client.send("POST /a.B/Echo HTTP/1.1\r\nhost: a\r\ncontent-type: application/x-protobuf\r\ntransfer-encoding: chunked\r\n\r\n");
    client.send("2\r\nab\r\n3\r\ncde\r\n0\r\n\r\n");
    assert_eq!(client.response().body, b"abcde");
}

#[test]
fn what_would_have_to_be_held_and_is_too_long_is_refused() {
    let host = Host::start();
    let proxy = bridge(&host);
    let mut client = proxy.connect();
    let response = post(&mut client, "/a.B/Large", "application/grpc", &message("x"));
    assert_eq!((response.status(), response.header("grpc-status")), (200, Some("2")));
    assert_eq!(response.header("grpc-message"), Some("Internal Server Error"));
    assert_eq!(proxy.counter("http.test.rs_too_large"), 1);
    let mut client = proxy.connect();
    client.send("POST /a.B/Echo HTTP/1.1\r\nhost: a\r\ncontent-type: application/x-protobuf\r\ntransfer-encoding: chunked\r\n\r\n");
    client.send(format!("{:x}\r\n{}\r\n", 60_000, "x".repeat(60_000)));
    assert_eq!(client.response().status(), 413);
    assert_eq!(proxy.counter("http.test.downstream_rq_too_large"), 1);
    assert_eq!(post(&mut proxy.connect(), "/a.B/Echo", "application/x-protobuf", b"x").status(), 200);
}

/// A call of one message: status of HTTP, `grpc-status`, and what came.
async fn unary(proxy: &Proxy, path: &str, content: &[u8]) -> (String, String, Vec<u8>) {
    let (send, _) = connect(proxy.address).await;
    let (response, mut stream) = send.ready().await.unwrap().send_request(call(path), false).unwrap();
    let _ = send_all(&mut stream, content.to_vec().into(), true).await;
    let response = response.await.unwrap();
    assert_eq!(
        (response.status().as_u16(), &response.headers()["content-type"]),
        (200, &"application/grpc".parse().unwrap())
    );
    let said = |name: &str, map: &http::HeaderMap| map.get(name).map(|value| value.to_str().unwrap().to_owned());
    let head = response.headers().clone();
    let (data, trailers) = all(&mut response.into_body()).await.unwrap();
    let status = said("grpc-status", &head).or(said("grpc-status", &trailers)).unwrap();
    (status, said("grpc-message", &head).unwrap_or_default(), data.to_vec())
}

/// A host that knows bare messages alone.
fn plain() -> Origin {
    Origin::http(|request| {
        assert_eq!(request.header("content-type"), Some("application/x-protobuf"));
        assert_eq!(request.header("accept"), Some("application/x-protobuf"));
        let (status, kind, size) = match request.path() {
            "/a.B/Missing" => ("404 Not Found", "application/x-protobuf", request.body.len()),
            "/a.B/Html" => ("404 Not Found", "text/html", request.body.len()),
            "/a.B/Lies" => ("200 OK", "application/x-protobuf", request.body.len() + 1),
            _ => ("200 OK", "application/x-protobuf", request.body.len()),
        };
        let length = request.body.len();
        let head =
            format!("HTTP/1.1 {status}\r\ncontent-type: {kind}\r\nx-size: {size}\r\ncontent-length: {length}\r\n\r\n");
        [head.as_bytes(), &request.body].concat()
    })
}

#[test]
fn hosts_that_know_nothing_of_grpc_answer_calls() {
    let origin = plain();
    for size in ["", "response_size_header: x-size"] {
        let settings = format!("content_type: application/x-protobuf\n    withhold_grpc_frames: true\n    {size}");
        let text = text("", &reverse(&settings), TO_ORIGIN, &[("origin", origin.address)]);
        let proxy = start(holding(&text, 20_000));
        run(async {
            let told = |status: &str, said: &str, data: &[u8]| (status.to_owned(), said.to_owned(), data.to_vec());
            assert_eq!(unary(&proxy, "/a.B/C", &message("hello")).await, told("0", "", &message("hello")));
            assert_eq!(unary(&proxy, "/a.B/Missing", &message("x")).await, told("12", "", &message("x")));
            let strange =
                "envoy reverse bridge: upstream responded with unsupported content-type text/html, status code 404";
            assert_eq!(unary(&proxy, "/a.B/Html", &message("x")).await, told("2", strange, b""));
            assert_eq!(unary(&proxy, "/a.B/C", b"\0\0\0").await, told("2", "invalid request body", b""));
            // Where the host says how long it is, nothing is held.
            let long = unary(&proxy, "/a.B/C", &message([b'l'; 30_000])).await;
            if size.is_empty() {
                assert_eq!(long, told("2", "Internal Server Error", b""));
            } else {
                assert_eq!(long.2.len(), 30_005);
                let (send, _) = connect(proxy.address).await;
                let (response, mut stream) =
                    send.ready().await.unwrap().send_request(call("/a.B/Lies"), false).unwrap();
                send_all(&mut stream, message("x"), true).await.unwrap();
                assert!(all(&mut response.await.unwrap().into_body()).await.is_err());
            }
        });
        assert_eq!(proxy.counter("cluster.origin.upstream_rq_404"), 2);
    }
}

#[test]
fn settings_that_cannot_be_are_refused_where_they_stand() {
    let refused = |filters: &str, fault: &str| refuses(text("", filters, TO_ORIGIN, &[]), fault);
    refused(&reverse("withhold_grpc_frames: true"), "typed_config.content_type");
    refused(&reverse("content_type: \"a\\nb\""), "typed_config.content_type");
    refused(&reverse("content_type: a\n    response_size_header: \"a b\""), "typed_config.response_size_header");
    refused(&BRIDGE.replace("upgrade_protobuf_to_grpc", "upgrade"), "typed_config.upgrade");
    let disabled = "- match: { prefix: / }\n  route: { cluster: empty }\n  typed_per_filter_config:\n    reverse: { \"@type\": \
                    type.googleapis.com/envoy.extensions.filters.http.grpc_http1_reverse_bridge.v3.FilterConfigPerRoute, disabled: 1 }\n";
    refuses(text("", &reverse("content_type: a"), disabled, &[]), "disabled");
}
