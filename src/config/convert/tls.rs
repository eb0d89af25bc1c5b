//! `envoy.extensions.transport_sockets.tls.v3`: certificates are read and tried here, so that what a model holds can be served.

use std::sync::Arc;
use std::time::Duration;

use envoy_types::pb::envoy::config::core::v3 as core;
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3 as api;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use rustls::{CipherSuite, NamedGroup};

use super::context::Context;
use super::{route, tls_clients, values};
use crate::config::model::{Certificate, DownstreamTls, TicketPolicy};

/// Longest file of certificates or keys, in bytes.
pub(super) const LONGEST: u32 = 4 << 20;
/// Length of a configured ticket key: name, HMAC key, AES key.
const TICKET_KEY: usize = 80;
/// How long BoringSSL has a session resumed.
const SESSION_TIMEOUT: Duration = Duration::from_secs(2 * 3600);
/// How long TLS 1.3 lets a ticket live at most (RFC 8446, section 4.6.1).
const LONGEST_SESSION: Duration = Duration::from_secs(7 * 24 * 3600);

pub(super) fn downstream(cx: &mut Context, message: api::DownstreamTlsContext) -> Option<DownstreamTls> {
    let api::DownstreamTlsContext {
        common_tls_context,
        require_client_certificate,
        require_sni,
        disable_stateful_session_resumption,
        session_timeout,
        ocsp_staple_policy,
        full_scan_certs_on_sni_mismatch,
        prefer_client_ciphers,
        session_ticket_keys_type,
    } = message;
    refuse!(cx; ocsp_staple_policy);
    let required = values::is_true(&require_client_certificate);
    let session_timeout = values::duration(cx, "session_timeout", &session_timeout).unwrap_or(SESSION_TIMEOUT);
    let tickets = tickets(cx, session_ticket_keys_type);
    let common = cx.at("common_tls_context", |cx| common(cx, common_tls_context.unwrap_or_default(), required));
    let Common { certificates, params, alpn, clients } = common?;
    Some(DownstreamTls {
        certificates,
        tls12: params.tls12,
        tls13: params.tls13,
        cipher_suites: params.cipher_suites,
        curves: params.curves,
        alpn,
        tickets: tickets?,
        stateful_resumption: !disable_stateful_session_resumption,
        session_timeout: session_timeout.min(LONGEST_SESSION),
        require_sni: values::is_true(&require_sni),
        full_scan: values::is_true(&full_scan_certs_on_sni_mismatch),
        client_order: prefer_client_ciphers,
        clients,
    })
}

struct Common {
    certificates: Vec<Certificate>,
    params: Params,
    alpn: Vec<String>,
    clients: Option<crate::config::model::ClientValidation>,
}

fn common(cx: &mut Context, message: api::CommonTlsContext, required: bool) -> Option<Common> {
    #[allow(deprecated, reason = "that it is deprecated is said elsewhere; here it must be refused")]
    let api::CommonTlsContext {
        tls_params,
        tls_certificates,
        tls_certificate_sds_secret_configs,
        tls_certificate_provider_instance,
        custom_tls_certificate_selector,
        tls_certificate_certificate_provider,
        tls_certificate_certificate_provider_instance,
        alpn_protocols,
        custom_handshaker,
        key_log,
        validation_context_type,
    } = message;
    let elsewhere = !tls_certificate_sds_secret_configs.is_empty() || tls_certificate_provider_instance.is_some();
    refuse!(cx; tls_certificate_sds_secret_configs, tls_certificate_provider_instance, custom_tls_certificate_selector,
        tls_certificate_certificate_provider, tls_certificate_certificate_provider_instance, custom_handshaker, key_log);
    let params = cx.at("tls_params", |cx| params(cx, tls_params.unwrap_or_default()));
    let count = tls_certificates.len();
    let certificates = cx.each("tls_certificates", tls_certificates, certificate);
    if count == 0 && !elsewhere {
        cx.error_at("tls_certificates", "there are none: a server cannot do without");
    }
    let alpn = cx.each("alpn_protocols", alpn_protocols, |cx, name| {
        if name.is_empty() || name.len() > 255 {
            cx.error("the name of a protocol has 1 to 255 bytes");
        }
        Some(name)
    });
    let clients = tls_clients::convert(cx, validation_context_type, required);
    (certificates.len() == count).then_some(Common { certificates, params: params?, alpn, clients: clients? })
}

