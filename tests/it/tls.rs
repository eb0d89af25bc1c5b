//! TLS with clients: versions, names, protocols, bodies, ends, and clients that do not speak it.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use heirloom::config::model::{self, FilterChain, Inspection, Listener, NetworkFilter};
use heirloom::drain::{Phase, Plan, Strategy};
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, HandshakeKind, ProtocolVersion};

use crate::support::models::*;
use crate::support::origin::Origin;
use crate::support::proxy::Proxy;
use crate::support::tls::*;
use crate::support::wire::Wire;

const BOTH: &[&rustls::SupportedProtocolVersion] = &[&TLS13, &TLS12];

fn hello() -> Listener {
    listener(manager(vec![direct("/", 200, "hello")]))
}

fn start(tls: model::DownstreamTls) -> Proxy {
    Proxy::start_with(secured(hello(), tls), Vec::new(), &[])
}

fn client(authority: &Authority) -> Arc<ClientConfig> {
    Arc::new(authority.client(BOTH))
}

/// A chain that answers with its name, for clients that want these hosts.
fn chain(name: &'static str, hosts: &[&str], tls: Option<model::DownstreamTls>) -> Arc<FilterChain> {
    let manager = manager(vec![direct("/", 200, name)]);
    Arc::new(FilterChain {
        name: name.into(),
        matches: model::FilterChainMatch {
            server_names: hosts.iter().map(|host| (*host).to_owned()).collect(),
            ..model::FilterChainMatch::default()
        },
        filters: vec![NetworkFilter::HttpConnectionManager(Arc::new(manager))],
        tls: tls.map(Arc::new),
        handshake_timeout: None,
    })
}

fn inspecting(chains: Vec<Arc<FilterChain>>) -> Listener {
    let inspection = Inspection {
        timeout: Some(Duration::from_secs(15)),
        continue_on_timeout: false,
        max_hello: 16 * 1024,
        close_on_errors: false,
    };
    Listener { filter_chains: chains, inspection: Some(inspection), ..hello() }
}

#[test]
fn both_versions_are_spoken_and_counted() {
    let authority = Authority::default();
    let origin = Origin::text("from behind");
    let tls = tls(&[&authority.issue(&["a.test"])]);
    let listener = secured(listener(manager(vec![route("/", "origin")])), tls);
    let proxy = Proxy::start_with(listener, vec![cluster("origin", &[origin.address])], &[]);
    for (version, name, cipher) in
        [(&TLS13, "TLSv1.3", "TLS_AES_128_GCM_SHA256"), (&TLS12, "TLSv1.2", "ECDHE-ECDSA-AES256-GCM-SHA384")]
    {
        let config = Arc::new(authority.client(&[version]));
        let mut client = Secure::connect(proxy.address, &config, "a.test");
        assert_eq!(client.session().protocol_version(), Some(version.version));
        for _ in 0..3 {
            assert_eq!(client.get("/").text(), "from behind");
        }
        assert_eq!(proxy.counter(&format!("listener.test.ssl.versions.{name}")), 1);
        assert_eq!(proxy.counter(&format!("listener.test.ssl.ciphers.{cipher}")), 1, "{cipher}");
        assert_eq!(proxy.gauge("http.test.downstream_cx_ssl_active"), 1);
        drop(client);
        proxy.await_gauge("http.test.downstream_cx_ssl_active", 0);
    }
    assert_eq!(proxy.counter("listener.test.ssl.handshake"), 2);
    assert_eq!(proxy.counter("listener.test.ssl.no_certificate"), 2);
    assert_eq!(proxy.counter("listener.test.ssl.connection_error"), 0);
    assert_eq!(proxy.counter("http.test.downstream_cx_ssl_total"), 2);
    assert_eq!(proxy.gauge("listener.test.downstream_cx_active"), 0);
}

#[test]
fn the_origin_learns_of_the_scheme() {
    let authority = Authority::default();
    let (told, heard) = std::sync::mpsc::channel();
    let told = std::sync::Mutex::new(told);
    let origin = Origin::raw(move |_, mut wire| {
        let head = wire.head().unwrap().unwrap();
        told.lock().unwrap().send(head.header("x-forwarded-proto").map(str::to_owned)).unwrap();
        wire.socket.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").unwrap();
        let _ = wire.rest();
    });
    let listener = secured(listener(manager(vec![route("/", "origin")])), tls(&[&authority.issue(&["a.test"])]));
    let proxy = Proxy::start_with(listener, vec![cluster("origin", &[origin.address])], &[]);
    Secure::connect(proxy.address, &client(&authority), "a.test").get("/");
    assert_eq!(heard.recv().unwrap().as_deref(), Some("https"));
}

