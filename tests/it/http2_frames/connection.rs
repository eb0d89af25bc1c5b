//! The preface, frames as such, SETTINGS, PING, GOAWAY, WINDOW_UPDATE (RFC 9113, 3.4, 4, 6.5 to 6.9).
//!
//! The `h2` crate ends the connection where the RFC says so, but names PROTOCOL_ERROR where the RFC names a more precise code: for frames of a wrong
//! length (FRAME_SIZE_ERROR), and for a setting that makes windows too large (FLOW_CONTROL_ERROR). A code is for whoever reads logs; these cases have
//! `MEANT_*` for the code that was meant.

use super::Back::{Alive, Connection, Ends, Status, Stream};
use super::*;

/// The crate says PROTOCOL_ERROR.
const MEANT_FRAME_SIZE: u32 = PROTOCOL;
const MEANT_FLOW_CONTROL: u32 = PROTOCOL;

const HEADER_TABLE_SIZE: u16 = 1;
const ENABLE_PUSH: u16 = 2;
const INITIAL_WINDOW_SIZE: u16 = 4;
const MAX_FRAME_SIZE: u16 = 5;
const ENABLE_CONNECT: u16 = 8;

pub(super) fn cases() -> Vec<Case> {
    let preface = |after: Vec<u8>| [PREFACE.to_vec(), after];
    vec![
        // 3.4
        raw("3.4 a preface of another protocol", b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n".to_vec(), Ends),
        raw("3.4 no preface", settings(&[]), Ends),
        raw("3.4 the first frame is no SETTINGS", preface(frame(PING, 0, 0, b"12345678")), Ends),
        raw("3.4 the first frame is a request", preface(get(1)), Ends),
        raw("3.4 SETTINGS with everything after it at once", [PREFACE.to_vec(), settings(&[]), get(1)], Status(1, 200)),
        // 4.1
        case("4.1 a frame of unknown kind", [frame(0xbb, 0xff, 7, b"whatever"), get(1)], Status(1, 200)),
        case("4.1 unknown flags of a ping", frame(PING, 0xfe, 0, b"12345678"), Alive),
        case("4.1 the reserved bit of a stream", frame(PING, 0, 1 << 31, b"12345678"), Alive),
        // 4.2
        case("4.2 DATA as long as may be", [post(1), frame(DATA, END_STREAM, 1, &[0; 16_384])], Status(1, 200)),
        case("4.2 DATA that is longer", [post(1), frame(DATA, END_STREAM, 1, &[0; 16_385])], Connection(FRAME_SIZE)),
        case("4.2 HEADERS that are longer", frame(HEADERS, 5, 1, &[0; 16_385]), Connection(FRAME_SIZE)),
        case("4.2 SETTINGS that are longer", frame(SETTINGS, 0, 0, &[0; 16_386]), Connection(FRAME_SIZE)),
        case("4.2 an unknown frame that is longer", frame(0xbb, 0, 0, &[0; 16_385]), Connection(FRAME_SIZE)),
        // 6.5
        case("6.5 SETTINGS on a stream", frame(SETTINGS, 0, 1, &[]), Connection(PROTOCOL)),
        case("6.5 an acknowledgement with content", frame(SETTINGS, ACK, 0, &[0; 6]), Connection(MEANT_FRAME_SIZE)),
        case("6.5 SETTINGS of five bytes", frame(SETTINGS, 0, 0, &[0; 5]), Connection(MEANT_FRAME_SIZE)),
        case("6.5.2 ENABLE_PUSH of 2", settings(&[(ENABLE_PUSH, 2)]), Connection(PROTOCOL)),
        case("6.5.2 ENABLE_PUSH of 0 and of 1", settings(&[(ENABLE_PUSH, 0), (ENABLE_PUSH, 1)]), Alive),
        case(
            "6.5.2 INITIAL_WINDOW_SIZE too large",
            settings(&[(INITIAL_WINDOW_SIZE, 1 << 31)]),
            Connection(MEANT_FLOW_CONTROL),
        ),
        case("6.5.2 INITIAL_WINDOW_SIZE as large as may be", settings(&[(INITIAL_WINDOW_SIZE, (1 << 31) - 1)]), Alive),
        case("6.5.2 MAX_FRAME_SIZE too small", settings(&[(MAX_FRAME_SIZE, 16_383)]), Connection(PROTOCOL)),
        case("6.5.2 MAX_FRAME_SIZE too large", settings(&[(MAX_FRAME_SIZE, 1 << 24)]), Connection(PROTOCOL)),
        case("6.5.2 MAX_FRAME_SIZE as large as may be", settings(&[(MAX_FRAME_SIZE, (1 << 24) - 1)]), Alive),
        case("6.5.2 a setting of unknown name", [settings(&[(0xbb, 7)]), get(1)], Status(1, 200)),
        case("6.5.2 no table", [settings(&[(HEADER_TABLE_SIZE, 0)]), get(1)], Status(1, 200)),
        case("8441 3 ENABLE_CONNECT_PROTOCOL of 2", settings(&[(ENABLE_CONNECT, 2)]), Connection(PROTOCOL)),
        // 6.7
        case("6.7 PING on a stream", frame(PING, 0, 1, b"12345678"), Connection(PROTOCOL)),
        case("6.7 PING of six bytes", frame(PING, 0, 0, b"123456"), Connection(MEANT_FRAME_SIZE)),
        case("6.7 an answer to no ping", frame(PING, ACK, 0, b"12345678"), Alive),
        // 6.8
        case("6.8 GOAWAY on a stream", frame(GOAWAY, 0, 1, &[0; 8]), Connection(PROTOCOL)),
        case("6.8 GOAWAY of four bytes", frame(GOAWAY, 0, 0, &[0; 4]), Connection(MEANT_FRAME_SIZE)),
        // 6.9
        case("6.9 WINDOW_UPDATE of the connection by nothing", window_update(0, 0), Connection(PROTOCOL)),
        // A stream error in the RFC, which may be taken for one of the connection (5.4.1); Envoy ends the connection too.
        case("6.9 WINDOW_UPDATE of a stream by nothing", [post(1), window_update(1, 0)], Connection(PROTOCOL)),
        case("6.9 WINDOW_UPDATE of three bytes", frame(WINDOW_UPDATE, 0, 0, &[0; 3]), Connection(MEANT_FRAME_SIZE)),
        case("6.9 the reserved bit of an increment", window_update(0, 1 << 31 | 1), Alive),
        case(
            "6.9.1 a window of the connection that is too large",
            window_update(0, (1 << 31) - 1),
            Connection(FLOW_CONTROL),
        ),
        case(
            "6.9.1 a window of a stream that is too large",
            [post(1), window_update(1, (1 << 31) - 1)],
            Stream(1, FLOW_CONTROL),
        ),
        case(
            "6.9.2 settings that make a window too large",
            [post(1), window_update(1, 1 << 30), settings(&[(INITIAL_WINDOW_SIZE, (1 << 31) - 1)])],
            Connection(FLOW_CONTROL),
        ),
    ]
}

#[test]
fn settings_and_pings_are_answered() {
    let origin = Origin::http(|_| ok("x"));
    let proxy = proxy(&origin);
    let client = heard(proxy.address, &case("6.5.3", settings(&[(0x10, 1)]), Alive));
    let acknowledged = client.events.iter().filter(|event| **event == Event::Settings(true)).count();
    assert_eq!(acknowledged, 2, "one for the handshake and one for the case: {:?}", client.events);
    assert_eq!(client.events.first(), Some(&Event::Settings(false)), "SETTINGS come first");
    let client = heard(proxy.address, &case("6.7", frame(PING, 0, 0, b"87654321"), Alive));
    assert!(client.events.contains(&Event::Pong(b"87654321".to_vec())), "{:?}", client.events);
}

#[test]
fn a_small_window_is_kept_to() {
    let origin = Origin::http(|_| ok("hello"));
    let proxy = proxy(&origin);
    // 6.9.2: what changes with the settings changes for streams that are open, and below nothing.
    let mut client = Raw::connect(proxy.address);
    client.send(&[PREFACE, &settings(&[(INITIAL_WINDOW_SIZE, 2)])[..], &frame(SETTINGS, ACK, 0, &[])].concat());
    client.send(&get(1));
    let sent = |client: &Raw| -> usize {
        client.events.iter().map(|event| if let Event::Data(1, length, _) = event { *length } else { 0 }).sum()
    };
    assert!(client.read_until(|client| sent(client) == 2), "{:?}", client.events);
    client.send(&settings(&[(INITIAL_WINDOW_SIZE, 0)]));
    // The window is two below nothing now: two bytes more open nothing, the third is for one.
    client.send(&window_update(1, 2));
    client.send_last_ping();
    assert!(client.read_until(Raw::is_alive));
    assert_eq!(sent(&client), 2, "{:?}", client.events);
    client.send(&window_update(1, 1));
    assert!(client.read_until(|client| sent(client) == 3), "{:?}", client.events);
    client.send(&settings(&[(INITIAL_WINDOW_SIZE, 50)]));
    assert!(client.read_until(|client| sent(client) == 5), "{:?}", client.events);
    assert!(client.events.iter().any(|event| matches!(event, Event::Data(1, _, true))), "{:?}", client.events);
}
