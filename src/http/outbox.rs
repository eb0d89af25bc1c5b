//! Bytes on their way to a socket: what stands before the data, a large piece of data as it is, and what stands behind it.
//!
//! Small data is copied behind the head, so that a head with its body is one write; large data goes out as the slice of the
//! block it was read into. An outbox takes one large piece at a time: that, and not a watermark, is the bound on what is buffered.

use std::io::{self, IoSlice};
use std::task::{Context, Poll, ready};

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::codec::head::Headers;
use crate::codec::http1::{BodyMismatch, BodyWriter};
use crate::local::Local;

/// Data up to this length is copied: cheaper than one more slice in a vectored write.
const COPIED: usize = 4 * 1024;
/// Copied data is gathered up to this length.
const GATHERED: usize = 16 * 1024;

/// Bytes to be written.
#[derive(Default)]
pub(super) struct Outbox {
    /// Heads, chunk lines, small data.
    pub(super) front: BytesMut,
    data: Bytes,
    behind: &'static [u8],
    /// The last write did not take everything.
    blocked: bool,
}

impl Outbox {
    /// With a head, or whatever comes first.
    pub(super) fn new(front: BytesMut) -> Self {
        Self { front, ..Self::default() }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.front.is_empty() && self.data.is_empty() && self.behind.is_empty()
    }

    /// One that holds what another held, which a peer did or did not take.
    pub(super) fn restore(pending: &[u8], blocked: bool) -> Self {
        Self { front: pending.into(), blocked, ..Self::default() }
    }

    /// All that it holds, as one piece.
    pub(super) fn to_vec(&self) -> Vec<u8> {
        [&self.front[..], &self.data[..], self.behind].concat()
    }

    /// Bytes that it holds.
    pub(super) fn len(&self) -> usize {
        self.front.len() + self.data.len() + self.behind.len()
    }

    /// Whether another frame may come.
    pub(super) fn has_room(&self) -> bool {
        self.data.is_empty() && self.behind.is_empty() && self.front.len() < GATHERED
    }

    /// Whether all of it stands in the front, as one piece.
    pub(super) fn is_one_piece(&self) -> bool {
        self.data.is_empty() && self.behind.is_empty()
    }

    /// Whether the peer does not take what we have.
    pub(super) fn is_blocked(&self) -> bool {
        self.blocked
    }

    /// Takes data when there is room ([`Self::has_room`]).
    pub(super) fn push(&mut self, data: Bytes, writer: &mut BodyWriter, local: &Local) -> Result<(), BodyMismatch> {
        if self.front.capacity() == 0 {
            self.front = local.block();
        }
        if data.len() <= COPIED {
            return writer.data(&data, &mut self.front);
        }
        let (prefix, behind) = writer.frame(data.len())?;
        self.front.put_slice(prefix.as_slice());
        self.data = data;
        self.behind = behind;
        Ok(())
    }

    /// Takes the end of the body when there is room.
    pub(super) fn end(&mut self, trailers: Option<&Headers>, writer: &mut BodyWriter) -> Result<(), BodyMismatch> {
        writer.end(trailers, &mut self.front)
    }

    /// Writes until everything is written (`Ready`), or the peer takes no more.
    pub(super) fn poll_flush(
        &mut self,
        context: &mut Context<'_>,
        local: &Local,
        mut write: impl FnMut(&mut Context<'_>, &[IoSlice<'_>]) -> Poll<io::Result<usize>>,
    ) -> Poll<io::Result<()>> {
        while !self.is_empty() {
            let written = if self.data.is_empty() && self.behind.is_empty() {
                write(context, &[IoSlice::new(&self.front)])
            } else {
                let slices = [IoSlice::new(&self.front), IoSlice::new(&self.data), IoSlice::new(self.behind)];
                write(context, &slices)
            };
            self.blocked = written.is_pending();
            match ready!(written)? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                written => self.advance(written),
            }
        }
        self.data = Bytes::new();
        local.settle(&mut self.front);
        Poll::Ready(Ok(()))
    }

    fn advance(&mut self, written: usize) {
        let front = written.min(self.front.len());
        self.front.advance(front);
        let data = (written - front).min(self.data.len());
        self.data.advance(data);
        self.behind = &self.behind[written - front - data..];
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::http1::Body;
    use std::task::Waker;

    /// A socket that takes `step` bytes at a time.
    fn drain(outbox: &mut Outbox, local: &Local, step: usize) -> Vec<u8> {
        let mut wire = Vec::new();
        let mut context = Context::from_waker(Waker::noop());
        let flushed = outbox.poll_flush(&mut context, local, |_, slices| {
            let mut taken = 0;
            for slice in slices {
                let part = slice.len().min(step - taken);
                wire.extend_from_slice(&slice[..part]);
                taken += part;
            }
            Poll::Ready(Ok(taken))
        });
        assert!(matches!(flushed, Poll::Ready(Ok(()))));
        wire
    }

    #[test]
    fn every_split_writes_the_same_bytes() {
        let local = Local::new();
        let big = vec![b'x'; COPIED + 1];
        let mut expected = b"HEAD1\r\nx\r\n1001\r\n".to_vec();
        expected.extend_from_slice(&big);
        expected.extend_from_slice(b"\r\n0\r\n\r\n");
        for step in [1, 2, 3, 7, 100, 5000, 100_000] {
            let mut outbox = Outbox::default();
            let mut writer = BodyWriter::new(Body::Chunked);
            outbox.front.put_slice(b"HEAD");
            outbox.push(Bytes::from_static(b"x"), &mut writer, &local).unwrap();
            assert!(outbox.has_room());
            outbox.push(big.clone().into(), &mut writer, &local).unwrap();
            assert!(!outbox.has_room());
            let mut wire = drain(&mut outbox, &local, step);
            outbox.end(None, &mut writer).unwrap();
            wire.extend(drain(&mut outbox, &local, step));
            assert_eq!(wire, expected, "in steps of {step}");
        }
    }
}
