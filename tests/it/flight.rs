//! Requests that leave one worker in the middle and go on in another, as they do from epoch to epoch.
//!
//! Every journey is made moving at each step, and then once for each step with a refusal there. Client and host must not see a difference.

use std::io::Write;
use std::sync::Arc;

mod edges;
mod journey;

use journey::{bytes, chunk, chunks, journey};

#[test]
fn a_stream_of_events_goes_on_and_its_connections_are_kept() {
    journey(4, |journey| {
        let (mut client, mut host) = journey.begin("GET /events HTTP/1.1\r\nhost: a\r\n\r\n");
        host.head().unwrap().unwrap();
        host.socket.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").unwrap();
        assert_eq!(client.head().header("connection"), None);
        journey.step();
        host.socket.write_all(&chunk(b"data: one\n\n")).unwrap();
        assert_eq!(client.wire.chunk().unwrap().0, b"data: one\n\n");
        journey.step();
        // A part of a chunk, and then a part of a chunk's size.
        host.socket.write_all(b"14\r\n0123456789").unwrap();
        assert_eq!(chunks(&mut client.wire, 10), b"0123456789");
        journey.step();
        host.socket.write_all(b"abcdefghij\r\n0").unwrap();
        assert_eq!(chunks(&mut client.wire, 10), b"abcdefghij");
        journey.step();
        host.socket.write_all(b"005\r\nxyz..\r\n0\r\nx-end: yes\r\n\r\n").unwrap();
        assert_eq!(chunks(&mut client.wire, 5), b"xyz..");
        assert_eq!(client.wire.chunk().unwrap(), (Vec::new(), vec![("x-end".to_owned(), "yes".to_owned())]));
        journey.is_over();
        // Both connections are what they were before: the next request takes them.
        client.send("GET /next HTTP/1.1\r\nhost: a\r\n\r\n");
        assert_eq!(host.head().unwrap().unwrap().path(), "/next");
        host.socket.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").unwrap();
        assert_eq!(client.response().status(), 204);
        assert_eq!(journey.sum("cluster.origin.upstream_cx_total"), 1);
        assert_eq!(journey.sum("cluster.origin.upstream_rq_total"), 2);
        journey.requests = 2;
    });
}

#[test]
fn a_download_with_full_buffers_goes_on_byte_for_byte() {
    const SIZE: usize = 12 * 1024 * 1024;
    let body = Arc::new(bytes(SIZE));
    journey(3, |journey| {
        let (mut client, mut host) = journey.begin("GET / HTTP/1.1\r\nhost: a\r\n\r\n");
        host.head().unwrap().unwrap();
        let sent = body.clone();
        let sender = std::thread::spawn(move || {
            let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {SIZE}\r\n\r\n");
            host.socket.write_all(head.as_bytes()).unwrap();
            for part in sent.chunks(9_999) {
                host.socket.write_all(part).unwrap();
            }
            host
        });
        let paused = "cluster.origin.upstream_flow_control_paused_reading_total";
        journey.here().await_counter(paused, 1);
        journey.step();
        assert_eq!(client.head().header("content-length"), Some(&*SIZE.to_string()));
        let mut read = client.wire.bytes(1_000_000).unwrap();
        journey.step();
        read.extend(client.wire.bytes(3_333_333).unwrap());
        journey.step();
        read.extend(client.wire.bytes(SIZE - read.len()).unwrap());
        assert!(read == *body, "every byte in its place");
        drop(sender.join().unwrap());
        client.assert_open();
        let resumed = "cluster.origin.upstream_flow_control_resumed_reading_total";
        assert_eq!(journey.sum(paused), journey.sum(resumed));
    });
}

#[test]
fn a_chunked_upload_goes_on_and_so_does_its_answer() {
    journey(4, |journey| {
        let head = "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n";
        let (mut client, mut host) = journey.begin(head);
        assert!(host.head().unwrap().unwrap().chunked);
        client.send("a\r\n01234");
        assert_eq!(chunks(&mut host, 5), b"01234");
        journey.step();
        client.send("56789\r\n1");
        assert_eq!(chunks(&mut host, 5), b"56789");
        journey.step();
        // The answer begins before the upload ends.
        host.socket.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").unwrap();
        host.socket.write_all(&chunk(b"so far, so good")).unwrap();
        assert_eq!(client.head().status(), 200);
        assert_eq!(chunks(&mut client.wire, 15), b"so far, so good");
        client.send("0\r\nabcdefghijklmnop\r\n");
        assert_eq!(chunks(&mut host, 16), b"abcdefghijklmnop");
        journey.step();
        client.send("0\r\nx-sent: ");
        journey.step();
        client.send("all\r\n\r\n");
        assert_eq!(host.chunk().unwrap(), (Vec::new(), vec![("x-sent".to_owned(), "all".to_owned())]));
        host.socket.write_all(b"0\r\n\r\n").unwrap();
        assert_eq!(client.wire.chunk().unwrap().0, b"");
    });
}

