//! Bodies: lengths, chunks, back-pressure, early answers.

use std::io::Write;
use std::sync::mpsc;

use crate::support::models::*;
use crate::support::origin::{Origin, ok};
use crate::support::proxy::Proxy;
use crate::support::{eventually, wire::Wire};

fn to(origin: &Origin) -> Proxy {
    Proxy::start(manager(vec![route("/", "origin")]), vec![cluster("origin", &[origin.address])])
}

/// Sends the body back as it came.
fn echo() -> Origin {
    Origin::http(|request| {
        let mut response = Vec::new();
        if request.chunked {
            response.extend_from_slice(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n");
            for part in request.body.chunks(1000) {
                response.extend_from_slice(format!("{:x}\r\n", part.len()).as_bytes());
                response.extend_from_slice(part);
                response.extend_from_slice(b"\r\n");
            }
            response.extend_from_slice(b"0\r\nx-trailer: 1\r\n\r\n");
        } else {
            response.extend_from_slice(
                format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", request.body.len()).as_bytes(),
            );
            response.extend_from_slice(&request.body);
        }
        response
    })
}

#[test]
fn bodies_of_every_size_come_back_whole() {
    let origin = echo();
    let proxy = to(&origin);
    let mut client = proxy.connect();
    for size in [0, 1, 100, 4095, 4096, 4097, 16_383, 16_384, 32_767, 32_768, 32_769, 100_000, 1_000_000] {
        let body: Vec<u8> = (0..size).map(|at| (at % 251) as u8).collect();
        client.send(format!("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: {size}\r\n\r\n"));
        client.send(&body);
        let response = client.response();
        assert_eq!(response.header("content-length"), Some(&*size.to_string()));
        assert!(response.body == body, "{size} bytes by length");

        client.send("POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n");
        for part in body.chunks(7777) {
            client.send(format!("{:x}\r\n", part.len()));
            client.send(part);
            client.send("\r\n");
        }
        client.send("0\r\nx-sent: 1\r\n\r\n");
        let response = client.response();
        assert!(response.chunked);
        assert!(response.body == body, "{size} bytes in chunks");
        assert_eq!(response.trailers, [], "trailers are dropped unless asked for");
    }
    assert_eq!(origin.connections(), 1);
    client.assert_open();
}

#[test]
fn trailers_pass_where_they_are_enabled() {
    let origin = Origin::http(|request| {
        assert_eq!(request.trailers, [("x-sent".to_owned(), "1".to_owned())]);
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\nx-trailer: 2\r\n\r\n".to_vec()
    });
    let mut config = manager(vec![route("/", "origin")]);
    config.http1.enable_trailers = true;
    let proxy = Proxy::start(config, vec![cluster("origin", &[origin.address])]);
    let mut client = proxy.connect();
    client.send("POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n1\r\nx\r\n0\r\nx-sent: 1\r\n\r\n");
    assert_eq!(client.response().trailers, [("x-trailer".to_owned(), "2".to_owned())]);
}

#[test]
fn a_response_that_ends_with_its_connection_becomes_chunks() {
    let origin = Origin::raw(|_, mut wire| {
        wire.head().unwrap();
        wire.socket.write_all(b"HTTP/1.1 200 OK\r\n\r\nall there is").unwrap();
    });
    let proxy = to(&origin);
    let mut client = proxy.connect();
    let response = client.get("/");
    assert!(response.chunked);
    assert_eq!(response.text(), "all there is");
    client.assert_open();
}

#[test]
fn an_expectation_is_answered_by_the_proxy() {
    let origin = Origin::http(|request| {
        assert_eq!(request.header("expect"), None);
        ok(request.text())
    });
    let proxy = to(&origin);
    let mut client = proxy.connect();
    client.send("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\nexpect: 100-continue\r\n\r\n");
    assert_eq!(client.response().line, "HTTP/1.1 100 Continue");
    client.send("hello");
    assert_eq!(client.response().text(), "hello");
    client.assert_open();
}

#[test]
fn a_hundred_megabytes_each_way_in_bounded_memory() {
    const SIZE: usize = 100 * 1024 * 1024;
    let origin = Origin::raw(|_, mut wire| {
        wire.head().unwrap();
        let mut left = SIZE;
        while left > 0 {
            let part = wire.bytes(left.min(64 * 1024)).unwrap();
            assert!(part.iter().all(|byte| *byte == b'u'));
            left -= part.len();
        }
        wire.socket.write_all(format!("HTTP/1.1 200 OK\r\ncontent-length: {SIZE}\r\n\r\n").as_bytes()).unwrap();
        let block = vec![b'd'; 256 * 1024];
        for _ in 0..SIZE / block.len() {
            wire.socket.write_all(&block).unwrap();
        }
    });
    let proxy = Proxy::start(
        manager(vec![route_with_timeout("/", "origin", None)]),
        vec![cluster("origin", &[origin.address])],
    );
    let mut client = proxy.connect();
    client.send(format!("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: {SIZE}\r\n\r\n"));
    let block = vec![b'u'; 256 * 1024];
    let held = |from: &str, to: &str| {
        let names = [from.to_owned(), to.to_owned()];
        // Both in one look, between two polls of the worker.
        let [from, to] = proxy.on_worker(move |worker| names.map(|name| worker.scope.counter(&name).lane_value()));
        from.saturating_sub(to)
    };
    let mut most = 0;
    for _ in 0..SIZE / block.len() {
        client.send(&block);
        most = most.max(held("http.test.downstream_cx_rx_bytes_total", "cluster.origin.upstream_cx_tx_bytes_total"));
    }
    let head = client.head();
    assert_eq!(head.header("content-length"), Some(&*SIZE.to_string()));
    let mut left = SIZE;
    while left > 0 {
        let part = client.wire.bytes(left.min(64 * 1024)).unwrap();
        assert!(part.iter().all(|byte| *byte == b'd'));
        left -= part.len();
        if left.is_multiple_of(1024 * 1024) {
            most =
                most.max(held("cluster.origin.upstream_cx_rx_bytes_total", "http.test.downstream_cx_tx_bytes_total"));
        }
    }
    assert!(most < 128 * 1024, "held {most} bytes at once");
    client.assert_open();
}

#[test]
fn a_client_that_does_not_read_stops_the_origin() {
    let (written, progress) = mpsc::channel();
    let origin = Origin::raw(move |_, mut wire| {
        wire.head().unwrap();
        wire.socket.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 1000000000\r\n\r\n").unwrap();
        let block = vec![b'x'; 64 * 1024];
        for _ in 0..1_000_000_000 / block.len() {
            if wire.socket.write_all(&block).is_err() {
                return;
            }
            let _ = written.send(block.len());
        }
    });
    let proxy = Proxy::start(
        manager(vec![route_with_timeout("/", "origin", None)]),
        vec![cluster("origin", &[origin.address])],
    );
    let mut client = proxy.connect();
    client.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n");
    client.head();
    eventually("the origin is stopped", || {
        proxy.counter("cluster.origin.upstream_flow_control_paused_reading_total") > 0
    });
    // What the kernel buffers is not ours; when nothing moves any more, all of that is full.
    let mut total = 0;
    while let Ok(more) = progress.recv_timeout(std::time::Duration::from_millis(300)) {
        total += more;
    }
    let received = proxy.counter("cluster.origin.upstream_cx_rx_bytes_total");
    let sent = proxy.counter("http.test.downstream_cx_tx_bytes_total");
    assert!(received.saturating_sub(sent) < 256 * 1024, "holds {} bytes", received - sent);
    assert!(total < 64 * 1024 * 1024, "the origin could write {total} bytes");
    drop(client);
    proxy.await_gauge("cluster.origin.upstream_cx_active", 0);
}

#[test]
fn an_answer_before_the_end_of_the_request_is_passed_on_at_once() {
    let origin = Origin::raw(|_, mut wire| {
        wire.head().unwrap();
        wire.socket.write_all(b"HTTP/1.1 413 Payload Too Large\r\ncontent-length: 3\r\n\r\nbig").unwrap();
        let _ = wire.rest();
    });
    let proxy = to(&origin);
    let mut client = proxy.connect();
    client.send("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1000000\r\n\r\nabc");
    let response = client.response();
    assert_eq!((response.status(), response.text()), (413, "big"));
    assert_eq!(response.header("connection"), Some("close"));
    client.assert_closed();
    assert_eq!(proxy.counter("http.test.downstream_rq_response_before_rq_complete"), 1);
    proxy.await_gauge("cluster.origin.upstream_cx_active", 0);
}

#[test]
fn request_and_response_stream_at_the_same_time() {
    let origin = Origin::raw(|_, mut wire: Wire| {
        wire.head().unwrap();
        wire.socket.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").unwrap();
        loop {
            let (data, _) = wire.chunk().unwrap();
            let line = format!("{:x}\r\n", data.len());
            wire.socket.write_all(&[line.as_bytes(), &data, b"\r\n"].concat()).unwrap();
            if data.is_empty() {
                return;
            }
        }
    });
    let proxy = to(&origin);
    let mut client = proxy.connect();
    client.send("POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n");
    client.head();
    for size in [1, 10, 5000, 40_000] {
        let data = vec![b'z'; size];
        client.send([format!("{size:x}\r\n").as_bytes(), &data, b"\r\n"].concat());
        let mut back = Vec::new();
        while back.len() < size {
            back.extend(client.wire.chunk().unwrap().0);
        }
        assert_eq!(back.len(), size);
    }
    client.send("0\r\n\r\n");
    assert_eq!(client.wire.chunk().unwrap().0, b"");
}

#[test]
fn early_hints_pass_and_other_interim_responses_do_not() {
    let origin = Origin::raw(|_, mut wire| {
        wire.head().unwrap();
        wire.socket
            .write_all(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n")
            .unwrap();
        wire.socket.write_all(&ok("done")).unwrap();
        let _ = wire.rest();
    });
    let proxy = to(&origin);
    let mut client = proxy.connect();
    let hints = client.get("/");
    assert_eq!((hints.status(), hints.header("link")), (103, Some("</a>")));
    assert_eq!(client.response().text(), "done");
}

#[test]
fn a_304_and_a_204_have_no_body_whatever_they_say() {
    let origin = Origin::http(|request| match request.path() {
        "/304" => b"HTTP/1.1 304 Not Modified\r\ncontent-length: 77\r\netag: x\r\n\r\n".to_vec(),
        _ => b"HTTP/1.1 204 No Content\r\n\r\n".to_vec(),
    });
    let proxy = to(&origin);
    let mut client = proxy.connect();
    let response = client.get("/304");
    assert_eq!((response.status(), response.header("content-length")), (304, Some("77")));
    let response = client.get("/204");
    assert_eq!((response.status(), response.header("content-length")), (204, None));
    assert_eq!(client.get("/304").status(), 304);
    assert_eq!(origin.connections(), 1);
}
