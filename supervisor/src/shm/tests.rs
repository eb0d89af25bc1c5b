use std::os::fd::{AsRawFd, OwnedFd};
use std::rc::Rc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use super::fold::Step;
use super::*;

/// A thread's handles on three statistics.
struct Writer {
    requests: Counter,
    active: Gauge,
    time: Histogram,
}

impl Writer {
    fn new(segment: &Segment, epoch: u64) -> Self {
        let lane = Rc::new(segment.claim_lane(epoch).unwrap());
        Self {
            requests: Counter::new(&lane, segment.register(Kind::Counter, "requests").unwrap()),
            active: Gauge::new(&lane, segment.register(Kind::Gauge, "active").unwrap()),
            time: Histogram::new(&lane, segment.register(Kind::Histogram, "time").unwrap()),
        }
    }

    fn serve(&self, n: u64) {
        for i in 0..n {
            self.active.inc();
            self.requests.inc();
            self.time.record(i % 700);
            self.active.dec();
        }
    }
}

fn number(segment: &Segment, kind: Kind, name: &str) -> u64 {
    segment.value(kind, name).map_or(0, |value| value.count())
}

/// Counters and histograms, which outlive epochs.
fn books(segment: &Segment) -> Vec<Stat> {
    segment.snapshot(|_, kind| matches!(kind, Kind::Counter | Kind::Histogram))
}

fn segments() -> [Segment; 3] {
    [Segment::create(Geometry::small()).unwrap(), Segment::anonymous(Geometry::small()).unwrap(), Segment::heap()]
}

fn duplicate(segment: &Segment) -> OwnedFd {
    segment.fd().unwrap().try_clone_to_owned().unwrap()
}

#[test]
fn counts_survive_their_epoch_and_gauges_do_not() {
    for segment in segments() {
        let old = Writer::new(&segment, 7);
        old.serve(1000);
        old.active.add(3);
        let new = Writer::new(&segment, 8);
        new.serve(10);
        new.active.add(2);
        assert_eq!(number(&segment, Kind::Counter, "requests"), 1010);
        assert_eq!(number(&segment, Kind::Gauge, "active"), 5);
        let before = books(&segment);
        drop(old);
        assert_eq!(segment.fold(7), 1);
        assert_eq!(segment.fold(7), 0);
        assert_eq!(books(&segment), before);
        assert_eq!(number(&segment, Kind::Gauge, "active"), 2);
        assert_eq!(segment.owners(), [(8, 1)]);
        assert_eq!(segment.fold_gone(|epoch| epoch == 9), 1);
        assert_eq!(books(&segment), before);
        let gauge = segment.snapshot(|name, _| name == "active").pop().unwrap();
        assert_eq!((gauge.used, gauge.value), (true, Value::Number(0)), "used, though nobody is left who used it");
    }
}

#[test]
fn a_folded_lane_is_clean_for_its_next_owner() {
    for segment in segments() {
        for epoch in 0..20 {
            let writers: Vec<Writer> = (0..4).map(|_| Writer::new(&segment, epoch)).collect();
            assert_eq!(segment.claim_lane(epoch).err(), Some(NoLane));
            for writer in &writers {
                assert_eq!(
                    (writer.requests.lane_value(), writer.time.lane_count(), writer.active.lane_value()),
                    (0, 0, 0)
                );
                writer.serve(5);
                writer.active.inc();
            }
            drop(writers);
            assert_eq!(segment.fold(epoch), 4);
            assert_eq!(number(&segment, Kind::Counter, "requests"), 20 * (epoch + 1));
            assert_eq!(number(&segment, Kind::Histogram, "time"), 20 * (epoch + 1));
            assert_eq!(number(&segment, Kind::Gauge, "active"), 0);
        }
        assert_eq!(segment.refused(), (0, 20));
    }
}

#[test]
fn only_the_newest_epochs_word_counts_for_the_latest() {
    let segment = Segment::heap();
    let slot = segment.register(Kind::GaugeLatest, "state").unwrap();
    let gauge = |epoch| Gauge::new(&Rc::new(segment.claim_lane(epoch).unwrap()), slot);
    let (old, new, worker) = (gauge(1), gauge(2), gauge(2));
    old.set(9);
    new.set(3);
    worker.set(2);
    assert_eq!(number(&segment, Kind::GaugeLatest, "state"), 9, "nobody said which is the newest");
    segment.set_newest(1);
    assert_eq!(number(&segment, Kind::GaugeLatest, "state"), 9);
    segment.set_newest(2);
    assert_eq!(number(&segment, Kind::GaugeLatest, "state"), 3);
    segment.set_newest(1);
    assert_eq!(number(&segment, Kind::GaugeLatest, "state"), 9, "the takeover was called off");
    assert_eq!(segment.newest(), Some(1));
}

