//! The address of a host in the record of a connection that moves: an IP address and port as text, or the path of a Unix socket as bytes.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;

use crate::config::model::Address;

/// Text and path, one of them empty.
pub fn write(address: &Address) -> (String, Vec<u8>) {
    match address {
        Address::Tcp(address) => (address.to_string(), Vec::new()),
        Address::Unix { path, .. } => (String::new(), path.as_os_str().as_bytes().to_vec()),
    }
}

/// What [`write()`] wrote; `None` for what it cannot have.
pub fn read(text: &str, path: &[u8]) -> Option<Address> {
    if path.is_empty() {
        return text.parse::<SocketAddr>().ok().map(Address::Tcp);
    }
    Some(Address::Unix { path: PathBuf::from(OsString::from_vec(path.to_vec())), mode: 0 })
}
