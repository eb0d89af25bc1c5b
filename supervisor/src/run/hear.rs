//! What epochs say.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;

use tracing::{info, warn};

use super::peer::{MOST_LOANS, MOST_OFFENCES};
use super::{Supervisor, VERSION};
use crate::lifecycle::{Event, Said};
use crate::moment::millis;
use crate::wire::message::{Hello, Lend, Message, Ready, Refused, Welcome};
use crate::wire::{Error, Lender, MAX_KEYS_PER_LEND, MOVES, PROTOCOL, Packet, RECALLS, TICKETS, Versions, clip};

/// Messages taken from one epoch in one round.
const AT_ONCE: usize = 64;
/// Messages that a process can have left behind when it ended, at most.
const LAST_WORDS: usize = 4096;
/// Longest configuration that is kept for a roll-back, in bytes.
const LONGEST_CONFIGURATION: u64 = 64 << 20;

impl Supervisor {
    /// The channel of an epoch is ready for something.
    pub(super) fn exchange(&mut self, epoch: u64) {
        if let Some(peer) = self.peers.get_mut(&epoch) {
            let result = peer.flush();
            self.check(epoch, result);
        }
        self.listen(epoch, AT_ONCE);
        self.pump();
    }

    /// The process of an epoch has ended: what it still said is heard first.
    pub(super) fn bury(&mut self, epoch: u64) {
        let Some(how) = self.peers.get(&epoch).and_then(|peer| peer.process.reap()) else { return };
        self.listen(epoch, LAST_WORDS);
        self.peers.remove(&epoch);
        // Its channel closed with it; that alone is no news.
        self.events.retain(|event| !matches!(event, Event::ChannelClosed { epoch: closed } if *closed == epoch));
        self.handle(Event::Exited { epoch, how });
    }

    fn listen(&mut self, epoch: u64, most: usize) {
        for _ in 0..most {
            let Some(channel) = self.peers.get(&epoch).and_then(|peer| peer.channel.as_ref()) else { return };
            match channel.try_recv() {
                Ok(None) => return,
                Ok(Some(packet)) => self.hear(epoch, packet),
                Err(Error::Closed) => return self.check(epoch, Err(Error::Closed)),
                Err(error) => self.offended(epoch, error.to_string()),
            }
        }
    }

    fn hear(&mut self, epoch: u64, packet: Packet) {
        let Packet { message, descriptors } = packet;
        let greeted = self.peers.get(&epoch).is_some_and(|peer| peer.protocol.is_some());
        let said = match message {
            Message::Hello(hello) if !greeted => return self.greet(epoch, &hello),
            message if !greeted => return self.offended(epoch, format!("it said {} before Hello", message.name())),
            Message::Lend(lend) => return self.lend(epoch, lend),
            Message::Received(received) => {
                let Some(peer) = self.peers.get_mut(&epoch) else { return };
                let next = match peer.lender.as_mut().map(|lender| lender.received(&received)) {
                    Some(Ok(next)) => next,
                    Some(Err(error)) => return self.offended(epoch, error.to_string()),
                    None => return self.offended(epoch, "it acknowledges a loan that is not under way".into()),
                };
                return match next {
                    Some(packet) => {
                        let result = peer.push(packet);
                        self.check(epoch, result);
                    }
                    None => {
                        peer.lender = None;
                        self.next_loan(epoch);
                    }
                };
            }
            Message::Ready(ready) => {
                self.keep_configuration(epoch, &ready, descriptors);
                info!("epoch {epoch} is ready: {} listeners; {}", ready.listeners, ready.summary);
                Said::Ready { version: clean(ready.version) }
            }
            Message::Failed(failed) => Said::Failed { report: clip(failed.report) },
            Message::Accepting(_) => Said::Accepting,
            Message::Stopped(_) => Said::Stopped,
            Message::Resumed(_) => Said::Resumed,
            Message::Drained(drained) => {
                info!("epoch {epoch} is drained; {} connections were closed at the deadline", drained.closed);
                Said::Drained
            }
            Message::Health(health) => {
                Said::Health { connections: health.connections, healthy: health.healthy, reason: clean(health.reason) }
            }
            Message::Pong(_) => Said::Pong,
            Message::NotUnderstood(unknown) => {
                warn!("epoch {epoch} does not understand messages of kind {}", unknown.tag);
                return;
            }
            other => return self.offended(epoch, format!("{} is not for a supervisor", other.name())),
        };
        self.events.push_back(Event::Said { epoch, what: said });
    }

