//! Connections outlive the binary.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use nix::unistd::Pid;
use tokio::task::{LocalSet, spawn_local};

use crate::support::bootstrap::{Config, HTTP};
use crate::support::clients::{Connection, Request, Tally, block_on, get};
use crate::support::process;
use crate::support::scrape;
use crate::support::supervised::{PATIENCE, Setup, Supervised, eventually, listening};
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

/// What one end of a tunnel has seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Seen {
    sent: usize,
    received: usize,
    /// Both directions went to their ends.
    whole: bool,
}

/// So many streams are to leave the machine some time.
const PAUSE: Duration = Duration::from_millis(20);

/// Sends a stream of this length, with pauses or as fast as it is read, and ends. False when it could not.
fn send(mut socket: TcpStream, stream: usize, length: usize, pause: bool, stop: &AtomicBool) -> (usize, bool) {
    let mut sent = 0;
    while sent < length && !stop.load(Ordering::Relaxed) {
        let end = length.min(sent + 1 + (sent * 13 + stream * 101) % 9000);
        let piece: Vec<u8> = (sent..end).map(|at| byte(stream, at)).collect();
        if socket.write_all(&piece).is_err() {
            return (sent, false);
        }
        sent = end;
        if pause {
            std::thread::park_timeout(PAUSE);
        }
    }
    (sent, socket.shutdown(Shutdown::Write).is_ok())
}

/// Reads a stream to its end and checks every byte; with pauses where it is to be slow. False when it broke.
fn check(mut socket: TcpStream, stream: usize, slow: bool, stop: &AtomicBool) -> (usize, bool) {
    socket.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let mut block = vec![0; 16 * 1024];
    let mut at = 0;
    loop {
        let Ok(read) = socket.read(&mut block) else { return (at, false) };
        if read == 0 {
            return (at, true);
        }
        for &one in &block[..read] {
            assert_eq!(one, byte(stream, at), "stream {stream} at {at}");
            at += 1;
        }
        // What is in between when all is to end may be many megabytes.
        if slow && !stop.load(Ordering::Relaxed) {
            std::thread::park_timeout(PAUSE);
        }
    }
}

/// `slow` reads with pauses; `pause` sends with pauses.
fn both_ways(
    socket: TcpStream,
    stream: usize,
    length: usize,
    (slow, pause): (bool, bool),
    stop: Arc<AtomicBool>,
) -> Seen {
    let sending = socket.try_clone().unwrap();
    let stopped = stop.clone();
    let sender = std::thread::spawn(move || send(sending, stream, length, pause, &stopped));
    let (received, ended) = check(socket, stream, slow, &stop);
    let (sent, finished) = sender.join().unwrap();
    Seen { sent, received, whole: ended && finished }
}

/// How a client comes to the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Entrance {
    Tcp,
    WebSocket,
    /// A CONNECT that ends in the proxy.
    Connect,
    /// One that the host grants.
    Forwarded,
}

impl Entrance {
    /// Of a stream: they take turns in twenties, as does how long the streams are and who is slow.
    fn of(stream: usize) -> Self {
        match (stream / TUNNELS, stream % 2) {
            (0, _) => Self::Tcp,
            (1, _) => Self::WebSocket,
            (_, 0) => Self::Connect,
            _ => Self::Forwarded,
        }
    }

    fn head(self) -> &'static str {
        match self {
            Self::Tcp => "",
            Self::WebSocket => "GET /ws HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n",
            Self::Connect => "CONNECT a:80 HTTP/1.1\r\nhost: a:80\r\n\r\n",
            Self::Forwarded => "CONNECT forward:80 HTTP/1.1\r\nhost: forward:80\r\n\r\n",
        }
    }

    /// Joins the host as this stream, whose number goes with the first bytes.
    fn enter(self, doors: Doors, stream: usize) -> TcpStream {
        let mut socket = TcpStream::connect(if self == Self::Tcp { doors.tcp } else { doors.http }).unwrap();
        socket.write_all(&[self.head().as_bytes(), &[stream as u8]].concat()).unwrap();
        if self != Self::Tcp {
            socket.set_read_timeout(Some(PATIENCE)).unwrap();
            let status = if self == Self::WebSocket { "HTTP/1.1 101 " } else { "HTTP/1.1 200 " };
            let head = head(&mut socket, Vec::new());
            assert!(head.starts_with(status), "{self:?}: {head}");
        }
        socket
    }

    /// The host's part of it; which stream it is.
    fn welcome(socket: &mut TcpStream) -> usize {
        let mut first = [0];
        socket.read_exact(&mut first).unwrap();
        let grant: &[u8] = match first[0] {
            b'G' => b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n",
            b'C' => b"HTTP/1.1 200 OK\r\n\r\n",
            stream => return usize::from(stream),
        };
        head(socket, first.to_vec());
        socket.write_all(grant).unwrap();
        socket.read_exact(&mut first).unwrap();
        usize::from(first[0])
    }
}

