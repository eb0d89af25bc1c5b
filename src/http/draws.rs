//! Random numbers for draws: one per request, from which fractions and weights are decided. Good enough to spread requests, not to
//! keep secrets.

use std::cell::Cell;
use std::hash::{BuildHasher, RandomState};

/// A worker's source (SplitMix64).
pub(super) struct Draws(Cell<u64>);

impl Draws {
    /// Seeded by the system.
    pub(super) fn new() -> Self {
        Self(Cell::new(RandomState::new().hash_one(0)))
    }

    /// The next number.
    pub(super) fn next(&self) -> u64 {
        let state = self.0.get().wrapping_add(0x9e37_79b9_7f4a_7c15);
        self.0.set(state);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}
