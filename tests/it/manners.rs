//! Options of a connection manager that change what passes it, as an operator writes them.

use std::io::Write as _;

use crate::support::models::*;
use crate::support::origin::{Origin, ok};
use crate::support::proxy::Proxy;

fn proxy(text: &str, origin: &Origin) -> Proxy {
    let routes = vec![direct("/none", 403, "no"), route("/", "origin")];
    Proxy::start(configured(text, routes), vec![cluster("origin", &[origin.address])])
}

#[test]
fn the_upstream_says_that_a_client_may_go_on() {
    let origin = Origin::raw(|_, mut wire| {
        let head = wire.head().unwrap().unwrap();
        assert_eq!(head.header("expect"), Some("100-continue"));
        wire.socket.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").unwrap();
        assert_eq!(wire.bytes(2).unwrap(), b"ab");
        wire.socket.write_all(&ok("done")).unwrap();
    });
    let proxy = proxy("          proxy_100_continue: true\n", &origin);
    let mut client = proxy.connect();
    client.send("POST / HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 2\r\n\r\n");
    assert_eq!(client.head().status(), 100, "only the origin can have said so");
    client.send("ab");
    assert_eq!(client.response().text(), "done");
}

#[test]
fn headers_are_changed_before_anybody_looks() {
    let origin = Origin::http(|request| {
        let header = |name| request.header(name).unwrap_or("-").to_owned();
        ok(&[header("foo"), header("seen"), header("late"), header("x-envoy-internal"), header("user-agent")].join(" "))
    });
    let text = r#"
          internal_address_config: { cidr_ranges: [{ address_prefix: 10.0.0.0, prefix_len: 8 }] }
          early_header_mutation_extensions:
          - name: early
            typed_config:
              "@type": type.googleapis.com/envoy.extensions.http.early_header_mutation.header_mutation.v3.HeaderMutation
              mutations:
              - append: { header: { key: seen, value: "%REQ(foo)%:%REQ(:path)%" } }
              - remove: foo
              - append: { header: { key: late, value: "%REQ(foo)%" } }
              - append: { header: { key: x-forwarded-for, value: 10.1.1.1 }, append_action: OVERWRITE_IF_EXISTS_OR_ADD }
              - append: { header: { key: user-agent, value: second } }
"#;
    let proxy = proxy(text, &origin);
    let mut client = proxy.connect();
    client.send("GET /x HTTP/1.1\r\nhost: a\r\nfoo: 1\r\nuser-agent: first\r\nx-forwarded-for: 1.1.1.1\r\n\r\n");
    assert_eq!(client.response().text(), "- 1:/x - true first,second");
}

#[test]
fn names_and_methods_of_another_kind() {
    let origin = Origin::http(|request| ok(request.method()));
    let text = "          http_protocol_options: { header_key_format: { proper_case_words: {} }, allow_custom_methods: true }\n";
    let proxy = proxy(text, &origin);
    let mut client = proxy.connect();
    client.send("BREW /pot HTTP/1.1\r\nhost: a\r\n\r\nF~OO /none HTTP/1.1\r\nhost: a\r\n\r\n");
    assert_eq!(client.response().text(), "BREW");
    assert_eq!(client.response().status(), 403);
    client.send("F(O / HTTP/1.1\r\nhost: a\r\n\r\n");
    let all = String::from_utf8(client.wire.rest().unwrap()).unwrap();
    for name in [
        "\r\nContent-Length: 11\r\n",
        "\r\nContent-Type: text/plain\r\n",
        "\r\nServer: envoy\r\n",
        "\r\nConnection: close\r\n",
    ] {
        assert!(all.starts_with("HTTP/1.1 400 Bad Request\r\n") && all.contains(name), "{all}");
    }
}

#[test]
fn a_stream_lasts_no_longer_than_it_may() {
    let origin = Origin::raw(|_, mut wire| {
        wire.head().unwrap();
        // It never answers, and waits until nobody is there.
        let _ = wire.rest();
    });
    let text = "          common_http_protocol_options: { max_stream_duration: 0.2s }\n";
    let proxy = proxy(text, &origin);
    let mut client = proxy.connect();
    let response = client.get("/");
    assert_eq!((response.status(), response.text()), (504, "downstream duration timeout"));
    assert_eq!(proxy.counter("http.test.downstream_rq_max_duration_reached"), 1);
    assert_eq!(proxy.counter("http.test.downstream_rq_idle_timeout"), 0);
}

#[test]
fn a_client_whose_address_must_be_known_is_refused() {
    let origin = Origin::http(|request| ok(request.header("x-forwarded-for").unwrap_or("-")));
    let text = r#"
          original_ip_detection_extensions:
          - name: header
            typed_config:
              "@type": type.googleapis.com/envoy.extensions.http.original_ip_detection.custom_header.v3.CustomHeaderConfig
              header_name: X-Real
              reject_with_status: { code: Unauthorized }
"#;
    let proxy = proxy(text, &origin);
    let mut client = proxy.connect();
    let refused = client.get("/");
    assert_eq!((refused.status(), refused.text()), (401, ""));
    client.send("GET / HTTP/1.1\r\nhost: a\r\nx-real: 192.0.2.7\r\n\r\n");
    assert_eq!(client.response().status(), 200);
    assert_eq!(proxy.counter("http.test.downstream_rq_rejected_via_ip_detection"), 1);
}

#[test]
fn an_upstream_that_wants_whole_urls_and_capitals_gets_them() {
    let origin = Origin::raw(|_, mut wire| {
        let mut seen = Vec::new();
        while !seen.ends_with(b"\r\n\r\n") {
            seen.extend(wire.some().unwrap());
        }
        let seen = String::from_utf8(seen).unwrap();
        wire.socket.write_all(&ok(seen.split("X-Request-Id").next().unwrap())).unwrap();
    });
    let mut cluster = cluster("origin", &[origin.address]);
    cluster.http1 = heirloom::config::model::UpstreamHttp1 { full_url: true, proper_case: true, ..Default::default() };
    let proxy = Proxy::start(manager(vec![route("/", "origin")]), vec![cluster]);
    let mut client = proxy.connect();
    client.send("GET /x?y HTTP/1.1\r\nhost: a:80\r\nfoo-bar: b-c\r\n\r\n");
    let seen = client.response();
    let expected = "GET http://a:80/x?y HTTP/1.1\r\nHost: a:80\r\nFoo-Bar: b-c\r\nX-Forwarded-Proto: http\r\n";
    assert_eq!(seen.text(), expected);
}
