//! The suite's own instruments, tried on small servers without a proxy: a client that cannot see a failure proves nothing.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::support::clients::{Connection, Failure, Request, block_on, get};

use crate::support::load::{Habit, Load};
use crate::support::statsd::Statsd;
use crate::support::supervised::eventually;
use crate::support::upstream::{PIECE, Upstream};

const GET: Request<'static> = Request::Get { path: "/", close: false };

/// A server that does the same with each of `connections` connections.
fn server(connections: usize, each: fn(TcpStream)) -> (SocketAddr, JoinHandle<()>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    let thread = std::thread::spawn(move || {
        for _ in 0..connections {
            each(listener.accept().unwrap().0);
        }
    });
    (address, thread)
}

fn failure(each: fn(TcpStream)) -> Failure {
    let (address, thread) = server(1, each);
    let outcome = block_on(async { Connection::open(address).await?.exchange(&GET).await });
    thread.join().unwrap();
    outcome.err().unwrap()
}

#[test]
fn a_client_tells_failures_apart() {
    assert_eq!(
        failure(|mut stream| {
            let _ = stream.read(&mut [0; 1024]);
        }),
        Failure::EofBeforeAnswer
    );
    assert_eq!(
        failure(|mut stream| {
            let _ = stream.read(&mut [0; 1024]);
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nab").unwrap();
        }),
        Failure::EofMidAnswer
    );
    assert_eq!(
        failure(|stream| {
            // Closing with the request unread resets.
            stream.peek(&mut [0; 1]).unwrap();
        }),
        Failure::Reset
    );
    assert_eq!(
        failure(|mut stream| {
            let _ = stream.read(&mut [0; 1024]);
            stream.write_all(b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n").unwrap();
        }),
        Failure::BadStatus(503)
    );
    let unbound = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap();
    assert_eq!(get(unbound, "/").err().unwrap(), Failure::Refused);
}

#[test]
fn a_client_sees_an_idle_close_before_it_writes() {
    let (address, thread) = server(1, |mut stream| {
        let _ = stream.read(&mut [0; 1024]).unwrap();
        stream.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n").unwrap();
    });
    block_on(async {
        let mut connection = Connection::open(address).await.unwrap();
        let answer = connection.exchange(&GET).await.unwrap();
        assert_eq!((answer.body.as_slice(), answer.length, answer.keep_alive), (b"abc".as_slice(), 3, true));
        thread.join().unwrap();
        eventually(Duration::from_secs(5), "the close arrives", || connection.closed_by_peer());
    });
}

#[test]
fn the_origin_answers_whole_and_slowly() {
    let origin = Upstream::start();
    block_on(async {
        let mut connection = Connection::open(origin.address).await.unwrap();
        let post = Request::Post { path: "/", pieces: 2, piece: 1000, pause: Duration::from_millis(1) };
        assert_eq!(connection.exchange(&post).await.unwrap().body, b"received 2000\n");
        let slow = Request::Get { path: "/slow?pieces=3&every=2", close: false };
        assert_eq!(connection.exchange(&slow).await.unwrap().body.len(), 3 * PIECE);
        assert_eq!(connection.answered, 2);
    });
    assert_eq!(origin.requests(), 2);
}

#[test]
fn a_load_counts_what_the_origin_counts() {
    let origin = Upstream::start();
    let habits = [(Habit::PerRequest, 2), (Habit::KeepAlive, 2), (Habit::TwoWritePost, 2), (Habit::Sparse, 5)];
    let load = Load::start(origin.address, &habits);
    load.progress(200);
    load.pause();
    assert_eq!(load.answered(), origin.requests());
    load.resume();
    load.progress(200);
    assert_eq!(load.failed(), 0);
    let report = load.stop();
    let total = report.total();
    assert_eq!((total.ok, total.errors()), (origin.requests(), 0), "{report}");
    assert_eq!(report.of(Habit::KeepAlive).connections, 2);
    assert_eq!(report.of(Habit::PerRequest).connections, report.of(Habit::PerRequest).ok);
}

#[test]
fn a_load_counts_the_race_of_a_reused_connection() {
    // One answer per connection, and the close only after the next request has come.
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    let thread = std::thread::spawn(move || {
        let mut stream = listener.accept().unwrap().0;
        let _ = stream.read(&mut [0; 1024]).unwrap();
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").unwrap();
        let _ = stream.read(&mut [0; 1024]).unwrap();
    });
    let load = Load::start(address, &[(Habit::KeepAlive, 1)]);
    eventually(Duration::from_secs(5), "the race is lost", || load.failed() > 0);
    thread.join().unwrap();
    let total = load.stop().total();
    assert_eq!((total.ok, total.races, total.count(&Failure::EofBeforeAnswer)), (1, 1, 1), "{total}");
}

#[test]
fn statsd_lines_add_up() {
    let statsd = Statsd::start();
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    for datagram in ["a.b:3|c", "a.b:4|c\ng:7|g\nt:12|ms|@0.5", "nonsense"] {
        socket.send_to(datagram.as_bytes(), statsd.address).unwrap();
    }
    eventually(Duration::from_secs(5), "all came", || !statsd.received().malformed.is_empty());
    let received = statsd.received();
    assert_eq!((statsd.counter("a.b"), received.gauges["g"], received.timers["t"]), (7, 7.0, 2));
}
