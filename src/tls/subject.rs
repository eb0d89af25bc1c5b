//! Names of certificate subjects as OpenSSL writes them (RFC 2253).

use std::fmt::Write;

use x509_parser::objects::{oid_registry, oid2abbrev};
use x509_parser::x509::X509Name;

/// The last part first, `,` between, what could be mistaken escaped, what is not ASCII as `\C3`.
pub(super) fn rfc2253(name: &X509Name<'_>) -> String {
    let mut parts: Vec<String> = Vec::new();
    for set in name.iter() {
        let attributes: Vec<String> = set
            .iter()
            .map(|attribute| {
                let oid = attribute.attr_type();
                let label = oid2abbrev(oid, oid_registry()).map_or_else(|_| oid.to_id_string(), label);
                format!("{label}={}", escaped(attribute.as_slice()))
            })
            .collect();
        parts.push(attributes.join("+"));
    }
    parts.reverse();
    parts.join(",")
}

/// OpenSSL's short name where the registry has another.
fn label(short: &str) -> String {
    match short {
        "Email" => "emailAddress",
        "S" => "ST",
        other => other,
    }
    .to_owned()
}

fn escaped(value: &[u8]) -> String {
    let mut out = String::with_capacity(value.len());
    for (at, byte) in value.iter().enumerate() {
        let edge = at == 0 && matches!(byte, b'#' | b' ') || at + 1 == value.len() && *byte == b' ';
        if !byte.is_ascii_graphic() && *byte != b' ' {
            // A text takes everything.
            let _ = write!(out, "\\{byte:02X}");
            continue;
        }
        if edge || matches!(byte, b',' | b'+' | b'"' | b'\\' | b'<' | b'>' | b';') {
            out.push('\\');
        }
        out.push(char::from(*byte));
    }
    out
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DnType, KeyPair};

    use super::*;

    #[test]
    fn subjects_are_written_backwards_and_cannot_be_mistaken() {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CountryName, "DE");
        params.distinguished_name.push(DnType::OrganizationName, "Acme, Inc.");
        params.distinguished_name.push(DnType::StateOrProvinceName, "X");
        params.distinguished_name.push(DnType::CommonName, " #sp \\ü<>;\"+");
        let certificate = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
        let (_, parsed) = x509_parser::parse_x509_certificate(certificate.der()).unwrap();
        let expected = "CN=\\ #sp \\\\\\C3\\BC\\<\\>\\;\\\"\\+,ST=X,O=Acme\\, Inc.,C=DE";
        assert_eq!(rfc2253(parsed.subject()), expected);
        assert_eq!(escaped(b"#a "), "\\#a\\ ");
    }
}
