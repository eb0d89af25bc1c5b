//! Tunnels with a stream of HTTP/2 in them over a takeover: they stay where they began, up to the drain's limit, and nobody else waits for them.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::time::{Duration, Instant};

use bytes::Bytes;
use h2::client::SendRequest;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::LocalSet;

use crate::http2::Clients;
use crate::support::bootstrap::Config;
use crate::support::clients::{Connection, Request, block_on};
use crate::support::http2::connect as open;
use crate::support::scrape;
use crate::support::supervised::{PATIENCE, Setup, eventually, listening};
use crate::support::tunnels::{Host, Tunnel, connect, join, websocket};
use crate::support::upstream::Upstream;

/// How long the old epoch may drain, in seconds.
const LIMIT: u64 = 6;

/// A host that grants a WebSocket over HTTP/1 to whoever begins with a `G`, and echoes.
fn far() -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for socket in listener.incoming() {
            let mut socket = socket.unwrap();
            std::thread::spawn(move || {
                let mut block = [0; 4096];
                let mut read = socket.read(&mut block).unwrap_or(0);
                if block[..read].starts_with(b"GET ") {
                    let grant =
                        b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n";
                    if !block[..read].ends_with(b"\r\n\r\n") || socket.write_all(grant).is_err() {
                        return;
                    }
                    read = socket.read(&mut block).unwrap_or(0);
                }
                while read > 0 && socket.write_all(&block[..read]).is_ok() {
                    read = socket.read(&mut block).unwrap_or(0);
                }
            });
        }
    });
    address
}

/// One tunnel of each kind that has a stream in it.
enum Kept {
    Stream(Tunnel),
    Socket(tokio::net::TcpStream),
}

impl Kept {
    /// One word there and back.
    async fn echoes(&mut self, word: &str) -> bool {
        match self {
            Self::Stream(tunnel) => {
                tunnel.say(Bytes::copy_from_slice(word.as_bytes())).await.is_ok()
                    && tunnel.hear(word.len()).await.is_ok_and(|heard| heard == word)
            }
            Self::Socket(socket) => {
                let mut heard = vec![0; word.len()];
                socket.write_all(word.as_bytes()).await.is_ok()
                    && socket.read_exact(&mut heard).await.is_ok()
                    && heard == word.as_bytes()
            }
        }
    }
}

async fn all(front: SocketAddr) -> (SendRequest<Bytes>, Vec<(&'static str, Kept)>) {
    let (send, _connection) = open(front).await;
    let mut tunnels = vec![
        ("2 to 1", Kept::Stream(join(&send, websocket("/ws")).await)),
        ("2 to 2", Kept::Stream(join(&send, websocket("/ws2")).await)),
        ("2 to TCP", Kept::Stream(join(&send, connect("far:1")).await)),
    ];
    let mut socket = tokio::net::TcpStream::connect(front).await.unwrap();
    socket
        .write_all(b"GET /ws2 HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n")
        .await
        .unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(socket.read_u8().await.unwrap());
    }
    assert!(head.starts_with(b"HTTP/1.1 101 "), "{}", String::from_utf8_lossy(&head));
    tunnels.push(("1 to 2", Kept::Socket(socket)));
    (send, tunnels)
}

#[test]
fn a_tunnel_lives_where_it_began_while_everybody_else_goes_on() {
    let upstream = Upstream::start();
    let host = Host::echoing();
    let listen = listening().1;
    let config =
        Config { tunnel: Some((listen, far())), http2_tunnel: Some(host.address), ..Config::to(upstream.address) };
    let mut proxy =
        Setup::new(config).flag("--drain-time-s", 1).flag("--parent-shutdown-time-s", LIMIT).workers(2).start();
    let clients = Clients::start(proxy.front);
    block_on(LocalSet::new().run_until(async {
        let (_send, mut tunnels) = all(proxy.front).await;
        for (kind, tunnel) in &mut tunnels {
            assert!(tunnel.echoes("before").await, "{kind}");
        }
        proxy.configure(|config| config.marker = "second".into());
        let begun = Instant::now();
        proxy.reload();
        let mut newcomer = Connection::open(proxy.front).await.unwrap();
        let answer = newcomer.exchange(&Request::Get { path: "/marker", close: true }).await.unwrap();
        assert_eq!(answer.body, b"second", "who comes now is served by the next epoch");
        // Longer than the drain's time, and shorter than its limit.
        let mut rounds = 0;
        while begun.elapsed() < Duration::from_secs(LIMIT / 2) {
            for (kind, tunnel) in &mut tunnels {
                assert!(tunnel.echoes("meanwhile").await, "{kind}\n{}", proxy.log());
            }
            rounds += 1;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        println!("{rounds} rounds while the old epoch drained");
        // New ones begin in the new epoch, and the old ones' end is none of theirs.
        let (_new, mut later) = all(proxy.front).await;
        for (kind, tunnel) in &mut tunnels {
            let mut at = Instant::now();
            while tunnel.echoes("to the last").await {
                at = Instant::now();
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            let lived = at.duration_since(begun);
            assert!(lived > Duration::from_secs(LIMIT - 2), "{kind} was cut after {lived:.1?}\n{}", proxy.log());
        }
        for (kind, tunnel) in &mut later {
            assert!(tunnel.echoes("after").await, "{kind}");
        }
    }));
    proxy.settled(PATIENCE);
    let answered = clients.answered();
    eventually(PATIENCE, "answers from the last epoch", || clients.answered() > answered + 100);
    let failures = clients.stop();
    assert!(failures.is_empty(), "{failures:?}\n{}", proxy.log());
    let stats = scrape::stats(proxy.admin);
    // Three of the four are streams of one connection.
    let unmovable = stats.get("server.connections_refused.unmovable").copied().unwrap_or(0);
    assert!(unmovable >= 2, "{unmovable}");
    assert_eq!(stats.get("server.connections_refused.record").copied().unwrap_or(0), 0);
}
