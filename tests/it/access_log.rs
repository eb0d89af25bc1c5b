//! Lines in access logs, on real sockets: one for each request and each tunnel, and none for what a filter keeps back.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use heirloom::config::{self, LoadOptions, Source, model};

use crate::support::eventually;
use crate::support::models::*;
use crate::support::origin::Origin;
use crate::support::proxy::Proxy;

/// The access logs that a configuration text of them gives; `@FILE@` in it is the file.
pub(crate) fn logs(yaml: &str, file: &Path) -> Vec<model::AccessLog> {
    let list = yaml.replace("@FILE@", &file.display().to_string()).replace('\n', "\n          ");
    let yaml = format!(
        "static_resources:\n  listeners:\n  - name: l\n    address: {{ socket_address: {{ address: 127.0.0.1, port_value: 1 }} }}\n    \
         filter_chains:\n    - filters:\n      - name: t\n        typed_config:\n          \
         \"@type\": type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy\n          \
         stat_prefix: t\n          cluster: c\n          access_log:\n          {list}\n"
    );
    let loaded = config::load(&Source { yaml: Some(yaml), ..Source::default() }, &LoadOptions::default());
    let loaded = loaded.map_err(|faults| faults.to_string()).unwrap();
    match &loaded.bootstrap.listeners[0].filter_chains[0].filters[0] {
        model::NetworkFilter::TcpProxy(proxy) => proxy.access_logs.clone(),
        other => panic!("{other:?}"),
    }
}

/// One log with this text format.
pub(crate) fn format(format: &str) -> String {
    format!(
        "- name: f\n  typed_config:\n    \"@type\": type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog\n    \
         path: @FILE@\n    log_format: {{ text_format_source: {{ inline_string: \"{format}\\n\" }} }}"
    )
}

/// A file of its own for each scenario.
pub(crate) struct File {
    _folder: tempfile::TempDir,
    pub(crate) path: PathBuf,
}

impl File {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self { path: folder.path().join("access.log"), _folder: folder }
    }

    fn text(&self) -> String {
        std::fs::read_to_string(&self.path).unwrap()
    }

    /// Waits until so many lines stand in it.
    #[track_caller]
    pub(crate) fn lines(&self, count: usize) -> Vec<String> {
        eventually(&format!("{count} lines"), || self.text().lines().count() >= count);
        let lines: Vec<String> = self.text().lines().map(str::to_owned).collect();
        assert_eq!(lines.len(), count, "{lines:#?}");
        lines
    }
}

/// A proxy with routes to an origin, to nobody, to a host that does not listen, and an answer of its own.
fn http(origin: SocketAddr, access_logs: Vec<model::AccessLog>) -> Proxy {
    let routes = vec![route("/ok", "origin"), route("/dead", "dead"), route("/nobody", "nobody")];
    let manager = model::HttpConnectionManager { access_logs, ..manager(routes) };
    Proxy::start(manager, vec![cluster("origin", &[origin]), cluster("dead", &[nowhere()]), cluster("nobody", &[])])
}

fn nowhere() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

const FORMAT: &str = "%REQ(:METHOD)% %REQ(:PATH)% %RESPONSE_CODE% %RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS% \
                      %BYTES_RECEIVED% %BYTES_SENT% %UPSTREAM_CLUSTER% %UPSTREAM_REQUEST_ATTEMPT_COUNT% %RESP(X-BACK)%";

#[test]
fn every_request_has_its_line_whatever_becomes_of_it() {
    let file = File::new();
    let origin = Origin::http(|_| "HTTP/1.1 200 OK\r\nx-back: b\r\ncontent-length: 5\r\n\r\nhello".into());
    let proxy = http(origin.address, logs(&format(FORMAT), &file.path));
    let mut client = proxy.connect();
    assert_eq!(client.get("/ok/1").status(), 200);
    client.send("POST /ok/2 HTTP/1.1\r\nhost: test\r\ncontent-length: 3\r\n\r\nabc");
    assert_eq!(client.response().status(), 200);
    assert_eq!(client.get("/lost").status(), 404);
    assert_eq!(client.get("/nobody").status(), 503);
    assert_eq!(client.get("/dead").status(), 503);
    client.send("nonsense\r\n\r\n");
    assert_eq!(client.response().status(), 400);
    let lines = file.lines(6);
    assert_eq!(lines[0], "GET /ok/1 200 - via_upstream 0 5 origin 1 b");
    assert_eq!(lines[1], "POST /ok/2 200 - via_upstream 3 5 origin 1 b");
    assert_eq!(lines[2], "GET /lost 404 NR route_not_found 0 0 - 0 -");
    assert_eq!(lines[3], "GET /nobody 503 UH no_healthy_upstream 0 19 nobody 1 -");
    assert!(
        lines[4].starts_with("GET /dead 503 UF upstream_reset_before_response_started{remote_connection_failure"),
        "{lines:?}"
    );
    assert!(lines[4].ends_with(" dead 1 -"), "{lines:?}");
    assert!(lines[5].starts_with("- - 400 DPE "), "{lines:?}");
}

