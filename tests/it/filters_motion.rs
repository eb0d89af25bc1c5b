//! Filters and requests in flight: one that a filter leaves alone moves as if there were no filter, and one whose response's head a filter
//! changes moves when that has been done.

use std::io::Write;

use heirloom::drain::Phase;

use crate::motion::Way;
use crate::support::configured::{start, text};
use crate::support::origin::Origin;

const FILTERS: &str = "
- name: health
  typed_config: { \"@\": health_check.v3.HealthCheck, pass_through_mode: false, headers: [{ name: ':path', string_match: { exact: /healthz } }] }
- name: cors
  typed_config: { \"@\": cors.v3.Cors }
- name: csrf
  typed_config: { \"@\": csrf.v3.CsrfPolicy, filter_enabled: { default_value: { numerator: 100 } } }
- name: buffer
  typed_config: { \"@\": buffer.v3.Buffer, max_request_bytes: 1000 }
- name: fault
  typed_config: { \"@\": fault.v3.HTTPFault, abort: { header_abort: {}, percentage: { numerator: 100 } } }
- name: mutate
  typed_config: { \"@\": header_mutation.v3.HeaderMutation, mutations: { request_mutations: [{ append: { header: { key: x-m, value: m } } }] } }
";

const HOST: &str = "
typed_per_filter_config:
  cors: { \"@\": cors.v3.CorsPolicy, allow_origin_string_match: [{ suffix: ok.example }] }
routes: [{ match: { prefix: / }, route: { cluster: origin } }]
";

#[test]
fn requests_move_past_filters_that_have_done_their_part() {
    let (tell, wires) = std::sync::mpsc::channel();
    let tell = std::sync::Mutex::new(tell);
    let origin = Origin::raw(move |_, wire| drop(tell.lock().unwrap().send(wire)));
    for (headers, waits) in [("", true), ("origin: https://ok.example\r\n", false)] {
        let config = text(FILTERS, HOST, origin.address);
        let (old, new) = (start(config.clone()), start(config));
        let mut client = old.connect();
        client.send(format!("GET /poll HTTP/1.1\r\nhost: a\r\n{headers}\r\n"));
        let mut host = wires.recv_timeout(crate::support::PATIENCE).unwrap();
        assert_eq!(host.head().unwrap().unwrap().header("x-m"), Some("m"));
        old.await_gauge("cluster.origin.upstream_rq_pending_active", 0);
        let begin = b"HTTP/1.1 200 OK\r\ncontent-length: 8\r\n\r\nhalf";
        if !waits {
            host.socket.write_all(begin).unwrap();
            assert_eq!(client.head().header("access-control-allow-origin"), Some("https://ok.example"));
        }
        let way = Way::open(&old, &new);
        old.await_gauge("listener.test.downstream_cx_active", 0);
        new.await_gauge("http.test.downstream_rq_active", 1);
        assert_eq!(way.close(&old), (1, Vec::new()));
        if waits {
            host.socket.write_all(begin).unwrap();
            assert_eq!(client.head().status(), 200);
        }
        host.socket.write_all(b"done").unwrap();
        assert_eq!(client.wire.bytes(8).unwrap(), b"halfdone");
        new.await_gauge("http.test.downstream_rq_active", 0);
        old.drain(Phase::Serving);
    }
}
