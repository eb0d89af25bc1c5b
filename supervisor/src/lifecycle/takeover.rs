//! The takeover: prepare, ready, commit, probation, release, and the two ways back.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::epoch::{Due, Epoch};
use super::{Action, Launch, Lifecycle, Note, Notice, Order, State, Ticket, Why};
use crate::moment::Moment;

/// What a process that closed its channel may still take to be gone before it is killed.
const LAST_BREATH: Duration = Duration::from_millis(250);

/// How far a takeover has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Phase {
    /// The new epoch starts and prepares.
    Prepare,
    /// It is ready and was told to accept.
    Ready,
    /// It accepts; the old one was told to stop.
    Commit,
    /// The old one stands by.
    Probation,
    /// It was released, and could still be taken back.
    Grace,
    /// The old one was told to accept again.
    RollBack,
}

impl Phase {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Prepare => "prepare",
            Self::Ready => "ready",
            Self::Commit => "commit",
            Self::Probation => "probation",
            Self::Grace => "grace",
            Self::RollBack => "roll-back",
        }
    }
}

/// A takeover under way, or a first start (`old` is then absent).
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Attempt {
    pub(super) epoch: u64,
    pub(super) old: Option<u64>,
    pub(super) launch: Launch,
    pub(super) cause: String,
    #[serde(skip)]
    pub(super) tickets: Vec<Ticket>,
    pub(super) phase: Phase,
    pub(super) deadline: Moment,
    pub(super) since: Moment,
    /// Phases that are over.
    pub(super) durations: Vec<(Phase, Duration)>,
    /// Why it is rolled back.
    pub(super) reason: String,
    #[serde(default)]
    pub(super) why: Why,
    /// Whether something served when it began.
    #[serde(default)]
    pub(super) takeover: bool,
    /// It has been released already, and is taken back.
    #[serde(default)]
    pub(super) released: bool,
}

impl Attempt {
    fn enter(&mut self, phase: Phase, limit: Duration, now: Moment) {
        self.durations.push((self.phase, now - self.since));
        self.phase = phase;
        self.since = now;
        self.deadline = now + limit;
    }
}

impl Lifecycle {
    /// Starts an epoch that is to take over from the one that serves, if one does.
    pub(super) fn launch(&mut self, launch: Launch, cause: String, tickets: Vec<Ticket>, now: Moment) {
        let epoch = self.next_epoch;
        self.next_epoch += 1;
        self.epochs.insert(epoch, Epoch::starting(now));
        let takeover = self.serving.is_some();
        if takeover {
            self.actions.push(Action::Notify(Notice::Reloading));
            self.actions.push(Action::Note(Note::Begun));
        }
        self.actions.push(Action::Log(format!("starting epoch {epoch} ({cause})")));
        self.attempt = Some(Attempt {
            epoch,
            old: self.serving,
            launch,
            cause,
            tickets,
            phase: Phase::Prepare,
            deadline: now + self.limits.prepare,
            since: now,
            durations: Vec::new(),
            reason: String::new(),
            why: Why::Died,
            takeover,
            released: false,
        });
        self.actions.push(Action::Spawn { epoch, launch });
    }

    pub(super) fn ready(&mut self, number: u64, now: Moment) {
        let Some(attempt) = self.attempt.as_mut().filter(|a| a.epoch == number && a.phase == Phase::Prepare) else {
            return self.offence(number, "it said Ready out of turn".into(), now);
        };
        attempt.enter(Phase::Ready, self.limits.ready, now);
        self.set_state(number, State::Ready);
        self.send(number, Order::Accept);
    }

    pub(super) fn failed(&mut self, number: u64, report: String, now: Moment) {
        if self.attempt.as_ref().is_some_and(|a| a.epoch == number && a.phase == Phase::Prepare) {
            // It leaves by itself: it has nothing to lose and may still be writing its log.
            self.end_within(number, self.limits.terminate, Due::Kill, now);
            self.call_off(Why::NotReady, "it could not be made ready", report, now);
        }
    }

    pub(super) fn accepting(&mut self, number: u64, now: Moment) {
        let Some(attempt) = self.attempt.as_mut().filter(|a| a.epoch == number && a.phase == Phase::Ready) else {
            return self.offence(number, "it said Accepting out of turn".into(), now);
        };
        attempt.enter(Phase::Commit, self.limits.commit, now);
        match attempt.old {
            Some(old) => self.send(old, Order::StopAccepting),
            None => self.release(None, now),
        }
    }

