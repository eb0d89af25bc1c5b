//! Drain as a value that is held.
//!
//! Each worker has one [`Drain`]; whatever must end well (a connection, a tunnel) joins it and holds a [`Held`] until it is done.
//! The worker starts the drain with a [`Plan`]; every holder can ask at a boundary of its own whether to close, is woken when the
//! phase changes while it waits, and is told when the deadline has passed. Where the next epoch takes connections over ([`motion`]), who can
//! move does that instead of ending. There is no lock and no atomic: a drain never leaves its thread.
//!
//! What a codec owes the drain, whatever it speaks:
//!
//! * It holds one [`Held`] per connection, for as long as the connection lives, and a [`Held::part`] for what waits on its own account (a stream).
//! * Wherever it waits it waits for [`Held::changed`] too, or it sleeps through the drain.
//! * At each boundary of its protocol (a response's head, a stream's end, a close of its own) it asks [`Held::should_close`] once and, where that
//!   says so, has its peer go elsewhere in the protocol's own words: `connection: close`, GOAWAY, the end of the stream. The answer is drawn
//!   each time, so that closes spread over the drain time; a codec without boundaries in sight says goodbye when the phase becomes [`Phase::Draining`].
//! * At [`Phase::Over`] it closes what is idle, after a last look for what has arrived, and cuts the rest.
//! * While [`Held::may_move`], it offers what can be written down to [`Held::mover`] and does not end for the drain's sake. What can be written down is
//!   for each layer to say of itself: a codec whose connection never can calls [`Held::never_moves`], one whose offer failed [`Held::stay`]; it drains from then on. Room first (a
//!   permit), then it stops reading and writing, then the offer; what comes back goes on exactly where it was, by the code that also
//!   goes on with what has come from elsewhere. A part that stays (one request) does not keep the whole (its connection) from moving later.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

pub mod motion;

use motion::Mover;

/// `--drain-strategy`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strategy {
    /// The chance that a boundary closes grows from 0 to 1 over the drain time.
    Gradual,
    /// Every boundary closes.
    Immediate,
    /// Every boundary closes, and whoever asks after our health is told that it is bad: an operator wants the load to go elsewhere.
    Unhealthy,
}

/// How a drain goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    /// When it began.
    pub started: Instant,
    /// `--drain-time-s`: over which the gradual strategy grows.
    pub time: Duration,
    /// Gradual or immediate.
    pub strategy: Strategy,
}

/// Where a drain stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// No drain.
    Serving,
    /// Who can move moves, and does not end for the drain's sake; who cannot, or was refused, is [`Phase::Draining`].
    Moving(Plan),
    /// Ends at boundaries.
    Draining(Plan),
    /// The deadline has passed: what is idle closes now, what is busy is cut.
    Over,
}

/// The drain of one worker. Clones are the same drain.
#[derive(Clone)]
pub struct Drain {
    shared: Rc<Shared>,
}

struct Shared {
    phase: Cell<Phase>,
    waiters: RefCell<Waiters>,
    active: Cell<usize>,
    /// Of those, who never moves.
    unmovable: Cell<usize>,
    /// How often [`Drain::move_to`] has begun.
    motions: Cell<u32>,
    /// While [`Phase::Moving`].
    mover: RefCell<Option<Mover>>,
    /// Who waits in [`Drain::emptied`].
    emptied: Cell<Option<Waker>>,
}

#[derive(Default)]
struct Waiters {
    slots: Vec<Option<Waker>>,
    free: Vec<usize>,
}

impl Default for Drain {
    fn default() -> Self {
        Self::new()
    }
}

impl Drain {
    /// A drain that has not begun.
    pub fn new() -> Self {
        Self {
            shared: Rc::new(Shared {
                phase: Cell::new(Phase::Serving),
                waiters: RefCell::default(),
                active: Cell::new(0),
                unmovable: Cell::new(0),
                motions: Cell::new(0),
                mover: RefCell::default(),
                emptied: Cell::new(None),
            }),
        }
    }

    /// Takes part: the drain waits for this value to be dropped.
    pub fn join(&self) -> Held {
        self.shared.active.set(self.shared.active.get() + 1);
        self.hold(true)
    }

    fn hold(&self, counted: bool) -> Held {
        let slot = {
            let mut waiters = self.shared.waiters.borrow_mut();
            waiters.free.pop().unwrap_or_else(|| {
                waiters.slots.push(None);
                waiters.slots.len() - 1
            })
        };
        Held { drain: self.clone(), slot, counted, stays: Cell::new(0) }
    }

    /// How many hold it.
    pub fn active(&self) -> usize {
        self.shared.active.get()
    }

    /// How many of those never move.
    pub fn unmovable(&self) -> usize {
        self.shared.unmovable.get()
    }

    /// Where it stands.
    pub fn phase(&self) -> Phase {
        self.shared.phase.get()
    }

