//! TLS from the other side: certificates that are made on the spot, and a client that shakes hands.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use heirloom::config::model;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, PKCS_RSA_SHA256, RsaKeySize};
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned, SupportedProtocolVersion};

use super::wire::{Message, Wire};

/// Who signs.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pub certificate: CertificateDer<'static>,
    pub pem: String,
}

/// A certificate and its key, as PEM.
pub struct Issued {
    pub chain: String,
    pub key: String,
}

impl Default for Authority {
    fn default() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&key).unwrap();
        let (der, pem) = (certificate.der().clone(), certificate.pem());
        Self { issuer: Issuer::new(params, key), certificate: der, pem }
    }
}

impl Authority {
    /// A certificate for these hosts, with an ECDSA key.
    pub fn issue(&self, hosts: &[&str]) -> Issued {
        self.issue_for(hosts, &KeyPair::generate().unwrap())
    }

    /// The same with an RSA key.
    pub fn issue_rsa(&self, hosts: &[&str]) -> Issued {
        self.issue_for(hosts, &KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048).unwrap())
    }

    fn issue_for(&self, hosts: &[&str], key: &KeyPair) -> Issued {
        let hosts: Vec<String> = hosts.iter().map(|host| (*host).to_owned()).collect();
        let certificate = CertificateParams::new(hosts).unwrap().signed_by(key, &self.issuer).unwrap();
        Issued { chain: certificate.pem(), key: key.serialize_pem() }
    }

    /// What a client is configured with that trusts this authority.
    pub fn client(&self, versions: &[&'static SupportedProtocolVersion]) -> ClientConfig {
        self.client_with(versions, None)
    }

    /// The same with a certificate of its own.
    pub fn client_with(&self, versions: &[&'static SupportedProtocolVersion], own: Option<&Issued>) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.clone()).unwrap();
        let builder = ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(roots);
        match own {
            None => builder.with_no_client_auth(),
            Some(own) => builder.with_client_auth_cert(own.chain(), own.key()).unwrap(),
        }
    }
}

impl Issued {
    pub fn chain(&self) -> Vec<CertificateDer<'static>> {
        CertificateDer::pem_slice_iter(self.chain.as_bytes()).map(Result::unwrap).collect()
    }

    pub fn key(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::from_pem_slice(self.key.as_bytes()).unwrap()
    }

    pub fn model(&self) -> model::Certificate {
        model::Certificate { chain: self.chain(), key: Arc::new(self.key()) }
    }
}

/// TLS with these certificates and Envoy's defaults, to be changed by the scenario.
pub fn tls(certificates: &[&Issued]) -> model::DownstreamTls {
    model::DownstreamTls {
        certificates: certificates.iter().map(|issued| issued.model()).collect(),
        tls12: true,
        tls13: true,
        cipher_suites: Vec::new(),
        curves: Vec::new(),
        alpn: Vec::new(),
        tickets: model::TicketPolicy::Shared,
        stateful_resumption: true,
        session_timeout: Duration::from_secs(7200),
        require_sni: false,
        full_scan: false,
        client_order: false,
        clients: None,
    }
}

/// The listener with TLS on its only filter chain.
pub fn secured(mut listener: model::Listener, tls: model::DownstreamTls) -> model::Listener {
    let mut chain = (*listener.filter_chains[0]).clone();
    chain.tls = Some(Arc::new(tls));
    listener.filter_chains = vec![Arc::new(chain)];
    listener
}

/// A client's connection over TLS. It never tries again.
pub struct Secure {
    pub wire: Wire<StreamOwned<ClientConnection, TcpStream>>,
}

impl Secure {
    /// Connects; the handshake is done when this returns.
    #[track_caller]
    pub fn connect(address: SocketAddr, config: &Arc<ClientConfig>, name: &str) -> Self {
        Self::try_connect(address, config, name).unwrap()
    }

    /// The same, or what went wrong.
    pub fn try_connect(address: SocketAddr, config: &Arc<ClientConfig>, name: &str) -> io::Result<Self> {
        let mut socket = TcpStream::connect(address)?;
        socket.set_read_timeout(Some(super::PATIENCE))?;
        socket.set_write_timeout(Some(super::PATIENCE))?;
        socket.set_nodelay(true)?;
        let name = ServerName::try_from(name.to_owned()).unwrap();
        let mut session = ClientConnection::new(config.clone(), name).map_err(io::Error::other)?;
        while session.is_handshaking() {
            session.complete_io(&mut socket)?;
        }
        Ok(Self { wire: Wire::over(StreamOwned::new(session, socket)) })
    }

    pub fn session(&self) -> &ClientConnection {
        &self.wire.socket.conn
    }

    /// The certificate that the server showed.
    pub fn shown(&self) -> CertificateDer<'static> {
        self.session().peer_certificates().unwrap()[0].clone().into_owned()
    }

    pub fn send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.wire.socket.write_all(bytes.as_ref())?;
        self.wire.socket.flush()
    }

    /// The next response with its body.
    pub fn response(&mut self) -> io::Result<Message> {
        let mut message = self.wire.head()?.ok_or(io::ErrorKind::UnexpectedEof)?;
        self.wire.body(&mut message, true)?;
        Ok(message)
    }

    /// Sends a GET and waits for its response.
    #[track_caller]
    pub fn get(&mut self, path: &str) -> Message {
        self.send(format!("GET {path} HTTP/1.1\r\nhost: test\r\n\r\n")).unwrap();
        self.response().unwrap()
    }

    /// Says that nothing more is sent, by TLS and then by TCP.
    pub fn finish(&mut self) {
        let StreamOwned { conn, sock } = &mut self.wire.socket;
        conn.send_close_notify();
        while conn.wants_write() {
            conn.write_tls(sock).unwrap();
        }
        sock.shutdown(std::net::Shutdown::Write).unwrap();
    }

    /// Everything up to the end, which TLS must have announced.
    #[track_caller]
    pub fn rest(&mut self) -> Vec<u8> {
        let mut rest = self.wire.rest().unwrap();
        // An end without `close_notify` is an error of rustls' reader.
        self.wire.socket.read_to_end(&mut rest).unwrap();
        rest
    }
}
