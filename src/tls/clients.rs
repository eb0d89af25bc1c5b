//! Whose certificates are good: the chain to an authority and what was revoked is webpki's to judge, the operator's further wishes are judged here.

use std::sync::Arc;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, Error, RootCertStore, SignatureScheme};

use super::secured::{names, sha256};
use crate::config::model::{ClientValidation, NameKind, NameMatcher, NameRule};

/// webpki's verifier, and the wishes.
#[derive(Debug)]
pub(super) struct Verifier {
    chain: Arc<dyn ClientCertVerifier>,
    wishes: ClientValidation,
}

impl Verifier {
    pub(super) fn build(wishes: &ClientValidation, provider: &Arc<CryptoProvider>) -> Result<Self, Error> {
        let mut roots = RootCertStore::empty();
        for certificate in &wishes.trusted {
            roots.add(certificate.clone())?;
        }
        let mut builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone())
            .with_crls(wishes.revoked.iter().cloned());
        if !wishes.required {
            builder = builder.allow_unauthenticated();
        }
        if wishes.leaf_crl_only {
            builder = builder.only_check_end_entity_revocation();
        }
        if wishes.hide_authorities {
            builder = builder.clear_root_hint_subjects();
        }
        let chain = builder.build().map_err(|error| Error::General(error.to_string()))?;
        Ok(Self { chain, wishes: wishes.clone() })
    }

    fn grant(&self, certificate: &CertificateDer<'_>) -> Result<(), Error> {
        let ClientValidation { hashes, public_keys, names: wanted, .. } = &self.wishes;
        if hashes.is_empty() && public_keys.is_empty() && wanted.is_empty() {
            return Ok(());
        }
        let (_, parsed) = x509_parser::parse_x509_certificate(certificate)
            .map_err(|_| Error::InvalidCertificate(CertificateError::BadEncoding))?;
        let pinned = hashes.is_empty() && public_keys.is_empty()
            || hashes.contains(&sha256(certificate))
            || public_keys.contains(&sha256(parsed.public_key().raw));
        if !pinned {
            return Err(Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure));
        }
        let mut shown = names(&parsed);
        // Hosts are matched without case.
        shown.iter_mut().filter(|name| name.0 == NameKind::Dns).for_each(|name| name.1.make_ascii_lowercase());
        if wanted.is_empty() || wanted.iter().any(|wanted| shown.iter().any(|(kind, name)| fits(wanted, *kind, name))) {
            return Ok(());
        }
        Err(Error::InvalidCertificate(CertificateError::NotValidForName))
    }
}

/// Does a name of a certificate fit?
pub(super) fn fits(wanted: &NameMatcher, kind: NameKind, name: &str) -> bool {
    if kind != wanted.kind {
        return false;
    }
    let folded;
    let name = if wanted.ignore_case {
        folded = name.to_ascii_lowercase();
        &folded
    } else {
        name
    };
    let text = wanted.text.as_str();
    match wanted.rule {
        NameRule::Exact if kind == NameKind::Dns && name.starts_with("*.") => {
            name == text || text.split_once('.').is_some_and(|(_, rest)| Some(rest) == name.strip_prefix("*."))
        }
        NameRule::Exact => name == text,
        NameRule::Prefix => name.starts_with(text),
        NameRule::Suffix => name.ends_with(text),
        NameRule::Contains => name.contains(text),
    }
}

impl ClientCertVerifier for Verifier {
    fn offer_client_auth(&self) -> bool {
        self.chain.offer_client_auth()
    }

    fn client_auth_mandatory(&self) -> bool {
        self.chain.client_auth_mandatory()
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.chain.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let verified = self.chain.verify_client_cert(certificate, intermediates, now)?;
        self.grant(certificate).map(|()| verified)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chain.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chain.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.chain.supported_verify_schemes()
    }
}
