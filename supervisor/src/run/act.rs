//! What the machine wants done.

use std::io;

use nix::sys::signal::Signal;
use tracing::{info, warn};

use super::Supervisor;
use super::peer::Peer;
use crate::broker::Change;
use crate::lifecycle::{Action, Event, Launch, Order};
use crate::moment::millis;
use crate::process::Process;
use crate::systemd;
use crate::wire::message::{
    Accept, Bequeath, Drain, Heir, Message, Ping, ReopenLogs, Resume, StopAccepting, Terminate,
};
use crate::wire::{Channel, Error, Packet};

impl Supervisor {
    pub(super) fn act(&mut self, action: Action) {
        match action {
            Action::Spawn { epoch, launch } => match self.spawn(epoch, launch) {
                Ok(pid) => self.events.push_back(Event::Spawned { epoch, pid }),
                Err(error) => self.events.push_back(Event::SpawnFailed { epoch, reason: error.to_string() }),
            },
            Action::Send { epoch, order } => self.order(epoch, &order),
            Action::Term { epoch } => self.signal(epoch, Signal::SIGTERM),
            Action::Kill { epoch } => self.signal(epoch, Signal::SIGKILL),
            Action::Serving { epoch } => self.segment.set_newest(epoch),
            Action::Forget { epoch } => {
                let lanes = self.segment.fold(epoch);
                info!("the statistics of epoch {epoch} are folded ({lanes} lanes)");
                self.broker.forget(epoch);
                self.write_lineage();
            }
            Action::Settled { epoch, launch: _ } => {
                self.recipes.settle(epoch);
                if self.recipes.previous.is_some() {
                    self.lifecycle.set_previous(true);
                }
            }
            Action::Confirmed { epoch } => {
                self.broker.settled(epoch);
                self.recipes.confirm();
            }
            Action::Reverted { epoch, to } => {
                self.broker.called_off(epoch);
                self.broker.settled(to);
                self.recipes.revert();
                self.lifecycle.set_previous(self.recipes.previous.is_some());
            }
            Action::Note(note) => {
                if let Some(figures) = &self.figures {
                    figures.count(note);
                }
            }
            Action::CalledOff { epoch } => {
                self.broker.called_off(epoch);
                self.recipes.call_off(epoch);
            }
            Action::Answer { tickets, outcome } => self.control.answer_all(&tickets, &outcome),
            Action::Notify(notice) => systemd::tell(&notice),
            Action::Log(text) => info!("{text}"),
            Action::Exit { code } => self.exit = Some(code),
        }
    }

    /// Sends everybody the word to reopen log files.
    pub(super) fn reopen_logs(&mut self) {
        info!("SIGUSR1: log files are reopened");
        let epochs: Vec<u64> = self.peers.keys().copied().collect();
        for epoch in epochs {
            self.tell(epoch, Message::ReopenLogs(ReopenLogs {}));
        }
    }

    /// Sends a message; a channel that is of no more use is closed.
    pub(super) fn tell(&mut self, epoch: u64, message: Message) {
        let Some(peer) = self.peers.get_mut(&epoch) else { return };
        let result = peer.say(message);
        self.check(epoch, result);
    }

    pub(super) fn check(&mut self, epoch: u64, result: Result<(), Error>) {
        if let Err(error) = result {
            if !matches!(error, Error::Closed) {
                warn!("the channel to epoch {epoch} is given up: {error}");
            }
            if let Some(peer) = self.peers.get_mut(&epoch).filter(|peer| peer.channel.is_some()) {
                peer.close();
                self.events.push_back(Event::ChannelClosed { epoch });
            }
        }
    }

    /// Passes what the broker changed on to the service manager's store.
    pub(super) fn tell_store(&mut self) {
        for change in self.broker.changes.drain(..) {
            match change {
                Change::Keep { name, sockets } => systemd::store(&name, &sockets),
                Change::Drop { name } => systemd::unstore(&name),
            }
        }
    }

    fn spawn(&mut self, epoch: u64, launch: Launch) -> io::Result<u32> {
        let recipe = self.recipes.draw(epoch, launch, &self.settings.command)?;
        let (ours, theirs) = Channel::pair().map_err(io::Error::other)?;
        let process = Process::spawn(recipe, epoch, &theirs, self.settings.user)?;
        let pid = process.pid();
        self.peers.insert(epoch, Peer::new(process, ours));
        self.recipes.write();
        self.write_lineage();
        Ok(pid)
    }

    fn signal(&self, epoch: u64, signal: Signal) {
        if let Some(peer) = self.peers.get(&epoch) {
            peer.process.signal(signal);
        }
    }

    fn order(&mut self, epoch: u64, order: &Order) {
        if let (Order::Drain { .. }, Some(heir)) = (order, self.lifecycle.serving()) {
            self.introduce(epoch, heir);
        }
        let limits = self.lifecycle.limits();
        let message = match order {
            Order::Accept => Message::Accept(Accept {}),
            Order::StopAccepting => Message::StopAccepting(StopAccepting {}),
            Order::Resume => Message::Resume(Resume {}),
            Order::Drain { deadline, recall } => Message::Drain(Drain {
                recall_ms: millis(*recall),
                deadline_ms: millis(*deadline),
                drain_time_ms: millis(limits.drain_time),
                strategy: limits.drain_strategy.into(),
            }),
            Order::Terminate { grace } => Message::Terminate(Terminate { grace_ms: millis(*grace) }),
            Order::Ping => Message::Ping(Ping { token: 0 }),
        };
        self.tell(epoch, message);
    }

    /// Gives an epoch that is about to drain a way to the one that serves, where both can use it. Without one it simply drains.
    fn introduce(&mut self, epoch: u64, heir: u64) {
        let able = |epoch| self.peers.get(epoch).is_some_and(|peer| peer.moves && peer.channel.is_some());
        if epoch == heir || !able(&epoch) || !able(&heir) {
            return;
        }
        let (old, new) = match Channel::pair() {
            Ok(pair) => pair,
            Err(error) => return warn!("connections of epoch {epoch} do not move: {error}"),
        };
        for (epoch, message, end) in [
            (heir, Message::Heir(Heir { from_epoch: epoch }), new),
            (epoch, Message::Bequeath(Bequeath { to_epoch: heir }), old),
        ] {
            if let Some(peer) = self.peers.get_mut(&epoch) {
                let result = peer.push(Packet { message, descriptors: vec![end.into()] });
                self.check(epoch, result);
            }
        }
    }
}
