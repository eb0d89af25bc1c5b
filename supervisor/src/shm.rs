//! The statistics of all epochs in one shared segment.
//!
//! A segment is a sealed memory file that the supervisor makes and every epoch maps. It holds a table of names and, for
//! each thread of each living epoch, a *lane*: one 64-bit cell for every counter, so that a thread counts with a plain
//! load and a plain store into memory that nobody else writes. Readers add the lanes up. When an epoch has ended,
//! however it ended, [`Segment::fold`] moves what its lanes counted into the *past*, and what its gauges said is gone
//! with it. So a counter never falls over a restart, a kill loses nothing that was counted, and no gauge leaks.
//! `layout` has the picture.
//!
//! **Nobody waits for anybody.** Names are added without a lock: room is reserved by compare-and-swap, and the entry is
//! published by one store; a process that dies in between leaves a hole that readers skip, and two that add the same
//! name at once leave two entries that readers add up. There are two pasts; a fold writes the one that is not valid,
//! from the valid one and the leaving lanes, and then a single store of the generation makes it valid and takes the
//! lanes off the count. A folder killed at any instant has thus folded or not folded, never half, and a reader needs no
//! more than to look at the generation again afterwards.
//!
//! **Who may do what.** Any process registers names and reads. A thread writes its lane. One process folds (the
//! supervisor), and only epochs whose process is gone. The newest epoch sends to the sinks, which moves the marks.
//!
//! **What it does not do.** A name is never taken out: it belongs to the past as well. The table has room for 65,536;
//! what comes after that is refused, counted and shown as `server.stats_overflow`, and whoever asked counts for
//! himself.
//!
//! A running epoch without a supervisor makes a segment of its own ([`Segment::anonymous`]) and uses it in the same
//! way.

pub mod bins;
mod fold;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzz;
mod handle;
mod lane;
mod layout;
mod map;
mod memory;
mod names;
mod read;

use std::fmt;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use self::fold::Folder;
pub use self::fold::Foreign;
pub use self::handle::{Counter, Gauge, Histogram};
pub use self::lane::{Lane, NoLane};
pub use self::layout::Geometry;
use self::layout::{Layout, VERSION, word};
use self::map::Map;
use self::memory::Memory;
pub use self::memory::Slot;
pub use self::names::Full;
use self::names::Index;
pub use self::read::{Bin, Stat, Value};

/// How the lanes of a statistic become one value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// The sum over all epochs that ever lived.
    Counter,
    /// The sum over the living epochs.
    Gauge,
    /// The largest of the newest epoch's threads.
    GaugeLatest,
    /// Counts by size, over all epochs that ever lived.
    Histogram,
}

impl Kind {
    fn word(self) -> u64 {
        match self {
            Self::Counter => 1,
            Self::Gauge => 2,
            Self::GaugeLatest => 3,
            Self::Histogram => 4,
        }
    }

    fn from_word(word: u64) -> Option<Self> {
        [Self::Counter, Self::Gauge, Self::GaugeLatest, Self::Histogram].into_iter().find(|kind| kind.word() == word)
    }

    /// Cells beside the bins.
    fn scalars(self) -> u64 {
        match self {
            Self::Counter => 1,
            Self::Gauge | Self::GaugeLatest | Self::Histogram => 2,
        }
    }
}

/// Why a segment cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum AttachError {
    /// The file cannot be mapped, or its size is not sealed.
    #[error("cannot map the statistics segment: {0}")]
    Io(#[from] io::Error),
    /// The file is too small for a header.
    #[error("the statistics segment is truncated")]
    Truncated,
    /// No magic.
    #[error("the file is not a statistics segment")]
    NotASegment,
    /// Made by a version with another layout: [`Foreign`] reads it, [`Segment::absorb`] folds it.
    #[error("the statistics segment has layout version {found}, this binary has {ours}")]
    Version {
        /// Of the segment.
        found: u64,
        /// Of this binary.
        ours: u64,
    },
    /// The header contradicts itself or the size of the file.
    #[error("the statistics segment's header does not fit its size")]
    Geometry,
    /// Its histograms have other bins.
    #[error("the statistics segment's histograms have other bins")]
    Bins,
}

