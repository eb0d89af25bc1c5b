//! The supervisor dies, or replaces itself, under load: what serves serves on, and the next supervisor takes it in.

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use nix::unistd::Pid;

use crate::counts::{HABITS, agree, histogram_counts, value};
use crate::hung::Gate;
use crate::recall::{Held, echo, free};
use crate::stand_in::{Deed, Plan, Step};
use crate::support::bins;
use crate::support::bootstrap::{Config, HTTP};
use crate::support::clients::get;
use crate::support::load::{Habit, Load};
use crate::support::operated::{DRAINING, EpochRow, SERVING};
use crate::support::process::{holds, listening_inodes, lives, program, segments, signal, stop};
use crate::support::scrape::{Watch, stats};
use crate::support::supervised::{PATIENCE, Setup, Supervised, copy_program, eventually, eventually_some};
use crate::support::upstream::Upstream;

/// The one that serves and its sockets, for comparison.
#[derive(Debug, PartialEq)]
struct Identity {
    epoch: u64,
    pid: i32,
    sockets: BTreeSet<String>,
    segments: BTreeSet<String>,
}

impl Identity {
    /// As it is now, once the supervisor knows; the supervisor must hold the sockets and the segment.
    fn of(proxy: &Supervised) -> Self {
        let EpochRow { epoch, pid, .. } = proxy.serving();
        let identity = Self {
            epoch,
            pid,
            sockets: listening_inodes(proxy.front).union(&listening_inodes(proxy.admin)).cloned().collect(),
            segments: segments(Pid::from_raw(pid)),
        };
        assert_eq!(identity.sockets.len(), 2, "one socket for each address: {identity:?}");
        assert_eq!(holds(proxy.pid(), &identity.sockets), identity.sockets, "the supervisor owns the sockets");
        assert_eq!(holds(Pid::from_raw(pid), &identity.sockets), identity.sockets);
        assert_eq!(segments(proxy.pid()), identity.segments, "the supervisor has the segment of the epoch");
        identity
    }
}

/// Waits until the first answer is booked, so that counts can be compared from there on.
fn booked(proxy: &Supervised) {
    eventually(PATIENCE, "the first answer is booked", || {
        value(&stats(proxy.admin), &format!("{HTTP}.downstream_rq_completed")) == 1
    });
}

/// Replaces a program as an installation does: another file takes the name.
fn install(program: &Path, at: &Path) {
    let new = at.with_extension("new");
    copy_program(program, &new);
    fs::rename(&new, at).unwrap();
}

#[test]
fn the_death_of_the_supervisor_costs_nothing_and_the_next_one_takes_over_what_lives() {
    let upstream = Upstream::start();
    let tunnel = free();
    let config = Config { tunnel: Some((tunnel, echo())), ..Config::to(upstream.address) };
    let mut proxy = Setup::new(config).flag("--parent-shutdown-time-s", 30).start();
    booked(&proxy);
    let (before, histograms) = (stats(proxy.admin), histogram_counts(proxy.admin));
    let watch = Watch::start(proxy.admin, Duration::from_millis(25));
    // A tunnel whose listener the next epoch does not have keeps the first one draining; an upload moves.
    let held = Held::at(tunnel);
    proxy.configure(|config| config.tunnel = None);
    let mut upload = TcpStream::connect(proxy.front).unwrap();
    upload.set_read_timeout(Some(PATIENCE)).unwrap();
    upload
        .write_all(b"POST /upload HTTP/1.1\r\nhost: test\r\ncontent-length: 4\r\nconnection: close\r\n\r\nab")
        .unwrap();
    let active = format!("{HTTP}.downstream_rq_active");
    eventually(PATIENCE, "the upload has begun", || value(&stats(proxy.admin), &active) == 1);
    let load = Load::start(proxy.front, &HABITS);
    load.progress(100);
    proxy.reload();
    let identity = Identity::of(&proxy);
    let draining =
        eventually_some(PATIENCE, "it drains", || proxy.status().in_state(DRAINING).first().map(|row| (*row).clone()));

    load.worst();
    proxy.kill_supervisor();
    load.progress(400);
    assert!(!proxy.operator(&["status"]).status.success(), "nobody is there to answer");
    proxy.next_supervisor();
    // At once, before anybody has come home: it waits for them.
    let reload = proxy.reload();
    println!("{}; worst request {:.1?}", reload.stdout.trim(), load.worst());
    let status = proxy.status();
    assert_eq!(proxy.serving().epoch, identity.epoch + 1, "{status:?}");
    assert_eq!(status.generation, 2, "{status:?}");
    let still = status.epochs.iter().find(|row| row.epoch == draining.epoch).expect("it drains on");
    assert_eq!((still.pid, still.state.as_str()), (draining.pid, DRAINING));
    assert_eq!(segments(Pid::from_raw(still.pid)), identity.segments);
    let ends = [&draining, still].map(|row| row.draining_until_unix_ms.expect("a drain has an end"));
    assert!(ends[0].abs_diff(ends[1]) < 1000, "its deadline is the same: {ends:?}");
    let after = Identity::of(&proxy);
    assert_eq!((&after.sockets, &after.segments), (&identity.sockets, &identity.segments));

    let mut answer = String::new();
    upload.write_all(b"cd").and_then(|()| upload.read_to_string(&mut answer)).expect("the old connection is whole");
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("received 4\n"), "{answer}");
    held.finish();
    load.progress(100);
    load.pause();
    agree(proxy.admin, &before, histograms, load.answered() + 1);
    let report = load.stop();
    let watched = watch.stop();
    println!("{report}");
    assert_eq!(report.total().errors(), 0, "{report}");
    assert!(watched.failures.is_empty() && watched.fell.is_empty(), "{watched:?}");
    assert_eq!(proxy.settled(PATIENCE).epoch, identity.epoch + 1);
}

