//! Runtime values: what they change while everything runs, and what a layer may not say.

use std::net::SocketAddr;
use std::sync::Arc;

use heirloom::config::Loaded;
use heirloom::config::model::Bootstrap;
use heirloom::runtime::{Layer, Snapshot};

use crate::support::client::Client;
use crate::support::eventually;
use crate::support::filtered::{read, refuses, text};
use crate::support::origin::Origin;
use crate::support::proxy::Proxy;

const LAYERS: &str = "
layered_runtime:
  layers:
  - name: static
    static_layer: { here.share: 0, weights: { b: 0, a: 1 } }
  - { name: admin, admin_layer: {} }
";

/// A proxy of a text with layers, and where its values are published.
struct Runs {
    proxy: Proxy,
    bootstrap: Bootstrap,
}

impl Runs {
    fn start(manager: &str, filters: &str, routes: &str, clusters: &[(&str, SocketAddr)]) -> Self {
        let loaded =
            read(text(manager, filters, routes, clusters) + LAYERS).unwrap_or_else(|faults| panic!("{faults}"));
        assert_eq!(loaded.warnings, []);
        let bootstrap = loaded.bootstrap;
        let clusters = bootstrap.clusters.iter().map(|cluster| (**cluster).clone()).collect();
        let proxy = Proxy::start_with((*bootstrap.listeners[0]).clone(), clusters, &[]);
        Self { proxy, bootstrap }
    }

    fn set(&self, values: &[(&str, &str)]) {
        let layer = Layer::new("admin", values.iter().copied());
        self.bootstrap.runtime.values.publish(Snapshot::new(vec![layer]));
    }

    fn status(&self, client: &mut Client, path: &str) -> u16 {
        client.send(
            format!("GET {path} HTTP/1.1\r\nhost: a\r\nx-envoy-downstream-service-cluster: shop\r\n\r\n").as_bytes(),
        );
        client.response().status()
    }
}

#[test]
fn routes_and_weights_follow_the_values() {
    let (one, two) = (Origin::text("one"), Origin::text("two"));
    let routes = "
- match: { path: /, runtime_fraction: { runtime_key: here.share, default_value: { numerator: 100 } } }
  direct_response: { status: 203 }
- match: { path: / }
  direct_response: { status: 204 }
- match: { path: /weights }
  route: { weighted_clusters: { runtime_key_prefix: weights, clusters: [{ name: a, weight: 1 }, { name: b, weight: 99 }] } }
";
    let runs = Runs::start("", "", routes, &[("a", one.address), ("b", two.address)]);
    let mut client = runs.proxy.connect();
    assert_eq!(runs.status(&mut client, "/"), 204, "the static layer");
    runs.set(&[("here.share", "100")]);
    assert_eq!(runs.status(&mut client, "/"), 203);
    runs.set(&[("here.share", "numerator: 0")]);
    assert_eq!(runs.status(&mut client, "/"), 204);
    runs.set(&[("here.share", "true")]);
    assert_eq!(runs.status(&mut client, "/"), 203, "of another kind: the default");
    let body = |client: &mut Client| {
        client.send(b"GET /weights HTTP/1.1\r\nhost: a\r\n\r\n");
        client.response().text().to_owned()
    };
    for (values, expected) in
        [(&[("weights.a", "7"), ("weights.b", "0")][..], "one"), (&[("weights.a", "0"), ("weights.b", "3")], "two")]
    {
        runs.set(values);
        for _ in 0..20 {
            assert_eq!(body(&mut client), expected);
        }
    }
    // Nobody would be left: the configuration counts again.
    runs.set(&[("weights.a", "0"), ("weights.b", "0")]);
    assert!(!body(&mut client).is_empty());
}

