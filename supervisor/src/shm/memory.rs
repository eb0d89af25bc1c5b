//! The segment by its parts: header words, entries, lane heads, cells. Everything read here may have been written by
//! anybody, so every index is checked.

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering, fence};

use super::Kind;
use super::layout::{FIRST, Layout, PAST, entry, head, word};
use super::map::Map;
use super::names::LONGEST;

/// A map and where everything is in it.
pub(super) struct Memory {
    pub(super) map: Map,
    pub(super) layout: Layout,
}

/// One name of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) kind: Kind,
    pub(super) slot: Slot,
    name: u64,
    len: u64,
    hash: u64,
}

/// Where the cells of a statistic are, in every lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot {
    pub(super) scalar: u32,
    pub(super) bin: u32,
}

/// A moment in which no lane joined the past: which past is valid, and which lanes count beside it.
pub(super) struct Moment {
    pub(super) past: u64,
    pub(super) lanes: Vec<u64>,
    /// Those of `lanes` that belong to the newest epoch.
    pub(super) newest: Vec<u64>,
}

impl Memory {
    /// How often a reader starts again because lanes joined the past under its eyes. Folding happens when an epoch
    /// ends, so a second try is rare and a third is not seen.
    const TRIES: usize = 64;

    /// A word of the header; every map that got this far has them all.
    pub(super) fn word(&self, index: usize) -> Option<&AtomicU64> {
        self.map.words(index * 8, 1)?.first()
    }

    pub(super) fn load(&self, index: usize) -> u64 {
        self.word(index).map_or(0, |word| word.load(Ordering::Acquire))
    }

