//! Tunnels over HTTP/2 as browsers ask for them: over TLS, with the protocol agreed on by ALPN.

use std::sync::Arc;

use bytes::Bytes;
use heirloom::config::model;
use rustls::pki_types::ServerName;

use crate::support::http2::{run, send_all};
use crate::support::models::*;
use crate::support::proxy::Proxy;
use crate::support::tls::{Authority, secured, tls};
use crate::support::tunnels::{Host, Tunnel, join, websocket};
use crate::upgrade_http2::{assert_settled, http2_cluster, taking};

#[test]
fn a_websocket_over_tls_is_one_like_any_other() {
    let host = Host::echoing();
    let authority = Authority::default();
    let tls =
        model::DownstreamTls { alpn: vec!["h2".into(), "http/1.1".into()], ..tls(&[&authority.issue(&["a.test"])]) };
    let proxy = Proxy::start_with(secured(listener(taking(false)), tls), vec![http2_cluster(host.address)], &[]);
    let mut config = authority.client(&[&rustls::version::TLS13]);
    config.alpn_protocols = vec![b"h2".to_vec()];
    run(async {
        let socket = tokio::net::TcpStream::connect(proxy.address).await.unwrap();
        let name = ServerName::try_from("a.test").unwrap();
        let secure = tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, socket).await.unwrap();
        let (send, connection) = h2::client::handshake::<_>(secure).await.unwrap();
        tokio::task::spawn_local(connection);
        let sent: Bytes = (0..1 << 20).map(|at| (at * 31 + at / 251) as u8).collect::<Vec<_>>().into();
        let Tunnel { send: mut up, recv: mut down, .. } = join(&send, websocket("/")).await;
        let (echoed, ()) = tokio::join!(async { crate::support::http2::all(&mut down).await.unwrap().0 }, async {
            send_all(&mut up, sent.clone(), true).await.unwrap();
        });
        assert!(echoed == sent, "{} of {} bytes", echoed.len(), sent.len());
    });
    assert_settled(&proxy);
    assert_eq!(proxy.counter("http.test.downstream_rq_rx_reset"), 0);
}
