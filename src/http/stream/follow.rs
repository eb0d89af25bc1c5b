//! A request that follows a redirect: it begins anew, for a client that hears nothing of it.
//!
//! As with Envoy it is another request to the statistics and the access logs: what has ended here has a line of its own, with the status of
//! the redirect, but is not among the responses. The clock of the whole goes on.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Instant;

use crate::access_log::Line;
use crate::config::model::LogType;
use crate::http::body::Body;
use crate::http::failure::Failure;
use crate::http::filter::{Answer, Request, Response};
use crate::http::redirects::Again;
use crate::local::Deadline;

use super::{Client, Stream};

impl Stream<'_> {
    /// The answer of the chain; one that sends the request elsewhere, to be followed here, gives way to the next.
    pub(super) fn poll_answer<'s>(
        &'s self,
        context: &mut Context<'_>,
        answer: &mut Answer<'s>,
    ) -> Poll<Result<Response<'s>, Failure>> {
        loop {
            let polled = Pin::new(&mut *answer).poll(context);
            let redirected = matches!(polled, Poll::Ready(Err(Failure::Redirected)));
            match redirected.then(|| self.record.take_again()).flatten() {
                Some(again) => *answer = self.follow(again),
                None => return polled,
            }
        }
    }

    /// Asks again what the router has left to be asked.
    fn follow(&self, again: Again) -> Answer<'_> {
        let Again { head, body, decision, status } = again;
        let now = Instant::now();
        let manager = self.manager();
        let stats = &manager.stats;
        self.record.status.set(status);
        stats.downstream_rq_time.record((now - self.record.started).as_millis() as u64);
        stats.downstream_rq_total.inc();
        match self.client {
            Client::Http1(_) => stats.downstream_rq_http1_total.inc(),
            Client::Http2(_) => stats.downstream_rq_http2_total.inc(),
            Client::Own(_) => {}
        }
        self.record.set_details("internal_redirect");
        if let Some(mut line) = self.record.take_log() {
            self.fill(&mut line.live);
            line.write(LogType::DownstreamEnd);
        }
        self.record.begin_again(now);
        if let Some(logs) = &manager.logs {
            self.record.log_as(Line::new(logs.clone(), self.record.started));
        }
        self.deadlines.route.set(Deadline::NEVER);
        self.deadlines.route_timeout.set(None);
        self.deadlines.idle_timeout.set(manager.config.stream_idle_timeout);
        self.moved(now);
        if manager.replies.is_some() {
            *self.record.head.borrow_mut() = Some(Box::new(head.clone()));
        }
        *self.record.route.borrow_mut() = Some(decision);
        self.log_start(&head);
        let body: Body<'_> = body.into_body();
        manager.chain.run(Request { head, body }, self)
    }
}
