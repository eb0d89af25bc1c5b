//! The side that drains: gathers what its workers offer into batches and settles each batch by its answer.

use std::collections::VecDeque;
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use heirloom_supervisor::wire::message::{self, Moved, Taken, Withdrawn};
use heirloom_supervisor::wire::{self, Channel, MAX_DESCRIPTORS, Message, Packet};
use prost::Message as _;
use tokio::time::{sleep_until, timeout};
use tracing::{info, warn};

use super::{BATCH, pack};
use crate::drain::motion::{Kind, Offer, Offers, Reason};
use crate::handoff::link::Link;
use crate::stats::names::MotionStats;

/// How long an answer may take, and the room for a batch.
const ANSWER_TIME: Duration = Duration::from_secs(1);
/// Batches that may be unanswered.
const IN_FLIGHT: usize = 4;
/// Most encoded bytes of one batch: it is below a frame with what goes around it.
const MOST_BYTES: usize = 48 * 1024;
/// Longest listener name that fits beside others into a frame, in bytes.
const LONGEST_NAME: usize = 512;

/// A batch that has no answer yet.
struct Batch {
    number: u64,
    offers: Vec<Offer>,
    due: Instant,
}

/// Gives away what is offered until nobody offers any more or the way breaks; what is offered then comes back. What it returns must live as long as this
/// process: its end would tell the other side that the process is gone.
pub async fn give(channel: Channel, mut offers: Offers, stats: &MotionStats) -> Option<Link> {
    let link = match Link::over(channel) {
        Ok(link) => link,
        Err(error) => {
            warn!("connections do not move: {error}");
            return None;
        }
    };
    let mut giver = Giver { link, stats, flight: VecDeque::new(), batch: 0, moved: 0, refused: 0 };
    if let Err(why) = giver.run(&mut offers).await {
        warn!("connections do not move any more: {why}");
    }
    giver.withdraw();
    info!(moved = giver.moved, refused = giver.refused, "connections have moved");
    Some(giver.link)
}

struct Giver<'a> {
    link: Link,
    stats: &'a MotionStats,
    flight: VecDeque<Batch>,
    batch: u64,
    moved: u64,
    refused: u64,
}

/// A batch while it is put together.
#[derive(Default)]
struct Load {
    going: Vec<Offer>,
    connections: Vec<message::Connection>,
    files: Vec<Option<File>>,
    descriptors: usize,
    bytes: usize,
}

impl Load {
    fn has_room(&self, connection: &message::Connection) -> bool {
        self.descriptors + descriptors(connection) <= MAX_DESCRIPTORS
            && self.bytes + connection.encoded_len() <= MOST_BYTES
            && self.going.len() < BATCH
    }

    fn add(&mut self, offer: Offer, connection: message::Connection, file: Option<File>) {
        self.descriptors += descriptors(&connection);
        self.bytes += connection.encoded_len();
        self.going.push(offer);
        self.connections.push(connection);
        self.files.push(file);
    }
}

/// How many a connection brings: its sockets, and the file of its record if that is long.
fn descriptors(connection: &message::Connection) -> usize {
    connection.sockets as usize + usize::from(connection.record_bytes > 0)
}

