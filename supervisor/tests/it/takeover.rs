//! Takeovers that go well.

use std::fs;

use nix::sys::signal::Signal;

use crate::support::{Bench, Load, descriptors, eventually, fake_epoch};

#[test]
fn a_reload_replaces_the_epoch_and_says_so() {
    let bench = Bench::start();
    let load = Load::start(&bench);
    assert_eq!(bench.ask().unwrap(), (0, "first".into()));
    bench.configure(&["marker second"]);
    let operated = bench.operator(&["reload"]);
    assert!(operated.status.success(), "{operated:?}");
    assert!(operated.stdout.starts_with("reload done: epoch 1 (version fake) serves, epoch 0 drains"), "{operated:?}");
    assert_eq!(operated.stdout.lines().count(), 1);
    assert_eq!(bench.ask().unwrap(), (1, "second".into()));
    let table = bench.operator(&["status"]).stdout;
    assert!(table.contains("EPOCH") && table.contains("active"), "{table}");
    let status = bench.status();
    assert_eq!((status["generation"].as_u64(), status["sockets"].as_u64()), (Some(1), Some(1)));
    load.stop();
}

#[test]
fn hang_ups_become_few_takeovers_and_the_newest_configuration_wins() {
    let bench = Bench::start();
    let load = Load::start(&bench);
    for number in 0..50 {
        bench.configure(&[&format!("marker m{number}")]);
        bench.signal(Signal::SIGHUP);
    }
    eventually("the newest configuration serves", || bench.ask().is_ok_and(|(_, marker)| marker == "m49"));
    let (epoch, _) = bench.ask().unwrap();
    assert!(epoch <= 5, "{epoch} epochs for 50 hang-ups");
    load.stop();
}

#[test]
fn a_roll_back_runs_what_ran_before() {
    let prepared = Bench::prepared(&[], &[]);
    let program = prepared.dir.path().join("epoch");
    fs::copy(fake_epoch(), &program).unwrap();
    fs::write(prepared.dir.path().join("epoch.version"), "one").unwrap();
    let mut prepared = prepared;
    prepared.epoch = program.clone();
    let bench = prepared.launched();
    eventually("it serves", || bench.ask().is_ok());
    let refused = bench.operator(&["rollback"]);
    assert!(!refused.status.success() && refused.stdout.contains("no previous"), "{refused:?}");
    let before = bench.pid_of("active");
    let old_binary = inode(&format!("/proc/{before}/exe"));

    // Another binary in the same place, and another configuration.
    fs::remove_file(&program).unwrap();
    fs::copy(fake_epoch(), &program).unwrap();
    bench.configure(&["marker second"]);
    bench.reload();
    assert_eq!(bench.ask().unwrap(), (1, "second".into()));
    let after = bench.pid_of("active");
    assert_ne!(inode(&format!("/proc/{after}/exe")), old_binary);
    bench.configure(&["marker third"]);
    let operated = bench.operator(&["rollback", "--json"]);
    assert!(operated.status.success(), "{operated:?}");
    assert_eq!(bench.ask().unwrap(), (2, "first".into()));
    let back = bench.pid_of("active");
    assert_eq!(inode(&format!("/proc/{back}/exe")), old_binary);
    // And forth again.
    assert!(bench.operator(&["rollback"]).status.success());
    assert_eq!(bench.ask().unwrap(), (3, "second".into()));
    bench.reload();
    assert_eq!(bench.ask().unwrap(), (4, "third".into()));
}

fn inode(path: &str) -> u64 {
    use std::os::unix::fs::MetadataExt;
    fs::metadata(path).unwrap().ino()
}

