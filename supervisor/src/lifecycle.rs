//! The lineage as a pure machine: an event and the time go in, actions come out.
//!
//! ```text
//!             Spawn      Hello         Ready        Accepting, old Stopped    probation over
//!   (none) ────────> Starting ──> Preparing ──> Ready ─────────────────> Probation ──────────────> Active
//!                       │             │           │                          │                      │
//!                       └── called off (killed; the old one never noticed) ──┘                      │ a newer one
//!                                                                            │ rolled back          v commits
//!                                                   Draining <───────────────┘      ┌──────────> Standby
//!                                                      ^                            │ Resumed       │
//!                                                      │       released             Active <────────┤
//!                                                      └────────────────────────────────────────────┘
//!   Draining ── deadline ──> Terminating (SIGTERM, then SIGKILL) ──> (gone)
//! ```
//!
//! [`mod@crate::run`] owns the only one and turns its actions into system calls. It promises: at most one takeover at a time; what serves is told to
//! stop only after the next one says that it accepts; every wait has a deadline; requests that come during a takeover
//! become one takeover after it; a draining epoch is ended by its own deadline and by nothing else, short of the supervisor's own stop.
//! Nothing is remembered about an epoch once its process is gone, but that a newcomer died in its grace: until that is over a draining epoch can come
//! back to Standby and Active ([`mod@trial`]).

mod ending;
mod epoch;
mod report;
mod takeover;
#[cfg(test)]
mod tests;
mod trial;
mod types;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::moment::Moment;
use crate::wire::message::{Outcome, Status};
use ending::{Restart, Stopping};
pub(crate) use epoch::State;
use epoch::{Due, Epoch};
use takeover::Attempt;
use trial::Trial;
pub(crate) use types::{
    Action, Adoption, Event, Launch, Limits, Note, Notice, Order, Said, StopHow, Ticket, Want, Why,
};

/// Every living epoch and what is under way.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Lifecycle {
    limits: Limits,
    epochs: BTreeMap<u64, Epoch>,
    next_epoch: u64,
    /// Epochs that came to serve after the first.
    generation: u64,
    /// The epoch that new connections go to once no takeover is under way.
    serving: Option<u64>,
    attempt: Option<Attempt>,
    /// A newcomer that was released and can still be taken back.
    #[serde(default)]
    trial: Option<Trial>,
    /// Requests that wait for the takeover under way, or for a draining epoch to leave; always one takeover's worth.
    #[serde(skip)]
    waiting: Option<Waiting>,
    /// Until when epochs of an earlier supervisor may come home before anything else is begun.
    #[serde(skip)]
    gathering: Option<Moment>,
    /// When to replace an epoch that crashed.
    restart: Option<Restart>,
    /// Crashes without a stable time between them.
    failures: u32,
    /// When the serving epoch will have lived long enough for earlier failures to be forgiven.
    stable_at: Moment,
    stopping: Option<Stopping>,
    /// Whether there is a previous binary and configuration to go back to.
    has_previous: bool,
    /// Whether any epoch has ever served.
    has_served: bool,
    last_outcome: String,
    #[serde(skip)]
    actions: Vec<Action>,
}

/// A request that cannot begin yet.
#[derive(Debug)]
struct Waiting {
    launch: Launch,
    cause: String,
    tickets: Vec<Ticket>,
}

impl Lifecycle {
    /// Nothing runs yet; [`Event::Start`] begins.
    pub(crate) fn new(limits: Limits) -> Self {
        Self {
            limits,
            epochs: BTreeMap::new(),
            next_epoch: 0,
            generation: 0,
            serving: None,
            attempt: None,
            trial: None,
            waiting: None,
            gathering: None,
            restart: None,
            failures: 0,
            stable_at: Moment::default(),
            stopping: None,
            has_previous: false,
            has_served: false,
            last_outcome: String::new(),
            actions: Vec::new(),
        }
    }

    /// Takes one event and says what to do, in order.
    pub(crate) fn handle(&mut self, event: Event, now: Moment) -> Vec<Action> {
        match event {
            Event::Start { adopt_until } => match adopt_until {
                Some(at) => self.gathering = Some(at),
                None => self.launch(Launch::Fresh, "start".into(), Vec::new(), now),
            },
            Event::Adopted(adoption) => {
                let (number, generation) = (adoption.epoch, adoption.generation);
                self.adopt(number, Epoch::adopted(adoption, now), generation, now);
            }
            Event::Request { want, ticket } => self.request(want, ticket, now),
            Event::Stop { how, ticket } => self.stop(how, ticket, now),
            Event::Spawned { epoch, pid } => {
                if let Some(epoch) = self.epochs.get_mut(&epoch) {
                    epoch.pid = pid;
                }
            }
            Event::SpawnFailed { epoch, reason } => {
                self.epochs.remove(&epoch);
                self.actions.push(Action::Forget { epoch });
                self.lost(epoch, &format!("it could not be started: {reason}"), now);
            }
            Event::Said { epoch, what } => self.said(epoch, what, now),
            Event::Offence { epoch, reason } => self.offence(epoch, reason, now),
            Event::ChannelClosed { epoch } => self.channel_closed(epoch, now),
            Event::Exited { epoch, how } => {
                if let Some(gone) = self.epochs.remove(&epoch) {
                    self.note_gone(epoch, &gone, now);
                    self.actions.push(Action::Forget { epoch });
                    self.lost(epoch, &how, now);
                }
            }
            Event::Gathered => self.gathered(now),
            // Time counts only when everything that has come is heard: a supervisor that was itself held up finds answers and deadlines together.
            Event::Tick => {
                self.expire(now);
                self.watch(now);
            }
        }
        self.begin_waiting(now);
        std::mem::take(&mut self.actions)
    }

