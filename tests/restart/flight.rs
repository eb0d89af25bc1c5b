//! Requests outlive the binary: streamed answers and uploads that are in the middle when a new one takes over.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use nix::sys::signal::Signal;
use nix::unistd::Pid;

use crate::support::bootstrap::{CLUSTER, Config, HTTP};
use crate::support::clients::get;
use crate::support::process;
use crate::support::scrape;
use crate::support::supervised::{PATIENCE, Setup, Supervised, eventually};
use crate::{alone_on_the_machine, long_or};

/// Long enough that nobody can have left for the drain's sake.
const DRAIN: u64 = 60;
/// Streamed answers, and as many uploads.
const EACH: usize = 10;

/// The byte at a position of a stream.
fn byte(stream: usize, at: usize) -> u8 {
    ((at * 31 + at / 251 + stream * 7) % 253) as u8
}

/// Sends a chunked body until it is told to stop, slowly enough to last. How much, and whether to its end.
fn send(socket: &mut TcpStream, stream: usize, stop: &AtomicBool) -> (usize, bool) {
    let mut sent = 0;
    while !stop.load(Ordering::Relaxed) {
        let length = 1 + (sent * 13 + stream * 101) % 9000;
        let data: Vec<u8> = (sent..sent + length).map(|at| byte(stream, at)).collect();
        let chunk = [format!("{length:x}\r\n").as_bytes(), &data, b"\r\n"].concat();
        // In two pieces, so that moves come in the middle of chunks as well.
        let (one, two) = chunk.split_at(chunk.len() / 3);
        if socket.write_all(one).is_err() {
            return (sent, false);
        }
        std::thread::park_timeout(Duration::from_millis(1));
        if socket.write_all(two).is_err() {
            return (sent, false);
        }
        sent += length;
    }
    (sent, socket.write_all(b"0\r\n\r\n").is_ok())
}

/// Reads a chunked body to its end and checks every byte. How much, and whether to its end.
fn check(reader: &mut impl BufRead, stream: usize, slow: bool) -> (usize, bool) {
    let mut at = 0;
    loop {
        let mut line = String::new();
        let Ok(1..) = reader.read_line(&mut line) else { return (at, false) };
        let Ok(size) = usize::from_str_radix(line.trim_end(), 16) else {
            assert!(!line.ends_with('\n'), "stream {stream} at {at}: not the size of a chunk: {line:?}");
            return (at, false);
        };
        let mut data = vec![0; size + 2];
        let mut read = 0;
        while read < data.len() {
            let Ok(more @ 1..) = reader.read(&mut data[read..]) else { break };
            read += more;
        }
        for &one in &data[..read.min(size)] {
            assert_eq!(one, byte(stream, at), "stream {stream} at {at}");
            at += 1;
        }
        if read < data.len() || size == 0 {
            return (at, size == 0 && read == data.len());
        }
        if slow {
            std::thread::park_timeout(Duration::from_millis(5));
        }
    }
}

/// A head without its first line's meaning: the line, and everything up to the empty one read.
fn head(reader: &mut impl BufRead) -> Option<String> {
    let mut first = String::new();
    reader.read_line(&mut first).ok().filter(|read| *read > 0)?;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok().filter(|read| *read > 0)?;
        if line == "\r\n" {
            return Some(first);
        }
    }
}

/// A host that streams at `/down/N`, and takes a stream at `/up/N` and says at its end how long it was.
struct Host {
    address: SocketAddr,
    accepted: Arc<AtomicUsize>,
    /// Requests that have come.
    begun: Arc<AtomicUsize>,
    stop: Arc<AtomicBool>,
}

