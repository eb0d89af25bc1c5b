//! Tries beside each other (`hedge_on_per_try_timeout`): a try that takes too long is not ended, another goes out beside it, and the first
//! good answer wins.
//!
//! ```text
//!   try ──too long──▶ beside ──────────────────────────▶ good: passed on, the others end
//!                       │ pause, then                ──▶ bad, or failed: forgotten while another is under way
//!                       └────────▶ next try ──too long──▶ beside …
//! ```
//!
//! A try counts against `num_retries` and the retry budget when it goes out. What is under way beside the last one has been tried again
//! already: it is never tried again for what it answers. When the last one has nothing to say, one of those beside takes its place. All of them end with the route's timeout, and with the drain.

use std::rc::Rc;
use std::task::{Context, Poll};

use crate::codec::head::ResponseHead;
use crate::http::failure::Failure;
use crate::upstream::Host;

use super::attempts::Next;
use super::retry::Event;
use super::{Exchange, Forwarding, State};

/// Tries that are under way beside the last one.
#[derive(Default)]
pub(super) struct Hedges<'a> {
    beside: Vec<Beside<'a>>,
    began: bool,
    /// The last one has been tried again too.
    spent: bool,
}

struct Beside<'a> {
    exchange: Exchange<'a>,
    host: Rc<Host>,
}

impl Hedges<'_> {
    /// Whether there ever was more than one.
    pub(super) fn began(&self) -> bool {
        self.began
    }

    /// How many there are.
    pub(super) fn count(&self) -> usize {
        self.beside.len()
    }

    /// Whether what the last one answers cannot be tried again, because that has been done.
    pub(super) fn is_spent(&self) -> bool {
        self.spent
    }
}

impl<'a> Forwarding<'a> {
    /// A try has taken too long: it goes on beside another one, where there may be one.
    pub(super) fn hedge(&mut self, exchange: Exchange<'a>) -> Result<State<'a>, Failure> {
        let host = self.stream.record().host.borrow().clone().ok_or(Failure::Internal)?;
        let attempts = self.attempts.as_mut().ok_or(Failure::Internal)?;
        if !attempts.may_retry() || attempts.hedges.is_spent() {
            return Ok(State::Waiting(exchange));
        }
        match attempts.judge(Event::Slow) {
            Next::Pause(until) => {
                attempts.ended_by(Some(Failure::PerTryTimeout));
                attempts.hedges.began = true;
                attempts.hedges.beside.push(Beside { exchange, host });
                attempts.tell_beside();
                Ok(State::Pausing(until, attempts.body()))
            }
            Next::Pass { .. } => Ok(State::Waiting(exchange)),
        }
    }

    /// What has come of the tries beside the last one, where that ends the wait for it.
    pub(super) fn poll_beside(&mut self, context: &mut Context<'_>) -> Option<Result<State<'a>, Failure>> {
        let mut at = 0;
        loop {
            let attempts = self.attempts.as_mut()?;
            let Poll::Ready(polled) = attempts.hedges.beside.get_mut(at)?.exchange.poll_head(context) else {
                at += 1;
                continue;
            };
            let Beside { mut exchange, host } = attempts.hedges.beside.swap_remove(at);
            attempts.tell_beside();
            match polled {
                Ok(head) if attempts.is_bad(&head) || exchange.is_handed_back() => {
                    host.count_retried();
                    exchange.dismiss();
                }
                Ok(head) => {
                    *self.stream.record().host.borrow_mut() = Some(host);
                    return Some(self.pass_on(head, exchange));
                }
                Err(failure) => self.stream.count_aborted(&host, failure),
            }
        }
    }

    /// The last try has come to nothing: one of those beside it goes on in its place, if there is one.
    pub(super) fn fall_back(&mut self) -> Option<State<'a>> {
        let attempts = self.attempts.as_mut()?;
        let Beside { exchange, host } = attempts.hedges.beside.pop()?;
        attempts.hedges.spent = true;
        attempts.tell_beside();
        *self.stream.record().host.borrow_mut() = Some(host);
        Some(State::Waiting(exchange))
    }

    /// A bad answer of the last try, which is not tried again: it is forgotten where another may still answer.
    pub(super) fn forget(&mut self, exchange: &mut Exchange<'a>) -> Option<State<'a>> {
        let host = self.stream.record().host.borrow().clone();
        let state = self.fall_back()?;
        exchange.dismiss();
        if let Some(host) = host {
            host.count_retried();
        }
        Some(state)
    }

    /// A response goes to the client, or where it sends the request.
    pub(super) fn pass_on(&mut self, head: ResponseHead, mut exchange: Exchange<'a>) -> Result<State<'a>, Failure> {
        if let Some(attempts) = &mut self.attempts
            && attempts.follows(&head)
        {
            exchange.dismiss();
            return Err(Failure::Redirected);
        }
        Ok(self.respond(head, exchange))
    }
}
