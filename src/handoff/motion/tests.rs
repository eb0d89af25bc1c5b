//! Both sides over a socket pair, and each against one that misbehaves.

use std::cell::RefCell;
use std::os::fd::AsFd;
use std::rc::Rc;
use std::time::Instant;

use heirloom_supervisor::wire::message::{NotTaken, Taken, Withdrawn};
use heirloom_supervisor::wire::{Channel, Error, Message};
use tokio::task::{LocalSet, spawn_local};

use super::*;
use crate::drain::motion::{Mover, Outcome};
use crate::handoff::link::Link;
use crate::stats::Scope;
use crate::stats::names::MotionStats;

fn frozen(name: &str, record: usize) -> Frozen {
    let (one, _) = std::os::unix::net::UnixStream::pair().unwrap();
    Frozen {
        kind: Kind::Http1,
        listener: name.into(),
        peer: Some("127.0.0.1:5".parse().unwrap()),
        local: None,
        age: Duration::from_secs(7),
        sockets: vec![one.into()],
        record: (0..record).map(|at| at as u8).collect(),
    }
}

fn stats() -> MotionStats {
    MotionStats::new(&Scope::detached())
}

async fn offer(mover: Mover, name: &'static str, record: usize) -> Outcome {
    mover.permit().await.unwrap().offer(frozen(name, record)).await
}

fn is_taken(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Taken)
}

/// What a worker has been given, and what it has begun with.
#[derive(Default)]
struct Worker {
    given: Vec<Frozen>,
    begun: usize,
}

/// A stager that refuses what is called so.
fn worker(worker: &Rc<RefCell<Worker>>) -> impl AsyncFn(usize, Staging) + use<> {
    let worker = worker.clone();
    async move |_, staging: Staging| {
        let Staging { frozen, refused, verdict } = staging;
        let mut reasons = Vec::new();
        let mut count = 0;
        for (index, frozen) in frozen {
            match Kind::from_name(&frozen.listener) {
                None if frozen.listener == "refused" => reasons.push((index, Reason::NoListener)),
                _ => {
                    worker.borrow_mut().given.push(frozen);
                    count += 1;
                }
            }
        }
        refused.send(reasons).unwrap();
        let worker = worker.clone();
        spawn_local(async move {
            if verdict.await.is_ok() {
                worker.borrow_mut().begun += count;
            }
        });
    }
}

#[tokio::test(flavor = "current_thread")]
async fn connections_go_over_and_are_refused_one_by_one() {
    LocalSet::new()
        .run_until(async {
            let (old, new) = Channel::pair().unwrap();
            let (mover, offers) = Mover::new(BATCH);
            let (stats, taker) = (stats(), Rc::new(RefCell::new(Worker::default())));
            let taking = spawn_local(take(new, 1, 2, worker(&taker)));
            let giving = spawn_local({
                let stats = stats.clone();
                async move { give(old, offers, &stats).await }
            });
            let outcomes = tokio::join!(
                offer(mover.clone(), "front", 10),
                offer(mover.clone(), "refused", 10),
                offer(mover.clone(), "front", 70_000),
            );
            assert!(is_taken(&outcomes.0) && is_taken(&outcomes.2));
            assert!(matches!(outcomes.1, Outcome::Refused(frozen, Reason::NoListener) if frozen.record.len() == 10));
            let many: Vec<_> = (0..300).map(|_| spawn_local(offer(mover.clone(), "front", 300))).collect();
            for one in many {
                assert!(is_taken(&one.await.unwrap()));
            }
            drop(mover);
            let link = giving.await.unwrap();
            taking.await.unwrap();
            drop(link);
            assert_eq!(stats.moved_http1.lane_value(), 302);
            assert_eq!(stats.refused_no_listener.lane_value(), 1);
            tokio::task::yield_now().await;
            let taker = taker.borrow();
            assert_eq!((taker.given.len(), taker.begun), (302, 302));
            let long = taker.given.iter().find(|frozen| frozen.record.len() == 70_000).unwrap();
            assert_eq!(long.record[69_999], 69_999_usize as u8);
            assert_eq!((long.age, long.peer), (Duration::from_secs(7), Some("127.0.0.1:5".parse().unwrap())));
        })
        .await;
}