    fn greet(&mut self, epoch: u64, hello: &Hello) {
        let theirs = Versions { min: hello.protocol_min, max: hello.protocol_max };
        let protocol = match PROTOCOL.agree(theirs) {
            Ok(protocol) => protocol,
            Err(error) => {
                self.tell(epoch, Message::Refused(Refused { reason: error.to_string() }));
                self.events.push_back(Event::Offence { epoch, reason: error.to_string() });
                return;
            }
        };
        let tickets = hello.features.iter().any(|feature| feature == TICKETS);
        let ticket_keys = if tickets { self.ticket_keys() } else { None };
        let limits = self.lifecycle.limits();
        let welcome = Welcome {
            protocol,
            epoch,
            generation: self.lifecycle.welcome_generation(),
            drain_time_ms: millis(limits.drain_time),
            parent_shutdown_time_ms: millis(limits.parent_shutdown),
            drain_strategy: limits.drain_strategy.into(),
            supervisor_version: VERSION.into(),
            control_path: self.control.path().display().to_string(),
            ticket_keys,
        };
        let segment = self.segment.fd().map(|segment| segment.try_clone_to_owned()).transpose();
        let Some(peer) = self.peers.get_mut(&epoch) else { return };
        if hello.pid != peer.process.pid() {
            info!("epoch {epoch} runs as process {} under process {}", hello.pid, peer.process.pid());
        }
        peer.protocol = Some(protocol);
        peer.tickets = tickets;
        peer.moves = hello.features.iter().any(|feature| feature == MOVES);
        let recalls = hello.features.iter().any(|feature| feature == RECALLS);
        let result = match segment {
            Ok(segment) => {
                peer.push(Packet { message: Message::Welcome(welcome), descriptors: segment.into_iter().collect() })
            }
            Err(source) => Err(Error::System { what: "statistics segment", source }),
        };
        self.check(epoch, result);
        self.events
            .push_back(Event::Said { epoch, what: Said::Hello { version: clean(hello.version.clone()), recalls } });
    }

    fn lend(&mut self, epoch: u64, lend: Lend) {
        let Some(peer) = self.peers.get_mut(&epoch) else { return };
        if lend.keys.len() > MAX_KEYS_PER_LEND {
            return self.offended(epoch, format!("it asks for {} sockets at once", lend.keys.len()));
        }
        if peer.loans.len() >= MOST_LOANS {
            return self.offended(epoch, "it asks for too many loans at once".into());
        }
        peer.loans.push_back(lend);
        if peer.lender.is_none() {
            self.next_loan(epoch);
        }
    }

    fn next_loan(&mut self, epoch: u64) {
        let Some(peer) = self.peers.get_mut(&epoch) else { return };
        let Some(lend) = peer.loans.pop_front() else { return };
        let granted = lend.keys.iter().map(|key| self.broker.lend(epoch, key));
        let mut lender = Lender::new(lend.request, granted.collect());
        let result = peer.push(lender.first());
        peer.lender = Some(lender);
        self.check(epoch, result);
    }

    fn keep_configuration(&mut self, epoch: u64, ready: &Ready, descriptors: Vec<OwnedFd>) {
        let Some(descriptor) = descriptors.into_iter().next() else {
            return self.recipes.keep(epoch, None, self.settings.user);
        };
        let text = read(&File::from(descriptor), ready.configuration_bytes);
        match text {
            Ok(text) => self.recipes.keep(epoch, Some(text), self.settings.user),
            Err(error) => {
                warn!("the configuration that epoch {epoch} sent cannot be read: {error}");
                self.recipes.keep(epoch, None, self.settings.user);
            }
        }
    }

    /// The epoch broke the protocol. What it is worth, the machine decides; one that goes on doing it is not listened to.
    fn offended(&mut self, epoch: u64, reason: String) {
        let Some(peer) = self.peers.get_mut(&epoch) else { return };
        peer.offences += 1;
        if peer.offences > MOST_OFFENCES {
            warn!("epoch {epoch} broke the protocol {} times", peer.offences);
            let reason = Error::Unexpected(reason);
            return self.check(epoch, Err(reason));
        }
        self.events.push_back(Event::Offence { epoch, reason });
    }
}

/// Reads a file of a known length without a common position, so that nobody else's reading is disturbed.
fn read(file: &File, length: u64) -> std::io::Result<Vec<u8>> {
    let actual = file.metadata()?;
    if !actual.is_file() || length > LONGEST_CONFIGURATION || actual.len() < length {
        return Err(std::io::Error::other("it is not a file of the length that was said, or too long"));
    }
    let mut text = vec![0; usize::try_from(length).map_err(std::io::Error::other)?];
    file.read_exact_at(&mut text, 0)?;
    Ok(text)
}

/// One line of bounded length, for tables and logs.
fn clean(text: String) -> String {
    let text: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(512).collect();
    text
}