#[test]
fn an_epoch_of_the_version_before_takes_part() {
    let bench = Bench::start_with(&["protocol 1 1"], &[]);
    bench.configure(&["marker newer"]);
    bench.reload();
    bench.configure(&["marker older", "protocol 1 1"]);
    bench.reload();
    assert_eq!(bench.ask().unwrap(), (2, "older".into()));
    assert!(bench.operator(&["rollback"]).status.success());
    assert_eq!(bench.ask().unwrap().1, "newer");
    bench.configure(&["protocol 9 12"]);
    let operated = bench.operator(&["reload"]);
    assert!(!operated.status.success() && operated.stdout.contains("speaks versions 9 to 12"), "{operated:?}");
    bench.configure(&["protocol 2 9", "marker future"]);
    bench.reload();
    assert_eq!(bench.ask().unwrap().1, "future");
}

#[test]
fn fifty_takeovers_leave_no_descriptor_behind() {
    let bench = Bench::start_with(&[], &["--probation-time-s=0.02"]);
    let load = Load::start(&bench);
    bench.reload();
    bench.reload();
    eventually("old epochs have left", || bench.epochs().len() == 1);
    let (supervisor, epoch) = (descriptors(bench.pid()), descriptors(bench.pid_of("active")));
    for _ in 0..50 {
        bench.reload();
    }
    eventually("old epochs have left", || bench.epochs().len() == 1);
    load.stop();
    eventually("the clients are gone", || {
        descriptors(bench.pid()) <= supervisor && descriptors(bench.pid_of("active")) <= epoch
    });
}

#[test]
fn many_sockets_are_lent_in_batches() {
    let bench = Bench::start_with(&["many 600"], &[]);
    assert_eq!(bench.status()["sockets"].as_u64(), Some(601));
    let listening = |pid| {
        let links = fs::read_dir(format!("/proc/{pid}/fd")).unwrap().flatten();
        let mut sockets: Vec<_> = links
            .filter_map(|entry| fs::read_link(entry.path()).ok())
            .map(|link| link.display().to_string())
            .filter(|link| link.starts_with("socket:"))
            .collect();
        sockets.sort();
        sockets
    };
    let first = listening(bench.pid_of("active"));
    let text = std::iter::once("marker again").chain(["many 600"]).collect::<Vec<_>>();
    bench.configure(&text);
    bench.reload();
    let second = listening(bench.pid_of("active"));
    let common = first.iter().filter(|socket| second.contains(socket)).count();
    assert!(common >= 601, "{common} sockets of {} are the same", first.len());
    // Asked for no more, held no more, once nobody can be called back who would ask for them.
    bench.configure(&["marker fewer"]);
    bench.reload();
    eventually("only one socket is held", || bench.status()["sockets"].as_u64() == Some(1));
}

#[test]
fn draining_epochs_are_bounded_and_never_cut_short() {
    let bench = Bench::start_with(&["stay"], &["--max-draining=2", "--probation-time-s=0.05"]);
    bench.configure(&["stay", "marker second"]);
    bench.reload();
    bench.reload();
    let draining = || bench.epochs().iter().filter(|(_, _, state)| state == "draining").count();
    assert_eq!(draining(), 2);
    let operated = bench.operator(&["reload"]);
    assert!(!operated.status.success() && operated.stdout.contains("none is cut short"), "{operated:?}");
    bench.configure(&["marker third"]);
    bench.signal(Signal::SIGHUP);
    eventually("the request is remembered", || bench.log().contains("reload waits"));
    assert_eq!(draining(), 2);
    let table = bench.operator(&["status"]).stdout;
    assert!(table.contains("UTC") && table.contains("a reload waits"), "{table}");
    nix::sys::signal::kill(bench.pid_of("draining"), Signal::SIGKILL).unwrap();
    eventually("it is served when there is room", || bench.ask().is_ok_and(|(_, marker)| marker == "third"));
}

#[test]
fn a_draining_epoch_that_stays_is_made_to_leave() {
    let bench = Bench::start_with(&["stay"], &["--parent-shutdown-time-s=0.2", "--probation-time-s=0"]);
    bench.configure(&[]);
    bench.reload();
    eventually("it is gone", || bench.epochs().len() == 1);
    assert!(bench.log().contains("SIGTERM"));
}
