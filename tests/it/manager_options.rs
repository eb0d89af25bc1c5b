//! What a connection manager is told beside its routes: names as they were written, upgrades that are ignored, who is believed, how connections end, what is said of faults.

use std::time::Duration;

use heirloom::config::model::{HttpConnectionManager, PreserveCase, UpstreamHttp1};

use crate::support::eventually;
use crate::support::filtered::{read, refuses, start, text};
use crate::support::http2::{connect, get, run};
use crate::support::models::{cluster, configured, direct, manager, route};
use crate::support::origin::{Origin, ok};
use crate::support::proxy::Proxy;

/// An address where nobody listens.
fn nowhere() -> std::net::SocketAddr {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

const PREFIX: &str = "- match: { prefix: / }\n  route: { cluster: a }\n";

#[test]
fn names_are_written_as_they_came_in_both_directions() {
    let origin = Origin::raw(|_, mut wire| {
        let mut seen = Vec::new();
        while !seen.ends_with(b"\r\n\r\n") {
            seen.extend(wire.some().unwrap());
        }
        let names: Vec<&str> = std::str::from_utf8(&seen)
            .unwrap()
            .lines()
            .skip(1)
            .filter_map(|line| Some(line.split_once(':')?.0))
            .collect();
        let body = names.join(" ");
        let head = format!("HTTP/1.1 200 All Right\r\nX-OwN: 1\r\nContent-LENGTH: {}\r\n\r\n{body}", body.len());
        std::io::Write::write_all(&mut wire.socket, head.as_bytes()).unwrap();
    });
    let mut host = cluster("origin", &[origin.address]);
    host.http1 =
        UpstreamHttp1 { preserve_case: Some(PreserveCase { proper: false, reason: true }), ..UpstreamHttp1::default() };
    let mut config = manager(vec![route("/", "origin")]);
    config.http1.preserve_case = Some(PreserveCase { proper: true, reason: false });
    let proxy = Proxy::start(config, vec![host]);
    let mut client = proxy.connect();
    client.send("GET / HTTP/1.1\r\nHOST: a\r\nx-LOUD: 1\r\nx-quiet: 2\r\nconnection: close\r\n\r\n");
    let raw = String::from_utf8(client.wire.rest().unwrap()).unwrap();
    assert!(raw.starts_with("HTTP/1.1 200 All Right\r\n"), "{raw}");
    assert!(raw.contains("\r\nX-OwN: 1\r\n") && raw.contains("\r\nContent-LENGTH: "), "{raw}");
    assert!(raw.contains("\r\nserver: envoy\r\n"), "what the host did not write is as ever: {raw}");
    let names = raw.split_once("\r\n\r\n").unwrap().1;
    assert!(names.starts_with("HOST x-LOUD x-quiet X-Forwarded-Proto"), "{names}");
}

#[test]
fn upgrades_that_are_to_be_ignored_are_not_asked_for() {
    let origin = Origin::http(|request| {
        ok(&format!("{} {}", request.header("upgrade").unwrap_or("-"), request.header("connection").unwrap_or("-")))
    });
    let options = "http_protocol_options: { ignore_http_11_upgrade: [{ prefix: TLS/ }] }\n";
    let proxy = start(text(options, "", PREFIX, &[("a", origin.address)]));
    let mut client = proxy.connect();
    client.send("GET / HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: TLS/1.2\r\n\r\n");
    let response = client.response();
    assert_eq!((response.status(), response.text()), (200, "- -"));
    client.send("GET / HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: TLS/1.2, websocket\r\n\r\n");
    assert_eq!(client.response().status(), 403, "another is still asked for");
}

#[test]
fn a_bad_request_ends_its_connection_unless_that_is_forgiven() {
    for (options, closes) in [
        ("", true),
        ("stream_error_on_invalid_http_message: true\n", false),
        (
            "stream_error_on_invalid_http_message: true\nhttp_protocol_options: { override_stream_error_on_invalid_http_message: false }\n",
            true,
        ),
        ("http_protocol_options: { override_stream_error_on_invalid_http_message: true }\n", false),
    ] {
        let routes = "- match: { path: /bad }\n  direct_response: { status: 400 }\n- match: { prefix: / }\n  direct_response: { status: 200 }\n";
        let proxy = start(text(options, "", routes, &[]));
        for request in
            ["GET /bad HTTP/1.1\r\nhost: a\r\n\r\n", "GET /x#y HTTP/1.1\r\nhost: a\r\n\r\n", "GET / HTTP/1.1\r\n\r\n"]
        {
            let mut client = proxy.connect();
            client.send(request);
            assert_eq!(client.response().status(), 400, "{request}");
            if closes {
                client.assert_closed();
            } else {
                assert_eq!(client.get("/").status(), 200, "{options}{request}");
            }
        }
    }
}

#[test]
fn who_is_behind_trusted_proxies_is_found() {
    let origin = Origin::http(|request| ok(request.header("x-envoy-internal").unwrap_or("outside")));
    let options = r#"
original_ip_detection_extensions:
- name: xff
  typed_config:
    "@type": type.googleapis.com/envoy.extensions.http.original_ip_detection.xff.v3.XffConfig
    xff_trusted_cidrs: { cidrs: [{ address_prefix: 127.0.0.0, prefix_len: 8 }, { address_prefix: 10.0.0.0, prefix_len: 8 }] }
access_log:
- name: file
  typed_config:
    "@type": type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog
    path: PATH
    log_format: { text_format_source: { inline_string: "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%\n" } }
"#;
    let log = tempfile::NamedTempFile::new().unwrap();
    let options = options.replace("PATH", log.path().to_str().unwrap());
    let proxy = start(text(&options, "", PREFIX, &[("a", origin.address)]));
    let mut client = proxy.connect();
    let cases = [
        ("1.2.3.4, 10.0.0.1", "1.2.3.4"),
        ("9.9.9.9, 1.2.3.4, 10.0.0.2, 10.0.0.1", "1.2.3.4"),
        ("10.0.0.2, 10.0.0.1", "10.0.0.2"),
        ("1.2.3.4, nonsense, 10.0.0.1", "10.0.0.1"),
        ("nonsense", "127.0.0.1"),
    ];
    for (list, _) in cases {
        client.send(format!("GET / HTTP/1.1\r\nhost: a\r\nx-forwarded-for: {list}\r\n\r\n"));
        assert_eq!(client.response().status(), 200);
    }
    let expected: String = cases.iter().map(|(_, address)| format!("{address}\n")).collect();
    eventually("the lines are written", || std::fs::read_to_string(log.path()).unwrap() == expected);
}

#[test]
fn faults_are_told_in_proxy_status() {
    let options = "proxy_status_config: { use_node_id: false, remove_response_flags: true }\nserver_name: edge\n";
    let proxy = start(text(options, "", PREFIX, &[("a", nowhere())]));
    let mut client = proxy.connect();
    let response = client.get("/");
    assert_eq!(
        response.header("proxy-status"),
        Some(
            "edge; error=connection_refused; details=\"upstream_reset_before_response_started{remote_connection_failure}\""
        )
    );
    assert_eq!(response.status(), 503);
    refuses(
        text("proxy_status_config: { literal_proxy_name: \"a\\nb\" }\n", "", PREFIX, &[]),
        "is not a header's value",
    );
}

#[test]
fn an_old_connection_that_is_to_end_safely_hears_of_it() {
    let config = HttpConnectionManager {
        max_connection_duration: Some(Duration::from_millis(50)),
        safe_max_connection_duration: true,
        drain_timeout: Duration::ZERO,
        ..manager(vec![direct("/", 200, "")])
    };
    let proxy = Proxy::start(config, Vec::new());
    let mut client = proxy.connect();
    assert_eq!(client.get("/").header("connection"), None);
    std::thread::park_timeout(Duration::from_millis(120));
    client.assert_open();
    assert_eq!(client.get("/").header("connection"), Some("close"));
    client.assert_closed();
}

#[test]
fn a_client_that_takes_nothing_has_the_time_of_a_flush() {
    // A little more than the window that a client of HTTP/2 begins with.
    let body = "x".repeat(65_535 + 1000);
    let origin = Origin::http(move |_| ok(&body));
    for (options, route) in
        [("stream_flush_timeout: 0.05s\n", ""), ("stream_flush_timeout: 3600s\n", ", flush_timeout: 0.05s")]
    {
        let routes = format!("- match: {{ prefix: / }}\n  route: {{ cluster: a, timeout: 0s{route} }}\n");
        let proxy = start(text(options, "", &routes, &[("a", origin.address)]));
        run(async {
            let (mut send, _connection) = connect(proxy.address).await;
            let (response, _) = send.send_request(get("/"), true).unwrap();
            let mut body = response.await.unwrap().into_body();
            let mut got = 0;
            let reset = loop {
                match body.data().await {
                    Some(Ok(data)) => got += data.len(),
                    Some(Err(error)) => break error,
                    None => panic!("it ended"),
                }
            };
            assert!(reset.is_reset() && got <= 65_535, "{got}: {reset}");
        });
        proxy.await_counter("http2.tx_flush_timeout", 1);
        assert_eq!(proxy.counter("http.test.downstream_rq_idle_timeout"), 1);
    }
}

#[test]
fn what_lasts_has_lines_from_time_to_time() {
    let log = tempfile::NamedTempFile::new().unwrap();
    let options = format!(
        r#"
access_log_options: {{ access_log_flush_interval: 0.02s }}
access_log:
- name: file
  typed_config:
    "@type": type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog
    path: {}
    log_format: {{ text_format_source: {{ inline_string: "%ACCESS_LOG_TYPE% %REQ(:PATH)%\n" }} }}
"#,
        log.path().display()
    );
    let origin = Origin::raw(|_, mut wire| {
        wire.head().unwrap();
        let log = wire.head();
        drop(log);
    });
    let proxy = start(text(&options, "", PREFIX, &[("a", origin.address)]));
    let mut client = proxy.connect();
    client.send("GET /long HTTP/1.1\r\nhost: a\r\n\r\n");
    let lines = || std::fs::read_to_string(log.path()).unwrap();
    eventually("it has two lines", || lines().matches("DownstreamPeriodic /long\n").count() >= 2);
    drop(client);
    eventually("it has its last", || lines().ends_with("DownstreamEnd /long\n"));
    assert_eq!(lines().matches("DownstreamEnd").count(), 1);
}

#[test]
fn a_listener_has_a_line_for_each_connection() {
    let log = tempfile::NamedTempFile::new().unwrap();
    let access_log = format!(
        r#"  - access_log:
    - name: file
      typed_config:
        "@type": type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog
        path: {}
        log_format: {{ text_format_source: {{ inline_string: "%ACCESS_LOG_TYPE% %RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS% %DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%\n" }} }}
    address:"#,
        log.path().display()
    );
    let lines = || std::fs::read_to_string(log.path()).unwrap();
    let with = |text: String| text.replacen("  - address:", &access_log, 1);
    let routes = "- match: { prefix: / }\n  direct_response: { status: 200 }\n";
    let proxy = start(with(text("", "", routes, &[])));
    let mut client = proxy.connect();
    assert_eq!((client.get("/").status(), client.get("/").status()), (200, 200));
    drop(client);
    eventually("it has its line", || lines() == "NotSet - - 127.0.0.1\n");
    // Nobody takes this one.
    let unmatched = text("", "", routes, &[]).replacen(
        "    - filters:",
        "    - filter_chain_match: { destination_port: 1 }\n      filters:",
        1,
    );
    let proxy = start(with(unmatched));
    proxy.connect().assert_closed();
    eventually("it has its line", || lines().ends_with("NotSet NR filter_chain_not_found 127.0.0.1\n"));
}

#[test]
fn options_that_cannot_be_are_refused() {
    for (options, fault) in [
        ("stream_flush_timeout: -1s\n", "stream_flush_timeout: must be a positive duration"),
        ("drain_timeout_jitter: { value: 101 }\n", "drain_timeout_jitter"),
        ("access_log_options: { access_log_flush_interval: 0s }\n", "access_log_options.access_log_flush_interval"),
        (
            "http_protocol_options: { ignore_http_11_upgrade: [{ safe_regex: { regex: \"(\" } }] }\n",
            "ignore_http_11_upgrade[0].safe_regex.regex: not a regular expression",
        ),
        ("http_protocol_options: { header_key_format: { stateful_formatter: { name: x } } }\n", "stateful_formatter"),
        ("path_normalization_options: {}\n", "path_normalization_options: is not supported yet"),
        ("append_local_overload: true\n", "append_local_overload: is not supported yet"),
    ] {
        refuses(text(options, "", PREFIX, &[("a", ([127, 0, 0, 1], 1).into())]), fault);
    }
    assert!(
        read(text(
            "forward_proto_config: { https_destination_ports: [443] }\n",
            "",
            PREFIX,
            &[("a", ([127, 0, 0, 1], 1).into())]
        ))
        .is_ok()
    );
    let _ = configured("          drain_timeout_jitter: { value: 50 }", Vec::new());
}
