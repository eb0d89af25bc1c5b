//! TLS over takeovers: no request fails, and a session is resumed by whichever epoch the client meets.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use nix::sys::signal::Signal;
use rcgen::{CertificateParams, KeyPair};
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, ClientConnection, HandshakeKind, RootCertStore, StreamOwned, SupportedProtocolVersion};

use crate::support::bootstrap::Config;
use crate::support::process;
use crate::support::secured::NAME;
use crate::support::supervised::{PATIENCE, Setup, Supervised, eventually, listening};
use crate::support::upstream::Upstream;

/// A certificate in files, and a client that trusts it.
pub(crate) struct Shown {
    _dir: tempfile::TempDir,
    pub(crate) chain: PathBuf,
    pub(crate) key: PathBuf,
    certificate: CertificateDer<'static>,
}

impl Shown {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (chain, key) = (dir.path().join("chain.pem"), dir.path().join("key.pem"));
        let certificate = Self::write(&chain, &key);
        Self { _dir: dir, chain, key, certificate }
    }

    fn write(chain: &Path, key: &Path) -> CertificateDer<'static> {
        let pair = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(vec![NAME.into()]).unwrap().self_signed(&pair).unwrap();
        fs::write(chain, certificate.pem()).unwrap();
        fs::write(key, pair.serialize_pem()).unwrap();
        fs::set_permissions(key, fs::Permissions::from_mode(0o600)).unwrap();
        certificate.der().clone()
    }

    pub(crate) fn client(&self, version: &'static SupportedProtocolVersion) -> Arc<ClientConfig> {
        trusting(&self.certificate, version)
    }
}

fn trusting(certificate: &CertificateDer<'static>, version: &'static SupportedProtocolVersion) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(certificate.clone()).unwrap();
    let builder = ClientConfig::builder_with_provider(Arc::new(default_provider()));
    let builder = builder.with_protocol_versions(&[version]).unwrap();
    Arc::new(builder.with_root_certificates(roots).with_no_client_auth())
}

/// One request on a connection of its own: how the handshake went, and the answer.
fn visit(to: SocketAddr, config: &Arc<ClientConfig>, path: &str) -> std::io::Result<(HandshakeKind, String)> {
    let socket = TcpStream::connect(to)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    let name = ServerName::try_from(NAME).unwrap();
    let session = ClientConnection::new(config.clone(), name).map_err(std::io::Error::other)?;
    let mut stream = StreamOwned::new(session, socket);
    stream.write_all(format!("GET {path} HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n").as_bytes())?;
    let mut answer = String::new();
    // An end that TLS does not announce is an error.
    stream.read_to_string(&mut answer)?;
    let kind = stream.conn.handshake_kind().ok_or(std::io::ErrorKind::InvalidData)?;
    Ok((kind, answer))
}

/// A returning client of each version.
struct Returning {
    to: SocketAddr,
    clients: [Arc<ClientConfig>; 2],
}

impl Returning {
    fn new(to: SocketAddr, shown: &Shown) -> Self {
        Self { to, clients: [shown.client(&TLS13), shown.client(&TLS12)] }
    }

    fn first(&self) {
        for client in &self.clients {
            let (kind, answer) = visit(self.to, client, "/marker").unwrap();
            assert_ne!(kind, HandshakeKind::Resumed);
            assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        }
    }

    fn again(&self, after: &str) {
        for (client, version) in self.clients.iter().zip(["TLS 1.3", "TLS 1.2"]) {
            let (kind, _) = visit(self.to, client, "/marker").unwrap();
            assert_eq!(kind, HandshakeKind::Resumed, "{version} after {after}");
        }
    }
}

fn start(setup: Setup, shown: &Shown) -> (Supervised, SocketAddr) {
    let (socket, address) = listening();
    drop(socket);
    let config = Config { secure: Some((address, shown.chain.clone(), shown.key.clone())), ..setup.config.clone() };
    (Setup { config, ..setup }.start(), address)
}

#[test]
fn requests_over_tls_do_not_fail_in_takeovers() {
    let (upstream, shown) = (Upstream::start(), Shown::new());
    let (proxy, address) = start(Setup::new(Config::to(upstream.address)), &shown);
    let (stop, done) = (AtomicBool::new(false), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        let visitors: Vec<_> = (0..3)
            .map(|at| {
                let (stop, done) = (&stop, &done);
                let config = shown.client(if at == 0 { &TLS12 } else { &TLS13 });
                scope.spawn(move || {
                    while !stop.load(Ordering::Relaxed) {
                        let (_, answer) = visit(address, &config, "/x").unwrap();
                        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
                        done.fetch_add(1, Ordering::Relaxed);
                    }
                })
            })
            .collect();
        for _ in 0..4 {
            let seen = done.load(Ordering::Relaxed);
            let ended = || visitors.iter().any(std::thread::ScopedJoinHandle::is_finished);
            eventually(PATIENCE, "requests go on", || done.load(Ordering::Relaxed) > seen + 10 || ended());
            proxy.reload();
        }
        stop.store(true, Ordering::Relaxed);
    });
    assert!(done.load(Ordering::Relaxed) > 40);
}