#[test]
fn clusters_are_closed_and_limited_by_the_values() {
    let origin = Origin::text("here");
    let routes = "- match: { prefix: / }\n  route: { cluster: a }\n";
    let runs = Runs::start("", "", routes, &[("a", origin.address)]);
    let mut client = runs.proxy.connect();
    assert_eq!(runs.status(&mut client, "/"), 200);
    runs.set(&[("upstream.maintenance_mode.a", "100")]);
    client.send(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n");
    let refused = client.response();
    assert_eq!((refused.status(), refused.text()), (503, "maintenance mode"));
    assert_eq!(refused.header("x-envoy-overloaded"), Some("true"));
    assert_eq!(runs.proxy.counter("cluster.a.upstream_rq_maintenance_mode"), 1);
    runs.set(&[("circuit_breakers.a.default.max_requests", "0")]);
    assert_eq!(runs.status(&mut client, "/"), 503);
    assert_eq!(runs.proxy.counter("cluster.a.upstream_rq_active_overflow"), 1);
    assert_eq!(runs.proxy.gauge("cluster.a.circuit_breakers.default.rq_open"), 1);
    runs.set(&[]);
    assert_eq!(runs.status(&mut client, "/"), 200);
    eventually("the gauge is down", || runs.proxy.gauge("cluster.a.circuit_breakers.default.rq_open") == 0);
}

#[test]
fn retries_are_switched_off_by_a_value() {
    let origin = Origin::http(|_| b"HTTP/1.1 503 No\r\ncontent-length: 0\r\n\r\n".to_vec());
    let routes = "- match: { prefix: / }\n  route: { cluster: a, retry_policy: { retry_on: 5xx, num_retries: 2 } }\n";
    let runs = Runs::start("", "", routes, &[("a", origin.address)]);
    let mut client = runs.proxy.connect();
    runs.set(&[("upstream.base_retry_backoff_ms", "1")]);
    assert_eq!(runs.status(&mut client, "/"), 503);
    assert_eq!(runs.proxy.counter("cluster.a.upstream_rq_retry"), 2);
    runs.set(&[("upstream.use_retry", "0")]);
    assert_eq!(runs.status(&mut client, "/"), 503);
    assert_eq!(runs.proxy.counter("cluster.a.upstream_rq_retry"), 2);
}

#[test]
fn filters_follow_the_values() {
    let origin = Origin::text("here");
    let filters = r#"
- name: fault
  typed_config:
    "@type": type.googleapis.com/envoy.extensions.filters.http.fault.v3.HTTPFault
    abort: { http_status: 418, percentage: { numerator: 0 } }
- name: limit
  typed_config:
    "@type": type.googleapis.com/envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit
    stat_prefix: limit
    token_bucket: { max_tokens: 1, fill_interval: 3600s }
    filter_enabled: { runtime_key: limit.enabled, default_value: { numerator: 0 } }
    filter_enforced: { runtime_key: limit.enforced, default_value: { numerator: 100 } }
"#;
    let routes = "- match: { prefix: / }\n  route: { cluster: a }\n";
    let runs = Runs::start("", filters, routes, &[("a", origin.address)]);
    let mut client = runs.proxy.connect();
    assert_eq!(runs.status(&mut client, "/"), 200);
    runs.set(&[("fault.http.abort.abort_percent", "100")]);
    assert_eq!(runs.status(&mut client, "/"), 200, "a caller that says its name has names of its own");
    client.send(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n");
    assert_eq!(client.response().status(), 418);
    runs.set(&[("fault.http.shop.abort.abort_percent", "100"), ("fault.http.shop.abort.http_status", "420")]);
    assert_eq!(runs.status(&mut client, "/"), 420);
    runs.set(&[("limit.enabled", "100")]);
    assert_eq!([runs.status(&mut client, "/"), runs.status(&mut client, "/")], [200, 429]);
    runs.set(&[("limit.enabled", "100"), ("limit.enforced", "0")]);
    assert_eq!(runs.status(&mut client, "/"), 200);
}

#[test]
fn connections_are_limited_by_the_values() {
    let routes = "- match: { prefix: / }\n  direct_response: { status: 200 }\n";
    let runs = Runs::start("", "", routes, &[]);
    let mut first = runs.proxy.connect();
    assert_eq!(runs.status(&mut first, "/"), 200);
    let name = runs.bootstrap.listeners[0].name.clone();
    let of_listener = format!("envoy.resource_limits.listener.{name}.connection_limit");
    let counters =
        ["listener.127.0.0.1_0.downstream_cx_overflow", "listener.127.0.0.1_0.downstream_global_cx_overflow"];
    for (key, counter) in [&of_listener[..], "overload.global_downstream_max_connections"].into_iter().zip(counters) {
        runs.set(&[(key, "1")]);
        runs.proxy.connect().assert_closed();
        assert_eq!(runs.proxy.counter(counter), 1, "{key}");
        assert_eq!(runs.status(&mut first, "/"), 200, "whoever is there stays");
    }
    runs.set(&[(&of_listener, "2")]);
    let mut second = runs.proxy.connect();
    assert_eq!(runs.status(&mut second, "/"), 200);
}

fn with(layers: &str) -> String {
    text("", "", "- match: { prefix: / }\n  direct_response: { status: 200 }\n", &[])
        + "layered_runtime:\n  layers:\n"
        + layers
}

#[test]
fn layers_that_cannot_be_are_refused() {
    for (layers, fault) in [
        (
            "  - { name: a, static_layer: { x: [1] } }\n",
            "layered_runtime.layers[0].static_layer.x: Invalid runtime entry value for x",
        ),
        ("  - { name: a, admin_layer: {} }\n  - { name: a, static_layer: {} }\n", "Duplicate layer name: a"),
        ("  - { name: a, admin_layer: {} }\n  - { name: b, admin_layer: {} }\n", "Too many admin layers"),
        ("  - { name: a, rtds_layer: { name: a, rtds_config: { ads: {} } } }\n", "rtds_layer: is not supported yet"),
        ("  - { name: '', admin_layer: {} }\n", "layered_runtime.layers[0].name"),
        ("  - { name: a }\n", "layered_runtime.layers[0]"),
    ] {
        refuses(with(layers), fault);
    }
}

#[test]
fn names_of_envoys_own_that_mean_nothing_here_are_told_of() {
    let warnings = |loaded: Loaded| loaded.warnings.iter().map(ToString::to_string).collect::<Vec<_>>();
    let told = read(with("  - { name: a, static_layer: { re2.max_program_size.error_level: 100, own.key: 1 } }\n"))
        .map(warnings)
        .unwrap();
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].contains("has no effect here"), "{told:?}");
}

