//! One direction of an exchange: frames out of a body, framed for the wire, into a socket, with no more than one block between.

use std::io::{self, IoSlice};
use std::task::{Context, Poll};

use crate::codec::http1::{self, BodyWriter};
use crate::local::Local;

use super::body::{Body, Frame};
use super::failure::Failure;
use super::outbox::Outbox;

/// The state of one direction.
pub(super) struct Pump {
    pub(super) outbox: Outbox,
    pub(super) writer: BodyWriter,
    /// The body has ended; what is left is in the outbox.
    pub(super) ended: bool,
    pub(super) trailers: bool,
    /// Bytes of data taken out of the body.
    pub(super) taken: u64,
    /// Bytes that the socket took, heads and framing included.
    pub(super) sent: u64,
}

/// Which end of a direction failed.
#[derive(Debug)]
pub(super) enum Broken {
    /// The body.
    Source(Failure),
    /// The socket.
    Sink,
}

impl Pump {
    /// For a body framed so, behind a head that has been encoded into `outbox`.
    pub(super) fn new(outbox: Outbox, framing: http1::Body, trailers: bool) -> Self {
        Self { outbox, writer: BodyWriter::new(framing), ended: false, trailers, taken: 0, sent: 0 }
    }

    /// The body has ended, whether or not all of it is written.
    pub(super) fn has_ended(&self) -> bool {
        self.ended
    }

    /// The body has ended and is written.
    pub(super) fn is_done(&self) -> bool {
        self.ended && self.outbox.is_empty()
    }

    /// Begins again with a copy of what stood in the outbox at first; `whole` says that the body's end is in it.
    pub(super) fn restart(&mut self, front: &[u8], whole: bool) {
        self.outbox = Outbox::new(front.into());
        self.ended = whole;
        self.sent = 0;
    }

    /// Takes frames for as long as there are some and there is room.
    pub(super) fn gather(
        &mut self,
        context: &mut Context<'_>,
        body: &mut Body<'_>,
        local: &Local,
    ) -> Result<(), Failure> {
        while !self.ended && self.outbox.has_room() {
            match body.poll_frame(context)? {
                Poll::Ready(Frame::Data(data)) => {
                    self.taken = self.taken.saturating_add(data.len() as u64);
                    self.outbox.push(data, &mut self.writer, local).map_err(|_| Failure::Internal)?;
                }
                Poll::Ready(Frame::End(trailers)) => {
                    let trailers = (self.trailers && !trailers.is_empty()).then_some(&trailers);
                    self.outbox.end(trailers, &mut self.writer).map_err(|_| Failure::Internal)?;
                    self.ended = true;
                }
                Poll::Pending => break,
            }
        }
        Ok(())
    }

    /// Moves what can be moved. Ready when all is written, or one end broke.
    pub(super) fn poll(
        &mut self,
        context: &mut Context<'_>,
        body: &mut Body<'_>,
        local: &Local,
        mut write: impl FnMut(&mut Context<'_>, &[IoSlice<'_>]) -> Poll<io::Result<usize>>,
    ) -> Poll<Result<(), Broken>> {
        loop {
            if let Err(failure) = self.gather(context, body, local) {
                return Poll::Ready(Err(Broken::Source(failure)));
            }
            if self.outbox.is_empty() {
                return if self.ended { Poll::Ready(Ok(())) } else { Poll::Pending };
            }
            let sent = &mut self.sent;
            let flushed = self.outbox.poll_flush(context, local, |context, slices| {
                let written = write(context, slices);
                if let Poll::Ready(Ok(written)) = &written {
                    *sent = sent.saturating_add(*written as u64);
                }
                written
            });
            match flushed {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(_)) => return Poll::Ready(Err(Broken::Sink)),
                Poll::Pending => return Poll::Pending,
            }
        }
    }
}
