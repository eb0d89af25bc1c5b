//! A stream for those who own their bytes: every byte that passes is shown to a [`Watch`], which counts, and may object.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::Stream;

/// How much is read at once of what is forgotten, in bytes.
const FORGOTTEN: usize = 2048;

/// Who looks at the bytes of a stream.
pub trait Watch {
    /// Bytes have come; none at all is the end.
    ///
    /// # Errors
    /// They are refused: the reader gets this error instead of them.
    fn received(&mut self, bytes: &[u8]) -> io::Result<()>;

    /// Bytes have been taken to be sent.
    fn sent(&mut self, bytes: &[u8]);

    /// The other side has broken the connection.
    fn broken(&mut self);

    /// Ready when the other side, which has been told that this is the end, has had time enough to read it. Closing a socket with unread bytes makes the system
    /// throw away what the other side has not read; so until then what still comes is read and forgotten.
    fn poll_waited(&mut self, context: &mut Context<'_>) -> Poll<()>;
}

/// A stream and who looks at it.
#[derive(Debug)]
pub struct Watched<W> {
    stream: Stream,
    watch: W,
    /// Read before; comes first.
    before: BytesMut,
    /// The other side has been told that this is the end.
    ended: bool,
}

impl<W: Watch> Watched<W> {
    /// The two together.
    pub fn new(stream: Stream, watch: W) -> Self {
        Self { stream, watch, before: BytesMut::new(), ended: false }
    }

    /// With bytes of the stream that have been read already: they come first.
    #[must_use]
    pub fn after(mut self, read: BytesMut) -> Self {
        self.before = read;
        self
    }

    fn wrote(&mut self, written: io::Result<usize>, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        match written {
            Ok(mut left) => {
                let total = left;
                for slice in slices {
                    let part = left.min(slice.len());
                    self.watch.sent(&slice[..part]);
                    left -= part;
                }
                Ok(total)
            }
            Err(error) => {
                self.watch.broken();
                Err(error)
            }
        }
    }
}

impl<W: Watch + Unpin> AsyncRead for Watched<W> {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !this.before.is_empty() {
            let part = this.before.len().min(buffer.remaining());
            let part = this.before.split_to(part);
            buffer.put_slice(&part);
            return Poll::Ready(this.watch.received(&part));
        }
        let before = buffer.filled().len();
        match ready!(Pin::new(&mut this.stream).poll_read(context, buffer)) {
            Ok(()) => Poll::Ready(this.watch.received(&buffer.filled()[before..])),
            Err(error) => {
                this.watch.broken();
                Poll::Ready(Err(error))
            }
        }
    }
}

impl<W: Watch + Unpin> AsyncWrite for Watched<W> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(context, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = ready!(this.stream.poll_write_slices(context, slices));
        Poll::Ready(this.wrote(written, slices))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        // What a stream has taken is with the system.
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !this.ended {
            ready!(this.stream.poll_end(context))?;
            this.ended = true;
        }
        let mut forgotten = [0; FORGOTTEN];
        loop {
            if this.watch.poll_waited(context).is_ready() {
                return Poll::Ready(Ok(()));
            }
            let mut buffer = ReadBuf::new(&mut forgotten);
            let read = ready!(Pin::new(&mut this.stream).poll_read(context, &mut buffer));
            if read.is_err() || buffer.filled().is_empty() {
                return Poll::Ready(Ok(()));
            }
        }
    }
}
