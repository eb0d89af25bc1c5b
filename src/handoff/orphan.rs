//! An epoch whose supervisor has died: it serves on and offers itself to the next one.
//!
//! What the offer needs is kept from the start, because there is nobody to ask for it later: a duplicate of every lent socket under its key, the statistics segment, the
//! numbers of the welcome. The next supervisor takes the sockets back into its own hands, so that the queue of no listener is ever closed.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::time::Duration;

use heirloom_supervisor::wire::message::{Adopt, Hello, SocketKey, Standing, TicketKeys, Welcome};
use heirloom_supervisor::wire::{self, Channel, Lender, Message};

use super::link::{Error, Granted, Link};

/// What an epoch brings to its next supervisor.
pub struct Orphan {
    control: PathBuf,
    hello: Hello,
    epoch: u64,
    generation: u64,
    sockets: Vec<(SocketKey, Vec<OwnedFd>)>,
    segment: OwnedFd,
}

impl Orphan {
    /// Remembers what will be needed: the welcome's numbers, duplicates of what was granted at `keys`, and of the segment.
    ///
    /// # Errors
    /// No descriptors left.
    pub fn remember(
        welcome: &Welcome,
        hello: Hello,
        keys: Vec<SocketKey>,
        granted: &[Granted],
        segment: BorrowedFd<'_>,
    ) -> std::io::Result<Self> {
        let sockets = keys.into_iter().zip(granted).map(|(key, granted)| {
            let own = granted.iter().flatten().map(OwnedFd::try_clone).collect::<Result<Vec<_>, _>>()?;
            Ok((key, own))
        });
        Ok(Self {
            control: PathBuf::from(&welcome.control_path),
            hello,
            epoch: welcome.epoch,
            generation: welcome.generation,
            sockets: sockets.collect::<std::io::Result<_>>()?,
            segment: segment.try_clone_to_owned()?,
        })
    }

    /// It will never accept again: what a newer epoch does not listen at shall close.
    pub fn let_go(&mut self) {
        self.sockets.clear();
    }

    /// Offers itself to whoever listens at the control socket now; the link is the channel from then on. Keys of session tickets go along, and what
    /// comes back is in force.
    ///
    /// # Errors
    /// Nobody is there yet (to be tried again), or the supervisor that is there refuses.
    pub async fn offer(
        &self,
        standing: Standing,
        drain_remaining: Duration,
        ticket_keys: Option<TicketKeys>,
    ) -> Result<(Link, Option<TicketKeys>), Error> {
        let link = Link::over(Channel::connect(&self.control)?)?;
        let adopt = Adopt {
            hello: Some(self.hello.clone()),
            epoch: self.epoch,
            generation: self.generation,
            standing: standing.into(),
            drain_remaining_ms: u64::try_from(drain_remaining.as_millis()).unwrap_or(u64::MAX),
            keys: self.offered(standing).map(|(key, _)| key.clone()).collect(),
            ticket_keys,
        };
        link.send_with(&Message::Adopt(adopt), &[self.segment.as_fd()]).await?;
        let keys = match link.answer("Adopt").await?.message {
            Message::Welcome(welcome) => welcome.ticket_keys,
            Message::Refused(refused) => return Err(Error::Refused(refused.reason)),
            other => return Err(Error::Unexpected { what: "Adopt", with: other.name() }),
        };
        self.hand_over(&link, standing).await?;
        Ok((link, keys))
    }

    /// One that drains offers nothing: what a newer epoch does not listen at shall close.
    fn offered(&self, standing: Standing) -> impl Iterator<Item = &(SocketKey, Vec<OwnedFd>)> {
        self.sockets.iter().filter(move |_| standing != Standing::Draining)
    }

    async fn hand_over(&self, link: &Link, standing: Standing) -> Result<(), Error> {
        let duplicates = self.offered(standing).map(|(_, sockets)| {
            sockets.iter().map(OwnedFd::try_clone).collect::<Result<Vec<_>, _>>().map_err(|error| error.to_string())
        });
        let mut lender = Lender::new(0, duplicates.collect());
        let mut next = Some(lender.first());
        while let Some(wire::Packet { message, descriptors }) = next {
            let descriptors: Vec<BorrowedFd<'_>> = descriptors.iter().map(AsFd::as_fd).collect();
            link.send_with(&message, &descriptors).await?;
            next = match link.answer("Lent").await?.message {
                Message::Received(received) => lender.received(&received)?,
                other => return Err(Error::Unexpected { what: "Lent", with: other.name() }),
            };
        }
        Ok(())
    }
}
