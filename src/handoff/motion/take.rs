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

/// Batches that are put together at once: while workers are at one, the next is read.
const AT_ONCE: usize = 4;

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
        expected: 0,
        waiting: VecDeque::new(),
        staged: VecDeque::new(),
        giver_is_gone: false,
    };
    let mut end = taker.run().await;
    // What was read before the way broke is answered; what was withdrawn has been dropped, and stays where it was.
    while let Some(mut batch) = taker.staged.pop_front() {
        batch.settle().await;
        if let Err(error) = taker.finish(batch).await {
            end = error;
            break;
        }
    }
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
    /// No batch before this one may come any more.
    expected: u64,
    /// Batches that were read in search of something else.
    waiting: VecDeque<Packet>,
    /// Batches that workers put together, in order.
    staged: VecDeque<Staged>,
    /// Nobody waits for answers: what has come is ours.
    giver_is_gone: bool,
}

/// A worker's part of which an answer is awaited.
struct Part {
    indices: Vec<u32>,
    refused: oneshot::Receiver<Vec<(u32, Reason)>>,
    verdict: oneshot::Sender<()>,
}

/// A batch that its workers put together.
struct Staged {
    number: u64,
    count: usize,
    /// Parts that have no answer yet.
    parts: VecDeque<Part>,
    refused: Vec<(u32, Reason)>,
    verdicts: Vec<oneshot::Sender<()>>,
    until: Instant,
}

impl Staged {
    /// Waits for the answers of all workers. Cancel safe.
    async fn settle(&mut self) {
        while let Some(part) = self.parts.front_mut() {
            let heard = timeout_at(self.until, &mut part.refused).await;
            let Some(part) = self.parts.pop_front() else { return };
            match heard {
                Ok(Ok(reasons)) => {
                    self.refused.extend(reasons);
                    self.verdicts.push(part.verdict);
                }
                // Its verdict is dropped here: whatever the worker still puts together, it lets go of.
                Ok(Err(_)) | Err(_) => self.refused.extend(part.indices.iter().map(|index| (*index, Reason::Other))),
            }
        }
    }
}

impl<S: AsyncFn(usize, Staging)> Taker<S> {
    /// Takes what comes, several batches at once, and answers in order; says why it ends.
    async fn run(&mut self) -> wire::Error {
        loop {
            let room = self.staged.len() < AT_ONCE;
            let packet = tokio::select! {
                biased;
                () = settled(self.staged.front_mut()) => None,
                packet = next(&mut self.waiting, &self.link), if room => Some(packet),
            };
            let result = match packet {
                None => match self.staged.pop_front() {
                    // Who does not want this answer wants none of the others.
                    Some(batch) => self.finish(batch).await.inspect_err(|_| self.staged.clear()),
                    None => Ok(()),
                },
                Some(Ok(Packet { message: Message::Moved(moved), descriptors })) => {
                    self.stage(moved, descriptors, false).await
                }
                Some(Err(wire::Error::Lost(packet))) => match *packet {
                    Packet { message: Message::Moved(moved), descriptors } => {
                        self.stage(moved, descriptors, true).await
                    }
                    other => Err(wire::Error::Unexpected(other.message.name().to_owned())),
                },
                Some(Ok(Packet { message: Message::Withdrawn(_), .. })) => {
                    // The giver goes on with whatever has no answer, and may end at any time after that: none of it is ours.
                    self.staged.clear();
                    Err(wire::Error::Closed)
                }
                Some(Ok(packet)) => Err(wire::Error::Unexpected(packet.message.name().to_owned())),
                Some(Err(error)) => Err(error),
            };
            if let Err(error) = result {
                return error;
            }
        }
    }

    /// Has the workers put a batch together; some of its descriptors may have been `lost`.
    async fn stage(&mut self, moved: Moved, descriptors: Vec<OwnedFd>, lost: bool) -> Result<(), wire::Error> {
        let number = moved.batch;
        if number < self.expected {
            // Its sockets are served here already: a second time would be two who read one connection.
            return Err(wire::Error::Malformed(format!("batch {number} came twice")));
        }
        self.expected = number.saturating_add(1);
        let Some(connections) = unpack(moved, descriptors, lost) else {
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
        let mut staged = VecDeque::new();
        for (worker, frozen) in parts.into_iter().enumerate().filter(|(_, frozen)| !frozen.is_empty()) {
            let indices = frozen.iter().map(|(index, _)| *index).collect();
            let (say_refused, heard) = oneshot::channel();
            let (verdict, begin) = oneshot::channel();
            let part = (self.stage)(worker, Staging { frozen, refused: say_refused, verdict: begin });
            // A worker that does not even hear of it answers nothing.
            let _ = timeout_at(until, Box::pin(part)).await;
            staged.push_back(Part { indices, refused: heard, verdict });
        }
        let verdicts = Vec::with_capacity(staged.len());
        self.staged.push_back(Staged { number, count, parts: staged, refused, verdicts, until });
        Ok(())
    }

    /// Answers for a batch, and has its connections begin if they are ours.
    async fn finish(&mut self, batch: Staged) -> Result<(), wire::Error> {
        let Staged { number, count, refused, verdicts, .. } = batch;
        self.taken += count.saturating_sub(refused.len());
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

/// The next message; one that was read in search of something else comes first. Cancel safe.
async fn next(waiting: &mut VecDeque<Packet>, link: &Link) -> Result<Packet, wire::Error> {
    match waiting.pop_front() {
        Some(packet) => Ok(packet),
        None => link.recv().await,
    }
}

/// Waits for the workers of the first batch; without one, for ever. Cancel safe.
async fn settled(first: Option<&mut Staged>) {
    match first {
        Some(batch) => batch.settle().await,
        None => std::future::pending().await,
    }
}
