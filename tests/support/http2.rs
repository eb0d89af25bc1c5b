//! HTTP/2 peers for scenarios: a client, and a host that echoes.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use h2::client::SendRequest;
use h2::{RecvStream, SendStream};
use http::{HeaderMap, Request, Response};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::{LocalSet, spawn_local};

/// Runs a client's work on a runtime of its own, within the suite's patience.
pub fn run<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    LocalSet::new()
        .block_on(&runtime, async { tokio::time::timeout(super::PATIENCE, work).await.expect("the work ends in time") })
}

/// A connection with prior knowledge. The handle is true once the connection has ended without an error.
pub async fn connect(address: SocketAddr) -> (SendRequest<Bytes>, tokio::task::JoinHandle<Result<(), h2::Error>>) {
    let stream = TcpStream::connect(address).await.unwrap();
    stream.set_nodelay(true).unwrap();
    let (send, connection) = h2::client::handshake(stream).await.unwrap();
    (send, spawn_local(connection))
}

/// A request to `path`.
pub fn get(path: &str) -> Request<()> {
    Request::get(format!("http://test{path}")).body(()).unwrap()
}

/// A POST to `path`.
pub fn post(path: &str) -> Request<()> {
    Request::post(format!("http://test{path}")).body(()).unwrap()
}

/// A GET and all of its answer.
pub async fn ask(send: &SendRequest<Bytes>, path: &str) -> Result<(u16, Bytes), h2::Error> {
    let mut send = send.clone().ready().await?;
    let (response, _) = send.send_request(get(path), true)?;
    let response = response.await?;
    let status = response.status().as_u16();
    Ok((status, all(&mut response.into_body()).await?.0))
}

/// Everything that a stream brings.
pub async fn all(body: &mut RecvStream) -> Result<(Bytes, HeaderMap), h2::Error> {
    let mut bytes = BytesMut::new();
    while let Some(data) = body.data().await {
        let data = data?;
        body.flow_control().release_capacity(data.len())?;
        bytes.extend_from_slice(&data);
    }
    Ok((bytes.freeze(), body.trailers().await?.unwrap_or_default()))
}

/// Sends all of `data` as the window allows.
pub async fn send_all(stream: &mut SendStream<Bytes>, mut data: Bytes, end: bool) -> Result<(), h2::Error> {
    while !data.is_empty() {
        stream.reserve_capacity(data.len());
        let room = std::future::poll_fn(|context| stream.poll_capacity(context)).await;
        let room = room.ok_or_else(|| h2::Error::from(h2::Reason::CANCEL))??;
        let part = data.split_to(room.min(data.len()));
        stream.send_data(part, end && data.is_empty())?;
    }
    Ok(())
}

/// How a host behaves.
#[derive(Clone, Copy, Default)]
pub struct Manners {
    /// Its `SETTINGS_MAX_CONCURRENT_STREAMS`.
    pub streams: Option<u32>,
    /// It goes away after so many requests on a connection.
    pub requests: Option<usize>,
    /// It refuses the first stream of every connection.
    pub refuses_first: bool,
}

/// A host that speaks HTTP/2 only. It echoes bodies with their trailers; `/hang` is answered after the host has been dropped, if ever.
pub struct Host {
    pub address: SocketAddr,
    state: Arc<State>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct State {
    connections: AtomicUsize,
    requests: AtomicUsize,
    most_at_once: AtomicUsize,
}

impl Host {
    /// One with these manners.
    pub fn start(manners: Manners) -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let state: Arc<State> = Arc::default();
        let (stop, stopped) = oneshot::channel::<()>();
        let shared = state.clone();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(LocalSet::new().run_until(async move {
                let listener = TcpListener::from_std(listener).unwrap();
                let accepting = async {
                    loop {
                        let (stream, _) = listener.accept().await.unwrap();
                        shared.connections.fetch_add(1, Ordering::Relaxed);
                        spawn_local(serve(stream, manners, shared.clone()));
                    }
                };
                tokio::select! { () = accepting => {} _ = stopped => {} }
            }));
        });
        Self { address, state, stop: Some(stop), thread: Some(thread) }
    }

    /// Connections taken so far.
    pub fn connections(&self) -> usize {
        self.state.connections.load(Ordering::Relaxed)
    }

    /// Requests taken so far.
    pub fn requests(&self) -> usize {
        self.state.requests.load(Ordering::Relaxed)
    }

    /// The most requests that one connection has carried at once.
    pub fn most_at_once(&self) -> usize {
        self.state.most_at_once.load(Ordering::Relaxed)
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

async fn serve(stream: TcpStream, manners: Manners, state: Arc<State>) {
    let mut builder = h2::server::Builder::new();
    if let Some(streams) = manners.streams {
        builder.max_concurrent_streams(streams);
    }
    let Ok(mut connection) = builder.handshake(stream).await else { return };
    let now: Arc<AtomicUsize> = Arc::default();
    let mut taken = 0;
    while let Some(Ok((request, mut respond))) = connection.accept().await {
        taken += 1;
        if manners.refuses_first && taken == 1 {
            respond.send_reset(h2::Reason::REFUSED_STREAM);
            continue;
        }
        state.requests.fetch_add(1, Ordering::Relaxed);
        if manners.requests == Some(taken) {
            connection.graceful_shutdown();
        }
        let (now, state) = (now.clone(), state.clone());
        spawn_local(async move {
            let at_once = now.fetch_add(1, Ordering::Relaxed) + 1;
            state.most_at_once.fetch_max(at_once, Ordering::Relaxed);
            let _ = answer(request, &mut respond).await;
            now.fetch_sub(1, Ordering::Relaxed);
        });
    }
}

async fn answer(request: Request<RecvStream>, respond: &mut h2::server::SendResponse<Bytes>) -> Result<(), h2::Error> {
    let (parts, mut body) = request.into_parts();
    match parts.uri.path() {
        "/hang" => {
            // Until the client gives up.
            std::future::poll_fn(|context| respond.poll_reset(context)).await?;
            Ok(())
        }
        "/hints" => {
            let hints = Response::builder().status(103).header("link", "</a.css>").body(()).unwrap();
            respond.send_informational(hints)?;
            let mut stream = respond.send_response(Response::new(()), false)?;
            stream.send_data(Bytes::from_static(b"after"), true)
        }
        "/trailers-only" => {
            let response = Response::builder().header("grpc-status", "5").body(()).unwrap();
            respond.send_response(response, true).map(drop)
        }
        "/slow" => {
            let mut stream = respond.send_response(Response::new(()), false)?;
            for _ in 0..20 {
                send_all(&mut stream, Bytes::from_static(&[b's'; 100]), false).await?;
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            stream.send_data(Bytes::new(), true)
        }
        _ => {
            let mut stream = respond.send_response(Response::new(()), false)?;
            while let Some(data) = body.data().await {
                let data = data?;
                body.flow_control().release_capacity(data.len())?;
                send_all(&mut stream, data, false).await?;
            }
            match body.trailers().await? {
                Some(trailers) => stream.send_trailers(trailers),
                None => stream.send_data(Bytes::new(), true),
            }
        }
    }
}
