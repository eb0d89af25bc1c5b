//! Sockets in batches: the side that gives and the side that takes, both without IO.
//!
//! A batch holds at most [`MAX_DESCRIPTORS`] descriptors and is acknowledged before the next is sent, because descriptors in flight count
//! against the sender's limits.

use std::collections::VecDeque;
use std::os::fd::OwnedFd;

use super::message::{Grant, Lent, Message, Received};
use super::{Error, MAX_DESCRIPTORS, Packet};

/// What stands at one key of a request: its sockets, or why there is none.
pub type Granted = Result<Vec<OwnedFd>, String>;

/// The giving side of one request.
#[derive(Debug)]
pub struct Lender {
    request: u64,
    batch: u32,
    waiting: VecDeque<(u32, Entry)>,
    finished: bool,
}

#[derive(Debug)]
enum Entry {
    Socket(OwnedFd),
    Nothing(String),
}

impl Lender {
    /// For request number `request`, with what is granted at each key, in the order of the keys.
    pub fn new(request: u64, granted: Vec<Granted>) -> Self {
        let mut waiting = VecDeque::new();
        for (key, granted) in (0..).zip(granted) {
            match granted {
                Ok(sockets) if sockets.is_empty() => waiting.push_back((key, Entry::Nothing("no socket".into()))),
                Ok(sockets) => waiting.extend(sockets.into_iter().map(|socket| (key, Entry::Socket(socket)))),
                Err(reason) => waiting.push_back((key, Entry::Nothing(reason))),
            }
        }
        Self { request, batch: 0, waiting, finished: false }
    }

    /// The first batch.
    pub fn first(&mut self) -> Packet {
        self.next_batch()
    }

    /// The other side acknowledged: the next batch, or `None` when it was the last.
    ///
    /// # Errors
    /// [`Error::Unexpected`] when it acknowledges something else.
    pub fn received(&mut self, received: &Received) -> Result<Option<Packet>, Error> {
        if received.request != self.request || received.batch.checked_add(1) != Some(self.batch) {
            let Received { request, batch } = received;
            return Err(Error::Unexpected(format!("acknowledges batch {batch} of request {request}")));
        }
        if self.finished { Ok(None) } else { Ok(Some(self.next_batch())) }
    }

    /// Whether the last batch has been handed out (perhaps not yet acknowledged).
    pub fn is_finished(&self) -> bool {
        self.finished
    }

    fn next_batch(&mut self) -> Packet {
        let mut grants: Vec<Grant> = Vec::new();
        let mut descriptors = Vec::new();
        // Reasons take room too: a few hundred grants with texts of ordinary length stay far below the frame limit.
        let mut text = 0;
        while descriptors.len() < MAX_DESCRIPTORS && grants.len() < MAX_DESCRIPTORS && text < 32 * 1024 {
            let Some((key, entry)) = self.waiting.pop_front() else { break };
            match entry {
                Entry::Socket(socket) => {
                    descriptors.push(socket);
                    match grants.last_mut().filter(|grant| grant.key == key) {
                        Some(grant) => grant.sockets += 1,
                        None => grants.push(Grant { key, sockets: 1, error: String::new() }),
                    }
                }
                Entry::Nothing(mut error) => {
                    while error.len() > 1024 {
                        error.pop();
                    }
                    text += error.len();
                    grants.push(Grant { key, sockets: 0, error });
                }
            }
        }
        let batch = self.batch;
        self.batch += 1;
        self.finished = self.waiting.is_empty();
        let message = Message::Lent(Lent { request: self.request, batch, last: self.finished, grants });
        Packet { message, descriptors }
    }
}

/// The taking side of one request.
#[derive(Debug)]
pub struct Borrower {
    request: u64,
    batch: u32,
    granted: Vec<Option<Granted>>,
}

impl Borrower {
    /// For request number `request` with `keys` keys.
    pub fn new(request: u64, keys: usize) -> Self {
        Self { request, batch: 0, granted: std::iter::repeat_with(|| None).take(keys).collect() }
    }

    /// A batch came in. Send the [`Received`] that this returns; when the second value is `true` the loan is complete.
    ///
    /// # Errors
    /// [`Error::Unexpected`] when the batch does not fit the request; its descriptors are closed.
    pub fn take(&mut self, lent: Lent, descriptors: Vec<OwnedFd>) -> Result<(Received, bool), Error> {
        if lent.request != self.request || lent.batch != self.batch {
            return Err(Error::Unexpected(format!("batch {} of request {}", lent.batch, lent.request)));
        }
        let announced: u64 = lent.grants.iter().map(|grant| u64::from(grant.sockets)).sum();
        if announced != descriptors.len() as u64 {
            return Err(Error::Unexpected(format!("{} descriptors for {announced} grants", descriptors.len())));
        }
        let mut descriptors = descriptors.into_iter();
        for grant in lent.grants {
            let Some(slot) = usize::try_from(grant.key).ok().and_then(|key| self.granted.get_mut(key)) else {
                return Err(Error::Unexpected(format!("a grant for key {} of {}", grant.key, self.granted.len())));
            };
            if grant.sockets == 0 {
                *slot = Some(Err(grant.error));
            } else {
                let sockets = descriptors.by_ref().take(grant.sockets as usize);
                match slot {
                    Some(Ok(held)) => held.extend(sockets),
                    _ => *slot = Some(Ok(sockets.collect())),
                }
            }
        }
        self.batch += 1;
        Ok((Received { request: lent.request, batch: lent.batch }, lent.last))
    }

    /// What came of it, in the order of the keys. A key that nobody spoke of is an error.
    pub fn finish(self) -> Vec<Granted> {
        let silent = || Err("the other side said nothing about it".into());
        self.granted.into_iter().map(|granted| granted.unwrap_or_else(silent)).collect()
    }
}
