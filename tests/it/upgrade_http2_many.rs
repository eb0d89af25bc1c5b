//! Many tunnels over HTTP/2 at once that end in every way there is: nothing of them is left behind, and nobody's bytes are another's.

use std::time::Duration;

use h2::Reason;

use crate::support::http2::{connect as open, run};
use crate::support::proxy::Proxy;
use crate::support::tunnels::{Asked, Host, Tunnel, ask, websocket};
use crate::upgrade_http2::{ASK, assert_settled, http2_cluster, taking};

/// What a side does with its half.
const WAYS: [&str; 4] = ["end", "reset", "drop", "echo"];

/// Numbers that are the same in every run.
struct Draws(u64);

impl Draws {
    fn next(&mut self, below: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % below
    }
}

/// A host that says back what it is told first, and then does as the path says.
fn host() -> Host {
    Host::start(|asked: Asked| async {
        let way = asked.request.uri().path().to_owned();
        let mut tunnel = asked.grant();
        // A client that has gone before its first word has nothing to be told.
        let Ok(first) = tunnel.hear(8).await else { return };
        if tunnel.say(first).await.is_err() {
            return;
        }
        let _ = match way.as_str() {
            "/end" => {
                tunnel.end();
                tunnel.hear_all().await.map(drop)
            }
            "/reset" => {
                tunnel.send.send_reset(Reason::CANCEL);
                Ok(())
            }
            "/drop" => Ok(()),
            _ => tunnel.echo().await,
        };
    })
}

async fn live(mut tunnel: Tunnel, number: usize, way: &str) {
    let word = format!("{number:08}");
    let told = tunnel.say(word.clone()).await.is_ok();
    // A host that resets may do so before its word has left.
    if told && let Ok(heard) = tunnel.hear(8).await {
        assert!(heard.is_empty() || heard == word, "{heard:?} for {word}");
    }
    match way {
        "end" => {
            let _ = tunnel.send.send_data(bytes::Bytes::new(), true);
            let _ = tunnel.hear_all().await;
        }
        "reset" => tunnel.send.send_reset(Reason::CANCEL),
        "echo" => {
            let _ = tunnel.say(vec![b'x'; 100_000]).await;
            let _ = tunnel.send.send_data(bytes::Bytes::new(), true);
            let _ = tunnel.hear_all().await;
        }
        _ => {}
    }
}

#[test]
fn tunnels_that_end_in_every_way_leave_nothing_behind() {
    let host = host();
    let proxy = Proxy::start(taking(false), vec![http2_cluster(host.address)]);
    run(async {
        let mut draws = Draws(7);
        for round in 0..5 {
            let (send, connection) = open(proxy.address).await;
            let mut living = Vec::new();
            for number in 0..40 {
                let (of_host, of_client) = (WAYS[draws.next(4)], WAYS[draws.next(4)]);
                let (head, tunnel) = ask(&send, websocket(&format!("/{of_host}"))).await.unwrap();
                assert_eq!(head.status, 200);
                living.push(tokio::task::spawn_local(live(tunnel, round * 100 + number, of_client)));
            }
            if round % 2 == 1 {
                // All of the rest goes with its connection.
                connection.abort();
            }
            for one in living {
                one.await.unwrap();
            }
        }
    });
    // Clients of HTTP/1 too, some of which are cut.
    let mut draws = Draws(11);
    for _ in 0..20 {
        let mut client = proxy.connect();
        client.send(ASK.replace("/chat", &format!("/{}", WAYS[draws.next(4)])));
        assert_eq!(client.response().status(), 101);
        client.send("12345678");
        if draws.next(2) == 0 {
            let _ = client.wire.socket.set_read_timeout(Some(Duration::from_secs(5)));
            client.finish();
            let _ = client.wire.rest();
        }
    }
    assert_settled(&proxy);
    proxy.await_gauge("http.test.downstream_cx_active", 0);
    assert_eq!(proxy.counter("http.test.downstream_cx_upgrades_total"), 220);
    assert_eq!(proxy.counter("cluster.origin.upstream_cx_http2_total"), 1);
    assert_eq!(proxy.counter("cluster.origin.upstream_rq_101"), 220);
}
