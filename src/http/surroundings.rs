//! What matchers ask of a request beside its head: its connection, its metadata, its filter state.
//!
//! Asked by the route table, by filters that have matcher trees, and by what makes rate limit descriptors; nothing is worked out before it is
//! asked for.

use xxhash_rust::xxh64::xxh64;

use crate::config::model::{FilterStateMatch, MatchInput, MetadataMatch, NameKind};
use crate::matching::Input;
use crate::route::Surroundings;

use super::filter_state::State;
use super::stream::Stream;

impl Surroundings for Stream<'_> {
    fn input(&self, input: &MatchInput) -> Input<'_> {
        let (facts, record) = (self.facts(), self.record());
        let ip = |ip: Option<std::net::IpAddr>| ip.map_or(Input::Absent, Input::shown);
        let secured = facts.tls.as_deref();
        match input {
            MatchInput::DestinationIp => ip(facts.local.ip()),
            MatchInput::DestinationPort => port(facts.local.socket().map(|local| local.port())),
            MatchInput::SourceIp => ip(record.client.get().or_else(|| facts.peer.ip())),
            MatchInput::SourcePort => port(facts.peer.socket().map(|peer| match record.client.get() {
                // An address that somebody has told has no port.
                Some(client) if client != peer.ip() => 0,
                _ => peer.port(),
            })),
            MatchInput::DirectSourceIp => ip(facts.peer.ip()),
            MatchInput::SourceType => match (facts.peer.ip(), facts.local.ip()) {
                (Some(peer), local) if peer.is_loopback() || Some(peer) == local => Input::shown("local"),
                _ => Input::Absent,
            },
            MatchInput::ServerName => {
                Input::text(secured.and_then(|secured| secured.server_name.as_deref()).map(str::as_bytes))
            }
            MatchInput::UriSan => names(self, NameKind::Uri),
            MatchInput::DnsSan => names(self, NameKind::Dns),
            MatchInput::Subject => {
                let peer = secured.and_then(|secured| secured.peer.as_ref());
                Input::text(peer.map(|peer| peer.subject.as_bytes()))
            }
            MatchInput::FilterState(key) => {
                let state = record.state(key);
                state.as_ref().and_then(|state| state.text()).map_or(Input::Absent, Input::shown)
            }
            MatchInput::Metadata(at) => {
                record.with_metadata(&at.namespace, |of| at.find(of?).cloned()).map_or(Input::Absent, Input::Value)
            }
            MatchInput::RequestHeader(_)
            | MatchInput::ResponseHeader(_)
            | MatchInput::Status
            | MatchInput::StatusClass
            | MatchInput::LocalReply
            | MatchInput::TransportProtocol
            | MatchInput::ApplicationProtocol
            | MatchInput::Query(_)
            | MatchInput::Constant(_) => Input::Absent,
        }
    }

    fn metadata(&self, wanted: &MetadataMatch) -> bool {
        let at = &wanted.at;
        self.record().with_metadata(&at.namespace, |of| wanted.matches(of.and_then(|of| at.find(of))))
    }

    fn filter_state(&self, wanted: &FilterStateMatch) -> bool {
        let state = self.record().state(&wanted.key);
        state.is_some_and(|state| wanted.value.matches(state.text(), state.address()))
    }

    fn hash(&self, key: &str) -> Option<u64> {
        match &*self.record().state(key)? {
            State::Hashable(text) => Some(xxh64(text.as_bytes(), 0)),
            State::Text(_) | State::Address(_) => None,
        }
    }
}

fn port(port: Option<u16>) -> Input<'static> {
    port.map_or(Input::Absent, Input::shown)
}

fn names<'a>(stream: &'a Stream<'_>, kind: NameKind) -> Input<'a> {
    let peer = stream.facts().tls.as_deref().and_then(|secured| secured.peer.as_ref());
    let names = peer.into_iter().flat_map(|peer| &peer.names).filter(|(of, _)| *of == kind);
    let names: Vec<&str> = names.map(|(_, name)| name.as_str()).collect();
    Input::text((!names.is_empty()).then(|| names.join(",").into_bytes()))
}
