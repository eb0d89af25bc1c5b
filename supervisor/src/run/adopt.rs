//! Epochs of a supervisor that died: they come to the control socket, hand back their sockets, and are one of ours again.

use std::fs;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use nix::sys::signal::Signal;
use nix::time::{ClockId, clock_gettime};
use nix::unistd::{SysconfVar, sysconf};
use tracing::{info, warn};

use super::figures::Figures;
use super::peer::Peer;
use super::{Supervisor, VERSION, recipes, store_segment};
use crate::lifecycle::{Adoption, Event, State};
use crate::moment::{Moment, millis};
use crate::process::Process;
use crate::shm::Segment;
use crate::wire::message::{Adopt, Hello, Message, Refused, Standing, Welcome};
use crate::wire::{Borrower, Channel, Error, MOVES, PROTOCOL, Packet, RECALLS, TICKETS, Versions};

/// How long epochs that have come wait for others that are known to live.
const WAIT: Duration = Duration::from_secs(3);
/// How long the first start waits for epochs that live and do not come, where no limit is set.
const HUNG: Duration = Duration::from_secs(30);
/// How long an orphan may take to hand over its sockets.
const HANDING_OVER: Duration = Duration::from_secs(10);
/// Most sockets of one orphan's message.
const MOST_KEYS: usize = 4096;

/// An epoch that hands over.
#[derive(Debug)]
pub(super) struct Orphan {
    channel: Channel,
    adopt: Adopt,
    protocol: u32,
    pid: u32,
    borrower: Option<Borrower>,
    until: Moment,
    failed: bool,
}

impl Orphan {
    pub(super) fn channel(&self) -> BorrowedFd<'_> {
        self.channel.as_fd()
    }

    pub(super) fn deadline(&self) -> Moment {
        self.until
    }
}

impl Supervisor {
    /// Until when to wait for epochs of an earlier supervisor, if any lives.
    pub(super) fn expect_orphans(&mut self) -> Option<Moment> {
        let text = fs::read_to_string(self.settings.run_dir.join("lineage")).unwrap_or_default();
        let lives = |line: &str| {
            let (epoch, pid, born) = entry(line)?;
            // First held, then asked: a number that is held cannot change hands.
            let process = Process::hold(pid, false).ok()?;
            let same = birth(pid)?.as_str() == born;
            // The handle knows of every thread: what a dying process holds is free only after the last one.
            (same && process.reap().is_none()).then_some((epoch, process))
        };
        self.expected = text.lines().filter_map(lives).collect();
        if self.expected.is_empty() {
            // What an earlier supervisor knew ended with what it started.
            self.recipes.clear();
        } else {
            let living: Vec<u32> = self.expected.values().map(Process::pid).collect();
            self.recipes.restore(&living);
            self.lifecycle.set_previous(self.recipes.previous.is_some());
        }
        let folded = self.segment.fold_gone(|epoch| self.expected.contains_key(&epoch));
        if folded > 0 {
            info!("{folded} lanes of epochs that are gone are folded");
        }
        if self.expected.is_empty() {
            return None;
        }
        info!("{} epochs of an earlier supervisor live; waiting for them", self.expected.len());
        // Numbers are not used twice while one who bears such a number may live, wherever it is.
        let numbers = text.lines().filter_map(|line| line.split(' ').next()?.parse::<u64>().ok());
        self.lifecycle.number_from(numbers.max().map_or(0, |highest| highest.saturating_add(1)));
        // While nobody has come, whoever lives holds the sockets: one that hangs gets as long as it would from its own supervisor.
        let unresponsive = self.lifecycle.limits().unresponsive;
        let patience = if unresponsive.is_zero() { HUNG } else { unresponsive.max(WAIT) };
        let now = Moment::now();
        (self.gather_until, self.expected_until) = (Some(now + WAIT), Some(now + patience));
        Some(now + patience + WAIT)
    }

    /// Looks who of those that were expected has come or gone.
    pub(super) fn gather(&mut self) {
        if self.expected.is_empty() {
            return;
        }
        let mut gone = Vec::new();
        self.expected.retain(|epoch, process| {
            let has_ended = process.reap().is_some();
            if has_ended && !self.peers.contains_key(epoch) {
                gone.push(*epoch);
            }
            !has_ended && !self.peers.contains_key(epoch)
        });
        for epoch in &gone {
            let lanes = self.segment.fold(*epoch);
            info!("epoch {epoch} left without having come home; its statistics are folded ({lanes} lanes)");
        }
        if !gone.is_empty() {
            self.write_lineage();
        }
        let now = Moment::now();
        if self.gather_until.is_some_and(|until| until <= now) {
            self.gather_until = None;
            if self.lifecycle.can_serve() {
                // The others may hang, or speak no protocol with adoption: they have the longest drain there is.
                self.expected_until = Some(now + self.lifecycle.limits().parent_shutdown);
                self.handle(Event::Gathered);
            }
        }
        if self.expected_until.is_some_and(|until| until <= now) {
            self.expected_until = None;
            for (epoch, process) in &self.expected {
                warn!("epoch {epoch} of an earlier supervisor has not come home: SIGKILL");
                process.signal(Signal::SIGKILL);
            }
        }
        if self.expected.is_empty() {
            (self.gather_until, self.expected_until) = (None, None);
            self.handle(Event::Gathered);
        }
    }

