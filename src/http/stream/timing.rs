//! The deadlines of a request, as the route sets them and as things move.

use std::cell::Cell;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use crate::config::model::RouteAction;
use crate::http::failure::Failure;
use crate::local::Deadline;
use crate::route::Decision;

use super::{Client, Stream};

/// When a request must end, or be further than it is.
pub(in crate::http) struct Deadlines {
    pub(in crate::http) request: Deadline,
    pub(in crate::http) route: Cell<Deadline>,
    pub(in crate::http) route_timeout: Cell<Option<Duration>>,
    /// `max_stream_duration`.
    pub(in crate::http) duration: Cell<Deadline>,
    pub(in crate::http) idle: Cell<Deadline>,
    pub(in crate::http) idle_timeout: Cell<Option<Duration>>,
    /// When it is cut: set once the drain's deadline has passed.
    pub(in crate::http) drained: Cell<Deadline>,
}

/// The least time that a request has from its start, whatever the drain's deadline: whoever wrote on an idle connection just before it was
/// to be closed is answered.
pub(in crate::http) const LAST_REQUEST: Duration = Duration::from_secs(1);

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

    /// Sets the limit on request and response together, where the route says something: there may be none.
    pub(in crate::http) fn set_duration(&self, said: Option<Option<Duration>>) {
        if let Some(limit) = said {
            let deadline = limit.map_or(Deadline::NEVER, |limit| self.timer().at(self.record.started + limit));
            self.deadlines.duration.set(deadline);
        }
    }

    /// Something of the request or the response has moved.
    pub(in crate::http) fn moved(&self, now: Instant) {
        let idle = self.deadlines.idle_timeout.get();
        self.deadlines.idle.set(idle.map_or(Deadline::NEVER, |idle| self.timer().at(now + idle)));
    }

    /// All of the response is there, and the client does not take it: from here on the route's `flush_timeout`, or the manager's, is the idle timeout.
    pub(super) fn flushing(&self) {
        let of_route = match self.record.route.borrow().as_ref().map(Decision::action) {
            Some(RouteAction::Forward(forward)) => forward.flush_timeout,
            _ => None,
        };
        let Some(limit) = of_route.or(self.manager().config.stream_flush_timeout) else { return };
        self.deadlines.idle_timeout.set(limit);
        self.moved(Instant::now());
    }

    /// Writes a line from time to time.
    fn poll_periodic(&self, context: &mut Context<'_>) {
        if self.timer().poll_until(context, self.periodic.get()).is_ready() {
            self.log_periodic();
            let interval = self.manager().config.log_interval;
            let next = interval.map_or(Deadline::NEVER, |interval| self.timer().at(Instant::now() + interval));
            self.periodic.set(next);
            // Of the next one the wheel must hear now; one that is due already comes with the next turn.
            if next != Deadline::NEVER && self.timer().poll_until(context, next).is_ready() {
                context.waker().wake_by_ref();
            }
        }
    }

    pub(super) fn arm_route(&self, received_at: Instant) {
        if let Some(timeout) = self.deadlines.route_timeout.get() {
            self.deadlines.route.set(self.timer().at(received_at + timeout));
        }
    }

    /// Ready when the request must end before its time.
    pub(in crate::http) fn poll_ended(&self, context: &mut Context<'_>) -> Poll<Failure> {
        if self.periodic.get() != Deadline::NEVER {
            self.poll_periodic(context);
        }
        let drained = &self.deadlines.drained;
        if !self.late && drained.get() == Deadline::NEVER && self.client.poll_over(context).is_ready() {
            drained.set(self.timer().at(self.record.started + LAST_REQUEST));
        }
        let gone = match self.client {
            Client::Http1(conn) => {
                self.poll_interim(conn, context).is_err() || (self.is_complete() && conn.poll_gone(context).is_ready())
            }
            Client::Http2(client) => client.poll_gone(context).is_ready(),
            Client::Own(_) => false,
        };
        if gone {
            return Poll::Ready(Failure::DownstreamClosed);
        }
        let complete = self.is_complete();
        let deadlines = &self.deadlines;
        let passed = |context: &mut Context<'_>, deadline| self.timer().poll_until(context, deadline).is_ready();
        if passed(context, deadlines.drained.get()) {
            Poll::Ready(Failure::Drained)
        } else if passed(context, deadlines.route.get()) {
            Poll::Ready(Failure::RouteTimeout)
        } else if passed(context, deadlines.duration.get()) {
            Poll::Ready(Failure::MaxDuration { request_complete: complete })
        } else if !complete && passed(context, deadlines.request) {
            Poll::Ready(Failure::RequestTimeout)
        } else if passed(context, deadlines.idle.get()) {
            Poll::Ready(Failure::StreamIdle { request_complete: complete })
        } else {
            Poll::Pending
        }
    }
}
