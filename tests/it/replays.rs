//! Uploads that are cut: kept, sent again, and handed back by a host that stops (379).

use std::io::Write;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc;

use heirloom::config::model::*;

use crate::support::models::*;
use crate::support::origin::{Origin, ok};
use crate::support::proxy::Proxy;
use crate::support::wire::{Message, Wire};

fn tries(limit: u64, on: RetryOn) -> Tries {
    let policy = RetryPolicy { on, retries: 3, avoid_previous_hosts: true, host_attempts: 5, ..RetryPolicy::default() };
    Tries { policy, body_limit: Some(limit), ..Tries::default() }
}

fn to(tries: Tries, hosts: &[SocketAddr]) -> Proxy {
    let mut route = route("/", "origin");
    if let RouteAction::Forward(forward) = &mut route.action {
        let of_route = &mut forward.tries;
        *of_route = Arc::new(tries);
    }
    Proxy::start(manager(vec![route]), vec![cluster("origin", hosts)])
}

fn count(proxy: &Proxy, name: &str) -> u64 {
    proxy.counter(&format!("cluster.origin.{name}"))
}

/// Bytes that show when one is lost, doubled or out of place.
fn pattern(length: usize) -> Vec<u8> {
    (0..length as u32).flat_map(|at| at.wrapping_mul(2_654_435_761).to_be_bytes()).take(length).collect()
}

/// Answers with what it received.
fn mirror(into: mpsc::Sender<Message>) -> Origin {
    let into = std::sync::Mutex::new(into);
    Origin::http(move |request| {
        into.lock().unwrap().send(request.clone()).unwrap();
        ok("mirrored")
    })
}

/// So much of the body of a request, whatever its framing.
fn part(wire: &mut Wire, head: &Message, length: usize) -> Vec<u8> {
    let mut body = Vec::new();
    while body.len() < length {
        match head.chunked {
            true => body.extend(wire.chunk().unwrap().0),
            false => body.extend(wire.bytes(length).unwrap()),
        }
    }
    body
}

/// Reads so much of a body and does something with it.
fn after(length: usize, then: impl Fn(&mut Wire, Vec<u8>) + Send + Sync + 'static) -> Origin {
    Origin::raw(move |_, mut wire| {
        let head = wire.head().unwrap().unwrap();
        let body = part(&mut wire, &head, length);
        then(&mut wire, body);
    })
}

fn hand_back(wire: &mut Wire, echo: &[u8]) {
    let head = format!("HTTP/1.1 379 Partial POST Replay\r\ncontent-length: {}\r\nx-echo: y\r\n\r\n", echo.len());
    let _ = wire.socket.write_all(head.as_bytes());
    let _ = wire.socket.write_all(echo);
    // Whoever closes with unread bytes takes the answer back.
    let _ = wire.socket.shutdown(std::net::Shutdown::Write);
    let _ = wire.rest();
}

/// Sends a body in two parts, the second when told so; framed by length or in chunks.
fn upload(proxy: &Proxy, body: &[u8], first: usize, chunked: bool, meanwhile: impl FnOnce()) -> Message {
    let mut client = proxy.connect();
    let framing = if chunked { "transfer-encoding: chunked".into() } else { format!("content-length: {}", body.len()) };
    client.send(format!("POST /up HTTP/1.1\r\nhost: a\r\n{framing}\r\n\r\n"));
    let mut send = |part: &[u8]| {
        if chunked {
            for piece in part.chunks(10_000) {
                client.send(format!("{:x}\r\n", piece.len()));
                client.send(piece);
                client.send("\r\n");
            }
        } else {
            client.send(part);
        }
    };
    send(&body[..first]);
    meanwhile();
    send(&body[first..]);
    if chunked {
        client.send("0\r\n\r\n");
    }
    client.response()
}

