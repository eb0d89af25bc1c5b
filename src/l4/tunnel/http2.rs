//! A side of a tunnel that is one stream of an HTTP/2 connection (RFC 9113, 8.5): DATA frames are its bytes, END_STREAM is its end, RST_STREAM breaks it.
//!
//! What is pulled out of the stream is what the peer may send again, so a slow other side shuts this one's window. What the stream is stands in the
//! `h2` crate: a tunnel with such a side does not move to another epoch.

use std::io;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes, BytesMut};
use h2::{Reason, RecvStream, SendStream};

use super::flow::{Gone, Side};
use crate::http2::poll_room;
use crate::local::{BLOCK, Local};

/// A stream, both halves.
pub struct End {
    local: Local,
    send: SendStream<Bytes>,
    /// Gone when it has ended.
    recv: Option<RecvStream>,
    /// Of a frame for which there was no room.
    held: Bytes,
    /// The peer has reset the stream.
    was_reset: bool,
}

impl End {
    /// Of a stream whose heads have gone both ways; `recv` is `None` where the peer's half ended with its head.
    pub fn new(local: &Local, send: SendStream<Bytes>, recv: Option<RecvStream>) -> Self {
        Self { local: local.clone(), send, recv, held: Bytes::new(), was_reset: false }
    }

    /// The peer has reset the stream, and not only ended its connection.
    pub(super) fn was_reset(&self) -> bool {
        self.was_reset
    }

    /// Ends the stream before its time.
    pub(super) fn reset(&mut self, reason: Reason) {
        self.send.send_reset(reason);
    }

    /// The next bytes of the stream; none at all is its end.
    fn poll_data(&mut self, context: &mut Context<'_>) -> Poll<io::Result<Bytes>> {
        if !self.held.is_empty() {
            return Poll::Ready(Ok(std::mem::take(&mut self.held)));
        }
        loop {
            let Some(recv) = &mut self.recv else { return Poll::Ready(Ok(Bytes::new())) };
            match ready!(recv.poll_data(context)) {
                Some(Ok(data)) if data.is_empty() => {}
                Some(Ok(data)) => return Poll::Ready(Ok(data)),
                Some(Err(error)) => {
                    // The stream is kept: it says the same again.
                    self.was_reset = error.is_reset() && error.is_remote();
                    return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
                }
                // Trailers behind it are none of a tunnel's.
                None => self.recv = None,
            }
        }
    }
}

impl Side for End {
    fn poll_fill(&mut self, context: &mut Context<'_>, buffer: &mut BytesMut) -> Poll<io::Result<usize>> {
        let before = buffer.len();
        loop {
            let mut data = match self.poll_data(context) {
                Poll::Ready(Ok(data)) if !data.is_empty() => data,
                // The end comes again, once what was before it has been taken, and so does a fault.
                Poll::Ready(Ok(_)) => break,
                Poll::Ready(Err(error)) if buffer.len() == before => return Poll::Ready(Err(error)),
                Poll::Pending if buffer.len() == before => {
                    self.local.settle(buffer);
                    return Poll::Pending;
                }
                Poll::Ready(Err(_)) | Poll::Pending => break,
            };
            if buffer.is_empty() && buffer.capacity() < BLOCK / 2 {
                *buffer = self.local.block();
            }
            let part = data.len().min(buffer.capacity() - buffer.len());
            buffer.extend_from_slice(&data[..part]);
            if let Some(recv) = &mut self.recv {
                // It is ours: the peer may send as much again.
                let _ = recv.flow_control().release_capacity(part);
            }
            data.advance(part);
            if !data.is_empty() {
                self.held = data;
                break;
            }
        }
        Poll::Ready(Ok(buffer.len() - before))
    }

    fn poll_write(&mut self, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let gone = || io::Error::from(io::ErrorKind::BrokenPipe);
        let room = ready!(poll_room(&mut self.send, bytes.len(), context)).ok_or_else(gone)?;
        let part = bytes.len().min(room);
        self.send.send_data(Bytes::copy_from_slice(&bytes[..part]), false).map_err(|_| gone())?;
        Poll::Ready(Ok(part))
    }

    fn poll_end(&mut self, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let ended = self.send.send_data(Bytes::new(), true);
        Poll::Ready(ended.map_err(|_| io::ErrorKind::BrokenPipe.into()))
    }

    fn poll_gone(&mut self, context: &mut Context<'_>, unread: bool) -> Poll<Gone> {
        // Who is read tells there, behind all that it has sent.
        if self.recv.is_some() && !unread {
            return Poll::Pending;
        }
        match ready!(self.send.poll_reset(context)) {
            Ok(Reason::NO_ERROR) => Poll::Ready(Gone::TakesNoMore),
            Ok(_) => {
                self.was_reset = true;
                Poll::Ready(Gone::Broken)
            }
            Err(_) => Poll::Ready(Gone::Broken),
        }
    }
}
