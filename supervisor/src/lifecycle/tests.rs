//! Every transition, with a time that stands still unless it is told to move.

use std::time::Duration;

use super::*;
use crate::wire::message::DrainStrategy;

mod late;
mod trial;

const SECOND: Duration = Duration::from_secs(1);

fn limits() -> Limits {
    Limits {
        prepare: 60 * SECOND,
        ready: 5 * SECOND,
        commit: 4 * SECOND,
        probation: 10 * SECOND,
        grace: Duration::ZERO,
        terminate: 7 * SECOND,
        stop: 30 * SECOND,
        drain_time: 600 * SECOND,
        parent_shutdown: 900 * SECOND,
        drain_strategy: DrainStrategy::Gradual,
        max_draining: 2,
        unresponsive: 30 * SECOND,
        backoff_initial: Duration::from_millis(100),
        backoff_max: 20 * SECOND,
    }
}

/// The machine, its clock, and what it has said since it was last asked, in short words.
struct Bench {
    machine: Lifecycle,
    now: Moment,
    seen: Vec<String>,
    outcomes: Vec<Outcome>,
    notes: Vec<Note>,
    /// Epochs that answer pings (all but the hung ones).
    hung: Vec<u64>,
}

impl Bench {
    fn with(limits: Limits) -> Self {
        let machine = Lifecycle::new(limits);
        Self {
            machine,
            now: Moment(1_000_000),
            seen: Vec::new(),
            outcomes: Vec::new(),
            notes: Vec::new(),
            hung: Vec::new(),
        }
    }

    /// Epoch 0 serves.
    fn serving() -> Self {
        Self::serving_with(limits())
    }

    fn serving_with(limits: Limits) -> Self {
        let mut bench = Self::with(limits);
        bench.event(Event::Start { adopt_until: None });
        bench.ready(0);
        bench.say(0, Said::Accepting);
        assert_eq!(bench.machine.state(0), Some(State::Active));
        bench.seen.clear();
        bench
    }

    fn event(&mut self, event: Event) {
        let actions = self.machine.handle(event, self.now);
        let mut pongs = Vec::new();
        for action in actions {
            let word = match action {
                Action::Spawn { epoch, launch } => format!("spawn {epoch} {launch:?}"),
                Action::Send { epoch, order: Order::Ping } => {
                    if !self.hung.contains(&epoch) {
                        pongs.push(epoch);
                    }
                    continue;
                }
                Action::Send { epoch, order: Order::Drain { deadline, .. } } => {
                    format!("{epoch}<Drain {}", deadline.as_secs())
                }
                Action::Send { epoch, order: Order::Terminate { grace } } => {
                    format!("{epoch}<Terminate {}", grace.as_secs())
                }
                Action::Send { epoch, order } => format!("{epoch}<{order:?}"),
                Action::Term { epoch } => format!("term {epoch}"),
                Action::Kill { epoch } => format!("kill {epoch}"),
                Action::Forget { epoch } => format!("forget {epoch}"),
                Action::Settled { epoch, launch } => format!("settled {epoch} {launch:?}"),
                Action::CalledOff { epoch } => format!("called off {epoch}"),
                Action::Reverted { epoch, to } => format!("reverted {epoch} to {to}"),
                Action::Note(note) => {
                    self.notes.push(note);
                    continue;
                }
                Action::Confirmed { .. } => continue,
                Action::Answer { tickets, outcome } => {
                    let word = format!("answer {tickets:?} {} {}", outcome.ok, outcome.phase);
                    self.outcomes.push(outcome);
                    word
                }
                Action::Notify(Notice::Reloading) => "reloading".into(),
                Action::Notify(Notice::Stopping) => "stopping".into(),
                Action::Notify(Notice::Ready(_)) => "ready".into(),
                Action::Notify(Notice::Status(_)) | Action::Log(_) | Action::Serving { .. } => continue,
                Action::Exit { code } => format!("exit {code}"),
            };
            self.seen.push(word);
        }
        for epoch in pongs {
            self.say(epoch, Said::Pong);
        }
    }

    fn say(&mut self, epoch: u64, what: Said) {
        self.event(Event::Said { epoch, what });
    }

    fn ready(&mut self, epoch: u64) {
        self.event(Event::Spawned { epoch, pid: 1000 + epoch as u32 });
        self.say(epoch, Said::Hello { version: format!("v{epoch}"), recalls: true });
        self.say(epoch, Said::Ready { version: String::new() });
    }