#[tokio::test(flavor = "current_thread")]
async fn a_taker_that_is_silent_gets_nothing() {
    let (old, new) = Channel::pair().unwrap();
    let (mover, offers) = Mover::new(BATCH);
    let stats = stats();
    let begun = Instant::now();
    let (link, outcome) = tokio::join!(give(old, offers, &stats), offer(mover, "front", 10));
    assert!(matches!(outcome, Outcome::Refused(_, Reason::Way)));
    assert!(begun.elapsed() < Duration::from_secs(5));
    // It wakes up and answers: too late, and it can tell.
    assert!(matches!(new.try_recv(), Ok(Some(packet)) if matches!(packet.message, Message::Moved(_))));
    let answer = Message::Taken(Taken { batch: 0, refused: Vec::new() });
    assert!(matches!(new.try_send(&answer, &[]), Err(Error::Closed)));
    assert_eq!(new.try_recv().unwrap().unwrap().message, Message::Withdrawn(Withdrawn {}));
    assert!(new.try_recv().unwrap().is_none());
    drop(link);
}

#[tokio::test(flavor = "current_thread")]
async fn an_answer_counts_even_if_its_sender_dies_after_it() {
    let (old, new) = Channel::pair().unwrap();
    let (mover, offers) = Mover::new(BATCH);
    let stats = stats();
    let (_, outcomes, ()) = tokio::join!(
        give(old, offers, &stats),
        async { tokio::join!(offer(mover.clone(), "front", 10), offer(mover.clone(), "front", 10)) },
        async {
            tokio::task::yield_now().await;
            while new.try_recv().unwrap().is_none() {
                tokio::task::yield_now().await;
            }
            let refused = vec![NotTaken { index: 1, reason: "of tomorrow".into() }];
            assert!(new.try_send(&Message::Taken(Taken { batch: 0, refused }), &[]).unwrap());
            drop(new);
        }
    );
    assert!(is_taken(&outcomes.0));
    assert!(matches!(outcomes.1, Outcome::Refused(_, Reason::Other)));
}

#[tokio::test(flavor = "current_thread")]
async fn what_was_answered_in_a_way_that_cannot_be_read_is_not_served_here() {
    let (old, new) = Channel::pair().unwrap();
    let (mover, offers) = Mover::new(BATCH);
    let stats = stats();
    let (_, outcome, ()) = tokio::join!(give(old, offers, &stats), offer(mover, "front", 10), async {
        while new.try_recv().unwrap().is_none() {
            tokio::task::yield_now().await;
        }
        let flags = nix::sys::socket::MsgFlags::MSG_DONTWAIT;
        nix::sys::socket::send(std::os::fd::AsRawFd::as_raw_fd(&new), b"Heir", flags).unwrap();
    });
    assert!(is_taken(&outcome), "the taker may have begun with it");
}

#[tokio::test(flavor = "current_thread")]
async fn a_taker_that_talks_nonsense_gets_nothing() {
    for answer in [Message::Taken(Taken { batch: 7, refused: Vec::new() }), Message::Withdrawn(Withdrawn {})] {
        let (old, new) = Channel::pair().unwrap();
        let (mover, offers) = Mover::new(BATCH);
        let stats = stats();
        assert!(new.try_send(&answer, &[]).unwrap());
        let (_link, outcome) = tokio::join!(give(old, offers, &stats), async {
            match mover.permit().await {
                Some(permit) => permit.offer(frozen("front", 1)).await,
                None => Outcome::Refused(Box::new(frozen("front", 1)), Reason::Way),
            }
        });
        assert!(matches!(outcome, Outcome::Refused(_, Reason::Way)));
    }
}

fn batch(number: u64) -> (Message, Vec<std::os::fd::OwnedFd>) {
    let frozen = frozen("front", 10);
    let (connection, _) = pack(&frozen).unwrap();
    (Message::Moved(Moved { batch: number, connections: vec![connection] }), frozen.sockets)
}

#[tokio::test(flavor = "current_thread")]
async fn a_batch_that_comes_twice_is_taken_once() {
    LocalSet::new()
        .run_until(async {
            let (old, new) = Channel::pair().unwrap();
            let (message, sockets) = batch(0);
            let sockets: Vec<_> = sockets.iter().map(AsFd::as_fd).collect();
            for _ in 0..2 {
                assert!(old.try_send(&message, &sockets).unwrap());
            }
            let taker = Rc::new(RefCell::new(Worker::default()));
            take(new, 1, 1, worker(&taker)).await;
            tokio::task::yield_now().await;
            assert_eq!(taker.borrow().begun, 1);
            assert!(matches!(old.try_recv(), Ok(Some(packet)) if matches!(packet.message, Message::Taken(_))));
        })
        .await;
}