    /// Waits until nobody holds it. One waiter at a time: the worker.
    pub async fn emptied(&self) {
        poll_fn(|context| {
            if self.shared.active.get() == 0 {
                return Poll::Ready(());
            }
            self.shared.emptied.set(Some(context.waker().clone()));
            Poll::Pending
        })
        .await;
    }

    /// Begins a drain in which connections move: they offer themselves to `mover`. When nobody takes them any more, [`Drain::set`]
    /// has those that are left drain.
    pub fn move_to(&self, mover: Mover, plan: Plan) {
        self.shared.motions.set((self.shared.motions.get() + 1) % NEVER);
        self.shared.mover.replace(Some(mover));
        self.set(Phase::Moving(plan));
    }

    /// Changes the phase and wakes every holder that waits in [`Held::changed`]. Going back to
    /// [`Phase::Serving`] is how a takeover that was called off ends.
    pub fn set(&self, phase: Phase) {
        self.shared.phase.set(phase);
        if !matches!(phase, Phase::Moving(_)) {
            self.shared.mover.replace(None);
        }
        let wakers: Vec<Waker> = self.shared.waiters.borrow_mut().slots.iter_mut().filter_map(Option::take).collect();
        for waker in wakers {
            waker.wake();
        }
    }
}

/// One part in a drain; dropped when done.
pub struct Held {
    drain: Drain,
    slot: usize,
    /// It is one of those that the drain waits for.
    counted: bool,
    /// The motion that it has no part in; one that comes after a drain was called off is another.
    stays: Cell<u32>,
}

/// No motion has this number.
const NEVER: u32 = u32::MAX;

impl Held {
    /// Where the drain stands.
    pub fn phase(&self) -> Phase {
        self.drain.phase()
    }

    /// For a part of what holds this one, such as a stream of a connection, that waits for itself: it hears of the drain as well, and is
    /// not waited for. It does not move.
    pub fn part(&self) -> Self {
        let part = self.drain.hold(false);
        part.never_moves();
        part
    }

    /// For something that may outlive what holds this one: the drain waits for it, up to its deadline. It does not move.
    pub fn beside(&self) -> Self {
        let beside = self.drain.hold(true);
        self.drain.shared.active.set(self.drain.shared.active.get() + 1);
        beside.never_moves();
        beside
    }

    /// Whether a boundary reached now should close (Envoy's `drainClose`): never while serving, always with the immediate
    /// strategy or at the deadline, else with a probability of the elapsed part of the drain time; and never while it may move instead.
    pub fn should_close(&self) -> bool {
        match self.phase() {
            Phase::Serving => false,
            Phase::Over => true,
            Phase::Moving(_) if !self.stays() => false,
            Phase::Moving(plan) | Phase::Draining(plan) => match plan.strategy {
                Strategy::Immediate | Strategy::Unhealthy => true,
                Strategy::Gradual => {
                    let elapsed = plan.started.elapsed().as_millis();
                    let time = plan.time.as_millis();
                    elapsed >= time || u128::from(self.draw()) % time < elapsed
                }
            },
        }
    }

    /// Whether it is time to move.
    pub fn may_move(&self) -> bool {
        !self.stays() && matches!(self.phase(), Phase::Moving(_))
    }

    /// Where to offer itself, when it is time to move.
    pub fn mover(&self) -> Option<Mover> {
        if self.may_move() { self.drain.shared.mover.borrow().clone() } else { None }
    }

    /// It does not move, or was refused: it drains where it is.
    pub fn stay(&self) {
        if self.stays.get() != NEVER {
            self.stays.set(self.drain.shared.motions.get());
        }
    }

    /// It cannot move, in this motion or any other.
    pub fn never_moves(&self) {
        if self.stays.replace(NEVER) != NEVER && self.counted {
            let unmovable = &self.drain.shared.unmovable;
            unmovable.set(unmovable.get() + 1);
        }
    }

    fn stays(&self) -> bool {
        let stays = self.stays.get();
        stays == NEVER || stays == self.drain.shared.motions.get()
    }

    /// Waits until the phase is not `seen` any more.
    pub async fn changed(&self, seen: Phase) -> Phase {
        poll_fn(|context| {
            let phase = self.phase();
            if phase != seen {
                return Poll::Ready(phase);
            }
            let mut waiters = self.drain.shared.waiters.borrow_mut();
            match &mut waiters.slots[self.slot] {
                Some(waker) if waker.will_wake(context.waker()) => {}
                slot => *slot = Some(context.waker().clone()),
            }
            Poll::Pending
        })
        .await
    }

