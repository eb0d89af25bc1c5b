//! Connections that never end by themselves: tunnels, WebSockets, endless answers, endless uploads. Every byte says where it stands.
//!
//! Both ends are here, each on a thread of its own, and both check what they receive. A stream that breaks is noted with the client's port and how; it is
//! not opened again.

#[path = "streams/end.rs"]
mod end;

use std::collections::BTreeMap;
use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{oneshot, watch};
use tokio::task::{LocalSet, spawn_local};

use super::clients::block_on;
use super::supervised::within;
use end::{Side, converse, head};

/// What a stream is, as the proxy sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// A connection through a TCP proxy; both ways.
    Tunnel,
    /// A WebSocket, from its handshake on; both ways.
    WebSocket,
    /// CONNECT through a connection manager; both ways.
    Connect,
    /// An answer without an end.
    Download,
    /// A request body without an end.
    Upload,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Tunnel => "tunnel",
            Self::WebSocket => "websocket",
            Self::Connect => "connect",
            Self::Download => "download",
            Self::Upload => "upload",
        }
    }

    /// Whether the client sends, whether the host does.
    fn ways(self) -> [bool; 2] {
        [self != Self::Download, self != Self::Upload]
    }

    /// What the client begins with.
    fn opening(self, number: u16) -> String {
        let path = format!("/streams/{}/{number}", self.name());
        match self {
            Self::Tunnel | Self::Connect => format!("{number:05}"),
            Self::WebSocket => format!(
                "GET {path} HTTP/1.1\r\nhost: test\r\nconnection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n\
                 sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
            ),
            Self::Download => format!("GET {path} HTTP/1.1\r\nhost: test\r\n\r\n"),
            Self::Upload => format!("POST {path} HTTP/1.1\r\nhost: test\r\ncontent-length: {}\r\n\r\n", 1_u64 << 40),
        }
    }
}

/// One stream, seen from both ends.
#[derive(Debug)]
struct Stream {
    kind: Kind,
    number: u16,
    /// The client's.
    port: AtomicU16,
    /// Bytes that the client, the host has sent.
    sent: [AtomicU64; 2],
    /// Bytes that the client, the host has received and found right.
    received: [AtomicU64; 2],
    /// It has come through to the host.
    joined: AtomicBool,
    /// How it ended, in the words of the end that noticed first.
    end: Mutex<Option<String>>,
    /// A byte was wrong.
    wrong: AtomicBool,
}

impl Stream {
    fn note(&self, how: String) {
        self.end.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(how);
    }

    fn ended(&self) -> Option<String> {
        self.end.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn received(&self) -> [u64; 2] {
        [0, 1].map(|end| self.received[end].load(Ordering::Acquire))
    }

    /// Whether all that was sent has come.
    fn is_even(&self) -> bool {
        let sent = [0, 1].map(|end| self.sent[end].load(Ordering::Acquire));
        let [client, host] = self.received();
        sent == [host, client]
    }
}

/// What streams do now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    Talk,
    /// Send nothing more, still receive.
    Hush,
    Leave,
}

/// The host at which streams end.
pub(crate) struct Host {
    /// For tunnels.
    pub(crate) raw: SocketAddr,
    /// For everything that begins with a request.
    pub(crate) http: SocketAddr,
    known: Arc<Mutex<BTreeMap<u16, Arc<Stream>>>>,
    order: watch::Sender<Order>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Host {
    /// Starts one on two ports of the kernel's choice.
    pub(crate) fn start() -> Self {
        let bind = || {
            let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port is free");
            listener.set_nonblocking(true).expect("a socket can be made non-blocking");
            (listener.local_addr().expect("a bound socket has an address"), listener)
        };
        let ((raw, raw_listener), (http, http_listener)) = (bind(), bind());
        let known = Arc::<Mutex<BTreeMap<u16, Arc<Stream>>>>::default();
        let (order, orders) = watch::channel(Order::Talk);
        let (stop, stopped) = oneshot::channel();
        let streams = known.clone();
        let thread = std::thread::spawn(move || {
            let local = LocalSet::new();
            block_on(local.run_until(async {
                let accept = |listener, is_http| {
                    let (streams, orders) = (streams.clone(), orders.clone());
                    async move {
                        let listener = TcpListener::from_std(listener).expect("the runtime takes the socket");
                        loop {
                            if let Ok((socket, _)) = listener.accept().await {
                                spawn_local(host(socket, is_http, streams.clone(), orders.clone()));
                            }
                        }
                    }
                };
                tokio::select! {
                    () = accept(raw_listener, false) => {}
                    () = accept(http_listener, true) => {}
                    _ = stopped => {}
                }
            }));
        });
        Self { raw, http, known, order, stop: Some(stop), thread: Some(thread) }
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            assert!(thread.join().is_ok() || std::thread::panicking(), "the host of streams panicked");
        }
    }
}

