//! `envoy.filters.network.tcp_proxy`: a client's connection becomes one to a host of a cluster, byte for byte.
//!
//! ```text
//!   accepted ─▶ host picked, connected (again, at most max_connect_attempts times) ─▶ tunnel ─▶ both sides ended
//!                   │ no cluster, no host, a limit, nobody takes it: closed            │ idle, too old, drain over: closed
//! ```
//!
//! Nothing is read of the client before the host has taken the connection. A reload builds a new filter; tunnels go on with the one they began
//! with. On a drain a tunnel moves to the next epoch at once, whatever flows in it; one that is not taken stays until the drain's deadline, as Envoy's do.

use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::BytesMut;

use crate::access_log::{Context, Files, Logs, OpenError};
use crate::config::model;
use crate::config::model::LogType;
use crate::drain::Phase;
use crate::drain::motion::{Kind, Reason};
use crate::fault::Flag;
use crate::local::{Deadline, Local, Timer};
use crate::stats::names::{self, TcpStats};
use crate::stats::{Gauge, Scope};
use crate::upstream::pool::{Refused, tcp};
use crate::upstream::{Cluster, Clusters};

use super::super::tunnel::{Client, End, Host, Join, Owner, Thawed, Totals, Tunnel, Who};
use super::super::{Arrival, Connection, Facts, Filter, Guard, Next, Work};

mod log;

use log::Line;

/// The filter of one filter chain on one worker.
pub struct TcpProxy {
    config: Arc<model::TcpProxy>,
    stats: TcpStats,
    /// `None`: it does not exist.
    cluster: Option<Rc<Cluster>>,
    /// For tunnels from another epoch, which may have begun with another cluster.
    clusters: Rc<Clusters>,
    local: Local,
    /// `None`: nothing is logged.
    logs: Option<Rc<Logs>>,
}

impl TcpProxy {
    /// Builds it. `scope` is the root of the statistics.
    ///
    /// # Errors
    /// A file of its access logs cannot be opened.
    pub fn build(
        config: Arc<model::TcpProxy>,
        scope: &Scope,
        clusters: Rc<Clusters>,
        local: &Local,
        files: &Files,
    ) -> Result<Rc<Self>, OpenError> {
        Ok(Rc::new(Self {
            logs: Logs::build(&config.access_logs, files)?,
            stats: TcpStats::new(&names::tcp(scope, &config.stat_prefix)),
            cluster: clusters.get(&config.cluster).cloned(),
            clusters,
            local: local.clone(),
            config,
        }))
    }

    async fn run(self: Rc<Self>, connection: Connection) {
        self.stats.downstream_cx_total.inc();
        let mut line = Line::new(self.logs.as_ref(), &connection.facts);
        if self.config.log_start {
            line.write(LogType::TcpStart);
        }
        let Some(cluster) = self.cluster.clone() else {
            self.stats.downstream_cx_no_route.inc();
            line.flag(Flag::NoClusterFound);
            line.end();
            return;
        };
        line.cluster(&cluster);
        let timer = self.local.timers().timer();
        let Some(upstream) = self.connect(&cluster, &connection, &timer, &mut line).await else {
            line.end();
            return;
        };
        // A socket that has no address any more has none to show.
        let local = line.shows_upstream_local().then(|| upstream.local_address().ok()).flatten();
        line.connected(local.map(|address| address.to_string()).unwrap_or_default());
        if self.config.log_connected {
            line.write(LogType::TcpUpstreamConnected);
        }
        Tunnel::new(Joined::join(self, cluster, connection, Host::Tcp(upstream), timer, line)).run().await;
    }

    /// A host that takes the connection, before it is too old or the drain is over.
    async fn connect(
        &self,
        cluster: &Cluster,
        connection: &Connection,
        timer: &Timer,
        line: &mut Line,
    ) -> Option<tcp::Connection> {
        let mut connecting = pin!(self.attempts(cluster, timer, line));
        let too_old = self.too_old(&connection.facts, timer);
        let mut phase = connection.held.phase();
        poll_fn(|context| {
            if let Poll::Ready(upstream) = connecting.as_mut().poll(context) {
                return Poll::Ready(upstream);
            }
            while phase != Phase::Over {
                match pin!(connection.held.changed(phase)).poll(context) {
                    Poll::Ready(now) => phase = now,
                    Poll::Pending => break,
                }
            }
            if phase == Phase::Over {
                return Poll::Ready(None);
            }
            timer.poll_until(context, too_old).map(|()| {
                self.stats.max_downstream_connection_duration.inc();
                None
            })
        })
        .await
    }