#[test]
fn a_host_that_dies_in_the_middle_of_an_upload_is_replaced() {
    for chunked in [false, true] {
        let (tell, told) = mpsc::channel();
        let (died, has_died) = mpsc::sync_channel(1);
        let dying = after(50_000, move |wire, _| {
            wire.socket.shutdown(std::net::Shutdown::Both).unwrap();
            died.send(()).unwrap();
        });
        let living = mirror(tell);
        let proxy = to(tries(1 << 20, RetryOn::RESET), &[dying.address, living.address]);
        let body = pattern(300_000);
        let response = upload(&proxy, &body, 100_000, chunked, || has_died.recv().unwrap());
        assert_eq!(response.text(), "mirrored", "chunked: {chunked}");
        let request = told.recv().unwrap();
        assert!(request.body == body, "chunked: {chunked}");
        assert_eq!(request.chunked, chunked);
        assert_eq!(count(&proxy, "upstream_rq_retry_success"), 1);
        assert_eq!(count(&proxy, "retry_or_shadow_abandoned"), 0);
    }
}

#[test]
fn a_body_goes_on_while_it_is_kept_and_is_sent_again_after_a_bad_answer() {
    let (tell, told) = mpsc::channel();
    let (seen, has_seen) = mpsc::sync_channel(1);
    // It answers before the body is complete, which it could not if the body were held back.
    let bad = after(60_000, move |wire, _| {
        wire.socket.write_all(b"HTTP/1.1 503 Bad\r\ncontent-length: 0\r\n\r\n").unwrap();
        seen.send(()).unwrap();
        let _ = wire.rest();
    });
    let good = mirror(tell);
    let proxy = to(tries(1 << 20, RetryOn::STATUS_5XX), &[bad.address, good.address]);
    let body = pattern(200_000);
    let response = upload(&proxy, &body, 80_000, false, || has_seen.recv().unwrap());
    assert_eq!(response.text(), "mirrored");
    assert!(told.recv().unwrap().body == body);
    assert_eq!(count(&proxy, "retry.upstream_rq_503"), 1);
}

#[test]
fn a_body_beyond_the_limit_has_one_try() {
    let body = pattern(40_000);
    let length = body.len();
    let bad = after(length, |wire, _| {
        wire.socket.write_all(b"HTTP/1.1 503 Bad\r\ncontent-length: 3\r\n\r\nbad").unwrap();
    });
    let good = Origin::text("good");
    let proxy = to(tries(30_000, RetryOn::STATUS_5XX), &[bad.address, good.address]);
    let response = upload(&proxy, &body, 10_000, false, || ());
    assert_eq!((response.status(), response.text()), (503, "bad"));
    assert_eq!(count(&proxy, "retry_or_shadow_abandoned"), 1);
    assert_eq!(count(&proxy, "upstream_rq_retry"), 0);
    assert_eq!(count(&proxy, "upstream_rq_retry_limit_exceeded"), 0);
}

#[test]
fn the_listeners_buffer_is_the_limit_where_the_route_names_none() {
    let tries = Tries { request_limit: Some(5000), ..Tries::default() };
    assert_eq!(tries.buffer_limit(1000), 1000);
    assert_eq!(tries.buffer_limit(9000), 5000);
    assert_eq!(Tries::default().buffer_limit(9000), 9000);
    assert_eq!(Tries { body_limit: Some(7), ..tries }.buffer_limit(1000), 7);
}

#[test]
fn a_request_that_is_handed_back_goes_to_another_host() {
    // Within the limit the copy is used; beyond it the echo and what was on its way meanwhile.
    for (limit, chunked) in [(1 << 20, false), (1 << 20, true), (128 << 10, false), (128 << 10, true)] {
        let (tell, told) = mpsc::channel();
        let stopping = after(400_000, |wire, received| hand_back(wire, &received));
        let other = mirror(tell);
        let proxy = to(tries(limit, RetryOn::RESET), &[stopping.address, other.address]);
        let body = pattern(900_000);
        // Ten thousand bytes are on their way when the host stops reading; more than the limit must not be.
        let response = upload(&proxy, &body, 410_000, chunked, || {
            proxy.await_counter("cluster.origin.upstream_rq_retry", 1);
        });
        assert_eq!((response.status(), response.text()), (200, "mirrored"), "limit {limit}, chunked {chunked}");
        let request = told.recv().unwrap();
        assert!(request.body == body, "limit {limit}, chunked {chunked}: {} bytes", request.body.len());
        assert_eq!(request.header("x-echo"), None, "nothing of the host's head is used");
        assert_eq!(count(&proxy, "upstream_rq_retry_success"), 1);
        assert_eq!(count(&proxy, "upstream_rq_retry"), 1);
        proxy.await_gauge("cluster.origin.upstream_rq_active", 0);
    }
}

