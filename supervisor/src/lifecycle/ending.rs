//! How epochs end: drains, escalation, crashes and their replacement, and the end of the supervisor itself.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::epoch::{Due, Epoch};
use super::{Action, Event, Launch, Lifecycle, Note, Notice, Order, State, StopHow, Ticket, Waiting, Why};
use crate::moment::Moment;
use crate::wire::message::Outcome;

/// What an epoch gets beyond the deadline it was told, to keep it by itself.
const SLACK: Duration = Duration::from_secs(2);
/// How often an epoch is asked whether it is there.
const WATCH: Duration = Duration::from_secs(1);

/// A replacement that waits for its time.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Restart {
    pub(super) at: Moment,
    pub(super) launch: Launch,
}

/// The supervisor's own end.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Stopping {
    #[serde(skip)]
    tickets: Vec<Ticket>,
    code: u8,
    finished: bool,
}

impl Lifecycle {
    /// The epoch is released: it drains within the parent shutdown time.
    pub(super) fn drain(&mut self, number: u64, now: Moment) {
        self.drain_within(number, self.limits.parent_shutdown, now);
    }

    /// As [`Self::drain`], within another time.
    pub(super) fn drain_within(&mut self, number: u64, limit: Duration, now: Moment) {
        let Some(epoch) = self.epochs.get_mut(&number) else { return };
        if epoch.connected {
            epoch.state = State::Draining;
            epoch.draining_since = Some(now);
            epoch.drain_ends = Some(now + limit);
            epoch.due = Some((now + limit + SLACK, Due::Term));
            let recall = if self.recallable() == Some(number) { self.limits.grace } else { Duration::ZERO };
            self.send(number, Order::Drain { deadline: limit, recall });
        } else {
            self.terminate(number, now);
        }
    }

    /// SIGTERM now, SIGKILL when that has not helped.
    pub(super) fn terminate(&mut self, number: u64, now: Moment) {
        self.actions.push(Action::Term { epoch: number });
        self.end_within(number, self.limits.terminate, Due::Kill, now);
    }

    /// SIGKILL now, and again later should it not have arrived.
    pub(super) fn kill(&mut self, number: u64, now: Moment) {
        self.actions.push(Action::Kill { epoch: number });
        self.end_within(number, self.limits.terminate, Due::Kill, now);
    }

    /// The epoch is on its way out; after `limit` the next step follows.
    pub(super) fn end_within(&mut self, number: u64, limit: Duration, step: Due, now: Moment) {
        if let Some(epoch) = self.epochs.get_mut(&number) {
            epoch.state = State::Terminating;
            epoch.due = Some((now + limit.max(Duration::from_millis(1)), step));
        }
    }

    pub(super) fn escalate(&mut self, number: u64, step: Due, now: Moment) {
        match step {
            Due::Term => {
                self.actions.push(Action::Log(format!("epoch {number} has not left in time: SIGTERM")));
                self.terminate(number, now);
            }
            Due::Kill => {
                self.actions.push(Action::Log(format!("epoch {number} has not left in time: SIGKILL")));
                self.kill(number, now);
            }
        }
    }

    /// What is counted of an epoch that is gone.
    pub(super) fn note_gone(&mut self, number: u64, gone: &Epoch, now: Moment) {
        if let Some(since) = gone.draining_since {
            self.actions.push(Action::Note(Note::Drained(now - since)));
        } else if self.serving == Some(number) && !self.is_stopping() {
            self.actions.push(Action::Note(Note::Crashed));
        }
    }

    /// Counts a crash of the serving epoch; one that had been stable does not count against the next.
    pub(super) fn note_crash(&mut self, now: Moment) {
        if self.stable_at <= now {
            self.failures = 0;
        }
    }

    /// Nothing serves: start again, at once the first time, later and later after that.
    pub(super) fn replace_after_crash(&mut self, launch: Launch, now: Moment) {
        if self.is_stopping() {
            return;
        }
        let doublings = self.failures.checked_sub(1);
        let delay = match doublings {
            None => Duration::ZERO,
            Some(doublings) => {
                let factor = 1_u32.checked_shl(doublings).unwrap_or(u32::MAX);
                self.limits.backoff_initial.saturating_mul(factor).min(self.limits.backoff_max)
            }
        };
        self.failures = self.failures.saturating_add(1);
        let text = format!("nothing serves; the next epoch starts in {} s", delay.as_secs_f64());
        self.actions.push(Action::Log(text.clone()));
        self.actions.push(Action::Notify(Notice::Status(text)));
        self.restart = Some(Restart { at: now + delay, launch });
    }

