//! Connections outlive the binary.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::support::bootstrap::{Config, HTTP};
use tokio::task::{LocalSet, spawn_local};

use crate::support::clients::{Connection, Request, Tally, block_on};
use crate::support::scrape;
use crate::support::supervised::{PATIENCE, Setup, Supervised, listening};
use crate::support::upstream::Upstream;
use crate::{alone_on_the_machine, long_or};

const GET: Request<'static> = Request::Get { path: "/small", close: false };
/// Long enough that nobody can have left for the drain's sake.
const DRAIN: u64 = 60;

fn setup(config: Config) -> Setup {
    Setup::new(config).flag("--drain-time-s", DRAIN).flag("--parent-shutdown-time-s", DRAIN)
}

#[test]
fn five_hundred_idle_connections_come_through_ten_takeovers() {
    let _quiet = alone_on_the_machine();
    let upstream = Upstream::start();
    let proxy = setup(Config::to(upstream.address)).start();
    let count = 500_i32;
    block_on(async {
        let mut clients = Vec::new();
        for _ in 0..count {
            let mut client = Connection::open(proxy.front).await.unwrap();
            client.exchange(&GET).await.unwrap();
            clients.push(client);
        }
        for takeover in 1..=10 {
            proxy.reload();
            let begun = Instant::now();
            proxy.settled(PATIENCE);
            if takeover == 1 {
                println!("{count} idle connections: the old epoch has left {:.1?} after the release", begun.elapsed());
            }
            assert!(begun.elapsed() < Duration::from_secs(DRAIN / 4), "it left because nothing was left");
            assert!(!clients.iter().any(Connection::closed_by_peer), "in takeover {takeover}\n{}", proxy.log());
            // Every connection in its turn, so that some are idle over several takeovers.
            for client in clients.iter_mut().skip(takeover % 3).step_by(3) {
                let answer = client.exchange(&GET).await.unwrap();
                assert_eq!(answer.header("connection"), None);
            }
        }
        for client in &mut clients {
            client.exchange(&GET).await.unwrap();
        }
    });
    let stats = scrape::stats(proxy.admin);
    let value = |name: &str| stats.get(name).copied().unwrap_or(0);
    assert_eq!(value("server.connections_moved.http1"), 10 * i64::from(count), "{}", proxy.log());
    // The first connection of all was the one that asked whether it answers, and each operator's look is not among them.
    assert_eq!(value(&format!("{HTTP}.downstream_cx_drain_close")), 0);
}

/// The everyday race: a request is on its way to an idle connection while that is being given up. Here it moves instead.
///
/// Each connection answers once, is silent, and sends its next request at a moment of its own within milliseconds of the release.
#[test]
fn requests_that_meet_the_move_are_served_once() {
    let _quiet = alone_on_the_machine();
    let upstream = Upstream::start();
    let proxy = setup(Config::to(upstream.address)).start();
    let mut took = proxy.reload().took;
    let (mut tries, mut total) = (0, Tally::default());
    for _ in 0..long_or(100, 8) {
        proxy.settled(PATIENCE);
        let before = upstream.requests();
        let (round, reload) = one_round(&proxy, took);
        took = reload;
        total.merge(&round);
        tries += CONNECTIONS;
        assert_eq!(upstream.requests() - before, 2 * CONNECTIONS, "each request is served once");
    }
    println!("{tries} requests around the move: {total}");
    assert_eq!((total.ok, total.errors(), total.closed_idle), (tries, 0, 0), "{total}\n{}", proxy.log());
}

const CONNECTIONS: u64 = 100;

fn one_round(proxy: &Supervised, expected: Duration) -> (Tally, Duration) {
    block_on(LocalSet::new().run_until(async {
        let mut idle = Vec::new();
        for _ in 0..CONNECTIONS {
            let mut connection = Connection::open(proxy.front).await.expect("it connects");
            connection.exchange(&GET).await.expect("it answers");
            idle.push(connection);
        }
        let release = tokio::time::Instant::now() + expected;
        let operating = proxy.operator_begin(&["reload"]);
        let tasks: Vec<_> = (0..CONNECTIONS)
            .zip(idle)
            .map(|(number, connection)| {
                // Spread over forty milliseconds around the expected moment.
                let at = release - Duration::from_millis(20) + Duration::from_micros(number * 40_000 / CONNECTIONS);
                spawn_local(next_request(connection, at))
            })
            .collect();
        let mut round = Tally::default();
        for task in tasks {
            round.merge(&task.await.expect("no panic"));
        }
        let operated = operating.wait();
        assert!(operated.status.success(), "{operated:?}");
        (round, operated.took)
    }))
}

async fn next_request(mut connection: Connection, at: tokio::time::Instant) -> Tally {
    let mut tally = Tally::default();
    tokio::time::sleep_until(at).await;
    if connection.closed_by_peer() {
        tally.closed_idle += 1;
        return tally;
    }
    let begun = Instant::now();
    match connection.exchange(&GET).await {
        Ok(_) => tally.answered(begun.elapsed()),
        Err(failure) => tally.failed(failure, true, begun.elapsed()),
    }
    tally
}

/// The byte at a position of a stream.
fn byte(stream: usize, at: usize) -> u8 {
    ((at * 31 + at / 251 + stream * 7) % 253) as u8
}

