//! RFC 9113 from the other side: a host that answers with frames written by hand.
//!
//! A case is what the host sends on the stream that it was asked on: what its client gets then, and what the host hears. The host that follows it,
//! where the request is sent once more, answers 299.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use heirloom::config::model::{Http2Options, UpstreamProtocol};

use crate::support::frames::*;
use crate::support::models::*;
use crate::support::proxy::Proxy;

/// What the host hears.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Heard {
    /// Its connection ends, with this code.
    Connection(u32),
    /// Its connection ends.
    End,
    /// Its stream is reset with this code, its connection lives on.
    Stream(u32),
    /// No complaint.
    Nothing,
}

struct Case {
    name: &'static str,
    /// Sent instead of the settings at the beginning.
    first: Vec<u8>,
    send: Vec<u8>,
    /// What the client gets.
    status: u16,
    heard: Heard,
}

fn case(name: &'static str, send: &[Vec<u8>], status: u16, heard: Heard) -> Case {
    Case { name, first: settings(&[]), send: send.concat(), status, heard }
}

/// A host that begins with these settings, and answers well if it is still asked.
fn begins(name: &'static str, first: Vec<u8>, status: u16, heard: Heard) -> Case {
    Case { name, first, send: whole(), status, heard }
}

const OK: [(&str, &str); 1] = [(":status", "200")];

/// A head, and more fields.
fn answer(flags: u8, fields: &[(&str, &str)]) -> Vec<u8> {
    headers(1, flags, &[&OK[..], fields].concat())
}

/// A whole answer.
fn whole() -> Vec<u8> {
    answer(END_STREAM, &[])
}

fn data(flags: u8, bytes: &[u8]) -> Vec<u8> {
    frame(DATA, flags, 1, bytes)
}

/// A host that breaks the protocol, as clients are told (`UPE`).
const BROKEN: u16 = 502;
/// The client's connection is cut: the answer had begun, and mostly nothing of it has been sent.
const CUT: u16 = 0;
/// A host that cannot be had.
const GONE: u16 = 503;