/// Reads a head to its end and nothing behind it.
fn head(socket: &mut TcpStream, mut head: Vec<u8>) -> String {
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        socket.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
    String::from_utf8(head).unwrap()
}

/// Where the proxy listens.
#[derive(Clone, Copy)]
struct Doors {
    tcp: SocketAddr,
    http: SocketAddr,
}

/// Tunnels of each kind; those that CONNECT makes are of two.
const TUNNELS: usize = 20;
const ALL: usize = 3 * TUNNELS;

/// A host that sends every client a stream of its own and checks theirs; the client's first byte says which.
struct Far {
    address: SocketAddr,
    accepted: Arc<AtomicUsize>,
    stop: Arc<AtomicBool>,
    seen: Receiver<(usize, Seen)>,
}

/// Streams have no end but the one that is called.
const ENDLESS: usize = usize::MAX / 2;

impl Far {
    fn start() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let accepted = Arc::new(AtomicUsize::new(0));
        let stop = Arc::new(AtomicBool::new(false));
        let (counted, stopped) = (accepted.clone(), stop.clone());
        let (tell, seen) = channel();
        std::thread::spawn(move || {
            for socket in listener.incoming() {
                let mut socket = socket.unwrap();
                counted.fetch_add(1, Ordering::Relaxed);
                let (tell, stopped) = (tell.clone(), stopped.clone());
                std::thread::spawn(move || {
                    let stream = Entrance::welcome(&mut socket);
                    let turn = stream % TUNNELS;
                    // Some end their side early and go on listening.
                    let length = if turn.is_multiple_of(5) { 20_000 } else { ENDLESS };
                    let _ =
                        tell.send((stream, both_ways(socket, stream, length, (turn % 4 == 1, turn % 4 != 3), stopped)));
                });
            }
        });
        Self { address, accepted, stop, seen }
    }

    /// Clients that send the host a stream each through a proxy, and check what comes.
    fn clients(&self, doors: Doors) -> Vec<JoinHandle<Seen>> {
        let client = |stream: usize| {
            let socket = Entrance::of(stream).enter(doors, stream);
            let stop = self.stop.clone();
            let turn = stream % TUNNELS;
            let length = if turn % 6 == 2 { 30_000 } else { ENDLESS };
            std::thread::spawn(move || both_ways(socket, stream, length, (turn % 4 == 3, turn % 4 != 1), stop))
        };
        (0..ALL).map(client).collect()
    }

    /// Has every stream end, and says what both ends have seen of each: the near one first.
    fn finish(&self, clients: Vec<JoinHandle<Seen>>) -> Vec<(Seen, Seen)> {
        self.stop.store(true, Ordering::Relaxed);
        let near: Vec<Seen> = clients.into_iter().map(|client| client.join().expect("every byte is right")).collect();
        let mut far = vec![None; near.len()];
        for _ in 0..near.len() {
            let (stream, seen) = self.seen.recv_timeout(PATIENCE).expect("every stream ends at both ends");
            assert_eq!(far[stream].replace(seen), None, "one connection each");
        }
        self.stop.store(false, Ordering::Relaxed);
        near.into_iter().zip(far.into_iter().flatten()).collect()
    }
}

/// Whether all that one end has sent has come to the other.
fn is_equal((near, far): &(Seen, Seen)) -> bool {
    near.whole && far.whole && (near.sent, near.received) == (far.received, far.sent)
}

