//! One cell: a takeover in which one thing goes wrong at one step.

use std::collections::BTreeSet;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use nix::sys::signal::Signal;
use nix::unistd::Pid;

use super::disk::Disk;
use super::world::{DRAIN, World};
use super::{Cell, Fault, Who, Whose};
use crate::support::clients::{Failure, get};
use crate::support::process::{lives, signal};
use crate::support::scrape::Watch;
use crate::support::supervised::{PATIENCE, within};
use crate::tap::{Deed, Order, Victim, limit_descriptors};

/// All limits of a takeover together, what happens to it, and a slow machine.
const BOUND: Duration = Duration::from_secs(40);
/// When the last drain is over at the latest: its limit, what the supervisor adds, and a slow machine.
const LAST_DRAIN: Duration = Duration::from_secs(DRAIN + 15);
/// How long somebody is stopped.
const STOPPED: Duration = Duration::from_secs(5);
/// How long there is nothing to be had.
const DROUGHT: Duration = Duration::from_secs(3);
/// How long a message is held.
const HELD: Duration = Duration::from_millis(500);

/// What came of it.
#[derive(Clone, Debug, Default)]
pub(super) struct Outcome {
    /// The step was taken at all.
    pub(super) reached: bool,
    pub(super) requests: u64,
    /// Connections that the killed process held.
    pub(super) held: Option<usize>,
    /// Connections on which a client saw something wrong.
    pub(super) lost: usize,
    /// Requests answered with 503.
    pub(super) refused: u64,
    /// Streams that live, of how many.
    pub(super) kept: usize,
    pub(super) streams: usize,
    pub(super) worst: Duration,
    /// What the operator who asked for the takeover read.
    pub(super) told: String,
    /// Promises that were broken.
    pub(super) faults: Vec<String>,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { reached, requests, held, lost, refused, kept, streams, worst, told, faults } = self;
        let reached = if *reached { "" } else { "NOT REACHED, " };
        write!(
            f,
            "{reached}{requests} requests, held {held:?}, lost {lost}, 503 {refused}, kept {kept}/{streams}, worst {worst:.1?}, told {told:?}"
        )?;
        if faults.is_empty() { Ok(()) } else { write!(f, " BROKEN: {}", faults.join("; ")) }
    }
}

/// Runs a cell in a world of its own.
pub(super) fn run(cell: &Cell) -> Outcome {
    match catch_unwind(AssertUnwindSafe(|| happen(cell))) {
        Ok(outcome) => outcome,
        Err(panic) => {
            let text = panic.downcast_ref::<String>().cloned();
            let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
            let first = text.unwrap_or_default().lines().next().unwrap_or_default().to_owned();
            Outcome { faults: vec![first], reached: true, ..Outcome::default() }
        }
    }
}

