//! The supervisor replaces itself.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use nix::sys::signal::{Signal, kill};

use crate::support::{Bench, Load, descriptors, eventually, supervisor};

/// A supervisor whose binary the test may replace.
fn replaceable() -> Bench {
    let mut prepared = Bench::prepared(&["listen tcp 127.0.0.1:0 label"], &[]);
    prepared.program = prepared.dir.path().join("supervisor");
    fs::copy(supervisor(), &prepared.program).unwrap();
    let bench = prepared.launched();
    eventually("it serves", || bench.ask().is_ok());
    bench
}

#[test]
fn the_same_process_goes_on_with_the_same_epochs() {
    let mut bench = replaceable();
    bench.configure(&["marker second", "stay"]);
    bench.reload();
    bench.configure(&["marker third"]);
    bench.reload();
    let load = Load::start(&bench);
    let (pid, before) = (bench.pid(), bench.epochs());
    assert_eq!(before.len(), 2, "one serves, one drains");
    let binary = || fs::read_link(format!("/proc/{pid}/exe")).unwrap().display().to_string();
    let open = descriptors(pid);
    for round in 1..=3 {
        fs::remove_file(bench.path("supervisor")).unwrap();
        assert!(binary().ends_with("(deleted)"));
        fs::copy(supervisor(), bench.path("supervisor")).unwrap();
        bench.signal(Signal::SIGUSR2);
        eventually("it has replaced itself", || bench.log().matches("has replaced itself").count() == round);
        assert!(!binary().ends_with("(deleted)"));
    }
    assert_eq!(bench.epochs(), before);
    assert_eq!(bench.status()["generation"].as_u64(), Some(2));
    eventually("no descriptor is left over", || descriptors(pid) <= open);
    // Everything goes on: roll-back, crash, reload, end.
    assert!(bench.operator(&["rollback"]).status.success());
    assert_eq!(bench.ask().unwrap(), (3, "second".into()));
    kill(bench.pid_of("active"), Signal::SIGKILL).unwrap();
    eventually("the crash is replaced", || bench.ask().is_ok_and(|answer| answer == (4, "second".into())));
    bench.reload();
    assert_eq!(bench.ask().unwrap(), (5, "third".into()));
    load.stop();
    bench.signal(Signal::SIGTERM);
    assert!(bench.wait().success());
}

#[test]
fn a_binary_that_cannot_take_over_does_not() {
    let bench = replaceable();
    for (name, text) in
        [("a script", "#!/bin/sh\nexit 1\n"), ("no program", "nothing"), ("a mute", "#!/bin/sh\nkill -9 $$\n")]
    {
        let draft = bench.path("draft");
        fs::write(&draft, text).unwrap();
        fs::set_permissions(&draft, fs::Permissions::from_mode(0o755)).unwrap();
        fs::rename(draft, bench.path("supervisor")).unwrap();
        let before = bench.log().matches("does not replace itself").count();
        bench.signal(Signal::SIGUSR2);
        eventually(name, || bench.log().matches("does not replace itself").count() == before + 1);
        bench.reload();
    }
}

#[test]
fn it_waits_until_a_takeover_is_over() {
    let bench = Bench::start_with(&[], &["--probation-time-s=1"]);
    bench.signal(Signal::SIGHUP);
    eventually("a takeover is under way", || bench.status()["phase"].as_str().unwrap().contains("probation"));
    bench.signal(Signal::SIGUSR2);
    eventually("it has replaced itself", || bench.log().contains("has replaced itself"));
    assert_eq!(bench.ask().unwrap().0, 1);
    assert!(bench.log().find("reload done").unwrap() < bench.log().find("has replaced itself").unwrap());
}