struct Params {
    tls12: bool,
    tls13: bool,
    cipher_suites: Vec<CipherSuite>,
    curves: Vec<NamedGroup>,
}

fn params(cx: &mut Context, message: api::TlsParameters) -> Option<Params> {
    use api::tls_parameters::TlsProtocol;
    let api::TlsParameters {
        tls_minimum_protocol_version: least,
        tls_maximum_protocol_version: most,
        cipher_suites,
        ecdh_curves,
        signature_algorithms,
        compliance_policies,
    } = message;
    refuse!(cx; signature_algorithms, compliance_policies);
    let mut version = |field, value: i32, default: i32| match TlsProtocol::try_from(value) {
        Ok(TlsProtocol::TlsAuto) | Err(_) => default,
        Ok(TlsProtocol::TlSv12) => 2,
        Ok(TlsProtocol::TlSv13) => 3,
        Ok(TlsProtocol::TlSv10 | TlsProtocol::TlSv11) => {
            cx.error_at(field, "TLS below 1.2 is not spoken");
            default
        }
    };
    let least = version("tls_minimum_protocol_version", least, 2);
    let most = version("tls_maximum_protocol_version", most, 3);
    if least > most {
        cx.error_at("tls_minimum_protocol_version", "is above tls_maximum_protocol_version");
    }
    let listed = cipher_suites.len();
    let suites: Vec<Vec<CipherSuite>> = cx.each("cipher_suites", cipher_suites, |cx, text| suites(cx, &text));
    let wanted = ecdh_curves.len();
    let curves = cx.each("ecdh_curves", ecdh_curves, |cx, name| curve(cx, &name));
    let complete = suites.len() == listed && curves.len() == wanted && least <= most;
    complete.then(|| Params { tls12: least == 2, tls13: most == 3, cipher_suites: suites.concat(), curves })
}

/// A suite of TLS 1.2, or several that are equal: `[A|B]`.
fn suites(cx: &mut Context, text: &str) -> Option<Vec<CipherSuite>> {
    let names = text.trim_start_matches('[').trim_end_matches(']').split('|');
    let suites = names.map(|name| match name {
        "ECDHE-ECDSA-AES128-GCM-SHA256" => Some(CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256),
        "ECDHE-ECDSA-AES256-GCM-SHA384" => Some(CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384),
        "ECDHE-ECDSA-CHACHA20-POLY1305" => Some(CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256),
        "ECDHE-RSA-AES128-GCM-SHA256" => Some(CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256),
        "ECDHE-RSA-AES256-GCM-SHA384" => Some(CipherSuite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384),
        "ECDHE-RSA-CHACHA20-POLY1305" => Some(CipherSuite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256),
        other => {
            cx.error(format!(
                "the cipher suite {other} is not spoken: of TLS 1.2 there are ECDHE-ECDSA and ECDHE-RSA with AES128-GCM-SHA256, \
                 AES256-GCM-SHA384 and CHACHA20-POLY1305"
            ));
            None
        }
    });
    suites.collect()
}

fn curve(cx: &mut Context, name: &str) -> Option<NamedGroup> {
    match name {
        "X25519" => Some(NamedGroup::X25519),
        "P-256" => Some(NamedGroup::secp256r1),
        "P-384" => Some(NamedGroup::secp384r1),
        "X25519MLKEM768" => Some(NamedGroup::X25519MLKEM768),
        other => {
            cx.error(format!("the curve {other} is not spoken; there are X25519, P-256, P-384 and X25519MLKEM768"));
            None
        }
    }
}