    pub(super) fn stopped(&mut self, number: u64, now: Moment) {
        let Some(attempt) = self.attempt.as_ref().filter(|attempt| attempt.old == Some(number)) else { return };
        match attempt.phase {
            Phase::Commit => self.begin_probation(now),
            Phase::Probation => self.set_state(number, State::Standby),
            Phase::Prepare | Phase::Ready | Phase::Grace | Phase::RollBack => {}
        }
    }

    fn begin_probation(&mut self, now: Moment) {
        let Some(attempt) = self.attempt.as_mut() else { return };
        attempt.enter(Phase::Probation, self.limits.probation, now);
        let (epoch, old) = (attempt.epoch, attempt.old);
        self.serve(epoch);
        self.set_state(epoch, State::Probation);
        if let Some(old) = old {
            self.set_state(old, State::Standby);
        }
        // From here on it must show that it is alive.
        if let Some(epoch) = self.epochs.get_mut(&epoch) {
            (epoch.pinged, epoch.asked) = (true, now);
        }
        self.send(epoch, Order::Ping);
        // An epoch that complained before it was on probation has not taken it back.
        if let Some(reason) = self.epochs.get(&epoch).filter(|epoch| !epoch.healthy).map(|epoch| epoch.reason.clone()) {
            self.unhealthy(epoch, &reason, now);
        }
    }

    /// The takeover is final: it went well, or it went wrong in a way that leaves only the new epoch.
    fn release(&mut self, complaint: Option<&str>, now: Moment) {
        let Some(mut attempt) = self.attempt.take() else { return };
        attempt.durations.push((attempt.phase, now - attempt.since));
        let number = attempt.epoch;
        if let Some(epoch) = self.epochs.get_mut(&number) {
            epoch.state = State::Active;
            epoch.active_since = now;
        }
        self.serve(number);
        self.restart = None;
        self.stable_at = now + self.limits.backoff_max;
        if attempt.released {
            // It could not be taken back, and was released before.
            self.confirm(number);
        } else {
            self.generation = self.welcome_generation();
            self.has_previous |= self.has_served && attempt.launch != Launch::Current;
            self.has_served = true;
            self.actions.push(Action::Settled { epoch: number, launch: attempt.launch });
            match complaint {
                None if attempt.takeover => self.note_durations(&attempt),
                None => {}
                Some(_) => self.actions.push(Action::Note(Note::Failed(attempt.why))),
            }
            if complaint.is_none() { self.begin_trial(&attempt, now) } else { self.confirm(number) }
        }
        if let Some(old) = attempt.old {
            self.drain(old, now);
        }
        let outcome = match complaint {
            None => self.success(&attempt),
            Some(complaint) => self.failure(&attempt, complaint, String::new()),
        };
        self.answer(attempt.tickets, outcome);
        self.notify_serving("");
    }

    /// Nothing was given up yet: the new epoch goes (unless it is already on its way), the old one never noticed.
    pub(super) fn call_off(&mut self, why: Why, reason: &str, report: String, now: Moment) {
        let Some(mut attempt) = self.attempt.take() else { return };
        attempt.durations.push((attempt.phase, now - attempt.since));
        let number = attempt.epoch;
        if attempt.takeover {
            let resumed = attempt.phase == Phase::RollBack && attempt.old.is_some() && self.serving == attempt.old;
            self.actions.push(Action::Note(if resumed { Note::RolledBack(why) } else { Note::Failed(why) }));
        }
        if self.epochs.get(&number).is_some_and(|epoch| epoch.due.is_none()) {
            if attempt.phase == Phase::Ready && attempt.old.is_some() {
                // It was told to accept and may have: what it has goes back, if it still can, in the time that a process gets to end.
                self.drain_within(number, self.limits.terminate, now);
            } else {
                self.kill(number, now);
            }
        }
        if self.serving == Some(number) {
            self.serving = None;
        }
        match self.serving {
            Some(to) if attempt.released => {
                self.trial = None;
                self.actions.push(Action::Reverted { epoch: number, to });
            }
            // It was released, and nobody could take its place: its recipe stays the current one.
            None if attempt.released => {}
            _ => self.actions.push(Action::CalledOff { epoch: number }),
        }
        let outcome = self.failure(&attempt, reason, report);
        if !outcome.report.is_empty() {
            self.actions.push(Action::Log(format!("epoch {number} reports:\n{}", outcome.report)));
        }
        self.answer(attempt.tickets, outcome);
        if self.serving.is_some() {
            self.notify_serving("takeover failed: ");
        } else if self.has_served {
            self.start_again(reason, now);
        } else {
            self.stop_for_failed_start(now);
        }
    }

