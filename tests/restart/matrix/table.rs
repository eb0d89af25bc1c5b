//! What came of all cells, as a page.

use std::fmt::Write;
use std::fs;
use std::path::Path;

use super::cell::Outcome;
use super::{Cell, Fault, all};

const HEAD: &str = "\
# What can happen in a takeover, and what comes of it

One row for each cell of {step of the protocol} x {whom it happens to} x {what happens}, under requests on keep-alive and fresh connections and streams that
check every byte. Promised in every cell: no client sees an error but on connections that a killed process held; the service answers
afterwards; the next takeover succeeds; counters never fall; no process and no descriptor is left behind; nobody waits past the deadlines.

This file is written by

    HEIRLOOM_LONG=1 HEIRLOOM_TABLE=1 cargo test --test restart every_misfortune -- --nocapture

(root mounts a small file system for the rows of the full disk; for others those rows say that they were skipped). `HEIRLOOM_CELLS='Moved | old,Taken'` runs
those rows only whose names contain one of the texts, and leaves the others on the page as they were; what a row that broke its promise has logged goes to the directory `HEIRLOOM_CELL_LOGS`. The short form, which every run of the suite includes, tries a few rows.

How to read a row: *held* are the connections that nobody but the killed process had at that moment; *lost* those on which a client
saw anything but what it should have; *503* are requests answered so by a process that could open nothing more. *Kept* are streams that went on, of those that were there.
";

/// One row: the cell's name, which is its first three columns, and the rest.
struct Row {
    name: String,
    line: String,
}

impl Row {
    fn of(cell: &Cell, outcome: &Outcome) -> Self {
        let promise = match &outcome.faults[..] {
            [] if outcome.reached => "kept".to_owned(),
            [] => "not reached".to_owned(),
            faults => format!("**broken**: {}", faults.join("; ")),
        };
        let held = match (outcome.held, cell.fault) {
            (Some(held), Fault::Process(_)) => held.to_string(),
            _ => "-".to_owned(),
        };
        let (name, told) = (cell.name(), outcome.told.replace('|', "/"));
        let line = format!(
            "| {name} | {} | {held} | {} | {} | {} of {} | {:.1?} | {told} | {} |",
            outcome.requests,
            outcome.lost,
            outcome.refused,
            outcome.kept,
            outcome.streams,
            outcome.worst,
            promise.replace('|', "/").replace('\n', " "),
        );
        Self { name, line }
    }

    /// Of a page that was written before.
    fn read(line: &str) -> Option<Self> {
        let columns: Vec<&str> = line.split('|').map(str::trim).collect();
        let [_, step, who, what, ..] = columns[..] else { return None };
        Some(Self { name: format!("{step} | {who} | {what}"), line: line.to_owned() })
    }

    fn requests(&self) -> u64 {
        self.line.split('|').nth(4).and_then(|count| count.trim().parse().ok()).unwrap_or(0)
    }
}

/// Writes the page beside the tests: these rows anew, and of the page that was there those that were not tried.
pub(super) fn write(outcomes: &[(Cell, Outcome)]) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/restart/README.md");
    let before: Vec<Row> = fs::read_to_string(&path).unwrap_or_default().lines().filter_map(Row::read).collect();
    let rows: Vec<Row> = all()
        .iter()
        .filter_map(|cell| match outcomes.iter().find(|(tried, _)| tried == cell) {
            Some((cell, outcome)) => Some(Row::of(cell, outcome)),
            None => before
                .iter()
                .find(|row| row.name == cell.name())
                .map(|row| Row { name: cell.name(), line: row.line.clone() }),
        })
        .collect();
    let kept = rows.iter().filter(|row| row.line.ends_with("| kept |")).count();
    let requests: u64 = rows.iter().map(Row::requests).sum();
    let mut text = HEAD.to_owned();
    let _ = writeln!(
        text,
        "\n{} cells, {requests} requests; {kept} kept the promise.\n\n\
         | step | whom | what | requests | held | lost | 503 | streams kept | longest request | what the operator was told | promise |\n\
         |---|---|---|---:|---:|---:|---:|---:|---:|---|---|",
        rows.len()
    );
    for row in rows {
        let _ = writeln!(text, "{}", row.line);
    }
    fs::write(&path, text).expect("the page can be written");
}