/// Makes the folder stop at its `nth` step from now, as a kill would.
fn cut_at(segment: &Segment, nth: usize) {
    let mut left = nth;
    segment.folder.lock().unwrap().go_on = Box::new(move |_| {
        left = left.wrapping_sub(1);
        left != usize::MAX
    });
}

fn uncut(segment: &Segment) {
    segment.folder.lock().unwrap().go_on = Box::new(|_| true);
}

fn steps_of_a_fold(prepare: impl Fn(&Segment)) -> Vec<Step> {
    let segment = Segment::heap();
    prepare(&segment);
    let steps = Arc::new(Mutex::new(Vec::new()));
    let seen = steps.clone();
    segment.folder.lock().unwrap().go_on = Box::new(move |step| {
        seen.lock().unwrap().push(step);
        true
    });
    segment.fold(1);
    steps.lock().unwrap().clone()
}

#[test]
fn a_folder_killed_at_any_step_loses_and_doubles_nothing() {
    let prepare = |segment: &Segment| {
        for _ in 0..2 {
            Writer::new(segment, 0).serve(300);
        }
        segment.fold(0);
        for writer in [Writer::new(segment, 1), Writer::new(segment, 1), Writer::new(segment, 2)] {
            writer.serve(100);
            writer.active.add(7);
        }
    };
    let steps = steps_of_a_fold(prepare);
    for step in [Step::Marked, Step::Added, Step::Before, Step::After, Step::Cleared, Step::Freed] {
        assert!(steps.contains(&step), "{step:?} is not reached");
    }
    for kind in 0..3 {
        for first in 0..steps.len() {
            for second in 0..=steps.len() {
                let segment = segments()[kind].clone();
                prepare(&segment);
                let before = books(&segment);
                cut_at(&segment, first);
                segment.fold(1);
                assert_eq!(books(&segment), before, "cut at {first}");
                cut_at(&segment, second);
                segment.fold(1);
                assert_eq!(books(&segment), before, "cut at {first}, then at {second}");
                uncut(&segment);
                segment.fold(1);
                segment.recover();
                assert_eq!(books(&segment), before, "cut at {first}, then at {second}, then done");
                assert_eq!(segment.owners(), [(2, 1)]);
                assert_eq!(number(&segment, Kind::Gauge, "active"), 7);
                Writer::new(&segment, 3).serve(1);
                assert_eq!(number(&segment, Kind::Counter, "requests"), before[0].value.count() + 1);
            }
        }
    }
}

/// Epochs come, count and are folded while readers look.
#[test]
fn no_reader_ever_sees_a_count_fall() {
    let segment = Segment::create(Geometry::small()).unwrap();
    let done = AtomicBool::new(false);
    let epochs = 60;
    let each = 400;
    std::thread::scope(|scope| {
        let readers: Vec<_> = (0..2)
            .map(|_| {
                scope.spawn(|| {
                    let (mut requests, mut times, mut looks) = (0, 0, 0u64);
                    while !done.load(Ordering::Acquire) || looks < 10 {
                        for stat in books(&segment) {
                            let last = if stat.kind == Kind::Counter { &mut requests } else { &mut times };
                            let count = stat.value.count();
                            assert!(count >= *last, "{} fell from {last} to {count}", stat.name);
                            *last = count;
                        }
                        looks += 1;
                    }
                })
            })
            .collect();
        for epoch in 0..epochs {
            let threads: Vec<_> = (0..2)
                .map(|_| {
                    let segment = segment.clone();
                    scope.spawn(move || Writer::new(&segment, epoch).serve(each))
                })
                .collect();
            for thread in threads {
                thread.join().unwrap();
            }
            assert_eq!(segment.fold(epoch), 2);
        }
        done.store(true, Ordering::Release);
        for reader in readers {
            reader.join().unwrap();
        }
    });
    assert_eq!(number(&segment, Kind::Counter, "requests"), epochs * each * 2);
    assert_eq!(number(&segment, Kind::Histogram, "time"), epochs * each * 2);
}

