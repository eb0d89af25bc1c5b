//! Who has the keys of session tickets.

use tracing::info;

use super::Supervisor;
use crate::moment::Moment;
use crate::tickets::Ring;
use crate::wire::message::{Message, TicketKeys};

impl Supervisor {
    /// The keys for an epoch that is welcomed; made for the first one.
    pub(super) fn ticket_keys(&mut self) -> Option<TicketKeys> {
        let now = Moment::now();
        if self.tickets.is_none() {
            self.tickets = Ring::new(now);
        }
        self.tickets.as_ref().map(|ring| ring.message(now))
    }

    /// An epoch of an earlier supervisor brings that one's keys. The first to come is believed: all of them had the same.
    pub(super) fn take_back_tickets(&mut self, keys: Option<&TicketKeys>) {
        if self.tickets.is_none() {
            self.tickets = keys.and_then(|keys| Ring::returned(keys, Moment::now()));
        }
    }

    /// When the keys are to be turned.
    pub(super) fn tickets_due(&self) -> Option<Moment> {
        self.tickets.as_ref().map(|ring| ring.due(self.settings.ticket_rotation))
    }

    /// Turns the keys, if the time has come, and tells every epoch.
    pub(super) fn turn_tickets(&mut self) {
        let now = Moment::now();
        let Some(ring) = &mut self.tickets else { return };
        if !ring.turn(self.settings.ticket_rotation, now) {
            return;
        }
        info!("the keys of session tickets are turned");
        let message = ring.message(now);
        let epochs: Vec<u64> = self.peers.iter().filter(|(_, peer)| peer.tickets).map(|(epoch, _)| *epoch).collect();
        for epoch in epochs {
            self.tell(epoch, Message::TicketKeys(message.clone()));
        }
    }
}