#[test]
fn an_idle_connection_over_tls_is_ended_well_by_the_epoch_that_has_it() {
    let (upstream, shown) = (Upstream::start(), Shown::new());
    let (proxy, address) = start(Setup::new(Config::to(upstream.address)), &shown);
    let socket = TcpStream::connect(address).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let name = ServerName::try_from(NAME).unwrap();
    let mut stream = StreamOwned::new(ClientConnection::new(shown.client(&TLS13), name).unwrap(), socket);
    stream.write_all(b"GET /marker HTTP/1.1\r\nhost: a\r\n\r\n").unwrap();
    let mut first = [0; 1024];
    assert!(stream.read(&mut first).unwrap() > 0);
    proxy.reload();
    eventually(PATIENCE, "it drains", || proxy.log().contains("draining for at most"));
    // It does not move: its epoch answers once more, and says that this is the end.
    stream.write_all(b"GET /marker HTTP/1.1\r\nhost: a\r\n\r\n").unwrap();
    let mut rest = String::new();
    let read = stream.read_to_string(&mut rest);
    assert!(read.is_ok(), "{read:?} after {rest}");
    assert!(rest.contains("connection: close\r\n"), "{rest}");
}

#[test]
fn a_certificate_is_read_anew_by_every_epoch_and_a_broken_one_stops_the_takeover() {
    let shown = Shown::new();
    let (proxy, address) = start(Setup::new(Config { marker: "first".into(), ..Config::default() }), &shown);
    visit(address, &shown.client(&TLS13), "/marker").unwrap();
    fs::write(&shown.key, "no key").unwrap();
    let refused = proxy.operator(&["reload"]);
    assert!(!refused.status.success());
    let said = format!("{}{}", refused.stdout, refused.stderr);
    assert!(said.contains("private_key") && said.contains("holds no private key in PEM"), "{said}");
    visit(address, &shown.client(&TLS13), "/marker").expect("the old epoch serves on");
    let next = Shown::write(&shown.chain, &shown.key);
    proxy.reload();
    visit(address, &trusting(&next, &TLS13), "/marker").expect("the new certificate is shown");
    assert!(visit(address, &shown.client(&TLS13), "/marker").is_err(), "the old one is not");
}

#[test]
fn sessions_outlive_epochs_and_supervisors() {
    let (upstream, shown) = (Upstream::start(), Shown::new());
    let setup = Setup::new(Config::to(upstream.address)).own_supervisor();
    let (mut proxy, address) = start(setup, &shown);
    let returning = Returning::new(address, &shown);
    returning.first();
    returning.again("nothing");
    proxy.reload();
    returning.again("a takeover");
    proxy.kill_supervisor();
    proxy.next_supervisor();
    returning.again("an adoption");
    proxy.reload();
    returning.again("a takeover by the next supervisor");
    let before = proxy.log().matches("the supervisor has replaced itself").count();
    process::signal(proxy.pid(), Signal::SIGUSR2);
    eventually(PATIENCE, "the supervisor has replaced itself", || {
        proxy.log().matches("the supervisor has replaced itself").count() > before
    });
    proxy.reload();
    returning.again("a replacement and a takeover");
    let stranger = Shown::new();
    let (_other, elsewhere) = start(Setup::new(Config::to(upstream.address)), &stranger);
    for (client, version) in returning.clients.iter().zip([&TLS13, &TLS12]) {
        // Another lineage has other keys: were all sessions taken, the tests above would say nothing.
        let mut config = (*trusting(&stranger.certificate, version)).clone();
        config.resumption = client.resumption.clone();
        let (kind, _) = visit(elsewhere, &Arc::new(config), "/marker").unwrap();
        assert_ne!(kind, HandshakeKind::Resumed);
    }
}

#[test]
fn keys_are_turned_and_older_sessions_still_resumed() {
    let (upstream, shown) = (Upstream::start(), Shown::new());
    let setup = Setup::new(Config::to(upstream.address)).flag("--session-ticket-rotation-s", 3);
    let (proxy, address) = start(setup, &shown);
    let returning = Returning::new(address, &shown);
    returning.first();
    let turned = || proxy.log().matches("the keys of session tickets are turned").count();
    let before = turned();
    eventually(PATIENCE, "the keys are turned", || turned() > before);
    returning.again("a turn");
    // Nothing of a key is in the log or in the supervisor's directory.
    assert!(!proxy.log().contains("keys: ["));
}
