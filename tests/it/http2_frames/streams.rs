//! Which streams there are, and which frames they take (RFC 9113, 5 and 6).
//!
//! For frames of streams that are closed, and frames of a wrong length, the `h2` crate ends the connection with PROTOCOL_ERROR, where the RFC names
//! STREAM_CLOSED or FRAME_SIZE_ERROR, sometimes of the stream alone; that may be taken for an error of the connection (5.4.1). `MEANT_*` says what was meant.

use super::Back::{Alive, Connection, Status, Stream};
use super::*;

/// The crate says PROTOCOL_ERROR.
const MEANT_CLOSED: u32 = PROTOCOL;
const MEANT_FRAME_SIZE: u32 = PROTOCOL;

const DEPENDENCY: [u8; 5] = [0, 0, 0, 0, 15];

pub(super) fn cases() -> Vec<Case> {
    let part = |stream| frame(HEADERS, 0, stream, &block(&GET[..2]));
    let rest = |flags| frame(CONTINUATION, flags, 1, &block(&GET[2..]));
    let data = |flags| frame(DATA, flags, 1, b"abc");
    let on_itself = [&1_u32.to_be_bytes()[..], &[15]].concat();
    vec![
        // 4.3, 6.10
        case("6.10 a head in two frames", [frame(HEADERS, 1, 1, &block(&GET[..2])), rest(END_HEADERS)], Status(1, 200)),
        case(
            "6.10 a head in four, one of them empty",
            [
                frame(HEADERS, 1, 1, &[]),
                frame(CONTINUATION, 0, 1, &block(&GET[..1])),
                frame(CONTINUATION, 0, 1, &block(&GET[1..2])),
                rest(END_HEADERS),
            ],
            Status(1, 200),
        ),
        case("4.3 DATA within a head", [part(1), data(0)], Connection(PROTOCOL)),
        case("4.3 PRIORITY within a head", [part(1), frame(PRIORITY, 0, 1, &DEPENDENCY)], Connection(PROTOCOL)),
        case("4.3 PING within a head", [part(1), frame(PING, 0, 0, b"12345678")], Connection(PROTOCOL)),
        case("4.3 another head within a head", [part(1), get(3)], Connection(PROTOCOL)),
        case("4.3 an unknown frame within a head", [part(1), frame(0xbb, 0, 1, b"x")], Connection(PROTOCOL)),
        case(
            "6.10 CONTINUATION of another stream",
            [part(1), frame(CONTINUATION, END_HEADERS, 3, &block(&GET[2..]))],
            Connection(PROTOCOL),
        ),
        case("6.10 CONTINUATION of nothing", rest(END_HEADERS), Connection(PROTOCOL)),
        case("6.10 CONTINUATION after the end", [get(1), rest(END_HEADERS)], Connection(PROTOCOL)),
        case("6.10 CONTINUATION on stream 0", [part(1), frame(CONTINUATION, 4, 0, &[])], Connection(PROTOCOL)),
        // 5.1, idle
        case("5.1 DATA of an idle stream", data(0), Connection(PROTOCOL)),
        case("5.1 RST_STREAM of an idle stream", cancel(1), Connection(PROTOCOL)),
        case("5.1 WINDOW_UPDATE of an idle stream", window_update(1, 1), Connection(PROTOCOL)),
        case("5.1 PRIORITY of an idle stream", [frame(PRIORITY, 0, 1, &DEPENDENCY), get(1)], Status(1, 200)),
        // 5.1, half closed
        case("5.1 DATA after the end", [post_ended(), data(0)], Connection(MEANT_CLOSED)),
        case(
            "5.1 HEADERS after the end",
            [post_ended(), headers(1, END_STREAM, &[("x", "y")])],
            Connection(MEANT_CLOSED),
        ),
        case("5.1 WINDOW_UPDATE after the end", [post_ended(), window_update(1, 1)], Status(1, 200)),
        case("5.1 PRIORITY after the end", [post_ended(), frame(PRIORITY, 0, 1, &DEPENDENCY)], Status(1, 200)),
        // 5.1, closed
        case("5.1 DATA of a stream that was reset", [post(1), cancel(1), data(0)], Stream(1, CLOSED)),
        case("5.1 HEADERS of a stream that was reset", [post(1), cancel(1), get(1)], Connection(MEANT_CLOSED)),
        case("5.1 RST_STREAM twice", [post(1), cancel(1), cancel(1)], Alive),
        case("5.1 WINDOW_UPDATE of a stream that was reset", [post(1), cancel(1), window_update(1, 1)], Alive),
        case(
            "5.1 PRIORITY of a stream that was reset",
            [post(1), cancel(1), frame(PRIORITY, 0, 1, &DEPENDENCY)],
            Alive,
        ),
        case(
            "5.1 PRIORITY of a stream that was passed over",
            [get(5), frame(PRIORITY, 0, 3, &DEPENDENCY)],
            Status(5, 200),
        ),
        case("5.1 DATA of a stream that was passed over", [get(5), frame(DATA, 0, 3, b"x")], Stream(3, CLOSED)),
        // 5.1.1
        case("5.1.1 a stream of even number", get(2), Connection(PROTOCOL)),
        case("5.1.1 a number below the last", [get(5), get(3)], Connection(PROTOCOL)),
        case("5.1.1 the highest number", get(0x7fff_ffff), Status(0x7fff_ffff, 200)),
        case("5.1.1 HEADERS on stream 0", get(0), Connection(PROTOCOL)),
        // 5.3.1, 6.3
        case(
            "6.2 HEADERS with a priority",
            frame(HEADERS, END_STREAM | END_HEADERS | PRIORITIZED, 1, &[&DEPENDENCY[..], &block(&GET)].concat()),
            Status(1, 200),
        ),
        case("6.3 PRIORITY on stream 0", frame(PRIORITY, 0, 0, &DEPENDENCY), Connection(PROTOCOL)),
        case("6.3 PRIORITY of four bytes", [post(1), frame(PRIORITY, 0, 1, &[0; 4])], Connection(MEANT_FRAME_SIZE)),
        case(
            "5.3.1 a stream that depends on itself",
            [post(1), frame(PRIORITY, 0, 1, &on_itself)],
            Stream(1, PROTOCOL),
        ),
        case(
            "5.3.1 HEADERS that depend on themselves",
            frame(HEADERS, END_STREAM | END_HEADERS | PRIORITIZED, 1, &[&on_itself[..], &block(&GET)].concat()),
            Stream(1, PROTOCOL),
        ),
        // 6.1
        case("6.1 DATA on stream 0", [post(1), frame(DATA, 0, 0, b"x")], Connection(PROTOCOL)),
        case("6.1 padding", [post(1), frame(DATA, END_STREAM | PADDED, 1, b"\x02abc\0\0")], Status(1, 200)),
        case("6.1 nothing but padding", [post(1), frame(DATA, END_STREAM | PADDED, 1, b"\x02\0\0")], Status(1, 200)),
        case("6.1 padding as long as the frame", [post(1), frame(DATA, PADDED, 1, b"\x04abc")], Connection(PROTOCOL)),
        case("6.1 padding longer than the frame", [post(1), frame(DATA, PADDED, 1, b"\xffabc")], Connection(PROTOCOL)),
        case("6.1 padding without its length", [post(1), frame(DATA, PADDED, 1, b"")], Connection(PROTOCOL)),
        // 6.2
        case(
            "6.2 HEADERS with padding",
            frame(HEADERS, END_STREAM | END_HEADERS | PADDED, 1, &[&[3][..], &block(&GET), &[0; 3]].concat()),
            Status(1, 200),
        ),
        case(
            "6.2 HEADERS with too much padding",
            frame(HEADERS, END_STREAM | END_HEADERS | PADDED, 1, &[&[200][..], &block(&GET)].concat()),
            Connection(PROTOCOL),
        ),
        case("6.2 HEADERS without their priority", frame(HEADERS, 5 | PRIORITIZED, 1, &[0; 3]), Connection(PROTOCOL)),
        // 6.4
        case("6.4 RST_STREAM on stream 0", cancel(0), Connection(PROTOCOL)),
        case(
            "6.4 RST_STREAM of three bytes",
            [post(1), frame(RST_STREAM, 0, 1, &[0; 3])],
            Connection(MEANT_FRAME_SIZE),
        ),
        case("6.4 RST_STREAM with a code of nobody", [post(1), frame(RST_STREAM, 0, 1, &[0xff; 4])], Alive),
        // 6.6
        case(
            "6.6 PUSH_PROMISE from a client",
            frame(PUSH_PROMISE, END_HEADERS, 1, &[&[0, 0, 0, 2][..], &block(&GET)].concat()),
            Connection(PROTOCOL),
        ),
    ]
}

/// A POST that ends with its head.
fn post_ended() -> Vec<u8> {
    headers(1, END_STREAM, &POST)
}

#[test]
fn more_streams_than_allowed_are_refused() {
    let origin = Origin::http(|_| ok("x"));
    let mut manager = manager(vec![route("/", "origin")]);
    manager.codec = CodecType::Http2;
    manager.http2.max_concurrent_streams = 2;
    let proxy = Proxy::start(manager, vec![cluster("origin", &[origin.address])]);
    let three = case("5.1.2", [post(1), post(3), post(5)], Stream(5, REFUSED));
    let client = heard(proxy.address, &three);
    assert!(three.is_met(&client), "{:?}", client.events);
}
