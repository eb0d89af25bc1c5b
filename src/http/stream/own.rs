//! A request of our own ([`crate::http::call`]): nobody waits for it on a connection.
//!
//! It is a [`Stream`] as a client's request is, so that it goes the same way to its host. It is not counted as a request that came, and
//! has no line in the access logs.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use http::Version;

use crate::codec::head::RequestHead;
use crate::codec::http1::Framing;
use crate::drain::{Held, Phase};
use crate::http::body::{Body, Frame, Source};
use crate::http::failure::Failure;
use crate::http::manager::Manager;
use crate::http::record::Record;
use crate::http::upgrade::Switch;
use crate::l4::Facts;
use crate::local::{Deadline, Timer};

use super::motion::Room;
use super::{Client, Deadlines, Stream};

/// Who asks, where it is us: what a client's connection would be.
pub(in crate::http) struct Own {
    pub(super) manager: Rc<Manager>,
    /// Of the connection on whose behalf it is asked.
    pub(super) facts: Facts,
    pub(super) held: Held,
    pub(super) timer: Timer,
    /// The whole request is there.
    pub(super) complete: Cell<bool>,
}

impl Own {
    /// On behalf of a client's request, which it may outlive.
    pub(in crate::http) fn of(stream: &Stream<'_>) -> Self {
        let manager = stream.client.manager().clone();
        Self {
            facts: stream.facts().clone(),
            held: stream.client.held().beside(),
            timer: manager.local.timers().timer(),
            complete: Cell::new(false),
            manager,
        }
    }

    /// Ready when the drain's deadline has passed.
    pub(super) fn poll_over(&self, context: &mut Context<'_>) -> Poll<()> {
        match self.held.phase() {
            Phase::Over => Poll::Ready(()),
            phase => std::pin::pin!(self.held.changed(phase)).poll(context).map(|_| ()),
        }
    }
}

impl<'a> Stream<'a> {
    /// A request of our own. `timeout` runs from its end on, and while its host does not take what there is of it.
    pub(in crate::http) fn own(own: &'a Own, head: &RequestHead, timeout: Option<Duration>) -> Self {
        let record = Record::new(head.method.clone(), Instant::now());
        record.internal.set(true);
        Self {
            late: own.held.phase() == Phase::Over,
            client: Client::Own(own),
            record,
            framing: RefCell::new(Framing::none()),
            interim: RefCell::default(),
            deadlines: Deadlines {
                request: Deadline::NEVER,
                route: Cell::new(Deadline::NEVER),
                route_timeout: Cell::new(timeout),
                duration: Cell::new(Deadline::NEVER),
                idle: Cell::new(Deadline::NEVER),
                idle_timeout: Cell::new(None),
                drained: Cell::new(Deadline::NEVER),
            },
            version: Version::HTTP_11,
            periodic: Cell::new(Deadline::NEVER),
            hostless: false,
            switch: Cell::new(Switch::No),
            active: Cell::new(None),
            room: Room::default(),
        }
    }

    /// The body of a request of our own, watched for its end.
    pub(in crate::http) fn watch<'s>(&'s self, own: &'s Own, body: Body<'static>) -> Body<'s> {
        if body.length() == Some(0) {
            own.complete.set(true);
            self.record.received_at.set(Some(self.record.started));
            self.arm_route(self.record.started);
            return Body::Empty;
        }
        Body::Other(Box::new(Watched { stream: self, own, body }))
    }

    /// Counts what came of a request of our own, where a client's would be told so.
    pub(in crate::http) fn count_own(&self, status: u16) {
        if let Some(cluster) = &*self.record.cluster.borrow() {
            cluster.count_response(status, true);
        }
        if let Some(host) = &*self.record.host.borrow() {
            host.count_response(status);
        }
    }

    /// The same of one that has failed.
    pub(in crate::http) fn count_own_failure(&self, failure: Failure) {
        if failure == Failure::RouteTimeout {
            self.count(failure);
        }
        if let Some(told) = failure.told() {
            self.count_own(told.status);
        }
    }
}

/// A body on its way to a host. While there is nothing more of it yet, nobody is late.
struct Watched<'s> {
    stream: &'s Stream<'s>,
    own: &'s Own,
    body: Body<'static>,
}

impl Source for Watched<'_> {
    fn poll_frame(&mut self, context: &mut Context<'_>) -> Poll<Result<Frame, Failure>> {
        let frame = self.body.poll_frame(context);
        match &frame {
            Poll::Pending | Poll::Ready(Err(_)) => self.stream.deadlines.route.set(Deadline::NEVER),
            Poll::Ready(Ok(frame)) => {
                let now = Instant::now();
                if matches!(frame, Frame::End(_)) || self.body.length() == Some(0) {
                    self.own.complete.set(true);
                    self.stream.record.received_at.set(Some(now));
                }
                self.stream.arm_route(now);
            }
        }
        frame
    }

    fn length(&self) -> Option<u64> {
        self.body.length()
    }
}