    async fn attempts(&self, cluster: &Cluster, timer: &Timer, line: &mut Line) -> Option<tcp::Connection> {
        for _ in 0..self.config.max_connect_attempts {
            let Some(host) = cluster.pick() else {
                line.flag(Flag::NoHealthyUpstream);
                return None;
            };
            line.tried(host);
            match cluster.open_tcp(host, timer, false).await {
                Ok(connection) => return Some(connection),
                Err(Refused::Overflow) => {
                    line.flag(Flag::UpstreamOverflow);
                    return None;
                }
                Err(refused @ (Refused::Connect(_) | Refused::Timeout)) => line.refused(&refused),
            }
        }
        line.flag(Flag::UpstreamRetryLimitExceeded);
        cluster.stats().upstream_cx_connect_attempts_exceeded.inc();
        None
    }

    /// When a client's connection is closed for its age.
    fn too_old(&self, facts: &Facts, timer: &Timer) -> Deadline {
        let end = self.config.max_connection_duration.and_then(|most| facts.accepted.checked_add(most));
        end.map_or(Deadline::NEVER, |end| timer.at(end))
    }
}

impl Filter for TcpProxy {
    fn call(self: Rc<Self>, connection: Connection, _next: Next) -> Work {
        Box::pin(self.run(connection))
    }

    fn thaw(self: Rc<Self>, arrival: Arrival) -> Result<Work, Reason> {
        if arrival.kind != Kind::Tcp {
            return Err(Reason::OtherFilter);
        }
        let mut thawed = Thawed::read(&arrival.record)?;
        let (host, cluster) = thawed.host(arrival.sockets, &self.clusters)?;
        let timer = self.local.timers().timer();
        let line = Line::from_record(self.logs.as_ref(), &arrival.connection.facts, thawed.take_log());
        let mut tunnel = Tunnel::thaw(Joined::join(self, cluster, arrival.connection, host, timer, line), thawed);
        Ok(Box::pin(async move {
            tunnel.arrived();
            tunnel.run().await;
        }))
    }
}

/// What the filter is to a tunnel of its own.
struct Joined {
    proxy: Rc<TcpProxy>,
    cluster: Rc<Cluster>,
    guard: Box<dyn Guard>,
    line: Line,
}

impl Joined {
    fn join(
        proxy: Rc<TcpProxy>,
        cluster: Rc<Cluster>,
        connection: Connection,
        host: Host,
        timer: Timer,
        line: Line,
    ) -> Join<Self> {
        let Connection { stream: client, facts, held, guard } = connection;
        let owner = Self { proxy, cluster, guard, line };
        let client = Client::Socket(client);
        Join { client, host, owner, facts, held, timer, up: BytesMut::new(), down: BytesMut::new() }
    }
}

impl Owner for Joined {
    const KIND: Kind = Kind::Tcp;

    fn local(&self) -> &Local {
        &self.proxy.local
    }

    fn idle_timeout(&self) -> Option<Duration> {
        self.proxy.config.idle_timeout
    }

    fn max_age(&self) -> Option<Duration> {
        self.proxy.config.max_connection_duration
    }

    fn received(&self, bytes: u64) {
        self.proxy.stats.downstream_cx_rx_bytes_total.add(bytes);
    }

    fn sent(&self, bytes: u64) {
        self.proxy.stats.downstream_cx_tx_bytes_total.add(bytes);
    }

    fn paused(&self, waited_for: Who, paused: bool) {
        let (tcp, cluster) = (&self.proxy.stats, self.cluster.stats());
        match (waited_for, paused) {
            (Who::Host, true) => tcp.downstream_flow_control_paused_reading_total.inc(),
            (Who::Host, false) => tcp.downstream_flow_control_resumed_reading_total.inc(),
            (Who::Client, true) => cluster.upstream_flow_control_paused_reading_total.inc(),
            (Who::Client, false) => cluster.upstream_flow_control_resumed_reading_total.inc(),
        }
    }

    fn buffered(&self) -> [Gauge; 2] {
        let stats = &self.proxy.stats;
        [stats.downstream_cx_rx_bytes_buffered.clone(), stats.downstream_cx_tx_bytes_buffered.clone()]
    }

    fn log(&self) -> Option<Context> {
        self.line.to_record()
    }

    fn moved(&mut self) {
        self.guard.moved();
    }

    fn arrived(&mut self) {
        self.guard.arrived();
    }

    fn ended(mut self, end: End, totals: Totals) {
        self.line.bytes(totals.received, totals.sent);
        self.line.end();
        match end {
            End::Idle => self.proxy.stats.idle_timeout.inc(),
            End::TooOld => self.proxy.stats.max_downstream_connection_duration.inc(),
            End::Whole(_) | End::Broken(_) | End::Reset(_) | End::Drained => {}
        }
    }
}
