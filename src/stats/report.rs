//! The main thread's view of all statistics: what the admin endpoint shows and what the sinks are sent.

use std::collections::HashMap;

use heirloom_supervisor::shm::Segment;

use super::names::OVERFLOW;
use super::sinks::Sink;
use super::{Bin, Counter, Kind, Scope, Stat, Store, Value};

/// Reads for the main thread. Every epoch has one; only the newest flushes.
pub struct Reporter {
    store: Store,
    overflow: Counter,
    sinks: Vec<Box<dyn Sink>>,
    intervals: HashMap<String, Vec<Bin>>,
}

impl Reporter {
    /// Over the root scope of the main thread.
    pub fn new(root: &Scope, sinks: Vec<Box<dyn Sink>>) -> Self {
        Self { store: root.store().clone(), overflow: root.counter(OVERFLOW), sinks, intervals: HashMap::new() }
    }

    /// All statistics that are `wanted`, sorted by name.
    pub fn snapshot(&self, wanted: impl Fn(&str, Kind) -> bool) -> Vec<Stat> {
        self.count_overflow();
        self.segment().snapshot(wanted)
    }

    /// What a histogram recorded in the last complete flush interval, smallest bin first.
    pub fn interval(&self, name: &str) -> &[Bin] {
        self.intervals.get(name).map_or(&[], Vec::as_slice)
    }

    /// One flush interval is over: tells the sinks what is new. Does nothing in an epoch that is not the newest: its
    /// counts are sent by that one.
    pub fn flush(&mut self) {
        if !self.store.is_newest() {
            self.intervals.clear();
            return;
        }
        self.count_overflow();
        let sinks = &mut self.sinks;
        let deltas = self.store.segment().take_deltas_with(|delta| sinks.iter_mut().for_each(|sink| sink.send(delta)));
        self.intervals = deltas
            .into_iter()
            .filter_map(|stat| match stat.value {
                Value::Histogram { bins, .. } if !bins.is_empty() => Some((stat.name, bins)),
                _ => None,
            })
            .collect();
    }

    /// Makes every counter read 0. The sinks do not notice.
    pub fn reset_counters(&self) {
        self.segment().reset_counters();
    }

    /// The segment that is read.
    pub fn segment(&self) -> &Segment {
        self.store.segment()
    }

    /// What the segment counted in its header, as a statistic: a counter of the newest epoch brings it up to date.
    fn count_overflow(&self) {
        if !self.store.is_newest() {
            return;
        }
        let (names, lanes) = self.segment().refused();
        let refused = names + lanes;
        if refused == 0 {
            return;
        }
        let counted = self.segment().counted(OVERFLOW).unwrap_or(refused);
        self.overflow.add(refused.saturating_sub(counted));
    }
}
