//! HTTP/2 over takeovers: a GOAWAY in two steps costs no stream, and every client finds the next epoch.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bytes::Bytes;
use h2::client::SendRequest;
use http::Request;
use tokio::net::TcpStream;
use tokio::task::{LocalSet, spawn_local};

use crate::long_or;
use crate::support::bootstrap::Config;
use crate::support::clients::block_on;
use crate::support::scrape;
use crate::support::supervised::{PATIENCE, Setup, eventually};
use crate::support::upstream::{PIECE, Upstream};

/// Clients, and how many streams each has open at once.
const CLIENTS: usize = 8;
const STREAMS: usize = 8;

#[derive(Default)]
struct Tally {
    answered: AtomicU64,
    connections: AtomicU64,
    failed: AtomicU64,
    done: AtomicBool,
}

/// Clients on a thread of their own. They never send a request twice: what fails has failed.
pub(crate) struct Clients {
    tally: Arc<Tally>,
    thread: Option<JoinHandle<Vec<String>>>,
}

impl Clients {
    pub(crate) fn start(front: SocketAddr) -> Self {
        let tally = Arc::<Tally>::default();
        let shared = tally.clone();
        let thread = std::thread::spawn(move || {
            block_on(LocalSet::new().run_until(async {
                let clients: Vec<_> = (0..CLIENTS).map(|_| spawn_local(client(front, shared.clone()))).collect();
                let mut failures = Vec::new();
                for client in clients {
                    failures.extend(client.await.expect("no panic"));
                }
                failures
            }))
        });
        Self { tally, thread: Some(thread) }
    }

    pub(crate) fn answered(&self) -> u64 {
        self.tally.answered.load(Ordering::Relaxed)
    }

    pub(crate) fn stop(mut self) -> Vec<String> {
        self.tally.done.store(true, Ordering::Relaxed);
        self.thread.take().expect("it runs").join().expect("no panic")
    }
}

async fn open(front: SocketAddr) -> SendRequest<Bytes> {
    let stream = TcpStream::connect(front).await.expect("nobody is refused");
    let (send, connection) = h2::client::handshake(stream).await.expect("it speaks HTTP/2");
    spawn_local(async move {
        // How a connection ends shows in its streams.
        let _ = connection.await;
    });
    send
}

async fn client(front: SocketAddr, tally: Arc<Tally>) -> Vec<String> {
    let mut failures = Vec::new();
    while !tally.done.load(Ordering::Relaxed) {
        let send = open(front).await;
        tally.connections.fetch_add(1, Ordering::Relaxed);
        // Until the connection takes no more.
        loop {
            let mut streams = Vec::with_capacity(STREAMS);
            let mut open = !tally.done.load(Ordering::Relaxed);
            for number in 0..STREAMS {
                let Ok(mut send) = send.clone().ready().await else {
                    open = false;
                    break;
                };
                let request = Request::get(format!("http://front/small?{number}")).body(()).expect("a request");
                match send.send_request(request, true) {
                    Ok((response, _)) => streams.push(response),
                    Err(_) => {
                        open = false;
                        break;
                    }
                }
            }
            for response in streams {
                match whole(response).await {
                    Ok(()) => {
                        tally.answered.fetch_add(1, Ordering::Relaxed);
                    }
                    Err(error) => {
                        tally.failed.fetch_add(1, Ordering::Relaxed);
                        failures.push(error);
                        open = false;
                    }
                }
            }
            if !open {
                break;
            }
        }
    }
    failures
}

async fn whole(response: h2::client::ResponseFuture) -> Result<(), String> {
    let response = response.await.map_err(|error| error.to_string())?;
    if response.status() != 200 {
        return Err(format!("status {}", response.status()));
    }
    let mut body = response.into_body();
    while let Some(data) = body.data().await {
        let data = data.map_err(|error| error.to_string())?;
        body.flow_control().release_capacity(data.len()).map_err(|error| error.to_string())?;
    }
    Ok(())
}

#[test]
fn streams_and_connections_cross_takeovers_without_a_failure() {
    let upstream = Upstream::start();
    let proxy = Setup::new(Config::to(upstream.address)).flag("--parent-shutdown-time-s", 30).start();
    let clients = Clients::start(proxy.front);
    // An answer that is on its way when the drain begins ends in the epoch where it began.
    let pieces = 30;
    let slow = std::thread::spawn({
        let front = proxy.front;
        move || {
            block_on(LocalSet::new().run_until(async {
                let mut send = open(front).await.ready().await.expect("a fresh connection");
                let request = Request::get(format!("http://front/slow?pieces={pieces}&every=100")).body(());
                let (response, _) = send.send_request(request.expect("a request"), true).expect("a stream");
                drop(send);
                let mut body = response.await.expect("a head").into_body();
                let mut length = 0;
                while let Some(data) = body.data().await {
                    length += data.expect("it goes on").len();
                }
                length
            }))
        }
    });
    eventually(PATIENCE, "the slow answer has begun", || upstream.requests() > 0);
    for _ in 0..long_or(10, 3) {
        let (answered, since) = (clients.answered(), Instant::now());
        eventually(PATIENCE, "some answers", || clients.answered() > answered + 200);
        eventually(PATIENCE, "some time", || since.elapsed() > Duration::from_millis(300));
        proxy.reload();
    }
    let answered = clients.answered();
    eventually(PATIENCE, "answers from the last epoch", || clients.answered() > answered + 200);
    let connections = clients.tally.connections.load(Ordering::Relaxed);
    let total = clients.answered();
    let failures = clients.stop();
    println!("{total} answers over {connections} connections");
    assert!(failures.is_empty(), "{failures:?}\n{}", proxy.log());
    assert!(connections >= 2 * CLIENTS as u64, "every client has met another epoch");
    assert_eq!(slow.join().expect("no panic"), pieces * PIECE);
    let stats = scrape::stats(proxy.admin);
    assert!(
        stats.get("http2.goaway_sent").is_some_and(|sent| *sent >= CLIENTS as i64),
        "{:?}",
        stats.get("http2.goaway_sent")
    );
}
