//! Restarts faster than they can be done, and configurations that never come up.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::alone_on_the_machine;
use crate::recall::{Held, echo, free};
use crate::support::bootstrap::Config;
use crate::support::load::{Habit, Load};
use crate::support::operated::DRAINING;
use crate::support::process::lives;
use crate::support::supervised::{PATIENCE, Setup, eventually};
use crate::support::upstream::Upstream;

const MAX_DRAINING: usize = 3;

#[test]
fn fifty_hangups_in_five_seconds_cut_nothing_short_and_end_with_the_newest_configuration() {
    let _quiet = alone_on_the_machine();
    let upstream = Upstream::start();
    let listen = free();
    let config = Config { tunnel: Some((listen, echo())), ..Config::to(upstream.address) };
    let setup = Setup::new(config).flag("--max-draining", MAX_DRAINING);
    let mut proxy = setup.flag("--parent-shutdown-time-s", 60).start();
    let first = proxy.serving();
    let load = Load::start(proxy.front, &[(Habit::PerRequest, 1), (Habit::KeepAlive, 2), (Habit::Sparse, 5)]);
    load.progress(20);
    // What no later epoch can take over: its listener is gone.
    let held = Held::at(listen);

    let begun = Instant::now();
    let mut most = 0;
    for number in 1..=50_u32 {
        eventually(PATIENCE, "a tenth of a second has gone by", || {
            begun.elapsed() >= Duration::from_millis(100) * number
        });
        proxy.configure(|config| {
            config.marker = format!("hangup {number}");
            config.tunnel = None;
        });
        proxy.hang_up();
        most = most.max(proxy.status().in_state(DRAINING).len());
    }
    eventually(PATIENCE, "the newest configuration serves", || {
        most = most.max(proxy.status().in_state(DRAINING).len());
        proxy.marker() == "hangup 50"
    });
    assert!(lives(nix::unistd::Pid::from_raw(first.pid)), "the first epoch drains as long as it has something");
    held.finish();
    let status = proxy.status();
    println!("50 hang-ups made {} takeovers; at most {most} epochs drained at once", status.generation);
    assert!(most <= MAX_DRAINING, "{most} epochs drained at once");
    assert!(status.generation >= 1 && status.generation <= 50, "{status:?}");
    proxy.settled(PATIENCE);
    let report = load.stop();
    assert_eq!(report.total().errors(), 0, "{report}");
}

/// The property switched off: nothing but the drain's own limit cuts short what cannot move, and when that does, the test sees it.
#[test]
fn a_drain_limit_cuts_what_cannot_move() {
    let upstream = Upstream::start();
    let listen = free();
    let config = Config { tunnel: Some((listen, echo())), ..Config::to(upstream.address) };
    let mut proxy = Setup::new(config).flag("--parent-shutdown-time-s", 1).start();
    let held = Held::at(listen);
    proxy.configure(|config| config.tunnel = None);
    proxy.reload();
    assert!(held.ends_cut());
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