async fn host(
    mut socket: TcpStream,
    is_http: bool,
    known: Arc<Mutex<BTreeMap<u16, Arc<Stream>>>>,
    orders: watch::Receiver<Order>,
) {
    let _ = socket.set_nodelay(true);
    let (number, rest) = if is_http {
        let Ok((head, rest)) = head(&mut socket).await else { return };
        let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
        (path.rsplit('/').next().and_then(|number| number.parse().ok()), rest)
    } else {
        let mut opening = [0; 5];
        if socket.read_exact(&mut opening).await.is_err() {
            return;
        }
        (std::str::from_utf8(&opening).ok().and_then(|number| number.parse().ok()), Vec::new())
    };
    let stream =
        number.and_then(|number: u16| known.lock().unwrap_or_else(PoisonError::into_inner).get(&number).cloned());
    let Some(stream) = stream else { return };
    let answer = match stream.kind {
        Kind::WebSocket => "HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\
             sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
            .to_owned(),
        Kind::Download => format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", 1_u64 << 40),
        Kind::Tunnel | Kind::Connect | Kind::Upload => String::new(),
    };
    if socket.write_all(answer.as_bytes()).await.is_err() {
        return stream.note("the host could not answer".into());
    }
    if stream.joined.swap(true, Ordering::AcqRel) {
        return stream.note("it came to the host twice".into());
    }
    converse(socket, rest, &stream, Side::Host, orders).await;
}

/// Streams from here through a proxy to a [`Host`].
pub(crate) struct Streams<'a> {
    host: &'a Host,
    streams: Vec<Arc<Stream>>,
    order: watch::Sender<Order>,
    thread: Option<JoinHandle<()>>,
}

/// What became of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Fate {
    /// Those that live.
    pub(crate) living: usize,
    /// Those that broke: what it was, the client's port, how it ended.
    pub(crate) broken: Vec<(Kind, u16, String)>,
    /// Those that had a wrong byte, or at the end more or fewer than were sent.
    pub(crate) wrong: Vec<String>,
    /// Bytes received at both ends.
    pub(crate) bytes: u64,
}

impl fmt::Display for Fate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { living, broken, wrong, bytes } = self;
        write!(f, "{living} live, broken {broken:?}, wrong {wrong:?}, {bytes} bytes")
    }
}

impl<'a> Streams<'a> {
    /// Opens `count` of each kind: tunnels at `tunnel`, everything else at `front`.
    pub(crate) fn open(host: &'a Host, front: SocketAddr, tunnel: SocketAddr, kinds: &[(Kind, usize)]) -> Self {
        host.order.send_replace(Order::Talk);
        let (order, orders) = watch::channel(Order::Talk);
        let mut known = host.known.lock().unwrap_or_else(PoisonError::into_inner);
        let mut streams = Vec::new();
        for (kind, count) in kinds {
            for _ in 0..*count {
                let number = known.len() as u16;
                let stream = Arc::new(Stream {
                    kind: *kind,
                    number,
                    port: AtomicU16::new(0),
                    sent: Default::default(),
                    received: Default::default(),
                    joined: AtomicBool::new(false),
                    end: Mutex::new(None),
                    wrong: AtomicBool::new(false),
                });
                known.insert(number, stream.clone());
                streams.push(stream);
            }
        }
        drop(known);
        let own = streams.clone();
        let thread = std::thread::spawn(move || {
            let local = LocalSet::new();
            for stream in own {
                let target = if stream.kind == Kind::Tunnel { tunnel } else { front };
                local.spawn_local(client(stream, target, orders.clone()));
            }
            block_on(local);
        });
        Self { host, streams, order, thread: Some(thread) }
    }

