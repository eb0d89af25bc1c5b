//! Sockets that the supervisor was started with: systemd's activation and its descriptor store, or anything else that speaks `LISTEN_FDS`.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::sys::socket::{SockType, getsockopt, sockopt};
use tracing::warn;

use super::address::Address;
use super::bind;
use crate::wire::inherit;

/// How the names of sockets that an earlier supervisor stored begin.
pub(super) const STORED: &str = "heirloom-";
/// The name under which the statistics segment is stored.
pub(crate) const SEGMENT: &str = "statistics";

/// A socket that was passed.
#[derive(Debug)]
pub(crate) struct Passed {
    pub(super) name: String,
    pub(super) socket: OwnedFd,
    address: Address,
}

impl Passed {
    /// Takes a descriptor if it is a socket of a kind that can be lent.
    pub(super) fn new(name: String, socket: OwnedFd) -> Result<Self, String> {
        let kind = getsockopt(&socket, sockopt::SockType).map_err(|error| error.to_string())?;
        let listens = getsockopt(&socket, sockopt::AcceptConn).unwrap_or(false);
        let ip = bind::local(socket.as_fd()).map_err(|error| error.to_string())?;
        let address = match (kind, ip) {
            (SockType::Datagram, Some(ip)) => Address::Udp(ip),
            (SockType::Stream, _) if !listens => return Err("it does not listen".into()),
            (SockType::Stream, Some(ip)) => Address::Tcp(ip),
            (SockType::Stream, None) => match bind::local_unix(socket.as_fd()) {
                Ok(Some(address)) => address,
                Ok(None) => return Err("it is not bound".into()),
                Err(error) => return Err(error.to_string()),
            },
            _ => return Err(format!("sockets of type {kind:?} are not lent")),
        };
        socket2::SockRef::from(&socket).set_nonblocking(true).map_err(|error| error.to_string())?;
        Ok(Self { name, socket, address })
    }

    /// Whether an earlier supervisor put it into the descriptor store.
    pub(super) fn is_stored(&self) -> bool {
        self.name.starts_with(STORED)
    }

    /// Whether it is bound to the address that is asked for. systemd binds `80` as `[::]:80` for both families, which is what `0.0.0.0:80` gets.
    pub(super) fn serves(&self, wanted: &Address) -> bool {
        if self.address == *wanted {
            return true;
        }
        let (Address::Tcp(have), Address::Tcp(want)) = (&self.address, wanted) else { return false };
        let both = SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), want.port());
        want.ip().is_unspecified() && *have == both && !getsockopt(&self.socket, sockopt::Ipv6V6Only).unwrap_or(true)
    }
}

impl fmt::Display for Passed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.address {
            Address::Tcp(address) => write!(f, "tcp {address}")?,
            Address::Udp(address) => write!(f, "udp {address}")?,
            Address::Path(path) => write!(f, "unix {}", path.display())?,
            Address::Abstract(name) => write!(f, "unix @{name}")?,
        }
        write!(f, " (named {:?})", self.name)
    }
}

/// What the environment says was passed: sockets, and the statistics segment of an earlier supervisor.
///
/// Call it once, before anything else opens descriptors: they change hands. What is not understood is logged and closed.
pub(crate) fn from_environment() -> (Vec<Passed>, Option<OwnedFd>) {
    // Variables that are meant for another process are none of our business, not even to complain about.
    if sd_notify::listen_fds().is_ok_and(|numbers| numbers.len() == 0) {
        return (Vec::new(), None);
    }
    let numbered = match sd_notify::listen_fds_with_names() {
        Ok(numbered) => numbered,
        Err(error) => {
            warn!("the passed descriptors cannot be taken: {error}");
            return (Vec::new(), None);
        }
    };
    let (mut sockets, mut segment) = (Vec::new(), None);
    for (number, name) in numbered {
        let descriptor = match inherit(number) {
            Ok(descriptor) => descriptor,
            Err(error) => {
                warn!("passed descriptor {number} ({name}): {error}");
                continue;
            }
        };
        if name == SEGMENT {
            segment = Some(descriptor);
            continue;
        }
        match Passed::new(name.clone(), descriptor) {
            Ok(passed) => sockets.push(passed),
            Err(reason) => warn!("passed descriptor {number} ({name}) is not used: {reason}"),
        }
    }
    (sockets, segment)
}

/// Whether a socket that an epoch hands back is what it says.
pub(super) fn check(socket: BorrowedFd<'_>, address: &Address) -> Result<(), String> {
    let copy = socket.try_clone_to_owned().map_err(|error| error.to_string())?;
    let passed = Passed::new(String::new(), copy)?;
    let port_zero = |address: &Address| matches!(address, Address::Tcp(ip) | Address::Udp(ip) if ip.port() == 0);
    let same = std::mem::discriminant(&passed.address) == std::mem::discriminant(address);
    if passed.serves(address) || (port_zero(address) && same) {
        Ok(())
    } else {
        Err(format!("the socket is {passed}, not what its key says"))
    }
}
