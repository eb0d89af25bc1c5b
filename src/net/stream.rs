//! A connected byte stream, TCP or Unix.

use std::fmt;
use std::io::{self, IoSlice};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::BufMut;
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{Interest, Ready};
use tokio::net::{TcpStream, UnixStream};

use super::tls::TlsStream;

/// A connected stream of either kind. All IO is readiness-based: wait, then try; so that waiting needs no buffer.
#[derive(Debug)]
pub enum Stream {
    /// TCP.
    Tcp(TcpStream),
    /// Unix, stream type.
    Unix(UnixStream),
    /// TLS over one of the two. It is only polled: what tries without waiting is [`io::ErrorKind::Unsupported`].
    Tls(Box<TlsStream>),
}

/// The address of one end of a connection.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum PeerAddress {
    /// IP and port. An IPv4 address that came in over an IPv6 socket is IPv4.
    Ip(SocketAddr),
    /// A Unix socket; most clients' ends have no path.
    Unix(Option<PathBuf>),
}

impl PeerAddress {
    /// The IP address, where there is one.
    pub fn ip(&self) -> Option<IpAddr> {
        match self {
            Self::Ip(address) => Some(address.ip()),
            Self::Unix(_) => None,
        }
    }

    /// Address and port, where there is one.
    pub fn socket(&self) -> Option<SocketAddr> {
        match self {
            Self::Ip(address) => Some(*address),
            Self::Unix(_) => None,
        }
    }
}

impl From<SocketAddr> for PeerAddress {
    fn from(address: SocketAddr) -> Self {
        Self::Ip(SocketAddr::new(address.ip().to_canonical(), address.port()))
    }
}

impl From<tokio::net::unix::SocketAddr> for PeerAddress {
    fn from(address: tokio::net::unix::SocketAddr) -> Self {
        Self::Unix(address.as_pathname().map(Path::to_path_buf))
    }
}

impl fmt::Display for PeerAddress {
    /// `ip:port` or the path, as access logs print it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(address) => write!(f, "{address}"),
            Self::Unix(Some(path)) => write!(f, "{}", path.display()),
            Self::Unix(None) => Ok(()),
        }
    }
}

/// TCP keep-alive; `None` leaves the system's value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Keepalive {
    /// Unanswered probes before the connection is given up.
    pub probes: Option<u32>,
    /// Seconds of silence before the first probe.
    pub time: Option<u32>,
    /// Seconds between probes.
    pub interval: Option<u32>,
}

/// For the socket itself; `tls` is what to do with what lies over it.
macro_rules! either {
    ($stream:expr, $inner:ident => $call:expr, $tls:ident => $over:expr) => {
        match $stream {
            Stream::Tcp($inner) => $call,
            Stream::Unix($inner) => $call,
            Stream::Tls($tls) => $over,
        }
    };
    ($stream:expr, $inner:ident => $call:expr) => {
        either!($stream, $inner => $call, _tls => Err(io::ErrorKind::Unsupported.into()))
    };
}

impl Stream {
    /// Connects over TCP. The caller bounds the time.
    ///
    /// # Errors
    /// As the system says.
    pub async fn connect_tcp(address: SocketAddr) -> io::Result<Self> {
        TcpStream::connect(address).await.map(Self::Tcp)
    }

    /// Connects to a Unix socket; a path that begins with `@` names the abstract name space.
    ///
    /// # Errors
    /// As the system says.
    pub async fn connect_unix(path: &Path) -> io::Result<Self> {
        match super::bind::abstract_name(path) {
            None => UnixStream::connect(path).await.map(Self::Unix),
            Some(name) => {
                use std::os::linux::net::SocketAddrExt;
                let address = std::os::unix::net::SocketAddr::from_abstract_name(name)?;
                UnixStream::connect_addr(&address.into()).await.map(Self::Unix)
            }
        }
    }