    /// The old epoch is asked to serve again. The new one, if it lives, serves until it does.
    fn roll_back(&mut self, why: Why, reason: String, now: Moment) {
        let Some(attempt) = self.attempt.as_mut() else { return };
        let Some(old) = attempt.old else {
            return;
        };
        attempt.why = why;
        attempt.enter(Phase::RollBack, self.limits.commit, now);
        self.actions.push(Action::Log(format!("epoch {} is rolled back: {reason}", attempt.epoch)));
        attempt.reason = reason;
        self.send(old, Order::Resume);
    }

    pub(super) fn resumed(&mut self, number: u64, now: Moment) {
        let ours = |a: &&mut Attempt| a.old == Some(number) && a.phase == Phase::RollBack;
        let Some(attempt) = self.attempt.as_mut().filter(ours) else { return };
        let (epoch, why, reason) = (attempt.epoch, attempt.why, std::mem::take(&mut attempt.reason));
        self.serve(number);
        self.set_state(number, State::Active);
        if let Some(epoch) = self.epochs.get_mut(&number) {
            epoch.draining_since = None;
        }
        // It may hold connections that are worth ending well.
        if self.epochs.get(&epoch).is_some_and(|epoch| epoch.due.is_none()) {
            self.drain(epoch, now);
        }
        self.call_off(why, &reason, String::new(), now);
    }

    pub(super) fn unhealthy(&mut self, number: u64, reason: &str, now: Moment) {
        let on_trial = |a: &&Attempt| a.epoch == number && matches!(a.phase, Phase::Commit | Phase::Probation);
        if self.attempt.as_ref().filter(on_trial).is_some_and(|attempt| attempt.old.is_some()) {
            self.roll_back(Why::Unhealthy, format!("it reported itself unhealthy: {reason}"), now);
        } else if self.serving == Some(number) {
            self.call_back(Why::Unhealthy, &format!("it reported itself unhealthy: {reason}"), now);
        }
    }

    /// An epoch broke the protocol. A newcomer is not given a second chance; one that serves is, because its connections are worth more.
    pub(super) fn offence(&mut self, number: u64, reason: String, now: Moment) {
        self.actions.push(Action::Log(format!("epoch {number}: {reason}")));
        let Some(attempt) = self.attempt.as_ref().filter(|attempt| attempt.epoch == number) else { return };
        match attempt.phase {
            Phase::Prepare | Phase::Ready => self.call_off(Why::Protocol, &reason, String::new(), now),
            Phase::Commit | Phase::Probation => self.roll_back(Why::Protocol, reason, now),
            Phase::Grace | Phase::RollBack => {}
        }
    }

    pub(super) fn channel_closed(&mut self, number: u64, now: Moment) {
        let newcomer = self.attempt.as_ref().is_some_and(|attempt| attempt.epoch == number);
        let Some(epoch) = self.epochs.get_mut(&number) else { return };
        epoch.connected = false;
        // Mostly the process is about to be reaped. If not, it cannot be spoken to, and an end by signal is all that is left.
        let (limit, step) = if newcomer { (LAST_BREATH, Due::Kill) } else { (self.limits.commit, Due::Term) };
        let at = now + limit;
        epoch.due = Some(epoch.due.filter(|(due, _)| *due <= at).unwrap_or((at, step)));
    }

    /// A process is gone (its record is removed already).
    pub(super) fn lost(&mut self, number: u64, how: &str, now: Moment) {
        self.actions.push(Action::Log(format!("epoch {number} is gone: {how}")));
        let served = self.serving == Some(number);
        if served {
            self.serving = None;
        }
        match self.attempt.as_ref().map(|attempt| (attempt.epoch == number, attempt.old == Some(number), attempt.phase))
        {
            Some((true, _, Phase::Prepare | Phase::Ready)) => self.call_off(Why::Died, how, String::new(), now),
            Some((true, _, Phase::Commit | Phase::Probation)) => {
                if self.attempt.as_ref().is_some_and(|attempt| attempt.old.is_some()) {
                    self.roll_back(Why::Died, how.to_owned(), now);
                } else {
                    self.call_off(Why::Died, how, String::new(), now);
                }
            }
            // The old one has been asked to resume already.
            Some((true, _, Phase::Grace | Phase::RollBack)) => {}
            Some((_, true, phase)) => self.lost_old(phase, now),
            _ if served && !self.is_stopping() => {
                self.note_crash(now);
                self.start_again(how, now);
            }
            _ => {}
        }
        self.finish_stopping();
    }