#[test]
fn a_full_segment_refuses_and_goes_on() {
    let geometry = Geometry { names: 4, name_bytes: 4096, scalars: 100, histograms: 1, lanes: 2 };
    let segment = Segment::create(geometry).unwrap();
    let slot = segment.register(Kind::Counter, "a").unwrap();
    segment.register(Kind::Histogram, "h").unwrap();
    assert_eq!(segment.register(Kind::Histogram, "h2"), Err(Full::Histograms));
    assert_eq!(segment.register(Kind::Counter, &"x".repeat(5000)), Err(Full::Text));
    assert_eq!(
        segment.register(Kind::Counter, &"x".repeat(4096)),
        Err(Full::Text),
        "`a` and `h` have some of the room"
    );
    segment.register(Kind::Counter, "b").unwrap();
    segment.register(Kind::Gauge, "c").unwrap();
    assert_eq!(segment.register(Kind::Counter, "d"), Err(Full::Names));
    assert_eq!(segment.register(Kind::Counter, "a"), Ok(slot), "what is there is still found");
    assert_eq!(segment.refused().0, 4);
    let lane = Rc::new(segment.claim_lane(0).unwrap());
    Counter::new(&lane, slot).add(5);
    let private = Counter::private();
    private.inc();
    assert_eq!(private.lane_value(), 1);
    let cells = Geometry { names: 1000, scalars: 1, ..geometry };
    let segment = Segment::create(cells).unwrap();
    let got = (0..1000).take_while(|i| segment.register(Kind::Counter, &i.to_string()).is_ok()).count();
    assert_eq!(segment.register(Kind::Counter, "one more"), Err(Full::Cells), "after {got}");
}

#[test]
fn a_thread_without_a_lane_counts_for_itself() {
    let segment = Segment::create(Geometry { lanes: 1, ..Geometry::small() }).unwrap();
    let _taken = segment.claim_lane(0).unwrap();
    assert_eq!(segment.claim_lane(0).err(), Some(NoLane));
    let slot = segment.register(Kind::Counter, "requests").unwrap();
    let lane = Rc::new(segment.private_lane());
    assert_eq!(lane.number(), None);
    let counter = Counter::new(&lane, slot);
    counter.add(3);
    assert_eq!(Counter::new(&lane, slot).lane_value(), 3);
    let histogram = Histogram::new(&lane, segment.register(Kind::Histogram, "time").unwrap());
    histogram.record(5);
    assert_eq!(histogram.lane_count(), 1);
    assert_eq!(number(&segment, Kind::Counter, "requests"), 0);
    assert_eq!(segment.refused(), (0, 1));
}

#[test]
fn processes_share_names_and_count_together() {
    let ours = Segment::create(Geometry::small()).unwrap();
    let theirs = Segment::attach(duplicate(&ours)).unwrap();
    assert_eq!(ours.id(), theirs.id());
    let slot = ours.register(Kind::Counter, "requests").unwrap();
    assert_eq!(theirs.register(Kind::Counter, "requests"), Ok(slot));
    assert_ne!(theirs.register(Kind::Gauge, "requests"), Ok(slot), "another kind is another statistic");
    let names: Vec<String> = (0..500).map(|i| format!("cluster.c{i}.upstream_rq_total")).collect();
    std::thread::scope(|scope| {
        for segment in [&ours, &theirs, &ours, &theirs] {
            let names = &names;
            scope.spawn(move || {
                for name in names {
                    let lane = Rc::new(Lane::single());
                    Counter::new(&lane, segment.register(Kind::Counter, name).unwrap()).inc();
                }
            });
        }
    });
    let (mut a, mut b) = (Vec::new(), Vec::new());
    for (epoch, (segment, slots)) in [(&ours, &mut a), (&theirs, &mut b)].into_iter().enumerate() {
        let lane = Rc::new(segment.claim_lane(epoch as u64).unwrap());
        for name in &names {
            let slot = segment.register(Kind::Counter, name).unwrap();
            Counter::new(&lane, slot).inc();
            slots.push(slot);
        }
    }
    // Entries that were made twice at the same moment are added up by every reader.
    let stats = ours.snapshot(|name, _| name.starts_with("cluster."));
    assert_eq!(stats.len(), 500);
    assert!(stats.iter().all(|stat| stat.value == Value::Number(2)));
    assert_eq!(theirs.snapshot(|name, _| name.starts_with("cluster.")), stats);
}