    /// Takes over a connected socket, of whichever kind it is; makes it non-blocking.
    ///
    /// # Errors
    /// Not a stream socket, or no reactor on this thread.
    pub fn from_fd(fd: OwnedFd) -> io::Result<Self> {
        let socket = socket2::Socket::from(fd);
        socket.set_nonblocking(true)?;
        if socket.r#type()? != socket2::Type::STREAM {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a stream socket"));
        }
        match socket.domain()? {
            socket2::Domain::UNIX => UnixStream::from_std(OwnedFd::from(socket).into()).map(Self::Unix),
            _ => TcpStream::from_std(OwnedFd::from(socket).into()).map(Self::Tcp),
        }
    }

    /// Whether somebody else can go on with it who has its descriptor and what has been read of it: nothing is known of it here beside that.
    pub const fn may_move(&self) -> bool {
        match self {
            Self::Tcp(_) | Self::Unix(_) => true,
            Self::Tls(_) => false,
        }
    }

    /// Gives the socket up to its descriptor, deregistered from this thread's reactor. Still open, still non-blocking.
    ///
    /// # Errors
    /// The reactor could not let go of it; or TLS, which does not go on from its socket alone.
    pub fn into_fd(self) -> io::Result<OwnedFd> {
        either!(self, stream => stream.into_std().map(OwnedFd::from))
    }

    /// Where the other end is.
    ///
    /// # Errors
    /// The connection is gone.
    pub fn peer_address(&self) -> io::Result<PeerAddress> {
        either!(self, stream => stream.peer_addr().map(PeerAddress::from), tls => tls.socket.peer_address())
    }

    /// Where this end is.
    ///
    /// # Errors
    /// The connection is gone.
    pub fn local_address(&self) -> io::Result<PeerAddress> {
        either!(self, stream => stream.local_addr().map(PeerAddress::from), tls => tls.socket.local_address())
    }

    /// Waits until [`Self::try_read`] is worth a call.
    ///
    /// # Errors
    /// The reactor is gone.
    pub async fn readable(&self) -> io::Result<()> {
        either!(self, stream => stream.readable().await)
    }

    /// Waits until [`Self::try_write`] is worth a call.
    ///
    /// # Errors
    /// The reactor is gone.
    pub async fn writable(&self) -> io::Result<()> {
        either!(self, stream => stream.writable().await)
    }

    /// Waits for one of several kinds of readiness.
    ///
    /// # Errors
    /// The reactor is gone.
    pub async fn ready(&self, interest: Interest) -> io::Result<Ready> {
        either!(self, stream => stream.ready(interest).await)
    }

    /// Reads what is there; 0 is the end.
    ///
    /// # Errors
    /// `WouldBlock`: wait with [`Self::readable`]. Others end the connection.
    pub fn try_read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        either!(self, stream => stream.try_read(buffer))
    }

    /// Reads what is there into the room that `buffer` has; 0 is the end (or no room).
    ///
    /// # Errors
    /// As [`Self::try_read`].
    pub fn try_read_buf(&self, buffer: &mut impl BufMut) -> io::Result<usize> {
        either!(self, stream => stream.try_read_buf(buffer))
    }

    /// Looks at the first bytes that are there without taking them; 0 is the end.
    ///
    /// # Errors
    /// As [`Self::try_read`].
    pub fn try_peek(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.try_peek_past(buffer, 0)
    }

    /// The same for who has seen `seen` bytes: where there are no more, it waits for the next.
    ///
    /// # Errors
    /// As [`Self::try_read`].
    pub fn try_peek_past(&self, buffer: &mut [u8], seen: usize) -> io::Result<usize> {
        let mut peek = |fd: BorrowedFd<'_>| {
            match nix::sys::socket::recv(fd.as_raw_fd(), buffer, nix::sys::socket::MsgFlags::MSG_PEEK) {
                // Bytes that stay where they are leave the socket ready: only a new one is news.
                Ok(read) if read > 0 && read <= seen => Err(io::ErrorKind::WouldBlock.into()),
                peeked => peeked.map_err(io::Error::from),
            }
        };
        either!(self, stream => stream.try_io(Interest::READABLE, || peek(stream.as_fd())))
    }

    /// Writes as much as fits.
    ///
    /// # Errors
    /// `WouldBlock`: wait with [`Self::writable`]. Others end the connection.
    pub fn try_write(&self, data: &[u8]) -> io::Result<usize> {
        either!(self, stream => stream.try_write(data))
    }

    /// Writes as much as fits, from several slices.
    ///
    /// # Errors
    /// As [`Self::try_write`].
    pub fn try_write_vectored(&self, data: &[IoSlice<'_>]) -> io::Result<usize> {
        either!(self, stream => stream.try_write_vectored(data))
    }

    /// Ends the sending side; the other goes on.
    ///
    /// # Errors
    /// The connection is gone.
    pub async fn shutdown(&mut self) -> io::Result<()> {
        std::future::poll_fn(|context| self.poll_end(context)).await
    }

    /// Sends small writes at once. Nothing for Unix sockets.
    ///
    /// # Errors
    /// As the system says.
    pub fn set_nodelay(&self) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.set_nodelay(true),
            Self::Unix(_) => Ok(()),
            Self::Tls(tls) => tls.socket.set_nodelay(),
        }
    }

    /// Switches TCP keep-alive on. Nothing for Unix sockets.
    ///
    /// # Errors
    /// A value that the system refuses.
    pub fn set_keepalive(&self, keepalive: &Keepalive) -> io::Result<()> {
        let stream = match self {
            Self::Tcp(stream) => stream,
            Self::Unix(_) => return Ok(()),
            Self::Tls(tls) => return tls.socket.set_keepalive(keepalive),
        };
        let seconds = |value: u32| Duration::from_secs(value.into());
        let mut options = TcpKeepalive::new();
        if let Some(time) = keepalive.time {
            options = options.with_time(seconds(time));
        }
        if let Some(interval) = keepalive.interval {
            options = options.with_interval(seconds(interval));
        }
        if let Some(probes) = keepalive.probes {
            options = options.with_retries(probes);
        }
        SockRef::from(stream).set_tcp_keepalive(&options)
    }

    /// Makes the close of this socket a reset, without waiting for unsent data.
    ///
    /// # Errors
    /// As the system says.
    pub fn reset_on_close(&self) -> io::Result<()> {
        SockRef::from(self).set_linger(Some(Duration::ZERO))
    }

    /// Takes an error that the socket has stored, as a failed connect does.
    ///
    /// # Errors
    /// The socket cannot be asked.
    pub fn take_error(&self) -> io::Result<Option<io::Error>> {
        either!(self, stream => stream.take_error(), tls => tls.socket.take_error())
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        either!(self, stream => stream.as_fd(), tls => tls.socket.as_fd())
    }
}
