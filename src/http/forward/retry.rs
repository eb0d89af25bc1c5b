//! Whether a request is tried again, and when: the rules, without IO, clock or chance of their own.
//!
//! ```text
//!   what happened ──▶ Retries::judge ──▶ Settled      pass it on
//!                                    ├─▶ Exhausted    pass it on: it would have been tried again (URX)
//!                                    └─▶ Again(pause) if the cluster's circuit breaker allows it
//! ```
//!
//! The rules are those of Envoy's `RetryStateImpl`. A response that came from a rate limiter in another Envoy is judged by
//! `envoy-ratelimited` alone; an overflow of our own is never retried; a reset counts as the 5xx that it would become, for
//! `gateway-error` too. What is Heirloom's own is [`Event::Handover`], which `reset`, `5xx` and `gateway-error` allow as they allow a reset,
//! and a list of status codes that names 379.

use std::time::Duration;

use http::{HeaderName, StatusCode};

use crate::codec::head::{Headers, RequestHead};
use crate::config::model::{RetryOn, RetryPolicy};
use crate::route::{HeaderMatcher, Retriable};

use super::controls::Controls;
use super::handover;
use crate::http::failure::Failure;
use crate::http::headers::names::X_ENVOY_RATELIMITED;

const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");

/// Conditions for which a reset is a failure of the host.
const ON_RESET: RetryOn = RetryOn::RESET.or(RetryOn::STATUS_5XX).or(RetryOn::GATEWAY_ERROR);

/// gRPC statuses that may be retried.
const GRPC: [(&[u8], RetryOn); 5] = [
    (b"1", RetryOn::GRPC_CANCELLED),
    (b"4", RetryOn::GRPC_DEADLINE_EXCEEDED),
    (b"8", RetryOn::GRPC_RESOURCE_EXHAUSTED),
    (b"13", RetryOn::GRPC_INTERNAL),
    (b"14", RetryOn::GRPC_UNAVAILABLE),
];

/// What came of a try.
#[derive(Clone, Copy, Debug)]
pub(super) enum Event<'h> {
    /// A response.
    Answer(StatusCode, &'h Headers),
    /// The host went away, broke the protocol, or took too long for one try.
    Reset {
        /// Nothing of the request had been sent.
        unseen: bool,
    },
    /// The host refused the stream (HTTP/2), or went away before it looked at it.
    Refused,
    /// There was no connection.
    ConnectFailure,
    /// The host handed the request back (379).
    Handover,
    /// It takes longer than one may, and goes on: another is to go beside it.
    Slow,
    /// Our own circuit breaker: another try would only meet it again.
    Overflow,
}

impl Event<'_> {
    /// What a failure is to the rules; `None` where no try can help.
    pub(super) fn of(failure: Failure, unseen: bool) -> Option<Self> {
        match failure {
            Failure::UpstreamClosed
            | Failure::UpstreamProtocol
            | Failure::UpstreamReset
            | Failure::PerTryTimeout
            | Failure::PerTryIdleTimeout => Some(Self::Reset { unseen }),
            Failure::UpstreamRefused => Some(Self::Refused),
            Failure::Connect | Failure::ConnectTimeout => Some(Self::ConnectFailure),
            Failure::Overflow => Some(Self::Overflow),
            _ => None,
        }
    }
}

/// What to do now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Pass on what there is.
    Settled {
        /// There were retries, and this is what they were for (`upstream_rq_retry_success`).
        after_retry: bool,
    },
    /// Pass it on, because no retry is left.
    Exhausted,
    /// Try again.
    Again(Pause),
}

/// How long before the next try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pause {
    /// Our own back-off.
    Exponential(Duration),
    /// What the host asked for.
    RateLimited(Duration),
}

/// The retries of one request.
#[derive(Debug)]
pub(super) struct Retries {
    on: RetryOn,
    given_up: bool,
    left: u32,
    /// The last event was retried.
    retried: bool,
    /// The interval that the next pause is drawn from.
    interval: Duration,
    /// The longest.
    longest: Duration,
    /// From `x-envoy-retriable-status-codes`.
    status_codes: Vec<u32>,
    /// From `x-envoy-retriable-header-names`.
    headers: Vec<HeaderMatcher>,
}

impl Retries {
    /// What a request with these wishes of its own is tried again for. Most are for nothing, and need no more than this.
    pub(super) fn conditions(
        policy: &RetryPolicy,
        retriable: &Retriable,
        head: &RequestHead,
        controls: &Controls,
    ) -> RetryOn {
        let may = || retriable.request.is_empty() || retriable.request.iter().any(|asked| asked.matches_request(head));
        let on = policy.on.or(controls.retry_on);
        if on.is_empty() || may() { on } else { RetryOn::default() }
    }

    /// For a request that is tried again for this.
    pub(super) fn new(policy: &RetryPolicy, on: RetryOn, controls: Controls) -> Self {
        let (interval, longest) = policy.intervals();
        Self {
            on,
            given_up: false,
            left: controls.max_retries.unwrap_or(policy.retries),
            retried: false,
            interval,
            longest,
            status_codes: controls.status_codes,
            headers: controls.headers.into_iter().map(HeaderMatcher::present).collect(),
        }
    }

    /// Whether anything would be retried.
    pub(super) fn enabled(&self) -> bool {
        !self.on.is_empty()
    }

