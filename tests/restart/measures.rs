//! What a takeover costs, printed: time at rest by phases, the pause of moving connections, the memory of two epochs beside each other.
//!
//! The bounds asserted here only catch what is broken: they hold for a debug build on a machine that does other things. What the numbers should be
//! stands in `README.md`.

use std::net::TcpStream;
use std::time::{Duration, Instant};

use tokio::task::{LocalSet, spawn_local};

use crate::support::bootstrap::Config;
use crate::support::clients::{Connection, Request, block_on};
use crate::support::supervised::{PATIENCE, Setup, Supervised, eventually, eventually_some, listening};
use crate::support::upstream::Upstream;
use crate::{alone_on_the_machine, long_or};

const GET: Request<'static> = Request::Get { path: "/small", close: false };

/// With the supervisor's own defaults where these tests' are others.
fn setup(config: Config) -> Setup {
    let setup = Setup::new(config).flag("--probation-time-s", 0.15).flag("--grace-time-s", 5);
    setup.flag("--parent-shutdown-time-s", 60).flag("--drain-time-s", 60)
}

async fn idle(proxy: &Supervised, count: u64) -> Vec<Connection> {
    let mut clients = Vec::new();
    for _ in 0..count {
        let mut client = Connection::open(proxy.front).await.expect("it connects");
        client.exchange(&GET).await.expect("it answers");
        clients.push(client);
    }
    clients
}

/// How long an operator waits at rest with the settings as they come, and where the time goes.
#[test]
fn a_takeover_at_rest_is_short() {
    let _quiet = alone_on_the_machine();
    let upstream = Upstream::start();
    let proxy = setup(Config::to(upstream.address)).start();
    let rounds = long_or(20, 5);
    let mut times = Vec::new();
    for _ in 0..rounds {
        let operated = proxy.reload();
        println!("{:?}: {}", operated.took, operated.stdout.trim());
        times.push(operated.took);
        proxy.settled(PATIENCE);
    }
    times.sort_unstable();
    println!("{rounds} takeovers at rest: median {:?}, slowest {:?}", times[times.len() / 2], times[times.len() - 1]);
    assert!(times[0] < Duration::from_secs(2), "{times:?}");
}

/// Idle connections move: how long that takes in all, and how long a request has to wait that comes meanwhile.
#[test]
fn idle_connections_move_in_a_moment() {
    let _quiet = alone_on_the_machine();
    let upstream = Upstream::start();
    let proxy = setup(Config::to(upstream.address)).start();
    let count = long_or(5000, 1000);
    let rounds = long_or(5, 2);
    block_on(LocalSet::new().run_until(async {
        let mut clients = idle(&proxy, count).await;
        for round in 1..=rounds {
            let old = proxy.serving().epoch;
            let busy = idle(&proxy, 20).await;
            let operating = proxy.operator_begin(&["reload"]);
            let stop = Instant::now() + Duration::from_secs(2);
            let tasks: Vec<_> = busy.into_iter().map(|client| spawn_local(worst_wait(client, stop))).collect();
            let mut worst = Duration::ZERO;
            for task in tasks {
                worst = worst.max(task.await.expect("no panic"));
            }
            assert!(operating.wait().status.success());
            eventually(PATIENCE, "the old one has left", || !proxy.status().epochs.iter().any(|row| row.epoch == old));
            let took = eventually_some(PATIENCE, "it says so", || moving_time(&proxy.log()));
            println!("round {round}: {count} idle connections moved in {took:.1?}; the worst of 20 that asked all the time waited {worst:.1?}");
            assert!(!clients.iter().any(Connection::closed_by_peer), "{}", proxy.log());
            assert!(took < Duration::from_secs(5), "{took:?}");
            for client in clients.iter_mut().step_by(50) {
                client.exchange(&GET).await.expect("it goes on");
            }
        }
    }));
}

/// Asks again and again, and says what the longest wait for an answer was.
async fn worst_wait(mut client: Connection, stop: Instant) -> Duration {
    let mut worst = Duration::ZERO;
    while Instant::now() < stop {
        let begun = Instant::now();
        client.exchange(&GET).await.expect("it answers");
        worst = worst.max(begun.elapsed());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    worst
}

/// From the last drain's beginning until the other epoch has everything, by the log.
fn moving_time(log: &str) -> Option<Duration> {
    let moment = |text: &str| {
        let line = log.lines().rfind(|line| line.contains(text))?;
        let clock = line.split('T').nth(1)?.split('Z').next()?;
        let mut parts = clock.split(':').map(|part| part.parse::<f64>().ok());
        Some(parts.next()?? * 3600.0 + parts.next()?? * 60.0 + parts.next()??)
    };
    let begun = moment("draining for at most")?;
    let over = moment("connections have been taken over")?;
    Duration::try_from_secs_f64(over - begun).ok()
}

/// What two epochs cost beside each other, against twice one: without connections, and with some in each.
#[test]
fn two_epochs_cost_less_than_twice_one() {
    let _quiet = alone_on_the_machine();
    let upstream = Upstream::start();
    for count in [0, long_or(5000, 300)] {
        // A tunnel whose listener the next epoch does not have keeps the old one there while everything else moves.
        let (socket, at) = listening();
        drop(socket);
        let config = Config { tunnel: Some((at, upstream.address)), ..Config::to(upstream.address) };
        let mut proxy = setup(config).start();
        let tunnel = TcpStream::connect(at).expect("it connects");
        block_on(async {
            let clients = idle(&proxy, count).await;
            let one = proportional(proxy.serving().pid);
            proxy.configure(|config| config.tunnel = None);
            proxy.reload();
            let most = eventually_some(PATIENCE, "both are there, and all has moved", || {
                let rows = proxy.status().epochs;
                let moved = rows.len() == 2 && rows[0].connections <= 1;
                moved.then(|| rows.iter().map(|row| proportional(row.pid)).collect::<Vec<_>>())
            });
            let sum: u64 = most.iter().sum();
            println!(
                "{count} connections: one epoch {one} KiB; old and new {most:?}, together {sum} KiB: {} %",
                sum * 100 / one
            );
            assert!(sum < 2 * one + 4096, "{most:?} against {one}");
            drop((clients, tunnel));
        });
    }
}

/// The memory that a process would free by its end, as the kernel reckons: what is shared counts by its part (KiB).
fn proportional(pid: i32) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).expect("it lives");
    let line = text.lines().find_map(|line| line.strip_prefix("Pss:")).expect("it has a proportional size");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}