fn cases() -> Vec<Case> {
    use Heard::{Connection, End, Nothing, Stream};
    let malformed =
        |name, fields: &[(&str, &str)]| case(name, &[headers(1, END_STREAM, fields)], BROKEN, Stream(PROTOCOL));
    // Of a stream that has ended nothing needs to be reset.
    let ended = |name, fields: &[(&str, &str)]| case(name, &[headers(1, END_STREAM, fields)], BROKEN, Nothing);
    vec![
        case("8.1 an answer", &[whole()], 200, Nothing),
        case(
            "8.1 an answer with a body and trailers",
            &[answer(0, &[]), data(0, b"abc"), headers(1, END_STREAM, &[("x", "y")])],
            200,
            Nothing,
        ),
        case(
            "8.1 interim answers first",
            &[headers(1, 0, &[(":status", "103")]), headers(1, 0, &[(":status", "102")]), whole()],
            200,
            Nothing,
        ),
        case("5.5 a frame of unknown kind", &[frame(0xbb, 0, 1, b"x"), whole()], 200, Nothing),
        case("6.1 padding", &[answer(0, &[]), data(END_STREAM | PADDED, b"\x02abc\0\0")], 200, Nothing),
        // 3.4, 6.5
        begins("3.4 the first frame is no SETTINGS", frame(PING, 0, 0, b"12345678"), GONE, End),
        // The crate does not insist on it; a push is refused all the same.
        begins("6.5.2 ENABLE_PUSH of 1 from a host", settings(&[(2, 1)]), 200, Nothing),
        begins("6.5.2 INITIAL_WINDOW_SIZE too large", settings(&[(4, 1 << 31)]), BROKEN, Connection(PROTOCOL)),
        begins("6.5.2 MAX_FRAME_SIZE too small", settings(&[(5, 1)]), BROKEN, Connection(PROTOCOL)),
        begins("6.5 SETTINGS of five bytes", frame(SETTINGS, 0, 0, &[0; 5]), BROKEN, Connection(PROTOCOL)),
        // 5.1
        case("5.1 DATA before the head", &[data(0, b"abc")], BROKEN, Connection(PROTOCOL)),
        case("5.1 an answer to nobody", &[headers(3, END_STREAM, &OK)], BROKEN, Connection(PROTOCOL)),
        case("5.1 DATA to nobody", &[frame(DATA, 0, 3, b"x")], BROKEN, Connection(PROTOCOL)),
        case("5.1 RST_STREAM to nobody", &[cancel(3)], BROKEN, Connection(PROTOCOL)),
        case("5.1.1 a stream of the host's own", &[headers(2, END_STREAM, &OK)], BROKEN, Connection(PROTOCOL)),
        case(
            "6.6 PUSH_PROMISE where none is allowed",
            &[frame(PUSH_PROMISE, END_HEADERS, 1, &[&[0, 0, 0, 2][..], &block(&GET)].concat())],
            BROKEN,
            Connection(PROTOCOL),
        ),
        // 4.2, 4.3, 6
        case("4.2 a frame that is too long", &[answer(0, &[]), data(0, &[0; 16_385])], CUT, Connection(FRAME_SIZE)),
        case(
            "4.3 DATA within a head",
            &[frame(HEADERS, 0, 1, &block(&OK)), data(0, b"x")],
            BROKEN,
            Connection(PROTOCOL),
        ),
        case("6.1 DATA on stream 0", &[frame(DATA, 0, 0, b"x")], BROKEN, Connection(PROTOCOL)),
        case(
            "6.1 padding as long as the frame",
            &[answer(0, &[]), data(PADDED, b"\x04abc")],
            CUT,
            Connection(PROTOCOL),
        ),
        case("6.7 PING on a stream", &[frame(PING, 0, 1, b"12345678")], BROKEN, Connection(PROTOCOL)),
        case("6.8 GOAWAY on a stream", &[frame(GOAWAY, 0, 1, &[0; 8])], BROKEN, Connection(PROTOCOL)),
        case("6.9 WINDOW_UPDATE of the connection by nothing", &[window_update(0, 0)], BROKEN, Connection(PROTOCOL)),
        case(
            "6.9.1 a window of the connection that is too large",
            &[window_update(0, (1 << 31) - 1)],
            BROKEN,
            Connection(FLOW_CONTROL),
        ),
        case(
            "7541 6.1 number 0",
            &[frame(HEADERS, END_STREAM | END_HEADERS, 1, &[0x88, 0x80])],
            BROKEN,
            Connection(PROTOCOL),
        ),
        // 8.1.1
        case(
            "8.1.1 shorter than announced",
            &[answer(0, &[("content-length", "5")]), data(END_STREAM, b"abc")],
            CUT,
            Stream(PROTOCOL),
        ),
        case(
            "8.1.1 longer than announced",
            &[answer(0, &[("content-length", "2")]), data(END_STREAM, b"abc")],
            CUT,
            Stream(PROTOCOL),
        ),
        ended("8.1.1 a length that is no number", &[(":status", "200"), ("content-length", "x")]),
        case("8.1 trailers that do not end it", &[answer(0, &[]), headers(1, 0, &[("x", "y")])], CUT, Stream(PROTOCOL)),
        case("8.1 an interim answer that ends it", &[headers(1, END_STREAM, &[(":status", "103")])], BROKEN, Nothing),
        // 8.2, 8.3.2
        ended("8.3.2 no status", &[("x", "y")]),
        malformed("8.3.2 two of them", &[(":status", "200"), (":status", "404")]),
        // The crate passes nothing of it on, and neither do we.
        case(
            "8.3.2 a pseudo-header of requests",
            &[headers(1, END_STREAM, &[(":status", "200"), (":path", "/")])],
            200,
            Nothing,
        ),
        malformed("8.3 a pseudo-header after a field", &[("x", "y"), (":status", "200")]),
        malformed("8.2.2 connection", &[(":status", "200"), ("connection", "close")]),
        malformed("8.2.2 transfer-encoding", &[(":status", "200"), ("transfer-encoding", "chunked")]),
        case(
            "8.3.2 a status that is no number",
            &[headers(1, END_STREAM, &[(":status", "2x0")])],
            BROKEN,
            Connection(PROTOCOL),
        ),
        case("8.2.1 a name in upper case", &[answer(END_STREAM, &[("X-a", "y")])], BROKEN, Connection(PROTOCOL)),
        case("8.2.1 a value with LF", &[answer(END_STREAM, &[("x", "a\nb: c")])], BROKEN, Connection(PROTOCOL)),
        // 6.4, 6.8: nothing was done, so it is done elsewhere.
        case("8.7 a stream that is refused", &[frame(RST_STREAM, 0, 1, &7_u32.to_be_bytes())], 299, Nothing),
        case("8.7 a host that goes away before the stream", &[frame(GOAWAY, 0, 0, &[0; 8])], 299, End),
        case("6.4 a stream that is reset", &[cancel(1)], GONE, Nothing),
        case(
            "6.4 a stream that is reset behind a whole answer",
            &[whole(), frame(RST_STREAM, 0, 1, &[0; 4])],
            200,
            Nothing,
        ),
    ]
}

