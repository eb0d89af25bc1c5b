//! Ends.

use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};

use crate::support::{Bench, eventually};

fn lives(pid: nix::unistd::Pid) -> bool {
    kill(pid, None).is_ok()
}

#[test]
fn stop_drain_and_signals_end_everything() {
    for way in ["stop", "drain", "TERM", "INT"] {
        let mut bench = Bench::start();
        let epoch = bench.pid_of("active");
        match way {
            "TERM" => bench.signal(Signal::SIGTERM),
            "INT" => bench.signal(Signal::SIGINT),
            command => {
                let operated = bench.operator(&[command]);
                assert!(operated.status.success() && operated.stdout.contains("stopped"), "{operated:?}");
            }
        }
        assert!(bench.wait().success(), "{way}");
        assert!(!lives(epoch), "{way}");
        assert!(!bench.path("run/control.sock").exists() && !bench.path("s").exists(), "{way}");
        let operated = bench.operator(&["status"]);
        assert!(!operated.status.success() && operated.stderr.contains("no supervisor answers"), "{operated:?}");
    }
}

#[test]
fn an_epoch_that_does_not_leave_is_made_to() {
    for trouble in ["trouble silent terminate", "trouble hang terminate"] {
        let mut bench = Bench::start_with(&[trouble], &["--stop-time-s=0.2"]);
        let epoch = bench.pid_of("active");
        let begin = Instant::now();
        bench.signal(Signal::SIGTERM);
        assert!(bench.wait().success());
        assert!(begin.elapsed() < Duration::from_secs(8), "{trouble}: {:?}", begin.elapsed());
        assert!(!lives(epoch));
    }
}

#[test]
fn a_second_signal_ends_at_once() {
    let mut bench = Bench::start_with(&["trouble silent terminate"], &["--stop-time-s=600"]);
    bench.signal(Signal::SIGTERM);
    eventually("it stops", || bench.status()["phase"] == "stopping");
    let operated = bench.operator(&["reload"]);
    assert!(!operated.status.success() && operated.stdout.contains("stopping"), "{operated:?}");
    bench.signal(Signal::SIGTERM);
    assert!(bench.wait().success());
}

#[test]
fn a_stop_calls_a_takeover_off() {
    let mut bench = Bench::start_with(&[], &["--prepare-time-s=60"]);
    bench.configure(&["trouble hang hello"]);
    let (first, second) = std::thread::scope(|scope| {
        let reload = scope.spawn(|| bench.operator(&["reload"]));
        eventually("it prepares", || bench.epochs().len() == 2);
        let stop = bench.operator(&["stop"]);
        (reload.join().unwrap(), stop)
    });
    assert!(!first.status.success() && first.stdout.contains("stopping"), "{first:?}");
    assert!(second.status.success(), "{second:?}");
    assert!(bench.wait().success());
}
