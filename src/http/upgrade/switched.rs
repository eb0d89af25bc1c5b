//! What is left of a request whose connection became a tunnel: the owner of that tunnel.

use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use h2::SendStream;
use prost::Message;

use super::frozen::Written;
use crate::access_log::{Context, Line};
use crate::config::model::{LogType, Moment};
use crate::drain::motion::{Kind, Reason};
use crate::fault::Flag;
use crate::http::downstream::Parts;
use crate::http::http2::{self, Conn};
use crate::http::manager::Manager;
use crate::http::presence::{self, Presence, Protocol};
use crate::http::record::Record;
use crate::l4::tunnel::{self, End, Host, Join, Owner, Thawed, Totals, Tunnel, Who};
use crate::l4::{Arrival, Connection};
use crate::local::Local;
use crate::stats::Gauge;
use crate::upstream::Cluster;

/// A request whose connection is a tunnel now.
pub(in crate::http) struct Switched {
    manager: Rc<Manager>,
    client: Client,
    cluster: Rc<Cluster>,
    record: Record,
    idle_timeout: Option<Duration>,
    /// How old the client's connection may become before the tunnel has lasted for too long (`max_stream_duration`).
    max_age: Option<Duration>,
    /// Bytes of the response's head among those that the client takes.
    head: u64,
    /// See [`ends_as_it_likes`].
    terminated: bool,
    _active: Active,
}

/// Whether a host's end, well said, is one: of a connection that carries no HTTP, or a stream. That of an HTTP/1 connection is the end of what it was lent for.
fn ends_as_it_likes(host: &Host) -> bool {
    matches!(host, Host::Tcp(_) | Host::Http2(_))
}

/// What a client gave up for its tunnel.
enum Client {
    /// Its connection.
    Connection(Presence),
    /// A stream of this one.
    Stream(Rc<Conn>),
}

/// How the response that grants a tunnel gets to the client.
pub(in crate::http) enum Way {
    /// As the tunnel's first bytes, so many.
    Http1 { head: usize },
    /// It has been sent; this is our half of the stream.
    Http2(SendStream<Bytes>),
}

/// That a request is in progress that asked for a tunnel and may have it. Ends when it is dropped.
pub(in crate::http) struct Active {
    requests: Gauge,
    upgrades: Gauge,
}

impl Active {
    /// Of a request that is counted as in progress already.
    pub(in crate::http) fn begin(manager: &Manager) -> Self {
        manager.stats.downstream_cx_upgrades_active.inc();
        Self {
            requests: manager.stats.downstream_rq_active.clone(),
            upgrades: manager.stats.downstream_cx_upgrades_active.clone(),
        }
    }
}

impl Drop for Active {
    fn drop(&mut self) {
        self.requests.dec();
        self.upgrades.dec();
    }
}

/// A response that has made its connection a tunnel, on its way to whoever has that connection.
pub(in crate::http) struct Switching {
    pub(in crate::http) record: Record,
    pub(in crate::http) idle_timeout: Option<Duration>,
    /// When it has lasted for too long.
    pub(in crate::http) until: Option<Instant>,
    pub(in crate::http) host: Host,
    /// What is for the client: the response's head, where it is not sent yet, and what the host has sent behind it.
    pub(in crate::http) down: BytesMut,
    pub(in crate::http) way: Way,
    pub(in crate::http) active: Active,
    pub(in crate::http) cluster: Rc<Cluster>,
}

impl Switching {
    /// The rest of the connection's life.
    pub(in crate::http) async fn run(self, manager: Rc<Manager>, parts: Parts) {
        let Parts { stream, read: up, facts, held, presence } = parts;
        let timer = manager.local.timers().timer();
        let head = match self.way {
            Way::Http1 { head } => head as u64,
            // A stream is not given a connection.
            Way::Http2(_) => return,
        };
        let (host, down) = (self.host, self.down);
        let terminated = ends_as_it_likes(&host);
        let owner = Switched {
            manager,
            client: Client::Connection(presence),
            cluster: self.cluster,
            record: self.record,
            idle_timeout: self.idle_timeout,
            max_age: self.until.map(|until| until.saturating_duration_since(facts.accepted)),
            head,
            terminated,
            _active: self.active,
        };
        let client = tunnel::Client::Socket(stream);
        Tunnel::new(Join { client, host, owner, facts, held, timer, up, down }).run().await;
    }