    /// A draw for the gradual strategy: holders must not all decide alike, and nothing here is worth a generator.
    fn draw(&self) -> u32 {
        use std::hash::{BuildHasher, Hasher};
        std::hash::RandomState::new().build_hasher().finish() as u32
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let shared = &self.drain.shared;
        let mut waiters = shared.waiters.borrow_mut();
        waiters.slots[self.slot] = None;
        waiters.free.push(self.slot);
        if !self.counted {
            return;
        }
        if self.stays.get() == NEVER {
            shared.unmovable.set(shared.unmovable.get() - 1);
        }
        shared.active.set(shared.active.get() - 1);
        if shared.active.get() == 0
            && let Some(waker) = shared.emptied.take()
        {
            waker.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(strategy: Strategy, elapsed: Duration, time: Duration) -> Phase {
        Phase::Draining(Plan { started: Instant::now() - elapsed, time, strategy })
    }

    #[test]
    fn a_boundary_closes_by_strategy() {
        let drain = Drain::new();
        let held = drain.join();
        assert!(!held.should_close());
        drain.set(plan(Strategy::Immediate, Duration::ZERO, Duration::from_secs(60)));
        assert!(held.should_close());
        drain.set(plan(Strategy::Gradual, Duration::from_secs(60), Duration::from_secs(60)));
        assert!(held.should_close());
        drain.set(plan(Strategy::Gradual, Duration::from_secs(30), Duration::from_secs(60)));
        let closes = (0..2000).filter(|_| held.should_close()).count();
        assert!((800..1200).contains(&closes), "half of the time gone, {closes} of 2000 closed");
        drain.set(Phase::Serving);
        assert!(!held.should_close());
    }

    #[test]
    fn who_may_move_does_not_close_and_who_was_refused_does() {
        let drain = Drain::new();
        let (goes, stays, never) = (drain.join(), drain.join(), drain.join());
        never.never_moves();
        assert!(goes.mover().is_none());
        let (mover, _offers) = Mover::new(1);
        let plan = Plan { started: Instant::now(), time: Duration::ZERO, strategy: Strategy::Immediate };
        drain.move_to(mover, plan);
        stays.stay();
        assert!(goes.mover().is_some() && !goes.should_close());
        assert!(stays.mover().is_none() && stays.should_close());
        drain.set(Phase::Draining(plan));
        assert!(goes.mover().is_none() && goes.should_close());
        // The drain is called off, and another one begins later.
        drain.set(Phase::Serving);
        assert!(!goes.should_close() && !stays.should_close());
        let (mover, _offers) = Mover::new(1);
        drain.move_to(mover, plan);
        assert!(goes.mover().is_some() && stays.mover().is_some());
        never.stay();
        assert!(never.mover().is_none() && never.should_close());
    }

    #[test]
    fn who_never_moves_drains_in_every_motion() {
        let drain = Drain::new();
        let held = drain.join();
        // Said before there is any motion, as a connection does that knows it from its beginning.
        held.never_moves();
        let part = held.part();
        let plan = Plan { started: Instant::now(), time: Duration::ZERO, strategy: Strategy::Immediate };
        for _ in 0..2 {
            let (mover, _offers) = Mover::new(1);
            drain.move_to(mover, plan);
            assert!(held.mover().is_none() && held.should_close());
            assert!(part.mover().is_none() && part.should_close());
            drain.set(Phase::Serving);
        }
    }

    #[test]
    fn what_goes_on_beside_is_waited_for_and_does_not_move() {
        let drain = Drain::new();
        let held = drain.join();
        let beside = held.beside();
        drop(held);
        assert_eq!(drain.active(), 1);
        let (mover, _offers) = Mover::new(1);
        drain.move_to(mover, Plan { started: Instant::now(), time: Duration::ZERO, strategy: Strategy::Immediate });
        assert!(beside.mover().is_none());
        drop(beside);
        assert_eq!(drain.active(), 0);
    }

    #[test]
    fn holders_are_counted_and_their_slots_used_again() {
        let drain = Drain::new();
        for _ in 0..3 {
            let held: Vec<Held> = (0..10).map(|_| drain.join()).collect();
            assert_eq!(drain.active(), 10);
            drop(held);
            assert_eq!(drain.active(), 0);
        }
        assert_eq!(drain.shared.waiters.borrow().slots.len(), 10);
    }

    #[tokio::test(flavor = "current_thread")]
    async fn the_last_holder_wakes_who_waits_for_the_end() {
        let drain = Drain::new();
        let (one, two) = (drain.join(), drain.join());
        tokio::join!(drain.emptied(), async {
            drop(one);
            tokio::task::yield_now().await;
            drop(two);
        });
        assert_eq!(drain.active(), 0);
    }

    #[tokio::test(flavor = "current_thread")]
    async fn a_waiter_wakes_when_the_phase_changes() {
        let drain = Drain::new();
        let held = drain.join();
        let (phase, ()) = tokio::join!(held.changed(Phase::Serving), async {
            tokio::task::yield_now().await;
            drain.set(Phase::Over);
        });
        assert_eq!(phase, Phase::Over);
    }
}
