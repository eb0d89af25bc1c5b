//! The `buffer` filter: a request goes on when all of it is there.

use crate::support::client::Client;
use crate::support::configured::{faults, place, start, text};
use crate::support::http2::{all, connect, post, run};
use crate::support::origin::{Origin, ok};

const FILTER: &str = "
- name: buffer
  typed_config: { \"@\": buffer.v3.Buffer, max_request_bytes: 10 }
";

const HOST: &str = "
routes:
- match: { prefix: /large }
  route: { cluster: origin }
  typed_per_filter_config: { buffer: { \"@\": buffer.v3.BufferPerRoute, buffer: { max_request_bytes: 1000000 } } }
- match: { prefix: /off }
  route: { cluster: origin }
  typed_per_filter_config: { buffer: { \"@\": buffer.v3.BufferPerRoute, disabled: true } }
- match: { prefix: / }
  route: { cluster: origin }
";

/// Answers with the length and the body that it got, and what framed it.
fn origin() -> Origin {
    Origin::http(|request| {
        let of = |name| request.header(name).unwrap_or("-");
        ok(&format!("{} {} {}", of("content-length"), of("transfer-encoding"), request.text()))
    })
}

fn chunked(client: &mut Client, path: &str, body: &str) {
    client.send(format!(
        "POST {path} HTTP/1.1\r\nhost: test\r\ntransfer-encoding: chunked\r\n\r\n{:x}\r\n{body}\r\n0\r\n\r\n",
        body.len()
    ));
}

#[test]
fn a_request_goes_on_when_all_of_it_is_there() {
    let origin = origin();
    let proxy = start(text(FILTER, HOST, origin.address));
    let mut client = proxy.connect();
    assert_eq!(client.get("/").text(), "- - ");
    chunked(&mut client, "/", "0123456789");
    assert_eq!(client.response().text(), "10 - 0123456789", "it goes on with its length");
    chunked(&mut client, "/off", "0123456789a");
    assert_eq!(client.response().text(), "- chunked 0123456789a");
    let large = "x".repeat(100_000);
    chunked(&mut client, "/large", &large);
    assert_eq!(client.response().text(), format!("100000 - {large}"));
    // Half of it is no reason to disturb the host.
    let (connections, requests) = (origin.connections(), origin.requests());
    let mut slow = proxy.connect();
    slow.send("POST / HTTP/1.1\r\nhost: test\r\ncontent-length: 6\r\n\r\nabc");
    slow.assert_open();
    assert_eq!((origin.connections(), origin.requests()), (connections, requests));
    slow.send("def");
    assert_eq!(slow.response().text(), "6 - abcdef");
    // Trailers that are not enabled are gone, and the length is known.
    client
        .send("POST / HTTP/1.1\r\nhost: test\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nx-end: yes\r\n\r\n");
    assert_eq!(client.response().text(), "3 - abc");
}

#[test]
fn a_request_that_is_too_large_is_refused() {
    let origin = origin();
    let proxy = start(text(FILTER, HOST, origin.address));
    let mut client = proxy.connect();
    chunked(&mut client, "/", "0123456789a");
    let response = client.response();
    assert_eq!((response.status(), response.text()), (413, "Payload Too Large"));
    let mut client = proxy.connect();
    client.send("POST / HTTP/1.1\r\nhost: test\r\ncontent-length: 11\r\n\r\n");
    let response = client.response();
    assert_eq!((response.status(), response.header("connection")), (413, Some("close")));
    run(async {
        let (send, _) = connect(proxy.address).await;
        let (response, mut body) = send.clone().ready().await.unwrap().send_request(post("/"), false).unwrap();
        body.send_data("0123456789a".into(), true).unwrap();
        assert_eq!(response.await.unwrap().status(), 413);
        let (response, mut body) = send.clone().ready().await.unwrap().send_request(post("/"), false).unwrap();
        body.send_data("0123".into(), false).unwrap();
        body.send_data("4567".into(), true).unwrap();
        let response = response.await.unwrap();
        assert_eq!(all(&mut response.into_body()).await.unwrap().0, "8 - 01234567");
    });
    assert_eq!(proxy.counter("http.test.downstream_rq_too_large"), 3);
    assert_eq!(origin.requests(), 1);
}

#[test]
fn settings_of_buffers_are_judged() {
    for (filter, expected) in [
        ("{ \"@\": buffer.v3.Buffer }", "max_request_bytes"),
        ("{ \"@\": buffer.v3.Buffer, max_request_bytes: 0 }", "max_request_bytes"),
        ("{ \"@\": buffer.v3.Buffer, max_bytes: 1 }", "unknown field"),
    ] {
        let faults = faults(&format!("- name: buffer\n  typed_config: {filter}"), HOST);
        assert!(faults.contains(&place(0)) && faults.contains(expected), "{faults}");
    }
    for said in ["disabled: false", "buffer: {}", ""] {
        let host = HOST.replace("disabled: true", said);
        let faults = faults(FILTER, &host);
        assert!(faults.contains("routes[1].typed_per_filter_config.buffer"), "{said}: {faults}");
    }
}
