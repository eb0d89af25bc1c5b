//! HTTP/2 and HTTP/1 clients side by side over TLS, with bodies and trailers both ways, over takeovers. None of their requests may fail, and no stream
//! may be refused: what a client has opened before it could know that an epoch goes away is served there.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bytes::Bytes;
use h2::client::SendRequest;
use http::{HeaderMap, HeaderValue};
use rustls::ClientConfig;
use rustls::version::TLS13;
use tokio::io::AsyncWriteExt;
use tokio::task::{JoinHandle as Task, LocalSet, spawn_local};

use crate::long_or;
use crate::support::bootstrap::Config;
use crate::support::clients::block_on;
use crate::support::http2::{Host, Manners, all, get, post, send_all};
use crate::support::message::Reader;
use crate::support::secured::Secured;
use crate::support::supervised::{PATIENCE, Setup, eventually, listening};
use crate::support::upstream::Upstream;
use crate::tls::Shown;

/// Clients of each kind.
const CLIENTS: usize = 4;
/// Streams that an HTTP/2 client has open at once.
const STREAMS: usize = 6;
/// Long streams that begin with each epoch.
const LONG: usize = 3;

#[derive(Default)]
struct Tally {
    http1: AtomicU64,
    http2: AtomicU64,
    /// Connections of HTTP/2.
    connections: AtomicU64,
    /// Long streams that are open.
    long: AtomicU64,
    /// Long streams may end.
    end: AtomicBool,
    done: AtomicBool,
}

impl Tally {
    fn is_done(&self) -> bool {
        self.done.load(Ordering::Relaxed)
    }

    fn answered(&self) -> [u64; 2] {
        [&self.http1, &self.http2].map(|count| count.load(Ordering::Relaxed))
    }
}

type Result<T> = std::result::Result<T, String>;

fn words(error: impl std::fmt::Display) -> String {
    error.to_string()
}

/// Where to, and with what trust.
#[derive(Clone)]
struct To {
    front: SocketAddr,
    trust: Rc<ClientConfig>,
    tally: Arc<Tally>,
}

impl To {
    async fn http2(&self) -> Result<SendRequest<Bytes>> {
        let stream = Secured::open(self.front, &self.trust, b"h2").await.map_err(words)?;
        let (send, connection) = h2::client::handshake(stream).await.map_err(words)?;
        // How a connection ends shows in its streams.
        spawn_local(async move { drop(connection.await) });
        self.tally.connections.fetch_add(1, Ordering::Relaxed);
        Ok(send)
    }
}

fn trailers(number: usize) -> HeaderMap {
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    trailers.insert("x-number", HeaderValue::from(number));
    trailers
}

fn expect<T: PartialEq + std::fmt::Debug>(what: &str, is: T, wanted: T) -> Result<()> {
    if is == wanted { Ok(()) } else { Err(format!("{what}: {is:?} and not {wanted:?}")) }
}