    /// The very first epoch failed: there is nothing to go back to and nobody to serve.
    pub(super) fn stop_for_failed_start(&mut self, now: Moment) {
        self.begin_stopping(1);
        let numbers: Vec<u64> = self.epochs.keys().copied().collect();
        for number in numbers {
            if self.epochs.get(&number).is_some_and(|epoch| epoch.due.is_none()) {
                self.kill(number, now);
            }
        }
        self.finish_stopping();
    }

    /// The end is wanted.
    pub(super) fn stop(&mut self, how: StopHow, ticket: Option<Ticket>, now: Moment) {
        let grace = if how == StopHow::Drain { self.limits.parent_shutdown } else { self.limits.stop };
        if let Some(stopping) = &mut self.stopping {
            stopping.tickets.extend(ticket);
            if how == StopHow::Signal {
                self.gathering = None;
                let numbers: Vec<u64> = self.epochs.keys().copied().collect();
                numbers.into_iter().for_each(|number| self.kill(number, now));
                self.finish_stopping();
            }
            return;
        }
        self.begin_stopping(0);
        if let Some(stopping) = &mut self.stopping {
            stopping.tickets.extend(ticket);
        }
        let numbers: Vec<u64> = self.epochs.keys().copied().collect();
        for number in numbers {
            let Some(epoch) = self.epochs.get_mut(&number) else { continue };
            match epoch.state {
                State::Starting | State::Preparing => self.kill(number, now),
                State::Terminating => {}
                _ if !epoch.connected => self.terminate(number, now),
                State::Ready | State::Probation | State::Active | State::Standby | State::Draining => {
                    // A drain under way keeps its own deadline when that is nearer.
                    let ends = epoch.drain_ends.map_or(now + grace, |ends| ends.min(now + grace));
                    epoch.drain_ends = Some(ends);
                    self.send(number, Order::Terminate { grace: ends - now });
                    self.end_within(number, ends - now + SLACK, Due::Term, now);
                }
            }
        }
        self.finish_stopping();
    }

    fn begin_stopping(&mut self, code: u8) {
        self.stopping = Some(Stopping { tickets: Vec::new(), code, finished: false });
        self.restart = None;
        self.trial = None;
        self.actions.push(Action::Notify(Notice::Stopping));
        if self.attempt.as_ref().is_some_and(|attempt| attempt.takeover && !attempt.released) {
            self.actions.push(Action::Note(Note::Failed(Why::Stopping)));
        }
        let attempt = self.attempt.take().map(|attempt| attempt.tickets);
        let waiting = self.waiting.take().map(|waiting| waiting.tickets);
        let tickets: Vec<Ticket> = attempt.into_iter().chain(waiting).flatten().collect();
        if !tickets.is_empty() {
            let reason = "the supervisor is stopping".to_owned();
            let outcome = Outcome { line: format!("called off: {reason}"), reason, ..Outcome::default() };
            self.actions.push(Action::Answer { tickets, outcome });
        }
    }

    pub(super) fn finish_stopping(&mut self) {
        if !self.epochs.is_empty() || self.gathering.is_some() {
            return;
        }
        let Some(stopping) = self.stopping.as_mut().filter(|stopping| !stopping.finished) else { return };
        stopping.finished = true;
        let (tickets, code) = (std::mem::take(&mut stopping.tickets), stopping.code);
        if !tickets.is_empty() {
            let line = "stopped: every epoch has left".to_owned();
            let outcome = Outcome { ok: true, phase: "stopped".into(), line, ..Outcome::default() };
            self.actions.push(Action::Answer { tickets, outcome });
        }
        self.actions.push(Action::Exit { code });
    }

    /// An epoch of an earlier supervisor has come home.
    pub(super) fn adopt(&mut self, number: u64, epoch: Epoch, generation: u64, now: Moment) {
        let state = epoch.state;
        self.next_epoch = self.next_epoch.max(number + 1);
        if state != State::Preparing {
            self.generation = self.generation.max(generation);
        }
        self.actions.push(Action::Log(format!("epoch {number} (pid {}) adopted as {state}", epoch.pid)));
        let ends = epoch.drain_ends;
        self.epochs.insert(number, epoch);
        if state == State::Preparing {
            // It has served nobody, and who would have told it to is gone.
            return self.terminate(number, now);
        }
        if self.is_stopping() {
            let grace = ends.map_or(self.limits.stop, |ends| self.limits.stop.min(ends - now));
            self.send(number, Order::Terminate { grace });
            return self.end_within(number, grace + SLACK, Due::Term, now);
        }
        if state == State::Draining {
            let left = ends.map_or(self.limits.parent_shutdown, |ends| ends - now);
            if let Some(epoch) = self.epochs.get_mut(&number) {
                epoch.drain_ends = Some(now + left);
                epoch.due = Some((now + left + SLACK, Due::Term));
            }
            return;
        }
        if self.attempt.is_some() || self.serving.is_some_and(|serving| serving > number) {
            // Something newer serves, or is about to: the late-comer lets its connections end.
            return self.drain(number, now);
        }
        if state == State::Standby && self.gathering.is_some() {
            // Whether it has to resume is known when everybody has come.
            return;
        }
        self.instate(number, now);
    }