fn happen(cell: &Cell) -> Outcome {
    let mut outcome = Outcome::default();
    let disk = match cell.fault {
        Fault::DiskFull => match Disk::mount() {
            Ok(disk) => Some(disk),
            Err(why) => return Outcome { reached: true, told: format!("skipped: {why}"), ..outcome },
        },
        _ => None,
    };
    let mut world = World::start(disk.as_ref().map(|disk| disk.path().to_owned()));
    let old = world.proxy.serving();
    let (old_pid, new_epoch) = (Pid::from_raw(old.pid), old.epoch + 1);
    let censuses = [world.census(world.proxy.pid()), world.census(old_pid)];
    let victim = match cell.who {
        Who::Supervisor => Victim::Process(world.proxy.pid()),
        Who::Old | Who::Message | Who::Disk => Victim::Process(old_pid),
        Who::New => Victim::Epoch(new_epoch),
    };
    let deed = match cell.fault {
        Fault::Process(deed) | Fault::Message(deed) => deed,
        Fault::DiskFull => Deed::Hold,
    };
    let watch = Watch::start(world.proxy.admin, Duration::from_millis(50));
    let requests = world.load();
    let mut faults = Vec::new();
    let epoch = if cell.step.whose == Whose::Old { old.epoch } else { new_epoch };
    let message = cell.step.message.to_owned();
    let (report, fate) = {
        let World { proxy, tap, host, tunnel, .. } = &mut world;
        let streams = super::world::streams(host, proxy.front, *tunnel);
        if !requests.progress(50) || !streams.progress(PATIENCE) {
            faults.push("the load does not even begin".to_owned());
        }
        outcome.streams = streams.living();

        tap.arm(&Order { epoch, way: cell.step.way, message, nth: 1, deed, victim });
        let reload = proxy.operator_begin(&["reload"]);
        let fired = tap.fired_within(Duration::from_secs(15));
        outcome.reached = fired.is_some();
        let pid = match victim {
            Victim::Process(pid) => Some(pid),
            Victim::Epoch(epoch) => tap.process(epoch),
        };
        let mut allowed = BTreeSet::new();
        if let Some(fired) = fired {
            match (deed, cell.who) {
                (Deed::Kill, Who::Supervisor) => {
                    proxy.kill_supervisor();
                    proxy.next_supervisor();
                }
                (Deed::Kill, _) => {
                    outcome.held = Some(fired.held.len());
                    allowed = fired.held.into_iter().collect();
                }
                (Deed::Stop, _) => {
                    std::thread::park_timeout(STOPPED);
                    pid.into_iter().for_each(|pid| signal(pid, Signal::SIGCONT));
                }
                (Deed::Limit, _) => {
                    std::thread::park_timeout(DROUGHT);
                    pid.into_iter().for_each(|pid| limit_descriptors(pid, None));
                }
                (Deed::Hold, Who::Disk) => {
                    disk.iter().for_each(Disk::fill);
                    tap.go();
                    std::thread::park_timeout(DROUGHT);
                    disk.iter().for_each(Disk::clear);
                }
                (Deed::Hold, _) => {
                    std::thread::park_timeout(HELD);
                    tap.go();
                }
                _ => {}
            }
        }
        match reload.wait_within(BOUND) {
            Some(operated) => outcome.told = in_short(&operated.said()),
            None => faults.push(format!("the operator was not answered within {BOUND:?}")),
        }
        if !proxy.alive() {
            faults.push("the supervisor is dead".into());
        }
        if !within(PATIENCE, || get(proxy.front, "/marker").is_ok()) {
            faults.push("nothing serves".into());
        }
        match proxy.operator_begin(&["reload"]).wait_within(BOUND) {
            Some(operated) if operated.status.success() => {}
            Some(operated) => faults.push(format!("the next takeover fails: {}", in_short(&operated.said()))),
            None => faults.push(format!("the next takeover does not end within {BOUND:?}")),
        }
        if !requests.progress(50) {
            faults.push("requests hang".into());
        }
        if !streams.progress(PATIENCE) {
            faults.push("streams hang".into());
        }
        let fate = streams.close(PATIENCE);
        let report = requests.stop();
        let mut lost: Vec<u16> = report.total().lost;
        lost.extend(fate.broken.iter().map(|(_, port, _)| *port));
        outcome.lost = lost.len();
        let answered_503 = Failure::BadStatus(503);
        outcome.refused = report.total().count(&answered_503);
        let bad = |(failure, _): &(&Failure, &u64)| matches!(failure, Failure::BadStatus(_));
        let bad: u64 = report.total().failures.iter().filter(bad).map(|(_, count)| count).sum();
        // Who can open nothing cannot reach a host either, and says so.
        if bad > if deed == Deed::Limit { outcome.refused } else { 0 } {
            faults.push(format!("bad answers: {:?}", report.total().failures));
        }
        let unexpected = lost.iter().filter(|port| !allowed.contains(port)).count();
        if unexpected > 0 {
            faults.push(format!(
                "{unexpected} connections broke that no killed process held: {:?}, {:?}",
                report.total().failures,
                fate.broken
            ));
        }
        (report, fate)
    };
    let total = report.total();
    (outcome.requests, outcome.worst, outcome.kept) = (total.ok, total.worst, fate.living);
    faults.extend(fate.wrong.iter().map(|wrong| format!("wrong bytes: {wrong}")));
    let watched = watch.stop();
    if !watched.fell.is_empty() {
        faults.push(format!("series fell: {:.200}", format!("{:?}", watched.fell)));
    }
    faults.extend(remains(&world, &censuses, cell.who == Who::Supervisor));
    if let (Some(directory), false) = (std::env::var_os("HEIRLOOM_CELL_LOGS"), faults.is_empty()) {
        let name = cell.name().replace(' ', "").replace('|', "-");
        let _ = std::fs::write(std::path::Path::new(&directory).join(name), world.proxy.log());
    }
    outcome.faults = faults;
    outcome
}

