//! Sockets, epoll, descriptor limits and waiting: what every part needs of the system.

use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::socket::{setsockopt, sockopt};
use socket2::{Domain, Protocol, Socket, Type};

use crate::Result;

/// Descriptors asked for; granted only as far as the hard limit or our privileges reach.
const WANTED_DESCRIPTORS: u64 = 65_536;
/// How many loopback source addresses share the load of ephemeral ports.
const SOURCES: usize = 8;
/// Between two looks at something that gives no event.
const LOOK: Duration = Duration::from_millis(10);

/// Raises the limit of open descriptors as far as it goes; the children inherit it. Returns what is granted.
pub(crate) fn raise_descriptor_limit() -> Result<u64> {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    if hard < WANTED_DESCRIPTORS && setrlimit(Resource::RLIMIT_NOFILE, WANTED_DESCRIPTORS, WANTED_DESCRIPTORS).is_ok() {
        return Ok(WANTED_DESCRIPTORS);
    }
    let granted = hard.min(WANTED_DESCRIPTORS);
    setrlimit(Resource::RLIMIT_NOFILE, granted, hard)?;
    Ok(granted)
}

/// A listening socket on loopback, non-blocking. Port 0 is any.
pub(crate) fn listen(port: u16) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, port)).into())?;
    socket.listen(4_096)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

/// A port that was free a moment ago, for a peer that must be told one.
pub(crate) fn free_port() -> io::Result<u16> {
    Ok(listen(0)?.local_addr()?.port())
}

/// A connection to `target` from the `turn`-th of a few loopback addresses, so that ports in TIME_WAIT do not run out.
/// `wait` says whether to return only when it stands; otherwise it is non-blocking and perhaps still under way.
pub(crate) fn connect(target: SocketAddr, turn: usize, wait: bool) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?;
    let source = Ipv4Addr::new(127, 0, 0, 1 + u8::try_from(turn % SOURCES).unwrap_or(0));
    setsockopt(&socket, sockopt::IpBindAddressNoPort, &true)?;
    socket.bind(&SocketAddr::from((source, 0)).into())?;
    socket.set_tcp_nodelay(true)?;
    if wait {
        socket.connect(&target.into())?;
    } else {
        socket.set_nonblocking(true)?;
        match socket.connect(&target.into()) {
            Err(error) if error.raw_os_error() != Some(Errno::EINPROGRESS as i32) => return Err(error),
            _ => {}
        }
    }
    Ok(socket.into())
}

/// Level-triggered epoll whose events name an index.
pub(crate) struct Poll {
    epoll: Epoll,
    events: Vec<EpollEvent>,
}

impl Poll {
    /// An empty set.
    pub(crate) fn new() -> io::Result<Self> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        Ok(Self { epoll, events: vec![EpollEvent::empty(); 512] })
    }

    /// Watches for reading.
    pub(crate) fn add(&self, fd: impl AsFd, index: usize) -> io::Result<()> {
        Ok(self.epoll.add(fd, EpollEvent::new(EpollFlags::EPOLLIN, index as u64))?)
    }

    /// Watches for reading, and for writing too if `write`.
    pub(crate) fn change(&self, fd: impl AsFd, index: usize, write: bool) -> io::Result<()> {
        let mut flags = EpollFlags::EPOLLIN;
        flags.set(EpollFlags::EPOLLOUT, write);
        Ok(self.epoll.modify(fd, &mut EpollEvent::new(flags, index as u64))?)
    }

    /// Waits at most until `deadline` and puts the indices that are ready into `ready`.
    pub(crate) fn wait(&mut self, ready: &mut Vec<usize>, deadline: Option<Instant>) -> io::Result<()> {
        ready.clear();
        let timeout = match deadline {
            None => EpollTimeout::NONE,
            Some(at) => {
                let left = at.saturating_duration_since(Instant::now()).as_millis();
                EpollTimeout::from(u16::try_from(left.saturating_add(1)).unwrap_or(u16::MAX))
            }
        };
        match self.epoll.wait(&mut self.events, timeout) {
            Ok(count) => ready.extend(self.events.iter().take(count).map(|event| event.data() as usize)),
            Err(Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }
}

/// Whether a non-blocking call only has to be tried again later.
pub(crate) fn is_later(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted | ErrorKind::NotConnected)
}

/// Looks again and again until `look` gives something, or `limit` has passed.
pub(crate) fn eventually<T>(limit: Duration, mut look: impl FnMut() -> Option<T>) -> Option<T> {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(found) = look() {
            return Some(found);
        }
        if Instant::now() >= deadline {
            return None;
        }
        pause(LOOK);
    }
}

/// A foreign process gives no event when it has opened its port or given memory back: it can only be looked at again later.
#[allow(clippy::disallowed_methods, reason = "the step of a poll with a deadline over what gives no event")]
pub(crate) fn pause(step: Duration) {
    std::thread::sleep(step);
}
