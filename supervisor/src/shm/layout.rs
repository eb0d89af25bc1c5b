//! Where everything stands in the segment.
//!
//! ```text
//! 0        header: 64 words of 8 bytes, first what the segment is, from word 32 on what changes
//! entries  name table, 64 bytes each: state, kind, where the name is, how long, first cell, cells, first bin, hash
//! bytes    the names themselves
//! heads    lane heads, 64 bytes each: owner (epoch + 1), pid, the generation at which it joined the past
//! lanes    page-aligned, each [scalars | bins], one 64-bit cell per scalar and per bin:
//!            0, 1  the past, twice: the generation's lowest bit says which is valid
//!            2     what the sinks have sent (marks)          3  what `reset_counters` takes off (base)
//!            4 ... one per thread
//! ```
//! A counter has one scalar; a gauge two (its value, and 1 once it was written); a histogram two (count, sum) and its
//! bins. The count says whether the bins are worth reading: a memory file allocates the pages that are only read, too.
//!
//! The header says all offsets and sizes, so a segment of another layout version with the same header, entries and bins
//! can be read, which is all that folding needs.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use super::AttachError;
use super::bins::BINS;
use super::map::{Map, PAGE};

/// `HRLMSTAT`, read as a little-endian word.
pub(super) const MAGIC: u64 = u64::from_le_bytes(*b"HRLMSTAT");
/// The version of the layout that this code writes.
pub(super) const VERSION: u64 = 1;
/// The bins of [`super::bins`].
const SCHEME: u64 = 1;
/// Scalars at the beginning of a lane that belong to no statistic; the past keeps there which segments it has absorbed.
pub(super) const RESERVED: u64 = 16;
/// The two pasts.
pub(super) const PAST: [u64; 2] = [0, 1];
/// What the sinks have sent.
pub(super) const MARKS: u64 = 2;
/// What is taken off counters that were reset.
pub(super) const BASE: u64 = 3;
/// The first lane of a thread.
pub(super) const FIRST: u64 = 4;

const HEADER: u64 = 512;
const ENTRY: u64 = 64;
const HEAD: u64 = 64;

/// The words of the header.
pub(super) mod word {
    pub(in super::super) const MAGIC: usize = 0;
    pub(in super::super) const VERSION: usize = 1;
    pub(in super::super) const ID: usize = 2;
    /// From here on the fields of [`super::Layout`], in order.
    pub(super) const LAYOUT: usize = 3;
    pub(in super::super) const NAMES_USED: usize = 32;
    pub(in super::super) const BYTES_USED: usize = 33;
    pub(in super::super) const SCALARS_USED: usize = 34;
    pub(in super::super) const BINS_USED: usize = 35;
    /// How often lanes have joined the past.
    pub(in super::super) const GENERATION: usize = 36;
    /// The newest epoch + 1; 0 while nobody said.
    pub(in super::super) const NEWEST: usize = 37;
    /// Statistics that found no room.
    pub(in super::super) const NAMES_REFUSED: usize = 38;
    /// Threads that found no lane.
    pub(in super::super) const LANES_REFUSED: usize = 39;
    /// When the segment was made, in seconds since 1970; 0 where its maker did not say.
    pub(in super::super) const BORN: usize = 40;
}

/// The words of a lane head.
pub(super) mod head {
    pub(in super::super) const OWNER: usize = 0;
    pub(in super::super) const PID: usize = 1;
    /// The generation from which on the lane is part of the past; 0 while it is not.
    pub(in super::super) const JOINED: usize = 2;
}

/// The words of a name's entry.
pub(super) mod entry {
    pub(in super::super) const STATE: usize = 0;
    pub(in super::super) const KIND: usize = 1;
    pub(in super::super) const NAME: usize = 2;
    pub(in super::super) const LEN: usize = 3;
    pub(in super::super) const SCALAR: usize = 4;
    pub(in super::super) const SCALARS: usize = 5;
    pub(in super::super) const BIN: usize = 6;
    pub(in super::super) const HASH: usize = 7;
}

/// How much room a segment has. All of it is address space; memory is used as it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    /// Statistics.
    pub names: u32,
    /// Bytes of all names together.
    pub name_bytes: u32,
    /// Cells per lane for counters (one each), gauges and histograms (two each).
    pub scalars: u32,
    /// Histograms.
    pub histograms: u32,
    /// Lanes: threads of all epochs that live at the same time.
    pub lanes: u32,
}

impl Default for Geometry {
    fn default() -> Self {
        Self { names: 1 << 16, name_bytes: 1 << 23, scalars: 1 << 17, histograms: 1 << 12, lanes: 64 }
    }
}

impl Geometry {
    /// Room for epochs of that many threads each: the one that serves, the one that comes, and six that drain.
    pub fn for_threads(threads: usize) -> Self {
        let lanes = threads.saturating_add(1).saturating_mul(8).clamp(64, 4096);
        Self { lanes: lanes as u32, ..Self::default() }
    }

    /// For tests and for parts that run without a segment.
    pub fn small() -> Self {
        Self { names: 2048, name_bytes: 1 << 17, scalars: 4096, histograms: 128, lanes: 4 }
    }
}

