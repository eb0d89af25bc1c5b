//! Takeovers that go wrong: whoever misbehaves, at whatever step, a client notices nothing.

use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};

use crate::support::{Bench, Load, PATIENCE, eventually};

/// How a new epoch can go wrong, and what the operator reads.
const NEW: [(&str, &str, &str); 24] = [
    ("die", "start", "SIGKILL"),
    ("exit", "start", "status 7"),
    ("hang", "start", "not ready within"),
    ("close", "start", "SIGKILL"),
    ("garbage", "start", "malformed"),
    ("die", "hello", "SIGKILL"),
    ("hang", "hello", "not ready within"),
    ("garbage", "hello", "malformed"),
    ("close", "hello", "SIGKILL"),
    ("die", "lend", "SIGKILL"),
    ("exit", "lend", "status 7"),
    ("hang", "lend", "not ready within"),
    ("die", "ready", "SIGKILL"),
    ("hang", "ready", "did not begin to accept within"),
    ("silent", "ready", "did not begin to accept within"),
    ("garbage", "ready", "malformed"),
    ("die", "accept", "SIGKILL"),
    ("close", "accept", "SIGKILL"),
    ("garbage", "accept", "malformed"),
    ("die", "probation", "SIGKILL"),
    ("exit", "probation", "status 7"),
    ("unhealthy", "probation", "unhealthy: as configured"),
    ("unhealthy", "accept", "unhealthy: as configured"),
    ("unhealthy", "ready", "unhealthy: as configured"),
];

#[test]
fn a_new_epoch_that_goes_wrong_is_called_off() {
    let bench = Bench::start_with(&[], &["--prepare-time-s=1"]);
    let load = Load::start(&bench);
    for (kind, step, reason) in NEW {
        bench.configure(&["marker wrong", &format!("trouble {kind} {step}")]);
        let begin = Instant::now();
        let operated = bench.operator(&["reload"]);
        let context = format!("{kind} at {step}: {operated:?}");
        assert_eq!(operated.status.code(), Some(1), "{context}");
        assert!(operated.stdout.contains(reason), "{context}");
        assert!(operated.stdout.contains("serves on"), "{context}");
        assert!(begin.elapsed() < Duration::from_secs(5), "{context} took {:?}", begin.elapsed());
        assert_eq!(bench.ask().unwrap(), (0, "first".into()), "{context}");
    }
    bench.configure(&["marker right"]);
    bench.reload();
    let epoch = u64::try_from(NEW.len()).unwrap() + 1;
    assert_eq!(bench.ask().unwrap(), (epoch, "right".into()));
    eventually("all that failed are gone", || bench.epochs().len() == 1);
    load.stop();
}

#[test]
fn a_new_epoch_that_hangs_while_it_serves_is_rolled_back() {
    let bench = Bench::start();
    for step in ["accept", "probation"] {
        bench.configure(&["marker wrong", &format!("trouble hang {step}")]);
        let begin = Instant::now();
        let operated = bench.operator(&["reload"]);
        assert!(!operated.status.success() && operated.stdout.contains("not answered"), "{operated:?}");
        assert!(begin.elapsed() < Duration::from_secs(5));
        assert_eq!(bench.ask().unwrap(), (0, "first".into()));
    }
}

#[test]
fn an_old_epoch_that_goes_wrong_does_not_stop_the_takeover() {
    for (kind, step) in [
        ("hang", "stop"),
        ("silent", "stop"),
        ("die", "stop"),
        ("garbage", "stop"),
        ("close", "stop"),
        ("hang", "drain"),
        ("silent", "drain"),
        ("die", "drain"),
        ("garbage", "drain"),
    ] {
        let bench = Bench::start_with(&[&format!("trouble {kind} {step}")], &["--parent-shutdown-time-s=0.3"]);
        bench.configure(&["marker second"]);
        let begin = Instant::now();
        let operated = bench.operator(&["reload"]);
        assert!(operated.status.success(), "{kind} at {step}: {operated:?}");
        assert!(begin.elapsed() < Duration::from_secs(3), "{kind} at {step}");
        assert_eq!(bench.ask().unwrap(), (1, "second".into()), "{kind} at {step}");
        eventually("the old one is gone", || bench.epochs().len() == 1);
    }
}

