//! Tunnels over HTTP/2 for scenarios: a client's stream that has become one, and a host whose streams do what a script says.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;

use bytes::{Bytes, BytesMut};
use h2::client::SendRequest;
use h2::ext::Protocol;
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};
use http::{Method, Request, Response, StatusCode, response};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::{LocalSet, spawn_local};

use super::http2::send_all;

/// Both halves of a stream that carries bytes.
pub struct Tunnel {
    pub send: SendStream<Bytes>,
    pub recv: RecvStream,
    heard: BytesMut,
}

impl Tunnel {
    pub fn new(send: SendStream<Bytes>, recv: RecvStream) -> Self {
        Self { send, recv, heard: BytesMut::new() }
    }

    /// Sends something, as the window allows.
    pub async fn say(&mut self, bytes: impl Into<Bytes>) -> Result<(), h2::Error> {
        send_all(&mut self.send, bytes.into(), false).await
    }

    /// Says that nothing more comes.
    pub fn end(&mut self) {
        self.send.send_data(Bytes::new(), true).unwrap();
    }

    /// The next so many bytes; fewer at the end.
    pub async fn hear(&mut self, length: usize) -> Result<Bytes, h2::Error> {
        while self.heard.len() < length {
            let Some(data) = self.recv.data().await.transpose()? else { break };
            self.recv.flow_control().release_capacity(data.len())?;
            self.heard.extend_from_slice(&data);
        }
        Ok(self.heard.split_to(length.min(self.heard.len())).freeze())
    }

    /// All that comes up to the end.
    pub async fn hear_all(&mut self) -> Result<Bytes, h2::Error> {
        self.hear(usize::MAX).await
    }

    /// Why the other side gave the stream up.
    pub async fn reset(&mut self) -> Reason {
        let error = self.hear_all().await.expect_err("it is reset");
        error.reason().unwrap_or_else(|| panic!("it is reset and not lost: {error}"))
    }

    /// Sends back what comes, and ends when that ends.
    pub async fn echo(mut self) -> Result<(), h2::Error> {
        while let Some(data) = self.recv.data().await.transpose()? {
            self.recv.flow_control().release_capacity(data.len())?;
            self.say(data).await?;
        }
        self.end();
        Ok(())
    }
}

/// A WebSocket's extended CONNECT.
pub fn websocket(path: &str) -> Request<()> {
    extended("websocket", path)
}

/// An extended CONNECT.
pub fn extended(protocol: &str, path: &str) -> Request<()> {
    let request = Request::connect(format!("http://test{path}")).extension(Protocol::from(protocol));
    request.header("sec-websocket-version", "13").body(()).unwrap()
}

/// A CONNECT.
pub fn connect(authority: &str) -> Request<()> {
    Request::connect(authority).body(()).unwrap()
}

/// Asks for a tunnel: the answer's head, and the stream.
pub async fn ask(send: &SendRequest<Bytes>, request: Request<()>) -> Result<(response::Parts, Tunnel), h2::Error> {
    let mut send = send.clone().ready().await?;
    let (response, stream) = send.send_request(request, false)?;
    let (head, body) = response.await?.into_parts();
    Ok((head, Tunnel::new(stream, body)))
}

/// Asks for a tunnel that is granted.
pub async fn join(send: &SendRequest<Bytes>, request: Request<()>) -> Tunnel {
    let (head, tunnel) = ask(send, request).await.unwrap();
    assert_eq!(head.status, 200);
    tunnel
}

/// A stream that a host was asked for.
pub struct Asked {
    pub request: Request<()>,
    pub body: RecvStream,
    pub respond: SendResponse<Bytes>,
}

impl Asked {
    /// Grants a tunnel.
    pub fn grant(mut self) -> Tunnel {
        assert_eq!(self.request.method(), Method::CONNECT);
        Tunnel::new(self.respond.send_response(Response::new(()), false).unwrap(), self.body)
    }

    /// Answers with a text.
    pub fn answer(mut self, status: StatusCode, text: &'static str) {
        let response = Response::builder().status(status).header("content-length", text.len()).body(()).unwrap();
        let mut stream = self.respond.send_response(response, text.is_empty()).unwrap();
        if !text.is_empty() {
            stream.send_data(Bytes::from_static(text.as_bytes()), true).unwrap();
        }
    }
}

type Work = Pin<Box<dyn Future<Output = ()>>>;
type Script = Arc<dyn Fn(Asked) -> Work + Send + Sync>;

/// A host that speaks HTTP/2 and does with each stream what its script says.
pub struct Host {
    pub address: SocketAddr,
    counts: Arc<[AtomicUsize; 2]>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Host {
    /// One that takes extended CONNECT.
    pub fn start<F: Future<Output = ()> + 'static>(script: impl Fn(Asked) -> F + Send + Sync + 'static) -> Self {
        let mut settings = h2::server::Builder::new();
        settings.enable_connect_protocol();
        Self::with(settings, script)
    }

    /// One with these settings.
    pub fn with<F: Future<Output = ()> + 'static>(
        settings: h2::server::Builder,
        script: impl Fn(Asked) -> F + Send + Sync + 'static,
    ) -> Self {
        Self::leaving(settings, usize::MAX, script)
    }

    /// One that says of each connection that it goes away, when it has taken so many streams.
    pub fn leaving<F: Future<Output = ()> + 'static>(
        settings: h2::server::Builder,
        after: usize,
        script: impl Fn(Asked) -> F + Send + Sync + 'static,
    ) -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let counts: Arc<[AtomicUsize; 2]> = Arc::default();
        let script: Script = Arc::new(move |asked| Box::pin(script(asked)));
        let (stop, stopped) = oneshot::channel::<()>();
        let shared = counts.clone();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(LocalSet::new().run_until(async move {
                let listener = TcpListener::from_std(listener).unwrap();
                let accepting = async {
                    loop {
                        let (stream, _) = listener.accept().await.unwrap();
                        shared[0].fetch_add(1, Ordering::Relaxed);
                        let (settings, script, shared) = (settings.clone(), script.clone(), shared.clone());
                        spawn_local(async move {
                            let Ok(mut connection) = settings.handshake(stream).await else { return };
                            let mut taken = 0;
                            while let Some(Ok((request, respond))) = connection.accept().await {
                                shared[1].fetch_add(1, Ordering::Relaxed);
                                taken += 1;
                                if taken == after {
                                    connection.graceful_shutdown();
                                }
                                let (parts, body) = request.into_parts();
                                let request = Request::from_parts(parts, ());
                                spawn_local(script(Asked { request, body, respond }));
                            }
                        });
                    }
                };
                tokio::select! { () = accepting => {} _ = stopped => {} }
            }));
        });
        Self { address, counts, stop: Some(stop), thread: Some(thread) }
    }

    /// One that grants every tunnel and echoes.
    pub fn echoing() -> Self {
        Self::start(|asked| async {
            // How a tunnel ends is for its client to see.
            let _ = asked.grant().echo().await;
        })
    }

    /// Connections taken so far.
    pub fn connections(&self) -> usize {
        self.counts[0].load(Ordering::Relaxed)
    }

    /// Streams taken so far.
    pub fn streams(&self) -> usize {
        self.counts[1].load(Ordering::Relaxed)
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
            && !std::thread::panicking()
        {
            panic!("in the host");
        }
    }
}
