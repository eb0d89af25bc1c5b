//! Takeovers under load, with clients that never retry: no error of any kind.

use std::time::Duration;

use heirloom_supervisor::wire::PROTOCOL;
use nix::sys::signal::Signal;

use crate::stand_in::{Deed, Plan, Step};
use crate::support::alone::Alone;
use crate::support::bootstrap::Config;
use crate::support::load::{Habit, Load};
use crate::support::supervised::{PATIENCE, Setup};
use crate::support::upstream::Upstream;
use crate::{alone_on_the_machine, long_or};

const HABITS: [(Habit, u64); 3] = [(Habit::PerRequest, 3), (Habit::KeepAlive, 3), (Habit::TwoWritePost, 3)];

#[test]
fn takeovers_back_to_back_lose_nothing() {
    let _quiet = alone_on_the_machine();
    let upstream = Upstream::start();
    let mut proxy = Setup::new(Config::to(upstream.address)).scripted().start();
    let takeovers = long_or(100, 10);

    let load = Load::start(proxy.front, &HABITS);
    load.progress(1500);
    let undisturbed = load.stop().total();

    let load = Load::start(proxy.front, &HABITS);
    let mut slowest = Duration::ZERO;
    for takeover in 0..takeovers {
        // Another configuration and another number of workers each time.
        proxy.configure(|config| config.marker = format!("takeover {takeover}"));
        proxy.set_script(&proxy.real_epoch_with(1 + takeover as u32 % 4));
        load.progress(50);
        slowest = slowest.max(proxy.reload().took);
        assert_eq!(proxy.marker(), format!("takeover {takeover}"));
    }
    load.progress(50);
    let report = load.stop();
    let total = report.total();
    println!(
        "{takeovers} takeovers, slowest {slowest:.1?}; worst request {:.1?}, undisturbed {:.1?}: added stall {:.1?}\n{report}",
        total.worst,
        undisturbed.worst,
        total.worst.saturating_sub(undisturbed.worst),
    );
    assert_eq!(total.errors(), 0, "{report}");
    assert!(total.connections > 10, "{report}");
    assert_eq!(proxy.settled(PATIENCE).epoch, takeovers);
}

#[test]
fn a_restart_without_a_supervisor_loses_requests() {
    let upstream = Upstream::start();
    let mut alone = Alone::start(&Config::to(upstream.address));
    let load = Load::start(alone.front, &HABITS);
    for _ in 0..3 {
        load.progress(50);
        alone.restart(Signal::SIGTERM);
    }
    load.progress(50);
    let report = load.stop();
    println!("3 restarts of an epoch alone:\n{report}");
    assert!(report.total().errors() > 0, "the clients can tell a restart from a takeover\n{report}");
}

#[test]
fn epochs_of_the_protocol_before_are_taken_over_from_and_by() {
    let upstream = Upstream::start();
    let proxy = Setup::new(Config::to(upstream.address)).scripted().start();
    let load = Load::start(proxy.front, &[(Habit::PerRequest, 2), (Habit::KeepAlive, 2)]);
    load.progress(20);
    let before = PROTOCOL.max - 1;
    proxy.set_script(&Plan(Step::AcceptingSent, Deed::Serve).script_of_version(before, proxy.front));
    proxy.reload();
    assert_eq!(proxy.marker(), "stand-in");
    load.progress(20);
    // A newer one than this supervisor knows is no reason to refuse it either.
    proxy.set_script(&Plan(Step::AcceptingSent, Deed::Serve).script_of_version(PROTOCOL.max + 7, proxy.front));
    proxy.reload();
    load.progress(20);
    proxy.set_script(&proxy.real_epoch());
    proxy.reload();
    assert_eq!(proxy.marker(), "first");
    let report = load.stop();
    assert_eq!(report.total().errors(), 0, "{report}");
}
