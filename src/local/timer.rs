//! A coarse timer wheel: ten thousand waiting connections for the price of one timer of the runtime.
//!
//! A connection has one [`Timer`] for life. Setting a deadline that lies later than the one already known is a store of eight bytes;
//! the wheel finds out when it comes by. Deadlines hold to [`TICK`] (upwards), which is all a proxy's timeouts promise.
//!
//! ```text
//!   slot:   0    1    2   …  SLOTS-1          a slot is a list of entries, linked by index
//!           │    │    │                       an entry lies at min(its deadline, SLOTS-1 ticks ahead):
//!           ●─●  ·    ●                       passed by before it is due, it is laid again
//! ```

use std::cell::RefCell;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

/// How exact a deadline is.
pub const TICK: Duration = Duration::from_millis(10);

/// How many of them make a second.
const TICKS_PER_SECOND: u64 = 1_000_000_000 / TICK.subsec_nanos() as u64;

/// Ticks that the wheel sees ahead; must be a power of two.
const SLOTS: usize = 512;
/// No entry, no deadline.
const NONE: u32 = u32::MAX;
const NEVER: u64 = u64::MAX;

/// A moment in ticks of one wheel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Deadline(u64);

impl Deadline {
    /// Never passes.
    pub const NEVER: Self = Self(NEVER);
}

/// The wheel of one worker. Clones are the same.
#[derive(Clone)]
pub struct Timers {
    wheel: Rc<Wheel>,
}

struct Wheel {
    epoch: Instant,
    state: RefCell<State>,
}

struct State {
    /// Ticks up to and including this one have been served.
    now: u64,
    slots: Box<[u32; SLOTS]>,
    entries: Vec<Entry>,
    free: u32,
    /// Entries that lie in a slot.
    laid: usize,
    /// The tick for which the driver sleeps.
    driver_until: u64,
    driver: Option<Waker>,
}

struct Entry {
    due: u64,
    /// The tick in whose slot it lies, or `NEVER`.
    at: u64,
    previous: u32,
    next: u32,
    waker: Option<Waker>,
}

impl Default for Timers {
    fn default() -> Self {
        Self::new()
    }
}

impl Timers {
    /// A wheel that stands still until [`Self::run`] turns it.
    pub fn new() -> Self {
        Self {
            wheel: Rc::new(Wheel {
                epoch: Instant::now(),
                state: RefCell::new(State {
                    now: 0,
                    slots: Box::new([NONE; SLOTS]),
                    entries: Vec::new(),
                    free: NONE,
                    laid: 0,
                    driver_until: NEVER,
                    driver: None,
                }),
            }),
        }
    }

    /// A timer for one task.
    pub fn timer(&self) -> Timer {
        let mut state = self.wheel.state.borrow_mut();
        let entry = Entry { due: NEVER, at: NEVER, previous: NONE, next: NONE, waker: None };
        let key = if state.free == NONE {
            state.entries.push(entry);
            (state.entries.len() - 1) as u32
        } else {
            let key = state.free;
            state.free = state.entries[key as usize].next;
            state.entries[key as usize] = entry;
            key
        };
        Timer { wheel: self.wheel.clone(), key }
    }

    /// The deadline at a moment.
    pub fn at(&self, moment: Instant) -> Deadline {
        self.wheel.deadline(moment)
    }

    /// The deadline `wait` from now.
    pub fn after(&self, wait: Duration) -> Deadline {
        Instant::now().checked_add(wait).map_or(Deadline::NEVER, |moment| self.at(moment))
    }

    /// Turns the wheel for as long as the worker lives. It sleeps while nothing lies ahead.
    pub async fn run(&self) {
        loop {
            let next = poll_fn(|context| self.wheel.state.borrow_mut().poll_next(context)).await;
            let moment = self.wheel.moment(next);
            let mut sleep = std::pin::pin!(tokio::time::sleep_until(moment.into()));
            poll_fn(|context| {
                let earlier = {
                    let mut state = self.wheel.state.borrow_mut();
                    state.driver = Some(context.waker().clone());
                    state.driver_until < next
                };
                if earlier { Poll::Ready(()) } else { sleep.as_mut().poll(context) }
            })
            .await;
            let now = self.wheel.ticks(Instant::now());
            self.wheel.turn(now);
        }
    }
}

impl Wheel {
    /// Whole ticks that have passed.
    fn ticks(&self, moment: Instant) -> u64 {
        // Asked several times per request: whole seconds and the rest apart keep the division narrow.
        let since = moment.saturating_duration_since(self.epoch);
        since.as_secs() * TICKS_PER_SECOND + u64::from(since.subsec_nanos() / TICK.subsec_nanos())
    }

    /// The first tick that is wholly behind the moment.
    fn deadline(&self, moment: Instant) -> Deadline {
        Deadline(self.ticks(moment).saturating_add(1))
    }

    fn moment(&self, tick: u64) -> Instant {
        let since = Duration::from_millis(tick.saturating_mul(TICK.as_millis() as u64));
        self.epoch.checked_add(since).unwrap_or(self.epoch)
    }

