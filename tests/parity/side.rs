//! One of the two proxies: a process with a configuration, its own upstream, and its counters.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::client::{self, Fates};
use super::support::eventually;
use super::theme::{Exchange, Theme};
use super::upstream::Upstream;

/// A running proxy.
pub(crate) struct Side {
    child: Child,
    front: SocketAddr,
    admin: SocketAddr,
    upstream: Upstream,
    counters: Numbers,
    _dead: socket2::Socket,
    _dir: tempfile::TempDir,
}

type Numbers = BTreeMap<String, i64>;

/// What an exchange showed.
#[derive(Debug)]
pub(crate) struct Saw {
    pub(crate) client: Vec<Vec<String>>,
    pub(crate) upstream: Vec<Vec<String>>,
    pub(crate) counters: Numbers,
}

impl Side {
    /// Starts a proxy, and waits until it serves.
    pub(crate) fn start(name: &str, binary: &Path, flags: &[&str], theme: &Theme) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let upstream = Upstream::start();
        // Bound and not listening: whoever connects is refused, and nobody else gets the port.
        let dead = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        dead.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).unwrap();
        let mut hosts = upstream.addresses.clone();
        hosts.push(("dead", dead.local_addr().unwrap().as_socket().unwrap()));
        // The port is told to the proxy, as a configuration does; nobody is given it in between.
        let front = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let config = dir.path().join("config.yaml");
        std::fs::write(&config, text(theme, front, &hosts)).unwrap();
        let admin_file = dir.path().join("admin");
        let log = std::fs::File::create(dir.path().join("log")).unwrap();
        let child = Command::new(binary)
            .arg("-c")
            .arg(&config)
            .arg("--admin-address-path")
            .arg(&admin_file)
            .args(["--concurrency", "1"])
            .args(flags)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        let mut side = Self { child, front, admin: front, upstream, counters: Numbers::new(), _dead: dead, _dir: dir };
        let log = side._dir.path().join("log");
        eventually(&format!("{name} is ready with {}", theme.name), || {
            if let Ok(Some(status)) = side.child.try_wait() {
                // Envoy repeats the whole configuration.
                let said: String = std::fs::read_to_string(&log).unwrap().chars().take(1500).collect();
                panic!("{name} ended with {status}: {said}");
            }
            let Some(admin) = std::fs::read_to_string(&admin_file).ok().and_then(|text| text.trim().parse().ok())
            else {
                return false;
            };
            side.admin = admin;
            side.get("/ready").is_some_and(|body| body.contains("LIVE"))
        });
        side.counters = side.settled();
        side
    }

    /// Runs an exchange from its first byte until everything it opened is closed and counted.
    pub(crate) fn run(&mut self, exchange: &Exchange, fates: &Fates, me: usize) -> Saw {
        self.upstream.follow(&exchange.upstream);
        let client = client::run(self.front, exchange, fates, me);
        // Even one that left at once was a connection.
        let total = "listener.front.downstream_cx_total";
        let before = self.counters.get(total).copied().unwrap_or(0);
        eventually("the connection was taken", || {
            numbers(&self.get("/stats?filter=%5Elistener.front.downstream_cx_total$").unwrap_or_default())
                .get(total)
                .is_some_and(|now| *now > before)
        });
        // A tunnel whose client has left may wait for its other half.
        let soon = Instant::now() + Duration::from_millis(500);
        eventually("the client's connection is gone, or waits", || {
            self.idle("downstream_cx_active") || Instant::now() > soon
        });
        let upstream = self.upstream.seen();
        self.upstream.close();
        self.rest("downstream_cx_active");
        self.rest("upstream_cx_active");
        let now = self.settled();
        let moved =
            now.iter().map(|(name, value)| (name.clone(), value - self.counters.get(name).copied().unwrap_or(0)));
        let counters = moved.filter(|(_, by)| *by != 0).collect();
        self.counters = now;
        Saw { client, upstream, counters }
    }

    /// Waits until nothing is open.
    fn rest(&self, gauge: &str) {
        eventually(gauge, || self.idle(gauge));
    }

    fn idle(&self, gauge: &str) -> bool {
        let path = format!("/stats?type=Gauges&filter=%5E(http.front|cluster%5B.%5D.*)%5B.%5D{gauge}$");
        let gauges = numbers(&self.get(&path).unwrap_or_default());
        !gauges.is_empty() && gauges.values().all(|value| *value == 0)
    }

    /// The counters, when they stand still.
    fn settled(&self) -> Numbers {
        let mut before = Numbers::new();
        let path = "/stats?type=Counters&usedonly&filter=%5E(http.front|cluster%5B.%5D|listener.front|vhost|tcp)";
        eventually("the counters stand still", || {
            std::thread::park_timeout(Duration::from_millis(15));
            let now = numbers(&self.get(path).unwrap_or_default());
            let still = now == before;
            before = now;
            still
        });
        before
    }

    fn get(&self, path: &str) -> Option<String> {
        let mut socket = TcpStream::connect(self.admin).ok()?;
        socket.set_read_timeout(Some(super::support::PATIENCE)).ok()?;
        write!(socket, "GET {path} HTTP/1.1\r\nhost: admin\r\nconnection: close\r\n\r\n").ok()?;
        let mut text = String::new();
        socket.read_to_string(&mut text).ok()?;
        Some(text)
    }
}

impl Drop for Side {
    fn drop(&mut self) {
        self.upstream.close();
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn numbers(text: &str) -> Numbers {
    let number = |line: &str| {
        let (name, value) = line.split_once(": ")?;
        Some((name.to_owned(), value.trim().parse().ok()?))
    };
    text.lines().skip_while(|line| !line.trim().is_empty()).filter_map(number).collect()
}

fn text(theme: &Theme, front: SocketAddr, hosts: &[(&str, SocketAddr)]) -> String {
    let setting = |mark: &str, indent: usize| {
        let lines = theme.settings.get(mark).map_or("", String::as_str);
        lines.lines().map(|line| format!("{}{line}\n", " ".repeat(indent))).collect::<String>()
    };
    let mut text = format!(
        "node: {{ id: parity, cluster: parity }}\nadmin:\n  address: {{ socket_address: {{ address: 127.0.0.1, port_value: 0 }} }}\n\
         {}static_resources:\n  listeners:\n  - name: front\n    stat_prefix: front\n    address: {}\n    filter_chains:\n    - filters:\n      \
         - name: envoy.filters.network.http_connection_manager\n        typed_config:\n          \
         \"@type\": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager\n          \
         stat_prefix: front\n          delayed_close_timeout: 0.02s\n{}          http_filters:\n{}          - name: envoy.filters.http.router\n            \
         typed_config:\n              \"@type\": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router\n{}          \
         route_config:\n            name: front\n{}            virtual_hosts:\n{}  clusters:\n",
        setting("bootstrap", 0),
        address(front),
        setting("hcm", 10),
        setting("http_filters", 10),
        setting("router", 14),
        setting("route_config", 12),
        setting("virtual_hosts", 12),
    );
    for (name, host) in hosts {
        let _ = write!(
            text,
            "  - name: {name}\n    type: STATIC\n    connect_timeout: 2s\n{}    load_assignment:\n      cluster_name: {name}\n      \
             endpoints:\n      - lb_endpoints:\n        - endpoint: {{ address: {} }}\n",
            setting(&format!("cluster {name}"), 4),
            address(*host)
        );
    }
    text
}

fn address(address: SocketAddr) -> String {
    format!("{{ socket_address: {{ address: {}, port_value: {} }} }}", address.ip(), address.port())
}