/// Processes and descriptors that should be gone.
fn remains(world: &World, censuses: &[std::collections::BTreeMap<String, usize>; 2], is_replaced: bool) -> Vec<String> {
    let mut faults = Vec::new();
    let proxy = &world.proxy;
    // One that was not told to drain, or not how, leaves when a drain would have ended.
    if !within(LAST_DRAIN, || proxy.status().epochs.len() == 1) {
        faults.push(format!("old epochs do not leave: {:?}", proxy.status().epochs));
        return faults;
    }
    let serving = proxy.serving();
    let epoch = Pid::from_raw(serving.pid);
    let strangers = || -> Vec<String> {
        let expected = |pid: &Pid| *pid == proxy.pid() || *pid == epoch;
        let name = |pid: Pid| {
            let words = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            String::from_utf8_lossy(&words).replace('\0', " ")
        };
        let living = proxy.processes().into_iter().filter(|pid| !expected(pid)).map(|pid| (pid, name(pid)));
        // The relay of the epoch that serves belongs here.
        let relays = |(_, name): &(Pid, String)| name.contains("tap::relay");
        let living: Vec<(Pid, String)> = living.filter(|(pid, _)| lives(*pid)).collect();
        let relaying = living.iter().filter(|one| relays(one)).count();
        let others = living.iter().filter(|one| !relays(one)).map(|(pid, name)| format!("{pid} {name}"));
        others.chain((relaying > 1).then(|| format!("{relaying} relays"))).collect()
    };
    if !within(PATIENCE, || strangers().is_empty()) {
        faults.push(format!("processes stay: {:?}", strangers()));
    }
    let now = || [world.census(proxy.pid()), world.census(epoch)];
    let same = |[supervisor, epoch]: &[std::collections::BTreeMap<String, usize>; 2]| {
        // Another supervisor holds what it has differently; it must not hold more.
        let count = |census: &std::collections::BTreeMap<String, usize>| census.values().sum::<usize>();
        let supervisor =
            if is_replaced { count(supervisor) <= count(&censuses[0]) } else { *supervisor == censuses[0] };
        supervisor && *epoch == censuses[1]
    };
    if !within(PATIENCE, || same(&now())) {
        faults.push(format!("descriptors stay: {censuses:?} before, {:?} now", now()));
    }
    faults
}

/// The last line, without what differs from run to run.
fn in_short(said: &str) -> String {
    let line = said.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or_default().trim();
    let line = line.split(" (prepare").next().unwrap_or_default();
    let word = |word: &str| match word {
        path if path.starts_with("/tmp/") => path.rsplit('/').next().unwrap_or_default().to_owned(),
        address if address.starts_with("127.0.0.1:") => "127.0.0.1:…".to_owned(),
        other => other.to_owned(),
    };
    let line: String = line.split(' ').map(word).collect::<Vec<_>>().join(" ");
    let line: String = line.chars().take(160).collect();
    line
}