    /// Whether a request that is handed back may go to another host.
    pub(super) fn takes_handover(&self, policy: &RetryPolicy) -> bool {
        self.on.any(ON_RESET) || (self.on.any(RetryOn::RETRIABLE_STATUS_CODES) && self.lists(policy, handover::STATUS))
    }

    /// The request is not here any more: from now on only a host can give it back.
    pub(super) fn give_up(&mut self) {
        self.given_up = true;
        self.retried = false;
    }

    /// Whether [`Self::give_up`] was called.
    pub(super) fn has_given_up(&self) -> bool {
        self.given_up
    }

    /// Judges what came of a try. `now` is the wall clock in seconds since 1970, `random` any number.
    pub(super) fn judge(
        &mut self,
        event: Event<'_>,
        policy: &RetryPolicy,
        retriable: &Retriable,
        now: u64,
        random: u64,
    ) -> Verdict {
        let retry = match event {
            Event::Answer(status, headers) => self.wants_answer(status, headers, policy, retriable),
            Event::Reset { unseen } => self.on.any(ON_RESET) || (unseen && self.on.any(RetryOn::RESET_BEFORE_REQUEST)),
            Event::Refused => self.on.any(ON_RESET.or(RetryOn::REFUSED_STREAM)),
            // Nothing has been sent, so that it is before the request as well.
            Event::ConnectFailure => {
                self.on.any(ON_RESET.or(RetryOn::RESET_BEFORE_REQUEST).or(RetryOn::CONNECT_FAILURE))
            }
            Event::Handover => self.takes_handover(policy),
            // Nothing has failed yet, so that no condition is asked.
            Event::Slow => true,
            Event::Overflow => false,
        };
        if !retry || (self.given_up && !matches!(event, Event::Handover)) {
            return Verdict::Settled { after_retry: std::mem::take(&mut self.retried) };
        }
        if self.left == 0 {
            return Verdict::Exhausted;
        }
        self.left -= 1;
        self.retried = true;
        let asked = match event {
            Event::Answer(_, headers) => reset_interval(headers, policy, now),
            _ => None,
        };
        Verdict::Again(match asked {
            // Everybody was told the same moment: up to half as long again spreads them.
            Some(wait) => Pause::RateLimited(wait + part_of(wait / 2, random)),
            None => Pause::Exponential(self.back_off(random)),
        })
    }

    /// Whether an answer is one to be tried again, whatever is left.
    pub(super) fn would_retry(
        &self,
        status: StatusCode,
        headers: &Headers,
        policy: &RetryPolicy,
        retriable: &Retriable,
    ) -> bool {
        self.wants_answer(status, headers, policy, retriable)
    }

    fn wants_answer(&self, status: StatusCode, headers: &Headers, policy: &RetryPolicy, retriable: &Retriable) -> bool {
        let on = |condition| self.on.any(condition);
        if headers.contains(&X_ENVOY_RATELIMITED) {
            return on(RetryOn::ENVOY_RATELIMITED);
        }
        if on(RetryOn::STATUS_5XX) && status.is_server_error()
            || on(RetryOn::GATEWAY_ERROR) && matches!(status.as_u16(), 502..=504)
            || on(RetryOn::RETRIABLE_4XX) && status == StatusCode::CONFLICT
            || on(RetryOn::RETRIABLE_STATUS_CODES) && self.lists(policy, status.as_u16())
        {
            return true;
        }
        if on(RetryOn::RETRIABLE_HEADERS) {
            let mut matchers = retriable.response.iter().chain(&self.headers);
            if matchers.any(|matcher| matcher.matches_response(headers, status)) {
                return true;
            }
        }
        let grpc = headers.get(&GRPC_STATUS);
        grpc.is_some_and(|status| GRPC.iter().any(|(code, when)| on(*when) && status.as_bytes() == *code))
    }

    fn lists(&self, policy: &RetryPolicy, status: u16) -> bool {
        policy.status_codes.iter().chain(&self.status_codes).any(|code| *code == u32::from(status))
    }

    /// Drawn evenly from the interval, which doubles with every try.
    fn back_off(&mut self, random: u64) -> Duration {
        let pause = part_of(self.interval, random);
        if self.interval < self.longest {
            self.interval = self.interval.saturating_mul(2);
        }
        pause.min(self.longest)
    }
}

/// A part of a duration, in whole milliseconds and below it.
fn part_of(whole: Duration, random: u64) -> Duration {
    let millis = u64::try_from(whole.as_millis()).unwrap_or(u64::MAX);
    Duration::from_millis(random % millis.max(1))
}

/// How long the host asks to be left alone: by the first of the headers that says it and asks for no more than is allowed.
fn reset_interval(headers: &Headers, policy: &RetryPolicy, now: u64) -> Option<Duration> {
    policy.reset_headers.iter().find_map(|reset| {
        let name = HeaderName::from_bytes(reset.name.as_bytes()).ok()?;
        // The first value alone: whoever adds more is not to be trusted.
        let number: u64 = std::str::from_utf8(headers.get(&name)?.as_bytes()).ok()?.trim().parse().ok()?;
        let seconds = if reset.is_timestamp { number.checked_sub(now)? } else { number };
        let wait = Duration::from_secs(seconds);
        (!wait.is_zero() && wait <= policy.reset_max_interval).then_some(wait)
    })
}

#[cfg(test)]
mod tests;
