use std::net::SocketAddr;
use std::time::Instant;

use super::*;
use crate::net::PeerAddress;
use crate::net::tls::Hello;

fn facts(local: &str, peer: &str) -> Facts {
    let address = |text: &str| PeerAddress::from(text.parse::<SocketAddr>().unwrap());
    Facts {
        local: address(local),
        peer: address(peer),
        accepted: Instant::now(),
        listener: "test".into(),
        tls: None,
        id: 0,
    }
}

fn cidr(text: &str) -> Cidr {
    let (network, prefix) = text.split_once('/').unwrap();
    Cidr { network: network.parse().unwrap(), prefix: prefix.parse().unwrap() }
}

fn matcher(chains: &[(&'static str, FilterChainMatch)]) -> Matcher<&'static str> {
    Matcher::new(chains.iter().map(|(name, criteria)| (criteria.clone(), *name)).collect(), Some("default"))
}

fn any() -> FilterChainMatch {
    FilterChainMatch::default()
}

#[test]
fn one_chain_without_criteria_takes_everything() {
    let matcher = matcher(&[("only", any())]);
    assert_eq!(matcher.find(&facts("10.0.0.1:80", "10.0.0.2:4000"), &Saw::default()), Some(&"only"));
    let unix = Facts {
        local: PeerAddress::Unix(None),
        peer: PeerAddress::Unix(None),
        accepted: Instant::now(),
        listener: "test".into(),
        tls: None,
        id: 0,
    };
    assert_eq!(matcher.find(&unix, &Saw::default()), Some(&"only"));
}

#[test]
fn the_most_specific_criterion_wins_and_there_is_no_way_back() {
    let matcher = matcher(&[
        ("any", any()),
        ("net", FilterChainMatch { destination: vec![cidr("10.0.0.0/8")], ..any() }),
        ("host", FilterChainMatch { destination: vec![cidr("10.1.2.3/32")], ..any() }),
        (
            "port from one source",
            FilterChainMatch { destination_port: Some(8443), source: vec![cidr("192.168.0.0/16")], ..any() },
        ),
    ]);
    let find = |local, peer| *matcher.find(&facts(local, peer), &Saw::default()).unwrap();
    assert_eq!(find("172.16.0.1:80", "1.2.3.4:5"), "any");
    assert_eq!(find("10.9.9.9:80", "1.2.3.4:5"), "net");
    assert_eq!(find("10.1.2.3:80", "1.2.3.4:5"), "host");
    assert_eq!(find("10.1.2.3:8443", "192.168.4.4:5"), "port from one source");
    assert_eq!(find("10.1.2.3:8443", "1.2.3.4:5"), "default", "the port matched, so no other chain is looked at");
}

#[test]
fn sources_by_type_network_and_port() {
    let matcher = matcher(&[
        ("any", any()),
        ("near", FilterChainMatch { source_type: SourceType::SameIpOrLoopback, ..any() }),
        ("net", FilterChainMatch { source: vec![cidr("2001:db8::/32")], ..any() }),
        ("ports", FilterChainMatch { source: vec![cidr("2001:db8::/32")], source_ports: vec![7, 9], ..any() }),
    ]);
    let find = |local, peer| *matcher.find(&facts(local, peer), &Saw::default()).unwrap();
    assert_eq!(find("127.0.0.1:80", "127.0.0.1:5"), "near");
    assert_eq!(find("10.0.0.1:80", "10.0.0.1:5"), "near");
    assert_eq!(find("10.0.0.1:80", "10.0.0.2:5"), "any");
    assert_eq!(find("[2001:db8::1]:80", "[2001:db8::2]:5"), "net");
    assert_eq!(find("[2001:db8::1]:80", "[2001:db8::2]:9"), "ports");
}

#[test]
fn prefixes_of_every_length() {
    for (range, address, expected) in [
        ("0.0.0.0/0", "255.1.2.3", true),
        ("10.1.2.3/32", "10.1.2.3", true),
        ("10.1.2.3/32", "10.1.2.2", false),
        ("10.1.2.128/25", "10.1.2.127", false),
        ("::/0", "ffff::1", true),
        ("::1/128", "::1", true),
        ("::1/128", "::2", false),
        ("0.0.0.0/0", "::1", false),
    ] {
        assert_eq!(cidr(range).contains(address.parse().unwrap()), expected, "{address} in {range}");
    }
}

fn saw(name: &str, protocols: &[&str]) -> Saw {
    let server_name = (!name.is_empty()).then(|| name.to_owned());
    let protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
    Saw { hello: Some(Hello { server_name, protocols }) }
}

#[test]
fn names_exactly_then_by_the_longest_wildcard() {
    let named = |names: &[&str]| FilterChainMatch {
        server_names: names.iter().map(|name| (*name).to_owned()).collect(),
        ..any()
    };
    let matcher = matcher(&[
        ("any", any()),
        ("exact", named(&["a.example.com", "b.example.com"])),
        ("below", named(&["*.example.com"])),
        ("further below", named(&["*.x.example.com"])),
    ]);
    let at = facts("10.0.0.1:443", "10.0.0.2:4000");
    let find = |name: &str| *matcher.find(&at, &saw(name, &[])).unwrap();
    assert_eq!(find("b.example.com"), "exact");
    assert_eq!(find("c.example.com"), "below");
    assert_eq!(find("c.d.example.com"), "below");
    assert_eq!(find("c.x.example.com"), "further below");
    assert_eq!(find("x.example.com"), "below");
    assert_eq!(find("example.com"), "any", "a wildcard does not match the name itself");
    assert_eq!(find(""), "any");
    assert_eq!(*matcher.find(&at, &Saw::default()).unwrap(), "any");
}

#[test]
fn transport_and_protocols() {
    let transport = |protocol: &str| FilterChainMatch { transport_protocol: protocol.into(), ..any() };
    let protocols = |names: &[&str]| FilterChainMatch {
        application_protocols: names.iter().map(|name| (*name).to_owned()).collect(),
        transport_protocol: "tls".into(),
        ..any()
    };
    let matcher = matcher(&[
        ("plain", transport("raw_buffer")),
        ("tls", transport("tls")),
        ("h2", protocols(&["h2"])),
        ("old", protocols(&["http/1.0", "http/1.1"])),
    ]);
    let at = facts("10.0.0.1:443", "10.0.0.2:4000");
    let find = |offered: &[&str]| *matcher.find(&at, &saw("", offered)).unwrap();
    assert_eq!(*matcher.find(&at, &Saw::default()).unwrap(), "plain");
    assert_eq!(find(&[]), "tls");
    assert_eq!(find(&["h2", "http/1.1"]), "h2");
    assert_eq!(find(&["http/1.1", "h2"]), "old");
    assert_eq!(find(&["spdy"]), "tls");
}

#[test]
fn a_tree_goes_before_what_chains_match_themselves() {
    use crate::config::model::{Branches, InputMatch, OnMatch, Predicate, StringMatch};
    let to = |name: &str| OnMatch::Act(name.to_owned());
    let is = |input: MatchInput, text: &str| Predicate::Input(input, InputMatch::Text(StringMatch::exact(text)));
    let list = [
        (is(MatchInput::ServerName, "a.test"), to("a")),
        (is(MatchInput::ApplicationProtocol, "'h2','http/1.1'"), to("b")),
        (is(MatchInput::TransportProtocol, "raw_buffer"), to("c")),
        (is(MatchInput::SourcePort, "77"), to("nobody")),
    ];
    let tree = MatchTree { branches: Branches::List(list.to_vec()), otherwise: None };
    let never = FilterChainMatch { destination_port: Some(1), ..any() };
    let chains = ["a", "b", "c"].map(|name| (never.clone(), name));
    let matcher = Matcher::new(chains.to_vec(), Some("default")).by_tree(&tree, &["a", "b", "c"]);
    let find = |peer, saw: &Saw| matcher.find(&facts("10.0.0.1:80", peer), saw).copied();
    assert_eq!(find("10.0.0.2:5", &Saw::default()), Some("c"));
    assert_eq!(find("10.0.0.2:5", &saw("a.test", &[])), Some("a"));
    assert_eq!(find("10.0.0.2:5", &saw("b.test", &["h2", "http/1.1"])), Some("b"));
    assert_eq!(find("10.0.0.2:5", &saw("b.test", &["h2"])), Some("default"));
    assert_eq!(find("10.0.0.2:77", &saw("b.test", &[])), None, "a name that no chain has");
}
