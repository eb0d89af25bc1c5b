//! A token bucket in one atomic: the moment at which it was, or would have been, empty.
//!
//! Tokens come one by one, evenly over the fill interval, as in Envoy since it gave up its timers; what is in the bucket follows from the
//! clock, so nobody has to fill it.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

/// How a bucket fills.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rate {
    most: u32,
    /// Nanoseconds for a token.
    cost: i64,
}

impl Rate {
    /// `most` tokens, `tokens` of them in `interval`.
    pub(super) fn new(most: u32, tokens: u32, interval: Duration) -> Self {
        let cost = interval.as_nanos() / u128::from(tokens.max(1));
        // A hundred years are as good as never, and leave room for sums.
        Self { most, cost: i64::try_from(cost.max(1)).unwrap_or(i64::MAX).min(3_155_760_000_000_000_000) }
    }

    /// How many tokens there are at most.
    pub(super) fn tokens(self) -> u32 {
        self.most
    }

    /// Whether it fills more slowly than another one.
    pub(super) fn is_slower(self, other: Self) -> std::cmp::Ordering {
        other.cost.cmp(&self.cost)
    }

    /// How long an empty bucket takes.
    fn whole(self) -> i64 {
        self.cost.saturating_mul(self.most.into()).min(i64::MAX / 2)
    }
}

/// What is in a bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Level {
    /// Whole tokens.
    pub(super) tokens: u64,
    /// Until there is one: nothing where there is.
    wait: i64,
}

impl Level {
    /// Seconds until there is a token, rounded up.
    pub(super) fn wait_seconds(self) -> u64 {
        u64::try_from(self.wait).unwrap_or_default().div_ceil(1_000_000_000)
    }
}

/// The bucket, full at first. What it holds is no part of what was configured: as settings, all are equal.
#[derive(Debug)]
pub(super) struct Bucket {
    epoch: Instant,
    /// When it was empty, in nanoseconds since `epoch`.
    empty: AtomicI64,
}

impl Default for Bucket {
    fn default() -> Self {
        Self { epoch: Instant::now(), empty: AtomicI64::new(i64::MIN / 2) }
    }
}

impl PartialEq for Bucket {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Bucket {
    /// Takes so many tokens, where they are there, and says what is left. Fewer than none are given back, as far as there is room.
    pub(super) fn take(&self, rate: &Rate, now: Instant, tokens: i64) -> (bool, Level) {
        let now = self.moment(now);
        let cost = rate.cost.saturating_mul(tokens);
        let since = |empty: i64| now - empty.max(now.saturating_sub(rate.whole()));
        let left = |empty: i64| since(empty).saturating_sub(cost).min(rate.whole());
        let next = |empty: i64| (since(empty) >= cost).then(|| now.saturating_sub(left(empty)));
        // Nothing else is read by what is read here.
        match self.empty.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next) {
            Ok(before) => (true, level(left(before), rate)),
            Err(there) => (false, level(since(there), rate)),
        }
    }

    /// Whether nothing is missing.
    pub(super) fn is_full(&self, rate: &Rate, now: Instant) -> bool {
        self.empty.load(Ordering::Relaxed) <= self.moment(now).saturating_sub(rate.whole())
    }

    fn moment(&self, now: Instant) -> i64 {
        i64::try_from(now.saturating_duration_since(self.epoch).as_nanos()).unwrap_or(i64::MAX / 2)
    }
}

fn level(filled: i64, rate: &Rate) -> Level {
    let tokens = u64::try_from(filled / rate.cost).unwrap_or_default();
    Level { tokens, wait: if tokens > 0 { 0 } else { rate.cost - filled } }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_empties_and_fills_evenly_and_never_over_the_brim() {
        let (rate, bucket) = (Rate::new(2, 4, Duration::from_secs(1)), Bucket::default());
        let at = |millis| bucket.epoch + Duration::from_millis(millis);
        let take = |millis| {
            let (taken, level) = bucket.take(&rate, at(millis), 1);
            (taken, level.tokens, level.wait / 1_000_000)
        };
        assert!(bucket.is_full(&rate, at(0)));
        assert_eq!(take(0), (true, 1, 0));
        assert_eq!(take(0), (true, 0, 250));
        assert_eq!(take(0), (false, 0, 250));
        assert_eq!(take(200), (false, 0, 50));
        assert_eq!(take(250), (true, 0, 250));
        assert!(!bucket.is_full(&rate, at(749)));
        assert!(bucket.is_full(&rate, at(750)));
        assert_eq!(take(60_000), (true, 1, 0));
    }

    #[test]
    fn several_are_taken_at_once_or_given_back() {
        let (rate, bucket) = (Rate::new(5, 1, Duration::from_secs(3600)), Bucket::default());
        let take = |tokens| {
            let (taken, level) = bucket.take(&rate, bucket.epoch, tokens);
            (taken, level.tokens)
        };
        assert_eq!([take(3), take(3), take(2), take(0)], [(true, 2), (false, 2), (true, 0), (true, 0)]);
        assert_eq!([take(-1), take(-1_000_000_000), take(1)], [(true, 1), (true, 5), (true, 4)]);
        assert_eq!(take(i64::MAX), (false, 4));
    }

    #[test]
    fn extremes_neither_overflow_nor_let_through() {
        let now = Instant::now();
        let (none, slow) = (Rate::new(0, 1, Duration::from_secs(1)), Rate::new(u32::MAX, 1, Duration::MAX));
        assert!(!Bucket::default().take(&none, now, 1).0);
        assert!(Bucket::default().is_full(&slow, now));
        let (taken, level) = Bucket::default().take(&slow, now, 1);
        assert!(taken, "{level:?}");
    }

    #[test]
    fn threads_take_no_more_than_there_is() {
        let (rate, bucket) = (Rate::new(1000, 1, Duration::from_secs(3600)), Bucket::default());
        let take = || (0..400).filter(|_| bucket.take(&rate, Instant::now(), 1).0).count();
        let taken: usize = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(take)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap_or_default()).sum()
        });
        assert_eq!(taken, 1000);
    }
}
