//! The stream for those who poll: data paths that watch both of their sockets from one task.
//!
//! Unlike `try_read`, a polled read that fills less than the room it had tells the reactor that the socket is empty, so that the next
//! one waits without a system call.

use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll};

use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::Stream;

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_read(context, buffer),
            Self::Unix(stream) => Pin::new(stream).poll_read(context, buffer),
            Self::Tls(stream) => stream.poll_read(context, buffer),
        }
    }
}

impl Stream {
    /// Waits until a read is worth a call, without a buffer to read into.
    pub(super) fn poll_readable(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Tcp(stream) => stream.poll_read_ready(context),
            Self::Unix(stream) => stream.poll_read_ready(context),
            Self::Tls(stream) => stream.socket.poll_readable(context),
        }
    }

    /// Writes as much as fits of `slices`, with one system call. Whoever has to wait comes back with the same bytes in front.
    ///
    /// # Errors
    /// The connection is gone.
    pub fn poll_write_slices(&mut self, context: &mut Context<'_>, slices: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        match (self, slices) {
            (Self::Tcp(stream), [one]) => Pin::new(stream).poll_write(context, one),
            (Self::Unix(stream), [one]) => Pin::new(stream).poll_write(context, one),
            (Self::Tls(stream), slices) => stream.poll_write(context, slices),
            (Self::Tcp(stream), many) => Pin::new(stream).poll_write_vectored(context, many),
            (Self::Unix(stream), many) => Pin::new(stream).poll_write_vectored(context, many),
        }
    }

    /// Asks the system, whatever the reactor has heard so far: true when bytes or the end have arrived.
    ///
    /// # Errors
    /// The connection is gone.
    pub fn has_arrived(&self) -> io::Result<bool> {
        if let Self::Tls(stream) = self {
            return stream.has_arrived();
        }
        let mut byte = [MaybeUninit::uninit(); 1];
        match SockRef::from(self).peek(&mut byte) {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Ends the sending side, over TLS with a `close_notify`.
    ///
    /// # Errors
    /// The connection is gone.
    pub fn poll_end(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Tcp(stream) => Pin::new(stream).poll_shutdown(context),
            Self::Unix(stream) => Pin::new(stream).poll_shutdown(context),
            Self::Tls(stream) => stream.poll_end(context),
        }
    }
}
