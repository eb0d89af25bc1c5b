//! A tap on an epoch's channel: what supervisor and epoch say to each other can be held, lost, damaged, or taken as the moment at which somebody dies.
//!
//! The suite's own binary is started as the epoch. It makes a socket pair, starts a [`relay`] of itself between that and the supervisor's, and becomes the
//! real epoch: its process id, its signals and its death are the real ones, and nothing in the product knows that it is being tapped. What two
//! epochs say to each other passes a relay too, where a plan asks for it: the descriptor that `Bequeath` carries is replaced by one of the relay's.
//!
//! A test says what is to happen with [`Tap::arm`], and hears with [`Tap::fired`] that it has.
//!
//! # What a relay cannot do
//! A packet in a kernel's queue is in nobody's hands; one in a relay is. Whether an answer between epochs can still arrive is settled by the giver shutting its
//! receiving side, which the relay passes on within a millisecond and not at once. So answers between epochs are never held or lost here: that cannot
//! happen in life, and both would have the connection.

mod deed;
mod plan;
mod relay;

use std::fs;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use heirloom_supervisor::wire::{Channel, ENV_CHANNEL};
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::unistd::Pid;
use tempfile::TempDir;

pub(crate) use deed::limit_descriptors;
pub(crate) use plan::{ANY, Deed, Order, Victim, Way};

use crate::support::supervised::{Supervised, within};

/// Environment variable: the directory where a tap finds its orders.
const DIR: &str = "HEIRLOOM_TAP";
/// Environment variable: the command of the real epoch, for a shell.
const REAL: &str = "HEIRLOOM_TAP_REAL";
/// Environment variable: what a relay needs to know: two descriptors and the epoch's number.
const RELAY: &str = "HEIRLOOM_TAP_RELAY";

/// The test's side.
pub(crate) struct Tap {
    dir: TempDir,
    orders: u64,
}

/// What a tap says when an order has been carried out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Fired {
    /// The clients' ports of the connections that only the victim held when it was killed.
    pub(crate) held: Vec<u16>,
}

impl Tap {
    /// Every epoch of `proxy` from the next one on is tapped.
    pub(crate) fn on(proxy: &Supervised) -> Self {
        let tap =
            Self { dir: tempfile::Builder::new().prefix("heirloom-tap-").tempdir().expect("a directory"), orders: 0 };
        proxy.set_script(&tap.script(&proxy.real_epoch()));
        tap
    }

    /// The line of an epoch's script that runs `real`, tapped.
    pub(crate) fn script(&self, real: &str) -> String {
        let program = std::env::current_exe().expect("a program knows itself");
        format!(
            "{DIR}={} {REAL}='{real}' exec {} --exact tap::epoch --ignored --nocapture",
            self.dir.path().display(),
            program.display()
        )
    }

    /// Has something done at a message. It replaces what was ordered before.
    pub(crate) fn arm(&mut self, order: &Order) {
        self.orders += 1;
        let _ = fs::remove_file(self.dir.path().join("fired"));
        let _ = fs::remove_file(self.dir.path().join("go"));
        plan::write(self.dir.path(), &format!("{} {order}", self.orders), "order");
    }

    /// Lets go of what is held.
    pub(crate) fn go(&self) {
        plan::write(self.dir.path(), "go", "go");
    }

    /// Whether it has happened, and what.
    pub(crate) fn fired(&self) -> Option<Fired> {
        let text = fs::read_to_string(self.dir.path().join("fired")).ok()?;
        let (number, held) = text.split_once(' ')?;
        let held = held.split_whitespace().filter_map(|port| port.parse().ok()).collect();
        (number.parse() == Ok(self.orders)).then_some(Fired { held })
    }

    /// Waits until it has happened; `None` when it does not come to that.
    pub(crate) fn fired_within(&self, time: Duration) -> Option<Fired> {
        within(time, || self.fired().is_some());
        self.fired()
    }

    /// The clients' ports of the connections that an epoch has put on their way to its heir, batch by batch, as far as that way was tapped.
    pub(crate) fn moved(&self, epoch: u64) -> Vec<Vec<u16>> {
        let batch = |batch| fs::read_to_string(self.dir.path().join(format!("{epoch}.{batch}.moved"))).ok();
        let ports = |text: String| text.split(' ').filter_map(|port| port.parse().ok()).collect();
        (0_u64..).map_while(batch).map(ports).collect()
    }

    /// The process of an epoch.
    pub(crate) fn process(&self, epoch: u64) -> Option<Pid> {
        plan::process(self.dir.path(), epoch)
    }
}

/// Not a test: the tap itself, when a supervisor starts it.
#[test]
#[ignore = "run by a supervisor, not by a person"]
fn epoch() {
    let (Ok(dir), Ok(real)) = (std::env::var(DIR), std::env::var(REAL)) else { return };
    let (channel, epoch) = Channel::from_environment().unwrap().expect("a supervisor started this");
    let (near, far) = Channel::pair().unwrap();
    let pid = std::process::id();
    plan::write(Path::new(&dir), &pid.to_string(), &format!("{epoch}.pid"));
    let supervisor = OwnedFd::from(channel);
    inheritable(&supervisor);
    inheritable(&near);
    let program = std::env::current_exe().unwrap();
    // Started by somebody who leaves at once: the relay is nobody's child here, as the real epoch has none.
    let mut shell = Command::new("/bin/sh");
    shell.args(["-c", "\"$@\" & ", "sh"]).arg(program).args(["--exact", "tap::relay", "--ignored", "--nocapture"]);
    shell.env(RELAY, format!("{} {} {epoch}", supervisor.as_raw_fd(), near.as_raw_fd())).stdin(Stdio::null());
    shell.env_remove(ENV_CHANNEL);
    assert!(shell.status().unwrap().success());
    drop((supervisor, near));
    inheritable(&far);
    let error = Command::new("/bin/sh").arg("-c").arg(real).env(ENV_CHANNEL, far.as_raw_fd().to_string()).exec();
    panic!("the real epoch cannot be run: {error}");
}

fn inheritable(descriptor: &impl std::os::fd::AsFd) {
    fcntl(descriptor.as_fd(), FcntlArg::F_SETFD(FdFlag::empty())).expect("a flag can be taken off");
}

/// Not a test: what stands between, when a tap starts it.
#[test]
#[ignore = "run by a tap, not by a person"]
fn relay() {
    let (Ok(dir), Ok(told)) = (std::env::var(DIR), std::env::var(RELAY)) else { return };
    let told: Vec<i64> = told.split(' ').map(|number| number.parse().expect("a number")).collect();
    let [supervisor, near, epoch] = told[..] else { panic!("three numbers") };
    relay::run(PathBuf::from(dir), [supervisor as i32, near as i32], epoch as u64);
}
