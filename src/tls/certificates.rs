//! Which of a context's certificates a client gets.

use std::collections::HashMap;
use std::sync::Arc;

use rustls::SignatureAlgorithm;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use super::secured;
use crate::config::model::{Certificate, NameKind};

/// By name, then by what the client can verify: ECDSA before RSA.
#[derive(Debug)]
pub(super) struct Resolver {
    /// In order of the file, at least one.
    keys: Vec<Arc<CertifiedKey>>,
    /// A name, or `*.` and a name, to those that have it.
    by_name: HashMap<String, Vec<usize>>,
    /// A client that names nobody gets none.
    require_name: bool,
    /// A name that none has gets the best, not the first.
    full_scan: bool,
}

impl Resolver {
    pub(super) fn new(
        certificates: &[Certificate],
        provider: &rustls::crypto::CryptoProvider,
        require_name: bool,
        full_scan: bool,
    ) -> Result<Self, rustls::Error> {
        let mut keys = Vec::with_capacity(certificates.len());
        let mut by_name: HashMap<String, Vec<usize>> = HashMap::new();
        for (at, certificate) in certificates.iter().enumerate() {
            let key = provider.key_provider.load_private_key(certificate.key.clone_key())?;
            keys.push(Arc::new(CertifiedKey::new(certificate.chain.clone(), key)));
            for name in hosts(certificate) {
                by_name.entry(name).or_default().push(at);
            }
        }
        Ok(Self { keys, by_name, require_name, full_scan })
    }

    fn find(&self, name: Option<&str>, can_verify: impl Fn(&CertifiedKey) -> bool) -> Option<&Arc<CertifiedKey>> {
        let best = |among: &mut dyn Iterator<Item = &usize>| {
            let usable = among.filter_map(|at| self.keys.get(*at)).filter(|key| can_verify(key));
            // Of equals the first of the file.
            usable.min_by_key(|key| key.key.algorithm() != SignatureAlgorithm::ECDSA)
        };
        let all: Vec<usize> = (0..self.keys.len()).collect();
        let Some(name) = name else {
            return if self.require_name { None } else { best(&mut all.iter()).or(self.keys.first()) };
        };
        let below = || name.split_once('.').map(|(_, rest)| format!("*.{rest}"));
        let named = self.by_name.get(name).or_else(|| self.by_name.get(&below()?));
        match named {
            Some(named) => best(&mut named.iter()).or(self.keys.first()),
            None if self.full_scan => best(&mut all.iter()).or(self.keys.first()),
            None => self.keys.first().filter(|first| can_verify(first)).or(best(&mut all.iter())).or(self.keys.first()),
        }
    }
}

impl Resolver {
    /// The URIs of the certificate that a client gets who asks for this name. Of several for one name, by kind of key, they are taken to be
    /// the same.
    pub(super) fn uris(&self, name: Option<&str>) -> Vec<String> {
        let certificate = self.find(name, |_| true).and_then(|key| key.cert.first());
        match certificate.map(|certificate| x509_parser::parse_x509_certificate(certificate)) {
            Some(Ok((_, parsed))) => named(&parsed, NameKind::Uri).collect(),
            Some(Err(_)) | None => Vec::new(),
        }
    }
}

impl ResolvesServerCert for Resolver {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let name = hello.server_name().map(str::to_ascii_lowercase);
        let schemes = hello.signature_schemes();
        self.find(name.as_deref(), |key| key.key.choose_scheme(schemes).is_some()).cloned()
    }
}

/// The alternative names of a kind.
fn named(certificate: &x509_parser::certificate::X509Certificate<'_>, kind: NameKind) -> impl Iterator<Item = String> {
    secured::names(certificate).into_iter().filter(move |name| name.0 == kind).map(|name| name.1)
}

/// The hosts that a certificate is for: its alternative names, or where it has none its common name.
pub(super) fn hosts(certificate: &Certificate) -> Vec<String> {
    let Some(Ok((_, parsed))) =
        certificate.chain.first().map(|certificate| x509_parser::parse_x509_certificate(certificate))
    else {
        return Vec::new();
    };
    let hosts: Vec<String> = named(&parsed, NameKind::Dns).map(|name| name.to_ascii_lowercase()).collect();
    if !hosts.is_empty() {
        return hosts;
    }
    let common = parsed.subject().iter_common_name().filter_map(|name| name.as_str().ok());
    common.map(str::to_ascii_lowercase).collect()
}
