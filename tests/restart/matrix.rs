//! Every step of a takeover, every kind of misfortune, everybody it can happen to: under load, one after the other.
//!
//! A [`Cell`] is one of them. It promises, whatever happens: no client sees an error but on connections that a killed process held; the service answers
//! afterwards; the next takeover succeeds; counters never fall; nobody waits past the deadlines; no process and no descriptor stays behind.
//! The short form tries a few; `HEIRLOOM_LONG=1` tries all, and with `HEIRLOOM_TABLE=1` writes what came of them to `README.md` beside this file.

mod cell;
mod disk;
mod table;
mod world;

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::alone_on_the_machine;
use crate::tap::{Deed, Way};
use cell::{Outcome, run};

/// Who sends a message that is to be tapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Whose {
    Old,
    New,
}

/// A step of a takeover, by the message that takes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Step {
    message: &'static str,
    /// On whose channel.
    whose: Whose,
    way: Way,
    /// Whether it carries descriptors.
    carries: bool,
}

const fn step(message: &'static str, whose: Whose, way: Way, carries: bool) -> Step {
    Step { message, whose, way, carries }
}

const STEPS: [Step; 19] = [
    step("Hello", Whose::New, Way::Up, false),
    step("Welcome", Whose::New, Way::Down, true),
    step("Lend", Whose::New, Way::Up, false),
    step("Lent", Whose::New, Way::Down, true),
    step("Received", Whose::New, Way::Up, false),
    step("Ready", Whose::New, Way::Up, true),
    step("Accept", Whose::New, Way::Down, false),
    step("Accepting", Whose::New, Way::Up, false),
    step("StopAccepting", Whose::Old, Way::Down, false),
    step("Stopped", Whose::Old, Way::Up, false),
    step("Ping", Whose::New, Way::Down, false),
    step("Pong", Whose::New, Way::Up, false),
    step("Health", Whose::New, Way::Up, false),
    step("Heir", Whose::New, Way::Down, true),
    step("Bequeath", Whose::Old, Way::Down, true),
    step("Drain", Whose::Old, Way::Down, false),
    step("Moved", Whose::Old, Way::Out, true),
    step("Taken", Whose::Old, Way::In, false),
    step("Drained", Whose::Old, Way::Up, false),
];

/// Whom it happens to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Who {
    Supervisor,
    Old,
    New,
    /// The message itself.
    Message,
    /// The file system that everybody writes to.
    Disk,
}

/// What happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Fault {
    Process(Deed),
    Message(Deed),
    DiskFull,
}

/// One of everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cell {
    step: Step,
    fault: Fault,
    who: Who,
}

impl Cell {
    fn name(&self) -> String {
        let fault = match self.fault {
            Fault::Process(Deed::Kill) => "killed",
            Fault::Process(Deed::Stop) => "stopped 5 s",
            Fault::Process(_) => "no more descriptors 3 s",
            Fault::Message(Deed::Hold) => "held 0.5 s",
            Fault::Message(Deed::Drop) => "lost",
            Fault::Message(Deed::Flip) => "bits flipped",
            Fault::Message(Deed::Cut) => "cut short",
            Fault::Message(Deed::Bare) => "without its descriptors",
            Fault::Message(_) => "twice",
            Fault::DiskFull => "full 3 s",
        };
        let who = match self.who {
            Who::Supervisor => "supervisor",
            Who::Old => "old epoch",
            Who::New => "new epoch",
            Who::Message => "message",
            Who::Disk => "disk",
        };
        format!("{} | {who} | {fault}", self.step.message)
    }
}

/// All cells.
fn all() -> Vec<Cell> {
    let mut cells = Vec::new();
    for step in STEPS {
        for deed in [Deed::Kill, Deed::Stop, Deed::Limit] {
            for who in [Who::Supervisor, Who::Old, Who::New] {
                cells.push(Cell { step, fault: Fault::Process(deed), who });
            }
        }
        for deed in [Deed::Hold, Deed::Drop, Deed::Flip, Deed::Cut, Deed::Bare, Deed::Twice] {
            let between = matches!(step.way, Way::Out | Way::In);
            // See the tap: an answer between epochs is in the kernel's hands or nowhere.
            let impossible = between && matches!(deed, Deed::Hold | Deed::Drop) && step.message == "Taken";
            if !impossible && (deed != Deed::Bare || step.carries) {
                cells.push(Cell { step, fault: Fault::Message(deed), who: Who::Message });
            }
        }
        cells.push(Cell { step, fault: Fault::DiskFull, who: Who::Disk });
    }
    cells
}