    /// Writes down which processes live, for the next supervisor should this one die.
    pub(super) fn write_lineage(&self) {
        let peers = self.peers.iter().map(|(epoch, peer)| (epoch, &peer.process));
        let line = |(epoch, process): (&u64, &Process)| {
            let pid = process.pid();
            birth(pid).map(|born| format!("{epoch} {pid} {born}\n"))
        };
        let lines: String = peers.chain(&self.expected).filter_map(line).collect();
        let path = self.settings.run_dir.join("lineage");
        if let Err(error) = recipes::replace(&path, lines.as_bytes()) {
            warn!("{}: {error}", path.display());
        }
    }

    /// An orphan has come.
    pub(super) fn orphan(&mut self, channel: Channel, packet: Packet, pid: u32) {
        let refuse = |channel: &Channel, reason: String| {
            warn!("process {pid} is not adopted: {reason}");
            let _ = channel.try_send(&Message::Refused(Refused { reason }), &[]);
        };
        let Message::Adopt(adopt) = packet.message else { return };
        let hello = adopt.hello.clone().unwrap_or_default();
        let theirs = Versions { min: hello.protocol_min, max: hello.protocol_max };
        let protocol = match PROTOCOL.agree(theirs) {
            Ok(protocol) if Versions::can_adopt(protocol) => protocol,
            Ok(protocol) => return refuse(&channel, format!("version {protocol} has no adoption")),
            Err(error) => return refuse(&channel, error.to_string()),
        };
        let known = self.peers.contains_key(&adopt.epoch) || self.orphans.iter().any(|o| o.adopt.epoch == adopt.epoch);
        if known {
            refuse(&channel, format!("epoch {} is known already", adopt.epoch));
            // One that nobody knew of until it came, and whose number was given again: it must not share the queues for ever.
            let is_another = self.peers.get(&adopt.epoch).is_some_and(|peer| peer.process.pid() != pid);
            if is_another {
                self.send_off(pid, adopt.standing());
            }
            return;
        }
        if self.lifecycle.is_starting() {
            return refuse(&channel, "another epoch is being started; it serves until that one does".into());
        }
        if adopt.keys.len() > MOST_KEYS {
            return refuse(&channel, format!("{} sockets are too many", adopt.keys.len()));
        }
        match packet.descriptors.into_iter().next().map(Segment::attach) {
            Some(Ok(segment)) if segment.id() == self.segment.id() => {}
            Some(Ok(segment)) if self.peers.is_empty() && self.orphans.is_empty() => {
                // Nobody has counted into ours yet.
                segment.recover();
                // Who died while nobody was there to bury it.
                segment.fold_gone(|epoch| epoch == adopt.epoch || self.expected.contains_key(&epoch));
                self.figures = Some(Figures::new(&segment));
                self.segment = segment;
                if let Some(descriptor) = self.segment.fd() {
                    store_segment(descriptor);
                }
            }
            Some(Ok(_)) => {
                refuse(&channel, "it counts into another statistics segment".into());
                return self.send_off(pid, adopt.standing());
            }
            Some(Err(error)) => return refuse(&channel, error.to_string()),
            None => return refuse(&channel, "it brings no statistics segment".into()),
        }
        self.take_back_tickets(adopt.ticket_keys.as_ref());
        let tickets = hello.features.iter().any(|feature| feature == TICKETS);
        let ticket_keys = if tickets { self.ticket_keys() } else { None };
        let limits = self.lifecycle.limits();
        let welcome = Message::Welcome(Welcome {
            protocol,
            epoch: adopt.epoch,
            generation: adopt.generation,
            drain_time_ms: millis(limits.drain_time),
            parent_shutdown_time_ms: millis(limits.parent_shutdown),
            drain_strategy: limits.drain_strategy.into(),
            supervisor_version: VERSION.into(),
            control_path: self.control.path().display().to_string(),
            ticket_keys,
        });
        match channel.try_send(&welcome, &[]) {
            Ok(true) => {}
            Ok(false) | Err(_) => return,
        }
        let borrower = Some(Borrower::new(0, adopt.keys.len()));
        let until = Moment::now() + HANDING_OVER;
        self.orphans.push(Orphan { channel, adopt, protocol, pid, borrower, until, failed: false });
    }

    /// One that came too late, for another serves: it drains by itself, so that the two do not share the queues for ever.
    fn send_off(&self, pid: u32, standing: Standing) {
        if self.lifecycle.serves()
            && standing != Standing::Draining
            && let Ok(process) = Process::hold(pid, false)
        {
            info!("process {pid} is told to drain: another epoch serves");
            process.signal(Signal::SIGTERM);
        }
    }

