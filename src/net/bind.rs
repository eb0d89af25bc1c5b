//! Binding for an epoch that runs alone. Under a supervisor nobody calls this: sockets are lent.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::libc;
use socket2::{Domain, SockAddr, Socket, Type};

/// Where to listen.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum BindAddress {
    /// TCP.
    Tcp(SocketAddr),
    /// A Unix socket: a path, or `@name` in the abstract name space.
    Unix {
        /// Path or name.
        path: PathBuf,
        /// Permission bits of the file; 0 leaves the process's umask in force.
        mode: u32,
    },
}

/// Options of the listening socket.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct BindOptions {
    /// Length of the accept queue; `None` is the most the system allows.
    pub backlog: Option<u32>,
    /// `IP_FREEBIND`: the address need not exist yet.
    pub freebind: bool,
    /// `IP_TRANSPARENT`: foreign addresses; needs CAP_NET_ADMIN.
    pub transparent: bool,
    /// An IPv6 socket takes IPv4 as well.
    pub ipv4_compat: bool,
    /// `TCP_FASTOPEN` queue length.
    pub fast_open: Option<u32>,
    /// `SO_REUSEPORT`: several sockets share the address.
    pub reuse_port: bool,
}

/// Binds and listens; the socket is non-blocking and closed on exec. Port 0 asks the system for one.
///
/// # Errors
/// As the system says; a Unix path on which somebody listens is `AddrInUse`, a stale one is taken.
pub fn bind(address: &BindAddress, options: &BindOptions) -> io::Result<OwnedFd> {
    match address {
        BindAddress::Tcp(address) => bind_tcp(*address, options),
        BindAddress::Unix { path, mode } => bind_unix(path, *mode, options),
    }
}

fn bind_tcp(address: SocketAddr, options: &BindOptions) -> io::Result<OwnedFd> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM.nonblocking().cloexec(), None)?;
    socket.set_reuse_address(true)?;
    if options.reuse_port {
        socket.set_reuse_port(true)?;
    }
    if address.is_ipv6() {
        socket.set_only_v6(!options.ipv4_compat)?;
        if options.freebind {
            socket.set_freebind_v6(true)?;
        }
        if options.transparent {
            set_option(&socket, libc::IPPROTO_IPV6, libc::IPV6_TRANSPARENT, 1)?;
        }
    } else {
        if options.freebind {
            socket.set_freebind_v4(true)?;
        }
        if options.transparent {
            socket.set_ip_transparent_v4(true)?;
        }
    }
    socket.bind(&address.into())?;
    if let Some(length) = options.fast_open {
        let length = i32::try_from(length).unwrap_or(i32::MAX);
        set_option(&socket, libc::IPPROTO_TCP, libc::TCP_FASTOPEN, length)?;
    }
    socket.listen(backlog(options))?;
    Ok(socket.into())
}

fn bind_unix(path: &Path, mode: u32, options: &BindOptions) -> io::Result<OwnedFd> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM.nonblocking().cloexec(), None)?;
    match abstract_name(path) {
        Some(name) => {
            let mut raw = vec![0];
            raw.extend_from_slice(name);
            socket.bind(&SockAddr::unix(std::ffi::OsStr::from_bytes(&raw))?)?;
        }
        None => {
            let address = SockAddr::unix(path)?;
            remove_stale(path, &address)?;
            socket.bind(&address)?;
            if mode != 0 {
                // Nobody can connect before listen, so the moment between has no reader.
                std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))?;
            }
        }
    }
    socket.listen(backlog(options))?;
    Ok(socket.into())
}

/// The name behind `@`, for the abstract name space.
pub(super) fn abstract_name(path: &Path) -> Option<&[u8]> {
    path.as_os_str().as_bytes().strip_prefix(b"@")
}

/// Removes the socket file of a process that is gone. Files that are no sockets, and sockets that answer, stay.
fn remove_stale(path: &Path, address: &SockAddr) -> io::Result<()> {
    match std::fs::symlink_metadata(path) {
        Ok(metadata) if metadata.file_type().is_socket() => {}
        Ok(_) => return Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    }
    // Without blocking: a full queue (EAGAIN) is a listener as well.
    let probe = Socket::new(Domain::UNIX, Type::STREAM.nonblocking().cloexec(), None)?;
    match probe.connect(address) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => std::fs::remove_file(path),
        Ok(()) | Err(_) => Ok(()),
    }
}

fn backlog(options: &BindOptions) -> i32 {
    // The kernel cuts it to net.core.somaxconn.
    options.backlog.map_or(i32::MAX, |length| i32::try_from(length).unwrap_or(i32::MAX))
}

/// Sets an option of which socket2 knows no name.
#[allow(unsafe_code, reason = "neither socket2 nor nix sets these two options")]
fn set_option(socket: &Socket, level: libc::c_int, name: libc::c_int, value: libc::c_int) -> io::Result<()> {
    let length = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: the descriptor is open while `socket` is borrowed, and pointer and length describe `value`, which lives on
    // this stack frame; the kernel only reads it.
    let result = unsafe { libc::setsockopt(socket.as_raw_fd(), level, name, (&raw const value).cast(), length) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
