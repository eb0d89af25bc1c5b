//! What the supervisor is told: flags, and a small YAML file with the same keys. A flag wins over the file, the file over the default.

#[cfg(test)]
mod tests;

use std::env;
use std::ffi::OsString;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;

use crate::lifecycle::Limits;
use crate::process::User;
use crate::wire::message::DrainStrategy;

/// Longest configuration file of the supervisor, in bytes.
const LONGEST: u64 = 1 << 20;
/// Longest time that can be set, in seconds: about three years.
const LONGEST_TIME: f64 = 1e8;

/// Every key, as a flag (`--drain-time-s`) and in the file (`drain_time_s`).
#[derive(Clone, Debug, Default, PartialEq, clap::Args, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Options {
    /// Directory of the control socket; made with mode 0700 [default: $RUNTIME_DIRECTORY, $XDG_RUNTIME_DIR/heirloom, /run/heirloom or
    /// /tmp/heirloom-UID]
    #[arg(long, value_name = "DIR")]
    run_dir: Option<PathBuf>,
    /// Over which the gradual strategy closes more and more [default: 600]
    #[arg(long, value_name = "SECONDS")]
    drain_time_s: Option<f64>,
    /// When a draining epoch must have left [default: 900]
    #[arg(long, value_name = "SECONDS")]
    parent_shutdown_time_s: Option<f64>,
    /// gradual or immediate [default: gradual]
    #[arg(long, value_name = "STRATEGY", value_parser = strategy)]
    drain_strategy: Option<DrainStrategy>,
    /// Most epochs that drain at once; a further takeover waits or is refused [default: 5]
    #[arg(long, value_name = "N")]
    max_draining: Option<usize>,
    /// From the start of an epoch until it is ready [default: 60]
    #[arg(long, value_name = "SECONDS")]
    prepare_time_s: Option<f64>,
    /// From the order to accept until it is carried out [default: 5]
    #[arg(long, value_name = "SECONDS")]
    ready_time_s: Option<f64>,
    /// From the order to stop accepting, or to resume, until it is carried out [default: 5]
    #[arg(long, value_name = "SECONDS")]
    commit_time_s: Option<f64>,
    /// How long the old epoch stands by to take over again before the takeover is released [default: 0.15]
    #[arg(long, value_name = "SECONDS")]
    probation_time_s: Option<f64>,
    /// For how long after the release a new epoch that dies or is unwell is taken back: the one before resumes while it drains, and is started again when
    /// it has left and the new one died twice; 0 never [default: 5]
    #[arg(long, value_name = "SECONDS")]
    grace_time_s: Option<f64>,
    /// From SIGTERM to SIGKILL [default: 10]
    #[arg(long, value_name = "SECONDS")]
    terminate_time_s: Option<f64>,
    /// How long epochs may drain when the supervisor is told to stop [default: 30]
    #[arg(long, value_name = "SECONDS")]
    stop_time_s: Option<f64>,
    /// Silence after which the serving epoch is replaced; 0 never [default: 30]
    #[arg(long, value_name = "SECONDS")]
    unresponsive_time_s: Option<f64>,
    /// Delay before a second replacement in a row; doubles from there [default: 0.1]
    #[arg(long, value_name = "SECONDS")]
    backoff_initial_s: Option<f64>,
    /// The longest such delay, and the time after which an epoch counts as stable [default: 30]
    #[arg(long, value_name = "SECONDS")]
    backoff_max_s: Option<f64>,
    /// How often the keys of TLS session tickets are turned; the two before open still [default: 43200]
    #[arg(long, value_name = "SECONDS")]
    session_ticket_rotation_s: Option<f64>,
    /// User to run epochs as, by name or number (needs root)
    #[arg(long, value_name = "USER")]
    user: Option<String>,
    /// The command of an epoch: heirloom -c FILE …
    #[arg(last = true, value_name = "COMMAND")]
    #[serde(deserialize_with = "command")]
    command: Vec<String>,
}

