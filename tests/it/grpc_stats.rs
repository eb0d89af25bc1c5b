//! Calls counted, and what gRPC clients and hosts see of the proxy itself.

use bytes::Bytes;
use h2::Reason;

use crate::support::filtered::{read, refuses, start, text};
use crate::support::grpc::{Host, call, message, over_http2};
use crate::support::http2::{all, connect, run, send_all};
use crate::support::proxy::Proxy;

const TO_ORIGIN: &str = "- match: { prefix: / }\n  route: { cluster: origin }\n";

fn filter(settings: &str) -> String {
    format!(
        "- name: stats\n  typed_config:\n    \"@type\": \
         type.googleapis.com/envoy.extensions.filters.http.grpc_stats.v3.FilterConfig\n    {settings}\n"
    )
}

fn proxy(settings: &str, host: &Host) -> Proxy {
    start(over_http2(&text("", &filter(settings), TO_ORIGIN, &[("origin", host.address)])))
}

/// A call without messages: its status, wherever it stands.
async fn status(proxy: &Proxy, path: &str) -> String {
    let (send, _) = connect(proxy.address).await;
    let (response, _) = send.ready().await.unwrap().send_request(call(path), true).unwrap();
    let response = response.await.unwrap();
    let in_head = response.headers().get("grpc-status").cloned();
    let (_, trailers) = all(&mut response.into_body()).await.unwrap();
    in_head.or(trailers.get("grpc-status").cloned()).unwrap().to_str().unwrap().to_owned()
}

/// Waits until something has been counted, while the client's connection goes on.
async fn counted(proxy: &Proxy, name: &str) {
    while proxy.counter(name) == 0 {
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
    }
}

#[test]
fn messages_are_counted_while_the_stream_is_open_and_the_call_at_its_end() {
    let host = Host::start();
    let proxy = proxy("enable_upstream_stats: true", &host);
    run(async {
        let (send, _) = connect(proxy.address).await;
        let (response, mut stream) = send.ready().await.unwrap().send_request(call("/a.Chat/Echo"), false).unwrap();
        // One and a half messages: two have begun, in each direction.
        let two = [message("one"), message("two")].concat();
        let (sent, rest) = two.split_at(11);
        send_all(&mut stream, Bytes::copy_from_slice(sent), false).await.unwrap();
        let mut body = response.await.unwrap().into_body();
        assert_eq!(body.data().await.unwrap().unwrap(), sent);
        assert_eq!(proxy.counter("cluster.origin.grpc.request_message_count"), 2);
        assert_eq!(proxy.counter("cluster.origin.grpc.response_message_count"), 2);
        assert_eq!(proxy.counter("cluster.origin.grpc.total"), 0);
        send_all(&mut stream, Bytes::copy_from_slice(rest), true).await.unwrap();
        let (data, trailers) = all(&mut body).await.unwrap();
        assert_eq!((&*data, &trailers["grpc-status"]), (rest, &http::HeaderValue::from_static("0")));
    });
    assert_eq!(proxy.counter("cluster.origin.grpc.request_message_count"), 2);
    assert_eq!(proxy.counter("cluster.origin.grpc.0"), 1);
    assert_eq!(proxy.counter("cluster.origin.grpc.success"), 1);
    assert_eq!(proxy.counter("cluster.origin.grpc.total"), 1);
}

#[test]
fn methods_that_are_listed_count_apart_and_others_together() {
    let host = Host::start();
    let listed = "individual_method_stats_allowlist: { services: [{ name: a.B, method_names: [Status7, Fails] }] }";
    let proxy = proxy(listed, &host);
    run(async {
        for (path, expected) in
            [("/a.B/Status7", "7"), ("//a.B//Status7?x", "7"), ("/a.B/Fails", "13"), ("/a.C/Fails", "13")]
        {
            assert_eq!(status(&proxy, path).await, expected, "{path}");
        }
    });
    assert_eq!(proxy.counter("cluster.origin.grpc.a.B.Status7.7"), 2);
    assert_eq!(proxy.counter("cluster.origin.grpc.a.B.Fails.failure"), 1);
    assert_eq!(proxy.counter("cluster.origin.grpc.a.B.Fails.response_message_count"), 1);
    assert_eq!(proxy.counter("cluster.origin.grpc.total"), 1);
    assert_eq!(proxy.counter("cluster.origin.grpc.13"), 1);
}

