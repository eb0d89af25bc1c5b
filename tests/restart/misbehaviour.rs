//! The new epoch dies, hangs or lies at every step: the old one serves on, and nobody notices.

use std::time::Duration;

use crate::stand_in::{Deed, Plan, Step};
use crate::support::bootstrap::Config;
use crate::support::load::{Habit, Load};
use crate::support::supervised::{Setup, Supervised};
use crate::support::upstream::Upstream;

const HABITS: [(Habit, u64); 3] = [(Habit::PerRequest, 2), (Habit::KeepAlive, 2), (Habit::TwoWritePost, 1)];

/// How long a takeover may last: all its limits together, and a slow machine.
const BOUND: Duration = Duration::from_secs(10);
/// How long a client may have to wait: before the commit the old epoch serves as ever, after it the limits of a step must pass.
const PAUSE: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(4)];

fn start(upstream: &Upstream) -> Supervised {
    Setup::new(Config::to(upstream.address)).scripted().short_limits().start()
}

/// One takeover by a stand-in; what went wrong, if anything.
fn attempt(proxy: &mut Supervised, load: &Load, plan: Plan) -> Result<[Duration; 2], String> {
    let (before, failed, _) = (proxy.serving(), load.failed(), load.worst());
    proxy.set_script(&plan.script(proxy.front));
    let operated = proxy.operator(&["reload"]);
    if operated.status.success() {
        return Err(format!("reload says that it went well: {}", operated.said()));
    }
    if operated.said().trim().is_empty() {
        return Err("reload fails without a word".into());
    }
    if operated.took > BOUND {
        return Err(format!("it took {:?}", operated.took));
    }
    if !proxy.alive() {
        return Err("the supervisor died".into());
    }
    load.progress(20);
    let after = proxy.serving();
    if (after.epoch, after.pid) != (before.epoch, before.pid) {
        return Err(format!("epoch {} served, now epoch {} does", before.epoch, after.epoch));
    }
    if load.failed() != failed {
        return Err(format!("{} requests failed", load.failed() - failed));
    }
    let pause = load.worst();
    if pause > PAUSE[usize::from(plan.0 >= Step::AcceptRead)] {
        return Err(format!("a client waited {pause:?}"));
    }
    Ok([operated.took, pause])
}

fn every(deeds: &[(Deed, &[Step])]) {
    let upstream = Upstream::start();
    let mut proxy = start(&upstream);
    let load = Load::start(proxy.front, &HABITS);
    load.progress(20);
    let mut faults = Vec::new();
    for (deed, steps) in deeds {
        for step in *steps {
            let plan = Plan(*step, *deed);
            match attempt(&mut proxy, &load, plan) {
                Ok([took, pause]) => println!("{plan:?}: called off after {took:.1?}, worst request {pause:.1?}"),
                Err(fault) => faults.push(format!("{plan:?}: {fault}")),
            }
        }
        // And the next takeover works.
        proxy.set_script(&proxy.real_epoch());
        let operated = proxy.operator(&["reload"]);
        if !operated.status.success() {
            faults.push(format!("after {deed:?} a sound epoch is refused: {}", operated.said()));
        }
    }
    let report = load.stop();
    assert!(faults.is_empty(), "{}\n{report}", faults.join("\n"));
    assert_eq!(report.total().errors(), 0, "{report}");
}

#[test]
fn a_new_epoch_that_dies_is_called_off() {
    every(&[(Deed::Kill, &Step::ALL), (Deed::Exit, &Step::ALL)]);
}

#[test]
fn a_new_epoch_that_hangs_is_called_off_in_time() {
    let others = [Step::Started, Step::LendSent, Step::AcceptRead, Step::AcceptingSent];
    every(&[(Deed::Stop, &Step::ALL), (Deed::Silent, &others)]);
}

#[test]
fn a_new_epoch_that_lies_is_called_off() {
    let late = [Step::Welcomed, Step::ReadySent, Step::AcceptingSent];
    every(&[
        (Deed::Garbage, &Step::ALL),
        (Deed::Liar, &late),
        (Deed::OutOfTurn, &[Step::Started, Step::Welcomed, Step::Borrowed]),
        (Deed::Hangup, &late),
        (Deed::Failed, &[Step::Welcomed, Step::Borrowed]),
        (Deed::Unhealthy, &[Step::AcceptingSent]),
    ]);
}

#[test]
fn a_new_epoch_that_cannot_be_started_is_called_off() {
    let upstream = Upstream::start();
    let mut proxy = start(&upstream);
    let load = Load::start(proxy.front, &HABITS);
    let before = proxy.serving();
    for script in ["exit 7", "exec /nowhere/heirloom", "kill -SEGV $$"] {
        proxy.set_script(script);
        let operated = proxy.operator(&["reload"]);
        assert!(!operated.status.success() && !operated.said().is_empty(), "{script}: {operated:?}");
    }
    let (script, away) = (proxy.dir().join("epoch"), proxy.dir().join("away"));
    std::fs::rename(&script, &away).unwrap();
    let operated = proxy.operator(&["reload"]);
    assert!(!operated.status.success() && !operated.said().is_empty(), "no script: {operated:?}");
    std::fs::rename(&away, &script).unwrap();
    load.progress(20);
    assert_eq!((proxy.serving().epoch, proxy.alive()), (before.epoch, true));
    proxy.set_script(&proxy.real_epoch());
    proxy.reload();
    let report = load.stop();
    assert_eq!(report.total().errors(), 0, "{report}");
}

#[test]
fn random_messages_on_the_channel_disturb_nobody() {
    let upstream = Upstream::start();
    let mut proxy = start(&upstream);
    let load = Load::start(proxy.front, &HABITS);
    load.progress(20);
    let mut faults = Vec::new();
    for seed in 1..=crate::long_or(300, 12) {
        let step = [Step::Started, Step::Welcomed, Step::Borrowed, Step::ReadySent][seed as usize % 4];
        let plan = Plan(step, Deed::Fuzz(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15)));
        if let Err(fault) = attempt(&mut proxy, &load, plan) {
            faults.push(format!("{plan:?}: {fault}"));
        }
    }
    proxy.set_script(&proxy.real_epoch());
    proxy.reload();
    let report = load.stop();
    assert!(faults.is_empty(), "{}\n{report}", faults.join("\n"));
}

/// The property switched off: without the old epoch to go back to, a new one that dies is an outage.
#[test]
fn the_load_notices_an_epoch_that_is_not_there() {
    let upstream = Upstream::start();
    let proxy = start(&upstream);
    let load = Load::start(proxy.front, &[(Habit::KeepAlive, 4)]);
    load.progress(20);
    proxy.set_script("exit 7");
    let stopped = proxy.signal_serving(nix::sys::signal::Signal::SIGKILL);
    crate::support::supervised::eventually(Duration::from_secs(20), "clients notice", || load.failed() > 0);
    assert!(!crate::support::process::lives(stopped));
    proxy.set_script(&proxy.real_epoch());
    load.progress(20);
}
