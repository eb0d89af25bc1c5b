//! One end of a channel: send and receive whole frames with descriptors.
//!
//! The socket is always non-blocking. `try_send` and `try_recv` never wait and suit an event loop (a `poll` loop, or tokio's `AsyncFd` over the
//! channel itself); `send` and `recv` wait with a deadline.

use std::env;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::path::Path;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, FdFlag, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    AddressFamily, Shutdown, SockFlag, SockType, UnixAddr, connect, getsockopt, shutdown, socket, socketpair, sockopt,
};

use super::message::{Message, NotUnderstood};
use super::{ENV_CHANNEL, ENV_EPOCH, Error, MAX_FRAME, Opened, frame, rights};

/// One message as it came in.
#[derive(Debug)]
pub struct Packet {
    /// What it says.
    pub message: Message,
    /// The descriptors beside it, close-on-exec.
    pub descriptors: Vec<OwnedFd>,
}

impl From<Message> for Packet {
    fn from(message: Message) -> Self {
        Self { message, descriptors: Vec::new() }
    }
}

/// One end.
#[derive(Debug)]
pub struct Channel {
    socket: OwnedFd,
}

impl Channel {
    /// Two connected ends, both close-on-exec and non-blocking.
    ///
    /// # Errors
    /// [`Error::System`], mostly for want of descriptors.
    pub fn pair() -> Result<(Self, Self), Error> {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let (a, b) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, flags)
            .map_err(|error| system("socketpair", error))?;
        Ok((Self { socket: a }, Self { socket: b }))
    }

    /// Takes a connected socket, checks that it is of the right kind and makes it close-on-exec and non-blocking.
    ///
    /// # Errors
    /// [`Error::System`] when it is not a `SOCK_SEQPACKET` socket.
    pub fn from_socket(socket: OwnedFd) -> Result<Self, Error> {
        let kind = getsockopt(&socket, sockopt::SockType).map_err(|error| system("channel", error))?;
        if kind != SockType::SeqPacket {
            let source = io::Error::new(io::ErrorKind::InvalidInput, "not a sequenced-packet socket");
            return Err(Error::System { what: "channel", source });
        }
        fcntl(&socket, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC)).map_err(|error| system("fcntl", error))?;
        let flags = fcntl(&socket, FcntlArg::F_GETFL).map_err(|error| system("fcntl", error))?;
        let flags = OFlag::from_bits_retain(flags) | OFlag::O_NONBLOCK;
        fcntl(&socket, FcntlArg::F_SETFL(flags)).map_err(|error| system("fcntl", error))?;
        Ok(Self { socket })
    }

    /// Connects to a supervisor's control socket.
    ///
    /// # Errors
    /// [`Error::System`]: not there, nobody listens, not allowed, or not such a socket.
    pub fn connect(path: &Path) -> Result<Self, Error> {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let socket = socket(AddressFamily::Unix, SockType::SeqPacket, flags, None).map_err(|e| system("socket", e))?;
        let address = UnixAddr::new(path).map_err(|error| system("connect", error))?;
        connect(socket.as_raw_fd(), &address).map_err(|error| system("connect", error))?;
        Ok(Self { socket })
    }

    /// The epoch's end as the supervisor left it in the environment, and the epoch's number; `None` when there is no supervisor. Call it once:
    /// the descriptor changes hands.
    ///
    /// # Errors
    /// When the variables are there but wrong.
    pub fn from_environment() -> Result<Option<(Self, u64)>, Error> {
        let Ok(number) = env::var(ENV_CHANNEL) else { return Ok(None) };
        let invalid = |what, text: &str| {
            let source = io::Error::new(io::ErrorKind::InvalidInput, format!("{text:?} is not a number"));
            Error::System { what, source }
        };
        let number: RawFd = number.parse().map_err(|_| invalid(ENV_CHANNEL, &number))?;
        let epoch = env::var(ENV_EPOCH).unwrap_or_default();
        let epoch: u64 = epoch.parse().map_err(|_| invalid(ENV_EPOCH, &epoch))?;
        let socket = rights::inherit(number).map_err(|source| Error::System { what: ENV_CHANNEL, source })?;
        Ok(Some((Self::from_socket(socket)?, epoch)))
    }

    /// Sends a message if there is room now: `Ok(false)` when there is none.
    ///
    /// # Errors
    /// [`Error::Closed`] when the other side is gone, [`Error::TooLarge`], [`Error::TooManyDescriptors`], [`Error::System`].
    pub fn try_send(&self, message: &Message, descriptors: &[BorrowedFd<'_>]) -> Result<bool, Error> {
        let bytes = frame::seal(message, descriptors.len())?;
        loop {
            return match rights::send(self.socket.as_fd(), &bytes, descriptors) {
                Ok(()) => Ok(true),
                Err(error) => match error.raw_os_error().map(Errno::from_raw) {
                    Some(Errno::EINTR) => continue,
                    // Without privileges the kernel bounds descriptors in flight: room comes when the other side reads.
                    Some(Errno::EAGAIN | Errno::ETOOMANYREFS | Errno::ENOBUFS) => Ok(false),
                    Some(Errno::EPIPE | Errno::ECONNRESET | Errno::ENOTCONN) => Err(Error::Closed),
                    _ => Err(Error::System { what: "sendmsg", source: error }),
                },
            };
        }
    }

    /// Takes the next message if one is there: `Ok(None)` when none is. A message of an unknown kind is answered and skipped.
    ///
    /// # Errors
    /// [`Error::Closed`] at the end, [`Error::Malformed`] for a packet that is no frame (the channel stays usable), [`Error::System`].
    pub fn try_recv(&self) -> Result<Option<Packet>, Error> {
        let mut buffer = vec![0; MAX_FRAME];
        let mut reset = false;
        loop {
            let arrival = match rights::receive(self.socket.as_fd(), &mut buffer) {
                Ok(arrival) => arrival,
                Err(error) => match error.raw_os_error().map(Errno::from_raw) {
                    Some(Errno::EINTR) => continue,
                    Some(Errno::EAGAIN) => return Ok(None),
                    // The other side closed with something unread. The kernel says so once, before what it had sent: that comes next.
                    Some(Errno::ECONNRESET) if !reset => {
                        reset = true;
                        continue;
                    }
                    Some(Errno::ECONNRESET | Errno::ENOTCONN) => return Err(Error::Closed),
                    _ => return Err(Error::System { what: "recvmsg", source: error }),
                },
            };
            if arrival.length == 0 {
                return Err(Error::Closed);
            }
            if arrival.cut {
                return Err(Error::Malformed(format!("longer than {MAX_FRAME} bytes")));
            }
            let bytes = buffer.get(..arrival.length).unwrap_or_default();
            if arrival.lost_descriptors {
                // What the kernel could install are the first of them, in order: whoever can do with those may.
                return Err(match frame::open_cut(bytes) {
                    Ok(Opened::Known(message @ Message::Moved(_))) => {
                        Error::Lost(Box::new(Packet { message, descriptors: arrival.descriptors }))
                    }
                    _ => Error::Malformed("descriptors were lost: this process has too many open".into()),
                });
            }
            match frame::open(bytes, arrival.descriptors.len())? {
                Opened::Known(message) => return Ok(Some(Packet { message, descriptors: arrival.descriptors })),
                // Best effort: the answer is a courtesy, and a full socket must not stop the reading.
                Opened::Unknown { tag } => {
                    let _ = self.try_send(&Message::NotUnderstood(NotUnderstood { tag }), &[]);
                }
            }
        }
    }

    /// Receives nothing more: what has arrived can still be taken, what the other side sends from now on fails there with [`Error::Closed`].
    ///
    /// # Errors
    /// [`Error::System`].
    pub fn stop_receiving(&self) -> Result<(), Error> {
        shutdown(self.socket.as_raw_fd(), Shutdown::Read).map_err(|error| system("shutdown", error))
    }

    /// Sends a message, waiting for room until the deadline.
    ///
    /// # Errors
    /// As [`Channel::try_send`], and [`Error::TimedOut`].
    pub fn send(&self, message: &Message, descriptors: &[BorrowedFd<'_>], deadline: Instant) -> Result<(), Error> {
        while !self.try_send(message, descriptors)? {
            self.wait(PollFlags::POLLOUT, deadline)?;
        }
        Ok(())
    }

    /// Takes the next message, waiting for it until the deadline.
    ///
    /// # Errors
    /// As [`Channel::try_recv`], and [`Error::TimedOut`].
    pub fn recv(&self, deadline: Instant) -> Result<Packet, Error> {
        loop {
            if let Some(packet) = self.try_recv()? {
                return Ok(packet);
            }
            self.wait(PollFlags::POLLIN, deadline)?;
        }
    }

    fn wait(&self, interest: PollFlags, deadline: Instant) -> Result<(), Error> {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(Error::TimedOut);
        }
        // A full socket that fails for want of descriptor credit polls as writable: short steps keep that from spinning for long.
        let step = if interest.contains(PollFlags::POLLOUT) { left.min(Duration::from_millis(20)) } else { left };
        let timeout = PollTimeout::try_from(step.as_millis().max(1)).unwrap_or(PollTimeout::MAX);
        match poll(&mut [PollFd::new(self.socket.as_fd(), interest)], timeout) {
            Ok(_) | Err(Errno::EINTR) => Ok(()),
            Err(error) => Err(system("poll", error)),
        }
    }
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl AsRawFd for Channel {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}

impl From<Channel> for OwnedFd {
    fn from(channel: Channel) -> Self {
        channel.socket
    }
}

fn system(what: &'static str, error: Errno) -> Error {
    Error::System { what, source: error.into() }
}