#[test]
fn a_long_upload_arrives_byte_for_byte_and_is_answered_at_its_end() {
    const SIZE: usize = 12 * 1024 * 1024;
    let body = Arc::new(bytes(SIZE));
    journey(3, |journey| {
        let head = format!("PUT / HTTP/1.1\r\nhost: a\r\ncontent-length: {SIZE}\r\n\r\n");
        let (mut client, mut host) = journey.begin(head);
        assert_eq!(host.head().unwrap().unwrap().header("content-length"), Some(&*SIZE.to_string()));
        let mut socket = client.wire.socket.try_clone().unwrap();
        let sent = body.clone();
        let sender = std::thread::spawn(move || {
            for part in sent.chunks(7_777) {
                socket.write_all(part).unwrap();
            }
        });
        let paused = "http.test.downstream_flow_control_paused_reading_total";
        journey.here().await_counter(paused, 1);
        journey.step();
        let mut read = host.bytes(2_000_000).unwrap();
        journey.step();
        read.extend(host.bytes(4_444_444).unwrap());
        journey.step();
        read.extend(host.bytes(SIZE - read.len()).unwrap());
        assert!(read == *body, "every byte in its place");
        sender.join().unwrap();
        host.socket.write_all(b"HTTP/1.1 201 Created\r\ncontent-length: 4\r\n\r\ndone").unwrap();
        let response = client.response();
        assert_eq!((response.status(), response.text()), (201, "done"));
        client.assert_open();
        assert_eq!(journey.sum("http.test.downstream_flow_control_resumed_reading_total"), journey.sum(paused));
    });
}

#[test]
fn a_long_poll_is_answered_where_it_has_gone() {
    journey(3, |journey| {
        let (mut client, mut host) = journey.begin("GET /poll HTTP/1.1\r\nhost: a\r\n\r\n");
        host.head().unwrap().unwrap();
        journey.step();
        host.socket.write_all(b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\nHTTP/1.1 2").unwrap();
        assert_eq!(client.response().status(), 103);
        journey.step();
        host.socket.write_all(b"00 OK\r\ncontent-le").unwrap();
        journey.step();
        host.socket.write_all(b"ngth: 4\r\n\r\nnews").unwrap();
        let response = client.response();
        assert_eq!((response.text(), response.header("connection")), ("news", None));
        client.assert_open();
    });
}

#[test]
fn answers_without_a_body_and_those_that_end_with_the_connection() {
    // What the host sends, what the client gets of it, and whether its connection ends.
    type Case = (&'static str, &'static str, &'static [u8], u16, &'static str, bool);
    let cases: [Case; 5] = [
        ("HEAD", "1.1", b"HTTP/1.1 200 OK\r\ncontent-length: 77\r\n\r\n", 200, "", false),
        ("GET", "1.1", b"HTTP/1.1 204 No Content\r\n\r\n", 204, "", false),
        ("GET", "1.1", b"HTTP/1.1 304 Not Modified\r\ncontent-length: 77\r\n\r\n", 304, "", false),
        ("GET", "1.1", b"HTTP/1.1 200 OK\r\n\r\nup to the end", 200, "up to the end", false),
        ("GET", "1.0", b"HTTP/1.1 200 OK\r\n\r\nup to the end", 200, "up to the end", true),
    ];
    for (method, version, answer, status, text, closes) in cases {
        journey(1, |journey| {
            let mut head = format!("{method} / HTTP/{version}\r\nhost: a\r\n");
            if version == "1.0" {
                head.push_str("connection: keep-alive\r\n");
            }
            let (mut client, mut host) = journey.begin(head + "\r\n");
            host.head().unwrap().unwrap();
            journey.step();
            host.socket.write_all(answer).unwrap();
            drop(host);
            let response = if method == "HEAD" { client.head() } else { client.response() };
            assert_eq!((response.status(), response.text()), (status, text));
            if closes { client.assert_closed() } else { client.assert_open() }
        });
    }
}

#[test]
fn a_body_up_to_the_end_of_the_connection_moves_in_its_middle() {
    journey(2, |journey| {
        let (mut client, mut host) = journey.begin("GET / HTTP/1.0\r\nhost: a\r\n\r\n");
        host.head().unwrap().unwrap();
        host.socket.write_all(b"HTTP/1.1 200 OK\r\n\r\none ").unwrap();
        assert_eq!(client.head().header("connection"), Some("close"));
        assert_eq!(client.wire.bytes(4).unwrap(), b"one ");
        journey.step();
        host.socket.write_all(b"two ").unwrap();
        assert_eq!(client.wire.bytes(4).unwrap(), b"two ");
        journey.step();
        host.socket.write_all(b"three").unwrap();
        drop(host);
        assert_eq!(client.wire.rest().unwrap(), b"three");
    });
}

#[test]
fn an_expectation_has_been_met_before_the_move() {
    journey(1, |journey| {
        let head = "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\nexpect: 100-continue\r\n\r\n";
        let (mut client, mut host) = journey.begin(head);
        host.head().unwrap().unwrap();
        assert_eq!(client.response().status(), 100);
        journey.step();
        client.send("hello");
        assert_eq!(host.bytes(5).unwrap(), b"hello");
        host.socket.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").unwrap();
        assert_eq!(client.response().status(), 204);
    });
}