fn with_tunnel(far: &Far) -> (Upstream, Supervised, Doors) {
    let (socket, listen) = listening();
    drop(socket);
    let upstream = Upstream::start();
    let config = Config { tunnel: Some((listen, far.address)), ..Config::to(upstream.address) };
    let proxy = setup(config).start();
    let doors = Doors { tcp: listen, http: proxy.front };
    (upstream, proxy, doors)
}

#[test]
fn tunnels_carry_every_byte_through_ten_takeovers() {
    let _quiet = alone_on_the_machine();
    let far = Far::start();
    let (_upstream, proxy, doors) = with_tunnel(&far);
    let clients = far.clients(doors);
    let takeovers = long_or(30, 10);
    for _ in 0..takeovers {
        proxy.reload();
        proxy.settled(PATIENCE);
    }
    let seen = far.finish(clients);
    for (stream, pair) in seen.iter().enumerate() {
        assert!(is_equal(pair), "stream {stream}, {:?}: {pair:?}\n{}", Entrance::of(stream), proxy.log());
    }
    assert_eq!(far.accepted.load(Ordering::Relaxed), ALL, "one connection each, end to end");
    for gauge in [
        "cluster.far.upstream_cx_active",
        "cluster.far.upstream_rq_active",
        &format!("{HTTP}.downstream_cx_upgrades_active"),
        &format!("{HTTP}.downstream_rq_active"),
    ] {
        eventually(PATIENCE, gauge, || scrape::stats(proxy.admin).get(gauge) == Some(&0));
    }
    let stats = scrape::stats(proxy.admin);
    let value = |name: &str| stats.get(name).copied().unwrap_or(0);
    let total: usize = seen.iter().map(|(near, _)| near.sent + near.received).sum();
    println!(
        "{ALL} tunnels, {takeovers} takeovers: {total} bytes, {} moves of TCP, {} of upgrades",
        value("server.connections_moved.tcp"),
        value("server.connections_moved.upgrade")
    );
    let (each, all) = (TUNNELS as i64, ALL as i64);
    for (counter, expected) in [
        ("server.connections_moved.tcp", takeovers as i64 * each),
        ("server.connections_moved.upgrade", takeovers as i64 * 2 * each),
        ("tcp.tunnel.downstream_cx_total", each),
        (&format!("{HTTP}.downstream_cx_upgrades_total"), 2 * each),
        (&format!("{HTTP}.downstream_rq_1xx"), each),
        ("cluster.far.upstream_cx_total", all),
        ("cluster.far.upstream_cx_destroy", all),
    ] {
        assert_eq!(value(counter), expected, "{counter}\n{}", proxy.log());
    }
}

#[test]
fn a_death_around_the_move_takes_only_what_the_dead_one_held() {
    let _quiet = alone_on_the_machine();
    let far = Far::start();
    let (_upstream, proxy, doors) = with_tunnel(&far);
    let delays = (0..long_or(20, 4)).map(|step| Duration::from_millis(step * step));
    for (round, delay) in delays.enumerate() {
        for victim_is_old in [true, false] {
            let clients = far.clients(doors);
            let before = (round * 2 + usize::from(!victim_is_old)) * ALL;
            eventually(PATIENCE, "all are joined", || far.accepted.load(Ordering::Relaxed) == before + ALL);
            let old = proxy.serving();
            proxy.reload();
            std::thread::park_timeout(delay);
            let status = proxy.status();
            let victim = status.epochs.iter().find(|row| (row.epoch == old.epoch) == victim_is_old);
            // An epoch that has left already has nothing to lose.
            if let Some(victim) = victim {
                process::signal(Pid::from_raw(victim.pid), Signal::SIGKILL);
            }
            eventually(PATIENCE, "it serves", || get(proxy.front, "/marker").is_ok());
            std::thread::park_timeout(Duration::from_millis(100));
            let seen = far.finish(clients);
            let whole = seen.iter().filter(|pair| is_equal(pair)).count();
            let which = if victim_is_old { "old" } else { "new" };
            println!("{which} epoch killed {delay:?} after the release: {whole} of {ALL} tunnels go on");
            if victim_is_old && victim.is_none() {
                assert_eq!(whole, ALL);
            }
            proxy.settled(Duration::from_secs(DRAIN));
        }
    }
}
