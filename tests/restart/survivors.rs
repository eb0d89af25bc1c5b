//! An epoch is killed around the move: exactly the connections that were its own at that moment are closed, all others live.

use std::collections::BTreeSet;
use std::time::Duration;

use nix::sys::signal::Signal;
use nix::unistd::Pid;

use crate::alone_on_the_machine;
use crate::support::bootstrap::Config;
use crate::support::clients::{Connection, Request, block_on};
use crate::support::process::{all_closes_have_arrived, gone, signal};
use crate::support::streams::{Host, Kind, Streams};
use crate::support::supervised::{PATIENCE, Setup, eventually, listening, within};
use crate::support::upstream::Upstream;
use crate::tap::{Deed, Order, Tap, Victim, Way};

const GET: Request<'static> = Request::Get { path: "/small", close: false };
/// More than two batches.
const IDLE: usize = 150;
const TUNNELS: usize = 6;

/// Who is killed at which message between the two.
#[derive(Clone, Copy, Debug)]
struct Death {
    is_old: bool,
    way: Way,
    message: &'static str,
    nth: u32,
}

/// Whose connections may die with the victim, given all of them and the batches that were on their way: one of these sets, exactly.
type Expected = fn(all: &BTreeSet<u16>, batches: &[Vec<u16>]) -> Vec<BTreeSet<u16>>;

fn flat(batches: &[Vec<u16>]) -> BTreeSet<u16> {
    batches.iter().flatten().copied().collect()
}

/// What is not on its way when the giver dies was the giver's alone.
fn not_on_its_way(all: &BTreeSet<u16>, batches: &[Vec<u16>]) -> Vec<BTreeSet<u16>> {
    vec![all.difference(&flat(batches)).copied().collect()]
}

fn none(_: &BTreeSet<u16>, _: &[Vec<u16>]) -> Vec<BTreeSet<u16>> {
    vec![BTreeSet::new()]
}

/// The batch whose answer was seen, and those behind it that the taker had answered too by the time that it was dead: whole ones, in order.
fn answered_batches(_: &BTreeSet<u16>, batches: &[Vec<u16>]) -> Vec<BTreeSet<u16>> {
    (1..=batches.len()).map(|answered| flat(&batches[..answered])).collect()
}

fn every_one(all: &BTreeSet<u16>, _: &[Vec<u16>]) -> Vec<BTreeSet<u16>> {
    vec![all.clone()]
}

fn dies(death: Death, expected: Expected) {
    let (upstream, host) = (Upstream::start(), Host::start());
    let (socket, tunnel) = listening();
    let config = Config { tunnel: Some((tunnel, host.raw)), ..Config::to(upstream.address) };
    let setup = Setup::new(config).scripted().flag("--drain-time-s", 60).flag("--parent-shutdown-time-s", 60);
    let proxy = setup.socket(socket).start();
    let mut tap = Tap::on(&proxy);
    proxy.reload();
    let old = proxy.settled(PATIENCE);
    let streams = Streams::open(&host, proxy.front, tunnel, &[(Kind::Tunnel, TUNNELS)]);
    assert!(streams.progress(PATIENCE), "the tunnels are joined");
    let Death { is_old, way, message, nth } = death;
    let victim = if is_old { Victim::Process(Pid::from_raw(old.pid)) } else { Victim::Epoch(old.epoch + 1) };
    let (closed, all) = block_on(async {
        let mut idle = Vec::new();
        for _ in 0..IDLE {
            let mut connection = Connection::open(proxy.front).await.unwrap();
            connection.exchange(&GET).await.unwrap();
            idle.push(connection);
        }
        let mut all: BTreeSet<u16> = idle.iter().map(Connection::port).collect();
        all.extend(streams.ports());
        tap.arm(&Order { epoch: old.epoch, way, message: message.into(), nth, deed: Deed::Kill, victim });
        let operated = proxy.operator(&["reload"]);
        assert!(tap.fired_within(PATIENCE).is_some(), "{operated:?}");
        Connection::open(proxy.front).await.unwrap().exchange(&GET).await.expect("it serves");
        let wanted = expected(&all, &tap.moved(old.epoch));
        let closed = |idle: &[Connection]| -> BTreeSet<u16> {
            let idle = idle.iter().filter(|connection| connection.closed_by_peer()).map(Connection::port);
            idle.chain(streams.broken_ports()).collect()
        };
        within(PATIENCE, || wanted.contains(&closed(&idle)));
        // And it stays so: who lives is served.
        let mut lost = closed(&idle);
        for connection in &mut idle {
            if !lost.contains(&connection.port()) && connection.exchange(&GET).await.is_err() {
                lost.insert(connection.port());
            }
        }
        assert!(streams.progress(PATIENCE));
        lost.extend(streams.broken_ports());
        (lost, all)
    });
    let batches = tap.moved(old.epoch);
    let wanted = expected(&all, &batches);
    println!(
        "{} epoch killed at {message} {nth}: {} connections, {} on their way in {} batches, {} closed, {} live on",
        if is_old { "old" } else { "new" },
        all.len(),
        flat(&batches).len(),
        batches.len(),
        closed.len(),
        all.len() - closed.len()
    );
    assert!(wanted.contains(&closed), "{death:?}: closed {closed:?}, of the victim alone {wanted:?}\n{}", proxy.log());
    let fate = streams.close(Duration::from_secs(10));
    assert_eq!(fate.wrong, Vec::<String>::new());
    proxy.reload();
}