    /// Serves every slot up to `now`; wakes after the state is free again, because a waker may come back here.
    fn turn(&self, now: u64) {
        let mut due = Vec::new();
        self.state.borrow_mut().turn(now, &mut due);
        for waker in due {
            waker.wake();
        }
    }
}

impl State {
    /// The next tick at which an entry lies, or waits for one.
    fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<u64> {
        if self.laid == 0 {
            self.driver_until = NEVER;
            self.driver = Some(context.waker().clone());
            return Poll::Pending;
        }
        let ahead = (1..=SLOTS as u64).find(|ahead| self.slots[slot(self.now + ahead)] != NONE);
        let next = self.now + ahead.unwrap_or(1);
        self.driver_until = next;
        Poll::Ready(next)
    }

    fn turn(&mut self, now: u64, due: &mut Vec<Waker>) {
        let passed = now.saturating_sub(self.now);
        let first = self.now + 1;
        self.now = self.now.max(now);
        for tick in first..first + passed.min(SLOTS as u64) {
            let mut key = std::mem::replace(&mut self.slots[slot(tick)], NONE);
            while key != NONE {
                let entry = &mut self.entries[key as usize];
                let next = entry.next;
                entry.at = NEVER;
                self.laid -= 1;
                if entry.due <= now {
                    entry.due = NEVER;
                    due.extend(entry.waker.take());
                } else if entry.due != NEVER {
                    self.lay(key);
                }
                key = next;
            }
        }
    }

    /// Puts an entry that lies nowhere into the slot of its deadline, or as far ahead as the wheel goes.
    fn lay(&mut self, key: u32) {
        let at = self.entries[key as usize].due.clamp(self.now + 1, self.now + SLOTS as u64 - 1);
        let head = std::mem::replace(&mut self.slots[slot(at)], key);
        if head != NONE {
            self.entries[head as usize].previous = key;
        }
        let entry = &mut self.entries[key as usize];
        entry.at = at;
        entry.previous = NONE;
        entry.next = head;
        self.laid += 1;
        if at < self.driver_until {
            self.driver_until = at;
            if let Some(waker) = self.driver.take() {
                waker.wake();
            }
        }
    }

    /// Takes an entry out of its slot.
    fn lift(&mut self, key: u32) {
        let Entry { at, previous, next, .. } = self.entries[key as usize];
        if at == NEVER {
            return;
        }
        if previous == NONE {
            self.slots[slot(at)] = next;
        } else {
            self.entries[previous as usize].next = next;
        }
        if next != NONE {
            self.entries[next as usize].previous = previous;
        }
        self.entries[key as usize].at = NEVER;
        self.laid -= 1;
    }
}

fn slot(tick: u64) -> usize {
    tick as usize & (SLOTS - 1)
}

/// One task's alarm. Several waits of the task may use it at once: it keeps the earliest of their deadlines, wakes the task, and
/// every wait that is polled again tells it anew.
pub struct Timer {
    wheel: Rc<Wheel>,
    key: u32,
}

impl Timer {
    /// Ready once the deadline has passed; else the task is woken then, or somewhat earlier for another wait's sake.
    pub fn poll_until(&self, context: &mut Context<'_>, deadline: Deadline) -> Poll<()> {
        if deadline == Deadline::NEVER {
            return Poll::Pending;
        }
        let mut state = self.wheel.state.borrow_mut();
        if deadline.0 <= state.now {
            return Poll::Ready(());
        }
        let entry = &mut state.entries[self.key as usize];
        let replaced = match &entry.waker {
            Some(waker) if waker.will_wake(context.waker()) => None,
            _ => entry.waker.replace(context.waker().clone()),
        };
        if deadline.0 < entry.due {
            entry.due = deadline.0;
            if entry.at == NEVER {
                state.catch_up(self.wheel.ticks(Instant::now()));
                state.lay(self.key);
            } else if deadline.0 < entry.at {
                state.lift(self.key);
                state.lay(self.key);
            }
        }
        // The last waker of a task drops the task, and with it maybe a timer of this wheel: not while the state is borrowed.
        drop(state);
        drop(replaced);
        Poll::Pending
    }

    /// Waits for the deadline.
    pub async fn until(&self, deadline: Deadline) {
        poll_fn(|context| self.poll_until(context, deadline)).await;
    }

    /// The deadline at a moment.
    pub fn at(&self, moment: Instant) -> Deadline {
        self.wheel.deadline(moment)
    }

    /// How long until a deadline passes; `None` where there is none.
    pub fn left(&self, deadline: Deadline) -> Option<Duration> {
        (deadline != Deadline::NEVER).then(|| self.wheel.moment(deadline.0).saturating_duration_since(Instant::now()))
    }
}

impl State {
    /// A wheel that stood still because nothing lay on it has nothing to serve: its time moves on at once.
    fn catch_up(&mut self, now: u64) {
        if self.laid == 0 {
            self.now = self.now.max(now);
        }
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        let mut state = self.wheel.state.borrow_mut();
        state.lift(self.key);
        let free = std::mem::replace(&mut state.free, self.key);
        let entry = &mut state.entries[self.key as usize];
        let waker = entry.waker.take();
        entry.due = NEVER;
        entry.next = free;
        drop(state);
        drop(waker);
    }
}

#[cfg(test)]
mod tests;
