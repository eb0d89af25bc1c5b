//! One epoch as the loop sees it: its process, its channel, what waits to be sent.

use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd};

use nix::poll::PollFlags;

use crate::process::Process;
use crate::wire::message::{Lend, Message};
use crate::wire::{Channel, Error, Lender, Packet};

/// Most messages that wait for one epoch to read them.
const LONGEST_QUEUE: usize = 256;
/// Most loans that one epoch may have asked for at once.
pub(super) const MOST_LOANS: usize = 64;
/// How often one epoch may break the protocol before it is not listened to any more.
pub(super) const MOST_OFFENCES: u32 = 16;

#[derive(Debug)]
pub(super) struct Peer {
    pub(super) process: Process,
    /// Gone when the other side closed it, or lost it.
    pub(super) channel: Option<Channel>,
    queue: VecDeque<Packet>,
    /// Loans that wait for the one under way.
    pub(super) loans: VecDeque<Lend>,
    pub(super) lender: Option<Lender>,
    /// The protocol version, once it said hello.
    pub(super) protocol: Option<u32>,
    pub(super) offences: u32,
    /// Connections can move from it and to it.
    pub(super) moves: bool,
    /// It uses the keys of session tickets.
    pub(super) tickets: bool,
}

impl Peer {
    pub(super) fn new(process: Process, channel: Channel) -> Self {
        Self {
            process,
            channel: Some(channel),
            queue: VecDeque::new(),
            loans: VecDeque::new(),
            lender: None,
            protocol: None,
            offences: 0,
            moves: false,
            tickets: false,
        }
    }

    /// One that an earlier image of this process knew.
    pub(super) fn resumed(process: Process, channel: Option<Channel>, protocol: Option<u32>, offences: u32) -> Self {
        let (queue, loans, lender) = (VecDeque::new(), VecDeque::new(), None);
        Self { process, channel, queue, loans, lender, protocol, offences, moves: false, tickets: false }
    }

    /// What to poll the channel for.
    pub(super) fn interest(&self) -> Option<(BorrowedFd<'_>, PollFlags)> {
        let flags = if self.queue.is_empty() { PollFlags::POLLIN } else { PollFlags::POLLIN | PollFlags::POLLOUT };
        self.channel.as_ref().map(|channel| (channel.as_fd(), flags))
    }

    /// Sends now or when there is room.
    ///
    /// # Errors
    /// The channel is of no more use.
    pub(super) fn push(&mut self, packet: Packet) -> Result<(), Error> {
        if self.queue.len() >= LONGEST_QUEUE {
            return Err(Error::Unexpected(format!("it has not read {LONGEST_QUEUE} messages")));
        }
        self.queue.push_back(packet);
        self.flush()
    }

    /// Sends what waits, as far as there is room.
    ///
    /// # Errors
    /// The channel is of no more use.
    pub(super) fn flush(&mut self) -> Result<(), Error> {
        let Some(channel) = &self.channel else {
            self.queue.clear();
            return Ok(());
        };
        while let Some(packet) = self.queue.front() {
            let descriptors: Vec<BorrowedFd<'_>> = packet.descriptors.iter().map(AsFd::as_fd).collect();
            match channel.try_send(&packet.message, &descriptors) {
                Ok(true) => drop(self.queue.pop_front()),
                Ok(false) => break,
                // What the other side said before it left is still to be heard: the end of the channel is found by reading.
                Err(Error::Closed) => self.queue.clear(),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Sends a message without descriptors.
    ///
    /// # Errors
    /// The channel is of no more use.
    pub(super) fn say(&mut self, message: Message) -> Result<(), Error> {
        self.push(message.into())
    }

    /// Nothing is half done with it.
    pub(super) fn is_quiet(&self) -> bool {
        self.queue.is_empty() && self.loans.is_empty() && self.lender.is_none()
    }

    pub(super) fn close(&mut self) {
        self.channel = None;
        self.queue.clear();
        self.loans.clear();
        self.lender = None;
    }
}
