//! `x-forwarded-client-cert`: what the upstream hears of a client that has shown a certificate.

use bytes::Bytes;
use http::HeaderValue;

use super::Rules;
use super::names::X_FORWARDED_CLIENT_CERT;
use crate::codec::Headers;
use crate::config::model::{ClientCertRules, ForwardClientCert, NameKind};
use crate::tls::{Peer, Secured};

/// Whether what a client says of certificates goes on; `mutual`: it has shown one itself.
pub(super) fn passes(rules: &ClientCertRules, mutual: bool) -> bool {
    match rules.mode {
        ForwardClientCert::Sanitize | ForwardClientCert::SanitizeSet => false,
        ForwardClientCert::ForwardOnly | ForwardClientCert::AppendForward => mutual,
        ForwardClientCert::AlwaysForwardOnly => true,
    }
}

/// Adds who the client is, behind what has passed.
pub fn announce_certificate(headers: &mut Headers, rules: &Rules, secured: Option<&Secured>) {
    if !matches!(rules.client_cert.mode, ForwardClientCert::AppendForward | ForwardClientCert::SanitizeSet) {
        return;
    }
    let Some((secured, peer)) = secured.and_then(|secured| Some((secured, secured.peer.as_ref()?))) else { return };
    let mut text = Vec::new();
    for value in headers.get_all(&X_FORWARDED_CLIENT_CERT) {
        text.extend_from_slice(value.as_bytes());
        text.push(b',');
    }
    text.extend_from_slice(element(&rules.client_cert, &secured.uris, peer).as_bytes());
    match HeaderValue::from_maybe_shared(Bytes::from(text)) {
        Ok(value) => headers.set(X_FORWARDED_CLIENT_CERT.clone(), value),
        // A certificate with names that no header can carry: better nothing than half of it.
        Err(_) => {
            headers.remove(&X_FORWARDED_CLIENT_CERT);
        }
    }
}

fn element(rules: &ClientCertRules, own: &[String], peer: &Peer) -> String {
    let mut parts: Vec<String> = own.iter().map(|uri| format!("By={uri}")).collect();
    let hash: String = peer.digest.iter().map(|byte| format!("{byte:02x}")).collect();
    parts.push(format!("Hash={hash}"));
    if rules.subject {
        parts.push(format!("Subject=\"{}\"", peer.subject));
    }
    let names = |kind| peer.names.iter().filter(move |name| name.0 == kind).map(|name| &name.1);
    if rules.uri {
        let before = parts.len();
        parts.extend(names(NameKind::Uri).map(|uri| format!("URI={uri}")));
        if parts.len() == before {
            parts.push("URI=".to_owned());
        }
    }
    if rules.dns {
        parts.extend(names(NameKind::Dns).map(|name| format!("DNS={name}")));
    }
    parts.join(";")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_element_is_as_envoy_writes_it() {
        let name = |kind, name: &str| (kind, name.to_owned());
        let peer = Peer {
            digest: [0xab; 32],
            subject: "CN=c,O=Acme\\, Inc.".to_owned(),
            names: vec![
                name(NameKind::Dns, "Cli.example"),
                name(NameKind::Uri, "spiffe://c/x"),
                name(NameKind::Dns, "two.example"),
                name(NameKind::Email, "q@r"),
                name(NameKind::Uri, "http://h/a"),
            ],
        };
        let own = ["spiffe://s/a".to_owned(), "spiffe://s/b".to_owned()];
        let all = ClientCertRules { subject: true, uri: true, dns: true, ..ClientCertRules::default() };
        let hash = "ab".repeat(32);
        assert_eq!(
            element(&all, &own, &peer),
            format!(
                "By=spiffe://s/a;By=spiffe://s/b;Hash={hash};Subject=\"CN=c,O=Acme\\, Inc.\";URI=spiffe://c/x;URI=http://h/a;\
                 DNS=Cli.example;DNS=two.example"
            )
        );
        assert_eq!(element(&ClientCertRules::default(), &[], &peer), format!("Hash={hash}"));
        let bare = Peer { names: Vec::new(), subject: String::new(), ..peer };
        assert_eq!(element(&all, &[], &bare), format!("Hash={hash};Subject=\"\";URI="));
    }
}
