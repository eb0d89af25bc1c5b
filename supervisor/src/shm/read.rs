//! Reading: lanes added up to statistics, deltas for the sinks, the base of counters that were reset.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use super::layout::{BASE, MARKS};
use super::memory::{Memory, Moment, Slot};
use super::{Kind, Segment};

/// How many values fell into a bin of [`super::bins`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bin {
    /// Which.
    pub bin: u16,
    /// How many.
    pub count: u64,
}

/// One statistic as it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stat {
    /// Its full name.
    pub name: String,
    /// Its kind.
    pub kind: Kind,
    /// Whether it was ever counted or set.
    pub used: bool,
    /// What it says.
    pub value: Value,
}

/// What a statistic says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// Of a counter or a gauge.
    Number(u64),
    /// Of a histogram.
    Histogram {
        /// The sum of all values.
        sum: u64,
        /// The bins that are not empty, smallest first.
        bins: Vec<Bin>,
    },
}

impl Value {
    /// The number, or how many values a histogram has seen.
    pub fn count(&self) -> u64 {
        match self {
            Self::Number(value) => *value,
            Self::Histogram { bins, .. } => bins.iter().fold(0, |sum, bin| sum.saturating_add(bin.count)),
        }
    }
}

/// The entries of one statistic: more than one where two processes added it at the same time.
type Table = BTreeMap<(String, Kind), Vec<Slot>>;

impl Segment {
    /// All statistics that are `wanted`, sorted by name.
    pub fn snapshot(&self, wanted: impl Fn(&str, Kind) -> bool) -> Vec<Stat> {
        let memory = &*self.memory;
        let table = table(memory, wanted);
        let mut stats: Vec<Stat> = memory.consistent(|moment| {
            table
                .iter()
                .map(|((_, kind), slots)| {
                    let (used, value) = read(memory, moment, *kind, slots);
                    Stat { name: String::new(), kind: *kind, used, value }
                })
                .collect()
        });
        for (stat, ((name, kind), slots)) in stats.iter_mut().zip(table) {
            stat.name = name;
            if let (Kind::Counter, Value::Number(value)) = (kind, &mut stat.value) {
                *value = value.saturating_sub(total(memory, BASE, &slots, 0));
            }
        }
        stats
    }

    /// The value of one statistic; `None` if nobody has it.
    pub fn value(&self, kind: Kind, name: &str) -> Option<Value> {
        self.snapshot(|other, of| of == kind && other == name).pop().map(|stat| stat.value)
    }

    /// How much a counter has counted, whatever a reset took off what is shown; `None` if nobody has it.
    pub fn counted(&self, name: &str) -> Option<u64> {
        let memory = &*self.memory;
        let table = table(memory, |other, kind| kind == Kind::Counter && other == name);
        let slots = table.into_values().next()?;
        Some(memory.consistent(|moment| read(memory, moment, Kind::Counter, &slots).1.count()))
    }

    /// [`Self::take_deltas_with`], with nobody told.
    pub fn take_deltas(&self) -> Vec<Stat> {
        self.take_deltas_with(|_| {})
    }

    /// What the sinks have not been told yet: of counters and histograms what was added since the last call by
    /// whichever epoch, gauges as they stand, all of them only if they were ever used. Each is handed to `tell` right after its mark
    /// has moved: a process that is killed meanwhile loses at most the one that it was about to send, none is sent
    /// twice, and two callers at the same time get each once between them.
    pub fn take_deltas_with(&self, mut tell: impl FnMut(&Stat)) -> Vec<Stat> {
        let memory = &*self.memory;
        let table = table(memory, |_, _| true);
        let stats = memory.consistent(|moment| {
            table.iter().map(|((_, kind), slots)| read(memory, moment, *kind, slots)).collect::<Vec<_>>()
        });
        let taken = table.into_iter().zip(stats).filter(|(_, (used, _))| *used);
        taken
            .map(|(((name, kind), slots), (used, value))| {
                let value = match value {
                    Value::Number(value) if kind == Kind::Counter => Value::Number(advance(memory, &slots, 0, value)),
                    Value::Number(value) => Value::Number(value),
                    Value::Histogram { sum, bins } => advance_histogram(memory, &slots, sum, bins),
                };
                let stat = Stat { name, kind, used, value };
                tell(&stat);
                stat
            })
            .collect()
    }

    /// Makes every counter read 0 from now on, in every epoch. What the sinks get is not touched, as in Envoy.
    pub fn reset_counters(&self) {
        let memory = &*self.memory;
        let table = table(memory, |_, kind| kind == Kind::Counter);
        let totals = memory.consistent(|moment| {
            table.values().map(|slots| read(memory, moment, Kind::Counter, slots).1.count()).collect::<Vec<_>>()
        });
        for (slots, value) in table.values().zip(totals) {
            let missing = value.saturating_sub(total(memory, BASE, slots, 0));
            if let Some(base) = slots.first().and_then(|slot| memory.scalar(BASE, *slot, 0)) {
                base.fetch_add(missing, Ordering::Relaxed);
            }
        }
    }
}