    /// The rest of the stream's life.
    pub(in crate::http) async fn run_http2(self, client: http2::Client) {
        let (conn, held, timer, recv) = client.into_parts();
        let Way::Http2(send) = self.way else { return };
        let (host, down) = (self.host, self.down);
        let (manager, facts) = (conn.manager.clone(), conn.facts.clone());
        let client = tunnel::Client::Http2(Box::new(tunnel::Http2::new(&manager.local, send, recv)));
        let terminated = ends_as_it_likes(&host);
        let owner = Switched {
            manager,
            client: Client::Stream(conn),
            cluster: self.cluster,
            record: self.record,
            idle_timeout: self.idle_timeout,
            max_age: self.until.map(|until| until.saturating_duration_since(facts.accepted)),
            head: 0,
            terminated,
            _active: self.active,
        };
        Tunnel::new(Join { client, host, owner, facts, held, timer, up: BytesMut::new(), down }).run().await;
    }
}

impl Switched {
    /// A tunnel from another epoch.
    ///
    /// # Errors
    /// Why it cannot be gone on with.
    pub(in crate::http) fn thaw(manager: &Rc<Manager>, arrival: Arrival) -> Result<Tunnel<Self>, Reason> {
        let mut thawed = Thawed::read(&arrival.record)?;
        let written = Written::decode(thawed.owner()).map_err(|_| Reason::Record)?;
        let record = written.record().ok_or(Reason::Record)?;
        let (host, cluster) = thawed.host(arrival.sockets, &manager.named)?;
        let Connection { stream: client, facts, held, guard } = arrival.connection;
        *record.cluster.borrow_mut() = Some(cluster.clone());
        if let Some(logs) = &manager.logs {
            record.log_as(match thawed.take_log() {
                Some(log) => Line::from_record(logs.clone(), log),
                None => Line::new(logs.clone(), record.started),
            });
            let id = facts.id;
            record.log(|live| live.context.connection_id = id);
        }
        manager.stats.downstream_rq_active.inc();
        let presence = Presence::arriving(manager, guard, facts.accepted);
        presence.spoke(Protocol::Http1);
        let owner = Self {
            client: Client::Connection(presence),
            manager: manager.clone(),
            cluster,
            record,
            idle_timeout: written.idle_timeout_ms.map(Duration::from_millis),
            max_age: written.max_age_ms.map(Duration::from_millis),
            head: written.head,
            terminated: written.terminated,
            _active: Active::begin(manager),
        };
        let timer = manager.local.timers().timer();
        let (up, down) = (BytesMut::new(), BytesMut::new());
        let client = tunnel::Client::Socket(client);
        Ok(Tunnel::thaw(Join { client, host, owner, facts, held, timer, up, down }, thawed))
    }

    /// Notes and counts why it ended: a response flag where it is nobody's wish, and details.
    fn conclude(&self, end: End) {
        let stats = &self.manager.stats;
        let (flag, details) = match end {
            End::Whole(Who::Client) | End::Broken(Who::Client) => {
                (Some(Flag::DownstreamConnectionTermination), "downstream_remote_disconnect")
            }
            End::Reset(Who::Client) => (Some(Flag::DownstreamRemoteReset), "http2.remote_reset"),
            End::Whole(Who::Host) if self.terminated => (None, "via_upstream"),
            End::Whole(Who::Host) | End::Broken(Who::Host) => {
                stats.downstream_rq_tx_reset.inc();
                let details = "upstream_reset_after_response_started{connection_termination}";
                (Some(Flag::UpstreamConnectionTermination), details)
            }
            End::Reset(Who::Host) => {
                stats.downstream_rq_tx_reset.inc();
                (Some(Flag::UpstreamRemoteReset), "upstream_reset_after_response_started{remote_reset}")
            }
            End::Idle => {
                stats.downstream_rq_idle_timeout.inc();
                stats.downstream_rq_tx_reset.inc();
                (Some(Flag::StreamIdleTimeout), "stream_idle_timeout")
            }
            End::TooOld => {
                stats.downstream_rq_max_duration_reached.inc();
                stats.downstream_rq_tx_reset.inc();
                (Some(Flag::DurationTimeout), "max_duration_timeout")
            }
            End::Drained => {
                stats.downstream_rq_tx_reset.inc();
                (None, "downstream_local_disconnect")
            }
        };
        if let Some(flag) = flag {
            self.record.flag(flag);
        }
        self.record.set_details(details);
    }

