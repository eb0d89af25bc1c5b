//! A side that hangs never holds up the other: every wait is bounded.
//!
//! A new epoch that hangs at any step is in `misbehaviour`; here is the old one.

use std::fs::File;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use nix::sys::stat::Mode;
use nix::unistd::{Pid, mkfifo};

use crate::support::bootstrap::Config;
use crate::support::load::{Habit, Load};
use crate::support::operated::{DRAINING, SERVING};
use crate::support::process::{lives, signal, stop};
use crate::support::supervised::{PATIENCE, Setup, Supervised, eventually, eventually_some};
use crate::support::upstream::Upstream;

/// What a client may have to wait for while a side hangs: all limits of a takeover together, and a slow machine.
const PAUSE: Duration = Duration::from_secs(5);

/// A gate that the next epoch waits at before it starts.
pub(super) struct Gate(PathBuf);

impl Gate {
    pub(super) fn before_the_real_epoch(proxy: &Supervised) -> Self {
        let path = proxy.dir().join("gate");
        let _ = std::fs::remove_file(&path);
        mkfifo(&path, Mode::S_IRWXU).expect("a fifo can be made");
        proxy.set_script(&format!("read _ < {}\n{}", path.display(), proxy.real_epoch()));
        Self(path)
    }

    /// Waits until somebody stands at the gate; opens when what this returns is dropped.
    pub(super) fn somebody(&self) -> File {
        eventually_some(PATIENCE, "the new epoch comes to the gate", || {
            File::options().write(true).custom_flags(libc::O_NONBLOCK).open(&self.0).ok()
        })
    }
}

fn start(upstream: &Upstream) -> Supervised {
    Setup::new(Config::to(upstream.address)).scripted().short_limits().start()
}

fn old(proxy: &Supervised) -> Pid {
    Pid::from_raw(proxy.serving().pid)
}

/// New clients, from now on: what they see until another epoch answers, and how long the worst waits.
fn clients_come_through(proxy: &Supervised, meanwhile: impl FnOnce()) {
    let load = Load::start(proxy.front, &[(Habit::PerRequest, 4)]);
    meanwhile();
    load.progress(50);
    let report = load.stop();
    println!("{report}");
    let total = report.total();
    assert_eq!(total.errors(), 0, "{report}");
    assert!(total.worst < PAUSE, "{report}");
}

#[test]
fn an_old_epoch_that_hangs_before_the_takeover_does_not_hold_it_up() {
    let upstream = Upstream::start();
    let proxy = start(&upstream);
    let old = old(&proxy);
    stop(old);
    clients_come_through(&proxy, || {
        let operated = proxy.operator(&["reload"]);
        println!("reload over a hung epoch: {operated:?}");
        assert!(operated.took < PAUSE);
    });
    eventually(PATIENCE, "the hung one is ended", || !lives(old));
}

#[test]
fn an_old_epoch_that_hangs_while_the_new_one_prepares_does_not_hold_it_up() {
    let upstream = Upstream::start();
    let proxy = start(&upstream);
    let old = old(&proxy);
    let gate = Gate::before_the_real_epoch(&proxy);
    let reload = proxy.operator_begin(&["reload"]);
    let open = gate.somebody();
    stop(old);
    clients_come_through(&proxy, || {
        drop(open);
        assert!(reload.wait().took < PAUSE + PATIENCE);
    });
    eventually(PATIENCE, "the hung one is ended", || !lives(old));
}

#[test]
fn an_old_epoch_that_hangs_while_it_drains_is_ended_at_the_limit() {
    let upstream = Upstream::start();
    let proxy = Setup::new(Config::to(upstream.address)).flag("--parent-shutdown-time-s", 2).start();
    let old = old(&proxy);
    // A connection keeps the old one draining.
    let download = std::thread::spawn({
        let front = proxy.front;
        move || crate::support::clients::get(front, "/slow?pieces=600&every=100")
    });
    eventually(PATIENCE, "the download runs", || upstream.requests() > 0);
    proxy.reload();
    eventually(PATIENCE, "it drains", || !proxy.status().in_state(DRAINING).is_empty());
    let begun = Instant::now();
    stop(old);
    clients_come_through(&proxy, || eventually(PATIENCE, "the hung one is ended", || !lives(old)));
    println!("a draining epoch that hangs was ended after {:.1?}", begun.elapsed());
    assert!(download.join().expect("no panic").is_err(), "its connection is cut, as its deadline says");
}

#[test]
fn an_old_epoch_that_wakes_again_after_it_was_replaced_does_no_harm() {
    let upstream = Upstream::start();
    let proxy = start(&upstream);
    let old = old(&proxy);
    stop(old);
    let reload = proxy.operator_begin(&["reload"]);
    eventually(PATIENCE, "another one serves", || {
        proxy
            .status()
            .epochs
            .iter()
            .any(|row| row.pid != old.as_raw() && ["probation", SERVING].contains(&row.state.as_str()))
    });
    signal(old, Signal::SIGCONT);
    let _ = reload.wait();
    clients_come_through(&proxy, || ());
    assert_ne!(proxy.settled(PATIENCE).pid, old.as_raw());
}

/// A supervisor that dies is the worst that can happen to the other side of a channel: its epoch serves on.
#[test]
fn a_supervisor_that_dies_takes_nobody_with_it() {
    let upstream = Upstream::start();
    let mut proxy = start(&upstream);
    let epoch = old(&proxy);
    let load = Load::start(proxy.front, &[(Habit::PerRequest, 2), (Habit::KeepAlive, 2)]);
    load.progress(50);
    signal(proxy.pid(), Signal::SIGKILL);
    eventually(PATIENCE, "the supervisor is gone", || !proxy.alive());
    load.progress(500);
    let report = load.stop();
    assert_eq!(report.total().errors(), 0, "{report}");
    assert!(lives(epoch));
}

/// The property switched off: a process alone that hangs holds its clients for as long as it likes.
#[test]
fn nobody_ends_a_hung_epoch_that_runs_alone() {
    let upstream = Upstream::start();
    let alone = crate::support::alone::Alone::start(&Config::to(upstream.address));
    stop(alone.pid());
    let load = Load::start(alone.front, &[(Habit::PerRequest, 1)]);
    let begun = Instant::now();
    // As long as supervised clients wait in the very worst case.
    eventually(PAUSE * 2, "time goes by", || begun.elapsed() > PAUSE);
    assert_eq!(load.answered(), 0);
    signal(alone.pid(), Signal::SIGCONT);
}
