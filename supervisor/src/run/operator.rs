//! What the operator asks.

use std::time::{SystemTime, UNIX_EPOCH};

use super::{Supervisor, VERSION, figures};
use crate::control::Asked;
use crate::lifecycle::{Event, StopHow, Want};
use crate::moment::{Moment, millis};
use crate::wire::message::{CommandKind, Message, Status};

impl Supervisor {
    pub(super) fn asked(&mut self, asked: Asked) {
        let (ticket, kind) = match asked {
            Asked::Command(ticket, kind) => (ticket, kind),
            Asked::Orphan { channel, packet, pid } => return self.orphan(channel, packet, pid),
        };
        let request = |want| Event::Request { want, ticket: Some(ticket) };
        let stop = |how| Event::Stop { how, ticket: Some(ticket) };
        match kind {
            CommandKind::Status => {
                let status = self.status();
                self.control.answer(ticket, &Message::Status(status));
            }
            CommandKind::Reload => self.handle(request(Want::Reload)),
            CommandKind::Rollback => self.handle(request(Want::Rollback)),
            CommandKind::Stop => self.handle(stop(StopHow::Stop)),
            CommandKind::Drain => self.handle(stop(StopHow::Drain)),
            CommandKind::Unknown => self.control.refuse(ticket, "this supervisor does not know that command".into()),
        }
    }

    /// Says what is so now where it can be scraped.
    pub(super) fn say_figures(&mut self, now: Moment) {
        if let Some(figures) = self.figures.as_mut().filter(|figures| figures.are_due(now)) {
            figures.say(&self.lifecycle.status(now, 0), now);
        }
    }

    fn status(&self) -> Status {
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).map(millis).unwrap_or_default();
        Status {
            counts: figures::tallies(&self.segment),
            supervisor_pid: std::process::id(),
            supervisor_version: VERSION.into(),
            sockets: u32::try_from(self.broker.count()).unwrap_or(u32::MAX),
            ..self.lifecycle.status(Moment::now(), unix)
        }
    }
}
