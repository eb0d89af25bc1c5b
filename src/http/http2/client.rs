//! The client's side of one stream.

use std::cell::{Cell, RefCell};
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};
use http::{Response, StatusCode};

use super::{Conn, Source};
use crate::codec::head::ResponseHead;
use crate::codec::http2::head;
use crate::drain::{Held, Phase};
use crate::local::Timer;

/// The client's side of one stream.
pub(in crate::http) struct Client {
    pub(in crate::http) conn: Rc<Conn>,
    /// A part in the connection's part in the drain.
    pub(in crate::http) held: Held,
    pub(in crate::http) timer: Timer,
    pub(in crate::http) source: RefCell<Source>,
    respond: RefCell<SendResponse<Bytes>>,
    /// The head has been sent: whoever sends the body hears of a reset.
    responded: Cell<bool>,
}

impl Client {
    pub(in crate::http) fn new(conn: Rc<Conn>, source: Source, respond: SendResponse<Bytes>) -> Self {
        Self {
            held: conn.held.part(),
            timer: conn.manager.local.timers().timer(),
            conn,
            source: RefCell::new(source),
            respond: RefCell::new(respond),
            responded: Cell::new(false),
        }
    }

    /// What is left of it when its stream has become a tunnel: what the connection's streams share, its part in the drain, its timer, and the client's half.
    pub(in crate::http) fn into_parts(self) -> (Rc<Conn>, Held, Timer, Option<RecvStream>) {
        (self.conn, self.held, self.timer, self.source.into_inner().into_stream())
    }

    /// Sends an interim response. One that cannot be sent any more is not missed.
    pub(in crate::http) fn inform(&self, head: ResponseHead) {
        let _ = self.respond.borrow_mut().send_informational(head::response(head));
    }

    /// Tells a client that waits for it to go on.
    pub(in crate::http) fn go_on(&self) {
        let mut response = Response::new(());
        *response.status_mut() = StatusCode::CONTINUE;
        let _ = self.respond.borrow_mut().send_informational(response);
    }

    /// Sends the head; `ends` says that there is no body. `None`: the stream is gone.
    pub(in crate::http) fn respond(&self, head: ResponseHead, ends: bool) -> Option<SendStream<Bytes>> {
        self.responded.set(true);
        self.respond.borrow_mut().send_response(head::response(head), ends).ok()
    }

    /// Ends the stream without a word more.
    pub(in crate::http) fn reset(&self, reason: Reason) {
        self.respond.borrow_mut().send_reset(reason);
    }

    /// Ready when the client has given the stream up before there was a response.
    pub(in crate::http) fn poll_gone(&self, context: &mut Context<'_>) -> Poll<()> {
        if self.responded.get() {
            return Poll::Pending;
        }
        self.respond.borrow_mut().poll_reset(context).map(|_| ())
    }

    /// Ready when the drain's deadline has passed.
    pub(in crate::http) fn poll_over(&self, context: &mut Context<'_>) -> Poll<()> {
        match self.held.phase() {
            Phase::Over => Poll::Ready(()),
            phase => pin!(self.held.changed(phase)).poll(context).map(|_| ()),
        }
    }
}