/// What came of it, checked.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Settings {
    pub(crate) command: Vec<OsString>,
    pub(crate) run_dir: PathBuf,
    pub(crate) limits: Limits,
    pub(crate) user: Option<User>,
    /// How often the keys of session tickets are turned.
    pub(crate) ticket_rotation: Duration,
}

impl Options {
    /// Only a run directory: all that an operator's command needs.
    pub(crate) fn at(run_dir: Option<PathBuf>) -> Self {
        Self { run_dir, ..Self::default() }
    }

    /// Reads the file.
    ///
    /// # Errors
    /// Unreadable, not YAML, an unknown key, or a value of the wrong kind; with the place.
    pub(crate) fn from_file(path: &Path) -> Result<Self, String> {
        let within = |error: std::io::Error| format!("{}: {error}", path.display());
        let mut text = String::new();
        fs::File::open(path).map_err(within)?.take(LONGEST + 1).read_to_string(&mut text).map_err(within)?;
        if text.len() as u64 > LONGEST {
            return Err(format!("{}: longer than {LONGEST} bytes", path.display()));
        }
        Self::parse(&text).map_err(|error| format!("{}: {error}", path.display()))
    }

    fn parse(text: &str) -> Result<Self, String> {
        if text.lines().all(|line| line.trim().is_empty() || line.trim_start().starts_with('#')) {
            return Ok(Self::default());
        }
        serde_yaml::from_str(text).map_err(|error| error.to_string())
    }

    /// This, and `other` where this says nothing.
    pub(crate) fn or(self, other: Self) -> Self {
        Self {
            run_dir: self.run_dir.or(other.run_dir),
            drain_time_s: self.drain_time_s.or(other.drain_time_s),
            parent_shutdown_time_s: self.parent_shutdown_time_s.or(other.parent_shutdown_time_s),
            drain_strategy: self.drain_strategy.or(other.drain_strategy),
            max_draining: self.max_draining.or(other.max_draining),
            prepare_time_s: self.prepare_time_s.or(other.prepare_time_s),
            ready_time_s: self.ready_time_s.or(other.ready_time_s),
            commit_time_s: self.commit_time_s.or(other.commit_time_s),
            probation_time_s: self.probation_time_s.or(other.probation_time_s),
            grace_time_s: self.grace_time_s.or(other.grace_time_s),
            terminate_time_s: self.terminate_time_s.or(other.terminate_time_s),
            stop_time_s: self.stop_time_s.or(other.stop_time_s),
            unresponsive_time_s: self.unresponsive_time_s.or(other.unresponsive_time_s),
            backoff_initial_s: self.backoff_initial_s.or(other.backoff_initial_s),
            backoff_max_s: self.backoff_max_s.or(other.backoff_max_s),
            session_ticket_rotation_s: self.session_ticket_rotation_s.or(other.session_ticket_rotation_s),
            user: self.user.or(other.user),
            command: if self.command.is_empty() { other.command } else { self.command },
        }
    }

    /// Where a supervisor with these options has its control socket; several where nothing says which.
    pub(crate) fn run_dirs(&self) -> Vec<PathBuf> {
        match &self.run_dir {
            Some(directory) => vec![directory.clone()],
            None => default_run_dirs(|name| env::var_os(name), nix::unistd::geteuid().as_raw()),
        }
    }

