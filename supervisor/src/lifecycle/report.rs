//! The truth in words: outcomes and the status table.

use std::time::Duration;

use super::takeover::{Attempt, Phase};
use super::{Action, Lifecycle, Notice, State, Want};
use crate::moment::{Moment, millis};
use crate::wire::message::{EpochStatus, Outcome, PhaseTime, Status};

impl Lifecycle {
    /// The outcome of a takeover that was released.
    pub(super) fn success(&self, attempt: &Attempt) -> Outcome {
        let version = self.epochs.get(&attempt.epoch).map(|epoch| epoch.version.as_str()).unwrap_or_default();
        let old = match attempt.old {
            Some(old) if self.epochs.contains_key(&old) => format!(", epoch {old} drains"),
            _ => String::new(),
        };
        let line = format!(
            "{} done: epoch {}{} serves{old} ({})",
            attempt.cause,
            attempt.epoch,
            if version.is_empty() { String::new() } else { format!(" (version {version})") },
            durations(&attempt.durations)
        );
        Outcome { ok: true, phase: "released".into(), line, ..self.outcome(attempt) }
    }

    /// The outcome of a takeover that was called off or rolled back.
    pub(super) fn failure(&self, attempt: &Attempt, reason: &str, report: String) -> Outcome {
        let serving = match self.serving {
            Some(serving) => format!("epoch {serving} serves on"),
            None => "nothing serves".into(),
        };
        // A roll-back is named by the phase that failed.
        let phase = attempt.durations.iter().rev().map(|(phase, _)| *phase).find(|phase| *phase != Phase::RollBack);
        let phase = phase.unwrap_or(attempt.phase).name();
        let verb = if attempt.released { "was taken back" } else { "failed" };
        let line = format!(
            "{} {verb} in {phase}: epoch {}: {reason}; {serving} ({})",
            attempt.cause,
            attempt.epoch,
            durations(&attempt.durations)
        );
        Outcome { phase: phase.into(), reason: reason.into(), report, line, ..self.outcome(attempt) }
    }

    /// A request that was not even begun.
    pub(super) fn refusal(&self, want: Want, reason: String) -> Outcome {
        let line = format!("{} refused: {reason}", want.name());
        Outcome { phase: "refused".into(), serving: self.serving, reason, line, ..Outcome::default() }
    }

    fn outcome(&self, attempt: &Attempt) -> Outcome {
        let durations = attempt.durations.iter();
        let durations = durations.map(|(phase, time)| PhaseTime { phase: phase.name().into(), ms: millis(*time) });
        Outcome {
            epoch: Some(attempt.epoch),
            serving: self.serving,
            durations: durations.collect(),
            ..Outcome::default()
        }
    }

    /// Tells systemd who serves.
    pub(super) fn notify_serving(&mut self, prefix: &str) {
        if let Some(serving) = self.serving {
            let separator = if prefix.is_empty() || prefix.ends_with(' ') { "" } else { ": " };
            self.actions.push(Action::Notify(Notice::Ready(format!("{prefix}{separator}epoch {serving} serves"))));
        }
    }

    fn phase_line(&self) -> String {
        if self.stopping.is_some() {
            return "stopping".into();
        }
        let waiting = match &self.waiting {
            Some(waiting) => format!("; a {} waits", waiting.cause),
            None => String::new(),
        };
        match &self.attempt {
            Some(attempt) => match attempt.old {
                Some(old) => {
                    format!("takeover from epoch {old} to {}: {}{waiting}", attempt.epoch, attempt.phase.name())
                }
                None => format!("start of epoch {}: {}{waiting}", attempt.epoch, attempt.phase.name()),
            },
            None => match (self.serving, &self.restart) {
                (Some(serving), _) => format!("epoch {serving} serves{waiting}"),
                (None, Some(_)) => format!("nothing serves, a start is due{waiting}"),
                (None, None) => format!("nothing serves{waiting}"),
            },
        }
    }
}

pub(super) fn status(lineage: &Lifecycle, now: Moment, unix_ms: u64) -> Status {
    let epochs = lineage.epochs.iter().map(|(&number, epoch)| {
        let draining = matches!(epoch.state, State::Draining | State::Terminating);
        EpochStatus {
            epoch: number,
            pid: epoch.pid,
            version: epoch.version.clone(),
            state: epoch.state.to_string(),
            age_ms: millis(now - epoch.started),
            connections: epoch.connections,
            draining_until_unix_ms: epoch.drain_ends.filter(|_| draining).map(|ends| unix_ms + millis(ends - now)),
            healthy: epoch.healthy,
            reason: epoch.reason.clone(),
            draining_ms: epoch.draining_since.map(|since| millis(now - since)),
        }
    });
    Status {
        generation: lineage.generation,
        phase: lineage.phase_line(),
        last_outcome: lineage.last_outcome.clone(),
        epochs: epochs.collect(),
        has_previous: lineage.has_previous,
        grace_ms: lineage.recallable().and(lineage.trial_deadline()).map(|until| millis(until - now)),
        ..Status::default()
    }
}

fn durations(durations: &[(Phase, Duration)]) -> String {
    let parts: Vec<String> =
        durations.iter().map(|(phase, time)| format!("{} {} ms", phase.name(), time.as_millis())).collect();
    parts.join(", ")
}
