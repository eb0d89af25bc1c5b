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

use crate::codec::head::{RequestHead, ResponseHead};
use crate::codec::http1;
use crate::config::model::{InternalRedirects, RouteAction, Tries};
use crate::fault::Flag;
use crate::http::body::Body;
use crate::http::failure::Failure;
use crate::http::filter::Request;
use crate::http::headers::names::X_ENVOY_IS_TIMEOUT_RETRY;
use crate::http::headers::{announce_attempts, announce_timeout};
use crate::http::redirects::Kept;
use crate::http::route_stats::Counted;
use crate::http::stream::Stream;
use crate::local::Deadline;
use crate::route::{Decision, Entry};
use crate::upstream::limits::Retry;
use crate::upstream::{Cluster, Host};

use super::handover::Echo;
use super::hedge::Hedges;
use super::keeper::{Beyond, Keeper, Tap};
use super::retry::{Event, Pause, Retries, Verdict};
use super::rewrite;
use super::timeouts::Timeouts;
use super::{Exchange, exchange, redirected};

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
    /// Tries that are under way beside the last one.
    pub(super) hedges: Hedges<'a>,
}

/// The redirects that a route follows.
fn redirects(entry: &Entry) -> Option<&InternalRedirects> {
    match &entry.action {
        RouteAction::Forward(forward) => forward.redirects.as_deref(),
        _ => None,
    }
}

/// What becomes of a try.
pub(super) enum Next {
    /// Its outcome is passed on; `bad` says that it would have been tried again.
    Pass { bad: bool },
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
        let keeps = retries.enabled() || redirects(&decision.route).is_some();
        let (keeper, body) = if keeps && framing != http1::Body::Empty {
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
            hedges: Hedges::default(),
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
        exchange.limit(self.timeouts.of_try());
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
                return Next::Pass { bad: false };
            }
            Verdict::Exhausted => {
                stats.upstream_rq_retry_limit_exceeded.inc();
                self.count(|counted| counted.stats.upstream_rq_retry_limit_exceeded.inc());
                self.stream.record().flag(Flag::UpstreamRetryLimitExceeded);
            }
            // An operator has switched retries off.
            Verdict::Again(_) if !self.cluster.model().retries.holds(fastrand::u64(..)) => {}
            Verdict::Again(pause) => {
                self.admitted = self.cluster.admit_retry(self.stream.record().high.get());
                if self.admitted.is_some() {
                    self.count(|counted| counted.stats.upstream_rq_retry.inc());
                    return Next::Pause(self.pause(event, pause));
                }
                self.count(|counted| counted.stats.upstream_rq_retry_overflow.inc());
                self.stream.record().flag(Flag::UpstreamOverflow);
            }
        }
        Next::Pass { bad: true }
    }

    /// Notes how many tries are under way beside the last one: a timeout of the route ends them all.
    pub(super) fn tell_beside(&self) {
        let count = u8::try_from(self.hedges.count()).unwrap_or(u8::MAX);
        self.stream.record().beside.set(count);
    }

    /// Whether anything may be tried again at all.
    pub(super) fn may_retry(&self) -> bool {
        self.retries.enabled() && !self.retries.has_given_up()
    }

    /// Whether a try that takes too long goes on beside another.
    pub(super) fn hedges_on_timeout(&self) -> bool {
        self.timeouts.hedges
    }

    /// Whether an answer would be tried again, if that could be.
    pub(super) fn is_bad(&self, response: &ResponseHead) -> bool {
        self.retries.would_retry(response.status, &response.headers, &self.tries.policy, &self.entry.retriable)
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
            if !matches!(event, Event::Slow) {
                host.count_retried();
            }
            if self.tries.policy.avoid_previous_hosts {
                self.tried.push(host.clone());
            }
        }
        let moment = Instant::now().checked_add(wait);
        moment.map_or(Deadline::NEVER, |moment| self.stream.timer().at(moment))
    }

    /// Whether the response, which no retry has been made of, is a redirect that the request follows here: then it is ready to be asked again.
    pub(super) fn follows(&mut self, response: &ResponseHead) -> bool {
        let entry = self.entry.clone();
        let Some(policy) = redirects(&entry).filter(|policy| redirected::concerns(policy, response)) else {
            return false;
        };
        let stream = self.stream;
        let whole = || {
            if !stream.is_complete() {
                return None;
            }
            let Some(keeper) = &self.keeper else { return Some(Kept::default()) };
            let (pieces, trailers) = keeper.borrow_mut().take_whole()?;
            Some(Kept { pieces, trailers, announced: matches!(self.framing, http1::Body::Length(_)) })
        };
        let again = redirected::follow(policy, &entry, &self.head, response, stream, whole);
        let stats = self.cluster.stats();
        let follows = again.is_some();
        if follows {
            stats.upstream_internal_redirect_succeeded_total.inc();
            stream.record().redirected(|redirects| redirects.next = again);
        } else {
            stats.upstream_internal_redirect_failed_total.inc();
        }
        follows
    }

    /// Notes what the next try tells its host about this one.
    pub(super) fn ended_by(&mut self, failure: Option<Failure>) {
        self.timed_out = matches!(failure, Some(Failure::PerTryTimeout | Failure::PerTryIdleTimeout));
    }

    /// The body of the next try, after one that ended without handing back what it had.
    pub(super) fn body(&self) -> Body<'a> {
        match &self.keeper {
            Some(keeper) if self.hedges.began() => Body::Other(Box::new(Tap::beside(keeper))),
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
        // Which of several tries has read how far is not worth knowing: what is kept goes with the last.
        let Some(keeper) = self.keeper.filter(|_| !self.hedges.began()) else { return };
        let mut keeper = keeper.borrow_mut();
        match keeper.release() {
            Some(body) => exchange.go_on_with(body),
            None => keeper.forget(),
        }
    }
}
