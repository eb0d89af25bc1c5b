//! What the endpoint counts of itself: `http.admin.*` and `listener.admin.*`, as Envoy does.

use crate::stats::Scope;
use crate::stats::names::{self, HttpStats, ListenerHttpStats, ListenerStats, ListenerWorkerStats};

/// The name under which Envoy's admin endpoint counts.
const NAME: &str = "admin";

/// The counters of the endpoint.
pub(super) struct Traffic {
    http: HttpStats,
    listener: ListenerStats,
    listener_http: ListenerHttpStats,
    thread: ListenerWorkerStats,
}

impl Traffic {
    pub(super) fn new(root: &Scope) -> Self {
        let listener = names::listener(root, NAME);
        Self {
            http: HttpStats::new(&names::http(root, NAME)),
            listener: ListenerStats::new(&listener),
            listener_http: ListenerHttpStats::new(&names::listener_http(&listener, NAME)),
            thread: ListenerWorkerStats::new(&names::listener_main_thread(&listener)),
        }
    }

    /// A connection was accepted.
    pub(super) fn opened(&self) {
        for total in [&self.http.downstream_cx_total, &self.http.downstream_cx_http1_total] {
            total.inc();
        }
        self.listener.downstream_cx_total.inc();
        self.thread.downstream_cx_total.inc();
        self.http.downstream_cx_active.inc();
        self.http.downstream_cx_http1_active.inc();
        self.listener.downstream_cx_active.inc();
        self.thread.downstream_cx_active.inc();
    }

    /// A connection is gone, after so many milliseconds.
    pub(super) fn closed(&self, lived: u64) {
        self.http.downstream_cx_active.dec();
        self.http.downstream_cx_http1_active.dec();
        self.listener.downstream_cx_active.dec();
        self.thread.downstream_cx_active.dec();
        self.http.downstream_cx_destroy.inc();
        self.listener.downstream_cx_destroy.inc();
        self.http.downstream_cx_length_ms.record(lived);
        self.listener.downstream_cx_length_ms.record(lived);
    }

    /// A request has come.
    pub(super) fn asked(&self) {
        self.http.downstream_rq_total.inc();
        self.http.downstream_rq_http1_total.inc();
        self.http.downstream_rq_active.inc();
    }

    /// It was answered, with that status and after so many milliseconds.
    pub(super) fn answered(&self, status: u16, took: u64) {
        self.http.downstream_rq_active.dec();
        self.http.response(status);
        self.listener_http.response(status);
        self.http.downstream_rq_time.record(took);
    }
}
