//! Which filter chain a connection gets.
//!
//! Criteria are looked at in Envoy's order: destination port, destination address, server name, transport protocol, application protocols,
//! directly connected source, source type, source address, source port. Each one keeps the chains that match it most specifically and forgets the others for good, so a chain that
//! names the port wins over one that does not even if its source then does not match: there is no way back.

use std::net::IpAddr;

use crate::config::model::{Cidr, FilterChainMatch, SourceType};
use crate::l4::Facts;

use super::secure::Saw;

/// Finds filter chains, or whatever `T` stands for them.
pub struct Matcher<T> {
    chains: Vec<(FilterChainMatch, T)>,
    default: Option<T>,
    /// There is one chain and it matches everything.
    trivial: bool,
}

impl<T> Matcher<T> {
    /// For these chains, and the one to take when none matches.
    pub fn new(chains: Vec<(FilterChainMatch, T)>, default: Option<T>) -> Self {
        let trivial = chains.len() == 1 && chains[0].0 == FilterChainMatch::default();
        Self { chains, default, trivial }
    }

    /// The chain for a connection.
    pub fn find(&self, facts: &Facts, saw: &Saw) -> Option<&T> {
        if self.trivial {
            return self.chains.first().map(|(_, chain)| chain);
        }
        let (local, peer) = (facts.local.socket(), facts.peer.socket());
        let (local_ip, peer_ip) = (local.map(|a| a.ip()), peer.map(|a| a.ip()));
        let near = match (local_ip, peer_ip) {
            (Some(local), Some(peer)) => peer.is_loopback() || peer == local,
            // A Unix socket's client is on this machine.
            _ => true,
        };
        let mut left: Vec<&(FilterChainMatch, T)> = self.chains.iter().collect();
        narrow(&mut left, |m| exact(m.destination_port.as_slice(), local.map(|a| a.port())));
        narrow(&mut left, |m| longest(&m.destination, local_ip));
        narrow(&mut left, |m| name(&m.server_names, saw));
        narrow(&mut left, |m| match m.transport_protocol.as_str() {
            "" => Some(0),
            protocol => (protocol == if saw.hello.is_some() { "tls" } else { "raw_buffer" }).then_some(1),
        });
        narrow(&mut left, |m| protocol(&m.application_protocols, saw));
        narrow(&mut left, |m| longest(&m.direct_source, peer_ip));
        narrow(&mut left, |m| match m.source_type {
            SourceType::Any => Some(0),
            SourceType::SameIpOrLoopback => near.then_some(1),
            SourceType::External => (!near).then_some(1),
        });
        narrow(&mut left, |m| longest(&m.source, peer_ip));
        narrow(&mut left, |m| exact(&m.source_ports, peer.map(|a| a.port())));
        left.first().map(|(_, chain)| chain).or(self.default.as_ref())
    }
}

/// Keeps those for which `specific` gives the most; `None` is no match.
fn narrow<T>(left: &mut Vec<&(FilterChainMatch, T)>, specific: impl Fn(&FilterChainMatch) -> Option<u16>) {
    let best = left.iter().filter_map(|(criteria, _)| specific(criteria)).max();
    left.retain(|(criteria, _)| best.is_some() && specific(criteria) == best);
}

/// One of the ports, or no port asked for.
fn exact(ports: &[u16], port: Option<u16>) -> Option<u16> {
    match port {
        _ if ports.is_empty() => Some(0),
        Some(port) => ports.contains(&port).then_some(1),
        None => None,
    }
}

/// One of the names exactly, or a `*.` above it, the longer the better; or no name asked for.
fn name(names: &[String], saw: &Saw) -> Option<u16> {
    if names.is_empty() {
        return Some(0);
    }
    let wanted = saw.hello.as_ref()?.server_name.as_deref()?;
    let specific = |name: &String| match name.strip_prefix('*') {
        None => (name == wanted).then_some(u16::MAX),
        Some(below) => {
            let length = u16::try_from(below.len()).unwrap_or(u16::MAX - 1);
            (wanted.len() > below.len() && wanted.ends_with(below)).then_some(length)
        }
    };
    names.iter().filter_map(specific).max()
}

/// One of the protocols that the client offers, the more it wants it the better; or none asked for.
fn protocol(protocols: &[String], saw: &Saw) -> Option<u16> {
    if protocols.is_empty() {
        return Some(0);
    }
    let offered = &saw.hello.as_ref()?.protocols;
    let at = offered.iter().position(|offered| protocols.iter().any(|protocol| protocol.as_bytes() == *offered))?;
    Some(u16::MAX - u16::try_from(at).unwrap_or(u16::MAX - 1))
}

/// The length of the longest prefix that contains the address, above one for no prefix asked for.
fn longest(ranges: &[Cidr], address: Option<IpAddr>) -> Option<u16> {
    if ranges.is_empty() {
        return Some(0);
    }
    let address = address?;
    ranges.iter().filter(|range| range.contains(address)).map(|range| u16::from(range.prefix) + 1).max()
}

#[cfg(test)]
mod tests;
