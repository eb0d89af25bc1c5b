//! After the release: for a grace the newcomer can still be taken back.
//!
//! ```text
//!   released ──── grace ────▶ confirmed: what only the one before asked for is closed
//!       │
//!       ├─ dies, falls silent or says it is unwell, and the one before still drains ──▶ that one resumes, its recipe is the current one again
//!       └─ dies, and the one before has left ──▶ it is started once more; dies again ──▶ the recipe before it is started, and so on in turn
//! ```
//!
//! Connections that have moved to a newcomer that dies are gone with it. One that lives drains, and what it holds moves back. Restarts are paced by
//! [`Lifecycle::replace_after_crash`], so a bad binary is never started without end at full speed.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::takeover::{Attempt, Phase};
use super::{Action, Launch, Lifecycle, Note, Order, State, Why};
use crate::moment::Moment;

/// A newcomer in its grace.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Trial {
    /// The newcomer; after a death the one that was started in its place.
    epoch: u64,
    /// Who served before, while it can be called back.
    old: Option<u64>,
    until: Moment,
    released: Moment,
    launch: Launch,
    cause: String,
    durations: Vec<(Phase, Duration)>,
    /// How often the newcomer's recipe has died.
    deaths: u32,
}

impl Lifecycle {
    /// A takeover was released: its grace begins. With no grace it is final at once.
    pub(super) fn begin_trial(&mut self, attempt: &Attempt, now: Moment) {
        let until = now + self.limits.grace;
        if attempt.launch == Launch::Current {
            // What is started again in place of one that died has the same to show, from the beginning.
            match &mut self.trial {
                Some(trial) if trial.deaths > 0 => (trial.epoch, trial.until) = (attempt.epoch, until),
                _ => self.confirm(attempt.epoch),
            }
            return;
        }
        match attempt.old {
            Some(old) if !self.limits.grace.is_zero() => {
                self.trial = Some(Trial {
                    epoch: attempt.epoch,
                    old: Some(old),
                    until,
                    released: now,
                    launch: attempt.launch,
                    cause: attempt.cause.clone(),
                    durations: attempt.durations.clone(),
                    deaths: 0,
                });
            }
            _ => self.confirm(attempt.epoch),
        }
    }

    /// Whoever was on trial stays, or something else serves: nothing is taken back any more.
    pub(super) fn confirm(&mut self, epoch: u64) {
        self.trial = None;
        self.actions.push(Action::Confirmed { epoch });
    }

    /// Whom the newcomer can still be exchanged for, for the broker: what that one listens at stays open.
    pub(crate) fn recallable(&self) -> Option<u64> {
        let old = self.trial.as_ref()?.old?;
        let able = |epoch: &super::epoch::Epoch| {
            epoch.recalls && epoch.connected && matches!(epoch.state, State::Draining | State::Standby)
        };
        self.epochs.get(&old).filter(|epoch| able(epoch)).map(|_| old)
    }

    /// When the grace ends. A newcomer that owes an answer then has as long as any other answer may take.
    pub(super) fn trial_deadline(&self) -> Option<Moment> {
        let trial = self.trial.as_ref().filter(|trial| self.serving == Some(trial.epoch) && self.attempt.is_none())?;
        let owes = self.epochs.get(&trial.epoch).filter(|epoch| epoch.pinged && epoch.connected);
        Some(owes.map_or(trial.until, |epoch| trial.until.max(epoch.asked + self.limits.commit)))
    }

    pub(super) fn trial_overdue(&mut self, now: Moment) {
        let Some(epoch) = self.trial.as_ref().map(|trial| trial.epoch) else { return };
        let silent = self.epochs.get(&epoch).is_some_and(|epoch| epoch.pinged && epoch.connected);
        let reason = format!("it has not answered for {} s", self.limits.commit.as_secs_f64());
        if !silent || !self.call_back(Why::Silent, &reason, now) {
            self.confirm(epoch);
        }
    }

    /// Has the epoch before resume, if the newcomer is in its grace and that one can.
    pub(super) fn call_back(&mut self, why: Why, reason: &str, now: Moment) -> bool {
        let (Some(old), None, false) = (self.recallable(), &self.attempt, self.is_stopping()) else { return false };
        let Some(trial) = &mut self.trial else { return false };
        // Once: should that one not resume either, the recipe has died once.
        trial.old = None;
        let (number, launch, cause) = (trial.epoch, trial.launch, trial.cause.clone());
        let mut durations = trial.durations.clone();
        durations.push((Phase::Grace, now - trial.released));
        if self.waiting.as_ref().is_some_and(|waiting| waiting.launch == Launch::Current) {
            // What the supervisor itself wanted to replace is replaced by this.
            self.waiting = None;
        }
        if let Some(epoch) = self.epochs.get_mut(&old) {
            // While it is asked, its drain has no end.
            (epoch.due, epoch.drain_ends, epoch.state) = (None, None, State::Standby);
        }
        self.actions.push(Action::Log(format!("epoch {number} is taken back: {reason}; epoch {old} resumes")));
        self.restart = None;
        self.attempt = Some(Attempt {
            epoch: number,
            old: Some(old),
            launch,
            cause,
            tickets: Vec::new(),
            phase: Phase::RollBack,
            deadline: now + self.limits.commit,
            since: now,
            durations,
            reason: reason.to_owned(),
            why,
            takeover: true,
            released: true,
        });
        self.send(old, Order::Resume);
        true
    }

    /// Nothing serves: the one before is called back, or something is started.
    pub(super) fn start_again(&mut self, reason: &str, now: Moment) {
        if !self.call_back(Why::Died, reason, now) {
            let launch = self.next_launch();
            self.replace_after_crash(launch, now);
        }
    }

    /// What to start in place of an epoch that died or did not come up while nothing serves: the same, unless it died in its grace and did so again.
    fn next_launch(&mut self) -> Launch {
        let Some(trial) = &mut self.trial else { return Launch::Current };
        trial.old = None;
        trial.deaths = trial.deaths.saturating_add(1);
        if trial.deaths % 2 == 0 && self.has_previous {
            let text = format!(
                "what epoch {} was started with has died twice within its grace: going back to what was before",
                trial.epoch
            );
            self.actions.push(Action::Log(text));
            self.actions.push(Action::Note(Note::FellBack));
            return Launch::Previous;
        }
        Launch::Current
    }
}