#[tokio::test(flavor = "current_thread")]
async fn what_a_dead_epoch_has_given_is_kept_and_what_a_living_one_withdrew_is_not() {
    LocalSet::new()
        .run_until(async {
            for (dies, begun) in [(true, 3), (false, 0)] {
                let (old, new) = Channel::pair().unwrap();
                for number in 0..3 {
                    let (message, sockets) = batch(number);
                    let sockets: Vec<_> = sockets.iter().map(AsFd::as_fd).collect();
                    assert!(old.try_send(&message, &sockets).unwrap());
                }
                let kept = if dies {
                    drop(old);
                    None
                } else {
                    old.stop_receiving().unwrap();
                    assert!(old.try_send(&Message::Withdrawn(Withdrawn {}), &[]).unwrap());
                    Some(old)
                };
                let taker = Rc::new(RefCell::new(Worker::default()));
                take(new, 1, 1, worker(&taker)).await;
                for _ in 0..3 {
                    tokio::task::yield_now().await;
                }
                assert_eq!(taker.borrow().begun, begun);
                drop(kept);
            }
        })
        .await;
}

#[test]
fn a_message_that_does_not_fit_its_descriptors_is_refused_whole() {
    let (message, sockets) = batch(0);
    let Message::Moved(moved) = message else { panic!("another message") };
    assert!(unpack(moved.clone(), Vec::new(), false).is_none());
    let extra =
        sockets.iter().map(|socket| socket.try_clone().unwrap()).chain(sockets.iter().map(|s| s.try_clone().unwrap()));
    assert!(unpack(moved.clone(), extra.collect(), false).is_none());
    let mut newer = moved;
    newer.connections[0].kind = "http9".into();
    assert!(matches!(unpack(newer, sockets, false).unwrap()[..], [Err(Reason::OtherFilter)]));
}

#[test]
fn of_a_message_whose_descriptors_were_lost_the_first_connections_are_taken() {
    let all: Vec<Frozen> = [10, 300, 10].iter().map(|record| frozen("front", *record)).collect();
    let (mut connections, mut descriptors) = (Vec::new(), Vec::new());
    for frozen in all {
        let (connection, file) = pack(&frozen).unwrap();
        connections.push(connection);
        descriptors.extend(frozen.sockets);
        descriptors.extend(file.map(std::os::fd::OwnedFd::from));
    }
    assert_eq!(descriptors.len(), 4);
    for (there, taken) in [(0, 0), (1, 1), (2, 1), (3, 2), (4, 3)] {
        let some = descriptors.iter().take(there).map(|one| one.try_clone().unwrap()).collect();
        let moved = Moved { batch: 0, connections: connections.clone() };
        let unpacked = unpack(moved, some, true).unwrap();
        assert_eq!(unpacked.len(), 3);
        assert!(unpacked.iter().take(taken).all(Result::is_ok), "{there}: {unpacked:?}");
        assert!(unpacked.iter().skip(taken).all(|one| matches!(one, Err(Reason::Socket))), "{there}: {unpacked:?}");
    }
}

/// More connections than fit into one batch, by count, by bytes and by descriptors; an answer to each.
#[tokio::test(flavor = "current_thread")]
async fn batches_are_as_large_as_a_frame_allows() {
    let name: &'static str = "a-name-that-is-quite-long".repeat(16).leak();
    for (name, record, most) in [("front", 10, BATCH), (name, 200, 80), ("front", 300, 127)] {
        LocalSet::new()
            .run_until(async {
                let (old, new) = Channel::pair().unwrap();
                let (mover, offers) = Mover::new(BATCH);
                let stats = stats();
                let giving = spawn_local({
                    let stats = stats.clone();
                    async move { give(old, offers, &stats).await }
                });
                let many: Vec<_> = (0..500).map(|_| spawn_local(offer(mover.clone(), name, record))).collect();
                drop(mover);
                let (mut seen, mut largest) = (0, 0);
                let link = Link::over(new).unwrap();
                while seen < 500 {
                    let packet = link.recv().await.unwrap();
                    let Message::Moved(moved) = packet.message else { panic!("another message") };
                    seen += moved.connections.len();
                    largest = largest.max(moved.connections.len());
                    let answer = Taken { batch: moved.batch, refused: Vec::new() };
                    link.send(&Message::Taken(answer)).await.unwrap();
                }
                for one in many {
                    assert!(is_taken(&one.await.unwrap()));
                }
                giving.await.unwrap();
                assert!(largest > most / 2 && largest <= most, "{largest} of at most {most}");
            })
            .await;
    }
}
