//! A request that is suspended in order to move, and one that is resumed: here because nobody took it, or where somebody did.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use crate::drain::motion::Permit;
use crate::http::body::Body;
use crate::http::downstream::Downstream;
use crate::http::flight::Flight;
use crate::http::forward::{Suspended, resumed};
use crate::http::pump::Pump;
use crate::http::upgrade::Switch;
use crate::local::Deadline;

use super::{After, Begun, Client, Stream};

/// How far a request has come when there is nothing more to be done for it here and now.
pub(in crate::http) enum Course {
    /// Its response is sent.
    Over,
    /// It is in the middle, and there is room for an offer.
    Suspended(Box<Midway>),
}

/// What a request is beside its [`Stream`] when it is suspended.
pub(in crate::http) struct Midway {
    exchange: Suspended,
    download: Option<Pump>,
    permit: Permit,
}

impl Course {
    pub(super) fn suspended(exchange: Suspended, download: Option<Pump>, permit: Permit) -> Self {
        Self::Suspended(Box::new(Midway { exchange, download, permit }))
    }
}

/// The wait for room to move, while there is one.
#[derive(Default)]
pub(super) struct Room {
    permit: RefCell<Option<Wait>>,
    /// Nobody took the request: only its connection moves, when it is over.
    stays: Cell<bool>,
}

type Wait = Pin<Box<dyn Future<Output = Option<Permit>>>>;

/// Goes on with a request.
pub(in crate::http) async fn resume(conn: &Downstream, flight: Box<Flight>) -> After {
    let Flight { record, framing, interim, deadlines, version, mut begun, exchange, download, stays, .. } = *flight;
    conn.set_busy(true);
    let next_line = conn.manager.config.log_interval.map(|interval| conn.timer.at(Instant::now() + interval));
    let stream = Stream {
        client: Client::Http1(conn),
        record,
        framing: RefCell::new(framing),
        interim: RefCell::new(interim),
        deadlines,
        late: false,
        version,
        periodic: Cell::new(next_line.unwrap_or(Deadline::NEVER)),
        hostless: false,
        switch: Cell::new(Switch::No),
        active: Cell::new(None),
        room: Room { permit: RefCell::default(), stays: Cell::new(stays) },
    };
    let exchange = resumed(&stream, exchange);
    let course = match download {
        Some(pump) => stream.pump(conn, pump, Body::Response(exchange)).await,
        None => {
            let answer = stream.manager().chain.resume(exchange, &stream);
            stream.answer(answer, &mut begun).await
        }
    };
    stream.finish(course, begun)
}

impl Stream<'_> {
    /// Ready with room for an offer when it is time to move and the request can be suspended now. It is served meanwhile.
    pub(super) fn poll_room(&self, context: &mut Context<'_>, may_suspend: impl FnOnce() -> bool) -> Poll<Permit> {
        let Client::Http1(conn) = &self.client else { return Poll::Pending };
        if !conn.held.may_move() {
            // A motion that comes after this one may ask again.
            self.room.stays.set(false);
            return Poll::Pending;
        }
        if self.room.stays.get() {
            return Poll::Pending;
        }
        if !conn.can_move() {
            conn.held.stay();
            return Poll::Pending;
        }
        let mut wait = self.room.permit.borrow_mut();
        let mover = if may_suspend() { conn.held.mover() } else { None };
        let Some(mover) = mover else {
            *wait = None;
            return Poll::Pending;
        };
        let permit = ready!(wait.get_or_insert_with(|| Box::pin(mover.permit())).as_mut().poll(context));
        *wait = None;
        match permit {
            Some(permit) => Poll::Ready(permit),
            None => {
                conn.held.stay();
                Poll::Pending
            }
        }
    }

    /// The request as a value of its own.
    pub(super) fn into_flight(self, midway: Midway, begun: Begun) -> After {
        let Midway { exchange, download, permit } = midway;
        self.log_suspended(download.as_ref().map_or(0, |pump| pump.taken));
        let flight = Flight {
            record: self.record,
            framing: self.framing.into_inner(),
            interim: self.interim.into_inner(),
            deadlines: self.deadlines,
            version: self.version,
            begun,
            exchange,
            download,
            stays: false,
            place: None,
            permit: Some(permit),
        };
        match self.client {
            Client::Http1(conn) => {
                conn.flight.set(Some(Box::new(flight)));
                After::Move
            }
            // These never get room to move.
            Client::Http2(_) | Client::Own(_) => After::Keep,
        }
    }
}