#[test]
fn a_hole_in_the_table_is_skipped_until_it_is_filled() {
    let segment = Segment::heap();
    let memory = &segment.memory;
    let slot = segment.register(Kind::Counter, "late").unwrap();
    let state = &memory.entry_words(0).unwrap()[0];
    state.store(0, Ordering::Relaxed);
    let other = Segment::over(Memory { map: Map::heap(64), layout: memory.layout });
    assert_eq!(other.value(Kind::Counter, "late"), None, "a map that is too small is no danger");
    let fresh = Segment { index: Arc::default(), ..segment.clone() };
    let second = fresh.register(Kind::Counter, "late").unwrap();
    assert_ne!(second, slot);
    let lane = Rc::new(segment.claim_lane(0).unwrap());
    Counter::new(&lane, slot).add(2);
    Counter::new(&lane, second).add(3);
    assert_eq!(number(&segment, Kind::Counter, "late"), 3);
    assert_eq!(segment.take_deltas()[0].value, Value::Number(3));
    state.store(1, Ordering::Release);
    assert_eq!(number(&segment, Kind::Counter, "late"), 5);
    assert_eq!(segment.take_deltas()[0].value, Value::Number(2));
    assert_eq!(segment.take_deltas()[0].value, Value::Number(0));
}

#[test]
fn deltas_are_taken_once_whoever_takes_them() {
    let ours = Segment::create(Geometry::small()).unwrap();
    let theirs = Segment::attach(duplicate(&ours)).unwrap();
    assert_eq!(ours.take_deltas(), []);
    let old = Writer::new(&ours, 0);
    old.serve(10);
    let take = |segment: &Segment| -> (u64, u64) {
        let stats = segment.take_deltas();
        let find = |name: &str| stats.iter().find(|stat| stat.name == name).unwrap().value.count();
        (find("requests"), find("time"))
    };
    assert_eq!(take(&ours), (10, 10));
    old.serve(5);
    let new = Writer::new(&theirs, 1);
    new.serve(1);
    assert_eq!(take(&theirs), (6, 6));
    drop(old);
    ours.fold(0);
    assert_eq!(take(&theirs), (0, 0));
    new.serve(2);
    assert_eq!(take(&theirs), (2, 2));
    ours.reset_counters();
    assert_eq!(number(&theirs, Kind::Counter, "requests"), 0);
    new.serve(4);
    assert_eq!(number(&ours, Kind::Counter, "requests"), 4);
    assert_eq!(number(&ours, Kind::Histogram, "time"), 22, "histograms keep what they have");
    assert_eq!(take(&theirs), (4, 4), "the sinks know nothing of the reset");
}

#[test]
fn what_is_no_segment_is_refused() {
    let file = |len: usize| Map::file(len).unwrap();
    let fd = |map: &Map| map.fd().unwrap().try_clone_to_owned().unwrap();
    assert!(matches!(Segment::attach(fd(&file(100))), Err(AttachError::Truncated)));
    assert!(matches!(Segment::attach(fd(&file(8192))), Err(AttachError::NotASegment)));
    let unsealed = tempfile::tempfile().unwrap();
    assert!(matches!(Segment::attach(unsealed.into()), Err(AttachError::Io(_))));
    let (reader, _writer) = std::io::pipe().unwrap();
    assert!(matches!(Segment::attach(reader.into()), Err(AttachError::Io(_))));
    let good = Segment::create(Geometry::small()).unwrap();
    for field in 3..18 {
        for value in [0, 3, u64::MAX, u64::MAX / 8, 1 << 62] {
            let bad = Segment::create(Geometry::small()).unwrap();
            bad.memory.word(field).unwrap().store(value, Ordering::Relaxed);
            match Segment::attach(duplicate(&bad)) {
                Err(AttachError::Geometry | AttachError::Bins) => {}
                // A smaller part than there is room for does no harm; what it says must still hold.
                Ok(segment) => drop(segment.snapshot(|_, _| true)),
                Err(other) => panic!("field {field} = {value}: {other}"),
            }
        }
    }
    drop(good);
}

/// Whatever stands in the table: no reader and no registrar falls over it.
#[test]
fn a_damaged_table_is_survived() {
    let mut seed = 0x1234_5678_9abc_def0u64;
    let mut random = move || {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed
    };
    for round in 0..200 {
        let segment = Segment::create(Geometry::small()).unwrap();
        Writer::new(&segment, 0).serve(10);
        for _ in 0..20 {
            let words = segment.memory.entry_words(random() % 4).unwrap();
            let value = if round % 2 == 0 { random() } else { random() % 5000 };
            words[(random() % 8) as usize].store(value, Ordering::Relaxed);
        }
        segment.memory.word(word::NAMES_USED).unwrap().store(random() % 3000, Ordering::Relaxed);
        let other = Segment::attach(duplicate(&segment)).unwrap();
        let _ = other.register(Kind::Histogram, "more");
        other.snapshot(|_, _| true);
        other.take_deltas();
        other.fold(0);
    }
}

