//! RFC 9113 section by section, from a client that writes its frames by hand: what comes, and what must go back.
//!
//! A case sends its frames after a handshake, then a ping. Either the connection ends with a code, or the ping is answered and a stream was reset,
//! answered or left alone. Where the RFC leaves a choice, the table says what this proxy does; where it does something else than the RFC says, the
//! case says why. `HEIRLOOM_FRAMES_AT=host:port` has the table tell what another server does instead (`--nocapture`).

use heirloom::config::model::CodecType;

use crate::support::frames::*;
use crate::support::models::*;
use crate::support::origin::{Origin, ok};
use crate::support::proxy::Proxy;

mod connection;
mod heads;
mod hpack;
mod streams;

/// What goes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Back {
    /// The connection ends, with GOAWAY and this code.
    Connection(u32),
    /// The connection ends; nothing needs to be said.
    Ends,
    /// The stream is reset with this code, and the connection lives on.
    Stream(u32, u32),
    /// The stream is answered with this status, and the connection lives on.
    Status(u32, u16),
    /// Nothing is wrong.
    Alive,
}

/// What comes.
struct Case {
    /// The section, and what is done.
    name: &'static str,
    /// Without a handshake before.
    raw: bool,
    send: Vec<u8>,
    back: Back,
}

fn case(name: &'static str, send: impl IntoBytes, back: Back) -> Case {
    Case { name, raw: false, send: send.into_bytes(), back }
}

fn raw(name: &'static str, send: impl IntoBytes, back: Back) -> Case {
    Case { raw: true, ..case(name, send, back) }
}

/// One frame or several.
trait IntoBytes {
    fn into_bytes(self) -> Vec<u8>;
}

impl IntoBytes for Vec<u8> {
    fn into_bytes(self) -> Vec<u8> {
        self
    }
}

impl<const N: usize> IntoBytes for [Vec<u8>; N] {
    fn into_bytes(self) -> Vec<u8> {
        self.concat()
    }
}

/// What a server says to a case.
fn heard(address: std::net::SocketAddr, case: &Case) -> Raw {
    let mut client = Raw::connect(address);
    if !case.raw {
        client.send(&[PREFACE, &settings(&[])[..], &frame(SETTINGS, ACK, 0, &[])].concat());
    }
    client.send(&case.send);
    client.send_last_ping();
    let is_there = |client: &Raw| match case.back {
        Back::Status(stream, _) => {
            client.events.iter().any(|event| matches!(event, Event::Status(of, _) if *of == stream))
        }
        Back::Stream(stream, _) => {
            client.events.iter().any(|event| matches!(event, Event::Reset(of, _) if *of == stream))
        }
        Back::Alive => true,
        Back::Connection(_) | Back::Ends => false,
    };
    let over = |client: &Raw| client.events.iter().any(|event| matches!(event, Event::GoAway(_)));
    client.read_until(|client| (client.is_alive() && is_there(client)) || over(client));
    if over(&client) {
        // We have nothing more to say either.
        client.finish();
        client.read_until(Raw::is_over);
    }
    client
}

impl Case {
    fn is_met(&self, client: &Raw) -> bool {
        let has = |event: &Event| client.events.contains(event);
        let resets = || client.events.iter().any(|event| matches!(event, Event::Reset(..)));
        let goes = || client.events.iter().any(|event| matches!(event, Event::GoAway(_)));
        match self.back {
            Back::Connection(code) => has(&Event::GoAway(code)) && client.is_over(),
            Back::Ends => client.is_over(),
            Back::Stream(stream, code) => has(&Event::Reset(stream, code)) && client.is_alive() && !goes(),
            Back::Status(stream, status) => has(&Event::Status(stream, status)) && client.is_alive() && !goes(),
            Back::Alive => client.is_alive() && !resets() && !goes(),
        }
    }
}

/// A proxy that speaks HTTP/2 only, before a host that echoes.
fn proxy(origin: &Origin) -> Proxy {
    let mut manager = manager(vec![route("/", "origin")]);
    manager.codec = CodecType::Http2;
    Proxy::start(manager, vec![cluster("origin", &[origin.address])])
}

fn check(cases: Vec<Case>) {
    let origin = Origin::http(|_| ok("x"));
    let proxy = proxy(&origin);
    let elsewhere = std::env::var("HEIRLOOM_FRAMES_AT").ok().map(|address| address.parse().unwrap());
    let mut faults = Vec::new();
    for case in &cases {
        let client = heard(elsewhere.unwrap_or(proxy.address), case);
        if !case.is_met(&client) {
            faults.push(format!("{}: {:?} and not {:?}", case.name, client.events, case.back));
        }
    }
    assert!(faults.is_empty(), "{} of {} cases:\n{}", faults.len(), cases.len(), faults.join("\n"));
    if elsewhere.is_none() {
        // Whatever they did, the next one is served.
        let client = heard(proxy.address, &case("a client without a fault", get(1), Back::Status(1, 200)));
        assert!(client.events.contains(&Event::Status(1, 200)), "{:?}", client.events);
        proxy.await_gauge("http.test.downstream_rq_active", 0);
        proxy.await_gauge("http2.streams_active", 0);
    }
}

#[test]
fn a_connection_as_a_whole() {
    check(connection::cases());
}

#[test]
fn the_states_of_streams() {
    check(streams::cases());
}

#[test]
fn heads_and_bodies() {
    check(heads::cases());
}

#[test]
fn header_blocks() {
    check(hpack::cases());
}
