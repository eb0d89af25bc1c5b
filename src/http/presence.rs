//! That a client's connection exists, which protocol it speaks, and how it ended: what is counted of it.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Instant;

use super::manager::Manager;
use crate::l4::Guard;
use crate::stats::{Counter, Gauge};

/// Who ended a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    Local,
    Remote,
    /// It goes on in another epoch, or has not begun here.
    Moved,
}

/// What is spoken on a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Protocol {
    Http1,
    Http2,
}

/// That a connection exists. Dropped with the connection, however that comes about.
pub(super) struct Presence {
    manager: Rc<Manager>,
    /// What the listener keeps for as long as the connection lives.
    guard: Box<dyn Guard>,
    opened: Instant,
    /// Known from its first bytes on.
    protocol: Cell<Option<Protocol>>,
    end: Cell<End>,
    busy: Cell<bool>,
    /// It speaks TLS.
    secured: bool,
}

impl Presence {
    /// Of a connection that has been accepted.
    pub(super) fn new(manager: &Rc<Manager>, guard: Box<dyn Guard>, opened: Instant) -> Self {
        let this = Self::arriving(manager, guard, opened);
        this.manager.stats.downstream_cx_total.inc();
        this.end.set(End::Local);
        this
    }

    /// Of a connection that another epoch has counted.
    pub(super) fn arriving(manager: &Rc<Manager>, guard: Box<dyn Guard>, opened: Instant) -> Self {
        manager.stats.downstream_cx_active.inc();
        Self {
            manager: manager.clone(),
            guard,
            opened,
            protocol: Cell::new(None),
            end: Cell::new(End::Moved),
            busy: Cell::new(false),
            secured: false,
        }
    }

    /// It speaks TLS.
    pub(super) fn secured(&mut self) {
        self.secured = true;
        self.manager.stats.downstream_cx_ssl_total.inc();
        self.manager.stats.downstream_cx_ssl_active.inc();
    }

    /// Its first bytes have told what it speaks.
    pub(super) fn speaks(&self, protocol: Protocol) {
        if self.protocol.get().is_none() {
            self.counters(protocol).0.inc();
            self.spoke(protocol);
        }
    }

    /// It speaks this, which another epoch has counted.
    pub(super) fn spoke(&self, protocol: Protocol) {
        if self.protocol.replace(Some(protocol)).is_none() {
            self.counters(protocol).1.inc();
        }
    }

    /// Whether it is known what it speaks.
    pub(super) fn has_spoken(&self) -> bool {
        self.protocol.get().is_some()
    }

    /// How it ended, should it end now.
    pub(super) fn ended_by(&self, end: End) {
        self.end.set(end);
    }

    /// A request is in progress, or none any more.
    pub(super) fn set_busy(&self, busy: bool) {
        self.busy.set(busy);
    }

    /// It goes on in another epoch.
    pub(super) fn moved(&mut self) {
        self.end.set(End::Moved);
        self.guard.moved();
    }

    /// It has come from another epoch and is ours from now on.
    pub(super) fn arrived(&mut self) {
        self.end.set(End::Local);
        self.guard.arrived();
    }

    fn counters(&self, protocol: Protocol) -> (&Counter, &Gauge) {
        let stats = &self.manager.stats;
        match protocol {
            Protocol::Http1 => (&stats.downstream_cx_http1_total, &stats.downstream_cx_http1_active),
            Protocol::Http2 => (&stats.downstream_cx_http2_total, &stats.downstream_cx_http2_active),
        }
    }
}

impl Drop for Presence {
    fn drop(&mut self) {
        let stats = &self.manager.stats;
        stats.downstream_cx_active.dec();
        if let Some(protocol) = self.protocol.get() {
            self.counters(protocol).1.dec();
        }
        if self.secured {
            stats.downstream_cx_ssl_active.dec();
        }
        let (destroy, with_request) = match self.end.get() {
            End::Moved => return,
            End::Local => (&stats.downstream_cx_destroy_local, &stats.downstream_cx_destroy_local_active_rq),
            End::Remote => (&stats.downstream_cx_destroy_remote, &stats.downstream_cx_destroy_remote_active_rq),
        };
        stats.downstream_cx_length_ms.record(self.opened.elapsed().as_millis() as u64);
        stats.downstream_cx_destroy.inc();
        destroy.inc();
        if self.busy.get() {
            stats.downstream_cx_destroy_active_rq.inc();
            with_request.inc();
        }
    }
}