    /// Waits until every living stream has received more, each way that it has.
    #[must_use]
    pub(crate) fn progress(&self, time: Duration) -> bool {
        let before: Vec<_> = self.streams.iter().map(|stream| stream.received()).collect();
        within(time, || {
            self.streams.iter().zip(&before).all(|(stream, before)| {
                let now = stream.received();
                let [up, down] = stream.kind.ways();
                stream.ended().is_some() || ((!down || now[0] > before[0]) && (!up || now[1] > before[1]))
            })
        })
    }

    /// How many live.
    pub(crate) fn living(&self) -> usize {
        self.streams.iter().filter(|stream| stream.ended().is_none()).count()
    }

    /// The clients' ports.
    pub(crate) fn ports(&self) -> Vec<u16> {
        self.streams.iter().map(|stream| stream.port.load(Ordering::Acquire)).collect()
    }

    /// Those of streams that broke.
    pub(crate) fn broken_ports(&self) -> Vec<u16> {
        self.fate().broken.into_iter().map(|(_, port, _)| port).collect()
    }

    fn fate(&self) -> Fate {
        let mut fate = Fate::default();
        for stream in &self.streams {
            fate.bytes += stream.received().iter().sum::<u64>();
            match stream.ended() {
                None => fate.living += 1,
                Some(how) => fate.broken.push((stream.kind, stream.port.load(Ordering::Acquire), how)),
            }
            if stream.wrong.load(Ordering::Acquire) {
                fate.wrong.push(format!("{:?} {}", stream.kind, stream.number));
            }
        }
        fate
    }

    /// Has everybody fall silent, waits for what is on its way, and says what became of each. Then all end.
    pub(crate) fn close(mut self, time: Duration) -> Fate {
        self.host.order.send_replace(Order::Hush);
        self.order.send_replace(Order::Hush);
        let living = || self.streams.iter().filter(|stream| stream.ended().is_none());
        let _ = within(time, || living().all(|stream| stream.is_even()));
        let uneven: Vec<String> = living()
            .filter(|stream| !stream.is_even())
            .map(|stream| {
                format!("{:?} {}: sent {:?} received {:?}", stream.kind, stream.number, stream.sent, stream.received)
            })
            .collect();
        let mut fate = self.fate();
        fate.wrong.extend(uneven);
        self.leave();
        fate
    }

    fn leave(&mut self) {
        self.order.send_replace(Order::Leave);
        self.host.order.send_replace(Order::Leave);
        if let Some(thread) = self.thread.take() {
            assert!(thread.join().is_ok() || std::thread::panicking(), "a client of streams panicked");
        }
    }
}

impl Drop for Streams<'_> {
    fn drop(&mut self) {
        self.leave();
    }
}

async fn client(stream: Arc<Stream>, target: SocketAddr, orders: watch::Receiver<Order>) {
    match open(&stream, target).await {
        Ok((socket, rest)) => converse(socket, rest, &stream, Side::Client, orders).await,
        Err(error) => stream.note(format!("it could not be opened: {error}")),
    }
}

async fn open(stream: &Stream, target: SocketAddr) -> std::io::Result<(TcpStream, Vec<u8>)> {
    let mut socket = TcpStream::connect(target).await?;
    socket.set_nodelay(true)?;
    stream.port.store(socket.local_addr()?.port(), Ordering::Release);
    if stream.kind == Kind::Connect {
        socket.write_all(b"CONNECT streams:80 HTTP/1.1\r\nhost: streams:80\r\n\r\n").await?;
        expect(&mut socket, "200").await?;
    }
    socket.write_all(stream.kind.opening(stream.number).as_bytes()).await?;
    let rest = match stream.kind {
        Kind::WebSocket => expect(&mut socket, "101").await?,
        Kind::Download => expect(&mut socket, "200").await?,
        Kind::Tunnel | Kind::Connect | Kind::Upload => Vec::new(),
    };
    Ok((socket, rest))
}

async fn expect(socket: &mut TcpStream, status: &str) -> std::io::Result<Vec<u8>> {
    let (head, rest) = head(socket).await?;
    let line = head.lines().next().unwrap_or_default();
    if line.split(' ').nth(1) == Some(status) { Ok(rest) } else { Err(std::io::Error::other(line.to_owned())) }
}
