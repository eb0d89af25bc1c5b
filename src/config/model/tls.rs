//! TLS towards clients.

use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};
use rustls::{CipherSuite, NamedGroup};

/// `envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext`. Files have been read, and fit together.
#[derive(Clone, Debug, PartialEq)]
pub struct DownstreamTls {
    /// `tls_certificates`, at least one.
    pub certificates: Vec<Certificate>,
    /// TLS 1.2 is spoken.
    pub tls12: bool,
    /// TLS 1.3 is spoken.
    pub tls13: bool,
    /// `cipher_suites`: those of TLS 1.2 in order; empty leaves the defaults.
    pub cipher_suites: Vec<CipherSuite>,
    /// `ecdh_curves` in order; empty leaves the defaults.
    pub curves: Vec<NamedGroup>,
    /// `alpn_protocols` in order.
    pub alpn: Vec<String>,
    /// `session_ticket_keys` and `disable_stateless_session_resumption`.
    pub tickets: TicketPolicy,
    /// Sessions of clients without tickets are remembered: not `disable_stateful_session_resumption`.
    pub stateful_resumption: bool,
    /// `session_timeout`: how long a session may be resumed; 2 h, as BoringSSL has it.
    pub session_timeout: Duration,
    /// `require_sni`.
    pub require_sni: bool,
    /// `full_scan_certs_on_sni_mismatch`: a name that no certificate has gets the best certificate, not the first one.
    pub full_scan: bool,
    /// `prefer_client_ciphers`.
    pub client_order: bool,
    /// `validation_context`: what a client's certificate must be; `None` asks for none.
    pub clients: Option<ClientValidation>,
}

/// A certificate with what it was issued through, and its key, which fits.
#[derive(Clone, Debug, PartialEq)]
pub struct Certificate {
    /// The certificate first.
    pub chain: Vec<CertificateDer<'static>>,
    /// Its key. Shown as nothing.
    pub key: Arc<PrivateKeyDer<'static>>,
}

/// Who has the keys of session tickets.
#[derive(Clone, PartialEq, Eq)]
pub enum TicketPolicy {
    /// This proxy: all epochs of a lineage share them.
    Shared,
    /// The operator: name, HMAC key and AES key, the first for new tickets.
    Configured(Vec<[u8; 80]>),
    /// Nobody: no tickets.
    Off,
}

impl std::fmt::Debug for TicketPolicy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Shared => f.write_str("Shared"),
            Self::Configured(keys) => write!(f, "Configured({} keys)", keys.len()),
            Self::Off => f.write_str("Off"),
        }
    }
}

/// `envoy.extensions.transport_sockets.tls.v3.CertificateValidationContext` for clients.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ClientValidation {
    /// `require_client_certificate`: a client without one is refused.
    pub required: bool,
    /// `trusted_ca`.
    pub trusted: Vec<CertificateDer<'static>>,
    /// `crl`.
    pub revoked: Vec<CertificateRevocationListDer<'static>>,
    /// `only_verify_leaf_cert_crl`.
    pub leaf_crl_only: bool,
    /// `verify_certificate_hash`: SHA-256 of the certificate; empty takes any.
    pub hashes: Vec<[u8; 32]>,
    /// `verify_certificate_spki`: SHA-256 of the public key; empty takes any.
    pub public_keys: Vec<[u8; 32]>,
    /// `match_typed_subject_alt_names`: one must match; empty takes any.
    pub names: Vec<NameMatcher>,
    /// `suppress_client_ca_list`.
    pub hide_authorities: bool,
}

/// `SubjectAltNameMatcher`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NameMatcher {
    /// Which names.
    pub kind: NameKind,
    /// How.
    pub rule: NameRule,
    /// What the rule says, in lower case where case is ignored.
    pub text: String,
    /// `ignore_case`.
    pub ignore_case: bool,
}

/// `SubjectAltNameMatcher.SanType`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NameKind {
    /// A mail address.
    Email,
    /// A host.
    Dns,
    /// A URI.
    Uri,
    /// An address.
    IpAddress,
}

/// The ways of `envoy.type.matcher.v3.StringMatcher` that are supported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NameRule {
    /// Exactly; of a host, a certificate's wildcard covers one label.
    Exact,
    /// The beginning.
    Prefix,
    /// The end.
    Suffix,
    /// Somewhere.
    Contains,
}
