//! The life of a connection: opened, driven frame by frame, kept alive, ended and counted.

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::Poll;
use std::time::Instant;

use bytes::Bytes;

use super::connection::Connection;
use super::{Failed, Pool};
use crate::http2::{self, Counters, Eye, Keepalive, Socket};
use crate::upstream::host::{bump, drop_one};
use crate::upstream::limits::Ticket;

type Frames = h2::client::Connection<Socket, Bytes>;

/// What keeps a connection going.
pub(super) struct Driver {
    connection: Rc<Connection>,
    frames: Frames,
    keepalive: Option<Keepalive>,
    presence: Presence,
    /// The host's settings have come.
    settled: Rc<Cell<bool>>,
    _ticket: Ticket,
}

/// Opens a connection; the time is bounded by `connect_timeout`.
pub(super) async fn open(pool: &Rc<Pool>, ticket: Ticket) -> Result<(Rc<Connection>, Driver), Failed> {
    let stats = pool.stats();
    stats.upstream_cx_total.inc();
    stats.upstream_cx_http2_total.inc();
    let mut presence = Presence::new(pool);
    let timer = pool.common.local.timers().timer();
    let started = Instant::now();
    let deadline = timer.at(started + pool.common.model.connect_timeout);
    let opened = {
        let mut connecting = pin!(shake_hands(pool));
        poll_fn(|context| match connecting.as_mut().poll(context) {
            Poll::Ready(opened) => Poll::Ready(opened.map_err(|error| Failed::Connect(error.kind()))),
            Poll::Pending => timer.poll_until(context, deadline).map(|()| Err(Failed::Timeout)),
        })
        .await
    };
    match opened {
        Ok((send, mut frames, settled)) => {
            stats.upstream_cx_connect_ms.record(started.elapsed().as_millis() as u64);
            let keepalive = Keepalive::new(frames.ping_pong(), pool.options().keepalive, timer);
            let connection = Connection::new(pool, send);
            presence.open = Some((connection.clone(), Instant::now()));
            Ok((connection.clone(), Driver { connection, frames, keepalive, presence, settled, _ticket: ticket }))
        }
        Err(failed) => {
            bump(&pool.counts.cx_connect_fail);
            crate::upstream::pool::count_unmade(stats, matches!(failed, Failed::Timeout));
            Err(failed)
        }
    }
}

async fn shake_hands(pool: &Rc<Pool>) -> io::Result<(h2::client::SendRequest<Bytes>, Frames, Rc<Cell<bool>>)> {
    let model = &pool.common.model;
    let stream = super::super::open(&pool.address, model).await?;
    let stats = pool.stats();
    let counters = Counters {
        received: stats.upstream_cx_rx_bytes_total.clone(),
        sent: stats.upstream_cx_tx_bytes_total.clone(),
        protocol_error: stats.upstream_cx_protocol_error.clone(),
        goes_away: Some(stats.upstream_cx_close_notify.clone()),
    };
    let mut eye = Eye::new(pool.options(), false, &pool.codec, counters);
    let settled = eye.settled();
    let (send, frames) = http2::client(pool.options(), model.max_response_headers_bytes)
        .handshake(eye.over(stream))
        .await
        .map_err(|error| error.into_io().unwrap_or_else(|| io::ErrorKind::ConnectionReset.into()))?;
    Ok((send, frames, settled))
}

impl Driver {
    /// Until the connection has ended.
    pub(super) async fn run(mut self) {
        let ended = poll_fn(|context| {
            if let Poll::Ready(ended) = Pin::new(&mut self.frames).poll(context) {
                return Poll::Ready(ended.is_ok());
            }
            if self.settled.take() {
                self.connection.settle();
            }
            if let Some(keepalive) = &mut self.keepalive
                && keepalive.poll_dead(context).is_ready()
            {
                self.presence.pool.codec.keepalive_timeout.inc();
                self.connection.close();
                return Poll::Ready(true);
            }
            Poll::Pending
        })
        .await;
        self.connection.gone();
        self.presence.clean = ended;
    }
}

/// That a connection exists, from the first attempt to open it.
struct Presence {
    pool: Rc<Pool>,
    open: Option<(Rc<Connection>, Instant)>,
    /// It ended as connections end, and not by an error.
    clean: bool,
}

impl Presence {
    fn new(pool: &Rc<Pool>) -> Self {
        pool.live.set(pool.live.get() + 1);
        pool.stats().upstream_cx_active.inc();
        bump(&pool.counts.cx_active);
        bump(&pool.counts.cx_total);
        Self { pool: pool.clone(), open: None, clean: false }
    }
}

impl Drop for Presence {
    fn drop(&mut self) {
        self.pool.live.set(self.pool.live.get() - 1);
        let stats = self.pool.stats();
        stats.upstream_cx_active.dec();
        drop_one(&self.pool.counts.cx_active);
        let Some((connection, opened)) = &self.open else { return };
        stats.upstream_cx_destroy.inc();
        stats.upstream_cx_length_ms.record(opened.elapsed().as_millis() as u64);
        stats.upstream_rq_per_cx.record(u64::from(connection.requests()));
        let by_us = connection.ended_by_us() && self.clean;
        let (destroy, with_request) = match by_us {
            true => (&stats.upstream_cx_destroy_local, &stats.upstream_cx_destroy_local_with_active_rq),
            false => (&stats.upstream_cx_destroy_remote, &stats.upstream_cx_destroy_remote_with_active_rq),
        };
        destroy.inc();
        if connection.streams() > 0 {
            stats.upstream_cx_destroy_with_active_rq.inc();
            with_request.inc();
        }
    }
}
