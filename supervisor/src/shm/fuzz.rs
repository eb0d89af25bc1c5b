//! A segment that somebody has written over: it is refused, or read for what it is worth, and it ends.

use std::os::fd::OwnedFd;
use std::sync::atomic::Ordering;

use super::fold::Foreign;
use super::{Geometry, Kind, Segment};

/// Patches of nine bytes: which part and where (three), and what is written there (two bytes of a word and where they stand in it, or all of it).
pub(crate) fn segment(data: &[u8]) {
    let Some(segment) = sound() else { return };
    for patch in data.chunks_exact(9) {
        apply(&segment, patch);
    }
    let Some(file) = segment.fd().and_then(|file| file.try_clone_to_owned().ok()) else { return };
    let again = file.try_clone();
    if let Ok(damaged) = Segment::attach(file) {
        used(&damaged);
    }
    if let Ok(foreign) = again.map_err(Into::into).and_then(|file: OwnedFd| Foreign::open(file)) {
        let ours = Segment::heap();
        let _ = ours.absorb(&foreign);
        let _ = ours.snapshot(|_, _| true);
    }
}

/// A segment with something of every kind in it.
fn sound() -> Option<Segment> {
    let geometry = Geometry { names: 16, name_bytes: 4096, scalars: 64, histograms: 2, lanes: 3 };
    let segment = Segment::create(geometry).ok()?;
    for epoch in [1, 2] {
        let lane = std::rc::Rc::new(segment.claim_lane(epoch).ok()?);
        super::Counter::new(&lane, segment.register(Kind::Counter, "requests").ok()?).add(3);
        super::Gauge::new(&lane, segment.register(Kind::Gauge, "active").ok()?).add(2);
        super::Gauge::new(&lane, segment.register(Kind::GaugeLatest, "version").ok()?).set(9);
        super::Histogram::new(&lane, segment.register(Kind::Histogram, "time").ok()?).record(70);
    }
    segment.set_newest(2);
    segment.fold(1);
    Some(segment)
}

fn apply(segment: &Segment, patch: &[u8]) {
    let &[part, low, high, a, b, c, d, e, f] = patch else { return };
    let at = usize::from(u16::from_le_bytes([low, high]));
    let layout = &segment.memory.layout;
    // Header, names, lane heads, and the first cells of a lane are what has a meaning.
    let word = match part & 3 {
        0 => at % 64,
        1 => (layout.entries / 8) as usize + at % (16 * 8),
        2 => (layout.heads / 8) as usize + at % (7 * 8),
        _ => {
            ((layout.cells + layout.lane_stride * u64::from(part >> 2 & 7).min(layout.lanes - 1)) / 8) as usize
                + at % 256
        }
    };
    let Some(cell) = segment.memory.map.words(word * 8, 1).and_then(<[_]>::first) else { return };
    let new = match part >> 5 {
        0 => u64::from_le_bytes([a, b, c, d, e, f, 0, 0]),
        1 => u64::MAX - u64::from(a),
        2 => cell.load(Ordering::Relaxed).wrapping_add(u64::from_le_bytes([a, b, c, d, e, f, 0, 0])),
        3 => cell.load(Ordering::Relaxed).wrapping_sub(u64::from_le_bytes([a, b, c, d, e, f, 0, 0])),
        4 => u64::from(a) << (b & 63),
        _ => u64::from_le_bytes([c, d, e, f, a, b, c, d]),
    };
    cell.store(new, Ordering::Relaxed);
}

/// All that a process does with one.
fn used(segment: &Segment) {
    let _ = (segment.id(), segment.age(), segment.newest(), segment.refused(), segment.owners());
    for stat in segment.snapshot(|_, _| true) {
        let _ = stat.value.count();
    }
    let _ = segment.counted("requests");
    if let Ok(lane) = segment.claim_lane(3) {
        let lane = std::rc::Rc::new(lane);
        if let Ok(slot) = segment.register(Kind::Counter, "of the third") {
            super::Counter::new(&lane, slot).inc();
        }
        if let Ok(slot) = segment.register(Kind::Histogram, "time") {
            super::Histogram::new(&lane, slot).record(1);
        }
    }
    let _ = segment.take_deltas();
    segment.reset_counters();
    segment.recover();
    segment.fold(2);
    segment.fold_gone(|epoch| epoch == 3);
    for stat in segment.snapshot(|_, _| true) {
        let _ = stat.value.count();
    }
}
