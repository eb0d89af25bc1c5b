//! Handles: a pointer to a statistic's cells in one thread's lane.

use std::ptr::NonNull;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::bins::{self, BINS};
use super::lane::Lane;
use super::memory::Slot;

/// Some cells of a lane, which it keeps alive. Not `Send`: the lane has one writer, and all its handles live on that
/// thread.
struct Cells<const N: usize> {
    cells: NonNull<[AtomicU64; N]>,
    lane: Rc<Lane>,
}

impl<const N: usize> Cells<N> {
    fn new(lane: &Rc<Lane>, cells: impl FnOnce(&Lane) -> &[AtomicU64; N]) -> Self {
        Self { cells: NonNull::from(cells(lane)), lane: lane.clone() }
    }

    #[inline]
    fn get(&self) -> &[AtomicU64; N] {
        #[allow(unsafe_code, reason = "the hot path: a pointer kept instead of a bounds check at every count")]
        // SAFETY: the pointer was made from a reference that `self.lane` gave out, and stays valid while that lane
        // lives, which is as long as `self`: the lane's memory (a mapping, or the box of spare cells) neither moves nor
        // is freed before the lane is dropped, and the lane itself stands in an `Rc` and is never moved. All access is
        // atomic.
        unsafe {
            self.cells.as_ref()
        }
    }
}

impl<const N: usize> Clone for Cells<N> {
    fn clone(&self) -> Self {
        Self { cells: self.cells, lane: self.lane.clone() }
    }
}

/// Adds without a locked instruction: nobody else writes this cell.
#[inline]
fn add(cell: &AtomicU64, n: u64) {
    cell.store(cell.load(Ordering::Relaxed).wrapping_add(n), Ordering::Relaxed);
}

/// For a lane of spare cells.
const ALONE: Slot = Slot { scalar: 0, bin: 0 };

/// Only ever grows.
#[derive(Clone)]
pub struct Counter(Cells<1>);

impl Counter {
    /// The counter in that lane.
    pub fn new(lane: &Rc<Lane>, slot: Slot) -> Self {
        Self(Cells::new(lane, |lane| lane.counter(slot)))
    }

    /// One that counts for nobody.
    pub fn private() -> Self {
        Self::new(&Rc::new(Lane::single()), ALONE)
    }

    /// Adds one.
    #[inline]
    pub fn inc(&self) {
        self.add(1);
    }

    /// Adds `n`.
    #[inline]
    pub fn add(&self, n: u64) {
        let [value] = self.0.get();
        add(value, n);
    }

    /// What this lane has counted.
    pub fn lane_value(&self) -> u64 {
        let [value] = self.0.get();
        value.load(Ordering::Relaxed)
    }
}

/// Grows and falls.
#[derive(Clone)]
pub struct Gauge(Cells<2>);

impl Gauge {
    /// The gauge in that lane.
    pub fn new(lane: &Rc<Lane>, slot: Slot) -> Self {
        Self(Cells::new(lane, |lane| lane.pair(slot)))
    }

    /// One that counts for nobody.
    pub fn private() -> Self {
        Self::new(&Rc::new(Lane::single()), ALONE)
    }

    /// Adds one.
    #[inline]
    pub fn inc(&self) {
        self.add(1);
    }

    /// Takes one off.
    #[inline]
    pub fn dec(&self) {
        self.sub(1);
    }

    /// Adds `n`.
    #[inline]
    pub fn add(&self, n: u64) {
        self.set(self.lane_value().wrapping_add(n));
    }

    /// Takes `n` off. A lane may go below zero: the sum over lanes is what counts.
    #[inline]
    pub fn sub(&self, n: u64) {
        self.set(self.lane_value().wrapping_sub(n));
    }

    /// Sets this lane's part.
    #[inline]
    pub fn set(&self, value: u64) {
        let [cell, written] = self.0.get();
        cell.store(value, Ordering::Relaxed);
        written.store(1, Ordering::Relaxed);
    }

    /// This lane's part.
    #[inline]
    pub fn lane_value(&self) -> u64 {
        let [cell, _] = self.0.get();
        cell.load(Ordering::Relaxed)
    }
}

/// Counts values by their size.
#[derive(Clone)]
pub struct Histogram {
    head: Cells<2>,
    bins: Cells<BINS>,
}

impl Histogram {
    /// The histogram in that lane.
    pub fn new(lane: &Rc<Lane>, slot: Slot) -> Self {
        Self { head: Cells::new(lane, |lane| lane.pair(slot)), bins: Cells::new(lane, |lane| lane.bins(slot)) }
    }

    /// One that counts for nobody.
    pub fn private() -> Self {
        Self::new(&Rc::new(Lane::single()), ALONE)
    }

    /// Records one value. The count goes first: a reader that sees none does not look at the bins.
    #[inline]
    pub fn record(&self, value: u64) {
        let [count, sum] = self.head.get();
        add(count, 1);
        add(sum, value);
        if let Some(bin) = self.bins.get().get(bins::of(value)) {
            add(bin, 1);
        }
    }

    /// How many values this lane has recorded.
    pub fn lane_count(&self) -> u64 {
        let [count, _] = self.head.get();
        count.load(Ordering::Relaxed)
    }
}