#[test]
fn an_epoch_is_found_again_by_any_number_of_supervisors() {
    let upstream = Upstream::start();
    let mut proxy = Setup::new(Config::to(upstream.address)).start();
    let load = Load::start(proxy.front, &HABITS);
    load.progress(20);
    let identity = Identity::of(&proxy);
    for _ in 0..crate::long_or(20, 2) {
        proxy.kill_supervisor();
        proxy.next_supervisor();
        assert_eq!(Identity::of(&proxy), identity);
    }
    // What is adopted can be replaced when it dies, and be told to stop.
    load.pause();
    proxy.signal_serving(Signal::SIGKILL);
    eventually(PATIENCE, "another one serves", || proxy.status().in_state(SERVING).iter().any(|row| row.epoch > 0));
    assert_eq!(Identity::of(&proxy).sockets, identity.sockets);
    proxy.kill_supervisor();
    proxy.next_supervisor();
    load.stop();
    // Nobody has come home yet: the end waits for them.
    let operated = proxy.operator(&["stop"]);
    assert!(operated.status.success(), "{operated:?}");
    eventually(PATIENCE, "the supervisor leaves", || !proxy.alive());
    assert!(get(proxy.front, "/marker").is_err(), "what it adopted has left before it");
}

/// Has the supervisor replace itself by a new file of its name.
fn replace(proxy: &mut Supervised) {
    let pid = proxy.pid();
    install(bins::supervisor(), proxy.program());
    let new = fs::metadata(proxy.program()).map(|file| file.ino()).ok();
    assert_ne!(program(pid), new);
    signal(pid, Signal::SIGUSR2);
    eventually(PATIENCE, "the new binary runs", || program(pid) == new);
    assert!(proxy.alive(), "the same process");
}

#[test]
fn a_supervisor_replaces_itself_by_the_binary_that_has_its_name() {
    let upstream = Upstream::start();
    let mut proxy = Setup::new(Config::to(upstream.address)).own_supervisor().start();
    booked(&proxy);
    let (before, histograms) = (stats(proxy.admin), histogram_counts(proxy.admin));
    let load = Load::start(proxy.front, &HABITS);
    load.progress(20);
    let (identity, pid) = (Identity::of(&proxy), proxy.pid());

    // One that cannot read the state is not let in.
    let first = program(pid);
    install(Path::new("/bin/false"), proxy.program());
    signal(pid, Signal::SIGUSR2);
    eventually(PATIENCE, "it says so", || proxy.log().contains("does not replace itself"));
    assert_eq!((program(pid), Identity::of(&proxy)), (first, identity));

    for epoch in 1..=2 {
        let identity = Identity::of(&proxy);
        replace(&mut proxy);
        assert_eq!(Identity::of(&proxy), identity);
        proxy.reload();
        assert_eq!(proxy.serving().epoch, epoch);
    }
    // What was before is known to the image after.
    replace(&mut proxy);
    let operated = proxy.operator(&["rollback"]);
    assert!(operated.status.success(), "{operated:?}");
    load.progress(20);
    load.pause();
    agree(proxy.admin, &before, histograms, load.answered());
    let report = load.stop();
    assert_eq!(report.total().errors(), 0, "{report}");
}

