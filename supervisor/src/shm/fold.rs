//! Folding: what an ended epoch counted becomes part of the past.
//!
//! ```text
//!   1  each leaving lane's head gets JOINED = g + 1          (readers: g + 1 > g, the lane still counts)
//!   2  past[(g + 1) & 1] = past[g & 1] + leaving lanes       (nobody reads that past)
//!   3  GENERATION = g + 1                                    the commit: one store
//!   4  each leaving lane: cells cleared, JOINED = 0, OWNER = 0
//! ```
//! Killed before 3, nothing has happened: the next folder takes the marks of 1 back and begins anew. Killed after 3,
//! all has happened: the next folder finishes 4.

use std::os::fd::OwnedFd;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicU64, Ordering, fence};

use super::layout::{Layout, PAST, RESERVED, head, word};
use super::map::Map;
use super::memory::{Memory, Slot};
use super::{AttachError, Full, Kind, Segment};

/// Where a fold can be cut short, in a test.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// After each lane that is marked.
    Marked,
    /// After each statistic that is added up.
    Added,
    /// Right before the commit.
    Before,
    /// Right after the commit.
    After,
    /// After each lane that is cleared but not free yet.
    Cleared,
    /// After each lane that is free.
    Freed,
}

/// The right to fold, which one thread of one process has. It is asked at every step whether to go on, so that a test
/// can stop it where a kill might.
pub(super) struct Folder {
    pub(super) go_on: Box<dyn FnMut(Step) -> bool + Send>,
}

impl Default for Folder {
    fn default() -> Self {
        Self { go_on: Box::new(|_| true) }
    }
}

/// The fold was cut short by a test.
struct Cut;

impl Segment {
    /// Moves what the lanes of `epoch` counted into the past, drops what its gauges said, and frees the lanes. Says how
    /// many there were. Only for an epoch whose process is gone, and only from one process.
    pub fn fold(&self, epoch: u64) -> usize {
        self.fold_where(|owner| owner == epoch)
    }

    /// Folds every epoch that is not `alive`.
    pub fn fold_gone(&self, alive: impl Fn(u64) -> bool) -> usize {
        self.fold_where(|owner| !alive(owner))
    }

    fn fold_where(&self, leaves: impl Fn(u64) -> bool) -> usize {
        let mut folder = self.folder.lock().unwrap_or_else(PoisonError::into_inner);
        let memory = &*self.memory;
        if recover(memory, &mut folder).is_err() {
            return 0;
        }
        let leaving: Vec<u64> = memory.owned().filter(|(_, epoch)| leaves(*epoch)).map(|(lane, _)| lane).collect();
        if !leaving.is_empty() {
            let _ = join(memory, &mut folder, &leaving);
        }
        leaving.len()
    }

    /// Finishes or takes back a fold that was cut short. Every fold begins with it.
    pub fn recover(&self) {
        let mut folder = self.folder.lock().unwrap_or_else(PoisonError::into_inner);
        let _ = recover(&self.memory, &mut folder);
    }

    /// Adds what a segment of another layout version has counted to the past; once, however often it is tried. Its
    /// gauges are not taken over. Only when nobody counts into it any more, and only from the process that folds.
    ///
    /// # Errors
    /// [`Full`] when a name finds no room, after the others have been added; or when too many segments were absorbed.
    pub fn absorb(&self, foreign: &Foreign) -> Result<(), Full> {
        let mut full = None;
        let theirs: Vec<(Slot, Slot, Kind)> = foreign
            .names()
            .filter_map(|(name, kind, slot)| match self.register(kind, &name) {
                Ok(ours) => Some((ours, slot, kind)),
                Err(error) => {
                    full = Some(error);
                    None
                }
            })
            .collect();
        let mut folder = self.folder.lock().unwrap_or_else(PoisonError::into_inner);
        let memory = &*self.memory;
        if recover(memory, &mut folder).is_err() {
            return Ok(());
        }
        let (valid, next, generation) = pasts(memory);
        let id = foreign.memory.load(word::ID);
        let absorbed = |lane: u64| memory.lane(lane).and_then(|cells| cells.get(..RESERVED as usize)).unwrap_or(&[]);
        if absorbed(valid).iter().any(|cell| cell.load(Ordering::Relaxed) == id) {
            return Ok(());
        }
        if add_up(memory, &mut folder, &[]).is_err() {
            return Ok(());
        }
        let free = absorbed(next).iter().find(|cell| cell.load(Ordering::Relaxed) == 0).ok_or(Full::Cells)?;
        free.store(id, Ordering::Relaxed);
        let (past, lanes) = foreign.memory.consistent(|moment| (moment.past, moment.lanes.clone()));
        for lane in std::iter::once(past).chain(lanes) {
            for &(ours, slot, kind) in &theirs {
                add_statistic(&foreign.memory, lane, slot, memory, next, ours, kind);
            }
        }
        commit(memory, generation.wrapping_add(1));
        full.map_or(Ok(()), Err)
    }
}

/// A segment of any layout version whose header, entries and bins are like ours, for reading.
pub struct Foreign {
    memory: Memory,
}

impl Foreign {
    /// Maps it.
    ///
    /// # Errors
    /// Every way in which the file is not a sound segment.
    pub fn open(file: OwnedFd) -> Result<Self, AttachError> {
        let map = Map::attach(file)?;
        let (_, layout) = Layout::read(&map)?;
        Ok(Self { memory: Memory { map, layout } })
    }