fn certificate(cx: &mut Context, message: api::TlsCertificate) -> Option<Certificate> {
    let api::TlsCertificate {
        certificate_chain,
        private_key,
        pkcs12,
        watched_directory,
        private_key_provider,
        password,
        ocsp_staple,
        signed_certificate_timestamp,
        tls_params,
    } = message;
    refuse!(cx; pkcs12, private_key_provider, password, ocsp_staple, signed_certificate_timestamp, tls_params);
    ignore!(cx; watched_directory);
    let chain = source(cx, "certificate_chain", certificate_chain, certificates);
    let key = source(cx, "private_key", private_key, |cx, bytes| {
        PrivateKeyDer::from_pem_slice(bytes)
            .map_err(|error| {
                cx.error(format!("holds no private key in PEM (PKCS#8, PKCS#1 or SEC1, not encrypted): {error}"))
            })
            .ok()
    });
    let (chain, key) = (chain?, key?);
    let signing = aws_lc_rs::default_provider().key_provider.load_private_key(key.clone_key());
    let signing = signing.map_err(|error| cx.error_at("private_key", format!("is of no use: {error}"))).ok()?;
    let certified = CertifiedKey::new(chain.clone(), signing);
    if let Err(error) = certified.keys_match() {
        let text = match error {
            rustls::Error::InconsistentKeys(_) => "is not the key of the certificate".to_owned(),
            error => format!("cannot be compared with the certificate: {error}"),
        };
        cx.error_at("private_key", text);
        return None;
    }
    Some(Certificate { chain, key: Arc::new(key) })
}

/// Every certificate of a PEM text; one at least, and each is one.
pub(super) fn certificates(cx: &mut Context, bytes: &[u8]) -> Option<Vec<CertificateDer<'static>>> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(bytes).collect();
    let found = found.map_err(|error| cx.error(format!("is not PEM: {error}"))).ok()?;
    if found.is_empty() {
        cx.error("holds no certificate in PEM");
        return None;
    }
    for (at, certificate) in found.iter().enumerate() {
        if let Err(error) = x509_parser::parse_x509_certificate(certificate) {
            cx.error(format!("certificate {} of {} cannot be read: {error}", at + 1, found.len()));
            return None;
        }
    }
    Some(found)
}

/// Has `work` done with what a data source that must be there holds.
pub(super) fn source<T>(
    cx: &mut Context,
    field: &'static str,
    source: Option<core::DataSource>,
    work: impl FnOnce(&mut Context, &[u8]) -> Option<T>,
) -> Option<T> {
    cx.at(field, |cx| {
        let Some(source) = source else {
            cx.error("is required");
            return None;
        };
        let bytes = route::data(cx, source, LONGEST)?;
        if bytes.len() > LONGEST as usize {
            cx.error(format!("is longer than {} MiB", LONGEST >> 20));
            return None;
        }
        work(cx, &bytes)
    })
}

fn tickets(cx: &mut Context, keys: Option<api::downstream_tls_context::SessionTicketKeysType>) -> Option<TicketPolicy> {
    use api::downstream_tls_context::SessionTicketKeysType;
    match keys {
        None | Some(SessionTicketKeysType::DisableStatelessSessionResumption(false)) => Some(TicketPolicy::Shared),
        Some(SessionTicketKeysType::DisableStatelessSessionResumption(true)) => Some(TicketPolicy::Off),
        Some(SessionTicketKeysType::SessionTicketKeysSdsSecretConfig(_)) => {
            cx.refuse("session_ticket_keys_sds_secret_config");
            None
        }
        Some(SessionTicketKeysType::SessionTicketKeys(api::TlsSessionTicketKeys { keys })) => {
            let count = keys.len();
            let keys = cx.at("session_ticket_keys", |cx| cx.each("keys", keys, ticket_key));
            (keys.len() == count).then_some(TicketPolicy::Configured(keys))
        }
    }
}

fn ticket_key(cx: &mut Context, source: core::DataSource) -> Option<[u8; TICKET_KEY]> {
    let bytes = route::data(cx, source, LONGEST)?;
    let key = <[u8; TICKET_KEY]>::try_from(&*bytes);
    key.map_err(|_| cx.error(format!("a key has {TICKET_KEY} bytes, this one {}", bytes.len()))).ok()
}
