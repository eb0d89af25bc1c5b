//! Where statistics are sent at every flush.

pub mod statsd;

use super::Stat;

/// Takes what is new since the last flush of whichever epoch: counters and histograms as differences, gauges as they
/// stand.
pub trait Sink {
    /// Sends one, at once: it counts as sent. What cannot be sent is lost, as in Envoy: a sink must never hold up the proxy.
    fn send(&mut self, delta: &Stat);
}
