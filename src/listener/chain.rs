//! Which filter chain a connection gets.
//!
//! Criteria are looked at in Envoy's order: destination port, destination address, server name, transport protocol, application protocols,
//! directly connected source, source type, source address, source port. Each one keeps the chains that match it most specifically and forgets the others for good, so a chain that
//! names the port wins over one that does not even if its source then does not match: there is no way back. Where a listener has a matcher
//! tree, that decides instead.

use std::convert::Infallible;
use std::net::IpAddr;

use crate::config::model::{Cidr, FilterChainMatch, MatchInput, MatchTree, SourceType};
use crate::l4::Facts;
use crate::matching::{Input, Inputs, Match, Tree};

use super::secure::Saw;

/// Finds filter chains, or whatever `T` stands for them.
pub struct Matcher<T> {
    chains: Vec<(FilterChainMatch, T)>,
    default: Option<T>,
    /// There is one chain and it matches everything.
    trivial: bool,
    /// Leads to the place of a chain, in the place of what they match themselves.
    tree: Option<Tree<usize>>,
}

impl<T> Matcher<T> {
    /// For these chains, and the one to take when none matches.
    pub fn new(chains: Vec<(FilterChainMatch, T)>, default: Option<T>) -> Self {
        let trivial = chains.len() == 1 && chains[0].0 == FilterChainMatch::default();
        Self { chains, default, trivial, tree: None }
    }

    /// The same where a tree leads to chains, by these names of theirs.
    pub fn by_tree(mut self, tree: &MatchTree<String>, names: &[&str]) -> Self {
        // A name that no chain has would lead nowhere: such a configuration is refused.
        let place = |name: &String| names.iter().position(|known| known == name).unwrap_or(usize::MAX);
        match Tree::compile(tree, &mut |name| Ok::<_, Infallible>(place(name))) {
            Ok(tree) => self.tree = Some(tree),
            Err(never) => match never {},
        }
        self
    }

    /// The chain for a connection.
    pub fn find(&self, facts: &Facts, saw: &Saw) -> Option<&T> {
        if let Some(tree) = &self.tree {
            return match tree.find(&Asked { facts, saw }) {
                Match::Found(at) => self.chains.get(*at).map(|(_, chain)| chain),
                Match::None | Match::NotYet => self.default.as_ref(),
            };
        }
        if self.trivial {
            return self.chains.first().map(|(_, chain)| chain);
        }
        let (local, peer) = (facts.local.socket(), facts.peer.socket());
        let (local_ip, peer_ip) = (local.map(|a| a.ip()), peer.map(|a| a.ip()));
        let near = is_near(facts);
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

/// Whether the client is on this machine.
fn is_near(facts: &Facts) -> bool {
    match (facts.local.ip(), facts.peer.ip()) {
        (Some(local), Some(peer)) => peer.is_loopback() || peer == local,
        // A Unix socket's client is on this machine.
        _ => true,
    }
}

/// A connection, as a tree asks it.
struct Asked<'a> {
    facts: &'a Facts,
    saw: &'a Saw,
}

impl Inputs for Asked<'_> {
    fn get<'a>(&'a self, input: &'a MatchInput) -> Input<'a> {
        let (local, peer) = (&self.facts.local, &self.facts.peer);
        let hello = self.saw.hello.as_ref();
        match input {
            MatchInput::DestinationIp => local.ip().map_or(Input::Absent, Input::shown),
            MatchInput::DestinationPort => local.socket().map_or(Input::Absent, |local| Input::shown(local.port())),
            MatchInput::SourceIp | MatchInput::DirectSourceIp => peer.ip().map_or(Input::Absent, Input::shown),
            MatchInput::SourcePort => peer.socket().map_or(Input::Absent, |peer| Input::shown(peer.port())),
            MatchInput::SourceType if is_near(self.facts) => Input::shown("local"),
            MatchInput::ServerName => {
                Input::text(hello.and_then(|hello| hello.server_name.as_deref()).map(str::as_bytes))
            }
            MatchInput::TransportProtocol => Input::shown(if hello.is_some() { "tls" } else { "raw_buffer" }),
            MatchInput::ApplicationProtocol => {
                let offered = hello.map(|hello| &*hello.protocols).unwrap_or_default();
                let quoted = offered.iter().map(|name| format!("'{}'", String::from_utf8_lossy(name)));
                let quoted: Vec<String> = quoted.collect();
                Input::text(Some(quoted.join(",").into_bytes()))
            }
            MatchInput::Constant(text) => Input::text(text.as_deref().map(str::as_bytes)),
            _ => Input::Absent,
        }
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