#[test]
fn only_the_configured_version_is_spoken() {
    let authority = Authority::default();
    let issued = authority.issue(&["a.test"]);
    let proxy = start(model::DownstreamTls { tls12: false, ..tls(&[&issued]) });
    let old = Arc::new(authority.client(&[&TLS12]));
    assert!(Secure::try_connect(proxy.address, &old, "a.test").is_err());
    proxy.await_counter("listener.test.ssl.connection_error", 1);
    let config = client(&authority);
    let secure = Secure::connect(proxy.address, &config, "a.test");
    assert_eq!(secure.session().protocol_version(), Some(ProtocolVersion::TLSv1_3));
}

#[test]
fn a_client_gets_the_certificate_for_its_name_and_of_its_kind() {
    let authority = Authority::default();
    let (first, rsa, ecdsa, wild) = (
        authority.issue(&["first.test"]),
        authority.issue_rsa(&["both.test"]),
        authority.issue(&["both.test"]),
        authority.issue(&["*.wild.test"]),
    );
    let proxy = start(tls(&[&first, &rsa, &ecdsa, &wild]));
    let config = client(&authority);
    let shown = |config: &Arc<ClientConfig>, name: &str| Secure::connect(proxy.address, config, name).shown();
    assert_eq!(shown(&config, "first.test"), first.chain()[0]);
    assert_eq!(shown(&config, "both.test"), ecdsa.chain()[0]);
    assert_eq!(shown(&config, "a.wild.test"), wild.chain()[0]);
    // A client that cannot verify ECDSA.
    let mut provider = rustls::crypto::aws_lc_rs::default_provider();
    provider.cipher_suites.retain(|suite| format!("{:?}", suite.suite()).contains("_RSA_"));
    let mut roots = rustls::RootCertStore::empty();
    roots.add(authority.certificate.clone()).unwrap();
    let rsa_only = ClientConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(&[&TLS12])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    assert_eq!(shown(&Arc::new(rsa_only), "both.test"), rsa.chain()[0]);
    // A name that nobody has gets the first certificate, which the client then does not take.
    assert!(Secure::try_connect(proxy.address, &config, "other.test").is_err());
    let nobody = start(model::DownstreamTls { require_sni: true, ..tls(&[&authority.issue(&["127.0.0.1"])]) });
    assert!(Secure::try_connect(nobody.address, &config, "127.0.0.1").is_err(), "no name, no certificate");
}

#[test]
fn filter_chains_are_chosen_by_name() {
    let authority = Authority::default();
    let with = |host: &str| Some(tls(&[&authority.issue(&[host])]));
    let proxy = Proxy::start_with(
        inspecting(vec![
            chain("one", &["one.test"], with("one.test")),
            chain("below", &["*.test"], with("other.test")),
            chain("plain", &[], None),
        ]),
        Vec::new(),
        &[],
    );
    let config = client(&authority);
    for (name, expected) in [("one.test", "one"), ("other.test", "below")] {
        assert_eq!(Secure::connect(proxy.address, &config, name).get("/").text(), expected);
    }
    assert_eq!(proxy.connect().get("/").text(), "plain");
    assert_eq!(proxy.counter("tls_inspector.tls_found"), 2);
    assert_eq!(proxy.counter("tls_inspector.sni_found"), 2);
    assert_eq!(proxy.counter("tls_inspector.tls_not_found"), 1);
    assert_eq!(proxy.gauge("listener.test.downstream_pre_cx_active"), 0);
    let named = Proxy::start_with(inspecting(vec![chain("one", &["one.test"], with("one.test"))]), Vec::new(), &[]);
    assert!(Secure::try_connect(named.address, &config, "two.test").is_err());
    named.await_counter("listener.test.no_filter_chain_match", 1);
}

#[test]
fn a_tunnel_is_chosen_by_name_and_left_alone() {
    let authority = Authority::default();
    let inner = start(tls(&[&authority.issue(&["behind.test"])]));
    let filter = NetworkFilter::TcpProxy(Arc::new(tcp_proxy("far")));
    let through = FilterChain { filters: vec![filter], ..(*chain("through", &["behind.test"], None)).clone() };
    let outer = Proxy::start_with(inspecting(vec![Arc::new(through)]), vec![cluster("far", &[inner.address])], &[]);
    let mut secure = Secure::connect(outer.address, &client(&authority), "behind.test");
    assert_eq!(secure.get("/").text(), "hello");
    assert_eq!(inner.counter("listener.test.ssl.handshake"), 1);
}

