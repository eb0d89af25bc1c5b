//! What a cell happens in: a tapped proxy that serves, and everything that can be checked going on at once.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use nix::unistd::Pid;

use crate::support::bootstrap::Config;
use crate::support::load::{Habit, Load, Report};
use crate::support::process::descriptors;
use crate::support::streams::{Host, Kind, Streams};
use crate::support::supervised::{Setup, Supervised, listening};
use crate::support::upstream::Upstream;
use crate::tap::Tap;

const HABITS: [(Habit, u64); 4] =
    [(Habit::KeepAlive, 3), (Habit::Sparse, 6), (Habit::PerRequest, 2), (Habit::TwoWritePost, 1)];

/// Limit of a drain, in seconds.
pub(super) const DRAIN: u64 = 60;
/// Kinds of streams, and how many of each.
pub(super) const STREAMS: [(Kind, usize); 5] =
    [(Kind::Tunnel, 3), (Kind::WebSocket, 3), (Kind::Connect, 2), (Kind::Download, 2), (Kind::Upload, 2)];

/// A proxy whose serving epoch is tapped.
pub(super) struct World {
    // In the order in which they end.
    pub(super) proxy: Supervised,
    pub(super) tap: Tap,
    pub(super) host: Host,
    upstream: Upstream,
    pub(super) tunnel: SocketAddr,
}

/// Requests that go on.
pub(super) struct Requests(Load);

impl World {
    /// In a directory inside another one, where a cell has a file system of its own.
    pub(super) fn start(within: Option<PathBuf>) -> Self {
        let (upstream, host) = (Upstream::start(), Host::start());
        let (socket, tunnel) = listening();
        let config =
            Config { tunnel: Some((tunnel, host.raw)), streams: Some(host.http), ..Config::to(upstream.address) };
        let mut setup = Setup::new(config)
            .socket(socket)
            .scripted()
            // Nobody leaves for the drain's sake: what does not move stays where it is, and lives.
            .flag("--drain-time-s", DRAIN)
            .flag("--parent-shutdown-time-s", DRAIN)
            .flag("--prepare-time-s", 6)
            .flag("--ready-time-s", 2)
            .flag("--commit-time-s", 2)
            .flag("--unresponsive-time-s", 4)
            .flag("--probation-time-s", 0.4);
        setup.within = within;
        let proxy = setup.start();
        let tap = Tap::on(&proxy);
        proxy.reload();
        proxy.settled(Duration::from_secs(20));
        Self { proxy, tap, host, upstream, tunnel }
    }

    pub(super) fn load(&self) -> Requests {
        Requests(Load::start(self.proxy.front, &HABITS))
    }

    pub(super) fn streams(&self) -> Streams<'_> {
        streams(&self.host, self.proxy.front, self.tunnel)
    }

    /// How many descriptors of each kind a process holds; connections to hosts, which a pool keeps as it likes, are not counted.
    pub(super) fn census(&self, pid: Pid) -> BTreeMap<String, usize> {
        let hosts = [self.upstream.address, self.host.raw, self.host.http].map(|address| address.port());
        let pooled = connected_to(&hosts);
        let mut kinds = BTreeMap::new();
        for target in descriptors(pid).into_iter().filter(|target| !pooled.contains(target)) {
            let kind = target.split_once(":[").map_or(target.as_str(), |(kind, _)| kind).to_owned();
            *kinds.entry(kind).or_default() += 1;
        }
        kinds
    }
}

/// Every kind of stream through a proxy.
pub(super) fn streams(host: &Host, front: SocketAddr, tunnel: SocketAddr) -> Streams<'_> {
    Streams::open(host, front, tunnel, &STREAMS)
}

/// Sockets, as descriptors name them, of connections whose far end has one of these ports.
fn connected_to(ports: &[u16]) -> Vec<String> {
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap_or_default();
    let socket = |line: &str| {
        let columns: Vec<&str> = line.split_whitespace().collect();
        let port = u16::from_str_radix(columns.get(2)?.split(':').nth(1)?, 16).ok()?;
        ports.contains(&port).then(|| Some(format!("socket:[{}]", columns.get(9)?)))?
    };
    table.lines().skip(1).filter_map(socket).collect()
}

impl Requests {
    /// Whether so many more are answered within what a client waits.
    pub(super) fn progress(&self, more: u64) -> bool {
        let goal = self.0.answered() + more;
        crate::support::supervised::within(Duration::from_secs(20), || self.0.answered() >= goal)
    }

    pub(super) fn stop(self) -> Report {
        self.0.stop()
    }
}
