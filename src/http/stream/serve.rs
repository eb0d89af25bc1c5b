//! How a request begins: from what a connection has read of it, in either protocol.

use std::rc::Rc;
use std::time::Instant;

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, RecvStream};
use http::{Method, Request, StatusCode, Version, header};

use crate::codec::head::RequestHead;
use crate::codec::http1::{Framing, Parsed};
use crate::codec::http2::head::{self, Malformed};
use crate::http::downstream::Downstream;
use crate::http::failure::Failure;
use crate::http::http2::{self, Conn, Source};
use crate::http::upgrade::Switch;

use super::{After, Begun, Client, Stream};

/// A request of an HTTP/1 connection, and its head. Whoever serves it does so in its own frame: a function that waits would hold the head
/// for as long as the request lasts.
pub(in crate::http) fn open(
    conn: &Downstream,
    parsed: Parsed<RequestHead>,
    started: Instant,
) -> (Stream<'_>, RequestHead, Begun) {
    let Parsed { head, framing, keep_alive, expect_continue, upgrade, hostless } = parsed;
    let mut stream = Stream::new(Client::Http1(conn), &head, framing, started);
    stream.hostless = hostless;
    let ours = !conn.manager.config.proxy_100_continue;
    if expect_continue && ours && !stream.is_complete() && head.version == Version::HTTP_11 {
        stream.interim.borrow_mut().extend_from_slice(b"HTTP/1.1 100 Continue\r\n\r\n");
        stream.count_interim(StatusCode::CONTINUE);
    }
    let begun = Begun { close: !keep_alive, ..Begun::default() };
    if upgrade || head.method == Method::CONNECT {
        stream.switch.set(Switch::of(&head, upgrade));
    }
    (stream, head, begun)
}

/// Serves the request of an HTTP/2 stream.
pub(in crate::http) async fn run_http2(conn: Rc<Conn>, request: Request<RecvStream>, mut respond: SendResponse<Bytes>) {
    let started = Instant::now();
    let (parts, body) = request.into_parts();
    // Over HTTP/2 nobody asks for a tunnel by another method (RFC 8441, 4).
    let asks = parts.method == Method::CONNECT;
    let source = Source::new(body, &parts.headers);
    let waits =
        parts.headers.get(header::EXPECT).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue"));
    let mut dropped = 0;
    let parsed = head::request_head(parts, &conn.manager.rules, &mut dropped);
    let codec = &conn.manager.http2_stats;
    codec.dropped_headers_with_underscores.add(dropped);
    let head = match parsed {
        Ok(head) => head,
        Err(malformed) => {
            match malformed {
                Malformed::TooManyHeaders => codec.header_overflow.inc(),
                Malformed::Underscore => codec.requests_rejected_with_underscores_in_headers.inc(),
                Malformed::Field => codec.rx_messaging_error.inc(),
            }
            respond.send_reset(Reason::PROTOCOL_ERROR);
            return;
        }
    };
    let client = http2::Client::new(conn, source, respond);
    let mut stream = Stream::new(Client::Http2(&client), &head, Framing::none(), started);
    if asks {
        stream.asks(&head);
    }
    if waits && !client.conn.manager.config.proxy_100_continue && !stream.is_complete() {
        client.go_on();
        stream.count_interim(StatusCode::CONTINUE);
    }
    let mut begun = Begun::default();
    let answer = stream.begin(head);
    let course = stream.answer(answer, &mut begun).await;
    if course.is_err() {
        client.reset(Reason::INTERNAL_ERROR);
    }
    if let After::Tunnel(switching) = stream.finish(course, begun) {
        Box::pin(switching.run_http2(client)).await;
    }
}

/// Answers bytes that did not become a request.
pub(in crate::http) async fn refuse(conn: &Downstream, failure: Failure, started: Instant) -> After {
    let unknown = RequestHead::new(Method::GET, "", "/");
    let stream = Stream::new(Client::Http1(conn), &unknown, Framing::none(), started);
    let mut begun = Begun { close: true, ..Begun::default() };
    let course = stream.fail(failure, &mut begun).await;
    stream.finish(course, begun);
    After::Close { linger: true }
}
