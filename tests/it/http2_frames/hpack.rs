//! Header blocks (RFC 7541): what cannot be decoded ends the connection, because nothing after it can be.
//!
//! The `h2` crate says PROTOCOL_ERROR where the RFC says COMPRESSION_ERROR.

use super::Back::{Connection, Status, Stream};
use super::*;

/// The crate says PROTOCOL_ERROR.
const MEANT_COMPRESSION: u32 = PROTOCOL;

/// A GET whose block begins with these bytes.
fn begins(bytes: &[u8]) -> Vec<u8> {
    frame(HEADERS, END_STREAM | END_HEADERS, 1, &[bytes, &block(&GET)].concat())
}

/// A GET whose block ends with these bytes.
fn ends(bytes: &[u8]) -> Vec<u8> {
    frame(HEADERS, END_STREAM | END_HEADERS, 1, &[&block(&GET)[..], bytes].concat())
}

pub(super) fn cases() -> Vec<Case> {
    // `:method: GET`, `:scheme: http`, `:path: /` by their numbers, and an authority that is remembered.
    let indexed = b"\x82\x86\x84\x41\x04test";
    let again = b"\x82\x86\x84\xbe";
    let both = |first: &[u8], second: &[u8]| {
        [frame(HEADERS, END_STREAM | END_HEADERS, 1, first), frame(HEADERS, END_STREAM | END_HEADERS, 3, second)]
    };
    vec![
        case("6.1 fields by number, and one that was remembered", both(indexed, again), Status(3, 200)),
        case("6.1 number 0", ends(&[0x80]), Connection(MEANT_COMPRESSION)),
        case("6.1 a number of nothing", ends(&[0xff, 0x00]), Connection(MEANT_COMPRESSION)),
        case("6.2 a name of nothing", ends(&[0x7f, 0x7f, 1, b'x']), Connection(MEANT_COMPRESSION)),
        case("6.2.3 a field never to be remembered", ends(b"\x10\x01x\x01y"), Status(1, 200)),
        case("6.3 a table that is made smaller", begins(&[0x20]), Status(1, 200)),
        case("6.3 a table that is made smaller and larger", begins(&[0x20, 0x3f, 0xe1, 0x1f]), Status(1, 200)),
        case("6.3 a table larger than allowed", begins(&[0x3f, 0xff, 0xff, 0x7f]), Connection(MEANT_COMPRESSION)),
        case("4.2 a table that is changed after a field", ends(&[0x20]), Connection(MEANT_COMPRESSION)),
        case(
            "5.1 a number without end",
            ends(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f]),
            Connection(MEANT_COMPRESSION),
        ),
        case("5.2 text that is cut", ends(&[0x00, 0x05, b'x']), Connection(MEANT_COMPRESSION)),
        case("5.2 a name without a value", ends(&[0x00, 0x01, b'x']), Connection(MEANT_COMPRESSION)),
        case(
            "5.2 the code of the end in a text",
            ends(&[0x00, 0x01, b'x', 0x84, 0xff, 0xff, 0xff, 0xff]),
            Connection(MEANT_COMPRESSION),
        ),
        case("5.2 a text filled with zeros", ends(&[0x00, 0x01, b'x', 0x81, 0x00]), Connection(MEANT_COMPRESSION)),
        case(
            "5.2 a text filled with more than seven bits",
            ends(&[0x00, 0x01, b'x', 0x82, 0x1f, 0xff]),
            Connection(MEANT_COMPRESSION),
        ),
        // Malformed and no more, but the crate has the decoder refuse it.
        case(
            "5.2 a text in code that hides a line",
            ends(&[0x00, 0x01, b'x', 0x84, 0xff, 0xff, 0xff, 0xf3]),
            Connection(PROTOCOL),
        ),
        case("4.3 a block of nothing", frame(HEADERS, END_STREAM | END_HEADERS, 1, &[]), Stream(1, PROTOCOL)),
        case(
            "4.1 a table that throws out what does not fit",
            both(&[&[0x20][..], indexed].concat(), again),
            Connection(MEANT_COMPRESSION),
        ),
    ]
}
