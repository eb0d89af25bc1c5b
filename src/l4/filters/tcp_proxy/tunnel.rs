//! A client's connection and a host's, joined.
//!
//! All that a tunnel is stands in [`Tunnel`], nothing in the locals of a task: between any two polls it can be taken apart and written down.

use std::future::{Future, poll_fn};
use std::io::{self, IoSlice};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use bytes::BytesMut;

use crate::drain::motion::{Frozen, Kind, Outcome, Permit, Reason};
use crate::drain::{Held, Phase};
use crate::local::{Deadline, Timer};
use crate::net::Stream;
use crate::upstream::Cluster;
use crate::upstream::pool::tcp;

use super::flow::{Broken, Flow, Side};
use super::frozen::Record;
use super::log::Line;
use super::{Arrival, Connection, Facts, Guard, TcpProxy};

/// A tunnel.
pub(super) struct Tunnel {
    client: Client,
    upstream: tcp::Connection,
    rest: Rest,
}

/// The client's side.
struct Client {
    stream: Stream,
    proxy: Rc<TcpProxy>,
}

/// What a tunnel is beside its sockets.
struct Rest {
    proxy: Rc<TcpProxy>,
    cluster: Rc<Cluster>,
    facts: Facts,
    held: Held,
    guard: Box<dyn Guard>,
    timer: Timer,
    /// From the client to the host.
    up: Flow,
    /// From the host to the client.
    down: Flow,
    /// When last a byte was written.
    active: Instant,
    too_old: Deadline,
    line: Line,
    phase: Phase,
    /// The wait for room to move.
    permit: Option<Pin<Box<dyn Future<Output = Option<Permit>>>>>,
    buffered: Buffered,
}

/// What a tunnel comes to.
enum Next {
    /// It is to be closed.
    Close,
    /// It is to be offered to the next epoch.
    Move(Permit),
}

impl Tunnel {
    /// One that has just been joined.
    pub(super) fn new(
        proxy: Rc<TcpProxy>,
        cluster: Rc<Cluster>,
        connection: Connection,
        upstream: tcp::Connection,
        timer: Timer,
        line: Line,
    ) -> Self {
        let Connection { stream, facts, held, guard } = connection;
        Self {
            client: Client { stream, proxy: proxy.clone() },
            upstream,
            rest: Rest {
                too_old: proxy.too_old(&facts, &timer),
                phase: held.phase(),
                buffered: Buffered { proxy: proxy.clone(), received: 0, sending: 0 },
                up: Flow::default(),
                down: Flow::default(),
                active: Instant::now(),
                permit: None,
                line,
                proxy,
                cluster,
                facts,
                held,
                guard,
                timer,
            },
        }
    }

    /// One from another epoch.
    ///
    /// # Errors
    /// Why it cannot be gone on with.
    pub(super) fn thaw(proxy: Rc<TcpProxy>, arrival: Arrival) -> Result<Self, Reason> {
        let mut record: Record = prost::Message::decode(&*arrival.record).map_err(|_| Reason::Record)?;
        let cluster = proxy.clusters.get(&record.cluster).cloned().ok_or(Reason::NoCluster)?;
        let host = record.host().ok_or(Reason::Record)?;
        let (up, down) = record.flows().ok_or(Reason::Record)?;
        let socket = arrival.sockets.into_iter().next().ok_or(Reason::Record)?;
        let stream = Stream::from_fd(socket).map_err(|_| Reason::Socket)?;
        let place = cluster.adopt_tcp(host, record.opened()).ok_or(Reason::Limit)?;
        let timer = proxy.local.timers().timer();
        let line = Line::from_record(proxy.logs.as_ref(), &arrival.connection.facts, record.log.take());
        let mut this = Self::new(proxy, cluster, arrival.connection, tcp::Connection::new(stream, place), timer, line);
        (this.rest.up, this.rest.down, this.rest.active) = (up, down, record.active());
        Ok(this)
    }

    /// It is ours from now on.
    pub(super) fn arrived(&mut self) {
        self.upstream.place().arrived();
        self.rest.guard.arrived();
    }

    /// The tunnel's whole life, here.
    pub(super) async fn run(mut self) {
        while let Next::Move(permit) = poll_fn(|context| self.poll(context)).await {
            match Box::pin(self.offer(permit)).await {
                Some(back) => self = back,
                None => return,
            }
        }
        let Rest { mut line, up, down, .. } = self.rest;
        line.bytes(up.read, down.bytes);
        line.end();
    }

    /// Moves bytes. Ready when something else is to be done with the tunnel.
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Next> {
        let Self { client, upstream, rest } = self;
        let written = rest.up.bytes + rest.down.bytes;
        let blocked = (rest.up.blocked, rest.down.blocked);
        let local = &rest.proxy.local;
        let up = rest.up.poll(context, client, upstream, local);
        let down = rest.down.poll(context, upstream, client, local);
        rest.count_flow(blocked);
        rest.buffered.set(rest.up.buffer.len(), rest.down.buffer.len());
        match (up, down) {
            (Poll::Ready(Err(Broken)), _) => {
                upstream.reset_on_close();
                return Poll::Ready(Next::Close);
            }
            (_, Poll::Ready(Err(Broken))) => {
                // A socket that cannot be told so is gone already.
                let _ = client.stream.reset_on_close();
                return Poll::Ready(Next::Close);
            }
            (Poll::Ready(Ok(())), Poll::Ready(Ok(()))) => return Poll::Ready(Next::Close),
            _ => {}
        }
        if rest.up.bytes + rest.down.bytes != written {
            rest.active = Instant::now();
        }
        match rest.poll_time_to_close(context) {
            Poll::Ready(()) => Poll::Ready(Next::Close),
            Poll::Pending => rest.poll_time_to_move(context).map(Next::Move),
        }
    }