/// Why the way is of no more use.
#[derive(Debug, thiserror::Error)]
enum Broken {
    #[error("{0}")]
    Wire(#[from] wire::Error),
    #[error("no answer within {ANSWER_TIME:?}")]
    Silent,
    #[error("an answer that does not fit: {0}")]
    Answer(&'static str),
}

impl Giver<'_> {
    async fn run(&mut self, offers: &mut Offers) -> Result<(), Broken> {
        let mut gathered = Vec::with_capacity(BATCH);
        let mut offering = true;
        while offering || !self.flight.is_empty() {
            let due = self.flight.front().map(|batch| batch.due);
            tokio::select! {
                packet = self.link.recv() => match packet {
                    Ok(packet) => self.answered(packet)?,
                    Err(error) => {
                        self.unreadable(&error);
                        return Err(error.into());
                    }
                },
                count = offers.recv_many(&mut gathered, BATCH), if offering && self.flight.len() < IN_FLIGHT => {
                    offering = count > 0;
                    if offering {
                        self.send(std::mem::take(&mut gathered)).await?;
                    }
                }
                () = sleep_until(due.unwrap_or_else(Instant::now).into()), if due.is_some() => return Err(Broken::Silent),
            }
        }
        Ok(())
    }

    /// Sends what was offered in as few batches as it fits into. What is not sent when the way breaks comes back by being dropped.
    async fn send(&mut self, offers: Vec<Offer>) -> Result<(), Broken> {
        let mut load = Load::default();
        for offer in offers {
            let packed = offer.frozen().filter(|frozen| frozen.listener.len() <= LONGEST_NAME).map(pack);
            match packed {
                Some(Ok((connection, file))) => {
                    if !load.has_room(&connection) {
                        self.send_load(std::mem::take(&mut load)).await?;
                    }
                    load.add(offer, connection, file);
                }
                Some(Err(_)) | None => self.refuse(offer, Reason::Record),
            }
        }
        self.send_load(load).await
    }

    async fn send_load(&mut self, load: Load) -> Result<(), Broken> {
        let Load { going, connections, files, .. } = load;
        if going.is_empty() {
            return Ok(());
        }
        let number = self.batch;
        self.batch += 1;
        // From here on it counts as sent: the packet may be on its way when this ends early.
        self.flight.push_back(Batch { number, offers: going, due: Instant::now() + ANSWER_TIME });
        let Some(batch) = self.flight.back() else { return Ok(()) };
        let mut descriptors: Vec<BorrowedFd<'_>> = Vec::with_capacity(3 * batch.offers.len());
        for (offer, file) in batch.offers.iter().zip(&files) {
            descriptors.extend(offer.frozen().into_iter().flat_map(|frozen| frozen.sockets.iter().map(AsFd::as_fd)));
            descriptors.extend(file.iter().map(AsFd::as_fd));
        }
        let message = Message::Moved(Moved { batch: number, connections });
        match timeout(ANSWER_TIME, Box::pin(self.link.send_with(&message, &descriptors))).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(crate::handoff::link::Error::Channel(error))) => Err(error.into()),
            Ok(Err(_)) | Err(_) => Err(Broken::Silent),
        }
    }

    fn answered(&mut self, packet: Packet) -> Result<(), Broken> {
        match packet.message {
            Message::Taken(taken) => self.settle(taken),
            _ => Err(Broken::Answer("another message")),
        }
    }

    /// What cannot be read is an answer all the same, and whoever gave it has begun with the oldest batch. Which of its connections were refused is not
    /// known: a few may end here that could have gone on, but none is ever served by two.
    fn unreadable(&mut self, error: &wire::Error) {
        if !matches!(error, wire::Error::Malformed(_)) {
            return;
        }
        for offer in self.flight.pop_front().into_iter().flat_map(|batch| batch.offers) {
            self.hand_over(offer);
        }
    }

    fn settle(&mut self, taken: Taken) -> Result<(), Broken> {
        let Some(batch) = self.flight.pop_front() else { return Err(Broken::Answer("nothing is on offer")) };
        if batch.number != taken.batch {
            self.flight.push_front(batch);
            return Err(Broken::Answer("another batch"));
        }
        let mut reasons: Vec<Option<Reason>> = vec![None; batch.offers.len()];
        for refused in &taken.refused {
            if let Some(place) = reasons.get_mut(refused.index as usize) {
                *place = Some(Reason::from_name(&refused.reason));
            }
        }
        for (offer, refused) in batch.offers.into_iter().zip(reasons) {
            match refused {
                Some(reason) => self.refuse(offer, reason),
                None => self.hand_over(offer),
            }
        }
        Ok(())
    }

    fn hand_over(&mut self, offer: Offer) {
        match offer.frozen().map(|frozen| frozen.kind) {
            Some(Kind::Http1) => self.stats.moved_http1.inc(),
            Some(Kind::Exchange) => self.stats.moved_exchange.inc(),
            Some(Kind::Tcp) => self.stats.moved_tcp.inc(),
            Some(Kind::Upgrade) => self.stats.moved_upgrade.inc(),
            None => {}
        }
        self.moved += 1;
        offer.taken();
    }

    fn refuse(&mut self, offer: Offer, reason: Reason) {
        let stats = self.stats;
        let counter = match reason {
            Reason::NoListener => &stats.refused_no_listener,
            Reason::NoFilterChain => &stats.refused_no_filter_chain,
            Reason::OtherFilter => &stats.refused_other_filter,
            Reason::NoCluster => &stats.refused_no_cluster,
            Reason::Limit => &stats.refused_limit,
            Reason::Record => &stats.refused_record,
            Reason::Socket => &stats.refused_socket,
            Reason::Way => &stats.refused_way,
            Reason::Other => &stats.refused_other,
        };
        counter.inc();
        self.refused += 1;
        offer.refused(reason);
    }

    /// Ends the motion: answers that have been given count, everything else comes back.
    fn withdraw(&mut self) {
        let channel = self.link.channel();
        // On a socket that cannot be shut nothing arrives either.
        let _ = channel.stop_receiving();
        loop {
            match self.link.channel().try_recv() {
                Ok(Some(packet)) => {
                    let _ = self.answered(packet);
                }
                Ok(None) | Err(wire::Error::Closed | wire::Error::System { .. }) => break,
                Err(error) => self.unreadable(&error),
            }
        }
        let _ = self.link.channel().try_send(&Message::Withdrawn(Withdrawn {}), &[]);
        for batch in std::mem::take(&mut self.flight) {
            for offer in batch.offers {
                self.refuse(offer, Reason::Way);
            }
        }
    }
}
