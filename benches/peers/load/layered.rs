//! The closed loop where there is more between client and peer than a socket: TLS, HTTP/2, or both.
//!
//! One thread, a task for each connection and each of its streams. TLS is 1.3 with one key exchange (X25519) and without
//! resumption: what is compared is the same work for every peer.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, header};
use rustls::client::Resumption;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::{LocalSet, spawn_local};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::response::{Seen, look};
use super::{ANSWER_LIMIT, Outcome, request};
use crate::Result;
use crate::args::{LoadArgs, Mode};
use crate::process::cpu_time;
use crate::sys::connect;
use crate::work::Front;

/// The name that clients ask for, and that the certificate must carry.
pub(crate) const NAME: &str = "service.example";
/// One answer; longer and the peer does not work.
const LIMIT: Duration = Duration::from_secs(5);
/// Latencies kept, in memory that cannot grow beyond it.
const SAMPLES: usize = 8_000_000;

/// What all connections share.
struct Shared {
    target: SocketAddr,
    front: Front,
    tls: Option<TlsConnector>,
    state: RefCell<State>,
}

#[derive(Default)]
struct State {
    counting: bool,
    turn: usize,
    latencies: Vec<u32>,
    outcome: Outcome,
}

trait Wire: AsyncRead + AsyncWrite + Unpin {}
impl<S: AsyncRead + AsyncWrite + Unpin> Wire for S {}

/// Warms up, then counts for the window.
pub(super) fn run(args: &LoadArgs) -> Result<Outcome> {
    let shared = Rc::new(Shared::new(args.target, args.front, args.certificate.as_deref())?);
    on_this_thread(async {
        for _ in 0..args.connections {
            let (shared, streams, mode) = (shared.clone(), args.streams, args.mode);
            spawn_local(async move {
                // A connection that breaks is an error, and an error spoils the measurement: none is opened in its place.
                let done = match mode {
                    Mode::Fresh => shared.clone().fresh().await,
                    _ if shared.front.is_http2() => shared.clone().multiplexed(streams).await,
                    _ => shared.clone().kept().await,
                };
                if let Err(error) = done {
                    shared.state.borrow_mut().outcome.error(error);
                }
            });
        }
        tokio::time::sleep(Duration::from_millis(args.warm)).await;
        shared.state.borrow_mut().counting = true;
        let (cpu, start) = (cpu_time(&args.pids)?, Instant::now());
        tokio::time::sleep(Duration::from_millis(args.window)).await;
        let (cpu, length) = (cpu_time(&args.pids)? - cpu, start.elapsed());
        let State { latencies, outcome, .. } = shared.state.take();
        Ok(outcome.of_window(cpu, length, latencies))
    })
}

/// Whether a peer answers one request as `front` has it.
pub(crate) fn answers(target: SocketAddr, front: Front, certificate: Option<&Path>) -> bool {
    let once = async {
        let shared = Rc::new(Shared::new(target, front, certificate)?);
        timeout(LIMIT, shared.once()).await?
    };
    on_this_thread(once).is_ok()
}

fn on_this_thread<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    LocalSet::new().block_on(&runtime, work)
}

impl Shared {
    fn new(target: SocketAddr, front: Front, certificate: Option<&Path>) -> Result<Self> {
        let tls = match certificate.filter(|_| front.is_tls()) {
            Some(file) => Some(connector(file, front)?),
            None => None,
        };
        Ok(Self { target, front, tls, state: RefCell::default() })
    }

    async fn open(&self) -> Result<Box<dyn Wire>> {
        let turn = {
            let mut state = self.state.borrow_mut();
            state.turn = state.turn.wrapping_add(1);
            state.turn
        };
        let socket = connect(self.target, turn, true)?;
        socket.set_nonblocking(true)?;
        let socket = TcpStream::from_std(socket)?;
        Ok(match &self.tls {
            None => Box::new(socket),
            Some(connector) => Box::new(connector.connect(ServerName::try_from(NAME)?, socket).await?),
        })
    }

    fn answered(&self, sent: Instant) {
        let mut state = self.state.borrow_mut();
        if state.counting {
            state.outcome.requests += 1;
            if state.latencies.len() < SAMPLES {
                state.latencies.push(u32::try_from(sent.elapsed().as_nanos()).unwrap_or(u32::MAX));
            }
        }
    }

