//! HTTP/2 from clients and to hosts.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use heirloom::config::model::{Cluster, CodecType, Http2Options, UpstreamProtocol};
use heirloom::drain::{Phase, Plan, Strategy};
use http::HeaderMap;

use crate::support::client::Client;
use crate::support::http2::{Host, Manners, all, ask, connect, get, post, run, send_all};
use crate::support::models::*;
use crate::support::origin::{Origin, ok};
use crate::support::proxy::Proxy;
use crate::support::wire::Message;

fn to_http1(origin: &Origin) -> Proxy {
    Proxy::start(manager(vec![route("/", "origin")]), vec![cluster("origin", &[origin.address])])
}

fn http2_cluster(host: &Host) -> Cluster {
    let mut cluster = cluster("origin", &[host.address]);
    cluster.protocol = UpstreamProtocol::Http2(Arc::new(Http2Options::default()));
    cluster
}

fn to_http2(host: &Host) -> Proxy {
    Proxy::start(manager(vec![route("/", "origin")]), vec![http2_cluster(host)])
}

fn draining() -> Phase {
    Phase::Draining(Plan { started: Instant::now(), time: Duration::from_secs(600), strategy: Strategy::Gradual })
}

fn post_http1(client: &mut Client, body: &str) -> Message {
    client.send(format!("POST /echo HTTP/1.1\r\nhost: test\r\ncontent-length: {}\r\n\r\n{body}", body.len()));
    client.response()
}

/// Bytes that say where they belong.
fn coded(length: usize) -> Bytes {
    (0..length).map(|at| (at * 31 + at / 251) as u8).collect::<Vec<_>>().into()
}

#[test]
fn many_streams_share_a_connection_and_are_requests_like_any_other() {
    let origin = Origin::http(|request| {
        assert_eq!(request.header("host"), Some("test"));
        assert_eq!(request.header("x-forwarded-proto"), Some("http"));
        assert_eq!(request.header("te"), None);
        ok(request.line.split(' ').nth(1).unwrap())
    });
    let proxy = to_http1(&origin);
    run(async {
        let (send, _) = connect(proxy.address).await;
        let paths: Vec<String> = (0..64).map(|number| format!("/n{number}")).collect();
        let mut answers = Vec::new();
        for path in &paths {
            let mut send = send.clone().ready().await.unwrap();
            answers.push(send.send_request(get(path), true).unwrap().0);
        }
        for (answer, path) in answers.into_iter().zip(&paths) {
            let response = answer.await.unwrap();
            assert_eq!(response.status(), 200);
            assert_eq!(response.headers()["server"], "envoy");
            assert!(!response.headers().contains_key("connection"));
            let (body, trailers) = all(&mut response.into_body()).await.unwrap();
            assert_eq!((&*body, trailers.len()), (path.as_bytes(), 0));
        }
        assert_eq!(proxy.gauge("http.test.downstream_cx_http2_active"), 1);
    });
    assert_eq!(proxy.counter("http.test.downstream_cx_http2_total"), 1);
    assert_eq!(proxy.counter("http.test.downstream_cx_http1_total"), 0);
    assert_eq!(proxy.counter("http.test.downstream_rq_http2_total"), 64);
    assert_eq!(proxy.counter("cluster.origin.upstream_rq_200"), 64);
    proxy.await_gauge("http.test.downstream_rq_active", 0);
    proxy.await_gauge("http.test.downstream_cx_active", 0);
    proxy.await_gauge("http.test.downstream_cx_http2_active", 0);
    proxy.await_gauge("http2.streams_active", 0);
}

#[test]
fn a_listener_speaks_both_by_the_first_bytes() {
    let origin = Origin::text("x");
    let proxy = to_http1(&origin);
    assert_eq!(proxy.connect().get("/").text(), "x");
    run(async {
        let (send, _) = connect(proxy.address).await;
        assert_eq!(ask(&send, "/").await.unwrap().0, 200);
    });
    // A preface that comes in pieces is one, and what only begins like one is a bad request.
    let mut pieces = TcpStream::connect(proxy.address).unwrap();
    for piece in b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0".chunks(5) {
        pieces.write_all(piece).unwrap();
        pieces.flush().unwrap();
    }
    let mut header = [0; 9];
    pieces.read_exact(&mut header).unwrap();
    assert_eq!(header[3], 4, "settings come first");
    let mut almost = TcpStream::connect(proxy.address).unwrap();
    almost.write_all(b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n").unwrap();
    let mut answer = String::new();
    almost.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
    assert_eq!(proxy.counter("http.test.downstream_cx_http1_total"), 2);
    assert_eq!(proxy.counter("http.test.downstream_cx_http2_total"), 2);
}