    /// When to send [`Event::Tick`] at the latest.
    pub(crate) fn deadline(&self) -> Option<Moment> {
        let epochs = self.epochs.values().flat_map(|epoch| [epoch.due.map(|(at, _)| at), self.next_watch(epoch)]);
        let attempt = self.attempt_deadline();
        let restart = self.restart.as_ref().map(|restart| restart.at);
        epochs.chain([attempt, restart, self.gathering, self.trial_deadline()]).flatten().min()
    }

    /// The state of one epoch.
    #[cfg(test)]
    pub(crate) fn state(&self, epoch: u64) -> Option<State> {
        self.epochs.get(&epoch).map(|epoch| epoch.state)
    }

    /// The epoch that accepts connections.
    pub(crate) fn serving(&self) -> Option<u64> {
        self.serving
    }

    /// Other limits, from now on: deadlines that run keep theirs.
    pub(crate) fn set_limits(&mut self, limits: Limits) {
        self.limits = limits;
    }

    /// Whether there is a previous binary and configuration, where that is known better than by the takeovers seen.
    pub(crate) fn set_previous(&mut self, has_previous: bool) {
        self.has_previous = has_previous;
    }

    /// Epochs are numbered from here on at least: earlier numbers belong to processes that live.
    pub(crate) fn number_from(&mut self, number: u64) {
        self.next_epoch = self.next_epoch.max(number);
    }

    /// Whether an epoch serves, or stands by to.
    pub(crate) fn can_serve(&self) -> bool {
        self.serves() || self.epochs.values().any(|epoch| epoch.state == State::Standby)
    }

    /// Whether an epoch serves.
    pub(crate) fn serves(&self) -> bool {
        self.serving.is_some()
    }

    /// Whether an epoch is being started while none serves.
    pub(crate) fn is_starting(&self) -> bool {
        self.serving.is_none() && self.attempt.is_some()
    }

    /// The generation that `epoch` would be welcomed with.
    pub(crate) fn welcome_generation(&self) -> u64 {
        self.generation + u64::from(self.has_served)
    }

    /// Whether the supervisor may replace itself now: nothing is half done.
    pub(crate) fn is_quiet(&self) -> bool {
        let busy = self.attempt.is_some() || self.waiting.is_some() || self.gathering.is_some() || self.is_stopping();
        !busy && self.serving.is_some()
    }

    /// The lineage for the operator; `unix_ms` is the present as Unix time in milliseconds.
    pub(crate) fn status(&self, now: Moment, unix_ms: u64) -> Status {
        report::status(self, now, unix_ms)
    }

    /// The limits, for whoever words a welcome.
    pub(crate) fn limits(&self) -> &Limits {
        &self.limits
    }

    fn said(&mut self, number: u64, what: Said, now: Moment) {
        let Some(epoch) = self.epochs.get_mut(&number) else { return };
        epoch.heard = now;
        epoch.pinged = false;
        match what {
            Said::Hello { version, recalls } => {
                (epoch.version, epoch.recalls) = (version, recalls);
                if epoch.state == State::Starting {
                    epoch.state = State::Preparing;
                } else {
                    self.offence(number, "it introduced itself twice".into(), now);
                }
            }
            Said::Ready { version } => {
                if !version.is_empty() {
                    epoch.version = version;
                }
                self.ready(number, now);
            }
            Said::Failed { report } => self.failed(number, report, now),
            Said::Accepting => self.accepting(number, now),
            Said::Stopped => self.stopped(number, now),
            Said::Resumed => self.resumed(number, now),
            Said::Drained => {
                // It is on its way out, and does not come back.
                epoch.recalls = false;
                if matches!(epoch.state, State::Draining | State::Terminating) {
                    let at = now + self.limits.terminate;
                    epoch.due = Some(epoch.due.map_or((at, Due::Term), |(due, step)| (due.min(at), step)));
                }
            }
            Said::Health { connections, healthy, reason } => {
                epoch.connections = connections;
                epoch.healthy = healthy;
                epoch.reason.clone_from(&reason);
                if !healthy {
                    self.unhealthy(number, &reason, now);
                }
            }
            Said::Pong => {}
        }
    }

