//! No death of an epoch closes a listening socket: what is queued in it waits for the next epoch.

use std::net::SocketAddr;
use std::time::Instant;

use nix::sys::signal::Signal;
use nix::unistd::Pid;

use crate::support::alone::Alone;
use crate::support::bootstrap::Config;
use crate::support::clients::{Connection, Request, Tally, runtime};
use crate::support::process::{holds, listening_inodes, signal, stop};
use crate::support::scrape::stats;
use crate::support::supervised::{PATIENCE, Setup, eventually};
use crate::support::upstream::Upstream;

const QUEUED: usize = 1000;
const GET: Request<'static> = Request::Get { path: "/small", close: true };

/// Connects, sends a request on each connection, lets the epoch die by `meanwhile`, and collects the answers.
fn queue_through(front: SocketAddr, meanwhile: impl FnOnce()) -> Tally {
    let runtime = runtime();
    let queued = runtime.block_on(async {
        let mut queued = Vec::with_capacity(QUEUED);
        for _ in 0..QUEUED {
            let mut connection = Connection::open(front).await.expect("the queue takes it");
            connection.send(&GET).await.expect("the kernel takes it");
            queued.push(connection);
        }
        queued
    });
    let begun = Instant::now();
    meanwhile();
    runtime.block_on(async {
        let mut tally = Tally::default();
        for mut connection in queued {
            match connection.receive().await {
                Ok(answer) if answer.second_word() == "200" => tally.answered(begun.elapsed()),
                Ok(answer) => panic!("{}", answer.first_line),
                Err(failure) => tally.failed(failure, false, begun.elapsed()),
            }
        }
        tally
    })
}

#[test]
fn a_thousand_queued_connections_survive_the_death_of_the_epoch_and_half_of_the_workers() {
    let upstream = Upstream::start();
    let proxy = Setup::new(Config::to(upstream.address)).workers(4).scripted().start();
    let before = proxy.serving();
    assert_eq!(stats(proxy.admin)["server.concurrency"], 4);
    let inodes = listening_inodes(proxy.front);
    assert!(!inodes.is_empty());
    let old = Pid::from_raw(before.pid);
    assert_eq!(holds(old, &inodes), inodes, "the epoch works with the socket it was lent");
    assert_eq!(holds(proxy.pid(), &inodes), inodes, "the supervisor owns it");

    stop(old);
    let tally = queue_through(proxy.front, || {
        proxy.set_script(&proxy.real_epoch_with(2));
        signal(old, Signal::SIGKILL);
    });
    println!("queued over a SIGKILL: {tally}");
    assert_eq!((tally.ok, tally.errors()), (QUEUED as u64, 0), "{tally}");

    let after = proxy.settled(PATIENCE);
    assert!(after.epoch > before.epoch);
    assert_eq!(listening_inodes(proxy.front), inodes, "still the same socket");
    assert_eq!(holds(Pid::from_raw(after.pid), &inodes), inodes, "and the next epoch works with it");
    eventually(PATIENCE, "two workers", || stats(proxy.admin)["server.concurrency"] == 2);
}

#[test]
fn a_thousand_queued_connections_survive_a_takeover_to_half_of_the_workers() {
    let upstream = Upstream::start();
    let proxy = Setup::new(Config::to(upstream.address)).workers(4).scripted().short_limits().start();
    let inodes = listening_inodes(proxy.front);
    stop(Pid::from_raw(proxy.serving().pid));
    let tally = queue_through(proxy.front, || {
        proxy.set_script(&proxy.real_epoch_with(2));
        proxy.reload();
    });
    println!("queued over a takeover: {tally}");
    assert_eq!((tally.ok, tally.errors()), (QUEUED as u64, 0), "{tally}");
    assert_eq!(listening_inodes(proxy.front), inodes, "still the same socket");
}

#[test]
fn without_a_supervisor_the_queue_dies_with_the_process() {
    let upstream = Upstream::start();
    let mut alone = Alone::start(&Config::to(upstream.address));
    let inodes = listening_inodes(alone.front);
    stop(alone.pid());
    let tally = queue_through(alone.front, || alone.restart(Signal::SIGKILL));
    println!("queued over a SIGKILL, nobody owns the socket: {tally}");
    assert!(tally.errors() > QUEUED as u64 / 2, "the test can tell a lost queue from a kept one: {tally}");
    assert_ne!(listening_inodes(alone.front), inodes, "another socket");
}
