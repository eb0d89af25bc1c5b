//! Adding to the name table, and what a process remembers of it.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};

use super::layout::{entry, word};
use super::memory::{Memory, Slot, hash};
use super::{Kind, Segment};

/// The longest name, in bytes.
pub(super) const LONGEST: usize = 4096;
/// How many holes a process looks at again; more are only left by many processes that died while registering.
const HOLES: usize = 1024;

/// There is no room for another statistic. Counted in the segment; whoever asked counts into memory of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Full {
    /// No entry is left.
    #[error("the statistics segment has no room for another name")]
    Names,
    /// No room for the text of the name, or it is longer than 4 KiB.
    #[error("the statistics segment has no room for the text of another name")]
    Text,
    /// No scalar cell is left.
    #[error("the statistics segment has no cell left")]
    Cells,
    /// No bins are left.
    #[error("the statistics segment has no room for another histogram")]
    Histograms,
}

/// Entries by the hash of kind and name. Names that collide stand under the next free hashes.
#[derive(Default)]
pub(super) struct Index {
    entries: HashMap<u64, u64>,
    scanned: u64,
    holes: Vec<u64>,
}

impl Index {
    fn find(&self, memory: &Memory, kind: Kind, name: &str) -> Option<Slot> {
        let mut key = hash(kind, name.as_bytes());
        while let Some(&index) = self.entries.get(&key) {
            let entry = memory.entry(index)?;
            if memory.is(&entry, kind, name) {
                return Some(entry.slot);
            }
            key = key.wrapping_add(1);
        }
        None
    }

    /// Takes in what others have added.
    fn refresh(&mut self, memory: &Memory) {
        for index in std::mem::take(&mut self.holes) {
            self.take_in(memory, index);
        }
        let used = memory.names_used();
        for index in self.scanned..used {
            self.take_in(memory, index);
        }
        self.scanned = self.scanned.max(used);
    }

    fn take_in(&mut self, memory: &Memory, index: u64) {
        let Some(entry) = memory.entry(index) else {
            if self.holes.len() < HOLES {
                self.holes.push(index);
            }
            return;
        };
        let Some(name) = memory.name(&entry) else { return };
        if self.find(memory, entry.kind, &name).is_none() {
            self.add(memory.hash_of(&entry), index);
        }
    }

    fn add(&mut self, mut key: u64, index: u64) {
        while self.entries.contains_key(&key) {
            key = key.wrapping_add(1);
        }
        self.entries.insert(key, index);
    }
}

impl Segment {
    /// The cells of a statistic, which is added if no epoch has it yet.
    ///
    /// # Errors
    /// [`Full`], counted in the segment.
    pub fn register(&self, kind: Kind, name: &str) -> Result<Slot, Full> {
        let memory = &*self.memory;
        let mut index = self.index();
        index.refresh(memory);
        if let Some(slot) = index.find(memory, kind, name) {
            return Ok(slot);
        }
        match append(memory, kind, name) {
            Ok(slot) => {
                index.refresh(memory);
                Ok(slot)
            }
            Err(full) => {
                memory.count(word::NAMES_REFUSED);
                Err(full)
            }
        }
    }
}

fn append(memory: &Memory, kind: Kind, name: &str) -> Result<Slot, Full> {
    let layout = &memory.layout;
    if memory.names_used() >= layout.names {
        return Err(Full::Names);
    }
    if name.len() > LONGEST {
        return Err(Full::Text);
    }
    let bins = if kind == Kind::Histogram { layout.bins_each } else { 0 };
    let scalar = reserve(memory.word(word::SCALARS_USED), kind.scalars(), layout.scalars).ok_or(Full::Cells)?;
    let bin = reserve(memory.word(word::BINS_USED), bins, layout.bins).ok_or(Full::Histograms)?;
    let text = reserve(memory.word(word::BYTES_USED), name.len() as u64, layout.name_bytes).ok_or(Full::Text)?;
    let index = reserve(memory.word(word::NAMES_USED), 1, layout.names).ok_or(Full::Names)?;
    let bytes = memory.name_bytes(text, name.len() as u64).ok_or(Full::Text)?;
    for (byte, value) in bytes.iter().zip(name.bytes()) {
        byte.store(value, Ordering::Relaxed);
    }
    let words = memory.entry_words(index).ok_or(Full::Names)?;
    let fields = [
        (entry::KIND, kind.word()),
        (entry::NAME, text),
        (entry::LEN, name.len() as u64),
        (entry::SCALAR, scalar),
        (entry::SCALARS, kind.scalars()),
        (entry::BIN, if bins == 0 { 0 } else { bin }),
        (entry::HASH, hash(kind, name.as_bytes())),
    ];
    for (field, value) in fields {
        if let Some(word) = words.get(field) {
            word.store(value, Ordering::Relaxed);
        }
    }
    if let Some(state) = words.get(entry::STATE) {
        state.store(1, Ordering::Release);
    }
    memory.entry(index).map(|entry| entry.slot).ok_or(Full::Names)
}

/// Takes `count` of what is left, or nothing.
fn reserve(used: Option<&AtomicU64>, count: u64, capacity: u64) -> Option<u64> {
    used?
        .fetch_update(Ordering::AcqRel, Ordering::Acquire, |used| {
            used.checked_add(count).filter(|end| *end <= capacity)
        })
        .ok()
}
