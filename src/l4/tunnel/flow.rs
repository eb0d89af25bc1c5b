//! One direction of a tunnel: what was read and not yet written, and which of its two ends has been reached.
//!
//! At most one block is held: the source is read when nothing is left to write, so a sink that is slow makes its source wait, and with it
//! whoever sends. The state is all in [`Flow`] and consistent between any two polls.

use std::io;
use std::task::{Context, Poll};

use bytes::{Buf, BytesMut};

use crate::local::Local;

/// One side of a tunnel.
pub(super) trait Side {
    /// Reads into `buffer`; 0 is the end.
    fn poll_fill(&mut self, context: &mut Context<'_>, buffer: &mut BytesMut) -> Poll<io::Result<usize>>;
    /// Writes some of `bytes`.
    fn poll_write(&mut self, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>>;
    /// Ends the sending side.
    fn poll_end(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>>;
    /// Ready when a side that is not read any more, or not now (`unread`), has said that it is gone. A socket says so to whoever writes to it.
    fn poll_gone(&mut self, context: &mut Context<'_>, unread: bool) -> Poll<Gone>;
}

/// What a side may say of itself without being read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Gone {
    /// It has got what it wanted (RFC 9113, 8.1).
    TakesNoMore,
    /// It has broken off.
    Broken,
}

/// One direction.
#[derive(Debug, Default)]
pub(super) struct Flow {
    /// Read and not yet written.
    pub(super) buffer: BytesMut,
    /// Read since the connection began.
    pub(super) read: u64,
    /// Written since the connection began.
    pub(super) bytes: u64,
    /// The source has said that no more comes.
    pub(super) source_ended: bool,
    /// That has been passed on, or the sink takes no more: this direction is over.
    pub(super) over: bool,
    /// The sink takes nothing for now.
    pub(super) blocked: bool,
}

/// A source that ended otherwise than by saying so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Broken;

impl Flow {
    /// With bytes that were read before.
    pub(super) fn holding(buffer: BytesMut) -> Self {
        Self { read: buffer.len() as u64, buffer, ..Self::default() }
    }

    /// Moves what can be moved. Ready when the direction is over.
    ///
    /// # Errors
    /// The source is broken. (A sink that is broken only ends the direction: what it has sent itself may still be read.)
    pub(super) fn poll(
        &mut self,
        context: &mut Context<'_>,
        source: &mut impl Side,
        sink: &mut impl Side,
        local: &Local,
    ) -> Poll<Result<(), Broken>> {
        while !self.over {
            if !self.buffer.is_empty() {
                match sink.poll_write(context, &self.buffer) {
                    Poll::Ready(Ok(written)) if written > 0 => {
                        self.blocked = false;
                        self.buffer.advance(written);
                        self.bytes = self.bytes.saturating_add(written as u64);
                    }
                    Poll::Ready(_) => self.finish(local),
                    Poll::Pending => {
                        self.blocked = true;
                        local.settle(&mut self.buffer);
                        return Poll::Pending;
                    }
                }
            } else if self.source_ended {
                // A sink that cannot be told is gone.
                let Poll::Ready(_) = sink.poll_end(context) else { return Poll::Pending };
                self.finish(local);
            } else {
                match source.poll_fill(context, &mut self.buffer) {
                    Poll::Ready(Ok(0)) => self.source_ended = true,
                    Poll::Ready(Ok(read)) => self.read = self.read.saturating_add(read as u64),
                    Poll::Ready(Err(_)) => return Poll::Ready(Err(Broken)),
                    Poll::Pending => return Poll::Pending,
                }
            }
        }
        Poll::Ready(Ok(()))
    }

    /// The sink takes no more: this direction is over.
    pub(super) fn finish(&mut self, local: &Local) {
        self.over = true;
        self.blocked = false;
        local.give(std::mem::take(&mut self.buffer));
    }
}