    /// Offers the tunnel as it stands, and has it back when nobody takes it. `None` when it is gone from here.
    async fn offer(self, permit: Permit) -> Option<Self> {
        let Self { client: Client { stream, proxy }, upstream, mut rest } = self;
        let (host, place) = upstream.into_parts();
        // A socket that the reactor does not let go of is lost, and the tunnel with it.
        let sockets = vec![stream.into_fd().ok()?, host.into_fd().ok()?];
        let Rest { cluster, facts, up, down, active, .. } = &rest;
        let mut record = Record::new(&cluster.model().name, place.address(), place.opened(), *active, up, down);
        record.log = rest.line.to_record();
        let frozen = Frozen {
            kind: Kind::Tcp,
            listener: facts.listener.to_string(),
            peer: facts.peer.socket(),
            local: facts.local.socket(),
            age: facts.accepted.elapsed(),
            sockets,
            record: prost::Message::encode_to_vec(&record),
        };
        match permit.offer(frozen).await {
            Outcome::Taken => {
                place.moved();
                rest.guard.moved();
                None
            }
            Outcome::Refused(frozen, _) => {
                rest.held.stay();
                let mut streams = frozen.sockets.into_iter().map(Stream::from_fd);
                let stream = streams.next()?.ok()?;
                let upstream = tcp::Connection::new(streams.next()?.ok()?, place);
                Some(Self { client: Client { stream, proxy }, upstream, rest })
            }
        }
    }
}

impl Rest {
    /// Ready with room for the offer.
    fn poll_time_to_move(&mut self, context: &mut Context<'_>) -> Poll<Permit> {
        let Some(mover) = self.held.mover() else {
            self.permit = None;
            return Poll::Pending;
        };
        let permit = self.permit.get_or_insert_with(|| Box::pin(mover.permit()));
        let permit = ready!(permit.as_mut().poll(context));
        self.permit = None;
        match permit {
            Some(permit) => Poll::Ready(permit),
            None => {
                self.held.stay();
                Poll::Pending
            }
        }
    }

    fn poll_time_to_close(&mut self, context: &mut Context<'_>) -> Poll<()> {
        while self.phase != Phase::Over {
            match pin!(self.held.changed(self.phase)).poll(context) {
                Poll::Ready(phase) => self.phase = phase,
                Poll::Pending => break,
            }
        }
        let stats = &self.proxy.stats;
        if self.phase == Phase::Over {
            return Poll::Ready(());
        }
        if self.timer.poll_until(context, self.too_old).is_ready() {
            stats.max_downstream_connection_duration.inc();
            return Poll::Ready(());
        }
        let Some(idle) = self.proxy.config.idle_timeout else { return Poll::Pending };
        ready!(self.timer.poll_until(context, self.timer.at(self.active + idle)));
        stats.idle_timeout.inc();
        Poll::Ready(())
    }

    /// Counts who has begun or ceased to wait for whom.
    fn count_flow(&self, before: (bool, bool)) {
        let (tcp, cluster) = (&self.proxy.stats, self.cluster.stats());
        match (before.0, self.up.blocked) {
            (false, true) => tcp.downstream_flow_control_paused_reading_total.inc(),
            (true, false) => tcp.downstream_flow_control_resumed_reading_total.inc(),
            _ => {}
        }
        match (before.1, self.down.blocked) {
            (false, true) => cluster.upstream_flow_control_paused_reading_total.inc(),
            (true, false) => cluster.upstream_flow_control_resumed_reading_total.inc(),
            _ => {}
        }
    }
}

impl Side for Client {
    fn poll_fill(&mut self, context: &mut Context<'_>, buffer: &mut BytesMut) -> Poll<io::Result<usize>> {
        let filled = ready!(self.proxy.local.poll_fill(&mut self.stream, context, buffer));
        if let Ok(read) = &filled {
            self.proxy.stats.downstream_cx_rx_bytes_total.add(*read as u64);
        }
        Poll::Ready(filled)
    }

    fn poll_write(&mut self, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = ready!(self.stream.poll_write_slices(context, &[IoSlice::new(bytes)]));
        if let Ok(written) = &written {
            self.proxy.stats.downstream_cx_tx_bytes_total.add(*written as u64);
        }
        Poll::Ready(written)
    }

    fn poll_end(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream.poll_end(context)
    }
}

impl Side for tcp::Connection {
    fn poll_fill(&mut self, context: &mut Context<'_>, buffer: &mut BytesMut) -> Poll<io::Result<usize>> {
        self.poll_fill(context, buffer)
    }

    fn poll_write(&mut self, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write(context, bytes)
    }

    fn poll_end(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_end(context)
    }
}

/// What a tunnel adds to the gauges of buffered bytes.
struct Buffered {
    proxy: Rc<TcpProxy>,
    received: u64,
    sending: u64,
}

impl Buffered {
    fn set(&mut self, received: usize, sending: usize) {
        let stats = &self.proxy.stats;
        for (gauge, held, now) in [
            (&stats.downstream_cx_rx_bytes_buffered, &mut self.received, received as u64),
            (&stats.downstream_cx_tx_bytes_buffered, &mut self.sending, sending as u64),
        ] {
            if *held != now {
                gauge.add(now);
                gauge.sub(*held);
                *held = now;
            }
        }
    }
}

impl Drop for Buffered {
    fn drop(&mut self) {
        self.set(0, 0);
    }
}