    fn health(&mut self, epoch: u64, healthy: bool) {
        let reason = if healthy { "" } else { "no upstream" }.into();
        self.say(epoch, Said::Health { connections: 3, healthy, reason });
    }

    fn exit(&mut self, epoch: u64) {
        self.event(Event::Exited { epoch, how: "it was killed by SIGSEGV".into() });
    }

    fn reload(&mut self, ticket: Ticket) {
        self.event(Event::Request { want: Want::Reload, ticket: Some(ticket) });
    }

    fn hang_up(&mut self) {
        self.event(Event::Request { want: Want::Reload, ticket: None });
    }

    /// Brings the takeover from `old` to `epoch` to the wanted step.
    fn reach(&mut self, step: Step, old: u64, epoch: u64) {
        if step >= Step::Preparing {
            self.event(Event::Spawned { epoch, pid: 1 });
            self.say(epoch, Said::Hello { version: "v".into(), recalls: true });
        }
        if step >= Step::Ready {
            self.say(epoch, Said::Ready { version: String::new() });
        }
        if step >= Step::Commit {
            self.say(epoch, Said::Accepting);
        }
        if step >= Step::Probation {
            self.say(old, Said::Stopped);
            assert_eq!(self.machine.state(epoch), Some(State::Probation));
            assert_eq!(self.machine.state(old), Some(State::Standby));
        }
    }

    /// A whole takeover to `epoch`.
    fn takeover(&mut self, epoch: u64) {
        self.hang_up();
        self.reach(Step::Probation, epoch - 1, epoch);
        self.pass(10 * SECOND);
        assert_eq!(self.machine.state(epoch), Some(State::Active));
        self.seen.clear();
    }

    /// Lets time pass, stopping at every deadline on the way.
    fn pass(&mut self, length: Duration) {
        let end = self.now + length;
        for _ in 0..10_000 {
            match self.machine.deadline().filter(|at| *at <= end) {
                Some(at) => {
                    self.now = self.now.max(at);
                    self.event(Event::Tick);
                }
                None => {
                    self.now = end;
                    return;
                }
            }
        }
        panic!("the machine does not come to rest");
    }

    fn take(&mut self) -> Vec<String> {
        std::mem::take(&mut self.seen)
    }

    #[track_caller]
    fn expect(&mut self, words: &[&str]) {
        assert_eq!(self.take(), words);
    }

    fn states(&self) -> Vec<(u64, State)> {
        self.machine.epochs.iter().map(|(&number, epoch)| (number, epoch.state)).collect()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Step {
    Starting,
    Preparing,
    Ready,
    Commit,
    Probation,
}

const STEPS: [Step; 5] = [Step::Starting, Step::Preparing, Step::Ready, Step::Commit, Step::Probation];

/// The ways in which an epoch can go wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trouble {
    Dies,
    Hangs,
    ClosesItsChannel,
    BreaksTheProtocol,
    SaysFailed,
    IsUnhealthy,
    CannotStart,
}

const TROUBLES: [Trouble; 7] = [
    Trouble::Dies,
    Trouble::Hangs,
    Trouble::ClosesItsChannel,
    Trouble::BreaksTheProtocol,
    Trouble::SaysFailed,
    Trouble::IsUnhealthy,
    Trouble::CannotStart,
];

impl Trouble {
    fn can_happen(self, step: Step) -> bool {
        match self {
            Self::SaysFailed => step == Step::Preparing,
            Self::CannotStart => step == Step::Starting,
            Self::IsUnhealthy => step >= Step::Ready,
            _ => true,
        }
    }

