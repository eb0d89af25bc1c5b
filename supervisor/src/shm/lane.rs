//! A lane: the cells that one thread writes.

use std::cell::Cell;
use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::Segment;
use super::bins::BINS;
use super::layout::{FIRST, head, word};
use super::map::Map;
use super::memory::{Memory, Slot};

/// Every lane belongs to somebody. Counted in the segment; the thread counts into a lane of its own
/// ([`Segment::private_lane`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the statistics segment has no lane left")]
pub struct NoLane;

/// The cells of one thread. May be moved to its thread, but not be shared: it has a single writer, which is why writing
/// needs no locked instruction. Dropping it frees nothing: what was counted stays on the books until the epoch is
/// folded.
pub struct Lane {
    cells: Cells,
    spare: Box<Spare>,
    _one_thread: PhantomData<Cell<()>>,
}

enum Cells {
    Shared { memory: Arc<Memory>, lane: u64 },
    Private { map: Map, scalars: usize },
    None,
}

/// What takes the counts of a statistic that has no place in the lane.
struct Spare {
    counter: [AtomicU64; 1],
    pair: [AtomicU64; 2],
    bins: [AtomicU64; BINS],
}

impl Lane {
    fn new(cells: Cells) -> Self {
        let spare = Spare {
            counter: Default::default(),
            pair: Default::default(),
            bins: std::array::from_fn(|_| AtomicU64::new(0)),
        };
        Self { cells, spare: Box::new(spare), _one_thread: PhantomData }
    }

    /// A lane of spare cells only, for a single statistic.
    pub(super) fn single() -> Self {
        Self::new(Cells::None)
    }

    pub(super) fn counter(&self, slot: Slot) -> &[AtomicU64; 1] {
        self.range(slot.scalar as usize).unwrap_or(&self.spare.counter)
    }

    pub(super) fn pair(&self, slot: Slot) -> &[AtomicU64; 2] {
        self.range(slot.scalar as usize).unwrap_or(&self.spare.pair)
    }

    pub(super) fn bins(&self, slot: Slot) -> &[AtomicU64; BINS] {
        let scalars = match &self.cells {
            Cells::Shared { memory, .. } => memory.layout.scalars as usize,
            Cells::Private { scalars, .. } => *scalars,
            Cells::None => 0,
        };
        self.range(scalars + slot.bin as usize).unwrap_or(&self.spare.bins)
    }

    fn range<const N: usize>(&self, first: usize) -> Option<&[AtomicU64; N]> {
        let cells = match &self.cells {
            Cells::Shared { memory, lane } => memory.lane(*lane)?,
            Cells::Private { map, .. } => map.words(0, map.len() / 8)?,
            Cells::None => return None,
        };
        cells.get(first..first.checked_add(N)?)?.try_into().ok()
    }

    /// Which lane of the segment it is; `None` where readers do not see it.
    pub fn number(&self) -> Option<u64> {
        match self.cells {
            Cells::Shared { lane, .. } => Some(lane - FIRST),
            Cells::Private { .. } | Cells::None => None,
        }
    }
}

impl Segment {
    /// A free lane, now `epoch`'s until that epoch is folded.
    ///
    /// # Errors
    /// [`NoLane`], counted in the segment.
    pub fn claim_lane(&self, epoch: u64) -> Result<Lane, NoLane> {
        let memory = &self.memory;
        for lane in FIRST..memory.layout.lanes {
            let Some(owner) = memory.head(lane, head::OWNER) else { continue };
            if owner.compare_exchange(0, epoch.wrapping_add(1), Ordering::AcqRel, Ordering::Relaxed).is_ok() {
                if let Some(pid) = memory.head(lane, head::PID) {
                    pid.store(u64::from(std::process::id()), Ordering::Relaxed);
                }
                return Ok(Lane::new(Cells::Shared { memory: memory.clone(), lane }));
            }
        }
        memory.count(word::LANES_REFUSED);
        Err(NoLane)
    }

    /// A lane that readers do not see, for a thread that found none: it can count as ever, and nothing breaks.
    pub fn private_lane(&self) -> Lane {
        let layout = &self.memory.layout;
        let len = layout.lane_stride as usize;
        let map = Map::anonymous(len).unwrap_or_else(|_| Map::heap(len));
        Lane::new(Cells::Private { map, scalars: layout.scalars as usize })
    }

    /// The epochs that own lanes, and how many each, in no order. Those that are not alive want to be folded.
    pub fn owners(&self) -> Vec<(u64, usize)> {
        let mut owners: Vec<(u64, usize)> = Vec::new();
        for (_, epoch) in self.memory.owned() {
            match owners.iter_mut().find(|(owner, _)| *owner == epoch) {
                Some((_, lanes)) => *lanes += 1,
                None => owners.push((epoch, 1)),
            }
        }
        owners
    }
}
