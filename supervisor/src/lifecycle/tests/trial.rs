//! The grace after the release.

use super::*;

const GRACE: Duration = Duration::from_secs(3);

fn graceful() -> Limits {
    Limits { grace: GRACE, ..limits() }
}

/// A takeover to `epoch` that was just released.
fn released(bench: &mut Bench, epoch: u64) {
    bench.hang_up();
    bench.reach(Step::Probation, epoch - 1, epoch);
    bench.pass(limits().probation);
    assert_eq!(bench.machine.state(epoch), Some(State::Active));
    bench.seen.clear();
    bench.notes.clear();
}

fn on_trial() -> Bench {
    let mut bench = Bench::serving_with(graceful());
    released(&mut bench, 1);
    bench
}

#[test]
fn the_drain_says_for_how_long_it_can_be_called_off() {
    let mut bench = Bench::serving_with(graceful());
    bench.hang_up();
    bench.reach(Step::Probation, 0, 1);
    let at = bench.machine.deadline().unwrap();
    let actions = bench.machine.handle(Event::Tick, at.max(bench.now + limits().probation));
    let recall = actions.iter().find_map(|action| match action {
        Action::Send { order: Order::Drain { recall, .. }, .. } => Some(*recall),
        _ => None,
    });
    assert_eq!(recall, Some(GRACE));
}

#[test]
fn a_newcomer_that_goes_wrong_in_its_grace_is_taken_back() {
    for trouble in [Trouble::Dies, Trouble::IsUnhealthy, Trouble::Hangs] {
        let mut bench = on_trial();
        trouble.befall(&mut bench, 1);
        if trouble == Trouble::Hangs {
            bench.pass(limits().commit + SECOND);
        }
        let waits = bench.take();
        assert!(waits.contains(&"0<Resume".to_owned()), "{trouble:?}: {waits:?}");
        assert_eq!(bench.machine.state(0), Some(State::Standby));
    }
    let mut bench = on_trial();
    bench.pass(SECOND);
    bench.exit(1);
    bench.expect(&["forget 1", "0<Resume"]);
    bench.say(0, Said::Resumed);
    bench.expect(&["reverted 1 to 0", "ready"]);
    assert_eq!(bench.states(), [(0, State::Active)]);
    let line = &bench.machine.last_outcome;
    assert!(line.starts_with("reload was taken back in grace: epoch 1: it was killed by SIGSEGV; epoch 0 serves on"));
    assert_eq!(bench.notes, [Note::Crashed, Note::RolledBack(Why::Died)]);
    // It is none that drains any more: its deadline is off, and the next takeover is like any.
    bench.pass(limits().parent_shutdown * 2);
    assert_eq!(bench.states(), [(0, State::Active)]);
    bench.seen.clear();
    bench.reload(1);
    bench.reach(Step::Probation, 0, 2);
    bench.pass(limits().probation);
    assert!(bench.outcomes.pop().unwrap().ok);
}

#[test]
fn an_unwell_newcomer_gives_back_what_it_holds() {
    let mut bench = on_trial();
    bench.health(1, false);
    bench.say(0, Said::Resumed);
    bench.expect(&["0<Resume", "1<Drain 900", "reverted 1 to 0", "ready"]);
    assert_eq!(bench.states(), [(0, State::Active), (1, State::Draining)]);
    // Out of its grace it is only a matter for the status.
    let mut bench = on_trial();
    bench.pass(GRACE);
    bench.health(1, false);
    bench.expect(&[]);
}

#[test]
fn after_the_grace_and_from_an_epoch_that_cannot_resume_there_is_no_way_back() {
    for case in 0..3 {
        let mut bench = on_trial();
        match case {
            0 => bench.pass(GRACE),
            1 => bench.say(0, Said::Drained),
            _ => bench.event(Event::ChannelClosed { epoch: 0 }),
        }
        bench.seen.clear();
        bench.exit(1);
        bench.pass(Duration::ZERO);
        bench.expect(&["forget 1", "spawn 2 Current"]);
    }
}

#[test]
fn one_that_does_not_resume_is_ended_and_the_newcomer_started_again() {
    let mut bench = on_trial();
    bench.exit(1);
    bench.pass(limits().commit);
    assert_eq!(bench.take(), ["forget 1", "0<Resume", "term 0", "spawn 2 Current"]);
    assert_eq!(bench.notes, [Note::Crashed, Note::Failed(Why::Died)]);
    let mut bench = on_trial();
    bench.exit(1);
    bench.exit(0);
    bench.pass(Duration::ZERO);
    bench.expect(&["forget 1", "0<Resume", "forget 0", "spawn 2 Current"]);
}