/// Offsets and sizes, in the order in which the header has them. Offsets, strides and `size` in bytes, the rest in
/// pieces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Layout {
    pub(super) size: u64,
    pub(super) names: u64,
    pub(super) entries: u64,
    pub(super) entry_stride: u64,
    pub(super) name_bytes: u64,
    pub(super) bytes: u64,
    pub(super) lanes: u64,
    pub(super) heads: u64,
    pub(super) head_stride: u64,
    pub(super) cells: u64,
    pub(super) lane_stride: u64,
    pub(super) scalars: u64,
    pub(super) bins: u64,
    pub(super) bins_each: u64,
    pub(super) scheme: u64,
}

impl Layout {
    /// Where a segment of this version has everything.
    pub(super) fn of(geometry: &Geometry) -> Self {
        let page = PAGE as u64;
        let names = u64::from(geometry.names);
        let name_bytes = u64::from(geometry.name_bytes).next_multiple_of(page);
        let lanes = u64::from(geometry.lanes) + FIRST;
        let scalars = (u64::from(geometry.scalars) + RESERVED).next_multiple_of(page / 8);
        let bins_each = BINS as u64;
        let bins = u64::from(geometry.histograms) * bins_each;
        let entries = HEADER;
        let bytes = (entries + names * ENTRY).next_multiple_of(page);
        let heads = bytes + name_bytes;
        let cells = (heads + lanes * HEAD).next_multiple_of(page);
        let lane_stride = ((scalars + bins) * 8).next_multiple_of(page);
        Self {
            size: cells + lanes * lane_stride,
            names,
            entries,
            entry_stride: ENTRY,
            name_bytes,
            bytes,
            lanes,
            heads,
            head_stride: HEAD,
            cells,
            lane_stride,
            scalars,
            bins,
            bins_each,
            scheme: SCHEME,
        }
    }

    fn fields(&self) -> [u64; 15] {
        [
            self.size,
            self.names,
            self.entries,
            self.entry_stride,
            self.name_bytes,
            self.bytes,
            self.lanes,
            self.heads,
            self.head_stride,
            self.cells,
            self.lane_stride,
            self.scalars,
            self.bins,
            self.bins_each,
            self.scheme,
        ]
    }

    /// Writes the header of a new segment, its magic last.
    pub(super) fn write(&self, header: &[AtomicU64], id: u64) {
        for (cell, field) in header.iter().skip(word::LAYOUT).zip(self.fields()) {
            cell.store(field, Ordering::Relaxed);
        }
        let born = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let state = [
            (word::VERSION, VERSION),
            (word::ID, id),
            (word::SCALARS_USED, RESERVED),
            (word::BORN, born),
            (word::MAGIC, MAGIC),
        ];
        for (index, value) in state {
            if let Some(cell) = header.get(index) {
                cell.store(value, Ordering::Release);
            }
        }
    }

    /// Reads the header of a segment and checks that every part of it lies within the file.
    pub(super) fn read(map: &Map) -> Result<(u64, Self), AttachError> {
        let header = map.words(0, (HEADER / 8) as usize).ok_or(AttachError::Truncated)?;
        let load = |index: usize| header.get(index).map_or(0, |cell| cell.load(Ordering::Acquire));
        if load(word::MAGIC) != MAGIC {
            return Err(AttachError::NotASegment);
        }
        let field = |index: usize| load(word::LAYOUT + index);
        let layout = Self {
            size: field(0),
            names: field(1),
            entries: field(2),
            entry_stride: field(3),
            name_bytes: field(4),
            bytes: field(5),
            lanes: field(6),
            heads: field(7),
            head_stride: field(8),
            cells: field(9),
            lane_stride: field(10),
            scalars: field(11),
            bins: field(12),
            bins_each: field(13),
            scheme: field(14),
        };
        layout.check(map.len() as u64)?;
        Ok((load(word::VERSION), layout))
    }

    fn check(&self, len: u64) -> Result<(), AttachError> {
        let fits = |offset: u64, count: u64, stride: u64| {
            offset.is_multiple_of(8)
                && stride.is_multiple_of(8)
                && count.checked_mul(stride).and_then(|size| size.checked_add(offset)).is_some_and(|end| end <= len)
        };
        let cells = self.scalars.checked_add(self.bins).and_then(|cells| cells.checked_mul(8));
        let sound = self.size == len
            && self.entry_stride >= ENTRY
            && self.head_stride >= HEAD
            && self.lanes > FIRST
            && self.lanes <= 1 << 16
            && self.names <= 1 << 24
            && cells.is_some_and(|cells| cells <= self.lane_stride)
            && fits(self.entries, self.names, self.entry_stride)
            && self.bytes.checked_add(self.name_bytes).is_some_and(|end| end <= len)
            && fits(self.heads, self.lanes, self.head_stride)
            && fits(self.cells, self.lanes, self.lane_stride);
        if !sound {
            return Err(AttachError::Geometry);
        }
        if self.scheme != SCHEME || self.bins_each != BINS as u64 {
            return Err(AttachError::Bins);
        }
        Ok(())
    }
}
