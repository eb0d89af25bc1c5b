//! Who asks: the trusted client address, and whether the request comes from inside.

use std::net::IpAddr;

use super::Rules;
use super::names::X_FORWARDED_FOR;
use crate::codec::Headers;
use crate::codec::http1::Refusal;
use crate::config::model::{Cidr, IpDetection};

/// What the connection knows about itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectionFacts {
    /// The request asks for another protocol: `connection` and `upgrade` stay, for its host to hear.
    pub upgrade: bool,
    /// The peer's address; `None` on a Unix socket.
    pub peer: Option<IpAddr>,
    /// The client has shown a certificate.
    pub mutual: bool,
    /// The port of the listener; `None` on a Unix socket.
    pub local_port: Option<u16>,
    /// An address of this machine that is not loopback: what `x-forwarded-for` shows for a peer on loopback.
    pub own_address: Option<IpAddr>,
    /// The client spoke TLS.
    pub tls: bool,
}

/// Who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Client {
    /// The trusted client address: "downstream remote address" of logs, access rules and hashing. `None` on a Unix socket.
    pub address: Option<IpAddr>,
    /// The request comes from inside (`x-envoy-internal: true`).
    pub internal: bool,
    /// The request comes from outside and we are the edge.
    pub edge: bool,
    /// It has headers that only a request from inside may have: it may ask something of the router.
    pub controls: bool,
    /// The request is gRPC's: errors are told in its way.
    pub grpc: bool,
    /// The peer is added to `x-forwarded-for`.
    pub(super) appends: bool,
}

impl Client {
    /// By the peer and the addresses that came with the request, before ours is added.
    ///
    /// # Errors
    /// An address must be found, and is not.
    pub(super) fn find(headers: &Headers, rules: &Rules, connection: &ConnectionFacts) -> Result<Self, Refusal> {
        if !rules.ip_detection.is_empty() {
            return Self::detect(headers, rules, connection);
        }
        let mut forwarded = headers.get_all(&X_FORWARDED_FOR).map(http::HeaderValue::as_bytes).peekable();
        let none = forwarded.peek().is_none();
        let inside = |address| is_inside(rules, address);
        let (address, internal) = if rules.use_remote_address {
            // The peer is hop 0, so the last entry of the list is hop 1.
            let address = match rules.trusted_hops {
                0 => connection.peer,
                hops => from_right(forwarded, hops - 1).map(|(address, _)| address).or(connection.peer),
            };
            (address, none && inside(address))
        } else {
            match from_right(forwarded, rules.trusted_hops) {
                Some((address, alone)) => (Some(address), alone && inside(Some(address))),
                None => (connection.peer, false),
            }
        };
        let edge = !internal && rules.use_remote_address;
        Ok(Self { address, internal, edge, controls: false, grpc: false, appends: rules.append_forwarded_for })
    }

    /// By `original_ip_detection_extensions`: the first that finds an address has it.
    fn detect(headers: &Headers, rules: &Rules, connection: &ConnectionFacts) -> Result<Self, Refusal> {
        let mut client = Self {
            address: connection.peer,
            internal: false,
            edge: false,
            controls: false,
            grpc: false,
            appends: false,
        };
        for detection in &rules.ip_detection {
            let found = match detection {
                IpDetection::Header { name, trusted, reject } => {
                    let found = headers.get(name).and_then(|value| address(value.as_bytes()));
                    if let (None, Some(status)) = (found, reject) {
                        return Err(Refusal::unknown_client(*status));
                    }
                    found.map(|address| (address, *trusted))
                }
                IpDetection::Forwarded { hops, trusted, append } => {
                    client.appends |= append;
                    let forwarded = headers.get_all(&X_FORWARDED_FOR).map(http::HeaderValue::as_bytes);
                    match trusted {
                        Some(trusted) => behind(forwarded, trusted, connection.peer).map(|found| (found, false)),
                        None => from_right(forwarded, *hops as usize),
                    }
                }
            };
            if let Some((address, trusted)) = found {
                client.address = Some(address);
                client.internal = trusted && is_inside(rules, client.address);
                break;
            }
        }
        Ok(client)
    }
}

fn is_inside(rules: &Rules, address: Option<IpAddr>) -> bool {
    match address {
        Some(address) => rules.internal_addresses.iter().any(|range| contains(range, address)),
        None => rules.internal_unix_sockets,
    }
}

fn address(text: &[u8]) -> Option<IpAddr> {
    std::str::from_utf8(text.trim_ascii()).ok()?.parse().ok()
}

/// The address that `skip` others follow, and whether it is the only one.
fn from_right<'h>(values: impl Iterator<Item = &'h [u8]>, skip: usize) -> Option<(IpAddr, bool)> {
    // Several headers are one list. Most often there is one value with one address.
    let mut entries: Vec<&[u8]> = Vec::new();
    for value in values {
        entries.extend(value.split(|byte| *byte == b','));
    }
    let at = entries.len().checked_sub(skip + 1)?;
    Some((address(entries[at])?, entries.len() == 1))
}

/// The first address from the right that is not that of a trusted proxy, of a list that a trusted one gave; where all are, the first of the list.
fn behind<'h>(values: impl Iterator<Item = &'h [u8]>, trusted: &[Cidr], peer: Option<IpAddr>) -> Option<IpAddr> {
    let is_trusted = |address: IpAddr| trusted.iter().any(|range| contains(range, address));
    peer.filter(|peer| is_trusted(*peer))?;
    let entries: Vec<&[u8]> = values.flat_map(|value| value.split(|byte| *byte == b',')).collect();
    let mut last = None;
    for entry in entries.into_iter().rev() {
        let Some(found) = address(entry) else { return last };
        if !is_trusted(found) {
            return Some(found);
        }
        last = Some(found);
    }
    last
}

/// Whether a network contains an address.
fn contains(range: &Cidr, address: IpAddr) -> bool {
    fn bits(address: IpAddr) -> (u128, u32) {
        match address {
            IpAddr::V4(address) => (u128::from(u32::from(address)) << 96, 32),
            IpAddr::V6(address) => (u128::from(address), 128),
        }
    }
    let ((network, network_width), (address, width)) = (bits(range.network), bits(address));
    let prefix = u32::from(range.prefix).min(width);
    network_width == width && (prefix == 0 || (network ^ address) >> (128 - prefix) == 0)
}
