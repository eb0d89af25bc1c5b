//! The tries of one request: what it takes along for the next one, and what each of them is counted as.
//!
//! Only a request with a retry policy, or with a limit on one try, has this; it is gone when an answer is passed on. [`super::retry`] has the rules.
//! Until then the request does not move to another epoch: it ends its tries where it began. From the response's head on it may move, unless
//! `per_try_idle_timeout` still watches it. On reload it keeps the policy of the table that it pinned.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use http::HeaderValue;

use crate::codec::head::RequestHead;
use crate::codec::http1;
use crate::config::model::Tries;
use crate::fault::Flag;
use crate::http::body::Body;
use crate::http::failure::Failure;
use crate::http::filter::Request;
use crate::http::headers::names::X_ENVOY_IS_TIMEOUT_RETRY;
use crate::http::headers::{announce_attempts, announce_timeout};
use crate::http::route_stats::Counted;
use crate::http::stream::Stream;
use crate::local::Deadline;
use crate::route::{Decision, Entry};
use crate::upstream::limits::Retry;
use crate::upstream::{Cluster, Host};

use super::controls::Controls;
use super::handover::Echo;
use super::keeper::{Beyond, Keeper, Tap};
use super::retry::{Event, Pause, Retries, Verdict};
use super::rewrite;
use super::try_limits::TryLimits;
use super::{Exchange, exchange};

/// The timeouts of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Timeouts {
    /// Of all tries together.
    pub(super) total: Option<Duration>,
    per_try: Option<Duration>,
    per_try_idle: Option<Duration>,
}

impl Timeouts {
    /// From the route, its policy, and the request's own wishes.
    pub(super) fn new(route: Option<Duration>, tries: &Tries, controls: &Controls) -> Self {
        let wish = |wish: Option<Duration>, else_: Option<Duration>| match wish {
            Some(wish) => Some(wish).filter(|wish| !wish.is_zero()),
            None => else_,
        };
        let total = wish(controls.timeout, route);
        // One try that may take as long as all of them is not limited.
        let per_try = wish(controls.per_try_timeout, tries.policy.per_try_timeout)
            .filter(|per_try| total.is_none_or(|total| *per_try < total));
        Self { total, per_try, per_try_idle: tries.policy.per_try_idle_timeout }
    }

    /// Whether one try is limited.
    pub(super) fn limit_tries(&self) -> bool {
        self.per_try.is_some() || self.per_try_idle.is_some()
    }

    /// What the host is told: how long it is waited for, when so much time has passed.
    pub(super) fn expected(&self, elapsed: Duration) -> Option<Duration> {
        let expected = self.per_try.or(self.total)?;
        Some(match self.total {
            // Zero would mean for ever; the timeout itself comes in a moment.
            Some(total) => expected.min(total.saturating_sub(elapsed)).max(Duration::from_millis(1)),
            None => expected,
        })
    }
}

/// The tries of one request.
pub(super) struct Attempts<'a> {
    stream: &'a Stream<'a>,
    cluster: Rc<Cluster>,
    entry: Rc<Entry>,
    tries: Arc<Tries>,
    retries: Retries,
    timeouts: Timeouts,
    head: RequestHead,
    framing: http1::Body,
    /// Of a request with a body that may be sent again.
    keeper: Option<Rc<RefCell<Keeper<'a>>>>,
    /// Hosts that had their try, where they are to be avoided.
    tried: Vec<Rc<Host>>,
    /// The last try took too long.
    timed_out: bool,
    /// The retry in progress.
    admitted: Option<Retry>,
}

/// What becomes of a try.
pub(super) enum Next {
    /// Its outcome is passed on.
    Pass,
    /// Another follows, not before then.
    Pause(Deadline),
}

