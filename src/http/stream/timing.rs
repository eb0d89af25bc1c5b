//! The deadlines of a request, as the route sets them and as things move.

use std::time::{Duration, Instant};

use crate::local::Deadline;

use super::Stream;

impl Stream<'_> {
    /// Sets the route's timeouts; the first runs once all of the request has been received.
    pub(in crate::http) fn set_timeouts(&self, timeout: Option<Duration>, idle: Option<Option<Duration>>) {
        self.deadlines.route_timeout.set(timeout);
        if let Some(idle) = idle {
            self.deadlines.idle_timeout.set(idle);
            self.moved(self.record.started);
        }
        if let Some(received_at) = self.record.received_at.get() {
            self.arm_route(received_at);
        }
    }

    /// Sets the limit on request and response together.
    pub(in crate::http) fn set_duration(&self, limit: Option<Duration>) {
        if let Some(limit) = limit {
            self.deadlines.duration.set(self.timer().at(self.record.started + limit));
        }
    }

    /// Something of the request or the response has moved.
    pub(in crate::http) fn moved(&self, now: Instant) {
        let idle = self.deadlines.idle_timeout.get();
        self.deadlines.idle.set(idle.map_or(Deadline::NEVER, |idle| self.timer().at(now + idle)));
    }

    pub(super) fn arm_route(&self, received_at: Instant) {
        if let Some(timeout) = self.deadlines.route_timeout.get() {
            self.deadlines.route.set(self.timer().at(received_at + timeout));
        }
    }
}