    fn request(&mut self, want: Want, ticket: Option<Ticket>, now: Moment) {
        if let Some(reason) = self.refuse(want, ticket) {
            self.actions.push(Action::Log(format!("{} refused: {reason}", want.name())));
            if let Some(ticket) = ticket {
                let outcome = self.refusal(want, reason);
                self.actions.push(Action::Answer { tickets: vec![ticket], outcome });
            } else if !self.is_stopping() {
                self.notify_serving("refused");
            }
            return;
        }
        match &mut self.waiting {
            Some(waiting) if waiting.launch != Launch::Current => waiting.tickets.extend(ticket),
            // What the operator wants replaces what the supervisor wanted by itself.
            _ => {
                let launch = match want {
                    Want::Reload => Launch::Fresh,
                    Want::Rollback => Launch::Previous,
                };
                let tickets = ticket.into_iter().collect();
                self.waiting = Some(Waiting { launch, cause: want.name().into(), tickets });
            }
        }
        self.begin_waiting(now);
        if self.waiting.is_some() {
            let cause = match (&self.attempt, self.gathering) {
                (Some(_), _) => "the takeover under way",
                (None, Some(_)) => "the epochs of an earlier supervisor",
                (None, None) => "a draining epoch to leave",
            };
            self.actions.push(Action::Log(format!("{} waits for {cause}", want.name())));
            if ticket.is_none() && self.attempt.is_none() && self.gathering.is_none() {
                // That may take as long as a drain; whoever waits on the service manager is not kept until then.
                self.actions.push(Action::Notify(Notice::Reloading));
                self.notify_serving("reload waits for a draining epoch to leave: ");
            }
        }
    }

    /// Why a request cannot be taken, if it cannot.
    fn refuse(&self, want: Want, ticket: Option<Ticket>) -> Option<String> {
        if self.is_stopping() {
            return Some("the supervisor is stopping".into());
        }
        if want == Want::Rollback && !self.has_previous {
            return Some("there is no previous binary and configuration to go back to".into());
        }
        if let Some(waiting) = &self.waiting
            && waiting.launch != Launch::Current
            && waiting.cause != want.name()
        {
            return Some(format!("a {} is waiting already", waiting.cause));
        }
        // Somebody who waits for an answer gets it now; a signal is remembered.
        if ticket.is_some() && self.attempt.is_none() && self.is_full() {
            let count = self.draining();
            return Some(format!("{count} epochs are draining, which is the limit, and none is cut short"));
        }
        None
    }

    fn begin_waiting(&mut self, now: Moment) {
        if self.attempt.is_some() || self.gathering.is_some() || self.is_stopping() || self.is_full() {
            return;
        }
        if let Some(Waiting { launch, cause, tickets }) = self.waiting.take() {
            self.restart = None;
            self.launch(launch, cause, tickets, now);
        }
    }

    fn draining(&self) -> usize {
        self.epochs.values().filter(|epoch| epoch.state == State::Draining).count()
    }

    /// Whether one more takeover would make one more draining epoch than may be.
    fn is_full(&self) -> bool {
        self.serving.is_some() && self.draining() >= self.limits.max_draining
    }

    fn is_stopping(&self) -> bool {
        self.stopping.is_some()
    }

    fn send(&mut self, epoch: u64, order: Order) {
        self.actions.push(Action::Send { epoch, order });
    }

    fn answer(&mut self, tickets: Vec<Ticket>, outcome: Outcome) {
        self.last_outcome.clone_from(&outcome.line);
        self.actions.push(Action::Log(outcome.line.clone()));
        if !tickets.is_empty() {
            self.actions.push(Action::Answer { tickets, outcome });
        }
    }

    /// Everything whose time has come.
    fn expire(&mut self, now: Moment) {
        if self.gathering.is_some_and(|at| at <= now) {
            self.gathered(now);
        }
        if self.restart.as_ref().is_some_and(|restart| restart.at <= now)
            && self.attempt.is_none()
            && self.gathering.is_none()
            && !self.is_stopping()
            && let Some(restart) = self.restart.take()
        {
            self.launch(restart.launch, "crash".into(), Vec::new(), now);
        }
        if self.attempt_deadline().is_some_and(|deadline| deadline <= now) {
            self.attempt_overdue(now);
        }
        if self.trial_deadline().is_some_and(|deadline| deadline <= now) {
            self.trial_overdue(now);
        }
        let due: Vec<(u64, Due)> = (self.epochs.iter())
            .filter_map(|(&number, epoch)| epoch.due.filter(|(at, _)| *at <= now).map(|(_, step)| (number, step)))
            .collect();
        for (number, step) in due {
            self.escalate(number, step, now);
        }
    }
}