    fn names(&self) -> impl Iterator<Item = (String, Kind, Slot)> + '_ {
        (0..self.memory.names_used()).filter_map(|index| {
            let entry = self.memory.entry(index)?;
            Some((self.memory.name(&entry)?, entry.kind, entry.slot))
        })
    }
}

fn pasts(memory: &Memory) -> (u64, u64, u64) {
    let generation = memory.generation();
    let lane = |generation: u64| PAST[(generation & 1) as usize];
    (lane(generation), lane(generation.wrapping_add(1)), generation)
}

fn recover(memory: &Memory, folder: &mut Folder) -> Result<(), Cut> {
    let generation = memory.generation();
    let lanes: Vec<u64> = memory.owned().map(|(lane, _)| lane).collect();
    for lane in lanes {
        let joined = memory.load_head(lane, head::JOINED);
        if joined > generation {
            store(memory.head(lane, head::JOINED), 0);
        } else if joined != 0 {
            free(memory, folder, lane)?;
        }
    }
    Ok(())
}

fn join(memory: &Memory, folder: &mut Folder, leaving: &[u64]) -> Result<(), Cut> {
    // A segment may have been written over: then its numbers mean nothing, and nothing may stop because of them.
    let next = memory.generation().wrapping_add(1);
    for &lane in leaving {
        store(memory.head(lane, head::JOINED), next);
        step(folder, Step::Marked)?;
    }
    add_up(memory, folder, leaving)?;
    step(folder, Step::Before)?;
    commit(memory, next);
    step(folder, Step::After)?;
    for &lane in leaving {
        free(memory, folder, lane)?;
    }
    Ok(())
}

/// Makes the past that is not valid the sum of the valid one and `leaving`.
fn add_up(memory: &Memory, folder: &mut Folder, leaving: &[u64]) -> Result<(), Cut> {
    let (valid, next, _) = pasts(memory);
    if let (Some(valid), Some(next)) = (memory.lane(valid), memory.lane(next)) {
        for (from, to) in valid.iter().zip(next).take(RESERVED as usize) {
            to.store(from.load(Ordering::Relaxed), Ordering::Relaxed);
        }
    }
    for index in 0..memory.names_used() {
        let Some(entry) = memory.entry(index) else { continue };
        clear_statistic(memory, next, entry.slot, entry.kind);
        for &lane in std::iter::once(&valid).chain(leaving) {
            add_statistic(memory, lane, entry.slot, memory, next, entry.slot, entry.kind);
        }
        step(folder, Step::Added)?;
    }
    Ok(())
}

fn clear_statistic(memory: &Memory, lane: u64, slot: Slot, kind: Kind) {
    if kind == Kind::Histogram && memory.load_scalar(lane, slot, 0) > 0 {
        for bin in memory.bins(lane, slot) {
            if bin.load(Ordering::Relaxed) != 0 {
                bin.store(0, Ordering::Relaxed);
            }
        }
    }
    for index in 0..kind.scalars() as usize {
        store(memory.scalar(lane, slot, index), 0);
    }
}

/// Adds one statistic of one lane. Of a gauge only that it was ever written stays.
fn add_statistic(from: &Memory, lane: u64, slot: Slot, memory: &Memory, to: u64, ours: Slot, kind: Kind) {
    match kind {
        Kind::Counter => add(memory.scalar(to, ours, 0), from.load_scalar(lane, slot, 0)),
        Kind::Gauge | Kind::GaugeLatest => {
            if from.load_scalar(lane, slot, 1) != 0 {
                store(memory.scalar(to, ours, 1), 1);
            }
        }
        Kind::Histogram => {
            let count = from.load_scalar(lane, slot, 0);
            if count == 0 {
                return;
            }
            add(memory.scalar(to, ours, 0), count);
            add(memory.scalar(to, ours, 1), from.load_scalar(lane, slot, 1));
            for (bin, sum) in from.bins(lane, slot).iter().zip(memory.bins(to, ours)) {
                match bin.load(Ordering::Relaxed) {
                    0 => {}
                    samples => add(Some(sum), samples),
                }
            }
        }
    }
}

fn commit(memory: &Memory, generation: u64) {
    // The sums must be visible before the generation that makes them valid, and the generation before any lane is
    // cleared.
    fence(Ordering::SeqCst);
    if let Some(word) = memory.word(word::GENERATION) {
        word.store(generation, Ordering::SeqCst);
    }
    fence(Ordering::SeqCst);
}

/// Clears a lane and lets it go, in this order: a free lane is a clean lane.
fn free(memory: &Memory, folder: &mut Folder, lane: u64) -> Result<(), Cut> {
    if !memory.map.discard(memory.lane_offset(lane), memory.layout.lane_stride as usize) {
        for index in 0..memory.names_used() {
            if let Some(entry) = memory.entry(index) {
                clear_statistic(memory, lane, entry.slot, entry.kind);
            }
        }
    }
    step(folder, Step::Cleared)?;
    store(memory.head(lane, head::JOINED), 0);
    store(memory.head(lane, head::OWNER), 0);
    step(folder, Step::Freed)
}

fn step(folder: &mut Folder, step: Step) -> Result<(), Cut> {
    if (folder.go_on)(step) { Ok(()) } else { Err(Cut) }
}

fn store(cell: Option<&AtomicU64>, value: u64) {
    if let Some(cell) = cell {
        cell.store(value, Ordering::Release);
    }
}

/// The folder is the only writer of the past.
fn add(cell: Option<&AtomicU64>, n: u64) {
    if let Some(cell) = cell {
        cell.store(cell.load(Ordering::Relaxed).wrapping_add(n), Ordering::Relaxed);
    }
}