    /// The old epoch died during the takeover: there is nothing to go back to.
    fn lost_old(&mut self, phase: Phase, now: Moment) {
        let Some(attempt) = self.attempt.as_mut() else { return };
        attempt.old = None;
        let (epoch, why, reason) = (attempt.epoch, attempt.why, attempt.reason.clone());
        match phase {
            Phase::Prepare | Phase::Ready | Phase::Grace => {}
            Phase::Commit | Phase::Probation => self.release(None, now),
            Phase::RollBack if self.epochs.contains_key(&epoch) => self.keep_unwell(&reason, now),
            Phase::RollBack => self.call_off(why, &reason, String::new(), now),
        }
    }

    /// The takeover cannot be undone, but the new epoch lives: it serves on, and the operator is told the truth.
    fn keep_unwell(&mut self, reason: &str, now: Moment) {
        let Some(attempt) = self.attempt.as_mut() else { return };
        attempt.old = None;
        let text = format!("{reason}; the old epoch could not resume, so the new one serves on");
        self.release(Some(&text), now);
    }

    /// When the takeover's step must be over. A newcomer on probation that owes an answer has as long as any other answer may take.
    pub(super) fn attempt_deadline(&self) -> Option<Moment> {
        let attempt = self.attempt.as_ref()?;
        let owes = self.epochs.get(&attempt.epoch).filter(|epoch| attempt.phase == Phase::Probation && epoch.pinged);
        Some(owes.map_or(attempt.deadline, |epoch| epoch.asked + self.limits.commit))
    }

    pub(super) fn attempt_overdue(&mut self, now: Moment) {
        let Some(attempt) = self.attempt.as_ref() else { return };
        let (epoch, old, phase, why) = (attempt.epoch, attempt.old, attempt.phase, attempt.why);
        let limit = |length: Duration| format!("{} s", length.as_secs_f64());
        match phase {
            Phase::Prepare => {
                let reason = format!("it was not ready within {}", limit(self.limits.prepare));
                self.call_off(Why::Late, &reason, String::new(), now);
            }
            Phase::Ready => {
                let reason = format!("it did not begin to accept within {}", limit(self.limits.ready));
                self.call_off(Why::Late, &reason, String::new(), now);
            }
            Phase::Commit => {
                if let Some(old) = old.and_then(|old| self.epochs.get_mut(&old)) {
                    old.healthy = false;
                    "it does not answer".clone_into(&mut old.reason);
                }
                self.actions.push(Action::Log("the old epoch did not say that it stopped; going on without it".into()));
                self.begin_probation(now);
            }
            Phase::Probation if self.epochs.get(&epoch).is_some_and(|epoch| epoch.pinged) => {
                self.roll_back(Why::Silent, format!("it has not answered for {}", limit(self.limits.commit)), now);
            }
            Phase::Probation => self.release(None, now),
            Phase::Grace => {}
            Phase::RollBack => {
                let reason = attempt.reason.clone();
                if let Some(old) = old {
                    self.terminate(old, now);
                }
                if self.epochs.contains_key(&epoch) {
                    self.keep_unwell(&reason, now);
                } else {
                    let reason = format!("{reason}; the old epoch could not resume either");
                    self.call_off(why, &reason, String::new(), now);
                }
            }
        }
    }

    fn note_durations(&mut self, attempt: &Attempt) {
        let notes = attempt.durations.iter().map(|(phase, time)| Note::Phase(phase.name(), *time));
        let total = Note::Released(attempt.durations.iter().map(|(_, time)| *time).sum());
        self.actions.extend(notes.chain([total]).map(Action::Note));
    }

    /// New connections go to this epoch.
    fn serve(&mut self, number: u64) {
        self.serving = Some(number);
        self.actions.push(Action::Serving { epoch: number });
    }

    pub(super) fn set_state(&mut self, number: u64, state: State) {
        if let Some(epoch) = self.epochs.get_mut(&number) {
            epoch.state = state;
        }
    }
}
