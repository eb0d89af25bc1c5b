//! Moments in records: no clock is shared between two processes, so a moment travels as how long ago it was, or how far it is, in milliseconds.

use std::time::{Duration, Instant};

/// How long ago a moment was.
pub fn ago(moment: Instant) -> u64 {
    milliseconds(moment.elapsed())
}

/// The moment so long ago; for one before this system started, now.
pub fn before(milliseconds: u64) -> Instant {
    let now = Instant::now();
    now.checked_sub(Duration::from_millis(milliseconds)).unwrap_or(now)
}

/// A time.
pub fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
