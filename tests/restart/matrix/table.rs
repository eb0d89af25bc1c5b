//! What came of all cells, as a page.

use std::fmt::Write;
use std::path::Path;

use super::cell::Outcome;
use super::{Cell, Fault};

const HEAD: &str = "\
# What can happen in a takeover, and what comes of it

One row for each cell of {step of the protocol} x {whom it happens to} x {what happens}, under requests on keep-alive and fresh connections and streams that
check every byte. Promised in every cell: no client sees an error but on connections that a killed process held; the service answers
afterwards; the next takeover succeeds; counters never fall; no process and no descriptor is left behind; nobody waits past the deadlines.

This file is written by

    HEIRLOOM_LONG=1 HEIRLOOM_TABLE=1 cargo test --test restart every_misfortune -- --nocapture

(root mounts a small file system for the rows of the full disk; for others those rows say that they were skipped). `HEIRLOOM_CELLS='Moved | old,Taken'` runs
those rows only whose names contain one of the texts; what a row that broke its promise has logged goes to the directory `HEIRLOOM_CELL_LOGS`. The short form, which every run of the suite includes, tries a few rows.

How to read a row: *held* are the connections that nobody but the killed process had at that moment; *lost* those on which a client
saw anything but what it should have; *503* are requests answered so by a process that could open nothing more. *Kept* are streams that went on, of those that were there.
";

/// Replaces the page beside the tests.
pub(super) fn write(outcomes: &[(Cell, Outcome)]) {
    let mut text = HEAD.to_owned();
    let failed = outcomes.iter().filter(|(_, outcome)| !outcome.faults.is_empty()).count();
    let requests: u64 = outcomes.iter().map(|(_, outcome)| outcome.requests).sum();
    let _ = writeln!(
        text,
        "\n{} cells, {requests} requests, {failed} cells broke the promise.\n\n\
         | step | whom | what | requests | held | lost | 503 | streams kept | longest request | what the operator was told | promise |\n\
         |---|---|---|---:|---:|---:|---:|---:|---:|---|---|",
        outcomes.len()
    );
    for (cell, outcome) in outcomes {
        let promise = match &outcome.faults[..] {
            [] if outcome.reached => "kept".to_owned(),
            [] => "not reached".to_owned(),
            faults => format!("**broken**: {}", faults.join("; ")),
        };
        let held = match (outcome.held, cell.fault) {
            (Some(held), Fault::Process(_)) => held.to_string(),
            _ => "-".to_owned(),
        };
        let _ = writeln!(
            text,
            "| {} | {} | {held} | {} | {} | {} of {} | {:.1?} | {} | {} |",
            cell.name(),
            outcome.requests,
            outcome.lost,
            outcome.refused,
            outcome.kept,
            outcome.streams,
            outcome.worst,
            outcome.told.replace('|', "/"),
            promise.replace('|', "/").replace('\n', " "),
        );
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/restart/README.md");
    std::fs::write(&path, text).expect("the page can be written");
}