impl<'a> Attempts<'a> {
    /// Takes a request, and gives back the body of its first try.
    pub(super) fn new(
        stream: &'a Stream<'a>,
        cluster: &Rc<Cluster>,
        tries: &Arc<Tries>,
        decision: &Decision,
        retries: Retries,
        timeouts: Timeouts,
        request: Request<'a>,
    ) -> (Box<Self>, Body<'a>) {
        let Request { head, body } = request;
        let framing = exchange::framing(&body);
        let (keeper, body) = if retries.enabled() && framing != http1::Body::Empty {
            let limit = tries.buffer_limit(stream.manager().buffer_limit);
            let beyond = if retries.takes_handover(&tries.policy) { Beyond::Window } else { Beyond::Drop };
            let keeper = Keeper::new(body, limit, beyond);
            let tap = Body::Other(Box::new(Tap::new(&keeper)));
            (Some(keeper), tap)
        } else {
            (None, body)
        };
        let this = Self {
            stream,
            cluster: cluster.clone(),
            entry: decision.route.clone(),
            tries: tries.clone(),
            retries,
            timeouts,
            head,
            framing,
            keeper,
            tried: Vec::new(),
            timed_out: false,
            admitted: None,
        };
        (Box::new(this), body)
    }

    /// The exchange of the next try. `announces` that the host is told how long it has.
    pub(super) fn exchange(&mut self, host: &Host, body: Body<'a>, announces: bool) -> Result<Exchange<'a>, Failure> {
        let record = self.stream.record();
        let attempts = record.attempts.get();
        let headers = &mut self.head.headers;
        let elapsed = record.received_at.get().map_or(Duration::ZERO, |received_at| received_at.elapsed());
        let elapsed = if attempts > 1 { elapsed } else { Duration::ZERO };
        if let Some(expected) = self.timeouts.expected(elapsed).filter(|_| announces) {
            announce_timeout(headers, expected);
        }
        if self.tries.count_in_request {
            announce_attempts(headers, attempts);
        }
        if self.tries.timeout_in_request && attempts > 1 {
            let value = HeaderValue::from_static(if self.timed_out { "true" } else { "false" });
            headers.set(X_ENVOY_IS_TIMEOUT_RETRY.clone(), value);
        }
        self.stream.keep_request(&self.head);
        let head = self.head.clone();
        let mut exchange = exchange::encode(self.stream, &self.cluster, host, head, self.framing, body)?;
        exchange.limit(TryLimits::new(self.timeouts.per_try, self.timeouts.per_try_idle));
        Ok(exchange)
    }

    /// A host for the next try, which begins with it; `None` (counted) when none is healthy.
    pub(super) fn pick(&mut self) -> Option<Rc<Host>> {
        let policy = &self.tries.policy;
        let avoid = |host: &Rc<Host>| self.tried.iter().any(|tried| Rc::ptr_eq(tried, host));
        let record = self.stream.record();
        record.count_try();
        let host = self.cluster.pick_again(policy.host_attempts, avoid)?.clone();
        *record.host.borrow_mut() = Some(host.clone());
        self.count(|counted| counted.stats.upstream_rq_total.inc());
        rewrite::next_host(&mut self.head, &self.entry, &host);
        Some(host)
    }

    /// Counts where the route and its virtual cluster are counted.
    fn count(&self, count: impl Fn(&Counted)) {
        self.stream.manager().route_stats.each(self.stream.record(), count);
    }

    /// Gives up retries once more of the body has come than may be kept.
    pub(super) fn notice_overflow(&mut self) {
        let overflowed = self.keeper.as_ref().is_some_and(|keeper| keeper.borrow().has_overflowed());
        if overflowed && !self.retries.has_given_up() {
            self.cluster.stats().retry_or_shadow_abandoned.inc();
            self.retries.give_up();
            self.admitted = None;
        }
    }

    /// Judges an answer, the head of which has come, or a failure. The body of another try is that of [`Self::body`].
    pub(super) fn judge(&mut self, event: Event<'_>) -> Next {
        self.notice_overflow();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let verdict = self.retries.judge(event, &self.tries.policy, &self.entry.retriable, now, fastrand::u64(..));
        self.admitted = None;
        let stats = self.cluster.stats();
        match verdict {
            Verdict::Settled { after_retry } => {
                if after_retry {
                    stats.upstream_rq_retry_success.inc();
                    self.count(|counted| counted.stats.upstream_rq_retry_success.inc());
                }
            }
            Verdict::Exhausted => {
                stats.upstream_rq_retry_limit_exceeded.inc();
                self.count(|counted| counted.stats.upstream_rq_retry_limit_exceeded.inc());
                self.stream.record().flag(Flag::UpstreamRetryLimitExceeded);
            }
            // An operator has switched retries off.
            Verdict::Again(_) if !self.cluster.model().retries.holds(fastrand::u64(..)) => {}
            Verdict::Again(pause) => {
                self.admitted = self.cluster.admit_retry();
                if self.admitted.is_some() {
                    self.count(|counted| counted.stats.upstream_rq_retry.inc());
                    return Next::Pause(self.pause(event, pause));
                }
                self.count(|counted| counted.stats.upstream_rq_retry_overflow.inc());
                self.stream.record().flag(Flag::UpstreamOverflow);
            }
        }
        Next::Pass
    }

    fn pause(&mut self, event: Event<'_>, pause: Pause) -> Deadline {
        let stats = self.cluster.stats();
        let wait = match pause {
            Pause::Exponential(wait) => {
                stats.upstream_rq_retry_backoff_exponential.inc();
                wait
            }
            Pause::RateLimited(wait) => {
                stats.upstream_rq_retry_backoff_ratelimited.inc();
                wait
            }
        };
        if let Event::Answer(status, _) = event {
            self.cluster.count_retried(status.as_u16());
        }
        if let Some(host) = &*self.stream.record().host.borrow() {
            host.count_retried();
            if self.tries.policy.avoid_previous_hosts {
                self.tried.push(host.clone());
            }
        }
        let moment = Instant::now().checked_add(wait);
        moment.map_or(Deadline::NEVER, |moment| self.stream.timer().at(moment))
    }

    /// Notes what the next try tells its host about this one.
    pub(super) fn ended_by(&mut self, failure: Option<Failure>) {
        self.timed_out = matches!(failure, Some(Failure::PerTryTimeout | Failure::PerTryIdleTimeout));
    }

    /// The body of the next try, after one that ended without handing back what it had.
    pub(super) fn body(&self) -> Body<'a> {
        match &self.keeper {
            Some(keeper) => Body::Other(Box::new(Tap::new(keeper))),
            None => Body::Empty,
        }
    }