    /// The tunnel's line in the access logs.
    fn write_line(&self, now: Instant) {
        let record = &self.record;
        let Some(mut line) = record.take_log() else { return };
        line.live.reach_once(Moment::SendEnd, now);
        let context = &mut line.live.context;
        context.flags = record.flags().into();
        context.details = record.details().into_owned();
        context.received = record.received.get();
        context.sent = record.sent.get();
        line.write(LogType::DownstreamEnd);
    }
}

impl Owner for Switched {
    const KIND: Kind = Kind::Upgrade;

    fn local(&self) -> &Local {
        &self.manager.local
    }

    fn idle_timeout(&self) -> Option<Duration> {
        self.idle_timeout
    }

    fn max_age(&self) -> Option<Duration> {
        self.max_age
    }

    // The bytes of an HTTP/2 connection are counted as they are on the wire.
    fn received(&self, bytes: u64) {
        if let Client::Connection(_) = self.client {
            self.manager.stats.downstream_cx_rx_bytes_total.add(bytes);
        }
    }

    fn sent(&self, bytes: u64) {
        if let Client::Connection(_) = self.client {
            self.manager.stats.downstream_cx_tx_bytes_total.add(bytes);
        }
    }

    fn paused(&self, waited_for: Who, paused: bool) {
        let (http, cluster) = (&self.manager.stats, self.cluster.stats());
        match (waited_for, paused) {
            (Who::Host, true) => {
                http.downstream_flow_control_paused_reading_total.inc();
                cluster.upstream_flow_control_backed_up_total.inc();
            }
            (Who::Host, false) => {
                http.downstream_flow_control_resumed_reading_total.inc();
                cluster.upstream_flow_control_drained_total.inc();
            }
            (Who::Client, true) => cluster.upstream_flow_control_paused_reading_total.inc(),
            (Who::Client, false) => cluster.upstream_flow_control_resumed_reading_total.inc(),
        }
    }

    fn buffered(&self) -> [Gauge; 2] {
        let stats = &self.manager.stats;
        [stats.downstream_cx_rx_bytes_buffered.clone(), stats.downstream_cx_tx_bytes_buffered.clone()]
    }

    fn log(&self) -> Option<Context> {
        self.record.log_record()
    }

    fn write_down(&self) -> Vec<u8> {
        Written::of(&self.record, (self.idle_timeout, self.max_age), self.head, self.terminated).encode_to_vec()
    }

    fn moved(&mut self) {
        if let Client::Connection(presence) = &mut self.client {
            presence.moved();
        }
    }

    fn arrived(&mut self) {
        if let Client::Connection(presence) = &mut self.client {
            presence.arrived();
            presence.set_busy(true);
        }
    }

    fn ended(self, end: End, totals: Totals) {
        let now = Instant::now();
        let stats = &self.manager.stats;
        let is_stream = matches!(self.client, Client::Stream(_));
        if !(is_stream && matches!(end, End::Whole(_))) {
            // A tunnel ends as a request that was not complete, but for a stream whose halves have both ended: Envoy counts it so, and so do we.
            stats.downstream_rq_rx_reset.inc();
        }
        stats.downstream_rq_time.record((now - self.record.started).as_millis() as u64);
        self.record.received.set(self.record.received.get().saturating_add(totals.received));
        self.record.sent.set(totals.sent.saturating_sub(self.head));
        match (&self.client, end) {
            (Client::Stream(conn), _) => conn.finish(now),
            (Client::Connection(presence), End::Whole(Who::Client) | End::Broken(Who::Client)) => {
                presence.ended_by(presence::End::Remote);
            }
            // Its request ended before it.
            (Client::Connection(presence), _) => presence.set_busy(false),
        }
        self.conclude(end);
        self.write_line(now);
    }
}
