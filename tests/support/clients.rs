//! Clients that never retry.
//!
//! A [`Connection`] does one request after the other and reports every way in which one can fail apart from the others. A keep-alive
//! client looks whether the proxy has closed before it writes (any client would); from the first byte written on, whatever does not
//! end in a whole answer is a failure.

use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::time::Duration;

use socket2::SockRef;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::runtime::Runtime;
use tokio::time::timeout;

use super::message::{Message, Reader};
pub(crate) use super::tally::{Failure, Tally};

/// How long a client waits for the answer to one request, beyond its own pauses.
pub(crate) const PATIENCE: Duration = Duration::from_secs(15);

/// One request as the clients send it.
pub(crate) enum Request<'a> {
    /// `GET path`.
    Get {
        /// Path with query.
        path: &'a str,
        /// Says `connection: close`.
        close: bool,
    },
    /// A body sent in `pieces` writes, the head with the first, `pause` between them.
    Post {
        /// Path with query.
        path: &'a str,
        /// Number of writes.
        pieces: u32,
        /// Bytes in each.
        piece: usize,
        /// Between two writes.
        pause: Duration,
    },
}

impl Request<'_> {
    /// The time the client itself takes its time.
    pub(crate) fn own_pauses(&self) -> Duration {
        match self {
            Self::Get { .. } => Duration::ZERO,
            Self::Post { pieces, pause, .. } => *pause * pieces.saturating_sub(1),
        }
    }
}

/// An HTTP/1.1 connection of a client.
pub(crate) struct Connection {
    stream: TcpStream,
    reader: Reader,
    /// Answers it has carried.
    pub(crate) answered: u32,
    /// How long it waits for a whole answer.
    pub(crate) patience: Duration,
}

impl Connection {
    /// Connects, without retry.
    pub(crate) async fn open(to: SocketAddr) -> Result<Self, Failure> {
        let stream = timeout(PATIENCE, TcpStream::connect(to)).await.map_err(|_| Failure::Timeout)??;
        stream.set_nodelay(true)?;
        Ok(Self { stream, reader: Reader::default(), answered: 0, patience: PATIENCE })
    }

    /// The client's port.
    pub(crate) fn port(&self) -> u16 {
        self.stream.local_addr().map_or(0, |address| address.port())
    }

    /// Whether the peer has closed (or reset) the idle connection, asked of the kernel at this moment.
    pub(crate) fn closed_by_peer(&self) -> bool {
        let mut byte = [MaybeUninit::uninit(); 1];
        let peeked = SockRef::from(&self.stream).recv_with_flags(&mut byte, libc::MSG_PEEK | libc::MSG_DONTWAIT);
        match peeked {
            Ok(length) => length == 0,
            Err(error) => error.kind() != std::io::ErrorKind::WouldBlock,
        }
    }

    /// Writes a request.
    pub(crate) async fn send(&mut self, request: &Request<'_>) -> Result<(), Failure> {
        match request {
            Request::Get { path, close } => {
                let close = if *close { "connection: close\r\n" } else { "" };
                let head = format!("GET {path} HTTP/1.1\r\nhost: test\r\n{close}\r\n");
                self.stream.write_all(head.as_bytes()).await?;
            }
            Request::Post { path, pieces, piece, pause } => {
                let length = *pieces as usize * piece;
                let head = format!("POST {path} HTTP/1.1\r\nhost: test\r\ncontent-length: {length}\r\n\r\n");
                let mut first = head.into_bytes();
                first.resize(first.len() + piece, b'x');
                self.stream.write_all(&first).await?;
                let rest = vec![b'x'; *piece];
                for _ in 1..*pieces {
                    tokio::time::sleep(*pause).await;
                    self.stream.write_all(&rest).await?;
                }
            }
        }
        Ok(())
    }

    /// Reads an answer, of whatever status.
    pub(crate) async fn receive(&mut self) -> Result<Message, Failure> {
        let answer =
            timeout(self.patience, self.reader.read(&mut self.stream, true)).await.map_err(|_| Failure::Timeout)??;
        self.answered += 1;
        Ok(answer)
    }

    /// One request, one answer; anything but 200 is a failure.
    pub(crate) async fn exchange(&mut self, request: &Request<'_>) -> Result<Message, Failure> {
        timeout(PATIENCE + request.own_pauses(), self.send(request)).await.map_err(|_| Failure::Timeout)??;
        let answer = self.receive().await?;
        match answer.second_word() {
            "200" => Ok(answer),
            status => Err(Failure::BadStatus(status.parse().unwrap_or(0))),
        }
    }
}

/// A loop for one thread.
pub(crate) fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime can be built")
}

/// Runs a future on a loop of its own, for tests that are plain functions.
pub(crate) fn block_on<T>(future: impl Future<Output = T>) -> T {
    runtime().block_on(future)
}

/// One request on a connection of its own; the answer of whatever status.
pub(crate) fn get(to: SocketAddr, path: &str) -> Result<Message, Failure> {
    block_on(async {
        let mut connection = Connection::open(to).await?;
        connection.send(&Request::Get { path, close: true }).await?;
        connection.receive().await
    })
}