#[test]
fn the_protocol_is_agreed_on_and_one_that_nobody_shares_is_none() {
    let authority = Authority::default();
    let proxy = start(model::DownstreamTls {
        alpn: vec!["http/1.1".into(), "http/1.0".into()],
        ..tls(&[&authority.issue(&["a.test"])])
    });
    for (offered, agreed) in [
        (&["h2", "http/1.1"][..], Some(&b"http/1.1"[..])),
        (&["http/1.0"], Some(b"http/1.0")),
        (&["h2"], None),
        (&[], None),
    ] {
        let mut config = authority.client(BOTH);
        config.alpn_protocols = offered.iter().map(|name| name.as_bytes().to_vec()).collect();
        let mut secure = Secure::connect(proxy.address, &Arc::new(config), "a.test");
        assert_eq!(secure.session().alpn_protocol(), agreed, "{offered:?}");
        assert_eq!(secure.get("/").text(), "hello");
    }
}

#[test]
fn plain_text_is_refused_with_an_alert() {
    let authority = Authority::default();
    let proxy = start(tls(&[&authority.issue(&["a.test"])]));
    let mut plain = proxy.connect();
    plain.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n");
    let mut answer = Vec::new();
    // The rest of what was sent is unread: the close may be a reset.
    let _ = plain.wire.socket.read_to_end(&mut answer);
    assert!(answer.is_empty() || answer[0] == 21, "an alert or nothing: {answer:?}");
    proxy.await_counter("listener.test.ssl.connection_error", 1);
    proxy.await_gauge("listener.test.downstream_cx_active", 0);
    assert_eq!(proxy.counter("http.test.downstream_cx_total"), 0);
}

#[test]
fn a_handshake_that_takes_too_long_is_ended() {
    let authority = Authority::default();
    let mut listener = secured(hello(), tls(&[&authority.issue(&["a.test"])]));
    let mut slow = (*listener.filter_chains[0]).clone();
    slow.handshake_timeout = Some(Duration::from_millis(200));
    listener.filter_chains = vec![Arc::new(slow)];
    let proxy = Proxy::start_with(listener, Vec::new(), &[]);
    let (mut silent, mut halting) = (proxy.connect(), proxy.connect());
    // The beginning of a hello.
    halting.send([22, 3, 1, 1, 0, 1, 0]);
    silent.assert_closed();
    halting.assert_closed();
    proxy.await_counter("listener.test.downstream_cx_transport_socket_connect_timeout", 2);
    proxy.await_gauge("listener.test.downstream_cx_active", 0);

    let mut listener = inspecting(vec![chain("only", &["a.test"], None)]);
    if let Some(inspection) = &mut listener.inspection {
        inspection.timeout = Some(Duration::from_millis(200));
    }
    let proxy = Proxy::start_with(listener, Vec::new(), &[]);
    let mut halting = proxy.connect();
    halting.send([22, 3, 1, 1, 0, 1, 0]);
    halting.assert_closed();
    proxy.await_counter("listener.test.downstream_pre_cx_timeout", 1);
    // One that begins without end.
    let mut endless = proxy.connect();
    let mut bytes = vec![22, 3, 1, 0x40, 0, 1, 0, 0xff, 0xff];
    bytes.resize(20_000, 0);
    let _ = endless.wire.socket.write_all(&bytes);
    let _ = endless.wire.rest();
    proxy.await_gauge("listener.test.downstream_cx_active", 0);
}

#[test]
fn large_bodies_go_both_ways() {
    const SIZE: usize = 8 << 20;
    let authority = Authority::default();
    let body: Vec<u8> = (0..SIZE).map(|at| (at / 251) as u8 ^ at as u8).collect();
    let expected = body.clone();
    let origin = Origin::raw(move |_, mut wire| {
        let mut request = wire.head().unwrap().unwrap();
        wire.body(&mut request, false).unwrap();
        assert!(request.body == expected, "the request's body arrived as it was");
        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {SIZE}\r\nconnection: close\r\n\r\n");
        wire.socket.write_all(head.as_bytes()).unwrap();
        wire.socket.write_all(&request.body).unwrap();
    });
    let listener = secured(listener(manager(vec![route("/", "origin")])), tls(&[&authority.issue(&["a.test"])]));
    let proxy = Proxy::start_with(listener, vec![cluster("origin", &[origin.address])], &[]);
    for version in BOTH {
        let config = Arc::new(authority.client(&[version]));
        let mut secure = Secure::connect(proxy.address, &config, "a.test");
        secure.send(format!("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: {SIZE}\r\n\r\n")).unwrap();
        secure.send(&body).unwrap();
        let answer = secure.response().unwrap();
        assert_eq!(answer.status(), 200);
        assert!(answer.body == body, "the response's body arrived as it was");
    }
}