impl Host {
    fn start() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let this = Self { address, accepted: Arc::default(), begun: Arc::default(), stop: Arc::default() };
        let (accepted, begun, stop) = (this.accepted.clone(), this.begun.clone(), this.stop.clone());
        std::thread::spawn(move || {
            for socket in listener.incoming() {
                let (socket, begun, stop) = (socket.unwrap(), begun.clone(), stop.clone());
                accepted.fetch_add(1, Ordering::Relaxed);
                std::thread::spawn(move || serve(socket, &begun, &stop));
            }
        });
        this
    }

    fn clients(&self, through: SocketAddr) -> Vec<JoinHandle<Seen>> {
        let down = (0..EACH).map(|stream| std::thread::spawn(move || download(through, stream)));
        let up = (0..EACH).map(|stream| {
            let stop = self.stop.clone();
            std::thread::spawn(move || upload(through, stream, &stop))
        });
        let clients: Vec<_> = down.chain(up).collect();
        clients
    }

    /// Has every stream end.
    fn finish(&self, clients: Vec<JoinHandle<Seen>>) -> Vec<Seen> {
        self.stop.store(true, Ordering::Relaxed);
        let seen = clients.into_iter().map(|client| client.join().expect("every byte is right")).collect();
        self.stop.store(false, Ordering::Relaxed);
        seen
    }
}

fn serve(socket: TcpStream, begun: &AtomicUsize, stop: &AtomicBool) {
    let mut writer = socket.try_clone().unwrap();
    let mut reader = BufReader::new(socket);
    while let Some(line) = head(&mut reader) {
        let path = line.split(' ').nth(1).unwrap_or_default();
        let number = path.rsplit('/').next().and_then(|number| number.parse().ok()).unwrap_or_default();
        begun.fetch_add(1, Ordering::Relaxed);
        let went_on = if path.starts_with("/down/") {
            let head = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
            writer.write_all(head).is_ok() && send(&mut writer, number, stop).1
        } else {
            let (received, ended) = check(&mut reader, number, number % 3 == 1);
            let body = received.to_string();
            let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len());
            ended && writer.write_all(answer.as_bytes()).is_ok()
        };
        if !went_on {
            return;
        }
    }
}

/// What a client has seen of its stream.
#[derive(Clone, Copy, Debug)]
struct Seen {
    bytes: usize,
    /// To the end, and the answer to one more request behind it, on the same connection.
    whole: bool,
}

fn connect(through: SocketAddr, request: &str) -> (TcpStream, BufReader<TcpStream>) {
    let mut socket = TcpStream::connect(through).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    socket.write_all(request.as_bytes()).unwrap();
    let reader = BufReader::new(socket.try_clone().unwrap());
    (socket, reader)
}

/// Whether the connection serves one more request.
fn is_kept(socket: &mut TcpStream, reader: &mut impl BufRead) -> bool {
    let asked = socket.write_all(b"GET /marker HTTP/1.1\r\nhost: a\r\n\r\n").is_ok();
    asked && head(reader).is_some_and(|line| line.starts_with("HTTP/1.1 200"))
}

fn download(through: SocketAddr, stream: usize) -> Seen {
    let request = format!("GET /down/{stream} HTTP/1.1\r\nhost: a\r\n\r\n");
    let (mut socket, mut reader) = connect(through, &request);
    if head(&mut reader).is_none() {
        return Seen { bytes: 0, whole: false };
    }
    let (bytes, ended) = check(&mut reader, stream, stream % 3 == 1);
    Seen { bytes, whole: ended && is_kept(&mut socket, &mut reader) }
}

fn upload(through: SocketAddr, stream: usize, stop: &AtomicBool) -> Seen {
    let request = format!("POST /up/{stream} HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n");
    let (mut socket, mut reader) = connect(through, &request);
    let (bytes, ended) = send(&mut socket, stream, stop);
    let mut answer = String::new();
    let answered = ended && head(&mut reader).is_some_and(|line| line.starts_with("HTTP/1.1 200")) && {
        let mut digits = vec![0; bytes.to_string().len()];
        let read = reader.read_exact(&mut digits).is_ok();
        answer = String::from_utf8_lossy(&digits).into_owned();
        read
    };
    if answered {
        assert_eq!(answer, bytes.to_string(), "stream {stream}: what was sent has come");
    }
    Seen { bytes, whole: answered && is_kept(&mut socket, &mut reader) }
}