    /// An adopted epoch is the one that serves.
    fn instate(&mut self, number: u64, now: Moment) {
        if let Some(older) = self.serving.replace(number) {
            self.drain(older, now);
        }
        if self.epochs.get(&number).is_some_and(|epoch| epoch.state != State::Active) {
            self.send(number, Order::Resume);
        }
        self.actions.push(Action::Serving { epoch: number });
        self.restart = None;
        self.has_served = true;
        self.stable_at = now + self.limits.backoff_max;
        self.set_state(number, State::Active);
        self.actions.push(Action::Settled { epoch: number, launch: Launch::Current });
        self.actions.push(Action::Confirmed { epoch: number });
        self.notify_serving("");
    }

    /// Whoever was to come home has, or is not waited for any longer.
    pub(super) fn gathered(&mut self, now: Moment) {
        if self.gathering.take().is_none() {
            return;
        }
        if self.is_stopping() {
            return self.finish_stopping();
        }
        let standing_by = |(number, epoch): (&u64, &Epoch)| (epoch.state == State::Standby).then_some(*number);
        let mut standing_by: Vec<u64> = self.epochs.iter().filter_map(standing_by).collect();
        if self.serving.is_none()
            && let Some(newest) = standing_by.pop()
        {
            self.instate(newest, now);
        }
        standing_by.into_iter().for_each(|number| self.drain(number, now));
        self.begin_waiting(now);
        if self.serving.is_none() && self.attempt.is_none() && self.restart.is_none() {
            self.launch(Launch::Fresh, "start".into(), Vec::new(), now);
        }
    }

    /// Asks who has been silent for a while, and replaces the serving epoch when it stays silent.
    pub(super) fn watch(&mut self, now: Moment) {
        let mut ask = Vec::new();
        for (&number, epoch) in &mut self.epochs {
            let quiet = !matches!(epoch.state, State::Starting | State::Terminating) && epoch.connected;
            if quiet && !epoch.pinged && now - epoch.heard.max(epoch.asked) >= WATCH {
                (epoch.pinged, epoch.asked) = (true, now);
                ask.push(number);
            }
        }
        ask.into_iter().for_each(|number| self.send(number, Order::Ping));
        let limit = self.limits.unresponsive;
        let idle = self.attempt.is_none() && self.waiting.is_none() && !self.is_stopping() && !limit.is_zero();
        let Some(epoch) = self.serving.filter(|_| idle).and_then(|serving| self.epochs.get_mut(&serving)) else {
            return;
        };
        if epoch.pinged && epoch.connected && now - epoch.heard >= limit {
            let reason = format!("it has not answered for {} s", (now - epoch.heard).as_secs());
            epoch.healthy = false;
            epoch.reason.clone_from(&reason);
            // The next complaint comes after another such time, should the replacement fail.
            epoch.heard = now;
            self.actions.push(Action::Log(format!("the serving epoch is replaced: {reason}")));
            self.waiting = Some(Waiting { launch: Launch::Current, cause: "unresponsive".into(), tickets: Vec::new() });
            self.begin_waiting(now);
        }
    }

    /// When [`Lifecycle::watch`] has something to do about this epoch.
    pub(super) fn next_watch(&self, epoch: &Epoch) -> Option<Moment> {
        if matches!(epoch.state, State::Starting | State::Terminating) || !epoch.connected {
            None
        } else if !epoch.pinged {
            Some(epoch.heard.max(epoch.asked) + WATCH)
        } else {
            let limit = self.limits.unresponsive;
            let watched = matches!(epoch.state, State::Active) && self.attempt.is_none() && self.waiting.is_none();
            (watched && !limit.is_zero()).then(|| epoch.heard + limit)
        }
    }
}

impl Event {
    /// For the log, at its finest level.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Start { .. } => "start",
            Self::Adopted(_) => "adopted",
            Self::Request { .. } => "request",
            Self::Stop { .. } => "stop",
            Self::Spawned { .. } => "spawned",
            Self::SpawnFailed { .. } => "spawn failed",
            Self::Said { .. } => "said",
            Self::Offence { .. } => "offence",
            Self::ChannelClosed { .. } => "channel closed",
            Self::Exited { .. } => "exited",
            Self::Gathered => "gathered",
            Self::Tick => "tick",
        }
    }
}
