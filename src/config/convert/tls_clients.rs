//! `CertificateValidationContext`: what a client's certificate must be.

use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3 as api;
use envoy_types::pb::envoy::r#type::matcher::v3 as matcher;
use rustls::pki_types::CertificateRevocationListDer;
use rustls::pki_types::pem::PemObject;

use super::context::Context;
use super::tls;
use crate::config::model::{ClientValidation, NameKind, NameMatcher, NameRule};

/// `Some(None)`: no certificate is asked for.
pub(super) fn convert(
    cx: &mut Context,
    message: Option<api::common_tls_context::ValidationContextType>,
    required: bool,
) -> Option<Option<ClientValidation>> {
    use api::common_tls_context::ValidationContextType;
    let unsupported = match message {
        None if required => {
            cx.error_at("validation_context", "client certificates are required, but nothing says which are good");
            return None;
        }
        None => return Some(None),
        Some(ValidationContextType::ValidationContext(context)) => {
            return cx.at("validation_context", |cx| validation(cx, context, required)).map(Some);
        }
        Some(ValidationContextType::ValidationContextSdsSecretConfig(_)) => "validation_context_sds_secret_config",
        Some(ValidationContextType::CombinedValidationContext(_)) => "combined_validation_context",
        Some(_) => "validation_context_certificate_provider",
    };
    cx.refuse(unsupported);
    None
}

fn validation(
    cx: &mut Context,
    message: api::CertificateValidationContext,
    required: bool,
) -> Option<ClientValidation> {
    #[allow(deprecated, reason = "that it is deprecated is said elsewhere; here it must be refused")]
    let api::CertificateValidationContext {
        trusted_ca,
        ca_certificate_provider_instance,
        system_root_certs,
        watched_directory,
        verify_certificate_spki,
        verify_certificate_hash,
        match_typed_subject_alt_names,
        match_subject_alt_names,
        require_signed_certificate_timestamp,
        crl,
        allow_expired_certificate,
        trust_chain_verification,
        custom_validator_config,
        only_verify_leaf_cert_crl,
        max_verify_depth,
        suppress_client_ca_list,
    } = message;
    refuse!(cx; ca_certificate_provider_instance, system_root_certs, match_subject_alt_names,
        require_signed_certificate_timestamp, allow_expired_certificate, trust_chain_verification,
        custom_validator_config, max_verify_depth);
    ignore!(cx; watched_directory);
    let public_keys = cx.each("verify_certificate_spki", verify_certificate_spki, |cx, text| base64(cx, &text));
    let hashes = cx.each("verify_certificate_hash", verify_certificate_hash, |cx, text| hex(cx, &text));
    let wanted = match_typed_subject_alt_names.len();
    let names = cx.each("match_typed_subject_alt_names", match_typed_subject_alt_names, name);
    let revoked = match crl {
        None => Vec::new(),
        Some(crl) => tls::source(cx, "crl", Some(crl), |cx, bytes| {
            let lists: Result<Vec<_>, _> = CertificateRevocationListDer::pem_slice_iter(bytes).collect();
            let lists = lists.map_err(|error| cx.error(format!("is not PEM: {error}"))).ok()?;
            if lists.is_empty() {
                cx.error("holds no revocation list in PEM");
            }
            Some(lists)
        })?,
    };
    // Without an authority any certificate would do, which nobody means who asks for one.
    let trusted = tls::source(cx, "trusted_ca", trusted_ca, tls::certificates)?;
    (names.len() == wanted).then_some(ClientValidation {
        required,
        trusted,
        revoked,
        leaf_crl_only: only_verify_leaf_cert_crl,
        hashes,
        public_keys,
        names,
        hide_authorities: suppress_client_ca_list,
    })
}

fn name(cx: &mut Context, message: api::SubjectAltNameMatcher) -> Option<NameMatcher> {
    use api::subject_alt_name_matcher::SanType;
    use matcher::string_matcher::MatchPattern;
    let api::SubjectAltNameMatcher { san_type, matcher, oid } = message;
    refuse!(cx; oid);
    let kind = match SanType::try_from(san_type) {
        Ok(SanType::Email) => NameKind::Email,
        Ok(SanType::Dns) => NameKind::Dns,
        Ok(SanType::Uri) => NameKind::Uri,
        Ok(SanType::IpAddress) => NameKind::IpAddress,
        _ => {
            cx.refuse("san_type");
            return None;
        }
    };
    let matcher::StringMatcher { ignore_case, match_pattern } = matcher.unwrap_or_default();
    let (rule, text) = match match_pattern? {
        MatchPattern::Exact(text) => (NameRule::Exact, text),
        MatchPattern::Prefix(text) => (NameRule::Prefix, text),
        MatchPattern::Suffix(text) => (NameRule::Suffix, text),
        MatchPattern::Contains(text) => (NameRule::Contains, text),
        MatchPattern::SafeRegex(_) => return cx.at("matcher", |cx| refused(cx, "safe_regex")),
        MatchPattern::Custom(_) => return cx.at("matcher", |cx| refused(cx, "custom")),
    };
    let text = if ignore_case || kind == NameKind::Dns { text.to_ascii_lowercase() } else { text };
    Some(NameMatcher { kind, rule, text, ignore_case })
}

fn refused<T>(cx: &mut Context, field: &'static str) -> Option<T> {
    cx.refuse(field);
    None
}

/// A SHA-256 in hexadecimal, with or without colons.
fn hex(cx: &mut Context, text: &str) -> Option<[u8; 32]> {
    let digits: Vec<u8> = text.bytes().filter(|byte| *byte != b':').collect();
    let pair = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    let bytes: Option<Vec<u8>> = digits.chunks(2).map(pair).collect();
    let digest = bytes.and_then(|bytes| <[u8; 32]>::try_from(bytes).ok());
    if digest.is_none() {
        cx.error("is not a SHA-256 in hexadecimal");
    }
    digest
}

/// A SHA-256 in base64.
fn base64(cx: &mut Context, text: &str) -> Option<[u8; 32]> {
    let digest = crate::config::encode::from_base64(text).ok().and_then(|bytes| <[u8; 32]>::try_from(bytes).ok());
    if digest.is_none() {
        cx.error("is not a SHA-256 in base64");
    }
    digest
}
