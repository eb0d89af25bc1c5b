//! Requests that wait for a connection, whatever its protocol.

use super::Refused;
use crate::upstream::cluster::Common;
use crate::upstream::limits::{Kind, Ticket};

/// A request that waits for a connection.
pub(super) struct Pending<'a> {
    common: &'a Common,
    _ticket: Ticket,
    settled: bool,
}

impl<'a> Pending<'a> {
    pub(super) fn new(common: &'a Common) -> Result<Self, Refused> {
        let stats = &common.stats;
        let Some(ticket) = common.limits.take(Kind::Pending) else {
            stats.upstream_rq_pending_overflow.inc();
            return Err(Refused::Overflow);
        };
        stats.upstream_rq_pending_total.inc();
        stats.upstream_rq_pending_active.inc();
        Ok(Self { common, _ticket: ticket, settled: false })
    }

    /// The wait has come to something.
    pub(super) fn settled<L>(&mut self, leased: &Result<L, Refused>) {
        self.settled = true;
        if matches!(leased, Err(Refused::Connect(_) | Refused::Timeout)) {
            self.common.stats.upstream_rq_pending_failure_eject.inc();
        }
    }
}

impl Drop for Pending<'_> {
    fn drop(&mut self) {
        self.common.stats.upstream_rq_pending_active.dec();
        if !self.settled {
            self.common.stats.upstream_rq_cancelled.inc();
        }
    }
}