    /// Counts in the header. Rare, so a locked instruction does no harm here.
    pub(super) fn count(&self, index: usize) {
        if let Some(word) = self.word(index) {
            word.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(super) fn names_used(&self) -> u64 {
        self.load(word::NAMES_USED).min(self.layout.names)
    }

    pub(super) fn entry_words(&self, index: u64) -> Option<&[AtomicU64]> {
        if index >= self.layout.names {
            return None;
        }
        self.map.words((self.layout.entries + index * self.layout.entry_stride) as usize, 8)
    }

    /// An entry that is published and sound; `None` for a hole, which its maker may still fill, or which died with it.
    pub(super) fn entry(&self, index: u64) -> Option<Entry> {
        let words = self.entry_words(index)?;
        if words.get(entry::STATE)?.load(Ordering::Acquire) != 1 {
            return None;
        }
        let load = |index: usize| words.get(index).map_or(0, |word| word.load(Ordering::Relaxed));
        let kind = Kind::from_word(load(entry::KIND))?;
        let (scalar, bin) = (load(entry::SCALAR), load(entry::BIN));
        let bins = if kind == Kind::Histogram { self.layout.bins_each } else { 0 };
        let sound = load(entry::SCALARS) >= kind.scalars()
            && scalar.checked_add(kind.scalars()).is_some_and(|end| end <= self.layout.scalars)
            && bin.checked_add(bins).is_some_and(|end| end <= self.layout.bins)
            && load(entry::LEN) <= LONGEST as u64
            && load(entry::NAME).checked_add(load(entry::LEN)).is_some_and(|end| end <= self.layout.name_bytes);
        sound.then_some(Entry {
            kind,
            slot: Slot { scalar: u32::try_from(scalar).ok()?, bin: u32::try_from(bin).ok()? },
            name: load(entry::NAME),
            len: load(entry::LEN),
            hash: load(entry::HASH),
        })
    }

    pub(super) fn name_bytes(&self, offset: u64, len: u64) -> Option<&[AtomicU8]> {
        if offset.checked_add(len)? > self.layout.name_bytes {
            return None;
        }
        self.map.bytes((self.layout.bytes + offset) as usize, len as usize)
    }

    /// The name of an entry; `None` if it is not the text that was hashed, which is how a damaged entry shows.
    pub(super) fn name(&self, entry: &Entry) -> Option<String> {
        let bytes = self.name_bytes(entry.name, entry.len)?;
        let name: Vec<u8> = bytes.iter().map(|byte| byte.load(Ordering::Relaxed)).collect();
        if hash(entry.kind, &name) != entry.hash {
            return None;
        }
        String::from_utf8(name).ok()
    }

    /// Whether an entry is that statistic.
    pub(super) fn is(&self, entry: &Entry, kind: Kind, name: &str) -> bool {
        entry.kind == kind
            && entry.len == name.len() as u64
            && self.name_bytes(entry.name, entry.len).is_some_and(|bytes| {
                bytes.iter().zip(name.bytes()).all(|(byte, wanted)| byte.load(Ordering::Relaxed) == wanted)
            })
    }

    pub(super) fn hash_of(&self, entry: &Entry) -> u64 {
        entry.hash
    }

    pub(super) fn head(&self, lane: u64, field: usize) -> Option<&AtomicU64> {
        if lane >= self.layout.lanes {
            return None;
        }
        self.map.words((self.layout.heads + lane * self.layout.head_stride) as usize, 8)?.get(field)
    }

    pub(super) fn load_head(&self, lane: u64, field: usize) -> u64 {
        self.head(lane, field).map_or(0, |word| word.load(Ordering::Acquire))
    }

    /// All cells of a lane: scalars, then bins.
    pub(super) fn lane(&self, lane: u64) -> Option<&[AtomicU64]> {
        if lane >= self.layout.lanes {
            return None;
        }
        let cells = (self.layout.scalars + self.layout.bins) as usize;
        self.map.words(self.lane_offset(lane), cells)
    }

    pub(super) fn lane_offset(&self, lane: u64) -> usize {
        (self.layout.cells + lane * self.layout.lane_stride) as usize
    }

    pub(super) fn scalar(&self, lane: u64, slot: Slot, index: usize) -> Option<&AtomicU64> {
        self.lane(lane)?.get(slot.scalar as usize + index)
    }

    pub(super) fn load_scalar(&self, lane: u64, slot: Slot, index: usize) -> u64 {
        self.scalar(lane, slot, index).map_or(0, |cell| cell.load(Ordering::Relaxed))
    }

    /// The bins of a histogram in a lane. Look at its count first: reading is what makes a page exist.
    pub(super) fn bins(&self, lane: u64, slot: Slot) -> &[AtomicU64] {
        let first = self.layout.scalars as usize + slot.bin as usize;
        self.lane(lane).and_then(|cells| cells.get(first..first + self.layout.bins_each as usize)).unwrap_or(&[])
    }

    pub(super) fn generation(&self) -> u64 {
        self.load(word::GENERATION)
    }

    /// Lanes of threads that somebody owns.
    pub(super) fn owned(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        (FIRST..self.layout.lanes).filter_map(|lane| match self.load_head(lane, head::OWNER) {
            0 => None,
            owner => Some((lane, owner - 1)),
        })
    }

    fn moment(&self, generation: u64) -> Moment {
        let newest = self.load(word::NEWEST);
        let mut moment = Moment { past: PAST[(generation & 1) as usize], lanes: Vec::new(), newest: Vec::new() };
        for (lane, epoch) in self.owned() {
            let joined = self.load_head(lane, head::JOINED);
            if joined != 0 && joined <= generation {
                continue;
            }
            moment.lanes.push(lane);
            if newest == 0 || newest == epoch.wrapping_add(1) {
                moment.newest.push(lane);
            }
        }
        moment
    }

    /// Reads over the valid past and the living lanes, again if a fold was committed meanwhile: no count is seen twice
    /// or not at all. Waits for nobody: a folder that was killed or stopped at any point leaves a past that is valid.
    pub(super) fn consistent<T>(&self, mut read: impl FnMut(&Moment) -> T) -> T {
        let mut tries = 0;
        loop {
            let generation = self.generation();
            let value = read(&self.moment(generation));
            fence(Ordering::Acquire);
            tries += 1;
            if self.generation() == generation || tries == Self::TRIES {
                return value;
            }
        }
    }
}

/// FNV-1a of the kind and the name: the same in every binary.
pub(super) fn hash(kind: Kind, name: &[u8]) -> u64 {
    std::iter::once(&(kind.word() as u8))
        .chain(name)
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3))
}