#[test]
fn where_there_are_no_layers_nothing_is_looked_up() {
    let text = text(
        "",
        "",
        "- match: { prefix: /, runtime_fraction: { runtime_key: x, default_value: { numerator: 1 } } }\n  direct_response: { status: 200 }\n",
        &[],
    );
    let bootstrap = read(text).unwrap().bootstrap;
    let heirloom::config::model::NetworkFilter::HttpConnectionManager(manager) =
        &bootstrap.listeners[0].filter_chains[0].filters[0]
    else {
        panic!("no manager")
    };
    let route: &Arc<_> = &manager.routes.virtual_hosts[0].routes[0];
    assert_eq!(route.conditions.as_ref().unwrap().fraction.as_ref().unwrap().key(), None);
    assert!(bootstrap.clusters.iter().all(|cluster| cluster.limit_keys.is_none()));
    assert!(bootstrap.listeners[0].limits.is_none());
}

#[test]
fn deprecated_fields_are_counted_once_each() {
    let routes = "- match: { prefix: /, headers: [{ name: a, exact_match: b }, { name: b, exact_match: c }, { name: c, prefix_match: d }] }\n  direct_response: { status: 200 }\n";
    assert_eq!(read(text("", "", routes, &[])).unwrap().bootstrap.runtime.deprecated, 2);
    assert_eq!(read(with("  - { name: a, admin_layer: {} }\n")).unwrap().bootstrap.runtime.deprecated, 0);
}
