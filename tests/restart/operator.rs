//! What the operator types and reads.

use nix::sys::signal::Signal;

use crate::support::alone::Alone;
use crate::support::bootstrap::Config;
use crate::support::clients::get;
use crate::support::load::{Habit, Load};
use crate::support::operated::SERVING;
use crate::support::supervised::{PATIENCE, Setup, eventually};
use crate::support::upstream::Upstream;

#[test]
fn a_broken_configuration_is_refused_with_its_fault_and_the_old_one_serves() {
    let upstream = Upstream::start();
    let mut proxy = Setup::new(Config::to(upstream.address)).start();
    let load = Load::start(proxy.front, &[(Habit::PerRequest, 1), (Habit::KeepAlive, 2)]);
    let before = proxy.serving();
    let broken = [
        ("static_resources:\n  listners: []\n", "listners"),
        ("static_resources: [\n", "config.yaml"),
        ("", "config.yaml"),
    ];
    for (text, expected) in broken {
        proxy.configure_raw(text);
        let operated = proxy.operator(&["reload"]);
        println!("{}", operated.said().trim());
        assert!(!operated.status.success(), "{text:?}: {operated:?}");
        assert!(operated.said().contains(expected), "{text:?}: {operated:?}");
        assert_eq!(proxy.serving().epoch, before.epoch);
        let json = proxy.operator(&["reload", "--json"]);
        assert!(!json.status.success());
        let parsed: serde_json::Value = serde_json::from_str(&json.stdout).expect("--json prints JSON");
        assert_eq!(parsed["ok"], false, "{parsed}");
        assert!(parsed.to_string().contains(expected), "{parsed}");
    }
    load.progress(20);
    proxy.configure(|config| config.marker = "mended".into());
    proxy.reload();
    assert_eq!(proxy.marker(), "mended");
    let report = load.stop();
    assert_eq!(report.total().errors(), 0, "{report}");
}

#[test]
fn status_shows_the_lineage_and_reload_says_what_it_did() {
    let upstream = Upstream::start();
    let proxy = Setup::new(Config::to(upstream.address)).start();
    let table = proxy.operator(&["status"]);
    assert!(table.status.success());
    let serving = proxy.serving();
    assert!(table.stdout.contains(&serving.pid.to_string()) && table.stdout.contains(SERVING), "{}", table.stdout);
    println!("{}", table.stdout);

    let line = proxy.reload();
    println!("{}", line.stdout.trim());
    assert_eq!(line.stdout.trim().lines().count(), 1, "one line: {line:?}");
    let json = proxy.operator(&["reload", "--json"]);
    let parsed: serde_json::Value = serde_json::from_str(&json.stdout).expect("--json prints JSON");
    assert_eq!((&parsed["ok"], parsed["serving"].as_u64()), (&true.into(), Some(serving.epoch + 2)), "{parsed}");
    let status = proxy.status();
    assert_eq!(status.generation, 2);

    let load = Load::start(proxy.front, &[(Habit::KeepAlive, 3)]);
    load.progress(20);
    eventually(PATIENCE, "the connections are reported", || proxy.serving().connections >= 3);
    assert_eq!(load.stop().total().errors(), 0);
}

#[test]
fn rollback_goes_back_to_what_ran_before_under_load() {
    let upstream = Upstream::start();
    let mut proxy = Setup::new(Config::to(upstream.address)).start();
    let load = Load::start(proxy.front, &[(Habit::PerRequest, 1), (Habit::KeepAlive, 2)]);
    proxy.configure(|config| config.marker = "second".into());
    proxy.reload();
    assert_eq!(proxy.marker(), "second");
    let operated = proxy.operator(&["rollback"]);
    println!("{}", operated.said().trim());
    assert!(operated.status.success(), "{operated:?}");
    assert_eq!(proxy.marker(), "first");
    load.progress(20);
    let report = load.stop();
    assert_eq!(report.total().errors(), 0, "{report}");
}

#[test]
fn stop_ends_everything_and_says_so() {
    let upstream = Upstream::start();
    let mut proxy = Setup::new(Config::to(upstream.address)).start();
    let epoch = proxy.serving();
    let operated = proxy.operator(&["stop"]);
    assert!(operated.status.success(), "{operated:?}");
    eventually(PATIENCE, "the supervisor has left", || !proxy.alive());
    assert!(!crate::support::process::lives(nix::unistd::Pid::from_raw(epoch.pid)));
    let operated = proxy.operator(&["status"]);
    assert!(!operated.status.success() && !operated.said().is_empty(), "{operated:?}");
}

/// The property switched off: without anybody who asks the new one before the old one goes, the same mistake is an outage.
#[test]
fn a_broken_configuration_is_an_outage_where_nobody_supervises() {
    let upstream = Upstream::start();
    let mut alone = Alone::start(&Config::to(upstream.address));
    let load = Load::start(alone.front, &[(Habit::PerRequest, 1), (Habit::KeepAlive, 2)]);
    load.progress(20);
    alone.configure_raw("static_resources:\n  listners: []\n");
    alone.relaunch(Signal::SIGTERM);
    eventually(PATIENCE, "the clients notice", || load.failed() > 20);
    assert!(get(alone.front, "/marker").is_err());
}
