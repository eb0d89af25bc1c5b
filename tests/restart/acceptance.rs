//! The load by which this stage is accepted, and the race that it leaves open.

use std::time::{Duration, Instant};

use crate::support::bootstrap::Config;
use crate::support::clients::{Connection, Failure, Request, Tally, block_on};
use crate::support::load::{Habit, Load};
use crate::support::supervised::{PATIENCE, Setup, eventually};
use crate::support::upstream::Upstream;
use crate::{alone_on_the_machine, long_or};

#[test]
fn busy_and_sparse_connections_and_slow_uploads_come_through_three_takeovers() {
    let _quiet = alone_on_the_machine();
    let upstream = Upstream::start();
    let drain = long_or(4, 2);
    let setup = Setup::new(Config::to(upstream.address)).flag("--drain-time-s", drain);
    let proxy = setup.flag("--parent-shutdown-time-s", drain).start();
    let load = Load::start(
        proxy.front,
        &[(Habit::KeepAlive, 16), (Habit::Sparse, 200), (Habit::PerRequest, 4), (Habit::SlowUpload, 8)],
    );
    let begun = Instant::now();
    let apart = Duration::from_secs(long_or(8, 3));
    for takeover in 0..3_u32 {
        eventually(PATIENCE, "time for the next takeover", || begun.elapsed() >= apart * takeover + apart / 2);
        proxy.reload();
    }
    eventually(PATIENCE, "the last drain is over", || begun.elapsed() >= apart * 4);
    let report = load.stop();
    let total = report.total();
    println!("three takeovers {apart:?} apart:\n{report}");
    assert_eq!((total.errors(), total.count(&Failure::Refused)), (0, 0), "{report}");
    assert!(report.of(Habit::SlowUpload).ok >= 8 && report.of(Habit::Sparse).ok >= 200, "{report}");
}

/// How often an idle keep-alive connection that is closed at the deadline had a request on the wire.
///
/// Each connection answers once before the takeover, is silent for the whole drain, and sends its next request within a few milliseconds of the
/// deadline. A connection that has been closed before its client wrote is an ordinary idle close.
#[test]
fn measure_the_race_at_the_deadline_of_the_drain() {
    let _quiet = alone_on_the_machine();
    let upstream = Upstream::start();
    let drain = Duration::from_secs(1);
    let config = Config::to(upstream.address);
    let proxy = Setup::new(config).flag("--drain-time-s", 1).flag("--parent-shutdown-time-s", 1).start();
    let (mut tries, mut total) = (0, Tally::default());
    for _ in 0..long_or(100, 6) {
        let round = one_round(&proxy, drain);
        tries += round.ok + round.errors() + round.closed_idle;
        total.merge(&round);
        proxy.settled(PATIENCE);
    }
    println!(
        "idle connections at the deadline: {tries} tries, {} answered, {} closed before the client wrote, {} races lost: {total}",
        total.ok, total.closed_idle, total.races
    );
    assert!(total.closed_idle > 0, "the deadline closes idle connections: {total}");
    // What is left is the time between the last look at a socket and its close, and between a client's look and its write.
    assert_eq!(total.errors(), total.races, "{total}");
    assert!(total.races * 200 <= tries, "hardly ever with a request on the wire: {total}");
}

fn one_round(proxy: &crate::support::supervised::Supervised, drain: Duration) -> Tally {
    const CONNECTIONS: u64 = 100;
    const GET: Request<'static> = Request::Get { path: "/small", close: false };
    block_on(async {
        let mut idle = Vec::new();
        for _ in 0..CONNECTIONS {
            let mut connection = Connection::open(proxy.front).await.expect("it connects");
            connection.exchange(&GET).await.expect("it answers");
            idle.push(connection);
        }
        proxy.reload();
        let deadline = tokio::time::Instant::now() + drain;
        let watchers = tokio::task::LocalSet::new();
        let tasks: Vec<_> = (0..CONNECTIONS)
            .zip(idle)
            .map(|(number, connection)| {
                // Spread over sixty milliseconds around the expected moment.
                let at = deadline - Duration::from_millis(30) + Duration::from_micros(number * 60_000 / CONNECTIONS);
                watchers.spawn_local(last_request(connection, at))
            })
            .collect();
        watchers.await;
        let mut round = Tally::default();
        for task in tasks {
            round.merge(&task.await.expect("no panic"));
        }
        round
    })
}

async fn last_request(mut connection: Connection, at: tokio::time::Instant) -> Tally {
    let mut tally = Tally::default();
    tokio::time::sleep_until(at).await;
    if connection.closed_by_peer() {
        tally.closed_idle += 1;
        return tally;
    }
    let begun = Instant::now();
    match connection.exchange(&Request::Get { path: "/small", close: false }).await {
        Ok(_) => tally.answered(begun.elapsed()),
        Err(failure) => {
            println!("lost a race after {:.1?}: {failure:?}", begun.elapsed());
            tally.failed(failure, true, begun.elapsed());
        }
    }
    tally
}
