//! Routes from the text of a configuration to what origins and clients see.

use std::fmt::Write;
use std::net::SocketAddr;

use heirloom::config::{LoadOptions, Source, load};

use crate::support::origin::{Origin, ok};
use crate::support::proxy::Proxy;

/// A proxy with a table (its fields in YAML) and these clusters.
fn proxy(table: &str, clusters: &[(&str, SocketAddr)]) -> Proxy {
    let mut text = String::from("static_resources:\n  clusters:\n  - name: empty\n");
    for (name, host) in clusters {
        let (ip, port) = (host.ip(), host.port());
        let _ = write!(
            text,
            "  - name: {name}\n    load_assignment: {{ cluster_name: {name}, endpoints: [{{ lb_endpoints: [{{ endpoint: {{ \
             hostname: {name}.host, address: {{ socket_address: {{ address: {ip}, port_value: {port} }} }} }} }}] }}] }}\n"
        );
    }
    text.push_str(
        r#"
  listeners:
  - address: { socket_address: { address: 127.0.0.1, port_value: 0 } }
    filter_chains:
    - filters:
      - name: hcm
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: test
          http_filters:
          - name: router
            typed_config: { "@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router }
          route_config:
"#,
    );
    for line in table.lines() {
        let _ = writeln!(text, "            {line}");
    }
    let source = Source { path: None, yaml: Some(text) };
    let bootstrap = load(&source, &LoadOptions::default()).unwrap_or_else(|faults| panic!("{faults}")).bootstrap;
    let clusters = bootstrap.clusters.iter().map(|cluster| (**cluster).clone()).collect();
    Proxy::start_with((*bootstrap.listeners[0]).clone(), clusters, &[])
}

/// Answers with the request's line and headers.
fn echo() -> Origin {
    Origin::http(|request| {
        let mut text = format!("{}\n", request.line);
        for (name, value) in &request.headers {
            let _ = writeln!(text, "{name}: {value}");
        }
        let length = text.len();
        format!("HTTP/1.1 200 OK\r\nx-secret: 1\r\ncontent-length: {length}\r\n\r\n{text}").into_bytes()
    })
}

#[test]
fn heads_are_rewritten_on_both_ways() {
    let origin = echo();
    let proxy = proxy(
        r#"
request_headers_to_add:
- header: { key: x-table, value: "100%%" }
- header: { key: x-asked, value: "%REQ(:METHOD)% %PROTOCOL%" }
- header: { key: x-none, value: "%REQ(x-none)%" }
request_headers_to_remove: [x-drop]
virtual_hosts:
- name: all
  domains: ["*"]
  response_headers_to_add:
  - header: { key: x-host, value: all }
  - header: { key: x-about, value: "%REQ(x-drop)% %RESP(content-length)%" }
  response_headers_to_remove: [x-secret]
  routes:
  - match: { prefix: /p/ }
    route: { cluster: up, prefix_rewrite: /, host_rewrite_literal: inner, append_x_forwarded_host: true }
  - match: { prefix: /auto }
    route: { cluster: up, auto_host_rewrite: true }
  - match: { prefix: /empty }
    route: { cluster: empty }
  - match: { prefix: /d }
    direct_response: { status: 302 }
"#,
        &[("up", origin.address)],
    );
    let mut client = proxy.connect();
    client.send("GET /p/x?q HTTP/1.1\r\nhost: a\r\nx-drop: 1\r\n\r\n");
    let response = client.response();
    let seen = response.text();
    for line in [
        "GET /x?q HTTP/1.1",
        "host: inner",
        "x-table: 100%",
        "x-asked: GET HTTP/1.1",
        "x-envoy-original-path: /p/x?q",
        "x-envoy-original-host: a",
        "x-forwarded-host: a",
    ] {
        assert!(seen.lines().any(|seen| seen == line), "{line}: {seen}");
    }
    assert!(!seen.contains("x-drop") && !seen.contains("x-none"), "{seen}");
    // The request's head as it came, and the response's.
    assert_eq!(response.header("x-about"), Some(&*format!("1 {}", seen.len())));
    assert_eq!((response.header("x-host"), response.header("x-secret")), (Some("all"), None));
    assert!(client.get("/auto").text().contains("\nhost: up.host\n"));
    // What this proxy answers itself on a route is treated alike; what has no route is not.
    let empty = client.get("/empty");
    assert_eq!((empty.status(), empty.header("x-host")), (503, Some("all")));
    let direct = client.get("/d?x");
    assert_eq!((direct.status(), direct.header("location")), (302, Some("http://test/d?x")));
    assert_eq!(direct.header("x-host"), Some("all"));
    assert_eq!(client.get("/none").header("x-host"), None);
}

#[test]
fn clusters_by_weight_and_by_header() {
    let (a, b) = (Origin::text("a"), Origin::text("b"));
    let proxy = proxy(
        r#"
virtual_hosts:
- name: all
  domains: ["*"]
  routes:
  - match: { path: /drawn }
    route: { weighted_clusters: { header_name: x-draw, clusters: [{ name: a, weight: 3 }, { name: b, weight: 1 }] } }
  - match: { path: /random }
    route: { weighted_clusters: { clusters: [{ name: a, weight: 1 }, { name: b, weight: 1 }] } }
  - match: { path: /named }
    route: { cluster_header: x-cluster, cluster_not_found_response_code: NOT_FOUND }
  - match: { path: /silent }
    non_forwarding_action: {}
"#,
        &[("a", a.address), ("b", b.address)],
    );
    let mut client = proxy.connect();
    for draw in 0..8 {
        client.send(format!("GET /drawn HTTP/1.1\r\nhost: x\r\nx-draw: {draw}\r\n\r\n"));
        assert_eq!(client.response().text(), if draw % 4 == 3 { "b" } else { "a" });
    }
    // Two hundred throws of a coin that all fall alike are no throws.
    let heads = (0..200).filter(|_| client.get("/random").text() == "a").count();
    assert!((1..200).contains(&heads), "{heads}");
    for (cluster, status) in [("b", 200), ("nobody", 404)] {
        client.send(format!("GET /named HTTP/1.1\r\nhost: x\r\nx-cluster: {cluster}\r\n\r\n"));
        assert_eq!(client.response().status(), status);
    }
    assert_eq!(client.get("/named").status(), 404);
    assert_eq!(client.get("/silent").status(), 503);
    assert_eq!(proxy.counter("http.test.no_cluster"), 3);
}

#[test]
fn virtual_clusters_and_prefixed_routes_are_counted() {
    let origin = Origin::http(|request| match request.path() {
        "/vc/teapot" => b"HTTP/1.1 418 x\r\ncontent-length: 0\r\n\r\n".to_vec(),
        _ => ok("x"),
    });
    let proxy = proxy(
        r#"
virtual_hosts:
- name: all
  domains: ["*"]
  virtual_clusters: [{ name: vc, headers: [{ name: ":path", string_match: { prefix: /vc } }] }]
  routes:
  - match: { prefix: /vc }
    stat_prefix: sp
    route: { cluster: up }
  - match: { prefix: / }
    route: { cluster: up }
"#,
        &[("up", origin.address)],
    );
    let mut client = proxy.connect();
    for path in ["/vc", "/vc/teapot", "/other"] {
        client.get(path);
    }
    for (name, value) in [
        ("vcluster.vc.upstream_rq_total", 2),
        ("vcluster.vc.upstream_rq_200", 1),
        ("vcluster.vc.upstream_rq_4xx", 1),
        ("vcluster.vc.upstream_rq_completed", 2),
        ("vcluster.other.upstream_rq_2xx", 1),
        ("route.sp.upstream_rq_total", 2),
        ("route.sp.upstream_rq_418", 1),
    ] {
        assert_eq!(proxy.counter(&format!("vhost.all.{name}")), value, "{name}");
    }
}

#[test]
fn a_stream_lasts_no_longer_than_its_route_allows() {
    let origin = Origin::raw(|_, mut wire| {
        // Takes requests and never answers.
        while let Ok(Some(_)) = wire.head() {}
    });
    let proxy = proxy(
        r#"
virtual_hosts:
- name: all
  domains: ["*"]
  routes:
  - match: { prefix: /plain }
    route: { cluster: up, max_stream_duration: { max_stream_duration: 0.05s } }
  - match: { prefix: /grpc }
    route: { cluster: up, max_stream_duration: { max_stream_duration: 100s, grpc_timeout_header_max: 0s } }
"#,
        &[("up", origin.address)],
    );
    let mut client = proxy.connect();
    let response = client.get("/plain");
    assert_eq!((response.status(), response.text()), (504, "downstream duration timeout"));
    client.send("GET /grpc HTTP/1.1\r\nhost: a\r\ngrpc-timeout: 50m\r\n\r\n");
    assert_eq!(client.response().status(), 504);
    assert_eq!(proxy.counter("http.test.downstream_rq_max_duration_reached"), 2);
}

#[test]
fn plain_text_is_redirected_where_tls_is_required() {
    let proxy = proxy(
        r#"
response_headers_to_add: [{ header: { key: x-rule, value: applies } }]
virtual_hosts:
- name: secure
  domains: [secure]
  require_tls: ALL
  routes: [{ match: { prefix: / }, direct_response: { status: 200 } }]
"#,
        &[],
    );
    let mut client = proxy.connect();
    client.send("GET /a?b HTTP/1.1\r\nhost: secure:80\r\n\r\n");
    assert_eq!(client.response().status(), 404);
    client.send("GET /a?b HTTP/1.1\r\nhost: secure\r\n\r\n");
    let response = client.response();
    assert_eq!((response.status(), response.header("location")), (301, Some("https://secure/a?b")));
    assert_eq!(response.header("x-rule"), None);
    client.send("GET / HTTP/1.1\r\nhost: secure\r\nx-forwarded-proto: https\r\n\r\n");
    assert_eq!(client.response().status(), 200);
}

#[test]
fn a_hostile_head_cannot_write_lines_of_its_own() {
    let origin = echo();
    let proxy = proxy(
        r#"
virtual_hosts:
- name: all
  domains: ["*"]
  routes:
  - match: { prefix: /hr/ }
    route: { cluster: up, host_rewrite_path_regex: { pattern: { regex: "^/hr/(.*)$" }, substitution: '\1' } }
"#,
        &[("up", origin.address)],
    );
    let mut client = proxy.connect();
    let response = client.get("/hr/a%0d%0ax-injected:%201");
    assert!(!response.text().lines().any(|line| line.starts_with("x-injected")), "{}", response.text());
}