#[test]
fn another_layout_version_is_absorbed_once() {
    let old = Segment::create(Geometry { names: 64, histograms: 4, lanes: 3, ..Geometry::small() }).unwrap();
    let past = Writer::new(&old, 0);
    past.serve(50);
    old.fold(0);
    Writer::new(&old, 1).serve(7);
    old.memory.word(word::VERSION).unwrap().store(99, Ordering::Relaxed);
    assert!(matches!(Segment::attach(duplicate(&old)), Err(AttachError::Version { found: 99, ours: 1 })));
    let ours = Segment::create(Geometry::small()).unwrap();
    Writer::new(&ours, 2).serve(100);
    let foreign = Foreign::open(duplicate(&old)).unwrap();
    cut_at(&ours, 1);
    ours.absorb(&foreign).unwrap();
    assert_eq!(number(&ours, Kind::Counter, "requests"), 100, "cut short: not at all");
    uncut(&ours);
    for _ in 0..3 {
        ours.absorb(&foreign).unwrap();
        assert_eq!(number(&ours, Kind::Counter, "requests"), 157);
        assert_eq!(number(&ours, Kind::Histogram, "time"), 157);
        ours.fold(2);
    }
}

/// Not a test of its own: the process that the next one kills.
#[test]
#[ignore = "the other side of `a_killed_process_loses_nothing`"]
fn child_that_counts() {
    let Ok(path) = std::env::var("HEIRLOOM_TEST_SEGMENT") else { return };
    let file = std::fs::File::options().read(true).write(true).open(path).unwrap();
    let segment = Segment::attach(file.into()).unwrap();
    let writer = Writer::new(&segment, 5);
    writer.active.set(1);
    loop {
        writer.requests.inc();
        writer.time.record(writer.requests.lane_value() % 100_000);
    }
}

#[test]
fn a_killed_process_loses_nothing() {
    let segment = Segment::create(Geometry::small()).unwrap();
    let path = format!("/proc/{}/fd/{}", std::process::id(), segment.fd().unwrap().as_raw_fd());
    let mut last = 0;
    for _ in 0..3 {
        let mut child = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--ignored", "--exact", "shm::tests::child_that_counts"])
            .env("HEIRLOOM_TEST_SEGMENT", &path)
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap();
        let deadline = Instant::now() + Duration::from_secs(20);
        while number(&segment, Kind::Counter, "requests") < last + 10_000 {
            assert!(Instant::now() < deadline, "the child does not count");
            std::thread::yield_now();
        }
        assert_eq!(number(&segment, Kind::Gauge, "active"), 1);
        child.kill().unwrap();
        child.wait().unwrap();
        let before = books(&segment);
        assert_eq!(segment.fold(5), 1);
        assert_eq!(books(&segment), before);
        assert_eq!(number(&segment, Kind::Gauge, "active"), 0);
        last = number(&segment, Kind::Counter, "requests");
        // Killed between two stores, the histogram may be behind by the one request that was being counted.
        assert!(last - number(&segment, Kind::Histogram, "time") <= 3);
    }
}

#[test]
fn at_rest_a_segment_is_mostly_holes() {
    let segment = Segment::create(Geometry::for_threads(2)).unwrap();
    let lane = Rc::new(segment.claim_lane(0).unwrap());
    for i in 0..2000 {
        let slot = segment.register(Kind::Counter, &format!("cluster.some_name.upstream_statistic_{i}")).unwrap();
        Counter::new(&lane, slot).inc();
        if i % 10 == 0 {
            segment.register(Kind::Histogram, &format!("cluster.some_name.upstream_time_{i}")).unwrap();
        }
    }
    for _ in 0..3 {
        assert_eq!(segment.snapshot(|_, _| true).len(), 2200);
        segment.take_deltas();
        segment.fold(1);
    }
    let stat = nix::sys::stat::fstat(segment.fd().unwrap()).unwrap();
    let used = stat.st_blocks * 512;
    assert!(used < 600_000, "{used} bytes for 2,200 names, of {} bytes of address space", stat.st_size);
}
