//! A request in flight: all that a request in progress is, while nobody works on it.
//!
//! ```text
//!   stream ──suspend──▶ Flight ──written down──▶ record ──▶ the other epoch: read ──▶ Flight ──resume──▶ stream
//!                         │                                                             ▲
//!                         └───── nobody took it: the same value, the sockets back ──────┘
//! ```
//!
//! A [`Flight`] owns its host's connection and the state of both directions, and borrows nothing: `stream::suspend` makes one between two
//! polls, `stream::resume` goes on with one, wherever it comes from. What can be suspended says each layer of itself (`may_suspend`): the
//! router while it waits for the response's head, a response's body that comes straight from its host. What cannot ends in the epoch
//! where it began, and its connection moves then, as an idle one.

use std::rc::Rc;

use bytes::BytesMut;
use http::Version;

use crate::codec::http1::Framing;
use crate::config::model::LogType;
use crate::drain::motion::Permit;
use crate::net::Stream as Socket;
use crate::upstream::pool::http1::{Lease, Place};

use super::forward::Suspended;
use super::manager::Manager;
use super::pump::Pump;
use super::record::Record;
use super::stream::{Begun, Deadlines};

pub(super) mod written;

/// A request in flight.
pub(super) struct Flight {
    pub(super) record: Record,
    /// The framing of the request's body.
    pub(super) framing: Framing,
    /// Interim responses that the client has not taken yet.
    pub(super) interim: BytesMut,
    pub(super) deadlines: Deadlines,
    pub(super) version: Version,
    pub(super) begun: Begun,
    pub(super) exchange: Suspended,
    /// Once the response's head has been encoded.
    pub(super) download: Option<Pump>,
    /// Nobody took it, and it is not offered again.
    pub(super) stays: bool,
    /// Of the host's connection, while its socket is on offer.
    pub(super) place: Option<Place>,
    /// Room for the offer that it is to be.
    pub(super) permit: Option<Permit>,
}

impl Flight {
    /// Gives the host's socket out of hand; `None` where the exchange has none any more.
    pub(super) fn take_socket(&mut self) -> Option<Socket> {
        let (socket, place) = self.exchange.lease.take()?.into_parts();
        self.place = Some(place);
        Some(socket)
    }

    /// Nobody took it: it has its socket again and goes on here.
    pub(super) fn refused(&mut self, socket: Option<Socket>) {
        self.stays = true;
        self.exchange.lease = socket.zip(self.place.take()).map(|(socket, place)| Lease::new(socket, place));
    }

    /// It goes on in another epoch.
    pub(super) fn moved(mut self, manager: &Rc<Manager>) {
        manager.stats.downstream_rq_active.dec();
        if let Some(place) = self.place.take() {
            place.moved();
        }
    }

    /// It is ours from now on.
    pub(super) fn arrived(&mut self, manager: &Rc<Manager>) {
        manager.stats.downstream_rq_active.inc();
        if let Some(lease) = &mut self.exchange.lease {
            lease.arrived();
        }
    }

    /// One of its sockets is lost, and the request with it.
    pub(super) fn lost(self, manager: &Rc<Manager>) {
        manager.stats.downstream_rq_active.dec();
        manager.stats.downstream_rq_tx_reset.inc();
        if let Some(line) = self.record.take_log() {
            line.write(LogType::DownstreamEnd);
        }
    }
}
