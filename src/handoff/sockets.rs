//! From the model's listeners to listening sockets: lent by the supervisor, or bound by an epoch that runs alone.
//!
//! The supervisor's sockets are never closed by an epoch's end, because the epoch holds duplicates only. There is no fall-back from lending to binding:
//! it would hide a lost socket until the day it matters.

use std::os::fd::OwnedFd;

use heirloom_supervisor::wire::message::{KeyName, Protocol, SocketKey};

use crate::config::model::{Address, Bootstrap, Listener, SocketOptions};

/// The listening sockets of one configuration.
#[derive(Debug, Default)]
pub struct Sockets {
    /// One entry for each of `Bootstrap::listeners`, in order: the sockets of all its addresses.
    pub listeners: Vec<Vec<OwnedFd>>,
    /// The admin endpoint's.
    pub admin: Vec<OwnedFd>,
}

/// The label under which the admin socket is lent.
const ADMIN: &str = "admin";

/// The keys of everything a configuration listens on: each listener's addresses in order, then the admin endpoint.
pub fn keys(bootstrap: &Bootstrap) -> Vec<SocketKey> {
    let listeners = bootstrap.listeners.iter();
    let mut keys: Vec<SocketKey> = listeners
        .flat_map(|listener| listener.addresses.iter().map(|address| key(address, &listener.name, &listener.socket)))
        .collect();
    if let Some(admin) = &bootstrap.admin {
        keys.push(key(&admin.address, ADMIN, &SocketOptions::default()));
    }
    keys
}

fn key(address: &Address, label: &str, options: &SocketOptions) -> SocketKey {
    let (protocol, unix_mode) = match address {
        Address::Tcp(_) => (Protocol::Tcp, 0),
        Address::Unix { mode, .. } => (Protocol::Unix, *mode),
    };
    SocketKey {
        protocol: protocol.into(),
        address: address.to_string(),
        label: label.to_owned(),
        backlog: options.backlog.unwrap_or(0),
        freebind: options.freebind,
        transparent: options.transparent,
        ipv4_compat: options.ipv4_compat,
        fast_open: options.fast_open.unwrap_or(0),
        unix_mode,
        reuse_port_group: 0,
    }
}

/// Sorts what was granted for [`keys`] to its owners.
///
/// # Errors
/// Every key that was not granted, one line each.
pub fn sort(bootstrap: &Bootstrap, granted: Vec<Result<Vec<OwnedFd>, String>>) -> Result<Sockets, String> {
    let names = keys(bootstrap);
    let mut faults = Vec::new();
    let mut granted = granted.into_iter().zip(&names).map(|(granted, key)| {
        granted.unwrap_or_else(|reason| {
            faults.push(format!("listener '{}': no socket for {}: {reason}", key.label, KeyName(key)));
            Vec::new()
        })
    });
    let mut sockets = Sockets::default();
    for listener in &bootstrap.listeners {
        sockets.listeners.push(granted.by_ref().take(listener.addresses.len()).flatten().collect());
    }
    sockets.admin = granted.flatten().collect();
    if faults.is_empty() { Ok(sockets) } else { Err(faults.join("\n")) }
}

/// Binds everything, for an epoch that runs alone.
///
/// # Errors
/// Every address that cannot be bound, one line each, with Envoy's words.
pub fn bind(
    bootstrap: &Bootstrap,
    bind: impl Fn(&Address, &SocketOptions) -> std::io::Result<OwnedFd>,
) -> Result<Sockets, String> {
    let mut faults = Vec::new();
    let mut try_bind = |address: &Address, options: &SocketOptions| {
        bind(address, options).map_err(|error| faults.push(format!("cannot bind '{address}': {}", reason(&error)))).ok()
    };
    let mut sockets = Sockets::default();
    for listener in &bootstrap.listeners {
        let Listener { addresses, socket, .. } = &**listener;
        sockets.listeners.push(addresses.iter().filter_map(|address| try_bind(address, socket)).collect());
    }
    if let Some(admin) = &bootstrap.admin {
        sockets.admin.extend(try_bind(&admin.address, &SocketOptions::default()));
    }
    if faults.is_empty() { Ok(sockets) } else { Err(faults.join("\n")) }
}

/// The system's words without Rust's `(os error N)`.
fn reason(error: &std::io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or_default().to_owned()
}