/// A few that stand for the rest.
fn some() -> Vec<Cell> {
    let chosen = [
        "Hello | new epoch | killed",
        "Lent | supervisor | killed",
        "Ready | message | cut short",
        "Accept | message | lost",
        "Accepting | supervisor | killed",
        "StopAccepting | old epoch | killed",
        "Stopped | new epoch | killed",
        "Bequeath | message | without its descriptors",
        "Drain | supervisor | killed",
        "Moved | old epoch | killed",
        "Moved | message | bits flipped",
        "Taken | new epoch | killed",
        "Drained | message | lost",
    ];
    all().into_iter().filter(|cell| chosen.contains(&cell.name().as_str())).collect()
}

/// Runs cells, a few at a time: most of a cell is waiting.
fn every(cells: &[Cell], at_once: usize) -> Vec<(Cell, Outcome)> {
    let (next, outcomes) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..at_once {
            scope.spawn(|| {
                while let Some(cell) = cells.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let outcome = run(cell);
                    println!("{} | {outcome}", cell.name());
                    outcomes.lock().expect("nobody panics with it").push((*cell, outcome));
                }
            });
        }
    });
    let mut outcomes = outcomes.into_inner().expect("nobody panics with it");
    outcomes.sort_by_key(|(cell, _)| cells.iter().position(|other| other == cell));
    outcomes
}

fn check(outcomes: &[(Cell, Outcome)]) {
    let faults: Vec<String> = (outcomes.iter())
        .filter(|(_, outcome)| !outcome.faults.is_empty())
        .map(|(cell, outcome)| format!("{}: {}", cell.name(), outcome.faults.join("; ")))
        .collect();
    assert!(faults.is_empty(), "{} of {}:\n{}", faults.len(), outcomes.len(), faults.join("\n"));
    let unreached: Vec<String> =
        outcomes.iter().filter(|(_, outcome)| !outcome.reached).map(|(cell, _)| cell.name()).collect();
    assert!(unreached.is_empty(), "never came to it: {unreached:?}");
}

#[test]
fn a_few_misfortunes_lose_only_what_a_killed_process_held() {
    let _quiet = alone_on_the_machine();
    let cells = some();
    assert_eq!(cells.len(), 13);
    check(&every(&cells, 3));
}

/// All of them, or those whose name contains one of the texts of `HEIRLOOM_CELLS`; `HEIRLOOM_AT_ONCE` of them at a time.
#[test]
fn every_misfortune_loses_only_what_a_killed_process_held() {
    let chosen = std::env::var("HEIRLOOM_CELLS").ok();
    if crate::long_or(1, 0) == 0 && chosen.is_none() {
        println!("skipped: HEIRLOOM_LONG=1 runs it");
        return;
    }
    let _quiet = alone_on_the_machine();
    let words: Vec<&str> = chosen.iter().flat_map(|chosen| chosen.split(',')).collect();
    let wanted = |cell: &Cell| words.is_empty() || words.iter().any(|word| cell.name().contains(word));
    let cells: Vec<Cell> = all().into_iter().filter(wanted).collect();
    let at_once = std::env::var("HEIRLOOM_AT_ONCE").ok().and_then(|count| count.parse().ok()).unwrap_or(3);
    let outcomes = every(&cells, at_once);
    if std::env::var_os("HEIRLOOM_TABLE").is_some() {
        table::write(&outcomes);
    }
    check(&outcomes);
}

/// The property switched off: a process alone that is killed takes what it held with it, and the cell's clients see it.
#[test]
fn the_clients_of_a_cell_see_what_breaks() {
    let world = world::World::start(None);
    let serving = world.proxy.serving();
    let load = world.load();
    let streams = world.streams();
    assert!(load.progress(20) && streams.progress(crate::support::supervised::PATIENCE));
    crate::support::process::signal(nix::unistd::Pid::from_raw(serving.pid), nix::sys::signal::Signal::SIGKILL);
    let tunnels = streams.living();
    crate::support::supervised::eventually(crate::support::supervised::PATIENCE, "they break", || {
        streams.living() == 0
    });
    let fate = streams.close(crate::support::supervised::PATIENCE);
    assert_eq!(fate.broken.len(), tunnels, "{fate}");
    assert!(!load.stop().total().lost.is_empty());
}