#[test]
fn a_giver_that_dies_with_connections_on_their_way_takes_only_the_others() {
    let _quiet = alone_on_the_machine();
    dies(Death { is_old: true, way: Way::Out, message: "Moved", nth: 1 }, not_on_its_way);
}

#[test]
fn a_giver_that_dies_before_it_reads_the_answer_takes_nothing_that_was_given() {
    let _quiet = alone_on_the_machine();
    dies(Death { is_old: true, way: Way::In, message: "Taken", nth: 1 }, not_on_its_way);
}

#[test]
fn a_taker_that_dies_before_it_answers_takes_nothing() {
    let _quiet = alone_on_the_machine();
    dies(Death { is_old: false, way: Way::Out, message: "Moved", nth: 1 }, none);
}

#[test]
fn a_taker_that_dies_when_it_has_answered_takes_that_batch() {
    let _quiet = alone_on_the_machine();
    dies(Death { is_old: false, way: Way::In, message: "Taken", nth: 1 }, answered_batches);
}

#[test]
fn a_taker_that_dies_when_all_have_moved_takes_all() {
    let _quiet = alone_on_the_machine();
    dies(Death { is_old: false, way: Way::Up, message: "Drained", nth: 1 }, every_one);
}

#[test]
fn a_giver_that_dies_when_all_have_moved_takes_nothing() {
    let _quiet = alone_on_the_machine();
    dies(Death { is_old: true, way: Way::Up, message: "Drained", nth: 1 }, none);
}

/// What a dead epoch held is closed when the last who has a descriptor of it lets go; that may be the giver, when it reads the answer. Until then a
/// connection of the dead one is not closed but silent, and a request that is written there is reset. Whoever counts around a death must wait for the
/// epoch before to have left, or see resets on connections that seemed to live when the dead one was gone.
#[test]
fn what_the_dead_one_held_may_be_silent_until_the_giver_reads_the_answer() {
    let _quiet = alone_on_the_machine();
    let upstream = Upstream::start();
    let setup = Setup::new(Config::to(upstream.address)).scripted();
    let proxy =
        setup.flag("--drain-time-s", 60).flag("--parent-shutdown-time-s", 60).flag("--commit-time-s", 30).start();
    let mut tap = Tap::on(&proxy);
    proxy.reload();
    let old = proxy.settled(PATIENCE);
    let giver = Pid::from_raw(old.pid);
    block_on(async {
        let mut idle = Vec::new();
        for _ in 0..5 {
            let mut connection = Connection::open(proxy.front).await.unwrap();
            connection.exchange(&GET).await.unwrap();
            idle.push(connection);
        }
        let victim = Victim::Process(giver);
        let (way, message) = (Way::In, "Taken".to_owned());
        tap.arm(&Order { epoch: old.epoch, way, message, nth: 1, deed: Deed::Stop, victim });
        proxy.reload();
        assert!(tap.fired_within(PATIENCE).is_some());
        let given = flat(&tap.moved(old.epoch)[..1]);
        let taker = tap.process(old.epoch + 1).expect("it runs");
        signal(taker, Signal::SIGKILL);
        eventually(PATIENCE, "it dies", || gone(taker));
        eventually(PATIENCE, "its clients know", || all_closes_have_arrived(proxy.front));
        let mut silent: Vec<_> = idle.into_iter().filter(|connection| given.contains(&connection.port())).collect();
        assert_eq!(silent.len(), given.len());
        for connection in &mut silent {
            assert!(!connection.closed_by_peer(), "the giver still has a descriptor");
            connection.send(&GET).await.expect("the kernel takes it");
        }
        signal(giver, Signal::SIGCONT);
        let mut failures = Vec::new();
        for connection in &mut silent {
            failures.push(connection.receive().await.err().expect("nobody reads it"));
        }
        println!("{} connections of the dead one, with a request each: {failures:?}", failures.len());
    });
}