    /// Checked, with defaults.
    ///
    /// # Errors
    /// Every fault, one per line.
    pub(crate) fn settle(self) -> Result<Settings, String> {
        let mut faults = Vec::new();
        let mut time = |name: &str, value: Option<f64>, default: f64, least: f64| {
            let value = value.unwrap_or(default);
            if (least..=LONGEST_TIME).contains(&value) {
                Duration::from_secs_f64(value)
            } else {
                faults.push(format!("{name}: {value} is not between {least} and {LONGEST_TIME} seconds"));
                Duration::ZERO
            }
        };
        let ticket_rotation = time("session_ticket_rotation_s", self.session_ticket_rotation_s, 43200.0, 0.1);
        let limits = Limits {
            prepare: time("prepare_time_s", self.prepare_time_s, 60.0, 0.1),
            ready: time("ready_time_s", self.ready_time_s, 5.0, 0.1),
            commit: time("commit_time_s", self.commit_time_s, 5.0, 0.1),
            probation: time("probation_time_s", self.probation_time_s, 0.15, 0.0),
            grace: time("grace_time_s", self.grace_time_s, 5.0, 0.0),
            terminate: time("terminate_time_s", self.terminate_time_s, 10.0, 0.1),
            stop: time("stop_time_s", self.stop_time_s, 30.0, 0.0),
            drain_time: time("drain_time_s", self.drain_time_s, 600.0, 0.0),
            parent_shutdown: time("parent_shutdown_time_s", self.parent_shutdown_time_s, 900.0, 0.0),
            unresponsive: time("unresponsive_time_s", self.unresponsive_time_s, 30.0, 0.0),
            backoff_initial: time("backoff_initial_s", self.backoff_initial_s, 0.1, 0.001),
            backoff_max: time("backoff_max_s", self.backoff_max_s, 30.0, 0.001),
            drain_strategy: self.drain_strategy.unwrap_or(DrainStrategy::Gradual),
            max_draining: self.max_draining.unwrap_or(5),
        };
        if limits.max_draining == 0 {
            faults.push("max_draining: at least one epoch must be allowed to drain".into());
        }
        if self.command.is_empty() {
            faults.push("command: there is none; say it after --, for instance: -- heirloom -c FILE".into());
        }
        let user = match self.user.as_deref().map(User::find).transpose() {
            Ok(Some(_)) if !nix::unistd::geteuid().is_root() => {
                faults.push("user: only root can run epochs as another user".into());
                None
            }
            Ok(user) => user,
            Err(fault) => {
                faults.push(fault);
                None
            }
        };
        let run_dir = self.run_dirs().into_iter().next().unwrap_or_default();
        if faults.is_empty() {
            let command = self.command.into_iter().map(OsString::from).collect();
            Ok(Settings { command, run_dir, limits, user, ticket_rotation })
        } else {
            Err(faults.join("\n"))
        }
    }
}

/// A configuration file of any kind: faults in words, or settings.
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn fuzz(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let settled = Options::parse(text).and_then(Options::settle);
    assert!(settled.is_ok() || settled.is_err_and(|faults| !faults.is_empty()), "refused without a reason");
}

fn default_run_dirs(variable: impl Fn(&str) -> Option<OsString>, uid: u32) -> Vec<PathBuf> {
    let runtime = variable("RUNTIME_DIRECTORY").filter(|value| !value.is_empty());
    // systemd separates several with colons; the first is ours.
    let runtime = runtime.and_then(|list| env::split_paths(&list).next());
    let session = variable("XDG_RUNTIME_DIR").filter(|value| !value.is_empty());
    let session = session.map(|directory| PathBuf::from(directory).join("heirloom"));
    let last = if uid == 0 { PathBuf::from("/run/heirloom") } else { PathBuf::from(format!("/tmp/heirloom-{uid}")) };
    runtime.into_iter().chain(session).chain([last]).collect()
}

fn strategy(text: &str) -> Result<DrainStrategy, String> {
    match text {
        "gradual" => Ok(DrainStrategy::Gradual),
        "immediate" => Ok(DrainStrategy::Immediate),
        _ => Err("gradual or immediate".into()),
    }
}

/// A command in the file: a list of words, or one line that is split at spaces.
fn command<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Form {
        Words(Vec<String>),
        Line(String),
    }
    let wrong = |_| serde::de::Error::custom("command: neither a list of words nor one line of them");
    Ok(match Form::deserialize(deserializer).map_err(wrong)? {
        Form::Words(words) => words,
        Form::Line(line) => line.split_whitespace().map(String::from).collect(),
    })
}
