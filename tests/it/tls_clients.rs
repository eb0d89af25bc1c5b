//! Clients that show certificates.

use std::sync::Arc;

use heirloom::config::model::{self, ClientValidation, NameKind, NameMatcher, NameRule};
use rustls::version::{TLS12, TLS13};

use crate::support::models::*;
use crate::support::origin::{Origin, ok};
use crate::support::proxy::Proxy;
use crate::support::tls::*;

const BOTH: &[&rustls::SupportedProtocolVersion] = &[&TLS13, &TLS12];

fn start(authority: &Authority, clients: ClientValidation) -> Proxy {
    let tls = model::DownstreamTls { clients: Some(clients), ..tls(&[&authority.issue(&["a.test"])]) };
    Proxy::start_with(secured(listener(manager(vec![direct("/", 200, "hello")])), tls), Vec::new(), &[])
}

fn served(proxy: &Proxy, authority: &Authority, own: Option<&Issued>) -> bool {
    BOTH.iter().all(|version| {
        let config = Arc::new(authority.client_with(&[version], own));
        // In TLS 1.3 a client learns of its refusal only when it reads.
        Secure::try_connect(proxy.address, &config, "a.test")
            .and_then(|mut secure| {
                secure.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n")?;
                secure.response()
            })
            .is_ok()
    })
}

fn trusting(authority: &Authority) -> ClientValidation {
    ClientValidation { required: true, trusted: vec![authority.certificate.clone()], ..ClientValidation::default() }
}

#[test]
fn only_whom_the_authority_knows_is_let_in() {
    let (authority, stranger) = (Authority::default(), Authority::default());
    let proxy = start(&authority, trusting(&authority));
    assert!(served(&proxy, &authority, Some(&authority.issue(&["client.test"]))));
    assert_eq!(proxy.counter("listener.test.ssl.no_certificate"), 0);
    assert!(!served(&proxy, &authority, None));
    proxy.await_counter("listener.test.ssl.fail_verify_no_cert", 1);
    assert!(!served(&proxy, &authority, Some(&stranger.issue(&["client.test"]))));
    proxy.await_counter("listener.test.ssl.fail_verify_error", 1);
    let optional = start(&authority, ClientValidation { required: false, ..trusting(&authority) });
    assert!(served(&optional, &authority, None));
    assert!(served(&optional, &authority, Some(&authority.issue(&["client.test"]))));
    assert!(!served(&optional, &authority, Some(&stranger.issue(&["client.test"]))));
}

#[test]
fn names_and_digests_are_asked_for() {
    let authority = Authority::default();
    let issued = authority.issue(&["one.client.test"]);
    let name = |rule, text: &str| {
        let names = vec![NameMatcher { kind: NameKind::Dns, rule, text: text.into(), ignore_case: false }];
        start(&authority, ClientValidation { names, ..trusting(&authority) })
    };
    assert!(served(&name(NameRule::Exact, "one.client.test"), &authority, Some(&issued)));
    assert!(served(&name(NameRule::Suffix, ".client.test"), &authority, Some(&issued)));
    let proxy = name(NameRule::Prefix, "two.");
    assert!(!served(&proxy, &authority, Some(&issued)));
    proxy.await_counter("listener.test.ssl.fail_verify_san", 1);
    let digest = |bytes: &[u8]| -> [u8; 32] {
        aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes).as_ref().try_into().unwrap()
    };
    let pinned = |hashes| start(&authority, ClientValidation { hashes, ..trusting(&authority) });
    assert!(served(&pinned(vec![digest(&issued.chain()[0])]), &authority, Some(&issued)));
    let proxy = pinned(vec![[0; 32]]);
    assert!(!served(&proxy, &authority, Some(&issued)));
    proxy.await_counter("listener.test.ssl.fail_verify_cert_hash", 1);
}

#[test]
fn the_upstream_hears_who_the_client_is() {
    use heirloom::config::model::{ClientCertRules, ForwardClientCert, HttpConnectionManager};
    const SAID: &str =
        "GET / HTTP/1.1\r\nhost: a\r\nx-forwarded-client-cert: By=me\r\nx-forwarded-client-cert: Hash=0\r\n\r\n";
    let authority = Authority::default();
    let own = authority.issue(&["Client.test", "two.test"]);
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &own.chain()[0]);
    let hash: String = digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    let set = format!("Hash={hash};Subject=\"CN=rcgen self signed cert\";URI=;DNS=Client.test;DNS=two.test");
    let origin = Origin::http(|request| ok(request.header("x-forwarded-client-cert").unwrap_or("-")));
    let both = "By=me,Hash=0";
    // mode, what is sent on for a client with a certificate, and for one without
    let rows = [
        (ForwardClientCert::Sanitize, "-".to_owned(), "-"),
        (ForwardClientCert::ForwardOnly, both.to_owned(), "-"),
        (ForwardClientCert::AppendForward, format!("{both},{set}"), "-"),
        (ForwardClientCert::SanitizeSet, set.clone(), "-"),
        (ForwardClientCert::AlwaysForwardOnly, both.to_owned(), both),
    ];
    for (mode, mutual, anonymous) in rows {
        let client_cert = ClientCertRules { mode, subject: true, uri: true, dns: true };
        let manager = HttpConnectionManager { client_cert, ..manager(vec![route("/", "origin")]) };
        let clients = ClientValidation { required: false, ..trusting(&authority) };
        let tls = model::DownstreamTls { clients: Some(clients), ..tls(&[&authority.issue(&["a.test"])]) };
        let listener = secured(listener(manager), tls);
        let proxy = Proxy::start_with(listener, vec![cluster("origin", &[origin.address])], &[]);
        let hears = |own: Option<&Issued>| {
            let mut client = Secure::connect(proxy.address, &Arc::new(authority.client_with(BOTH, own)), "a.test");
            client.send(SAID).unwrap();
            client.response().unwrap().text().to_owned()
        };
        assert_eq!(hears(Some(&own)), mutual, "{mode:?}");
        assert_eq!(hears(None), anonymous, "{mode:?}");
    }
}