#[test]
fn a_supervisor_that_dies_while_an_epoch_prepares_leaves_only_the_one_that_serves() {
    let upstream = Upstream::start();
    let mut proxy = Setup::new(Config::to(upstream.address)).scripted().start();
    let load = Load::start(proxy.front, &HABITS);
    load.progress(20);
    let identity = Identity::of(&proxy);
    let gate = Gate::before_the_real_epoch(&proxy);
    let reload = proxy.operator_begin(&["reload"]);
    let open = gate.somebody();
    let newcomer = proxy.status().epochs.iter().map(|row| row.pid).find(|pid| *pid != identity.pid).unwrap();
    proxy.kill_supervisor();
    let operated = reload.wait();
    assert!(!operated.status.success() && !operated.said().is_empty(), "{operated:?}");
    load.progress(20);
    proxy.set_script(&proxy.real_epoch());
    proxy.next_supervisor();
    drop(open);
    eventually(PATIENCE, "who has nobody to ask leaves", || !lives(Pid::from_raw(newcomer)));
    assert_eq!(Identity::of(&proxy), identity);
    proxy.reload();
    // A number that is taken is not given again.
    assert_eq!(proxy.settled(PATIENCE).epoch, identity.epoch + 2);
    let report = load.stop();
    assert_eq!(report.total().errors(), 0, "{report}");
}

#[test]
fn one_that_never_comes_home_holds_nobody_up_and_does_not_stay() {
    let upstream = Upstream::start();
    let setup = Setup::new(Config::to(upstream.address)).scripted();
    let mut proxy = setup.flag("--parent-shutdown-time-s", 1).start();
    let load = Load::start(proxy.front, &HABITS);
    let identity = Identity::of(&proxy);
    proxy.set_script(&Plan(Step::Borrowed, Deed::Silent).script(proxy.front));
    let _reload = proxy.operator_begin(&["reload"]);
    let newcomer = |row: &EpochRow| (row.state == "preparing").then(|| Pid::from_raw(row.pid));
    let newcomer = eventually_some(PATIENCE, "it prepares", || proxy.status().epochs.iter().find_map(newcomer));
    proxy.kill_supervisor();
    proxy.set_script(&proxy.real_epoch());
    proxy.next_supervisor();
    assert_eq!(Identity::of(&proxy), identity);
    proxy.reload();
    eventually(PATIENCE, "it is ended", || !lives(newcomer));
    let report = load.stop();
    assert_eq!(report.total().errors(), 0, "{report}");
}

#[test]
fn one_that_hangs_when_its_supervisor_dies_is_waited_for_and_then_replaced() {
    let upstream = Upstream::start();
    let mut proxy = Setup::new(Config::to(upstream.address)).flag("--unresponsive-time-s", 6).start();
    let identity = Identity::of(&proxy);
    let pid = Pid::from_raw(identity.pid);
    stop(pid);
    let begun = Instant::now();
    proxy.kill_supervisor();
    proxy.next_supervisor();
    // Longer than anybody who has come would wait for it.
    eventually(PATIENCE, "time goes by", || begun.elapsed() > Duration::from_millis(3500));
    signal(pid, Signal::SIGCONT);
    assert_eq!(Identity::of(&proxy), identity);

    stop(pid);
    proxy.kill_supervisor();
    proxy.next_supervisor();
    eventually(PATIENCE, "the hung one is ended", || !lives(pid));
    let next = proxy.serving();
    assert!(proxy.alive() && next.epoch > identity.epoch, "{next:?}");
    assert_eq!(proxy.marker(), "first");
}

/// A takeover that is on probation, with the marker turned; the supervisor is dead.
fn dead_on_probation(proxy: &mut Supervised) -> [EpochRow; 2] {
    let old = proxy.serving();
    proxy.configure(|config| config.marker = "second".into());
    let reload = proxy.operator_begin(&["reload"]);
    let new = eventually_some(PATIENCE, "the new one is on probation", || {
        let status = proxy.status();
        status.in_state("standby").first()?;
        status.in_state("probation").first().map(|row| (*row).clone())
    });
    proxy.kill_supervisor();
    assert!(!reload.wait().status.success());
    [old, new]
}

#[test]
fn a_supervisor_that_dies_on_probation_leaves_one_that_serves_and_the_next_one_knows_which() {
    let upstream = Upstream::start();
    let mut proxy = Setup::new(Config::to(upstream.address)).flag("--probation-time-s", 20).start();
    let load = Load::start(proxy.front, &HABITS);
    load.progress(20);
    let [old, new] = dead_on_probation(&mut proxy);
    load.progress(100);
    assert_eq!(proxy.marker(), "second");
    proxy.next_supervisor();
    proxy.serving();
    let last = proxy.settled(PATIENCE);
    assert_eq!((last.epoch, last.pid), (new.epoch, new.pid));
    // It may come home after the one that serves, and is then told to go.
    eventually(PATIENCE, "there are not two that accept", || !lives(Pid::from_raw(old.pid)));
    let (front, pid) = (listening_inodes(proxy.front), Pid::from_raw(new.pid));
    assert_eq!((holds(pid, &front), holds(proxy.pid(), &front)), (front.clone(), front));
    load.progress(20);
    let report = load.stop();
    assert_eq!(report.total().errors(), 0, "{report}");
}