fn start(host: &Host) -> Supervised {
    let setup = Setup::new(Config::to(host.address));
    setup.flag("--drain-time-s", DRAIN).flag("--parent-shutdown-time-s", DRAIN).start()
}

#[test]
fn streams_and_uploads_go_on_through_takeovers() {
    let _quiet = alone_on_the_machine();
    let host = Host::start();
    let proxy = start(&host);
    let before = scrape::stats(proxy.admin);
    let clients = host.clients(proxy.front);
    eventually(PATIENCE, "all have begun", || host.begun.load(Ordering::Relaxed) == 2 * EACH);
    let takeovers = long_or(20, 5);
    for _ in 0..takeovers {
        proxy.reload();
        proxy.settled(PATIENCE);
    }
    let seen = host.finish(clients);
    assert!(seen.iter().all(|seen| seen.whole && seen.bytes > 0), "{seen:?}\n{}", proxy.log());
    assert_eq!(host.accepted.load(Ordering::Relaxed), 2 * EACH, "one connection each, end to end");
    // A client has its answer a moment before the request is counted as over.
    let active = format!("{HTTP}.downstream_rq_active");
    eventually(PATIENCE, "all is counted", || scrape::stats(proxy.admin).get(&*active) == before.get(&*active));
    let stats = scrape::stats(proxy.admin);
    let value = |name: &str| stats.get(name).copied().unwrap_or(0);
    let total: usize = seen.iter().map(|seen| seen.bytes).sum();
    let moved = value("server.connections_moved.exchange");
    println!("{} exchanges, {takeovers} takeovers: {total} bytes, {moved} moves", 2 * EACH);
    assert_eq!(moved, takeovers as i64 * 2 * EACH as i64, "{}", proxy.log());
    for (name, expected) in [
        (format!("{CLUSTER}.upstream_cx_total"), 2 * EACH as i64),
        (format!("{CLUSTER}.upstream_rq_total"), 2 * EACH as i64),
        (format!("{CLUSTER}.upstream_rq_active"), 0),
        (format!("{CLUSTER}.upstream_cx_destroy_with_active_rq"), 0),
        (format!("{HTTP}.downstream_rq_active"), 0),
        (format!("{HTTP}.downstream_rq_total"), 4 * EACH as i64),
        (format!("{HTTP}.downstream_rq_2xx"), 4 * EACH as i64),
        (format!("{HTTP}.downstream_rq_tx_reset"), 0),
    ] {
        let had = before.get(&*name).copied().unwrap_or(0);
        assert_eq!(value(&name) - had, expected, "{name}");
    }
}

#[test]
fn a_death_around_the_move_cuts_only_what_the_dead_one_held() {
    let _quiet = alone_on_the_machine();
    let host = Host::start();
    let proxy = start(&host);
    let delays = (0..long_or(20, 4)).map(|step| Duration::from_millis(step * step));
    for delay in delays {
        for victim_is_old in [true, false] {
            let before = host.begun.load(Ordering::Relaxed);
            let clients = host.clients(proxy.front);
            eventually(PATIENCE, "all have begun", || host.begun.load(Ordering::Relaxed) == before + 2 * EACH);
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
            // What is cut is cut between two right bytes: `check` looks at each.
            let seen = host.finish(clients);
            let whole = seen.iter().filter(|seen| seen.whole).count();
            let which = if victim_is_old { "old" } else { "new" };
            println!("{which} epoch killed {delay:?} after the release: {whole} of {} exchanges go on", 2 * EACH);
            if victim_is_old && victim.is_none() {
                assert_eq!(whole, 2 * EACH, "{}", proxy.log());
            }
            proxy.settled(Duration::from_secs(DRAIN));
        }
    }
}
