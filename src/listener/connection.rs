//! An accepted connection: counted, matched to its filter chain, and set on its way.

use std::rc::Rc;
use std::time::Instant;

use crate::drain::Drain;
use crate::l4::{Chain, Connection, Facts};
use crate::net::{PeerAddress, Stream};
use crate::stats::names::{ListenerStats, ListenerWorkerStats};

use super::chain::Matcher;

/// What every new connection of a listener meets.
pub(super) struct Admission {
    pub(super) matcher: Matcher<Chain>,
    pub(super) stats: Rc<ListenerStats>,
    pub(super) worker_stats: ListenerWorkerStats,
    pub(super) drain: Drain,
}

impl Admission {
    /// Begins a connection as a task of this thread.
    pub(super) fn begin(self: &Rc<Self>, stream: Stream, peer: PeerAddress) {
        let accepted = Instant::now();
        self.stats.downstream_cx_total.inc();
        let presence = Presence::new(self.clone(), accepted);
        // A connection that has no address any more, or takes no options, is gone.
        let Ok(local) = stream.local_address() else { return };
        if stream.set_nodelay().is_err() {
            return;
        }
        let facts = Facts { peer, local, accepted };
        let Some(chain) = self.matcher.find(&facts) else {
            self.stats.no_filter_chain_match.inc();
            return;
        };
        let guard = Box::new(presence);
        tokio::task::spawn_local(chain.run(Connection { stream, facts, held: self.drain.join(), guard }));
    }
}

/// That a connection of a listener exists.
struct Presence {
    admission: Rc<Admission>,
    accepted: Instant,
}

impl Presence {
    fn new(admission: Rc<Admission>, accepted: Instant) -> Self {
        admission.stats.downstream_cx_active.inc();
        admission.worker_stats.downstream_cx_total.inc();
        admission.worker_stats.downstream_cx_active.inc();
        Self { admission, accepted }
    }
}

impl Drop for Presence {
    fn drop(&mut self) {
        let stats = &self.admission.stats;
        stats.downstream_cx_active.dec();
        stats.downstream_cx_destroy.inc();
        stats.downstream_cx_length_ms.record(self.accepted.elapsed().as_millis() as u64);
        self.admission.worker_stats.downstream_cx_active.dec();
    }
}