#[test]
fn the_one_that_stood_by_resumes_when_supervisor_and_newcomer_die() {
    let upstream = Upstream::start();
    let mut proxy = Setup::new(Config::to(upstream.address)).flag("--probation-time-s", 20).start();
    let sockets = Identity::of(&proxy).sockets;
    let load = Load::start(proxy.front, &[(Habit::PerRequest, 4)]);
    load.progress(20);
    let [old, new] = dead_on_probation(&mut proxy);
    load.pause();
    signal(Pid::from_raw(new.pid), Signal::SIGKILL);
    eventually(PATIENCE, "it dies", || !lives(Pid::from_raw(new.pid)));
    // Nobody accepts, and nobody is refused.
    load.resume();
    proxy.next_supervisor();
    load.progress(20);
    let identity = Identity::of(&proxy);
    assert_eq!((identity.epoch, identity.pid, &identity.sockets), (old.epoch, old.pid, &sockets));
    assert_eq!(proxy.marker(), "first");
    let report = load.stop();
    println!("{report}");
    assert_eq!(report.total().errors(), 0, "{report}");
}

#[test]
fn after_the_death_of_all_the_next_supervisor_starts_anew() {
    let upstream = Upstream::start();
    let mut proxy = Setup::new(Config::to(upstream.address)).start();
    let old = proxy.serving();
    let (lineage, door) = (proxy.run_dir().join("lineage"), proxy.run_dir().join("control.sock"));
    proxy.kill_supervisor();
    signal(Pid::from_raw(old.pid), Signal::SIGKILL);
    // Its last thread, too.
    eventually(PATIENCE, "it dies", || listening_inodes(proxy.front).is_empty());
    assert!(door.exists() && fs::read_to_string(&lineage).unwrap().contains(&old.pid.to_string()));
    // Nor is one waited for that has come to bear the number, nor nonsense.
    let stranger = format!("\n0 {} 1\nnonsense\n7 -3 x\n18446744073709551616 1 1\n", std::process::id());
    fs::write(&lineage, fs::read_to_string(&lineage).unwrap() + &stranger).unwrap();
    proxy.next_supervisor();
    eventually(PATIENCE, "it serves", || get(proxy.front, "/marker").is_ok());
    let new = proxy.serving();
    assert_ne!(new.pid, old.pid);
    assert!(!proxy.log().contains("waiting for them"), "nobody was waited for");
    let lines = fs::read_to_string(&lineage).unwrap();
    assert!(lines.lines().count() == 1 && lines.contains(&new.pid.to_string()), "{lines}");
    proxy.reload();
}

#[test]
fn a_second_supervisor_in_the_same_place_says_so_and_leaves() {
    let upstream = Upstream::start();
    let mut proxy = Setup::new(Config::to(upstream.address)).start();
    let load = Load::start(proxy.front, &HABITS);
    load.progress(20);
    let identity = Identity::of(&proxy);
    let second = proxy.one_more().output().unwrap();
    let said = String::from_utf8_lossy(&second.stderr).into_owned();
    println!("{}", said.trim());
    assert!(!second.status.success(), "{second:?}");
    assert!(said.contains(&proxy.pid().to_string()) && said.contains("runs here already"), "{said}");
    assert!(proxy.alive());
    assert_eq!(Identity::of(&proxy), identity);
    proxy.reload();
    let report = load.stop();
    assert_eq!(report.total().errors(), 0, "{report}");
}

/// The property switched off: an epoch that does not look for a next supervisor takes everything with it.
#[test]
fn an_epoch_that_dies_with_its_supervisor_is_an_outage() {
    let upstream = Upstream::start();
    let mut proxy = Setup::new(Config::to(upstream.address)).scripted().start();
    let load = Load::start(proxy.front, &[(Habit::PerRequest, 2)]);
    proxy.set_script(&Plan(Step::AcceptingSent, Deed::Serve).script(proxy.front));
    proxy.reload();
    proxy.settled(PATIENCE);
    load.progress(20);
    assert_eq!(load.failed(), 0);
    proxy.kill_supervisor();
    eventually(PATIENCE, "the clients notice", || load.failed() > 0);
}
