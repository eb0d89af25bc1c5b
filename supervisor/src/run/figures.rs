//! What the supervisor counts: in a lane of its own in the shared segment, so that whichever epoch serves shows it.
//!
//! The lane belongs to [`OWNER`], which no epoch can be. A supervisor that comes after another folds that one's lane first: counters and histograms go
//! on over its death and over its replacement of itself, and gauges are said anew. Names stand here, in the family `supervisor.`; none is Envoy's.

use std::rc::Rc;

use tracing::warn;

use crate::lifecycle::{Note, Why};
use crate::moment::{Moment, millis};
use crate::shm::{Counter, Gauge, Histogram, Kind, Segment};
use crate::table::FAMILIES;
use crate::wire::message::{Status, Tally};

/// The owner of the supervisor's lane.
pub(super) const OWNER: u64 = u64::MAX - 1;
/// Draining epochs that have gauges of their own, the youngest first; the others are only counted.
const DRAINING: usize = 8;
/// How often gauges are said anew, in milliseconds.
const EVERY: u64 = 500;
/// Phases in the order of a takeover.
const PHASES: [&str; 4] = ["prepare", "ready", "commit", "probation"];

/// The supervisor's statistics.
pub(super) struct Figures {
    /// `supervisor.takeovers.begun`
    begun: Counter,
    /// `supervisor.takeovers.released`
    released: Counter,
    /// `supervisor.takeovers.failed.REASON`
    failed: Vec<(Why, Counter)>,
    /// `supervisor.takeovers.rolled_back.REASON`
    rolled_back: Vec<(Why, Counter)>,
    /// `supervisor.takeovers.fell_back`
    fell_back: Counter,
    /// `supervisor.epochs.crashed`
    crashed: Counter,
    /// `supervisor.epochs.adopted`
    adopted: Counter,
    /// `supervisor.takeover_ms.PHASE`
    phases: Vec<(&'static str, Histogram)>,
    /// `supervisor.takeover_ms.total`
    total: Histogram,
    /// `supervisor.takeover_ms.drain`
    drain: Histogram,
    /// `supervisor.epochs.alive`
    alive: Gauge,
    /// `supervisor.draining.count`
    draining: Gauge,
    /// `supervisor.draining.N.age_s`, `.connections`, `.epoch`: N is 1 for the epoch before the one that serves.
    each: Vec<[Gauge; 3]>,
    said: Moment,
}

impl Figures {
    /// In `segment`, in place of an earlier supervisor's. Call it only from the process that folds.
    pub(super) fn new(segment: &Segment) -> Self {
        segment.fold(OWNER);
        let lane = segment.claim_lane(OWNER).unwrap_or_else(|error| {
            warn!("what the supervisor counts is not shown: {error}");
            segment.private_lane()
        });
        let lane = &Rc::new(lane);
        let slot = |kind, name: &str| {
            let slot = segment.register(kind, &format!("supervisor.{name}"));
            slot.inspect_err(|error| warn!("supervisor.{name} is not shown: {error}")).ok()
        };
        let counter =
            |name: &str| slot(Kind::Counter, name).map_or_else(Counter::private, |slot| Counter::new(lane, slot));
        let gauge = |name: &str| slot(Kind::Gauge, name).map_or_else(Gauge::private, |slot| Gauge::new(lane, slot));
        let histogram =
            |name: &str| slot(Kind::Histogram, name).map_or_else(Histogram::private, |slot| Histogram::new(lane, slot));
        let by_reason =
            |family: &str| Why::ALL.map(|why| (why, counter(&format!("takeovers.{family}.{}", why.name())))).to_vec();
        Self {
            begun: counter("takeovers.begun"),
            released: counter("takeovers.released"),
            failed: by_reason("failed"),
            rolled_back: by_reason("rolled_back"),
            fell_back: counter("takeovers.fell_back"),
            crashed: counter("epochs.crashed"),
            adopted: counter("epochs.adopted"),
            phases: PHASES.map(|phase| (phase, histogram(&format!("takeover_ms.{phase}")))).to_vec(),
            total: histogram("takeover_ms.total"),
            drain: histogram("takeover_ms.drain"),
            alive: gauge("epochs.alive"),
            draining: gauge("draining.count"),
            each: (1..=DRAINING)
                .map(|rank| ["age_s", "connections", "epoch"].map(|what| gauge(&format!("draining.{rank}.{what}"))))
                .collect(),
            said: Moment::default(),
        }
    }

    /// Something to be counted has happened.
    pub(super) fn count(&self, note: Note) {
        let by = |counters: &[(Why, Counter)], why| {
            if let Some((_, counter)) = counters.iter().find(|(of, _)| *of == why) {
                counter.inc();
            }
        };
        match note {
            Note::Begun => self.begun.inc(),
            Note::Released(time) => {
                self.released.inc();
                self.total.record(millis(time));
            }
            Note::Failed(why) => by(&self.failed, why),
            Note::RolledBack(why) => by(&self.rolled_back, why),
            Note::Phase(phase, time) => {
                if let Some((_, histogram)) = self.phases.iter().find(|(name, _)| *name == phase) {
                    histogram.record(millis(time));
                }
            }
            Note::Drained(time) => self.drain.record(millis(time)),
            Note::Crashed => self.crashed.inc(),
            Note::FellBack => self.fell_back.inc(),
        }
    }

    /// An epoch of an earlier supervisor has come home.
    pub(super) fn adopted(&self) {
        self.adopted.inc();
    }

    /// Whether the gauges are old.
    pub(super) fn are_due(&self, now: Moment) -> bool {
        now.0.saturating_sub(self.said.0) >= EVERY
    }

    /// What is so now.
    pub(super) fn say(&mut self, status: &Status, now: Moment) {
        self.said = now;
        self.alive.set(status.epochs.len() as u64);
        let draining: Vec<_> = status.epochs.iter().rev().filter(|epoch| epoch.draining_ms.is_some()).collect();
        self.draining.set(draining.len() as u64);
        for (rank, [age, connections, epoch]) in self.each.iter().enumerate() {
            let row = draining.get(rank);
            age.set(row.and_then(|row| row.draining_ms).unwrap_or(0) / 1000);
            connections.set(row.map_or(0, |row| row.connections));
            epoch.set(row.map_or(0, |row| row.epoch));
        }
    }
}

/// What the lineage has counted, for `status`.
pub(super) fn tallies(segment: &Segment) -> Vec<Tally> {
    let wanted =
        |name: &str, kind| kind == Kind::Counter && FAMILIES.iter().any(|(_, family)| name.starts_with(family));
    let stats = segment.snapshot(wanted).into_iter().filter(|stat| stat.value.count() > 0);
    stats.map(|stat| Tally { count: stat.value.count(), name: stat.name }).collect()
}