#[test]
fn a_codec_type_is_kept_to() {
    let origin = Origin::text("x");
    for (codec, speaks1) in [(CodecType::Http1, true), (CodecType::Http2, false)] {
        let mut manager = manager(vec![route("/", "origin")]);
        manager.codec = codec;
        let proxy = Proxy::start(manager, vec![cluster("origin", &[origin.address])]);
        let mut client = TcpStream::connect(proxy.address).unwrap();
        client.write_all(b"GET / HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n").unwrap();
        let mut answer = Vec::new();
        // A connection that was cut may say so with a reset.
        let _ = client.read_to_end(&mut answer);
        assert_eq!(answer.starts_with(b"HTTP/1.1 200"), speaks1);
        let answered = run(async {
            let stream = tokio::net::TcpStream::connect(proxy.address).await.unwrap();
            let Ok((send, connection)) = h2::client::handshake::<_>(stream).await else { return false };
            tokio::task::spawn_local(connection);
            ask(&send, "/").await.is_ok()
        });
        assert_eq!(answered, !speaks1);
    }
}

#[test]
fn bodies_larger_than_every_window_go_both_ways() {
    let host = Host::start(Manners::default());
    let proxy = to_http2(&host);
    let sent = coded(3_000_000);
    run(async {
        let (send, _) = connect(proxy.address).await;
        let mut send = send.ready().await.unwrap();
        let (response, mut stream) = send.send_request(post("/echo"), false).unwrap();
        let uploading = async {
            send_all(&mut stream, sent.clone(), false).await.unwrap();
            let mut trailers = HeaderMap::new();
            trailers.insert("x-sum", "1".parse().unwrap());
            stream.send_trailers(trailers).unwrap();
        };
        let downloading = async {
            let response = response.await.unwrap();
            assert_eq!(response.status(), 200);
            all(&mut response.into_body()).await.unwrap()
        };
        let ((), (echoed, trailers)) = tokio::join!(uploading, downloading);
        assert!(echoed == sent, "{} of {} bytes", echoed.len(), sent.len());
        assert_eq!(trailers["x-sum"], "1");
    });
    assert_eq!(proxy.counter("cluster.origin.upstream_cx_http2_total"), 1);
    assert_eq!(proxy.counter("http2.trailers"), 1);
    proxy.await_gauge("cluster.origin.upstream_rq_active", 0);
}

#[test]
fn one_protocol_is_bridged_to_the_other() {
    let host = Host::start(Manners::default());
    let proxy = to_http2(&host);
    let mut client = proxy.connect();
    let response = post_http1(&mut client, "across");
    assert_eq!((response.status(), response.text()), (200, "across"));
    let hints = client.get("/hints");
    assert_eq!((hints.status(), hints.header("link")), (103, Some("</a.css>")));
    assert_eq!(client.response().text(), "after");
    let only = client.get("/trailers-only");
    assert_eq!((only.status(), only.header("grpc-status")), (200, Some("5")));
    let origin = Origin::http(|request| ok(std::str::from_utf8(&request.body).unwrap()));
    let proxy = to_http1(&origin);
    run(async {
        let (send, _) = connect(proxy.address).await;
        let mut send = send.ready().await.unwrap();
        let (response, mut stream) = send.send_request(post("/echo"), false).unwrap();
        send_all(&mut stream, Bytes::from_static(b"and back"), true).await.unwrap();
        let body = all(&mut response.await.unwrap().into_body()).await.unwrap().0;
        assert_eq!(&*body, b"and back");
    });
}

