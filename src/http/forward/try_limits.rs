//! How long one try may take: `per_try_timeout` and `per_try_idle_timeout`.
//!
//! Both begin once the whole request has been received and there is a connection. The first ends with the response's head; the second
//! watches the response's body too.

use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use crate::http::failure::Failure;
use crate::http::stream::Stream;
use crate::local::Deadline;
use crate::upstream::Cluster;

/// The limits of one try.
pub(super) struct TryLimits {
    timeout: Option<Duration>,
    idle_timeout: Option<Duration>,
    /// The try goes on when its time is up, and is not limited any more.
    soft: bool,
    begun: bool,
    moved: bool,
    sent: u64,
    over: Deadline,
    idle: Deadline,
}

impl TryLimits {
    /// `None` where nothing is limited.
    pub(super) fn new(timeout: Option<Duration>, idle_timeout: Option<Duration>, soft: bool) -> Option<Self> {
        (timeout.is_some() || idle_timeout.is_some()).then_some(Self {
            timeout,
            idle_timeout,
            soft,
            begun: false,
            moved: false,
            sent: 0,
            over: Deadline::NEVER,
            idle: Deadline::NEVER,
        })
    }

    /// Whether there is a limit behind the response's head.
    pub(super) fn watches_body(&self) -> bool {
        self.idle_timeout.is_some() && !self.soft
    }

    /// Whether the try goes on when its time is up: see [`super::hedge`].
    pub(super) fn is_soft(&self) -> bool {
        self.soft
    }

    /// The try begins anew, on another connection.
    pub(super) fn restart(&mut self) {
        self.begun = false;
    }

    /// Something has come from the host.
    pub(super) fn moved(&mut self) {
        self.moved = true;
    }

    /// Ready, and counted, when a limit has passed. `sent` grows with what the host takes; `head` says that its answer has not begun.
    pub(super) fn poll(
        &mut self,
        context: &mut Context<'_>,
        stream: &Stream<'_>,
        cluster: &Cluster,
        sent: u64,
        head: bool,
    ) -> Poll<Failure> {
        if !stream.is_complete() {
            return Poll::Pending;
        }
        let timer = stream.timer();
        let after = |wait: Option<Duration>| {
            let moment = wait.and_then(|wait| Instant::now().checked_add(wait));
            moment.map_or(Deadline::NEVER, |moment| timer.at(moment))
        };
        if !self.begun {
            self.begun = true;
            self.over = after(self.timeout);
            self.moved = true;
        }
        if std::mem::take(&mut self.moved) || sent != self.sent {
            self.sent = sent;
            self.idle = after(self.idle_timeout);
        }
        if self.soft {
            let late =
                timer.poll_until(context, self.over).is_ready() || timer.poll_until(context, self.idle).is_ready();
            if !late {
                return Poll::Pending;
            }
            (self.timeout, self.idle_timeout) = (None, None);
            (self.over, self.idle) = (Deadline::NEVER, Deadline::NEVER);
            return Poll::Ready(Failure::PerTryTimeout);
        }
        let failure = if head && timer.poll_until(context, self.over).is_ready() {
            cluster.stats().upstream_rq_per_try_timeout.inc();
            Failure::PerTryTimeout
        } else {
            ready!(timer.poll_until(context, self.idle));
            cluster.stats().upstream_rq_per_try_idle_timeout.inc();
            Failure::PerTryIdleTimeout
        };
        if let Some(host) = &*stream.record().host.borrow() {
            host.count_timeout();
        }
        Poll::Ready(failure)
    }
}