    fn befall(self, bench: &mut Bench, epoch: u64) {
        match self {
            Self::Dies => bench.exit(epoch),
            Self::Hangs => bench.hung.push(epoch),
            Self::ClosesItsChannel => bench.event(Event::ChannelClosed { epoch }),
            Self::BreaksTheProtocol => bench.event(Event::Offence { epoch, reason: "malformed frame".into() }),
            Self::SaysFailed => bench.say(epoch, Said::Failed { report: "a.yaml:3: unknown field".into() }),
            Self::IsUnhealthy => bench.health(epoch, false),
            Self::CannotStart => bench.event(Event::SpawnFailed { epoch, reason: "no such file".into() }),
        }
    }
}

#[test]
fn the_first_epoch_serves_at_once() {
    let mut bench = Bench::with(limits());
    bench.event(Event::Start { adopt_until: None });
    bench.expect(&["spawn 0 Fresh"]);
    bench.event(Event::Spawned { epoch: 0, pid: 7 });
    bench.say(0, Said::Hello { version: "1.0".into(), recalls: true });
    assert_eq!(bench.machine.state(0), Some(State::Preparing));
    bench.say(0, Said::Ready { version: "1.0".into() });
    bench.expect(&["0<Accept"]);
    assert_eq!(bench.machine.welcome_generation(), 0);
    bench.say(0, Said::Accepting);
    bench.expect(&["settled 0 Fresh", "ready"]);
    assert!(bench.machine.is_quiet());
    assert_eq!(bench.machine.welcome_generation(), 1);
}

#[test]
fn a_first_epoch_that_fails_ends_the_supervisor() {
    for step in [Step::Starting, Step::Preparing, Step::Ready] {
        for trouble in TROUBLES.into_iter().filter(|trouble| trouble.can_happen(step)) {
            if trouble == Trouble::IsUnhealthy {
                continue;
            }
            let mut bench = Bench::with(limits());
            bench.event(Event::Start { adopt_until: None });
            if step >= Step::Preparing {
                bench.say(0, Said::Hello { version: String::new(), recalls: true });
            }
            if step >= Step::Ready {
                bench.say(0, Said::Ready { version: String::new() });
            }
            trouble.befall(&mut bench, 0);
            bench.pass(70 * SECOND);
            if bench.machine.state(0).is_some() {
                bench.exit(0);
            }
            assert_eq!(bench.take().last().map(String::as_str), Some("exit 1"), "{trouble:?} at {step:?}");
        }
    }
}

#[test]
fn a_takeover_goes_step_by_step() {
    let mut bench = Bench::serving();
    bench.reload(5);
    bench.expect(&["reloading", "spawn 1 Fresh"]);
    bench.ready(1);
    bench.expect(&["1<Accept"]);
    assert_eq!(bench.states(), [(0, State::Active), (1, State::Ready)]);
    bench.say(1, Said::Accepting);
    bench.expect(&["0<StopAccepting"]);
    assert_eq!(bench.machine.state(0), Some(State::Active));
    bench.say(0, Said::Stopped);
    bench.expect(&[]);
    assert_eq!(bench.states(), [(0, State::Standby), (1, State::Probation)]);
    bench.pass(9 * SECOND);
    bench.expect(&[]);
    bench.pass(SECOND);
    bench.expect(&["settled 1 Fresh", "0<Drain 900", "answer [5] true released", "ready"]);
    assert_eq!(bench.states(), [(0, State::Draining), (1, State::Active)]);
    let outcome = bench.outcomes.pop().unwrap();
    assert_eq!((outcome.epoch, outcome.serving), (Some(1), Some(1)));
    let times: Vec<_> = outcome.durations.iter().map(|time| (time.phase.as_str(), time.ms)).collect();
    assert_eq!(times, [("prepare", 0), ("ready", 0), ("commit", 0), ("probation", 10_000)]);
    assert!(outcome.line.starts_with("reload done: epoch 1 (version v1) serves, epoch 0 drains"), "{}", outcome.line);
    bench.say(0, Said::Drained);
    bench.exit(0);
    bench.expect(&["forget 0"]);
    assert_eq!(bench.states(), [(1, State::Active)]);
}

#[test]
fn trouble_with_the_new_epoch_leaves_the_old_one_serving() {
    for step in STEPS {
        for trouble in TROUBLES.into_iter().filter(|trouble| trouble.can_happen(step)) {
            let context = format!("{trouble:?} at {step:?}");
            let mut bench = Bench::serving();
            bench.reload(1);
            bench.reach(step, 0, 1);
            bench.seen.clear();
            trouble.befall(&mut bench, 1);
            if trouble == Trouble::IsUnhealthy && step == Step::Ready {
                // A complaint before the commit counts once it serves.
                bench.say(1, Said::Accepting);
            }
            // Whatever the machine kills is gone a moment later; the old one answers at once.
            let begin = bench.now;
            for _ in 0..600 {
                let seen = bench.seen.clone();
                if seen.iter().any(|word| word == "kill 1") && bench.machine.state(1).is_some() {
                    bench.exit(1);
                }
                if seen.iter().any(|word| word == "0<StopAccepting") && bench.machine.state(0) == Some(State::Active) {
                    bench.say(0, Said::Stopped);
                }
                if seen.iter().any(|word| word == "0<Resume") {
                    bench.say(0, Said::Resumed);
                }
                if !bench.outcomes.is_empty() {
                    break;
                }
                bench.pass(SECOND / 10);
            }
            let seen = bench.take();
            let outcome = bench.outcomes.pop().unwrap_or_else(|| panic!("{context}: no answer in {seen:?}"));
            assert!(!outcome.ok && !outcome.reason.is_empty(), "{context}: {outcome:?}");
            assert_eq!(outcome.serving, Some(0), "{context}");
            assert_eq!(bench.machine.state(0), Some(State::Active), "{context}");
            assert_eq!(
                seen.iter().any(|word| word == "0<Resume"),
                step >= Step::Commit || trouble == Trouble::IsUnhealthy,
                "{context}"
            );
            assert!(seen.iter().any(|word| word == "called off 1"), "{context}: {seen:?}");
            assert!(bench.now - begin <= limits().prepare + SECOND, "{context}");
            if trouble == Trouble::SaysFailed {
                assert_eq!(outcome.report, "a.yaml:3: unknown field");
            }
            // What is left of the new one goes, by force if it must.
            bench.pass(limits().parent_shutdown + 20 * SECOND);
            if bench.machine.state(1).is_some() {
                assert!(bench.take().iter().any(|word| word == "kill 1"), "{context}");
                bench.exit(1);
            }
            // And the next one works.
            bench.reload(2);
            bench.reach(Step::Probation, 0, 2);
            bench.pass(limits().probation);
            assert!(bench.outcomes.pop().unwrap().ok, "{context}");
        }
    }
}

#[test]
fn trouble_with_the_old_epoch_does_not_stop_the_new_one() {
    for step in STEPS {
        for trouble in [Trouble::Dies, Trouble::Hangs, Trouble::ClosesItsChannel, Trouble::BreaksTheProtocol] {
            let context = format!("{trouble:?} at {step:?}");
            let mut bench = Bench::serving();
            bench.reload(1);
            bench.reach(step, 0, 1);
            trouble.befall(&mut bench, 0);
            bench.seen.clear();
            if trouble == Trouble::ClosesItsChannel {
                bench.pass(limits().commit);
                assert!(bench.take().contains(&"term 0".to_owned()), "{context}");
                bench.exit(0);
            }
            if step < Step::Preparing {
                bench.say(1, Said::Hello { version: String::new(), recalls: true });
            }
            if step < Step::Ready {
                bench.say(1, Said::Ready { version: String::new() });
            }
            if step < Step::Commit {
                bench.say(1, Said::Accepting);
            }
            // One that still answers stops; a hung one is waited for no longer than the commit limit.
            if bench.machine.state(0).is_some() && trouble != Trouble::Hangs && step < Step::Probation {
                bench.say(0, Said::Stopped);
            }
            bench.pass(limits().commit + limits().probation);
            let outcome = bench.outcomes.pop().unwrap_or_else(|| panic!("{context}: no answer"));
            assert!(outcome.ok, "{context}: {outcome:?}");
            assert_eq!(bench.machine.state(1), Some(State::Active), "{context}");
            assert!(matches!(bench.machine.state(0), None | Some(State::Draining)), "{context}");
        }
    }
}

#[test]
fn a_late_answer_changes_nothing() {
    let mut bench = Bench::serving();
    bench.hung.push(0);
    bench.reload(1);
    bench.reach(Step::Commit, 0, 1);
    bench.pass(limits().commit);
    assert_eq!(bench.machine.state(1), Some(State::Probation));
    bench.say(0, Said::Stopped);
    assert_eq!(bench.machine.state(0), Some(State::Standby));
    // Answers to questions that were never put.
    for what in [Said::Resumed, Said::Stopped, Said::Drained] {
        bench.say(0, what);
    }
    bench.say(9, Said::Stopped);
    bench.pass(limits().probation);
    assert_eq!(bench.states(), [(0, State::Draining), (1, State::Active)]);
    bench.say(1, Said::Failed { report: "late".into() });
    bench.say(1, Said::Accepting);
    bench.say(1, Said::Ready { version: String::new() });
    bench.say(1, Said::Hello { version: "v1".into(), recalls: true });
    assert_eq!(bench.machine.state(1), Some(State::Active));
}

#[test]
fn when_both_fail_the_next_one_starts_from_the_same_sockets() {
    // The new one dies on probation and the old one does not resume, or dies too.
    for old_dies in [true, false] {
        let mut bench = Bench::serving();
        bench.reload(1);
        bench.reach(Step::Probation, 0, 1);
        bench.hung.push(0);
        bench.exit(1);
        if old_dies {
            bench.exit(0);
        } else {
            bench.pass(limits().commit);
            assert!(bench.seen.contains(&"term 0".to_owned()));
        }
        bench.pass(Duration::ZERO);
        let outcome = bench.outcomes.pop().unwrap();
        assert!(!outcome.ok && outcome.serving.is_none(), "{outcome:?}");
        assert!(bench.take().contains(&"spawn 2 Current".to_owned()));
        bench.ready(2);
        bench.say(2, Said::Accepting);
        assert_eq!(bench.machine.state(2), Some(State::Active));
    }
}

#[test]
fn an_unhealthy_epoch_serves_on_when_the_old_one_cannot() {
    for old_dies in [true, false] {
        let mut bench = Bench::serving();
        bench.reload(1);
        bench.reach(Step::Probation, 0, 1);
        bench.hung.push(0);
        bench.health(1, false);
        if old_dies {
            bench.exit(0);
        } else {
            bench.pass(limits().commit);
        }
        let outcome = bench.outcomes.pop().unwrap();
        assert!(!outcome.ok && outcome.serving == Some(1), "{outcome:?}");
        assert_eq!(bench.machine.state(1), Some(State::Active));
    }
}

#[test]
fn both_die_while_the_roll_back_waits() {
    let mut bench = Bench::serving();
    bench.reload(1);
    bench.reach(Step::Probation, 0, 1);
    bench.health(1, false);
    bench.exit(1);
    bench.exit(0);
    assert!(!bench.outcomes.pop().unwrap().ok);
    bench.pass(Duration::ZERO);
    assert_eq!(bench.states(), [(2, State::Starting)]);
}

#[test]
fn hang_ups_are_coalesced() {
    let mut bench = Bench::serving();
    for _ in 0..50 {
        bench.hang_up();
    }
    bench.expect(&["reloading", "spawn 1 Fresh"]);
    bench.reload(7);
    bench.reload(8);
    bench.reach(Step::Probation, 0, 1);
    bench.pass(limits().probation);
    assert!(bench.take().contains(&"spawn 2 Fresh".to_owned()));
    bench.reach(Step::Probation, 1, 2);
    bench.pass(limits().probation);
    assert!(bench.take().contains(&"answer [7, 8] true released".to_owned()));
    assert_eq!(bench.machine.next_epoch, 3);
    // A failed one is followed by the one that waits, too.
    bench.exit(0);
    bench.hang_up();
    bench.hang_up();
    bench.exit(3);
    assert!(bench.take().contains(&"spawn 4 Fresh".to_owned()));
}

#[test]
fn draining_epochs_are_bounded_by_count_and_none_is_cut_short() {
    let mut bench = Bench::serving();
    bench.takeover(1);
    bench.takeover(2);
    assert_eq!(bench.states(), [(0, State::Draining), (1, State::Draining), (2, State::Active)]);
    bench.reload(1);
    bench.expect(&["answer [1] false refused"]);
    bench.hang_up();
    bench.expect(&["reloading", "ready"]);
    bench.hang_up();
    bench.seen.clear();
    bench.pass(60 * SECOND);
    bench.expect(&[]);
    bench.exit(1);
    bench.expect(&["forget 1", "reloading", "spawn 3 Fresh"]);
    // A crash is replaced whatever drains.
    bench.reach(Step::Probation, 2, 3);
    bench.pass(limits().probation);
    bench.seen.clear();
    bench.exit(3);
    bench.pass(Duration::ZERO);
    assert!(bench.take().contains(&"spawn 4 Current".to_owned()));
}

#[test]
fn draining_epochs_are_bounded_by_age() {
    let mut bench = Bench::serving();
    bench.takeover(1);
    bench.pass(899 * SECOND);
    bench.expect(&[]);
    bench.pass(3 * SECOND);
    bench.expect(&["term 0"]);
    bench.pass(limits().terminate);
    bench.expect(&["kill 0"]);
    bench.pass(limits().terminate);
    bench.expect(&["kill 0"]);
    bench.exit(0);
    bench.pass(60 * SECOND);
    bench.expect(&["forget 0"]);
}

#[test]
fn an_epoch_that_says_it_is_drained_must_leave() {
    let mut bench = Bench::serving();
    bench.takeover(1);
    bench.say(0, Said::Drained);
    bench.pass(limits().terminate);
    bench.expect(&["term 0"]);
    bench.pass(limits().terminate);
    bench.expect(&["kill 0"]);
}

#[test]
fn a_crash_is_replaced_with_growing_delays() {
    let mut bench = Bench::serving();
    let mut epoch = 0;
    for delay in [0, 100, 200, 400, 800] {
        bench.exit(epoch);
        let begin = bench.now;
        epoch += 1;
        while bench.machine.state(epoch).is_none() {
            bench.now = bench.machine.deadline().unwrap();
            bench.event(Event::Tick);
        }
        assert_eq!(bench.now - begin, Duration::from_millis(delay));
        assert!(bench.take().contains(&format!("spawn {epoch} Current")));
        // Every second one even comes to serve before it dies.
        if epoch % 2 == 0 {
            bench.ready(epoch);
            bench.say(epoch, Said::Accepting);
        }
    }
    for _ in 0..10 {
        bench.exit(epoch);
        epoch += 1;
        bench.pass(limits().backoff_max);
        assert_eq!(bench.machine.state(epoch), Some(State::Starting), "the delay has a bound");
    }
    bench.ready(epoch);
    bench.say(epoch, Said::Accepting);
    bench.pass(limits().backoff_max);
    bench.exit(epoch);
    bench.pass(Duration::ZERO);
    assert_eq!(bench.machine.state(epoch + 1), Some(State::Starting), "a stable epoch is forgiven");
}

#[test]
fn a_reload_ends_a_crash_loop_at_once() {
    let mut bench = Bench::serving();
    bench.exit(0);
    bench.pass(Duration::ZERO);
    bench.exit(1);
    bench.seen.clear();
    bench.reload(1);
    bench.expect(&["spawn 2 Fresh"]);
    bench.ready(2);
    bench.say(2, Said::Accepting);
    assert!(bench.outcomes.pop().unwrap().ok);
    bench.pass(60 * SECOND);
    assert_eq!(bench.states(), [(2, State::Active)]);
}

#[test]
fn stopping_is_bounded_in_every_step() {
    for step in STEPS {
        for how in [StopHow::Signal, StopHow::Stop, StopHow::Drain] {
            let context = format!("{how:?} at {step:?}");
            let mut bench = Bench::serving();
            bench.takeover(1);
            bench.reload(1);
            bench.reach(step, 1, 2);
            bench.seen.clear();
            bench.event(Event::Stop { how, ticket: Some(2) });
            let seen = bench.take();
            assert_eq!(&seen[..2], ["stopping", "answer [1] false "], "{context}");
            let grace = if how == StopHow::Drain { limits().parent_shutdown } else { limits().stop };
            assert!(seen.contains(&format!("1<Terminate {}", grace.as_secs())), "{context}: {seen:?}");
            let newcomer =
                if step < Step::Ready { "kill 2".into() } else { format!("2<Terminate {}", grace.as_secs()) };
            assert!(seen.contains(&newcomer), "{context}: {seen:?}");
            bench.reload(3);
            bench.hang_up();
            bench.expect(&["answer [3] false refused"]);
            bench.exit(2);
            bench.exit(0);
            bench.pass(grace + 3 * SECOND);
            let seen = bench.take();
            assert!(seen.contains(&"term 1".to_owned()), "{context}: {seen:?}");
            bench.pass(limits().terminate);
            bench.expect(&["kill 1"]);
            bench.exit(1);
            bench.expect(&["forget 1", "answer [2] true stopped", "exit 0"]);
        }
    }
}

#[test]
fn a_second_signal_stops_at_once() {
    let mut bench = Bench::serving();
    bench.event(Event::Stop { how: StopHow::Signal, ticket: None });
    bench.expect(&["stopping", "0<Terminate 30"]);
    bench.event(Event::Stop { how: StopHow::Stop, ticket: Some(1) });
    bench.expect(&[]);
    bench.event(Event::Stop { how: StopHow::Signal, ticket: None });
    bench.expect(&["kill 0"]);
    bench.exit(0);
    bench.expect(&["forget 0", "answer [1] true stopped", "exit 0"]);
}

#[test]
fn stopping_while_nothing_lives_ends_at_once() {
    let mut bench = Bench::serving();
    bench.exit(0);
    bench.pass(Duration::ZERO);
    bench.exit(1);
    bench.seen.clear();
    bench.event(Event::Stop { how: StopHow::Signal, ticket: None });
    bench.expect(&["stopping", "exit 0"]);
    bench.pass(60 * SECOND);
    bench.expect(&[]);
}

#[test]
fn a_roll_back_needs_something_to_go_back_to() {
    let mut bench = Bench::serving();
    let rollback = |ticket| Event::Request { want: Want::Rollback, ticket: Some(ticket) };
    bench.event(rollback(1));
    bench.expect(&["answer [1] false refused"]);
    // A reload that fails leaves nothing either.
    bench.reload(2);
    bench.exit(1);
    bench.seen.clear();
    bench.event(rollback(3));
    bench.expect(&["answer [3] false refused"]);
    bench.reload(4);
    bench.reach(Step::Probation, 0, 2);
    bench.pass(limits().probation);
    bench.seen.clear();
    bench.event(rollback(5));
    bench.expect(&["reloading", "spawn 3 Previous"]);
    bench.reload(6);
    bench.event(rollback(7));
    bench.expect(&["answer [7] false refused"]);
}

#[test]
fn a_silent_epoch_is_replaced() {
    let mut bench = Bench::serving();
    bench.pass(300 * SECOND);
    bench.expect(&[]);
    bench.hung.push(0);
    bench.pass(32 * SECOND);
    bench.expect(&["reloading", "spawn 1 Current"]);
    bench.ready(1);
    bench.say(1, Said::Accepting);
    bench.pass(limits().commit + limits().probation);
    assert_eq!(bench.states(), [(0, State::Draining), (1, State::Active)]);
    let mut patient = Bench::serving_with(Limits { unresponsive: Duration::ZERO, ..limits() });
    patient.hung.push(0);
    patient.pass(3600 * SECOND);
    patient.expect(&[]);
}

#[test]
fn what_the_operator_wants_replaces_what_the_supervisor_wants() {
    let mut bench = Bench::serving();
    bench.takeover(1);
    bench.takeover(2);
    bench.hung.push(2);
    bench.pass(32 * SECOND);
    bench.hang_up();
    bench.seen.clear();
    bench.exit(0);
    bench.expect(&["forget 0", "reloading", "spawn 3 Fresh"]);
}

#[test]
fn orphans_are_taken_in() {
    let adopted = |epoch, state, deadline| {
        Event::Adopted(Adoption {
            epoch,
            pid: 50 + epoch as u32,
            version: "v".into(),
            generation: epoch,
            state,
            deadline,
            started: Moment(900_000),
            recalls: true,
        })
    };
    let mut bench = Bench::with(limits());
    let until = bench.now + 3 * SECOND;
    bench.event(Event::Start { adopt_until: Some(until) });
    bench.expect(&[]);
    bench.event(adopted(4, State::Draining, Some(bench.now + 5 * SECOND)));
    bench.expect(&[]);
    bench.event(adopted(5, State::Standby, None));
    bench.expect(&[]);
    bench.event(adopted(6, State::Active, None));
    bench.expect(&["settled 6 Current", "ready"]);
    bench.event(adopted(7, State::Preparing, None));
    bench.expect(&["term 7"]);
    bench.exit(7);
    bench.expect(&["forget 7"]);
    bench.event(Event::Gathered);
    bench.expect(&["5<Drain 900"]);
    bench.pass(4 * SECOND);
    bench.expect(&[]);
    bench.pass(4 * SECOND);
    bench.expect(&["term 4"]);
    bench.event(adopted(3, State::Active, None));
    bench.expect(&["3<Drain 900"]);
    assert_eq!(bench.machine.welcome_generation(), 7);
    bench.exit(5);
    bench.seen.clear();
    bench.reload(1);
    bench.expect(&["reloading", "spawn 8 Fresh"]);

    // Only one that stood by is left: it serves again. What was asked meanwhile follows.
    let mut bench = Bench::with(limits());
    let until = bench.now + 3 * SECOND;
    bench.event(Event::Start { adopt_until: Some(until) });
    bench.reload(1);
    bench.event(adopted(5, State::Standby, None));
    bench.expect(&[]);
    bench.event(Event::Gathered);
    bench.expect(&["5<Resume", "settled 5 Current", "ready", "reloading", "spawn 6 Fresh"]);

    // The end waits for those who come, too.
    let mut bench = Bench::with(limits());
    let until = bench.now + 3 * SECOND;
    bench.event(Event::Start { adopt_until: Some(until) });
    bench.event(Event::Stop { how: StopHow::Stop, ticket: Some(1) });
    bench.expect(&["stopping"]);
    bench.event(adopted(5, State::Active, None));
    bench.event(Event::Gathered);
    bench.seen.clear();
    bench.exit(5);
    bench.expect(&["forget 5", "answer [1] true stopped", "exit 0"]);

    // Nobody came: a new one starts.
    let mut bench = Bench::with(limits());
    let until = bench.now + 3 * SECOND;
    bench.event(Event::Start { adopt_until: Some(until) });
    bench.pass(3 * SECOND);
    bench.expect(&["spawn 0 Fresh"]);
}

#[test]
fn the_lineage_can_be_written_down() {
    let mut bench = Bench::serving();
    bench.takeover(1);
    assert!(bench.machine.is_quiet());
    let text = serde_json::to_string(&bench.machine).unwrap();
    bench.machine = serde_json::from_str(&text).unwrap();
    assert_eq!(bench.states(), [(0, State::Draining), (1, State::Active)]);
    bench.reload(1);
    bench.reach(Step::Probation, 1, 2);
    bench.pass(limits().probation);
    assert!(bench.outcomes.pop().unwrap().ok);
    bench.pass(limits().parent_shutdown);
    assert!(bench.take().contains(&"term 0".to_owned()));
}

#[test]
fn the_status_tells_who_does_what() {
    let mut bench = Bench::serving();
    bench.takeover(1);
    bench.health(1, false);
    bench.reload(9);
    let status = bench.machine.status(bench.now, 5_000_000);
    assert_eq!(status.phase, "takeover from epoch 1 to 2: prepare");
    assert!(status.last_outcome.starts_with("reload done"));
    let rows: Vec<_> = status.epochs.iter().map(|e| (e.epoch, e.state.as_str(), e.connections, e.healthy)).collect();
    assert_eq!(rows, [(0, "draining", 0, true), (1, "active", 3, false), (2, "starting", 0, true)]);
    assert_eq!(status.epochs[0].draining_until_unix_ms, Some(5_900_000));
    assert_eq!(status.epochs[1].draining_until_unix_ms, None);
}

/// Random events in random order: no panic, no busy loop, and never two that serve.
#[test]
fn any_order_of_events_leaves_a_sound_lineage() {
    let mut seed = 0x2545_f491_4f6c_dd1d_u64;
    let mut random = |below: u64| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed % below
    };
    for round in 0..200 {
        let mut bench = Bench::serving_with(Limits { grace: (round % 4) * SECOND, ..limits() });
        for _ in 0..200 {
            let epoch = bench.machine.next_epoch.saturating_sub(random(4)).min(bench.machine.next_epoch);
            match random(16) {
                0 => bench.hang_up(),
                1 => bench.reload(random(100)),
                2 => bench.event(Event::Request { want: Want::Rollback, ticket: None }),
                3 => bench.exit(epoch),
                4 => bench.event(Event::ChannelClosed { epoch }),
                5 => bench.event(Event::Offence { epoch, reason: "r".into() }),
                6 => bench.say(epoch, Said::Hello { version: String::new(), recalls: true }),
                7 | 8 => bench.say(epoch, Said::Ready { version: String::new() }),
                9 | 10 => bench.say(epoch, Said::Accepting),
                11 => bench.say(epoch, Said::Stopped),
                12 => bench.say(epoch, Said::Resumed),
                13 => bench.say(epoch, Said::Drained),
                14 => bench.health(epoch, random(2) == 0),
                _ => bench.pass(SECOND * (random(20) as u32)),
            }
            let active = bench.states().iter().filter(|(_, state)| *state == State::Active).count();
            assert!(active <= 1, "{:?}", bench.states());
        }
        // Left alone, with every process dying when it is killed, something serves or is being started.
        bench.pass(20 * limits().backoff_max);
        bench.event(Event::Stop { how: StopHow::Signal, ticket: None });
        bench.event(Event::Stop { how: StopHow::Signal, ticket: None });
        for (epoch, _) in bench.states() {
            bench.exit(epoch);
        }
        assert_eq!(bench.take().last().map(String::as_str), Some("exit 0"));
    }
}
