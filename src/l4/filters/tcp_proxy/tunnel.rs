//! A client's connection and a host's, joined.
//!
//! All that a tunnel is stands in [`Tunnel`], nothing in the locals of a task: between any two polls it can be taken apart and written down.

use std::any::Any;
use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use bytes::BytesMut;

use crate::drain::{Held, Phase};
use crate::local::{Deadline, Timer};
use crate::net::Stream;
use crate::upstream::Cluster;
use crate::upstream::pool::tcp;

use super::flow::{Broken, Flow, Side};
use super::{Connection, Facts, TcpProxy};

/// A tunnel.
pub(super) struct Tunnel {
    proxy: Rc<TcpProxy>,
    cluster: Rc<Cluster>,
    _facts: Facts,
    held: Held,
    _guard: Box<dyn Any>,
    timer: Timer,
    client: Client,
    upstream: tcp::Connection,
    /// From the client to the host.
    up: Flow,
    /// From the host to the client.
    down: Flow,
    /// When last a byte was written.
    active: Instant,
    too_old: Deadline,
    phase: Phase,
    buffered: Buffered,
}

/// The client's side.
struct Client {
    stream: Stream,
    proxy: Rc<TcpProxy>,
}

impl Tunnel {
    /// One that has just been joined.
    pub(super) fn new(
        proxy: Rc<TcpProxy>,
        cluster: Rc<Cluster>,
        connection: Connection,
        upstream: tcp::Connection,
        timer: Timer,
    ) -> Self {
        let Connection { stream, facts, held, guard } = connection;
        Self {
            too_old: proxy.too_old(&facts, &timer),
            phase: held.phase(),
            client: Client { stream, proxy: proxy.clone() },
            buffered: Buffered { proxy: proxy.clone(), received: 0, sending: 0 },
            up: Flow::default(),
            down: Flow::default(),
            active: Instant::now(),
            proxy,
            cluster,
            _facts: facts,
            held,
            _guard: guard,
            timer,
            upstream,
        }
    }

    /// The tunnel's whole life.
    pub(super) async fn run(mut self) {
        poll_fn(|context| self.poll(context)).await;
    }

    /// Moves bytes. Ready when the tunnel is to be closed.
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let written = self.up.bytes + self.down.bytes;
        let blocked = (self.up.blocked, self.down.blocked);
        let local = &self.proxy.local;
        let up = self.up.poll(context, &mut self.client, &mut self.upstream, local);
        let down = self.down.poll(context, &mut self.upstream, &mut self.client, local);
        self.count_flow(blocked);
        self.buffered.set(self.up.buffer.len(), self.down.buffer.len());
        match (up, down) {
            (Poll::Ready(Err(Broken)), _) => {
                self.upstream.reset_on_close();
                return Poll::Ready(());
            }
            (_, Poll::Ready(Err(Broken))) => {
                // A socket that cannot be told so is gone already.
                let _ = self.client.stream.reset_on_close();
                return Poll::Ready(());
            }
            (Poll::Ready(Ok(())), Poll::Ready(Ok(()))) => return Poll::Ready(()),
            _ => {}
        }
        if self.up.bytes + self.down.bytes != written {
            self.active = Instant::now();
        }
        self.poll_time_to_close(context)
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