#[test]
fn two_hosts_in_a_row_hand_the_request_back() {
    for limit in [1 << 20, 128 << 10] {
        let (tell, told) = mpsc::channel();
        let stopping: Vec<Origin> = [500_000, 300_000]
            .map(|length| after(length, |wire, received| hand_back(wire, &received)))
            .into_iter()
            .collect();
        let other = mirror(tell);
        let hosts = [stopping[0].address, stopping[1].address, other.address];
        let proxy = to(tries(limit, RetryOn::STATUS_5XX), &hosts);
        let body = pattern(700_000);
        let mut client = proxy.connect();
        client.send(format!("POST /up HTTP/1.1\r\nhost: a\r\ncontent-length: {}\r\n\r\n", body.len()));
        let sender = {
            let (mut socket, body) = (client.wire.socket.try_clone().unwrap(), body.clone());
            std::thread::spawn(move || body.chunks(50_000).for_each(|part| socket.write_all(part).unwrap()))
        };
        let response = client.response();
        sender.join().unwrap();
        if limit == 1 << 20 {
            assert_eq!(response.text(), "mirrored");
        } else if response.status() != 200 {
            // More was on its way than the window holds: that must be a 503, and never a body with a hole.
            assert_eq!(response.status(), 503);
            continue;
        }
        assert!(told.recv().unwrap().body == body, "limit {limit}");
    }
}

#[test]
fn a_379_never_reaches_a_client() {
    let not_allowed = [
        Tries::default(),
        tries(1 << 20, RetryOn::CONNECT_FAILURE),
        Tries { policy: RetryPolicy { retries: 0, ..tries(1 << 20, RetryOn::RESET).policy }, ..Tries::default() },
    ];
    for (number, tries) in not_allowed.into_iter().enumerate() {
        let stopping = after(1000, |wire, received| hand_back(wire, &received));
        let other = Origin::text("other");
        let proxy = to(tries, &[stopping.address, other.address]);
        let response = upload(&proxy, &pattern(1000), 1000, false, || ());
        assert_eq!(response.status(), 503, "case {number}");
        assert_eq!(other.requests(), 0);
    }
    // Echoes that cannot be: more than was sent, and one that breaks off with more missing than is still here.
    for (claimed, echoed) in [(900_000, 900_000), (400_000, 1000)] {
        let stopping = after(400_000, move |wire, _| {
            let head = format!("HTTP/1.1 379 Partial POST Replay\r\ncontent-length: {claimed}\r\n\r\n");
            let _ = wire.socket.write_all(head.as_bytes());
            let _ = wire.socket.write_all(&vec![b'x'; echoed]);
            let _ = wire.socket.shutdown(std::net::Shutdown::Write);
            let _ = wire.rest();
        });
        let other = Origin::raw(|_, mut wire| {
            let _ = wire.rest();
        });
        let proxy = to(tries(64 << 10, RetryOn::RESET), &[stopping.address, other.address]);
        let response = upload(&proxy, &pattern(500_000), 400_000, false, || ());
        assert_eq!(response.status(), 503, "claimed {claimed}, echoed {echoed}");
        proxy.await_gauge("cluster.origin.upstream_rq_active", 0);
    }
}

#[test]
fn another_379_is_an_answer_like_any_other() {
    let origin = Origin::http(|_| b"HTTP/1.1 379 My Own\r\ncontent-length: 2\r\n\r\nme".to_vec());
    let proxy = to(tries(1 << 20, RetryOn::RESET), &[origin.address]);
    let response = proxy.connect().get("/");
    assert_eq!((response.status(), response.text()), (379, "me"));
}