#[test]
fn a_recipe_that_dies_twice_in_its_grace_gives_way_to_the_one_before() {
    let mut bench = on_trial();
    bench.exit(0);
    bench.exit(1);
    bench.pass(Duration::ZERO);
    bench.expect(&["forget 0", "forget 1", "spawn 2 Current"]);
    bench.ready(2);
    bench.say(2, Said::Accepting);
    bench.pass(GRACE - SECOND);
    bench.seen.clear();
    bench.exit(2);
    bench.pass(SECOND);
    bench.expect(&["forget 2", "spawn 3 Previous"]);
    // In turn, with growing pauses, as long as none lives.
    let begun = bench.now;
    bench.exit(3);
    bench.pass(SECOND);
    bench.exit(4);
    bench.pass(SECOND);
    bench.expect(&["forget 3", "called off 3", "spawn 4 Current", "forget 4", "called off 4", "spawn 5 Previous"]);
    assert!(bench.now - begun >= SECOND);
    bench.ready(5);
    bench.say(5, Said::Accepting);
    bench.seen.clear();
    // It is the one to start again from now on.
    bench.exit(5);
    bench.pass(limits().backoff_max);
    bench.expect(&["forget 5", "spawn 6 Current"]);
    assert_eq!(bench.notes.iter().filter(|note| **note == Note::FellBack).count(), 2);
}

#[test]
fn one_death_in_the_grace_is_forgiven_by_a_second_life_that_lasts() {
    let mut bench = on_trial();
    bench.exit(0);
    bench.exit(1);
    bench.pass(Duration::ZERO);
    bench.ready(2);
    bench.say(2, Said::Accepting);
    bench.pass(GRACE);
    bench.seen.clear();
    bench.exit(2);
    bench.pass(limits().backoff_max);
    bench.expect(&["forget 2", "spawn 3 Current"]);
}

#[test]
fn a_newer_takeover_ends_the_grace_of_the_last_one() {
    let mut bench = on_trial();
    released(&mut bench, 2);
    assert_eq!(bench.states(), [(0, State::Draining), (1, State::Draining), (2, State::Active)]);
    bench.exit(2);
    bench.expect(&["forget 2", "1<Resume"]);
    bench.say(1, Said::Resumed);
    assert_eq!(bench.states(), [(0, State::Draining), (1, State::Active)]);
}

#[test]
fn the_newcomer_may_die_in_its_grace_while_the_next_one_prepares() {
    let mut bench = on_trial();
    bench.reload(4);
    bench.exit(1);
    bench.seen.clear();
    bench.say(2, Said::Hello { version: String::new(), recalls: true });
    bench.say(2, Said::Failed { report: "a.yaml:3: unknown field".into() });
    let seen = bench.take();
    assert!(seen.contains(&"0<Resume".to_owned()), "{seen:?}");
    bench.say(0, Said::Resumed);
    assert_eq!(bench.machine.state(0), Some(State::Active));
}

#[test]
fn stopping_and_replacing_the_supervisor_in_a_grace() {
    let mut bench = on_trial();
    let text = serde_json::to_string(&bench.machine).unwrap();
    bench.machine = serde_json::from_str(&text).unwrap();
    bench.event(Event::Stop { how: StopHow::Stop, ticket: None });
    bench.seen.clear();
    bench.exit(1);
    bench.exit(0);
    bench.expect(&["forget 1", "forget 0", "exit 0"]);
}

#[test]
fn a_takeover_is_noted_by_its_phases() {
    let mut bench = Bench::serving_with(graceful());
    bench.hang_up();
    bench.reach(Step::Probation, 0, 1);
    bench.pass(limits().probation);
    bench.pass(SECOND);
    bench.exit(0);
    let phase = |name, seconds| Note::Phase(name, SECOND * seconds);
    let phases = [phase("prepare", 0), phase("ready", 0), phase("commit", 0), phase("probation", 10)];
    assert_eq!(bench.notes[0], Note::Begun);
    assert_eq!(bench.notes[1..5], phases);
    assert_eq!(bench.notes[5..], [Note::Released(10 * SECOND), Note::Drained(SECOND)]);
    bench.notes.clear();
    bench.hang_up();
    bench.exit(2);
    assert_eq!(bench.notes, [Note::Begun, Note::Failed(Why::Died)]);
}