    /// One connection, one request after the other.
    async fn kept(&self) -> Result<()> {
        let mut wire = self.open().await?;
        let mut buffer = vec![0; ANSWER_LIMIT];
        loop {
            let sent = Instant::now();
            timeout(LIMIT, ask(&mut wire, &mut buffer)).await??;
            self.answered(sent);
        }
    }

    /// A connection for each request.
    async fn fresh(&self) -> Result<()> {
        let mut buffer = vec![0; ANSWER_LIMIT];
        loop {
            let sent = Instant::now();
            let mut wire = timeout(LIMIT, self.open()).await??;
            timeout(LIMIT, ask(&mut wire, &mut buffer)).await??;
            self.answered(sent);
        }
    }

    /// One HTTP/2 connection, `streams` requests in flight.
    async fn multiplexed(self: Rc<Self>, streams: usize) -> Result<()> {
        let (sender, connection) = h2::client::handshake(self.open().await?).await?;
        for _ in 0..streams {
            let (shared, mut sender) = (self.clone(), sender.clone());
            spawn_local(async move {
                loop {
                    let sent = Instant::now();
                    match timeout(LIMIT, exchange(&mut sender)).await {
                        Ok(Ok(())) => shared.answered(sent),
                        Ok(Err(error)) => return shared.state.borrow_mut().outcome.error(error),
                        Err(error) => return shared.state.borrow_mut().outcome.error(error),
                    }
                    sender = match sender.ready().await {
                        Ok(sender) => sender,
                        Err(error) => return shared.state.borrow_mut().outcome.error(error),
                    };
                }
            });
        }
        Ok(connection.await?)
    }

    async fn once(&self) -> Result<()> {
        let mut wire = self.open().await?;
        if !self.front.is_http2() {
            return ask(&mut wire, &mut vec![0; ANSWER_LIMIT]).await;
        }
        let (sender, connection) = h2::client::handshake(wire).await?;
        let driver = spawn_local(connection);
        let done = exchange(&mut sender.ready().await?).await;
        driver.abort();
        done
    }
}

/// One exchange over HTTP/1.1.
async fn ask(wire: &mut Box<dyn Wire>, buffer: &mut [u8]) -> Result<()> {
    wire.write_all(&request("/")).await?;
    let mut count = 0;
    loop {
        match wire.read(buffer.get_mut(count..).unwrap_or_default()).await? {
            0 => return Err("closed instead of answering".into()),
            more => count += more,
        }
        match look(buffer.get(..count).unwrap_or_default()) {
            Seen::Part => {}
            Seen::Whole => return Ok(()),
            Seen::Bad(why) => return Err(why.into()),
        }
    }
}

/// One exchange over HTTP/2, with the same fields.
async fn exchange(sender: &mut h2::client::SendRequest<Bytes>) -> Result<()> {
    let mut request = Request::get(format!("http://{NAME}/")).body(())?;
    let fields: &mut HeaderMap = request.headers_mut();
    fields.insert(header::USER_AGENT, HeaderValue::from_static("peers/1"));
    fields.insert(header::ACCEPT, HeaderValue::from_static("text/plain, */*;q=0.5"));
    fields.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("gzip, br"));
    let (response, _) = sender.send_request(request, true)?;
    let response = response.await?;
    if response.status() != 200 {
        return Err(format!("answered {}", response.status()).into());
    }
    let mut body = response.into_body();
    while let Some(part) = body.data().await {
        let part = part?;
        body.flow_control().release_capacity(part.len())?;
    }
    Ok(())
}

fn connector(certificate: &Path, front: Front) -> Result<TlsConnector> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(certificate)?)?;
    let provider = CryptoProvider { kx_groups: vec![aws_lc_rs::kx_group::X25519], ..aws_lc_rs::default_provider() };
    let mut config = ClientConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.resumption = Resumption::disabled();
    let protocol: &[u8] = if front.is_http2() { b"h2" } else { b"http/1.1" };
    config.alpn_protocols = vec![protocol.to_vec()];
    Ok(TlsConnector::from(Arc::new(config)))
}
