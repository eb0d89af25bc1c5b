//! The upstream of the restart suite: answers at once, slowly, or after a whole upload.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::LocalSet;

use crate::support::clients::block_on;
use crate::support::message::{Message, ReadError, Reader};

/// An HTTP/1.1 server on a thread of its own.
///
/// `/slow?pieces=N&every=MS` answers with N pieces of a kilobyte, one every MS milliseconds; any other path answers at once, after the
/// whole body of the request has come, with the length of that body.
pub(crate) struct Upstream {
    /// Where it listens.
    pub(crate) address: SocketAddr,
    requests: Arc<AtomicU64>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// Bytes of one piece of a slow answer.
pub(crate) const PIECE: usize = 1024;

impl Upstream {
    /// Starts one on a port of the kernel's choice.
    pub(crate) fn start() -> Self {
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port is free");
        listener.set_nonblocking(true).expect("a socket can be made non-blocking");
        let address = listener.local_addr().expect("a bound socket has an address");
        let requests = Arc::<AtomicU64>::default();
        let (stop, stopped) = oneshot::channel();
        let counted = requests.clone();
        let thread = std::thread::spawn(move || {
            let local = LocalSet::new();
            block_on(local.run_until(async {
                let listener = TcpListener::from_std(listener).expect("the runtime takes the socket");
                let accepting = async {
                    loop {
                        if let Ok((stream, _)) = listener.accept().await {
                            let counted = counted.clone();
                            tokio::task::spawn_local(async move { serve(stream, &counted).await });
                        }
                    }
                };
                tokio::select! { () = accepting => {} _ = stopped => {} }
            }));
        });
        Self { address, requests, stop: Some(stop), thread: Some(thread) }
    }

    /// Requests read to their end.
    pub(crate) fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let joined = thread.join();
            assert!(joined.is_ok() || std::thread::panicking(), "the origin panicked");
        }
    }
}

async fn serve(mut stream: TcpStream, requests: &AtomicU64) {
    let mut reader = Reader::default();
    let _ = stream.set_nodelay(true);
    loop {
        match reader.read(&mut stream, false).await {
            Ok(request) => {
                requests.fetch_add(1, Ordering::Relaxed);
                if answer(&mut stream, &request).await.is_err() || !request.keep_alive {
                    return;
                }
            }
            Err(ReadError::Malformed(what)) => {
                let reply = format!("HTTP/1.1 400 Bad Request\r\ncontent-length: {}\r\n\r\n{what}", what.len());
                let _ = stream.write_all(reply.as_bytes()).await;
                return;
            }
            Err(ReadError::Eof(_) | ReadError::Io(_)) => return,
        }
    }
}

async fn answer(stream: &mut TcpStream, request: &Message) -> io::Result<()> {
    let path = request.second_word();
    let Some(query) = path.strip_prefix("/slow?") else {
        let body = format!("received {}\n", request.length);
        let reply = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len());
        return stream.write_all(reply.as_bytes()).await;
    };
    let number = |name: &str| {
        let value = query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='));
        value.and_then(|value| value.parse::<u64>().ok()).unwrap_or(1)
    };
    let (pieces, every) = (number("pieces"), Duration::from_millis(number("every")));
    let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", pieces * PIECE as u64);
    stream.write_all(head.as_bytes()).await?;
    for piece in 0..pieces {
        stream.write_all(&[b'a' + (piece % 26) as u8; PIECE]).await?;
        tokio::time::sleep(every).await;
    }
    Ok(())
}