#[test]
fn a_client_that_goes_away_is_written_down() {
    let file = File::new();
    let (asked, wait) = std::sync::mpsc::channel::<()>();
    let asked = std::sync::Mutex::new(asked);
    let origin = Origin::raw(move |_, wire| {
        let mut socket = wire.socket;
        let _ = socket.read(&mut [0; 1024]);
        asked.lock().unwrap().send(()).unwrap();
        let _ = socket.read(&mut [0; 1024]);
    });
    let proxy = http(origin.address, logs(&format(FORMAT), &file.path));
    let mut client = proxy.connect();
    client.send("GET /ok HTTP/1.1\r\nhost: test\r\n\r\n");
    wait.recv().unwrap();
    drop(client);
    let line = &file.lines(1)[0];
    assert_eq!(line, "GET /ok 0 DC downstream_remote_disconnect 0 0 origin 1 -");
}

#[test]
fn a_filter_keeps_lines_back() {
    let file = File::new();
    let yaml = format!(
        "{}\n  filter: {{ and_filter: {{ filters: [ {{ status_code_filter: {{ comparison: {{ op: GE, value: {{ default_value: 400, runtime_key: k }} }} }} }}, \
         {{ header_filter: {{ header: {{ name: x-log, string_match: {{ exact: \"yes\" }} }} }} }} ] }} }}",
        format("%REQ(:PATH)%")
    );
    let origin = Origin::http(|_| "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n".into());
    let proxy = http(origin.address, logs(&yaml, &file.path));
    let mut client = proxy.connect();
    for path in ["/ok", "/a", "/b"] {
        for log in ["no", "yes"] {
            client.send(format!("GET {path} HTTP/1.1\r\nhost: test\r\nx-log: {log}\r\n\r\n"));
            client.response();
        }
    }
    assert_eq!(file.lines(2), ["/a", "/b"]);
}

#[test]
fn a_new_request_has_a_line_where_that_is_asked_for() {
    let file = File::new();
    let origin = Origin::http(|_| "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n".into());
    let access_logs = logs(&format("%ACCESS_LOG_TYPE% %REQ(:PATH)% %RESPONSE_CODE%"), &file.path);
    let manager =
        model::HttpConnectionManager { access_logs, log_new_requests: true, ..manager(vec![route("/", "origin")]) };
    let proxy = Proxy::start(manager, vec![cluster("origin", &[origin.address])]);
    proxy.connect().get("/x");
    assert_eq!(file.lines(2), ["DownstreamStart /x 0", "DownstreamEnd /x 200"]);
}

const TUNNEL: &str = "%ACCESS_LOG_TYPE% %RESPONSE_FLAGS% %BYTES_RECEIVED% %BYTES_SENT% %UPSTREAM_CLUSTER% %UPSTREAM_HOST% %RESPONSE_CODE%";

fn tunnel(access_logs: Vec<model::AccessLog>, to: &str, clusters: Vec<model::Cluster>) -> Proxy {
    let proxy = model::TcpProxy { access_logs, log_connected: true, ..tcp_proxy(to) };
    Proxy::start_with(listener_of(model::NetworkFilter::TcpProxy(Arc::new(proxy))), clusters, &[])
}

#[test]
fn a_tunnel_has_a_line_with_its_bytes() {
    let file = File::new();
    let origin = Origin::raw(|_, wire| {
        let mut socket = wire.socket;
        let mut got = Vec::new();
        socket.read_to_end(&mut got).unwrap();
        socket.write_all(b"thanks").unwrap();
    });
    let access_logs = logs(&format(TUNNEL), &file.path);
    let proxy = tunnel(access_logs, "origin", vec![cluster("origin", &[origin.address])]);
    let mut client = proxy.connect();
    client.send("hello world");
    client.wire.socket.shutdown(Shutdown::Write).unwrap();
    assert_eq!(client.wire.bytes(6).unwrap(), b"thanks");
    let host = origin.address;
    assert_eq!(
        file.lines(2),
        [format!("TcpUpstreamConnected - 0 0 origin {host} 0"), format!("TcpConnectionEnd - 11 6 origin {host} 0")]
    );
}

#[test]
fn a_tunnel_that_goes_nowhere_says_why() {
    let file = File::new();
    let dead = nowhere();
    let proxy = tunnel(logs(&format(TUNNEL), &file.path), "dead", vec![cluster("dead", &[dead])]);
    proxy.connect().assert_closed();
    assert_eq!(file.lines(1), [format!("TcpConnectionEnd UF,URX 0 0 dead {dead} 0")]);
    drop(proxy);
    let file = File::new();
    let proxy = tunnel(logs(&format(TUNNEL), &file.path), "nobody", Vec::new());
    proxy.connect().assert_closed();
    assert_eq!(file.lines(1), ["TcpConnectionEnd NC 0 0 - - 0"]);
}

#[test]
fn a_full_disk_stops_no_request() {
    let full = Path::new("/dev/full");
    if !full.exists() {
        println!("there is no /dev/full here");
        return;
    }
    let origin = Origin::http(|_| "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n".into());
    let proxy = http(origin.address, logs(&format(FORMAT), full));
    let mut client = proxy.connect();
    for _ in 0..50 {
        assert_eq!(client.get("/ok").status(), 200);
    }
}