fn accept(listener: &TcpListener) -> Option<TcpStream> {
    listener.set_nonblocking(true).unwrap();
    let until = Instant::now() + crate::support::PATIENCE;
    while Instant::now() < until {
        if let Ok((socket, _)) = listener.accept() {
            socket.set_nonblocking(false).unwrap();
            return Some(socket);
        }
        std::thread::park_timeout(Duration::from_millis(2));
    }
    None
}

/// Plays the host of a case; then, should the request come again, one without a fault.
fn play(listener: &TcpListener, case: &Case) -> Raw {
    let asked = |host: &Raw| host.events.iter().any(|event| matches!(event, Event::Status(1, _)));
    let mut host = Raw::over(accept(listener).expect("it is asked"));
    host.skip_preface();
    host.send(&case.first);
    host.send(&frame(SETTINGS, ACK, 0, &[]));
    host.read_until(asked);
    host.send(&case.send);
    host.send_last_ping();
    let stream = |host: &Raw| host.events.iter().any(|event| matches!(event, Event::Reset(1, _)));
    let over = |host: &Raw| host.events.iter().any(|event| matches!(event, Event::GoAway(_)));
    if case.status == 299 {
        let again = headers(3, END_STREAM, &[(":status", "299")]);
        if case.heard == Heard::Nothing {
            // On the same connection.
            host.read_until(|host| host.events.iter().any(|event| matches!(event, Event::Status(3, _))));
            host.send(&again);
            host.read_until(Raw::is_alive);
            return host;
        }
        let Some(next) = accept(listener) else { return host };
        let mut next = Raw::over(next);
        next.skip_preface();
        next.send(&settings(&[]));
        next.read_until(asked);
        next.send(&headers(1, END_STREAM, &[(":status", "299")]));
        host.read_until(|host| host.is_over() || over(host));
        return host;
    }
    host.read_until(|host| {
        over(host) || (host.is_alive() && (!matches!(case.heard, Heard::Stream(_)) || stream(host)))
    });
    if over(&host) {
        host.finish();
        host.read_until(Raw::is_over);
    }
    host
}

/// The status of the final answer; 0 where there is none.
fn ask(address: SocketAddr) -> u16 {
    let mut client = TcpStream::connect(address).unwrap();
    client.set_read_timeout(Some(crate::support::PATIENCE)).unwrap();
    client.write_all(b"GET / HTTP/1.1\r\nhost: test\r\n\r\n").unwrap();
    let (mut text, mut piece) = (String::new(), [0; 1024]);
    loop {
        // Interim answers go by.
        while text.starts_with("HTTP/1.1 1")
            && let Some(end) = text.find("\r\n\r\n")
        {
            text.drain(..end + 4);
        }
        if text.contains("\r\n\r\n") {
            return text[9..12].parse().unwrap();
        }
        match client.read(&mut piece) {
            Ok(0) | Err(_) => return 0,
            Ok(length) => text.push_str(&String::from_utf8_lossy(&piece[..length])),
        }
    }
}

fn is_met(case: &Case, host: &Raw, status: u16) -> bool {
    let has = |event: &Event| host.events.contains(event);
    let resets = host.events.iter().any(|event| matches!(event, Event::Reset(..)));
    let goes = host.events.iter().any(|event| matches!(event, Event::GoAway(_)));
    let heard = match case.heard {
        Heard::Connection(code) => has(&Event::GoAway(code)),
        Heard::End => goes || host.is_over(),
        Heard::Stream(code) => has(&Event::Reset(1, code)) && host.is_alive() && !goes,
        Heard::Nothing => host.is_alive() && !resets && !goes,
    };
    // Where the answer had begun, its head may be on its way or not.
    heard && (status == case.status || (case.status == CUT && status == 200))
}

#[test]
fn hosts_that_break_the_protocol() {
    let mut faults = Vec::new();
    let all = cases();
    for case in &all {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut cluster = cluster("origin", &[listener.local_addr().unwrap()]);
        cluster.protocol = UpstreamProtocol::Http2(Arc::new(Http2Options::default()));
        let proxy = Proxy::start(manager(vec![route("/", "origin")]), vec![cluster]);
        let (host, status) = std::thread::scope(|scope| {
            let host = scope.spawn(|| play(&listener, case));
            let status = ask(proxy.address);
            (host.join().unwrap(), status)
        });
        if !is_met(case, &host, status) {
            let Case { name, heard, status: wanted, .. } = case;
            faults.push(format!(
                "{name}: the client got {status}, the host {:?}, and not {wanted} and {heard:?}",
                host.events
            ));
        }
        proxy.await_gauge("http.test.downstream_rq_active", 0);
        proxy.await_gauge("cluster.origin.upstream_rq_active", 0);
    }
    assert!(faults.is_empty(), "{} of {} cases:\n{}", faults.len(), all.len(), faults.join("\n"));
}