/// Opens streams until its connection takes no more, then a connection.
async fn http2_client(to: To) -> Result<()> {
    while !to.tally.is_done() {
        let send = to.http2().await?;
        let mut open = true;
        while open && !to.tally.is_done() {
            let mut streams = Vec::new();
            for number in 0..STREAMS {
                let Ok(send) = send.clone().ready().await else {
                    open = false;
                    break;
                };
                match begin(send, number) {
                    Some(stream) => streams.push(stream),
                    None => open = false,
                }
            }
            for stream in streams {
                stream.await.map_err(words)??;
                to.tally.http2.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
    Ok(())
}

/// A stream of some kind; `None` where the connection takes no more.
fn begin(mut send: SendRequest<Bytes>, number: usize) -> Option<Task<Result<()>>> {
    if number.is_multiple_of(3) {
        let (response, _) = send.send_request(get("/small"), true).ok()?;
        return Some(spawn_local(async move {
            let response = response.await.map_err(words)?;
            expect("status", response.status().as_u16(), 200)?;
            let (body, _) = all(&mut response.into_body()).await.map_err(words)?;
            expect("body", &*body, b"received 0\n")
        }));
    }
    let (response, mut upload) = send.send_request(post("/ws2/echo"), false).ok()?;
    Some(spawn_local(async move {
        // Larger than the window that a client begins with, or a few words.
        let sent = Bytes::from(vec![number as u8; if number.is_multiple_of(2) { 70_000 } else { 300 }]);
        let upload = {
            let sent = sent.clone();
            spawn_local(async move {
                send_all(&mut upload, sent, false).await?;
                upload.send_trailers(trailers(number))
            })
        };
        let response = response.await.map_err(words)?;
        expect("status", response.status().as_u16(), 200)?;
        let (body, trailed) = all(&mut response.into_body()).await.map_err(words)?;
        upload.await.map_err(words)?.map_err(words)?;
        expect("length", body.len(), sent.len())?;
        expect("content", body == sent, true)?;
        expect("trailers", trailed, trailers(number))
    }))
}

/// A stream that talks to and fro until it may end, as a call of gRPC does; with trailers both ways.
async fn long_stream(to: To) -> Result<u64> {
    let send = to.http2().await?.ready().await.map_err(words)?;
    let (response, mut upload) = { send }.send_request(post("/ws2/talk"), false).map_err(words)?;
    upload.send_data(Bytes::from_static(b"hello"), false).map_err(words)?;
    let response = response.await.map_err(words)?;
    expect("status", response.status().as_u16(), 200)?;
    let mut body = response.into_body();
    to.tally.long.fetch_add(1, Ordering::Relaxed);
    let mut rounds = 0;
    let mut pending = 5;
    loop {
        while pending > 0 {
            let data = body.data().await.ok_or("the stream ends early")?.map_err(words)?;
            body.flow_control().release_capacity(data.len()).map_err(words)?;
            pending -= data.len();
        }
        rounds += 1;
        if to.tally.end.load(Ordering::Relaxed) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
        upload.send_data(Bytes::from(vec![b'm'; 100]), false).map_err(words)?;
        pending = 100;
    }
    upload.send_trailers(trailers(7)).map_err(words)?;
    let (rest, trailed) = all(&mut body).await.map_err(words)?;
    expect("rest", rest.len(), 0)?;
    expect("trailers", trailed, trailers(7))?;
    to.tally.long.fetch_sub(1, Ordering::Relaxed);
    Ok(rounds)
}

/// Requests one after the other, on a connection for as long as it is kept.
async fn http1_client(to: To) -> Result<()> {
    while !to.tally.is_done() {
        let mut stream = Secured::open(to.front, &to.trust, b"http/1.1").await.map_err(words)?;
        let mut reader = Reader::default();
        for number in 0.. {
            let length = if number % 2 == 0 { 0 } else { 5000 };
            let path = if number % 2 == 0 { "/small" } else { "/ws2/echo" };
            let head = format!("POST {path} HTTP/1.1\r\nhost: test\r\ncontent-length: {length}\r\n\r\n");
            stream.write_all(&[head.as_bytes(), &vec![b'x'; length]].concat()).await.map_err(words)?;
            let answer = reader.read(&mut stream, true).await.map_err(|error| format!("{error:?} after {number}"))?;
            expect("status", answer.second_word(), "200")?;
            expect("length", answer.length, if length == 0 { 11 } else { 5000 })?;
            to.tally.http1.fetch_add(1, Ordering::Relaxed);
            if !answer.keep_alive || to.tally.is_done() {
                break;
            }
        }
    }
    Ok(())
}

/// All of them on a thread of their own; what failed.
fn start(front: SocketAddr, trust: Arc<ClientConfig>, tally: Arc<Tally>) -> JoinHandle<Vec<String>> {
    std::thread::spawn(move || {
        block_on(LocalSet::new().run_until(async {
            let to = To { front, trust: Rc::new((*trust).clone()), tally };
            let mut clients = Vec::new();
            for _ in 0..CLIENTS {
                clients.push(spawn_local(http1_client(to.clone())));
                clients.push(spawn_local(http2_client(to.clone())));
            }
            let mut failures = Vec::new();
            for client in clients {
                failures.extend(client.await.expect("no panic").err());
            }
            failures
        }))
    })
}

/// Long streams on a thread of their own: how many rounds they had.
fn talk(front: SocketAddr, trust: Arc<ClientConfig>, tally: Arc<Tally>) -> JoinHandle<Vec<Result<u64>>> {
    std::thread::spawn(move || {
        block_on(LocalSet::new().run_until(async {
            let to = To { front, trust: Rc::new((*trust).clone()), tally };
            let streams: Vec<_> = (0..LONG).map(|_| spawn_local(long_stream(to.clone()))).collect();
            let mut rounds = Vec::new();
            for stream in streams {
                rounds.push(stream.await.expect("no panic"));
            }
            rounds
        }))
    })
}

#[test]
fn clients_of_both_protocols_over_tls_lose_nothing() {
    let (upstream, host, shown) = (Upstream::start(), Host::start(Manners::default()), Shown::new());
    let (socket, secure) = listening();
    drop(socket);
    let config = Config {
        secure: Some((secure, shown.chain.clone(), shown.key.clone())),
        http2_tunnel: Some(host.address),
        ..Config::to(upstream.address)
    };
    // Long streams stay where they began, for as long as there are takeovers.
    let proxy = Setup::new(config).flag("--drain-time-s", 60).flag("--parent-shutdown-time-s", 120).start();
    let tally = Arc::<Tally>::default();
    let trust = shown.client(&TLS13);
    let clients = start(secure, trust.clone(), tally.clone());
    let mut talks = Vec::new();
    let takeovers = long_or(9, 4);
    for number in 0..=takeovers {
        talks.push(talk(secure, trust.clone(), tally.clone()));
        eventually(PATIENCE, "long streams have begun", || {
            tally.long.load(Ordering::Relaxed) == (LONG * talks.len()) as u64 || clients.is_finished()
        });
        let (before, since) = (tally.answered(), Instant::now());
        eventually(PATIENCE, "answers of both kinds", || {
            let now = tally.answered();
            (now[0] > before[0] + 10 && now[1] > before[1] + 10) || clients.is_finished()
        });
        eventually(PATIENCE, "some time", || since.elapsed() > Duration::from_millis(200));
        if number < takeovers {
            proxy.reload();
        }
    }
    // Those of the first epoch have seen every takeover.
    tally.end.store(true, Ordering::Relaxed);
    for talk in talks {
        for rounds in talk.join().expect("no panic") {
            let rounds = rounds.unwrap_or_else(|error| panic!("a long stream: {error}\n{}", proxy.log()));
            assert!(rounds > 3, "{rounds} rounds");
        }
    }
    tally.done.store(true, Ordering::Relaxed);
    let failures = clients.join().expect("no panic");
    let connections = tally.connections.load(Ordering::Relaxed);
    println!("{:?} answers over {connections} connections of HTTP/2", tally.answered());
    assert!(failures.is_empty(), "{failures:?}\n{}", proxy.log());
    let (clients, long) = (CLIENTS as u64 * takeovers, LONG as u64 * (takeovers + 1));
    assert!(connections >= clients + long, "every client has met every epoch: {connections}");
}
