//! The operator's commands, and what they answer.

use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use serde::Deserialize;

use super::bins;
use super::supervised::within;

/// The state of the epoch that accepts connections, as `status` calls it.
pub(crate) const SERVING: &str = "active";
/// The state of an epoch that drains, as `status` calls it.
pub(crate) const DRAINING: &str = "draining";

/// One row of `status --json`.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct EpochRow {
    /// Its number.
    pub(crate) epoch: u64,
    /// Its process.
    pub(crate) pid: i32,
    /// By name.
    pub(crate) state: String,
    /// At its last report.
    pub(crate) connections: u64,
    /// Since it was started.
    pub(crate) age_ms: u64,
    /// When its drain ends, as Unix time in milliseconds.
    #[serde(default)]
    pub(crate) draining_until_unix_ms: Option<u64>,
}

/// How often something has happened.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Tally {
    /// What.
    pub(crate) name: String,
    /// How often.
    pub(crate) count: u64,
}

/// `status --json`.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Status {
    /// Takeovers so far.
    pub(crate) generation: u64,
    /// How the last takeover ended.
    pub(crate) last_outcome: String,
    /// Whether there is something to go back to.
    pub(crate) has_previous: bool,
    /// For how long the newcomer can be taken back.
    pub(crate) grace_ms: Option<u64>,
    /// By the names of the statistics.
    pub(crate) counts: Vec<Tally>,
    /// Oldest first.
    pub(crate) epochs: Vec<EpochRow>,
}

impl Status {
    /// Epochs in a state.
    pub(crate) fn in_state(&self, state: &str) -> Vec<&EpochRow> {
        self.epochs.iter().filter(|row| row.state == state).collect()
    }
}

/// How an operator's command ended.
#[derive(Debug)]
pub(crate) struct Operated {
    /// Its exit status.
    pub(crate) status: ExitStatus,
    /// What it printed.
    pub(crate) stdout: String,
    /// What it complained about.
    pub(crate) stderr: String,
    /// How long it took.
    pub(crate) took: Duration,
}

impl Operated {
    /// Everything that was said.
    pub(crate) fn said(&self) -> String {
        format!("{}{}", self.stdout, self.stderr)
    }
}

/// A running operator's command.
pub(crate) struct Operating {
    child: Child,
    begun: Instant,
}

impl Operating {
    /// Starts one.
    pub(crate) fn begin(arguments: &[&str], run_dir: &Path) -> Self {
        let mut command = Command::new(bins::supervisor());
        command.args(arguments).arg("--run-dir").arg(run_dir);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = command.spawn().expect("the operator's command can be started");
        Self { child, begun: Instant::now() }
    }

    /// Waits for its end for so long; then it is ended, as by an impatient operator.
    pub(crate) fn wait_within(mut self, time: Duration) -> Option<Operated> {
        if within(time, || matches!(self.child.try_wait(), Ok(Some(_)) | Err(_))) {
            return Some(self.wait());
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
        None
    }

    /// Waits for its end.
    pub(crate) fn wait(self) -> Operated {
        let output = self.child.wait_with_output().expect("the command can be waited for");
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Operated {
            status: output.status,
            stdout: text(output.stdout),
            stderr: text(output.stderr),
            took: self.begun.elapsed(),
        }
    }
}