#[test]
fn clients_do_not_fill_the_table_of_names() {
    let host = Host::start();
    let proxy = proxy("stats_for_all_methods: true", &host);
    run(async {
        let long = "x".repeat(200);
        for path in [format!("/{long}/Status7"), "/a%20\u{7f}/Status7".replace('\u{7f}', "%7f")] {
            assert_eq!(status(&proxy, &path).await, "7");
        }
        let (send, _) = connect(proxy.address).await;
        for number in 0..300 {
            let send = send.clone().ready().await;
            let (response, _) = send.unwrap().send_request(call(&format!("/s{number}/Status7")), true).unwrap();
            response.await.unwrap();
        }
    });
    assert_eq!(proxy.counter("cluster.origin.grpc.s0.Status7.total"), 1);
    assert_eq!(proxy.counter("cluster.origin.grpc.s299.Status7.total"), 0);
    // The long one is without a name; the other has taken one of those that there are.
    assert_eq!(proxy.counter("cluster.origin.grpc.total"), 1 + 300 - 255);
}

#[test]
fn replies_of_ours_are_calls_that_failed() {
    let host = Host::start();
    let routes = "- match: { prefix: /nobody }\n  route: { cluster: empty }\n- match: { prefix: /late }\n  route: { cluster: origin, timeout: 0.05s }\n\
                  - match: { prefix: /until }\n  route: { cluster: origin, max_stream_duration: { grpc_timeout_header_max: 0s } }\n";
    let text = over_http2(&text("", &filter(""), routes, &[("origin", host.address)]));
    let proxy = start(text);
    run(async {
        assert_eq!(status(&proxy, "/nobody.S/M").await, "14");
        assert_eq!(status(&proxy, "/late.S/M").await, "14");
        let (send, _) = connect(proxy.address).await;
        let mut request = call("/until.S/M");
        request.headers_mut().insert("grpc-timeout", "50m".parse().unwrap());
        let (response, _) = send.ready().await.unwrap().send_request(request, true).unwrap();
        let response = response.await.unwrap();
        assert_eq!((response.status().as_u16(), &response.headers()["grpc-status"]), (200, &"4".parse().unwrap()));
        assert!(!response.headers().contains_key("content-length"));
    });
    assert_eq!((host.gone(), host.gone()), (Reason::CANCEL, Reason::CANCEL));
    assert_eq!(proxy.counter("cluster.empty.grpc.14"), 1);
    assert_eq!(proxy.counter("cluster.empty.upstream_rq_503"), 1);
    assert_eq!(proxy.counter("cluster.origin.grpc.14"), 1);
    assert_eq!(proxy.counter("cluster.origin.grpc.4"), 1);
    assert_eq!(proxy.counter("cluster.origin.upstream_rq_504"), 1);
    proxy.await_counter("cluster.origin.upstream_rq_tx_reset", 2);
}

#[test]
fn a_call_that_is_given_up_is_given_up_behind_us_and_counted_as_reset() {
    let host = Host::start();
    let proxy = proxy("", &host);
    run(async {
        let (send, _) = connect(proxy.address).await;
        let (_response, mut stream) = send.ready().await.unwrap().send_request(call("/a.B/Waits"), false).unwrap();
        send_all(&mut stream, message("x"), false).await.unwrap();
        counted(&proxy, "cluster.origin.grpc.request_message_count").await;
        stream.send_reset(Reason::CANCEL);
        counted(&proxy, "http.test.downstream_rq_rx_reset").await;
    });
    assert_eq!(host.gone(), Reason::CANCEL);
    assert_eq!(proxy.counter("cluster.origin.upstream_rq_tx_reset"), 1);
    assert_eq!(proxy.counter("cluster.origin.grpc.total"), 0);
}

#[test]
fn settings_that_cannot_be_are_refused_where_they_stand() {
    let refused = |settings: &str, fault: &str| refuses(text("", &filter(settings), TO_ORIGIN, &[]), fault);
    refused("individual_method_stats_allowlist: { services: [{ name: '', method_names: [x] }] }", "services[0].name");
    refused("individual_method_stats_allowlist: { services: [{ name: a }] }", "services[0].method_names");
    refused("stats_for_all_methods: 3", "stats_for_all_methods");
    refused("stats_for_all: true", "stats_for_all");
    refused(
        "stats_for_all_methods: true\n    individual_method_stats_allowlist: {}",
        "individual_method_stats_allowlist",
    );
    let loaded =
        read(text("", &filter("emit_filter_state: true"), TO_ORIGIN, &[("origin", "127.0.0.1:1".parse().unwrap())]));
    let warnings = format!("{:?}", loaded.unwrap().warnings);
    assert!(warnings.contains("emit_filter_state"), "{warnings}");
}
