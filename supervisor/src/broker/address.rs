//! The address in a key, understood.

use std::net::SocketAddr;
use std::path::PathBuf;

use crate::wire::message::{Protocol, SocketKey};

/// Longest path of a Unix socket, in bytes (`sun_path` less its final zero).
const LONGEST_PATH: usize = 107;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Address {
    Tcp(SocketAddr),
    Udp(SocketAddr),
    Path(PathBuf),
    /// In the abstract namespace, without the `@`.
    Abstract(String),
}

impl Address {
    pub(super) fn parse(key: &SocketKey) -> Result<Self, String> {
        let ip = || key.address.parse::<SocketAddr>().map_err(|_| "it is not an IP address with a port".to_owned());
        match key.protocol() {
            Protocol::Tcp => ip().map(Self::Tcp),
            Protocol::Udp => ip().map(Self::Udp),
            Protocol::Unix if key.address.len() > LONGEST_PATH => {
                Err(format!("it is longer than {LONGEST_PATH} bytes, which is the limit for a Unix socket"))
            }
            Protocol::Unix => match key.address.strip_prefix('@') {
                Some("") => Err("the name is empty".into()),
                Some(name) => Ok(Self::Abstract(name.into())),
                None if key.address.starts_with('/') => Ok(Self::Path(key.address.clone().into())),
                None => Err("it is neither an absolute path nor an @ with a name".into()),
            },
            Protocol::Unknown => Err(format!("protocol {} is not known to this supervisor", key.protocol)),
        }
    }

    pub(super) fn identity(&self, key: &SocketKey) -> String {
        let (protocol, address) = match self {
            Self::Tcp(address) => ("tcp", address),
            Self::Udp(address) => ("udp", address),
            Self::Path(path) => return format!("unix {}", path.display()),
            Self::Abstract(name) => return format!("unix @{name}"),
        };
        if address.port() == 0 {
            format!("{protocol} {address} {}", key.label)
        } else {
            format!("{protocol} {address}")
        }
    }
}