/// A segment, mapped. Clones are the same mapping.
#[derive(Clone)]
pub struct Segment {
    memory: Arc<Memory>,
    /// What this process knows of the name table. A lock, because names are added when objects are made, not when
    /// requests pass, and because the threads of a process must not add a name twice.
    index: Arc<Mutex<Index>>,
    folder: Arc<Mutex<Folder>>,
}

impl fmt::Debug for Segment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Segment")
            .field("names", &self.memory.names_used())
            .field("id", &self.id())
            .finish_non_exhaustive()
    }
}

impl Segment {
    /// A new segment in a sealed memory file that can be lent to other processes.
    ///
    /// # Errors
    /// When the system has no memory file, address space or descriptor for it.
    pub fn create(geometry: Geometry) -> io::Result<Self> {
        let layout = Layout::of(&geometry);
        Ok(Self::new(Map::file(size(&layout)?)?, layout))
    }

    /// The segment of an epoch that runs alone, in private memory; in a memory file where the system reserves for
    /// private memory (`vm.overcommit_memory=2`).
    ///
    /// # Errors
    /// When the system has no address space for it.
    pub fn anonymous(geometry: Geometry) -> io::Result<Self> {
        let layout = Layout::of(&geometry);
        let size = size(&layout)?;
        Ok(Self::new(Map::anonymous(size).or_else(|_| Map::file(size))?, layout))
    }

    /// A segment of plain memory with [`Geometry::small`], which cannot fail: for tests, and for parts that count for
    /// nobody.
    pub fn heap() -> Self {
        let layout = Layout::of(&Geometry::small());
        Self::new(Map::heap(layout.size as usize), layout)
    }

    fn new(map: Map, layout: Layout) -> Self {
        if let Some(header) = map.words(0, 64) {
            layout.write(header, random());
        }
        Self::over(Memory { map, layout })
    }

    fn over(memory: Memory) -> Self {
        Self { memory: Arc::new(memory), index: Arc::default(), folder: Arc::default() }
    }

    /// Maps a segment that another process made.
    ///
    /// # Errors
    /// Every way in which the file is not a sound segment of this layout version.
    pub fn attach(file: OwnedFd) -> Result<Self, AttachError> {
        let map = Map::attach(file)?;
        let (version, layout) = Layout::read(&map)?;
        if version != VERSION {
            return Err(AttachError::Version { found: version, ours: VERSION });
        }
        Ok(Self::over(Memory { map, layout }))
    }

    /// The descriptor to lend; `None` where the segment is private.
    pub fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.memory.map.fd()
    }

    /// A number that tells this segment from every other.
    pub fn id(&self) -> u64 {
        self.memory.load(word::ID)
    }

    /// How long ago the segment was made: the age of a lineage, whatever became of its processes. Zero when the clock went back.
    pub fn age(&self) -> Duration {
        let born = self.memory.load(word::BORN);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        Duration::from_secs(if born == 0 { 0 } else { now.saturating_sub(born) })
    }

    /// Makes `epoch` the one whose word counts for [`Kind::GaugeLatest`] and for the sinks.
    pub fn set_newest(&self, epoch: u64) {
        if let Some(newest) = self.memory.word(word::NEWEST) {
            newest.store(epoch.wrapping_add(1), Ordering::Release);
        }
    }

    /// The newest epoch, once somebody said.
    pub fn newest(&self) -> Option<u64> {
        self.memory.load(word::NEWEST).checked_sub(1)
    }

    /// Statistics that found no room and threads that found no lane, since the segment was made.
    pub fn refused(&self) -> (u64, u64) {
        (self.memory.load(word::NAMES_REFUSED), self.memory.load(word::LANES_REFUSED))
    }

    fn index(&self) -> std::sync::MutexGuard<'_, Index> {
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn size(layout: &Layout) -> io::Result<usize> {
    usize::try_from(layout.size).map_err(io::Error::other)
}

/// Enough to tell segments apart.
fn random() -> u64 {
    use std::hash::{BuildHasher, Hasher};
    std::hash::RandomState::new().build_hasher().finish() | 1
}

#[cfg(test)]
mod tests;
