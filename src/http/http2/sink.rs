//! One direction of an exchange over HTTP/2: frames out of a body, into a stream, as far as its window is open.
//!
//! At most one frame is held: while the peer takes nothing the body is not pulled, and with it whoever sends.

use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use h2::{Reason, SendStream};

use crate::codec::http2::head::to_trailers;
use crate::http::body::{Body, Frame};
use crate::http::pump::Broken;
use crate::http2::poll_room;

/// The state of one direction.
pub(in crate::http) struct Sink {
    stream: SendStream<Bytes>,
    /// Taken out of the body, and not sent.
    held: Bytes,
    /// The body has ended.
    ended: bool,
    /// The end has been sent.
    done: bool,
    /// Data has been sent.
    begun: bool,
    /// The window is shut.
    blocked: bool,
    /// Bytes of data taken out of the body.
    pub(in crate::http) taken: u64,
}

impl Sink {
    /// Behind a head that has been sent; `done` where that was all.
    pub(in crate::http) fn new(stream: SendStream<Bytes>, done: bool) -> Self {
        Self { stream, held: Bytes::new(), ended: done, done, begun: false, blocked: false, taken: 0 }
    }

    /// All is sent.
    pub(in crate::http) fn is_done(&self) -> bool {
        self.done
    }

    /// The body has ended, whether or not the client has taken all of it.
    pub(in crate::http) fn has_ended(&self) -> bool {
        self.ended
    }

    /// The peer takes nothing for now.
    pub(in crate::http) fn is_blocked(&self) -> bool {
        self.blocked
    }

    /// Moves what can be moved. Ready when all is sent, or one end broke.
    pub(in crate::http) fn poll(&mut self, context: &mut Context<'_>, body: &mut Body<'_>) -> Poll<Result<(), Broken>> {
        loop {
            if !self.held.is_empty() {
                ready!(self.poll_send(context))?;
            } else if self.ended {
                return Poll::Ready(Ok(()));
            } else {
                match ready!(body.poll_frame(context)).map_err(Broken::Source)? {
                    Frame::Data(data) => {
                        self.taken += data.len() as u64;
                        self.held = data;
                        // Where the length is known the end goes with the last data.
                        self.ended = body.length() == Some(0);
                    }
                    Frame::End(trailers) => {
                        self.ended = true;
                        self.done = true;
                        let sent = match trailers.is_empty() {
                            true => self.stream.send_data(Bytes::new(), true),
                            false => self.stream.send_trailers(to_trailers(trailers)),
                        };
                        sent.map_err(|_| Broken::Sink)?;
                    }
                }
            }
        }
    }

    fn poll_send(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        let room = poll_room(&mut self.stream, self.held.len(), context);
        // The first room of a stream comes when the connection has been looked at: nobody holds it back.
        self.blocked = room.is_pending() && self.begun;
        let Some(room) = ready!(room) else { return Poll::Ready(Err(Broken::Sink)) };
        self.begun = true;
        let part = self.held.len().min(room);
        let data = self.held.copy_to_bytes(part);
        self.done = self.ended && self.held.is_empty();
        Poll::Ready(self.stream.send_data(data, self.done).map_err(|_| Broken::Sink))
    }

    /// Ready when the peer has reset the stream. Only to be asked while nothing else is waited for.
    pub(in crate::http) fn poll_reset(&mut self, context: &mut Context<'_>) -> Poll<()> {
        self.stream.poll_reset(context).map(|_| ())
    }

    /// Ends the stream before its time.
    pub(in crate::http) fn reset(&mut self, reason: Reason) {
        self.stream.send_reset(reason);
    }
}