/// Sends a stream of this length, slowly enough to last, and ends.
fn send(mut socket: TcpStream, stream: usize, length: usize, stop: &AtomicBool) -> usize {
    let mut sent = 0;
    while sent < length && !stop.load(Ordering::Relaxed) {
        let end = length.min(sent + 1 + (sent * 13 + stream * 101) % 9000);
        let piece: Vec<u8> = (sent..end).map(|at| byte(stream, at)).collect();
        socket.write_all(&piece).expect("the way stays open");
        sent = end;
        std::thread::park_timeout(Duration::from_micros(300));
    }
    socket.shutdown(Shutdown::Write).expect("the way stays open");
    sent
}

/// Reads a stream to its end and checks every byte; with pauses where it is to be slow.
fn check(mut socket: TcpStream, stream: usize, slow: bool) -> usize {
    socket.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let mut block = vec![0; 16 * 1024];
    let mut at = 0;
    loop {
        let read = socket.read(&mut block).unwrap_or_else(|error| panic!("stream {stream} breaks at {at}: {error}"));
        if read == 0 {
            return at;
        }
        for &one in &block[..read] {
            assert_eq!(one, byte(stream, at), "stream {stream} at {at}");
            at += 1;
        }
        if slow {
            std::thread::park_timeout(Duration::from_millis(3));
        }
    }
}

/// A host that sends every client a stream of its own and checks theirs; the client's first byte says which.
struct Far {
    address: SocketAddr,
    accepted: Arc<AtomicUsize>,
    stop: Arc<AtomicBool>,
}

type Totals = (usize, usize);

fn both_ways(socket: TcpStream, stream: usize, length: usize, slow: bool, stop: Arc<AtomicBool>) -> Totals {
    let sending = socket.try_clone().unwrap();
    let sender = std::thread::spawn(move || send(sending, stream, length, &stop));
    let received = check(socket, stream, slow);
    (sender.join().unwrap(), received)
}

impl Far {
    fn start(results: std::sync::mpsc::Sender<(usize, Totals)>, length: usize) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let accepted = Arc::new(AtomicUsize::new(0));
        let stop = Arc::new(AtomicBool::new(false));
        let (counted, stopped) = (accepted.clone(), stop.clone());
        std::thread::spawn(move || {
            for socket in listener.incoming() {
                let mut socket = socket.unwrap();
                counted.fetch_add(1, Ordering::Relaxed);
                let (results, stopped) = (results.clone(), stopped.clone());
                std::thread::spawn(move || {
                    let mut first = [0];
                    socket.read_exact(&mut first).unwrap();
                    let stream = usize::from(first[0]);
                    // Some end their side early and go on listening.
                    let length = if stream % 5 == 0 { 20_000 } else { length };
                    let totals = both_ways(socket, stream, length, stream % 4 == 1, stopped);
                    let _ = results.send((stream, totals));
                });
            }
        });
        Self { address, accepted, stop }
    }
}

#[test]
fn tunnels_carry_every_byte_through_ten_takeovers() {
    let _quiet = alone_on_the_machine();
    let (results, far_results) = std::sync::mpsc::channel();
    let length = usize::MAX / 2;
    let far = Far::start(results, length);
    let (socket, listen) = listening();
    drop(socket);
    let upstream = Upstream::start();
    let config = Config { tunnel: Some((listen, far.address)), ..Config::to(upstream.address) };
    let proxy = setup(config).start();
    let tunnels = 20;
    let clients: Vec<JoinHandle<Totals>> = (0..tunnels)
        .map(|stream| {
            let mut socket = TcpStream::connect(listen).unwrap();
            socket.write_all(&[stream as u8]).unwrap();
            let stop = far.stop.clone();
            std::thread::spawn(move || {
                let length = if stream % 6 == 2 { 30_000 } else { length };
                both_ways(socket, stream, length, stream % 4 == 3, stop)
            })
        })
        .collect();
    let takeovers = long_or(30, 10);
    for _ in 0..takeovers {
        proxy.reload();
        proxy.settled(PATIENCE);
    }
    far.stop.store(true, Ordering::Relaxed);
    let near: Vec<Totals> = clients.into_iter().map(|client| client.join().expect("every byte arrives")).collect();
    let mut seen = 0;
    while seen < tunnels {
        let (stream, (sent, received)) = far_results.recv_timeout(PATIENCE).expect("every stream ends at both ends");
        assert_eq!((sent, received), (near[stream].1, near[stream].0), "stream {stream}");
        seen += 1;
    }
    assert_eq!(far.accepted.load(Ordering::Relaxed), tunnels, "one connection each, end to end");
    let stats = scrape::stats(proxy.admin);
    let value = |name: &str| stats.get(name).copied().unwrap_or(0);
    let total: usize = near.iter().map(|(sent, received)| sent + received).sum();
    println!(
        "{tunnels} tunnels, {takeovers} takeovers: {total} bytes, {} moves",
        value("server.connections_moved.tcp")
    );
    assert_eq!(value("server.connections_moved.tcp"), takeovers as i64 * tunnels as i64, "{}", proxy.log());
    assert_eq!(value("tcp.tunnel.downstream_cx_total"), tunnels as i64);
    assert_eq!(value("cluster.far.upstream_cx_total"), tunnels as i64);
}