#[test]
fn a_stream_that_is_given_up_is_given_up_behind_us_too() {
    let host = Host::start(Manners::default());
    let proxy = to_http2(&host);
    run(async {
        let (send, _) = connect(proxy.address).await;
        let mut hanging = send.clone().ready().await.unwrap();
        let (response, mut stream) = hanging.send_request(get("/hang"), true).unwrap();
        while proxy.gauge("cluster.origin.upstream_rq_active") == 0 {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        stream.send_reset(h2::Reason::CANCEL);
        drop(response);
        assert_eq!(ask(&send, "/").await.unwrap().0, 200, "the connection lives on");
    });
    proxy.await_gauge("cluster.origin.upstream_rq_active", 0);
    proxy.await_gauge("http.test.downstream_rq_active", 0);
    assert_eq!(proxy.counter("http.test.downstream_rq_rx_reset"), 1);
    assert_eq!(proxy.counter("http2.rx_reset"), 1);
    assert_eq!(proxy.counter("cluster.origin.http2.tx_reset"), 1);
}

#[test]
fn a_drain_says_goodbye_at_once_and_serves_what_is_there() {
    let host = Host::start(Manners::default());
    let proxy = to_http2(&host);
    run(async {
        let (idle, idle_ends) = connect(proxy.address).await;
        ask(&idle, "/").await.unwrap();
        let (busy, busy_ends) = connect(proxy.address).await;
        let mut sending = busy.clone().ready().await.unwrap();
        let (slow, _) = sending.send_request(get("/slow"), true).unwrap();
        let response = slow.await.unwrap();
        proxy.drain(draining());
        drop((idle, busy, sending));
        idle_ends.await.unwrap().expect("an idle connection ends cleanly");
        let (body, _) = all(&mut response.into_body()).await.expect("what had begun is served");
        assert_eq!(body.len(), 2000);
        busy_ends.await.unwrap().expect("a busy connection ends cleanly");
    });
    proxy.await_gauge("http.test.downstream_cx_active", 0);
    assert_eq!(proxy.counter("http.test.downstream_cx_drain_close"), 2);
    assert!(proxy.counter("http2.goaway_sent") >= 2);
}

#[test]
fn a_drain_that_is_over_cuts_what_is_left() {
    let host = Host::start(Manners::default());
    let proxy = to_http2(&host);
    run(async {
        let (send, ends) = connect(proxy.address).await;
        let mut send = send.ready().await.unwrap();
        let (response, _) = send.send_request(get("/hang"), true).unwrap();
        while proxy.gauge("cluster.origin.upstream_rq_active") == 0 {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        proxy.drain(Phase::Over);
        assert!(response.await.is_err());
        drop(send);
        let _ = ends.await.unwrap();
    });
    proxy.await_gauge("http.test.downstream_cx_active", 0);
    proxy.await_gauge("http.test.downstream_rq_active", 0);
}

#[test]
fn a_connection_has_its_number_of_requests() {
    let origin = Origin::text("x");
    let mut manager = manager(vec![route("/", "origin")]);
    manager.max_requests_per_connection = 3;
    let proxy = Proxy::start(manager, vec![cluster("origin", &[origin.address])]);
    run(async {
        let (send, ends) = connect(proxy.address).await;
        for _ in 0..3 {
            ask(&send, "/").await.unwrap();
        }
        drop(send);
        ends.await.unwrap().unwrap();
    });
    assert_eq!(proxy.counter("http.test.downstream_cx_max_requests_reached"), 1);
}

#[test]
fn a_host_that_goes_away_costs_no_request() {
    let host = Host::start(Manners { requests: Some(3), ..Manners::default() });
    let proxy = to_http2(&host);
    run(async {
        let (send, _) = connect(proxy.address).await;
        for _ in 0..40 {
            let (one, two) = tokio::join!(ask(&send, "/a"), ask(&send, "/b"));
            assert_eq!((one.unwrap().0, two.unwrap().0), (200, 200));
        }
    });
    assert!(host.connections() > 5, "{} connections", host.connections());
    assert_eq!(proxy.counter("cluster.origin.upstream_rq_200"), 80);
    assert!(proxy.counter("cluster.origin.upstream_cx_close_notify") > 5);
}

#[test]
fn a_refused_stream_is_sent_once_more() {
    let host = Host::start(Manners { refuses_first: true, ..Manners::default() });
    let proxy = to_http2(&host);
    let mut client = proxy.connect();
    let response = post_http1(&mut client, "");
    assert_eq!(response.status(), 200, "{}", response.text());
    assert_eq!(host.requests(), 1);
}

#[test]
fn a_host_gets_no_more_streams_than_it_takes() {
    let host = Host::start(Manners { streams: Some(2), ..Manners::default() });
    let proxy = to_http2(&host);
    run(async {
        let (send, _) = connect(proxy.address).await;
        // The limit is known once the host's settings have come.
        ask(&send, "/first").await.unwrap();
        let mut asking = tokio::task::JoinSet::new();
        for _ in 0..12 {
            let send = send.clone();
            asking.spawn_local(async move { ask(&send, "/slow").await.unwrap().0 });
        }
        while let Some(status) = asking.join_next().await {
            assert_eq!(status.unwrap(), 200);
        }
    });
    assert!(host.most_at_once() <= 2, "{} at once", host.most_at_once());
    assert!(host.connections() >= 2);
    proxy.await_gauge("cluster.origin.upstream_rq_active", 0);
}

#[test]
fn heads_that_cannot_be_taken_reset_their_stream_only() {
    let origin = Origin::text("x");
    let mut manager = manager(vec![route("/", "origin")]);
    manager.max_headers_count = 10;
    manager.underscores = heirloom::config::model::Underscores::RejectRequest;
    let proxy = Proxy::start(manager, vec![cluster("origin", &[origin.address])]);
    run(async {
        let (send, _) = connect(proxy.address).await;
        for build in [
            |mut request: http::Request<()>| {
                for number in 0..20 {
                    let name = http::HeaderName::try_from(format!("x-{number}")).unwrap();
                    request.headers_mut().insert(name, "1".parse().unwrap());
                }
                request
            },
            |mut request: http::Request<()>| {
                request.headers_mut().insert("x_y", "1".parse().unwrap());
                request
            },
        ] {
            let mut sending = send.clone().ready().await.unwrap();
            let (response, _) = sending.send_request(build(get("/")), true).unwrap();
            let error = response.await.unwrap_err();
            assert_eq!(error.reason(), Some(h2::Reason::PROTOCOL_ERROR));
        }
        assert_eq!(ask(&send, "/").await.unwrap().0, 200);
    });
    assert_eq!(proxy.counter("http2.header_overflow"), 1);
    assert_eq!(proxy.counter("http2.requests_rejected_with_underscores_in_headers"), 1);
    assert_eq!(origin.requests(), 1);
}

/// A connection that sends these frames again and again until it is ended.
fn floods(proxy: &Proxy, frame: &[u8]) -> bool {
    let mut client = TcpStream::connect(proxy.address).unwrap();
    client.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").unwrap();
    let many: Vec<u8> = frame.iter().copied().cycle().take(frame.len() * 100).collect();
    let mut reader = client.try_clone().unwrap();
    reader.set_read_timeout(Some(crate::support::PATIENCE)).unwrap();
    let reading = std::thread::spawn(move || {
        let mut block = [0; 4096];
        loop {
            match reader.read(&mut block) {
                Ok(0) => return true,
                Ok(_) => {}
                Err(error) => return error.kind() == std::io::ErrorKind::ConnectionReset,
            }
        }
    });
    for _ in 0..100 {
        if client.write_all(&many).is_err() {
            break;
        }
    }
    let _ = client.shutdown(std::net::Shutdown::Write);
    reading.join().unwrap()
}

#[test]
fn floods_end_their_connection_and_nothing_else() {
    let origin = Origin::text("x");
    let proxy = to_http1(&origin);
    let ping = [&[0, 0, 8, 6, 0, 0, 0, 0, 0][..], &[7; 8]].concat();
    let settings = [0, 0, 0, 4, 0, 0, 0, 0, 0];
    let priority = [&[0, 0, 5, 2, 0, 0, 0, 0, 1][..], &[0, 0, 0, 0, 1]].concat();
    let update = [&[0, 0, 4, 8, 0, 0, 0, 0, 0][..], &[0, 0, 0, 1]].concat();
    for (frame, counter) in [
        (&ping[..], "http2.outbound_control_flood"),
        (&settings[..], "http2.outbound_control_flood"),
        (&priority[..], "http2.inbound_priority_frames_flood"),
        (&update[..], "http2.inbound_window_update_frames_flood"),
    ] {
        let before = proxy.counter(counter);
        assert!(floods(&proxy, frame), "{counter}: the connection is ended");
        assert_eq!(proxy.counter(counter), before + 1, "{counter}");
    }
    assert_eq!(proxy.connect().get("/").text(), "x");
    proxy.await_gauge("http.test.downstream_cx_active", 0);
}

#[test]
fn rapid_resets_do_not_reach_the_host_for_long() {
    let host = Host::start(Manners::default());
    let proxy = to_http2(&host);
    run(async {
        let (send, ends) = connect(proxy.address).await;
        for _ in 0..5000 {
            let Ok(mut send) = send.clone().ready().await else { break };
            let Ok((response, mut stream)) = send.send_request(get("/hang"), true) else { break };
            stream.send_reset(h2::Reason::CANCEL);
            drop(response);
            tokio::task::yield_now().await;
        }
        drop(send);
        let _ = ends.await;
    });
    proxy.await_gauge("http.test.downstream_rq_active", 0);
    proxy.await_gauge("cluster.origin.upstream_rq_active", 0);
    proxy.await_gauge("http.test.downstream_cx_active", 0);
    assert_eq!(proxy.connect().get("/x").status(), 200);
}
