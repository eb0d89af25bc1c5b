//! The side that serves: spreads a batch over the workers, answers, and has them begin.

use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::time::Duration;

use heirloom_supervisor::wire::message::{Moved, NotTaken, Taken};
use heirloom_supervisor::wire::{self, Channel, Message, Packet};
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout, timeout_at};
use tracing::{debug, info, warn};

use super::unpack;
use crate::drain::motion::{Frozen, Reason};
use crate::handoff::link::Link;

/// How long a worker may take to put its part of a batch together; shorter than the giver waits.
const STAGE_TIME: Duration = Duration::from_millis(500);

/// A worker's part of a batch.
pub struct Staging {
    /// The connections, by their position in the batch.
    pub frozen: Vec<(u32, Frozen)>,
    /// Says which of them cannot be had; all others have been put together and wait.
    pub refused: oneshot::Sender<Vec<(u32, Reason)>>,
    /// They begin when this says so, and are let go of when it is dropped.
    pub verdict: oneshot::Receiver<()>,
}

/// Takes connections from an epoch until it offers no more. `stage` gives a worker its part; there are `workers` of them.
pub async fn take(channel: Channel, from: u64, workers: usize, stage: impl AsyncFn(usize, Staging)) {
    let link = match Link::over(channel) {
        Ok(link) => link,
        Err(error) => return warn!("connections of epoch {from} are not taken: {error}"),
    };
    let mut taker = Taker {
        link,
        workers: workers.max(1),
        next: 0,
        stage,
        taken: 0,
        waiting: VecDeque::new(),
        giver_is_gone: false,
    };
    let end = loop {
        match taker.next().await {
            Ok(Packet { message: Message::Moved(moved), descriptors }) => match taker.batch(moved, descriptors).await {
                Ok(()) => {}
                Err(error) => break error,
            },
            Ok(Packet { message: Message::Withdrawn(_), .. }) => break wire::Error::Closed,
            Ok(packet) => break wire::Error::Unexpected(packet.message.name().to_owned()),
            Err(error) => break error,
        }
    };
    match end {
        wire::Error::Closed => info!(from, taken = taker.taken, "connections have been taken over"),
        error => warn!(from, taken = taker.taken, "connections are not taken over any more: {error}"),
    }
}

struct Taker<S> {
    link: Link,
    workers: usize,
    /// The worker that has its turn.
    next: usize,
    stage: S,
    taken: usize,
    /// Batches that were read in search of something else.
    waiting: VecDeque<Packet>,
    /// Nobody waits for answers: what has come is ours.
    giver_is_gone: bool,
}

/// A worker's part of which an answer is awaited.
struct Part {
    indices: Vec<u32>,
    refused: oneshot::Receiver<Vec<(u32, Reason)>>,
    verdict: oneshot::Sender<()>,
}

impl<S: AsyncFn(usize, Staging)> Taker<S> {
    async fn next(&mut self) -> Result<Packet, wire::Error> {
        match self.waiting.pop_front() {
            Some(packet) => Ok(packet),
            None => self.link.recv().await,
        }
    }

    async fn batch(&mut self, moved: Moved, descriptors: Vec<OwnedFd>) -> Result<(), wire::Error> {
        let number = moved.batch;
        let Some(connections) = unpack(moved, descriptors) else {
            return Err(wire::Error::Malformed("a batch whose descriptors do not fit".into()));
        };
        let count = connections.len();
        let mut refused = Vec::new();
        let mut parts: Vec<Vec<(u32, Frozen)>> = (0..self.workers).map(|_| Vec::new()).collect();
        for (index, connection) in (0..).zip(connections) {
            match connection {
                Ok(frozen) => {
                    parts[self.next].push((index, frozen));
                    self.next = (self.next + 1) % self.workers;
                }
                Err(reason) => refused.push((index, reason)),
            }
        }
        let until = Instant::now() + STAGE_TIME;
        let mut staged = Vec::new();
        for (worker, frozen) in parts.into_iter().enumerate().filter(|(_, frozen)| !frozen.is_empty()) {
            let indices = frozen.iter().map(|(index, _)| *index).collect();
            let (say_refused, heard) = oneshot::channel();
            let (verdict, begin) = oneshot::channel();
            let part = (self.stage)(worker, Staging { frozen, refused: say_refused, verdict: begin });
            // A worker that does not even hear of it answers nothing.
            let _ = timeout_at(until, Box::pin(part)).await;
            staged.push(Part { indices, refused: heard, verdict });
        }
        let mut verdicts = Vec::with_capacity(staged.len());
        for part in staged {
            match timeout_at(until, part.refused).await {
                Ok(Ok(reasons)) => {
                    refused.extend(reasons);
                    verdicts.push(part.verdict);
                }
                // Its verdict is dropped here: whatever the worker still puts together, it lets go of.
                Ok(Err(_)) | Err(_) => refused.extend(part.indices.iter().map(|index| (*index, Reason::Other))),
            }
        }
        self.taken += count - refused.len();
        let not_taken = |(index, reason): (u32, Reason)| NotTaken { index, reason: reason.name().to_owned() };
        let refused = refused.into_iter().map(not_taken).collect();
        let answer = Message::Taken(Taken { batch: number, refused });
        if self.answer(&answer).await? {
            for verdict in verdicts {
                let _ = verdict.send(());
            }
        }
        Ok(())
    }

    /// Sends the answer. True when the batch is ours.
    async fn answer(&mut self, answer: &Message) -> Result<bool, wire::Error> {
        if self.giver_is_gone {
            return Ok(true);
        }
        match timeout(STAGE_TIME, Box::pin(self.link.send(answer))).await {
            Ok(Ok(())) => return Ok(true),
            Ok(Err(crate::handoff::link::Error::Channel(wire::Error::Closed))) => {}
            Ok(Err(error)) => return Err(wire::Error::Unexpected(error.to_string())),
            Err(_) => return Err(wire::Error::TimedOut),
        }
        // The giver does not listen any more. If it is gone, so are its connections, unless we have them; if it has said, or has yet to
        // say, that it withdrew, it goes on with them.
        loop {
            match self.link.channel().try_recv() {
                Err(wire::Error::Closed) => {
                    debug!("the epoch that gave is gone: what it gave is kept");
                    self.giver_is_gone = true;
                    return Ok(true);
                }
                Ok(Some(packet @ Packet { message: Message::Moved(_), .. })) => self.waiting.push_back(packet),
                Ok(_) | Err(_) => return Err(wire::Error::Closed),
            }
        }
    }
}
