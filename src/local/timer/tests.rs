use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Wake;

use super::*;

#[derive(Default)]
struct Count(AtomicUsize);

impl Wake for Count {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

struct Probe {
    count: Arc<Count>,
    timer: Timer,
}

impl Probe {
    fn new(timers: &Timers) -> Self {
        Self { count: Arc::default(), timer: timers.timer() }
    }

    fn poll(&self, tick: u64) -> bool {
        let waker = Waker::from(self.count.clone());
        self.timer.poll_until(&mut Context::from_waker(&waker), Deadline(tick)).is_ready()
    }

    fn wakes(&self) -> usize {
        self.count.0.load(Ordering::Relaxed)
    }
}

#[test]
fn an_entry_wakes_at_its_tick_and_not_before() {
    let timers = Timers::new();
    let probe = Probe::new(&timers);
    assert!(!probe.poll(7));
    timers.wheel.turn(6);
    assert_eq!(probe.wakes(), 0);
    timers.wheel.turn(7);
    assert_eq!(probe.wakes(), 1);
    assert!(probe.poll(7));
}

#[test]
fn a_deadline_beyond_the_wheel_is_laid_again_until_due() {
    let timers = Timers::new();
    let probe = Probe::new(&timers);
    assert!(!probe.poll(5000));
    for now in (0..5000).step_by(37) {
        timers.wheel.turn(now);
        assert_eq!(probe.wakes(), 0, "at {now}");
    }
    timers.wheel.turn(5001);
    assert_eq!(probe.wakes(), 1);
}

#[test]
fn an_earlier_deadline_moves_the_entry_and_a_later_one_does_not_matter() {
    let timers = Timers::new();
    let probe = Probe::new(&timers);
    assert!(!probe.poll(300));
    assert!(!probe.poll(5));
    assert!(!probe.poll(400));
    timers.wheel.turn(5);
    assert_eq!(probe.wakes(), 1, "the earliest wakes");
    assert!(!probe.poll(400), "the other waits tell it anew");
    timers.wheel.turn(399);
    assert_eq!(probe.wakes(), 1);
    timers.wheel.turn(400);
    assert_eq!(probe.wakes(), 2);
}

#[test]
fn a_turn_over_more_than_the_whole_wheel_serves_everything_once() {
    let timers = Timers::new();
    let probes: Vec<Probe> = (0..2000).map(|_| Probe::new(&timers)).collect();
    for (index, probe) in probes.iter().enumerate() {
        assert!(!probe.poll(index as u64 + 1));
    }
    timers.wheel.turn(1_000_000);
    assert!(probes.iter().all(|probe| probe.wakes() == 1));
    assert_eq!(timers.wheel.state.borrow().laid, 0);
}

#[test]
fn dropped_timers_leave_the_wheel_and_their_entries_are_used_again() {
    let timers = Timers::new();
    for round in 0..5u64 {
        let probes: Vec<Probe> = (0..10).map(|_| Probe::new(&timers)).collect();
        for probe in &probes {
            assert!(!probe.poll(round * 100 + 50));
        }
        drop(probes);
    }
    let state = timers.wheel.state.borrow();
    assert_eq!(state.laid, 0);
    assert_eq!(state.entries.len(), 10);
}

#[tokio::test(flavor = "current_thread")]
async fn the_driver_serves_deadlines_that_come_while_it_sleeps() {
    let timers = Timers::new();
    let late = timers.timer();
    let early = timers.timer();
    let started = Instant::now();
    tokio::select! {
        () = timers.run() => unreachable!("the driver never ends"),
        () = async {
            let long = timers.after(Duration::from_secs(3600));
            let mut wait = std::pin::pin!(late.until(long));
            poll_fn(|context| { assert!(wait.as_mut().poll(context).is_pending()); Poll::Ready(()) }).await;
            tokio::task::yield_now().await;
            early.until(timers.after(Duration::from_millis(30))).await;
        } => {}
    }
    let took = started.elapsed();
    assert!(took >= Duration::from_millis(30) && took < Duration::from_secs(2), "took {took:?}");
}
