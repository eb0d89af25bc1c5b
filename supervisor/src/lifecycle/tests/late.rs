//! Answers and deadlines that are found together, and newcomers that may have begun to accept.

use super::*;

#[test]
fn an_answer_that_waited_while_the_supervisor_was_held_up_counts() {
    let mut bench = Bench::serving();
    bench.reload(7);
    bench.reach(Step::Ready, 0, 1);
    bench.take();
    // It sleeps past the deadline; then the old one's report stands before the answer.
    bench.now = bench.now + 20 * SECOND;
    bench.health(0, true);
    bench.say(1, Said::Accepting);
    bench.expect(&["0<StopAccepting"]);
    bench.event(Event::Tick);
    bench.say(0, Said::Stopped);
    assert_eq!(bench.machine.state(1), Some(State::Probation));
}

#[test]
fn a_serving_epoch_whose_answer_waited_is_not_replaced() {
    let mut bench = Bench::serving();
    bench.hung.push(0);
    bench.pass(2 * SECOND);
    bench.take();
    bench.now = bench.now + 100 * SECOND;
    bench.hang_up();
    bench.say(0, Said::Pong);
    bench.event(Event::Tick);
    assert_eq!(bench.machine.serving(), Some(0));
    assert!(!bench.take().contains(&"spawn 2 Current".to_owned()));
}

#[test]
fn a_newcomer_that_was_told_to_accept_gives_back_what_it_may_have() {
    let mut bench = Bench::serving();
    bench.reload(7);
    bench.reach(Step::Ready, 0, 1);
    bench.take();
    bench.pass(5 * SECOND);
    bench.expect(&["1<Drain 7", "called off 1", "answer [7] false ready", "ready"]);
    // One that does not is ended.
    bench.pass(30 * SECOND);
    assert_eq!(bench.take(), ["term 1", "kill 1", "kill 1", "kill 1"]);
    bench.exit(1);
    assert_eq!(bench.states(), [(0, State::Active)]);
}
