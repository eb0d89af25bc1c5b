//! A listening socket, TCP or Unix, wherever it came from.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use nix::libc;
use tokio::net::{TcpListener, UnixListener};

use super::{PeerAddress, Stream};

/// A listening socket of either kind, registered with this thread's reactor.
#[derive(Debug)]
pub enum Listener {
    /// TCP.
    Tcp(TcpListener),
    /// Unix, stream type.
    Unix(UnixListener),
}

impl Listener {
    /// Takes over a listening socket, lent, inherited or bound; makes it non-blocking.
    ///
    /// # Errors
    /// Not a listening stream socket, or no reactor on this thread.
    pub fn from_fd(fd: OwnedFd) -> io::Result<Self> {
        let socket = socket2::Socket::from(fd);
        if socket.r#type()? != socket2::Type::STREAM || !socket.is_listener()? {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a listening stream socket"));
        }
        socket.set_nonblocking(true)?;
        match socket.domain()? {
            socket2::Domain::UNIX => UnixListener::from_std(OwnedFd::from(socket).into()).map(Self::Unix),
            _ => TcpListener::from_std(OwnedFd::from(socket).into()).map(Self::Tcp),
        }
    }

    /// Gives the socket up to its descriptor; what is queued stays queued.
    ///
    /// # Errors
    /// The reactor could not let go of it.
    pub fn into_fd(self) -> io::Result<OwnedFd> {
        match self {
            Self::Tcp(listener) => listener.into_std().map(OwnedFd::from),
            Self::Unix(listener) => listener.into_std().map(OwnedFd::from),
        }
    }

    /// Where it listens.
    ///
    /// # Errors
    /// As the system says.
    pub fn local_address(&self) -> io::Result<PeerAddress> {
        match self {
            Self::Tcp(listener) => listener.local_addr().map(PeerAddress::from),
            Self::Unix(listener) => listener.local_addr().map(PeerAddress::from),
        }
    }

    /// Waits for a connection. Dropping the future loses none.
    ///
    /// # Errors
    /// Judge them with [`classify_accept`]: none of them ends the listener by itself.
    pub async fn accept(&self) -> io::Result<(Stream, PeerAddress)> {
        match self {
            Self::Tcp(listener) => {
                listener.accept().await.map(|(stream, peer)| (Stream::Tcp(stream), PeerAddress::from(peer)))
            }
            Self::Unix(listener) => {
                listener.accept().await.map(|(stream, peer)| (Stream::Unix(stream), PeerAddress::from(peer)))
            }
        }
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Tcp(listener) => listener.as_fd(),
            Self::Unix(listener) => listener.as_fd(),
        }
    }
}

/// What to do about an error of `accept`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AcceptError {
    /// It was about one connection that is gone: accept the next at once.
    Connection,
    /// This process or the system is out of something: wait a little ([`Backoff`]), or every worker spins.
    Exhausted,
    /// The listening socket itself is broken.
    Listener,
}

/// Judges an error of `accept` (see accept(2)).
pub fn classify_accept(error: &io::Error) -> AcceptError {
    match error.raw_os_error() {
        Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM) => AcceptError::Exhausted,
        Some(libc::EBADF | libc::EINVAL | libc::ENOTSOCK | libc::EOPNOTSUPP | libc::EFAULT) => AcceptError::Listener,
        // Network errors of the new connection come out of accept on Linux, and so does what a firewall refused.
        Some(_) => AcceptError::Connection,
        None => AcceptError::Listener,
    }
}

/// Waits between tries when something is exhausted: doubling, bounded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Backoff {
    failures: u32,
}

impl Backoff {
    const FIRST: Duration = Duration::from_millis(5);
    const LONGEST: Duration = Duration::from_millis(500);

    /// How long to wait after one more failure.
    pub fn next_delay(&mut self) -> Duration {
        let delay = Self::FIRST.saturating_mul(1 << self.failures.min(16)).min(Self::LONGEST);
        self.failures = self.failures.saturating_add(1);
        delay
    }

    /// It worked again.
    pub fn reset(&mut self) {
        self.failures = 0;
    }
}
