//! What a handshake has made known of a connection: for headers, logs, matching and authorisation.

use aws_lc_rs::digest;
use rustls::pki_types::CertificateDer;
use rustls::{CipherSuite, NamedGroup, ProtocolVersion};
use x509_parser::extensions::GeneralName;

use crate::config::model::NameKind;
use crate::net::tls::TlsStream;

use super::context::Context;
use super::subject;

/// What was agreed on and shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Secured {
    /// The name that the client wanted to reach (SNI), in lower case.
    pub server_name: Option<String>,
    /// The protocol to be spoken (ALPN): what a connection manager with `codec_type: AUTO` goes by.
    pub protocol: Option<Box<[u8]>>,
    /// `TLSv1.3`.
    pub version: &'static str,
    /// The cipher suite, by its OpenSSL name.
    pub cipher: &'static str,
    /// The group of the key exchange; none where a session of TLS 1.2 was resumed.
    pub group: Option<&'static str>,
    /// The client's certificate, which was verified.
    pub peer: Option<Peer>,
    /// The URIs of our certificate, where the client has shown one: the side that it is shown to.
    pub uris: Vec<String>,
}

/// A client's certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// SHA-256 of the certificate.
    pub digest: [u8; 32],
    /// Its subject (RFC 2253).
    pub subject: String,
    /// Its alternative names, as they are written.
    pub names: Vec<(NameKind, String)>,
}

impl Secured {
    /// Of a connection whose handshake is done.
    pub(super) fn of(stream: &TlsStream, server_name: Option<String>, context: &Context) -> Self {
        let session = stream.session();
        let peer = session.peer_certificates().and_then(<[_]>::first).map(Peer::of);
        let uris = peer.as_ref().map(|_| context.uris(server_name.as_deref())).unwrap_or_default();
        Self {
            server_name,
            protocol: session.alpn_protocol().map(Into::into),
            version: match session.protocol_version() {
                Some(ProtocolVersion::TLSv1_2) => "TLSv1.2",
                _ => "TLSv1.3",
            },
            cipher: session.negotiated_cipher_suite().map_or("unknown", |suite| cipher(suite.suite())),
            group: session.negotiated_key_exchange_group().map(|group| match group.name() {
                NamedGroup::X25519 => "X25519",
                NamedGroup::secp256r1 => "P-256",
                NamedGroup::secp384r1 => "P-384",
                NamedGroup::X25519MLKEM768 => "X25519MLKEM768",
                _ => "unknown",
            }),
            peer,
            uris,
        }
    }
}

fn cipher(suite: CipherSuite) -> &'static str {
    match suite {
        CipherSuite::TLS13_AES_128_GCM_SHA256 => "TLS_AES_128_GCM_SHA256",
        CipherSuite::TLS13_AES_256_GCM_SHA384 => "TLS_AES_256_GCM_SHA384",
        CipherSuite::TLS13_CHACHA20_POLY1305_SHA256 => "TLS_CHACHA20_POLY1305_SHA256",
        CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256 => "ECDHE-ECDSA-AES128-GCM-SHA256",
        CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384 => "ECDHE-ECDSA-AES256-GCM-SHA384",
        CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256 => "ECDHE-ECDSA-CHACHA20-POLY1305",
        CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256 => "ECDHE-RSA-AES128-GCM-SHA256",
        CipherSuite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384 => "ECDHE-RSA-AES256-GCM-SHA384",
        CipherSuite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256 => "ECDHE-RSA-CHACHA20-POLY1305",
        _ => "unknown",
    }
}

impl Peer {
    /// Of a certificate; of one that cannot be read only the digest.
    pub(super) fn of(certificate: &CertificateDer<'_>) -> Self {
        let digest = sha256(certificate);
        match x509_parser::parse_x509_certificate(certificate) {
            Ok((_, parsed)) => Self { digest, subject: subject::rfc2253(parsed.subject()), names: names(&parsed) },
            Err(_) => Self { digest, subject: String::new(), names: Vec::new() },
        }
    }
}

/// The SHA-256 of some bytes.
pub(super) fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut out = [0; 32];
    out.copy_from_slice(digest::digest(&digest::SHA256, bytes).as_ref());
    out
}

/// The alternative names of a certificate.
pub(super) fn names(certificate: &x509_parser::certificate::X509Certificate<'_>) -> Vec<(NameKind, String)> {
    let Ok(Some(alternative)) = certificate.subject_alternative_name() else { return Vec::new() };
    let names = alternative.value.general_names.iter();
    names
        .filter_map(|name| match name {
            GeneralName::DNSName(name) => Some((NameKind::Dns, (*name).to_owned())),
            GeneralName::URI(name) => Some((NameKind::Uri, (*name).to_owned())),
            GeneralName::RFC822Name(name) => Some((NameKind::Email, (*name).to_owned())),
            GeneralName::IPAddress(bytes) => Some((NameKind::IpAddress, address(bytes)?)),
            _ => None,
        })
        .collect()
}

fn address(bytes: &[u8]) -> Option<String> {
    let v4 = <[u8; 4]>::try_from(bytes).map(std::net::IpAddr::from);
    let v6 = <[u8; 16]>::try_from(bytes).map(std::net::IpAddr::from);
    v4.or(v6).ok().map(|address| address.to_string())
}