#[test]
fn a_tunnel_ends_one_way_and_goes_on_the_other() {
    let authority = Authority::default();
    let origin = Origin::raw(|_, mut wire| {
        // Answers only when the client has ended its side.
        let request = wire.rest().unwrap();
        wire.socket.write_all(&request).unwrap();
        wire.socket.write_all(b", and back").unwrap();
    });
    let listener = listener_of(NetworkFilter::TcpProxy(Arc::new(tcp_proxy("far"))));
    let listener = secured(listener, tls(&[&authority.issue(&["a.test"])]));
    let proxy = Proxy::start_with(listener, vec![cluster("far", &[origin.address])], &[]);
    for version in BOTH {
        let config = Arc::new(authority.client(&[version]));
        let mut secure = Secure::connect(proxy.address, &config, "a.test");
        secure.send("there").unwrap();
        secure.finish();
        assert_eq!(secure.rest(), b"there, and back");
    }
}

#[test]
fn a_client_that_leaves_without_a_word_leaves_nothing_behind() {
    let authority = Authority::default();
    let proxy = start(tls(&[&authority.issue(&["a.test"])]));
    let config = client(&authority);
    let mut secure = Secure::connect(proxy.address, &config, "a.test");
    secure.get("/");
    drop(secure);
    proxy.await_gauge("listener.test.downstream_cx_active", 0);
    assert_eq!(proxy.counter("http.test.downstream_cx_destroy_remote"), 1);
    // In the middle of a handshake that is no mistake of TLS.
    let mut halting = TcpStream::connect(proxy.address).unwrap();
    halting.write_all(&[22, 3, 1, 1, 0]).unwrap();
    drop(halting);
    proxy.await_gauge("listener.test.downstream_cx_active", 0);
    assert_eq!(proxy.counter("listener.test.ssl.connection_error"), 0);
}

#[test]
fn a_draining_worker_ends_connections_well() {
    let authority = Authority::default();
    let proxy = start(tls(&[&authority.issue(&["a.test"])]));
    let config = client(&authority);
    let mut busy = Secure::connect(proxy.address, &config, "a.test");
    let mut idle = Secure::connect(proxy.address, &config, "a.test");
    let mut shaking = TcpStream::connect(proxy.address).unwrap();
    shaking.write_all(&[22, 3, 1, 1, 0]).unwrap();
    busy.get("/");
    idle.get("/");
    let plan = Plan { started: Instant::now(), time: Duration::from_secs(600), strategy: Strategy::Immediate };
    proxy.drain(Phase::Draining(plan));
    let last = busy.get("/");
    assert_eq!(last.header("connection"), Some("close"));
    assert_eq!(busy.rest(), b"", "with a word of TLS");
    proxy.drain(Phase::Over);
    assert_eq!(idle.rest(), b"", "with a word of TLS");
    assert_eq!(Wire::new(shaking).rest().unwrap_or_default(), b"");
    proxy.await_gauge("listener.test.downstream_cx_active", 0);
    assert_eq!(proxy.on_worker(|worker| worker.set.connections()), 0);
}

#[test]
fn sessions_are_resumed_as_configured() {
    let authority = Authority::default();
    let issued = authority.issue(&["a.test"]);
    let kind = |proxy: &Proxy, config: &Arc<ClientConfig>| {
        let mut secure = Secure::connect(proxy.address, config, "a.test");
        secure.get("/");
        secure.session().handshake_kind().unwrap()
    };
    let resumes = |tls: model::DownstreamTls, version| {
        let proxy = start(tls);
        let config = Arc::new(authority.client(&[version]));
        assert_ne!(kind(&proxy, &config), HandshakeKind::Resumed);
        let resumed = kind(&proxy, &config) == HandshakeKind::Resumed;
        assert_eq!(proxy.counter("listener.test.ssl.session_reused"), u64::from(resumed));
        resumed
    };
    for version in BOTH {
        let with =
            |tickets, stateful_resumption| model::DownstreamTls { tickets, stateful_resumption, ..tls(&[&issued]) };
        assert!(resumes(with(model::TicketPolicy::Shared, false), version));
        assert!(resumes(with(model::TicketPolicy::Configured(vec![[7; 80]]), false), version));
        assert!(resumes(with(model::TicketPolicy::Off, true), version));
        assert!(!resumes(with(model::TicketPolicy::Off, false), version));
    }
    // The operator's keys are good in another process too.
    let configured =
        || start(model::DownstreamTls { tickets: model::TicketPolicy::Configured(vec![[7; 80]]), ..tls(&[&issued]) });
    let config = client(&authority);
    kind(&configured(), &config);
    assert_eq!(kind(&configured(), &config), HandshakeKind::Resumed);
}