    /// An orphan hands over sockets.
    pub(super) fn hear_orphan(&mut self, index: usize) {
        let Some(orphan) = self.orphans.get_mut(index) else { return };
        let packet = match orphan.channel.try_recv() {
            Ok(None) => return,
            Ok(Some(packet)) => packet,
            Err(error) => {
                warn!("process {} broke off its adoption: {error}", orphan.pid);
                orphan.failed = true;
                return;
            }
        };
        let Message::Lent(lent) = packet.message else {
            // It serves meanwhile; what it reports is heard when it is ours.
            return;
        };
        let Some(borrower) = orphan.borrower.as_mut() else { return };
        let result = borrower.take(lent, packet.descriptors).and_then(|(received, complete)| {
            let sent = orphan.channel.try_send(&Message::Received(received), &[])?;
            if sent { Ok(complete) } else { Err(Error::Unexpected("it does not read".into())) }
        });
        match result {
            Ok(false) => {}
            Ok(true) => self.take_in(index),
            Err(error) => {
                warn!("process {} broke off its adoption: {error}", orphan.pid);
                orphan.failed = true;
            }
        }
    }

    /// Forgets orphans that did not finish.
    pub(super) fn settle_orphans(&mut self, now: Moment) {
        self.orphans.retain(|orphan| !orphan.failed && now < orphan.until);
    }

    fn take_in(&mut self, index: usize) {
        let Orphan { channel, adopt, protocol, pid, borrower, .. } = self.orphans.swap_remove(index);
        let epoch = adopt.epoch;
        let granted = borrower.map(Borrower::finish).unwrap_or_default();
        for (key, sockets) in adopt.keys.into_iter().zip(granted) {
            let taken = sockets.and_then(|sockets| self.broker.take_back(epoch, key, sockets));
            if let Err(error) = taken {
                warn!("epoch {epoch} hands back a socket that is not used: {error}");
            }
        }
        let is_child = false;
        let process = match Process::hold(pid, is_child) {
            Ok(process) => process,
            Err(error) => return warn!("process {pid} is not adopted: {error}"),
        };
        let mut peer = Peer::new(process, channel);
        peer.protocol = Some(protocol);
        self.peers.insert(epoch, peer);
        self.write_lineage();
        let state = match Standing::try_from(adopt.standing) {
            Ok(Standing::Accepting) => State::Active,
            Ok(Standing::Stopped) => State::Standby,
            Ok(Standing::Draining) => State::Draining,
            Ok(Standing::Preparing) | Err(_) => State::Preparing,
        };
        let deadline =
            (state == State::Draining).then(|| Moment::now() + Duration::from_millis(adopt.drain_remaining_ms));
        let Hello { version, features, .. } = adopt.hello.unwrap_or_default();
        let has = |name: &str| features.iter().any(|feature| feature == name);
        if let Some(peer) = self.peers.get_mut(&epoch) {
            peer.moves = has(MOVES);
            peer.tickets = has(TICKETS);
        }
        if let Some(figures) = &self.figures {
            figures.adopted();
        }
        let generation = adopt.generation;
        let started = started(pid).unwrap_or_else(Moment::now);
        let recalls = has(RECALLS);
        self.handle(Event::Adopted(Adoption { epoch, pid, version, generation, state, deadline, started, recalls }));
    }
}

/// A line of the lineage: epoch, process, and when that was born.
fn entry(line: &str) -> Option<(u64, u32, &str)> {
    let mut words = line.split(' ');
    Some((words.next()?.parse().ok()?, words.next()?.parse().ok()?, words.next()?))
}

/// A lineage as somebody may have left it.
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn fuzz(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    for (epoch, pid, born) in text.lines().filter_map(entry) {
        let line = format!("{epoch} {pid} {born}");
        assert_eq!(entry(&line), Some((epoch, pid, born)));
        // Only this process: holding another's number proves nothing about the parser.
        if pid == std::process::id() {
            let _ = Process::hold(pid, false).map(|process| process.reap());
        }
    }
}

/// When a process was started: the kernel counts from the start of the system and through its sleep.
fn started(pid: u32) -> Option<Moment> {
    let ticks: u64 = birth(pid)?.parse().ok()?;
    let per_second = u64::try_from(sysconf(SysconfVar::CLK_TCK).ok()??).ok().filter(|ticks| *ticks > 0)?;
    let up = Duration::from(clock_gettime(ClockId::CLOCK_BOOTTIME).ok()?);
    let born = Duration::from_millis(ticks.saturating_mul(1000) / per_second);
    Some(Moment(Moment::now().0.saturating_sub(millis(up.saturating_sub(born)))))
}

/// When a process was born, in the kernel's count: with its number, an identity.
fn birth(pid: u32) -> Option<String> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name, in parentheses, may hold anything; what follows it does not.
    let (_, rest) = text.rsplit_once(')')?;
    rest.split_whitespace().nth(19).map(str::to_owned)
}
