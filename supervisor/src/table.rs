//! `status` for a human.

use crate::wire::message::{EpochStatus, Status};

const HEAD: [&str; 7] = ["EPOCH", "PID", "VERSION", "STATE", "AGE", "CONNECTIONS", "DRAINING UNTIL"];

/// Families of counters that `status` shows, and what it calls them.
pub(crate) const FAMILIES: [(&str, &str); 3] = [
    ("connections moved", "server.connections_moved."),
    ("connections not moved", "server.connections_refused."),
    ("takeovers", "supervisor.takeovers."),
];

/// The lineage as a table with a line above and, after a takeover, one below.
pub(crate) fn status(status: &Status) -> String {
    let mut rows = vec![HEAD.map(String::from)];
    rows.extend(status.epochs.iter().map(row));
    let width = |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max();
    let widths: Vec<usize> = (0..HEAD.len()).map(|column| width(column).unwrap_or(0)).collect();
    let mut text = format!(
        "supervisor {} (process {}): {}; takeovers: {}, sockets: {}\n",
        status.supervisor_version, status.supervisor_pid, status.phase, status.generation, status.sockets
    );
    for row in &rows {
        let cells: Vec<String> = row.iter().zip(&widths).map(|(cell, &width)| format!("{cell:<width$}")).collect();
        text += cells.join("  ").trim_end();
        text.push('\n');
    }
    for epoch in status.epochs.iter().filter(|epoch| !epoch.healthy) {
        text += &format!("epoch {} is not well: {}\n", epoch.epoch, epoch.reason);
    }
    for (what, family) in FAMILIES {
        let of = status.counts.iter().filter_map(|tally| Some((tally.name.strip_prefix(family)?, tally.count)));
        let tallies: Vec<String> = of.map(|(name, count)| format!("{name} {count}")).collect();
        if !tallies.is_empty() {
            text += &format!("{what}: {}\n", tallies.join(", "));
        }
    }
    if let Some(ms) = status.grace_ms {
        text += &format!("the newest epoch can be taken back for another {}\n", length(ms));
    }
    if !status.last_outcome.is_empty() {
        text += &format!("last: {}\n", status.last_outcome);
    }
    text
}

fn row(epoch: &EpochStatus) -> [String; 7] {
    let dash = |text: &str| if text.is_empty() { "-".to_owned() } else { text.to_owned() };
    [
        epoch.epoch.to_string(),
        epoch.pid.to_string(),
        dash(&epoch.version),
        epoch.state.clone(),
        length(epoch.age_ms),
        epoch.connections.to_string(),
        epoch.draining_until_unix_ms.map(time).unwrap_or_else(|| "-".into()),
    ]
}

fn length(ms: u64) -> String {
    let seconds = ms / 1000;
    match seconds {
        0..60 => format!("{}.{}s", seconds, ms % 1000 / 100),
        60..3600 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        3600..86400 => format!("{}h{:02}m", seconds / 3600, seconds / 60 % 60),
        _ => format!("{}d{:02}h", seconds / 86400, seconds / 3600 % 24),
    }
}

/// The time of day, in UTC: a drain lasts minutes.
fn time(unix_ms: u64) -> String {
    let seconds = unix_ms / 1000 % 86400;
    format!("{:02}:{:02}:{:02} UTC", seconds / 3600, seconds / 60 % 60, seconds % 60)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::message::Tally;

    #[test]
    fn a_table_lines_up() {
        let epoch = |epoch, state: &str, until| EpochStatus {
            epoch,
            pid: 4000,
            version: "1.0".into(),
            state: state.into(),
            age_ms: 61_000,
            connections: 12,
            draining_until_unix_ms: until,
            healthy: epoch != 2,
            reason: "no upstream".into(),
            draining_ms: None,
        };
        let tally = |name: &str, count| Tally { name: name.into(), count };
        let lineage = Status {
            supervisor_pid: 7,
            supervisor_version: "0.1".into(),
            generation: 2,
            phase: "epoch 2 serves".into(),
            last_outcome: "reload done".into(),
            sockets: 3,
            counts: vec![
                tally("server.connections_moved.http1", 500),
                tally("server.connections_moved.tcp", 2),
                tally("server.connections_refused.limit", 1),
            ],
            has_previous: true,
            grace_ms: Some(2300),
            epochs: vec![epoch(1, "draining", Some(3_723_000)), epoch(2, "active", None)],
        };
        let expected = "\
supervisor 0.1 (process 7): epoch 2 serves; takeovers: 2, sockets: 3
EPOCH  PID   VERSION  STATE     AGE    CONNECTIONS  DRAINING UNTIL
1      4000  1.0      draining  1m01s  12           01:02:03 UTC
2      4000  1.0      active    1m01s  12           -
epoch 2 is not well: no upstream
connections moved: http1 500, tcp 2
connections not moved: limit 1
the newest epoch can be taken back for another 2.3s
last: reload done
";
        assert_eq!(status(&lineage), expected);
    }

    #[test]
    fn lengths_are_short() {
        let lengths =
            [(900, "0.9s"), (59_999, "59.9s"), (3_599_000, "59m59s"), (7_260_000, "2h01m"), (90_000_000, "1d01h")];
        for (ms, text) in lengths {
            assert_eq!(length(ms), text);
        }
    }
}
