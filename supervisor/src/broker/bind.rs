//! Making sockets.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockProtocol, SockType, SockaddrStorage, UnixAddr, bind as bind_socket,
    getsockname, setsockopt, socket, sockopt,
};
use std::os::fd::AsRawFd;

use super::address::Address;
use crate::wire::message::SocketKey;
use crate::wire::set_option;

/// Most sockets that one address may be bound to.
const LARGEST_GROUP: u32 = 1024;

const FLAGS: SockFlag = SockFlag::SOCK_CLOEXEC.union(SockFlag::SOCK_NONBLOCK);

/// Binds `key` for the first time.
pub(super) fn bind(key: &SocketKey, address: &Address) -> io::Result<Vec<OwnedFd>> {
    match address {
        Address::Tcp(ip) | Address::Udp(ip) => {
            let kind = if matches!(address, Address::Tcp(_)) { SockType::Stream } else { SockType::Datagram };
            let group = key.reuse_port_group.clamp(1, LARGEST_GROUP);
            let first = bind_ip(key, kind, *ip)?;
            // With port 0 the rest of a group joins the port that the first one got.
            let ip = if group > 1 && ip.port() == 0 { local(first.as_fd())?.unwrap_or(*ip) } else { *ip };
            let mut sockets = vec![first];
            for _ in 1..group {
                sockets.push(bind_ip(key, kind, ip)?);
            }
            if kind == SockType::Stream {
                // All of a group are bound before one listens: a client is never spread over half a group.
                sockets.iter().try_for_each(|socket| listen(socket.as_fd(), key.backlog))?;
            }
            Ok(sockets)
        }
        Address::Path(path) => Ok(vec![bind_path(key, path)?]),
        Address::Abstract(name) => {
            let socket = socket(AddressFamily::Unix, SockType::Stream, FLAGS, None)?;
            bind_socket(socket.as_raw_fd(), &UnixAddr::new_abstract(name.as_bytes())?)?;
            listen(socket.as_fd(), key.backlog)?;
            Ok(vec![socket])
        }
    }
}

/// Listens, or changes the length of the queue of a socket that listens.
pub(super) fn listen(socket: BorrowedFd<'_>, backlog: u32) -> io::Result<()> {
    let limit =
        i32::try_from(backlog).ok().filter(|backlog| *backlog > 0).and_then(|backlog| Backlog::new(backlog).ok());
    // The kernel cuts at net.core.somaxconn; asking for the most leaves the choice to the administrator.
    nix::sys::socket::listen(&socket, limit.unwrap_or(Backlog::MAXALLOWABLE))?;
    Ok(())
}

fn bind_ip(key: &SocketKey, kind: SockType, address: SocketAddr) -> io::Result<OwnedFd> {
    let family = if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let protocol = if kind == SockType::Stream { SockProtocol::Tcp } else { SockProtocol::Udp };
    let socket = socket(family, kind, FLAGS, protocol)?;
    if kind == SockType::Stream {
        // Connections of a supervisor that has ended may linger. (For UDP the option would mean sharing.)
        setsockopt(&socket, sockopt::ReuseAddr, &true)?;
    }
    if key.reuse_port_group > 1 {
        setsockopt(&socket, sockopt::ReusePort, &true)?;
    }
    if address.is_ipv6() {
        setsockopt(&socket, sockopt::Ipv6V6Only, &!key.ipv4_compat)?;
    }
    let described = socket2::SockRef::from(&socket);
    if key.freebind {
        if address.is_ipv4() { described.set_freebind_v4(true)? } else { described.set_freebind_v6(true)? }
    }
    if key.transparent {
        if address.is_ipv4() {
            described.set_ip_transparent_v4(true)?
        } else {
            described.set_ip_transparent_v6(true)?
        }
    }
    if key.fast_open > 0 && kind == SockType::Stream {
        let queue = i32::try_from(key.fast_open).unwrap_or(i32::MAX);
        set_option(socket.as_fd(), libc::IPPROTO_TCP, libc::TCP_FASTOPEN, queue)?;
    }
    bind_socket(socket.as_raw_fd(), &SockaddrStorage::from(address))?;
    Ok(socket)
}

fn bind_path(key: &SocketKey, path: &Path) -> io::Result<OwnedFd> {
    remove_stale(path)?;
    let socket = socket(AddressFamily::Unix, SockType::Stream, FLAGS, None)?;
    bind_socket(socket.as_raw_fd(), &UnixAddr::new(path)?)?;
    if key.unix_mode != 0 {
        // Nobody can connect before it listens, so there is no moment with another mode.
        fs::set_permissions(path, fs::Permissions::from_mode(key.unix_mode & 0o777))?;
    }
    listen(socket.as_fd(), key.backlog)?;
    Ok(socket)
}

/// Removes the file that a dead process left; one that somebody listens on, or that is no socket, stays and is an error.
pub(crate) fn remove_stale(path: &Path) -> io::Result<()> {
    let metadata = match fs::symlink_metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    if !metadata.file_type().is_socket() {
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, "a file that is not a socket is in the way"));
    }
    // Of whatever type it is: a probe of the wrong type says so, and only a socket without a listener refuses.
    let probe = socket(AddressFamily::Unix, SockType::Stream, FLAGS, None)?;
    match nix::sys::socket::connect(probe.as_raw_fd(), &UnixAddr::new(path)?) {
        Err(Errno::ECONNREFUSED) => fs::remove_file(path),
        Err(Errno::ENOENT) => Ok(()),
        Ok(()) | Err(Errno::EAGAIN | Errno::EPROTOTYPE | Errno::EINPROGRESS) => Err(Errno::EADDRINUSE.into()),
        Err(error) => Err(error.into()),
    }
}

/// The IP address that a socket is bound to.
pub(super) fn local(socket: BorrowedFd<'_>) -> io::Result<Option<SocketAddr>> {
    let address: SockaddrStorage = getsockname(socket.as_raw_fd())?;
    let four = address.as_sockaddr_in().map(|four| SocketAddr::V4((*four).into()));
    Ok(four.or_else(|| address.as_sockaddr_in6().map(|six| SocketAddr::V6((*six).into()))))
}

/// The Unix address that a socket is bound to.
pub(super) fn local_unix(socket: BorrowedFd<'_>) -> io::Result<Option<Address>> {
    let listener = net::UnixListener::from(socket.try_clone_to_owned()?);
    let address = listener.local_addr()?;
    let path = address.as_pathname().map(|path| Address::Path(path.into()));
    let name = || address.as_abstract_name().map(|name| Address::Abstract(String::from_utf8_lossy(name).into_owned()));
    Ok(path.or_else(name))
}

/// The file of a Unix socket, recognised later by its inode so that nobody else's is removed.
#[derive(Debug)]
pub(super) struct UnixFile {
    path: PathBuf,
    device: u64,
    inode: u64,
}

impl UnixFile {
    /// Of a socket that is bound to `address`.
    pub(super) fn of(address: &Address) -> Option<Self> {
        let Address::Path(path) = address else { return None };
        let metadata = fs::symlink_metadata(path).ok()?;
        Some(Self { path: path.clone(), device: metadata.dev(), inode: metadata.ino() })
    }

    pub(super) fn remove(&self) {
        let ours = |metadata: &fs::Metadata| metadata.dev() == self.device && metadata.ino() == self.inode;
        if fs::symlink_metadata(&self.path).is_ok_and(|metadata| ours(&metadata)) {
            // Nothing depends on it: the next bind removes a stale file as well.
            let _ = fs::remove_file(&self.path);
        }
    }
}