    /// The body of the next try, after one that was handed back; the host's echo is needed where the beginning is not here any more.
    pub(super) fn handed_back(&mut self, host: Exchange<'a>) -> Body<'a> {
        match &self.keeper {
            Some(keeper) if keeper.borrow().has_overflowed() => {
                let limit = self.tries.buffer_limit(self.stream.manager().buffer_limit);
                let echo = Body::Other(Box::new(Echo::new(host, keeper.clone())));
                let keeper = Keeper::new(echo, limit, Beyond::Window);
                let body = Body::Other(Box::new(Tap::new(&keeper)));
                self.keeper = Some(keeper);
                body
            }
            _ => self.body(),
        }
    }

    /// There is no other try: the last one goes on alone, and what was kept for another goes.
    pub(super) fn over(self: Box<Self>, exchange: &mut Exchange<'a>) {
        let Some(keeper) = self.keeper else { return };
        let mut keeper = keeper.borrow_mut();
        match keeper.release() {
            Some(body) => exchange.go_on_with(body),
            None => keeper.forget(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_expected_timeout_is_what_is_left() {
        let ms = Duration::from_millis;
        let of = |total: Option<u64>, per_try: Option<u64>| {
            let controls = Controls { per_try_timeout: per_try.map(ms), ..Controls::default() };
            Timeouts::new(total.map(ms), &Tries::default(), &controls)
        };
        assert_eq!(of(Some(1000), None).expected(Duration::ZERO), Some(ms(1000)));
        assert_eq!(of(Some(1000), Some(300)).expected(Duration::ZERO), Some(ms(300)));
        assert_eq!(of(Some(1000), Some(300)).expected(ms(800)), Some(ms(200)));
        assert_eq!(of(Some(1000), Some(300)).expected(ms(1500)), Some(ms(1)));
        assert_eq!(of(None, Some(300)).expected(ms(1500)), Some(ms(300)));
        assert_eq!(of(None, None).expected(Duration::ZERO), None);
        assert!(!of(Some(300), Some(300)).limit_tries(), "one try as long as all is no limit");
        let controls = Controls { timeout: Some(Duration::ZERO), ..Controls::default() };
        assert_eq!(Timeouts::new(Some(ms(1)), &Tries::default(), &controls).total, None);
    }
}