fn table(memory: &Memory, wanted: impl Fn(&str, Kind) -> bool) -> Table {
    let mut table = Table::new();
    for index in 0..memory.names_used() {
        let Some(entry) = memory.entry(index) else { continue };
        let Some(name) = memory.name(&entry) else { continue };
        if wanted(&name, entry.kind) {
            table.entry((name, entry.kind)).or_default().push(entry.slot);
        }
    }
    table
}

fn total(memory: &Memory, lane: u64, slots: &[Slot], index: usize) -> u64 {
    slots.iter().fold(0, |sum, slot| sum.wrapping_add(memory.load_scalar(lane, *slot, index)))
}

fn read(memory: &Memory, moment: &Moment, kind: Kind, slots: &[Slot]) -> (bool, Value) {
    let lanes = || std::iter::once(moment.past).chain(moment.lanes.iter().copied());
    let sum = |index: usize| lanes().fold(0u64, |sum, lane| sum.wrapping_add(total(memory, lane, slots, index)));
    match kind {
        Kind::Counter => {
            let value = sum(0);
            (value > 0, Value::Number(value))
        }
        Kind::Gauge => {
            // What one thread added another may have taken off, and a reader may see the second before the first.
            let value = moment.lanes.iter().fold(0u64, |sum, lane| sum.wrapping_add(total(memory, *lane, slots, 0)));
            (sum(1) > 0, Value::Number(u64::try_from(value as i64).unwrap_or(0)))
        }
        Kind::GaugeLatest => {
            let values = moment.newest.iter().map(|lane| total(memory, *lane, slots, 0));
            (sum(1) > 0, Value::Number(values.max().unwrap_or(0)))
        }
        Kind::Histogram => read_histogram(memory, lanes(), slots),
    }
}

fn read_histogram(memory: &Memory, lanes: impl Iterator<Item = u64>, slots: &[Slot]) -> (bool, Value) {
    let mut sum = 0u64;
    let mut counts: Vec<u64> = Vec::new();
    for lane in lanes {
        for &slot in slots {
            if memory.load_scalar(lane, slot, 0) == 0 {
                continue;
            }
            sum = sum.wrapping_add(memory.load_scalar(lane, slot, 1));
            counts.resize(memory.layout.bins_each as usize, 0);
            for (count, bin) in counts.iter_mut().zip(memory.bins(lane, slot)) {
                *count = count.wrapping_add(bin.load(Ordering::Relaxed));
            }
        }
    }
    let bins: Vec<Bin> =
        (0..).zip(counts).filter(|(_, count)| *count > 0).map(|(bin, count)| Bin { bin, count }).collect();
    (!bins.is_empty(), Value::Histogram { sum, bins })
}

/// Moves a mark to `value` and says how far it was; 0 if somebody else moved it at the same time, who then has the
/// difference.
fn advance(memory: &Memory, slots: &[Slot], index: usize, value: u64) -> u64 {
    let Some(mark) = slots.first().and_then(|slot| memory.scalar(MARKS, *slot, index)) else { return 0 };
    let seen = mark.load(Ordering::Relaxed);
    let others = total(memory, MARKS, slots, index).wrapping_sub(seen);
    let delta = value.saturating_sub(others.wrapping_add(seen));
    match mark.compare_exchange(seen, seen.wrapping_add(delta), Ordering::Relaxed, Ordering::Relaxed) {
        Ok(_) => delta,
        Err(_) => 0,
    }
}

fn advance_histogram(memory: &Memory, slots: &[Slot], sum: u64, bins: Vec<Bin>) -> Value {
    let sum = advance(memory, slots, 1, sum);
    let Some(first) = slots.first() else { return Value::Histogram { sum, bins: Vec::new() } };
    let marks = memory.bins(MARKS, *first);
    let taken = bins.into_iter().filter_map(|Bin { bin, count }| {
        let mark = marks.get(usize::from(bin))?;
        let seen = mark.load(Ordering::Relaxed);
        let others = slots.iter().skip(1).filter_map(|slot| memory.bins(MARKS, *slot).get(usize::from(bin)));
        let new = count.saturating_sub(others.fold(seen, |sum, mark| sum.wrapping_add(mark.load(Ordering::Relaxed))));
        let target = seen.wrapping_add(new);
        let moved = new > 0 && mark.compare_exchange(seen, target, Ordering::Relaxed, Ordering::Relaxed).is_ok();
        moved.then_some(Bin { bin, count: new })
    });
    Value::Histogram { sum, bins: taken.collect() }
}