#[test]
fn when_neither_serves_the_sockets_wait_for_the_next() {
    // The new one dies on probation, and the old one does not come back.
    for kind in ["hang", "die", "silent"] {
        let bench = Bench::start_with(&[&format!("trouble {kind} resume")], &[]);
        bench.configure(&["trouble die probation"]);
        let operated = bench.operator(&["reload"]);
        assert!(!operated.status.success(), "{operated:?}");
        // What is started then is what served last, not what stands in the file.
        let (epoch, marker) = bench.ask().unwrap();
        assert!(epoch >= 2 && marker == "first", "epoch {epoch}, {marker}");
    }
}

#[test]
fn the_first_epoch_must_succeed() {
    for (line, report) in [
        ("fail c.conf:3: unknown field", "c.conf:3: unknown field"),
        ("trouble exit start", "status 7"),
        ("trouble hang hello", "not ready within"),
        ("listen tcp 203.0.113.7:80", "203.0.113.7:80"),
    ] {
        let mut bench = Bench::prepared(&[line], &["--prepare-time-s=0.5"]).launched();
        let status = bench.wait();
        assert_eq!(status.code(), Some(1), "{line}: {}", bench.log());
        assert!(bench.log().contains(report), "{line}: {}", bench.log());
    }
    let mut prepared = Bench::prepared(&[], &[]);
    prepared.epoch = "/no/such/program".into();
    let mut bench = prepared.launched();
    assert_eq!(bench.wait().code(), Some(1));
    assert!(bench.log().contains("/no/such/program"), "{}", bench.log());
}

#[test]
fn a_crash_is_replaced_from_the_same_sockets() {
    let bench = Bench::start();
    // An edit that nobody has asked for yet must not come into service by a crash.
    bench.configure(&["fail not yet"]);
    let pid = bench.pid_of("active");
    kill(pid, Signal::SIGSTOP).unwrap();
    let clients: Vec<_> = (0..50).map(|_| std::os::unix::net::UnixStream::connect(bench.path("s")).unwrap()).collect();
    kill(pid, Signal::SIGKILL).unwrap();
    for client in clients {
        client.set_read_timeout(Some(PATIENCE)).unwrap();
        assert_eq!(crate::support::answer(client).unwrap(), (1, "first".into()));
    }
    // Again and again, with growing delays; and forgiven at last.
    for epoch in 2..5 {
        kill(bench.pid_of("active"), Signal::SIGKILL).unwrap();
        eventually("the next one serves", || bench.ask().is_ok_and(|(number, _)| number == epoch));
    }
}

#[test]
fn a_crash_loop_is_slowed_down_and_ended_by_a_reload() {
    let bench = Bench::start_with(&[], &["--backoff-initial-s=30", "--backoff-max-s=60"]);
    // What served last dies whenever it starts.
    bench.configure(&["marker loop"]);
    bench.reload();
    kill(bench.pid_of("active"), Signal::SIGKILL).unwrap();
    eventually("the first replacement comes at once", || bench.ask().is_ok_and(|(epoch, _)| epoch == 2));
    kill(bench.pid_of("active"), Signal::SIGKILL).unwrap();
    eventually("the second has to wait", || bench.status()["phase"].as_str().unwrap().contains("a start is due"));
    bench.configure(&["marker mended"]);
    bench.reload();
    assert_eq!(bench.ask().unwrap().1, "mended");
}

#[test]
fn a_silent_epoch_is_replaced() {
    let bench = Bench::start_with(&[], &["--unresponsive-time-s=1.5", "--parent-shutdown-time-s=0.2"]);
    let pid = bench.pid_of("active");
    kill(pid, Signal::SIGSTOP).unwrap();
    let (epoch, _) = bench.ask().unwrap();
    assert_eq!(epoch, 1, "the client waited for the replacement");
    eventually("the silent one is gone", || bench.epochs().len() == 1);
}
