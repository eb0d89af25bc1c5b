//! What replies of ours look like: as the operator wants them, and as gRPC clients understand them.

use crate::support::http2;
use crate::support::models::*;
use crate::support::origin::Origin;
use crate::support::proxy::Proxy;
use crate::support::wire::Message;

fn proxy(text: &str) -> (Proxy, Origin) {
    let origin = Origin::text("fine");
    let routes = vec![direct("/none", 403, "no"), route("/up", "origin"), route("/lost", "absent")];
    (Proxy::start(configured(text, routes), vec![cluster("origin", &[origin.address])]), origin)
}

const MAPPED: &str = r#"
          local_reply_config:
            mappers:
            - filter: { status_code_filter: { comparison: { op: EQ, value: { default_value: 404, runtime_key: k } } } }
              status_code: 410
              body: { inline_string: gone }
              headers_to_add:
              - header: { key: x-was, value: "%RESPONSE_CODE% %REQ(:path)%" }
            - filter: { header_filter: { header: { name: accept, string_match: { exact: text/css } } } }
              body_format_override:
                text_format_source: { inline_string: "/* %LOCAL_REPLY_BODY% */" }
                content_type: text/css
            body_format:
              json_format: { text: "%LOCAL_REPLY_BODY%", status: "%RESPONSE_CODE%", why: "%RESPONSE_CODE_DETAILS%" }
"#;

#[track_caller]
fn is(reply: &Message, status: u16, content_type: Option<&str>, body: &str) {
    assert_eq!((reply.status(), reply.header("content-type"), reply.text()), (status, content_type, body));
}

#[test]
fn replies_look_as_the_operator_wants_them() {
    let (proxy, _origin) = proxy(MAPPED);
    let mut client = proxy.connect();
    let json = Some("application/json");
    let gone = client.get("/nothing");
    is(&gone, 410, json, "{\"status\":410,\"text\":\"gone\",\"why\":\"route_not_found\"}\n");
    assert_eq!(gone.header("x-was"), Some("404 /nothing"));
    is(&client.get("/none"), 403, json, "{\"status\":403,\"text\":\"no\",\"why\":\"direct_response\"}\n");
    is(&client.get("/lost"), 503, json, "{\"status\":503,\"text\":\"\",\"why\":\"cluster_not_found\"}\n");
    client.send("GET /none HTTP/1.1\r\nhost: a\r\naccept: text/css\r\n\r\n");
    is(&client.response(), 403, Some("text/css"), "/* no */");
    is(&client.get("/up"), 200, None, "fine");
    client.send("HEAD /none HTTP/1.1\r\nhost: a\r\n\r\n");
    let length = "{\"status\":403,\"text\":\"no\",\"why\":\"direct_response\"}\n".len().to_string();
    assert_eq!(client.head().header("content-length"), Some(&*length));
    client.send("GET /none HTTP/1.1\r\nhost a\r\n\r\n");
    let bad = client.response();
    is(&bad, 400, json, "{\"status\":400,\"text\":\"Bad Request\",\"why\":\"http1.codec_error\"}\n");
    assert_eq!(bad.header("connection"), Some("close"));
    client.assert_closed();
}

#[test]
fn a_grpc_client_is_told_in_its_way() {
    let (plain, _one) = proxy("");
    let (mapped, _two) = proxy(MAPPED);
    let ask = |proxy: &Proxy, path: &str| {
        let mut client = proxy.connect();
        client.send(format!(
            "POST {path} HTTP/1.1\r\nhost: a\r\ncontent-type: application/grpc\r\ncontent-length: 0\r\n\r\n"
        ));
        let reply = client.response();
        client.assert_open();
        assert_eq!((reply.status(), reply.text()), (200, ""), "{path}");
        assert_eq!(reply.header("content-type"), Some("application/grpc"));
        (reply.header("grpc-status").map(str::to_owned), reply.header("grpc-message").map(str::to_owned))
    };
    let some = |text: &str| Some(text.to_owned());
    assert_eq!(ask(&plain, "/none"), (some("7"), some("no")));
    assert_eq!(ask(&plain, "/nothing"), (some("12"), None));
    assert_eq!(ask(&plain, "/lost"), (some("14"), None));
    let message = "{\"status\":410,\"text\":\"gone\",\"why\":\"route_not_found\"}";
    assert_eq!(ask(&mapped, "/nothing"), (some("2"), some(message)));
}

#[test]
fn over_http2_a_grpc_reply_is_its_trailers_alone() {
    let (proxy, _origin) = proxy(MAPPED);
    http2::run(async {
        let (send, connection) = http2::connect(proxy.address).await;
        let mut request = http2::post("/none");
        request.headers_mut().insert("content-type", "application/grpc".parse().unwrap());
        let (response, _) = send.clone().ready().await.unwrap().send_request(request, true).unwrap();
        let response = response.await.unwrap();
        assert!(response.body().is_end_stream());
        assert_eq!((response.status().as_u16(), &response.headers()["grpc-status"]), (200, &"7".parse().unwrap()));
        let (status, body) = http2::ask(&send, "/none").await.unwrap();
        assert_eq!((status, &*body), (403, &b"{\"status\":403,\"text\":\"no\",\"why\":\"direct_response\"}\n"[..]));
        connection.abort();
    });
}
