//! The timeouts of a request: of all tries, and of one.

use std::time::Duration;

use crate::config::model::Tries;

use super::controls::Controls;
use super::try_limits::TryLimits;

/// The timeouts of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Timeouts {
    /// Of all tries together.
    pub(super) total: Option<Duration>,
    per_try: Option<Duration>,
    per_try_idle: Option<Duration>,
    /// `hedge_on_per_try_timeout`: a try that takes too long is not ended, another goes beside it.
    pub(super) hedges: bool,
    /// The host has been told by another proxy.
    told: bool,
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
        let hedges = controls.hedges.unwrap_or(tries.hedges);
        Self { total, per_try, per_try_idle: tries.policy.per_try_idle_timeout, hedges, told: controls.expected }
    }

    /// Whether one try is limited.
    pub(super) fn limit_tries(&self) -> bool {
        self.per_try.is_some() || self.per_try_idle.is_some()
    }

    /// The limits of one try.
    pub(super) fn of_try(&self) -> Option<TryLimits> {
        TryLimits::new(self.per_try, self.per_try_idle, self.hedges)
    }

    /// What the host is told: how long it is waited for, when so much time has passed.
    pub(super) fn expected(&self, elapsed: Duration) -> Option<Duration> {
        if self.told {
            return None;
        }
        // Where a try goes on behind its time, its host has the time of all.
        let expected = self.per_try.filter(|_| !self.hedges).or(self.total)?;
        Some(match self.total {
            // Zero would mean for ever; the timeout itself comes in a moment.
            Some(total) => expected.min(total.saturating_sub(elapsed)).max(Duration::from_millis(1)),
            None => expected,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::rewrite;
    use super::*;
    use crate::codec::head::RequestHead;
    use crate::config::model::{Forward, GrpcTimeout};
    use http::{HeaderName, HeaderValue, Method};

    #[test]
    fn what_a_grpc_client_waits_is_capped_by_the_route() {
        let ms = Duration::from_millis;
        let of = |most: Option<u64>, offset: u64, asked: Option<&'static str>, grpc: bool| {
            let grpc_timeout = Some(GrpcTimeout { most: most.map(ms), offset: ms(offset) });
            let forward = Forward { grpc_timeout, ..Forward::to("c") };
            let mut head = RequestHead::new(Method::POST, "h", "/");
            if let Some(asked) = asked {
                head.headers.set(HeaderName::from_static("grpc-timeout"), HeaderValue::from_static(asked));
            }
            rewrite::timeout(&head, grpc, &forward)
        };
        assert_eq!(of(Some(5000), 0, Some("3S"), true), Some(ms(3000)));
        assert_eq!(of(Some(2000), 0, Some("3S"), true), Some(ms(2000)));
        assert_eq!(of(Some(2000), 0, None, true), Some(ms(2000)));
        assert_eq!(of(None, 0, None, true), None, "zero is no limit");
        assert_eq!(of(None, 100, Some("3S"), true), Some(ms(2900)));
        assert_eq!(of(None, 5000, Some("3S"), true), Some(ms(3000)), "an offset that leaves nothing");
        assert_eq!(of(Some(5000), 0, Some("3S"), false), Some(ms(15_000)), "the route's own");
    }

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
