//! Restarts faster than they can be done, and configurations that never come up.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::support::bootstrap::Config;
use crate::support::clients::{Connection, Failure, Request, block_on};
use crate::support::load::{Habit, Load};
use crate::support::operated::DRAINING;
use crate::support::process::lives;
use crate::support::supervised::{PATIENCE, Setup, eventually};
use crate::support::upstream::{PIECE, Upstream};
use crate::{alone_on_the_machine, long_or};

const MAX_DRAINING: usize = 3;

#[test]
fn fifty_hangups_in_five_seconds_cut_nothing_short_and_end_with_the_newest_configuration() {
    let _quiet = alone_on_the_machine();
    let upstream = Upstream::start();
    let config = Config::to(upstream.address);
    let setup = Setup::new(config).flag("--max-draining", MAX_DRAINING);
    let mut proxy = setup.flag("--parent-shutdown-time-s", 60).start();
    let pieces = long_or(200, 90);
    let first = proxy.serving();
    let load = Load::start(proxy.front, &[(Habit::PerRequest, 1), (Habit::KeepAlive, 2), (Habit::Sparse, 5)]);
    load.progress(20);
    let requests = upstream.requests();
    let download = std::thread::spawn({
        let front = proxy.front;
        move || {
            block_on(async {
                let path = format!("/slow?pieces={pieces}&every=100");
                let mut connection = Connection::open(front).await?;
                connection.patience = Duration::from_secs(60);
                connection.exchange(&Request::Get { path: &path, close: true }).await
            })
        }
    });
    eventually(PATIENCE, "the download has begun", || upstream.requests() > requests);

    let begun = Instant::now();
    let mut most = 0;
    for number in 1..=50_u32 {
        eventually(PATIENCE, "a tenth of a second has gone by", || {
            begun.elapsed() >= Duration::from_millis(100) * number
        });
        proxy.configure(|config| config.marker = format!("hangup {number}"));
        proxy.hang_up();
        most = most.max(proxy.status().in_state(DRAINING).len());
    }
    eventually(PATIENCE, "the newest configuration serves", || {
        most = most.max(proxy.status().in_state(DRAINING).len());
        proxy.marker() == "hangup 50"
    });
    assert!(!download.is_finished() || pieces < 60, "the download outlives the hang-ups");
    assert!(lives(nix::unistd::Pid::from_raw(first.pid)), "its epoch drains as long as it runs");
    let answer = download.join().expect("no panic").expect("the download of the first epoch finishes");
    assert_eq!(answer.length, pieces * PIECE as u64);
    let status = proxy.status();
    println!("50 hang-ups made {} takeovers; at most {most} epochs drained at once", status.generation);
    assert!(most <= MAX_DRAINING, "{most} epochs drained at once");
    assert!(status.generation >= 1 && status.generation <= 50, "{status:?}");
    proxy.settled(PATIENCE);
    let report = load.stop();
    assert_eq!(report.total().errors(), 0, "{report}");
}

/// The property switched off: nothing but the drain's own limit cuts a download short, and when that does, the test sees it.
#[test]
fn a_drain_limit_shorter_than_the_download_cuts_it() {
    let upstream = Upstream::start();
    let proxy = Setup::new(Config::to(upstream.address)).flag("--parent-shutdown-time-s", 1).start();
    let front = proxy.front;
    let download = std::thread::spawn(move || {
        let path = "/slow?pieces=100&every=100";
        block_on(async { Connection::open(front).await?.exchange(&Request::Get { path, close: true }).await })
    });
    eventually(PATIENCE, "the download has begun", || upstream.requests() > 0);
    proxy.reload();
    let outcome = download.join().expect("no panic");
    assert_eq!(outcome.err(), Some(Failure::EofMidAnswer));
    eventually(PATIENCE, "it is counted", || proxy.log().contains("1 connections were closed at the deadline"));
}

#[test]
fn a_configuration_that_never_comes_up_leaves_the_old_one_serving() {
    let upstream = Upstream::start();
    let proxy = Setup::new(Config::to(upstream.address)).scripted().short_limits().start();
    let load = Load::start(proxy.front, &[(Habit::PerRequest, 1), (Habit::KeepAlive, 2)]);
    let before = proxy.serving();
    let starts = proxy.dir().join("starts");
    proxy.set_script(&format!("echo >> {}; exit 9", starts.display()));
    for _ in 0..3 {
        let operated = proxy.operator(&["reload"]);
        assert!(!operated.status.success(), "{operated:?}");
    }
    proxy.hang_up();
    eventually(PATIENCE, "a hang-up tries too", || count_lines(&starts) >= 4);
    load.progress(50);
    assert_eq!(proxy.serving().epoch, before.epoch);
    // A failed takeover is not tried again by itself.
    let tried = count_lines(&starts);
    load.progress(300);
    assert_eq!(count_lines(&starts), tried);
    proxy.set_script(&proxy.real_epoch());
    proxy.reload();
    let report = load.stop();
    assert_eq!(report.total().errors(), 0, "{report}");
}

#[test]
fn an_epoch_that_crashes_again_and_again_is_started_with_growing_pauses() {
    let upstream = Upstream::start();
    let proxy = Setup::new(Config::to(upstream.address)).scripted().short_limits().start();
    let starts = proxy.dir().join("starts");
    proxy.set_script(&format!("date +%s%N >> {}; exit 9", starts.display()));
    let begun = Instant::now();
    proxy.signal_serving(Signal::SIGKILL);
    eventually(PATIENCE, "a few starts", || count_lines(&starts) >= 4);
    let (first, took) = (count_lines(&starts), begun.elapsed());
    let times: Vec<u128> =
        std::fs::read_to_string(&starts).unwrap().lines().map(|line| line.parse().unwrap()).collect();
    let pauses: Vec<u128> = times.windows(2).map(|pair| (pair[1] - pair[0]) / 1_000_000).collect();
    println!("{first} starts in {took:.1?}, pauses in ms: {pauses:?}");
    assert!(pauses[pauses.len() - 1] > pauses[0] && pauses[pauses.len() - 1] >= 200, "the pauses grow: {pauses:?}");
    proxy.set_script(&proxy.real_epoch());
    // The socket has been there all the time: who connects now is answered when the next start succeeds.
    assert_eq!(proxy.marker(), "first");
}

fn count_lines(path: &std::path::Path) -> usize {
    std::fs::read_to_string(path).unwrap_or_default().lines().count()
}
