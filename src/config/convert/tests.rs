//! Values of the model: what is in force when nothing is said, and what is said.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::config::model::*;
use crate::config::{LoadOptions, Source, load};

fn bootstrap(yaml: &str) -> Bootstrap {
    let source = Source { path: None, yaml: Some(yaml.to_owned()) };
    load(&source, &LoadOptions::default()).unwrap_or_else(|faults| panic!("{faults}")).bootstrap
}

/// A listener whose connection manager has these further fields.
fn listener(fields: &str, manager: &str, route: &str) -> Arc<Listener> {
    let yaml = format!(
        r#"
node: {{ id: me, cluster: us }}
static_resources:
  clusters:
  - name: app
  listeners:
  - address: {{ socket_address: {{ address: "::1", port_value: 80 }} }}
    {fields}
    filter_chains:
    - filters:
      - name: hcm
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: front
          {manager}
          route_config:
            virtual_hosts:
            - name: all
              domains: [Example.COM]
              routes:
              - {route}
          http_filters:
          - name: envoy.filters.http.router
            typed_config:
              "@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router
"#
    );
    bootstrap(&yaml).listeners[0].clone()
}

const TO_APP: &str = "{ match: { prefix: / }, route: { cluster: app } }";

fn manager(listener: &Listener) -> Arc<HttpConnectionManager> {
    match &listener.filter_chains[0].filters[0] {
        NetworkFilter::HttpConnectionManager(manager) => manager.clone(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_listener_has_the_defaults_of_envoy() {
    let listener = listener("", "", TO_APP);
    assert_eq!(listener.name, "[::1]:80");
    assert_eq!(listener.stat_prefix, "[__1]_80");
    assert_eq!(listener.per_connection_buffer_limit, 1 << 20);
    let options =
        SocketOptions { backlog: None, freebind: false, transparent: false, ipv4_compat: false, fast_open: None };
    assert_eq!(listener.socket, options);
    assert!(!listener.drain_modify_only && listener.default_filter_chain.is_none());
    assert_eq!(listener.filter_chains[0].matches, FilterChainMatch::default());
}

#[test]
fn a_connection_manager_has_the_defaults_of_envoy() {
    let manager = manager(&listener("", "", TO_APP));
    let seconds = Duration::from_secs;
    assert_eq!(manager.server_name, "envoy");
    assert_eq!(manager.server_header, ServerHeader::Overwrite);
    assert!(!manager.use_remote_address && manager.generate_request_id);
    assert_eq!(manager.idle_timeout, Some(seconds(3600)));
    assert_eq!(manager.stream_idle_timeout, Some(seconds(300)));
    assert_eq!((manager.request_timeout, manager.request_headers_timeout), (None, None));
    assert_eq!(manager.max_connection_duration, None);
    assert_eq!(manager.drain_timeout, seconds(5));
    assert_eq!(manager.delayed_close_timeout, Some(seconds(1)));
    assert_eq!((manager.max_request_headers_bytes, manager.max_headers_count), (60 * 1024, 100));
    assert_eq!(manager.http1, Http1Options::default());
    assert_eq!(manager.add_user_agent, None);
    assert!(manager.internal_addresses.is_empty() && !manager.internal_unix_sockets);
    let host = &manager.routes.virtual_hosts[0];
    assert_eq!(host.domains, ["example.com"]);
    let action = RouteAction::to("app");
    assert_eq!(host.routes[0].action, action);
}

#[test]
fn zero_turns_time_limits_off() {
    let fields = "stream_idle_timeout: 0s\n          delayed_close_timeout: 0s\n          drain_timeout: 0s\n          \
                  common_http_protocol_options: { idle_timeout: 0s }\n          add_user_agent: true";
    let route =
        "{ match: { path: /x, case_sensitive: false }, route: { cluster: app, timeout: 0s, idle_timeout: 0s } }";
    let manager = manager(&listener("", fields, route));
    assert_eq!((manager.idle_timeout, manager.stream_idle_timeout, manager.delayed_close_timeout), (None, None, None));
    assert_eq!(manager.drain_timeout, Duration::ZERO);
    assert_eq!(manager.add_user_agent, Some(("us".to_owned(), "me".to_owned())));
    let route = &manager.routes.virtual_hosts[0].routes[0];
    assert_eq!(route.path, PathMatch::Exact { path: "/x".to_owned(), case_sensitive: false });
    let action = Forward { timeout: None, idle_timeout: Some(None), ..Forward::to("app") };
    assert_eq!(route.action, RouteAction::Forward(Box::new(action)));
}

#[test]
fn socket_options_and_further_addresses_are_kept() {
    let fields = "additional_addresses: [{ address: { pipe: { path: /tmp/x, mode: 0600 } } }]\n    freebind: true\n    \
                  tcp_backlog_size: 7\n    tcp_fast_open_queue_length: 0\n    stat_prefix: s\n    drain_type: MODIFY_ONLY\n    \
                  enable_reuse_port: false";
    let listener = listener(fields, "", TO_APP);
    let unix = Address::Unix { path: "/tmp/x".into(), mode: 0o600 };
    assert_eq!(listener.addresses, [Address::Tcp("[::1]:80".parse().unwrap()), unix]);
    assert_eq!((listener.socket.backlog, listener.socket.fast_open), (Some(7), Some(0)));
    assert!(listener.socket.freebind && !listener.socket.transparent && listener.drain_modify_only);
    assert_eq!(listener.stat_prefix, "s");
}

#[test]
fn networks_lose_their_host_bits() {
    let manager = manager(&listener(
        "",
        "internal_address_config: { cidr_ranges: [{ address_prefix: 10.1.2.3, prefix_len: 8 }, \
         { address_prefix: \"fd00::1\", prefix_len: 8 }, { address_prefix: 1.2.3.4 }, \
         { address_prefix: 1.2.3.4, prefix_len: 32 }] }",
        TO_APP,
    ));
    let expected = [("10.0.0.0", 8), ("fd00::", 8), ("0.0.0.0", 0), ("1.2.3.4", 32)];
    let expected: Vec<Cidr> =
        expected.iter().map(|(ip, prefix)| Cidr { network: ip.parse::<IpAddr>().unwrap(), prefix: *prefix }).collect();
    assert_eq!(manager.internal_addresses, expected);
}

#[test]
fn a_cluster_has_the_defaults_of_envoy() {
    let cluster = bootstrap("static_resources: { clusters: [{ name: app }] }").clusters[0].clone();
    let expected = Cluster {
        name: "app".to_owned(),
        stat_name: "app".to_owned(),
        connect_timeout: Duration::from_secs(5),
        per_connection_buffer_limit: 1 << 20,
        endpoints: Vec::new(),
        limit_keys: None,
        maintenance: Fraction::NONE.into(),
        retries: Fraction::ALL.into(),
        limits: CircuitBreakers {
            max_connections: 1024,
            max_pending_requests: 1024,
            max_requests: 1024,
            max_retries: 3,
            retry_budget: None,
        },
        idle_timeout: Some(Duration::from_secs(3600)),
        max_requests_per_connection: 0,
        tcp_keepalive: None,
        max_response_headers_bytes: 80 * 1024,
        max_response_headers_count: 100,
        protocol: UpstreamProtocol::Http1,
        http1: UpstreamHttp1::default(),
        mirrors: Vec::new(),
        high_limits: CircuitBreakers::default(),
        high_limit_keys: None,
    };
    assert_eq!(*cluster, expected);
}

#[test]
fn endpoints_have_weight_health_and_locality() {
    let yaml = "static_resources: { clusters: [{ name: app, load_assignment: { cluster_name: app, endpoints: [{ \
        locality: { zone: z }, lb_endpoints: [\
        { endpoint: { hostname: h, address: { socket_address: { address: 127.0.0.1, port_value: 1 } } } }, \
        { load_balancing_weight: 9, health_status: UNHEALTHY, \
          endpoint: { address: { socket_address: { address: 127.0.0.1, port_value: 2 } } } }, \
        { health_status: DEGRADED, endpoint: { address: { pipe: { path: '@x' } } } }] }] } }] }";
    let cluster = bootstrap(yaml).clusters[0].clone();
    let seen: Vec<(String, u32, bool, &str)> = cluster
        .endpoints
        .iter()
        .map(|one| (one.address.to_string(), one.weight, one.healthy, one.hostname.as_str()))
        .collect();
    let expected = [("127.0.0.1:1", 1, true, "h"), ("127.0.0.1:2", 9, false, ""), ("@x", 1, true, "")]
        .map(|(address, w, up, name)| (address.to_owned(), w, up, name));
    assert_eq!(seen, expected);
    assert!(cluster.endpoints.iter().all(|endpoint| endpoint.locality.zone == "z"));
}

#[test]
fn http_options_of_a_cluster_come_from_the_extension_before_the_old_fields() {
    let cluster = |extension: &str| {
        let yaml = format!(
            "static_resources: {{ clusters: [{{ name: app, max_requests_per_connection: 3, \
             common_http_protocol_options: {{ idle_timeout: 7s }}, {extension} }}] }}"
        );
        bootstrap(&yaml).clusters[0].clone()
    };
    let old = cluster("");
    assert_eq!((old.idle_timeout, old.max_requests_per_connection), (Some(Duration::from_secs(7)), 3));
    let new = cluster(
        "typed_extension_protocol_options: { envoy.extensions.upstreams.http.v3.HttpProtocolOptions: { \
         \"@type\": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions, \
         explicit_http_config: { http_protocol_options: {} }, \
         common_http_protocol_options: { idle_timeout: 0s, max_requests_per_connection: 4, max_headers_count: 5, \
         max_response_headers_kb: 6 } } }",
    );
    assert_eq!((new.idle_timeout, new.max_requests_per_connection), (None, 4));
    assert_eq!((new.max_response_headers_count, new.max_response_headers_bytes), (5, 6 * 1024));
}

#[test]
fn statistics_settings() {
    assert_eq!(bootstrap("node: {}").stats, Stats::default());
    let stats = bootstrap(
        "stats_flush_interval: 1s\nstats_config: { use_all_default_tags: false, stats_tags: [\
         { tag_name: a, fixed_value: b }, { tag_name: c, regex: '^x(y)' }, { tag_name: envoy.cluster_name }] }\n\
         stats_sinks: [{ name: envoy.stat_sinks.statsd, typed_config: { \
         \"@type\": type.googleapis.com/envoy.config.metrics.v3.StatsdSink, \
         address: { socket_address: { address: 127.0.0.1, port_value: 8125 } } } }]",
    )
    .stats;
    assert_eq!((stats.flush_interval, stats.use_default_tags), (Duration::from_secs(1), false));
    let values: Vec<TagValue> = stats.tags.into_iter().map(|tag| tag.value).collect();
    assert_eq!(values, [TagValue::Fixed("b".to_owned()), TagValue::Regex("^x(y)".to_owned()), TagValue::Default]);
    let address = "127.0.0.1:8125".parse().unwrap();
    assert_eq!(stats.sinks, [StatsSink::Statsd { address, prefix: "envoy".to_owned() }]);
}

#[test]
fn the_body_of_a_direct_response_can_come_from_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("body");
    std::fs::write(&path, "from a file").unwrap();
    let route = format!(
        "{{ match: {{ prefix: / }}, direct_response: {{ status: 200, body: {{ filename: {} }} }} }}",
        path.display()
    );
    let action = manager(&listener("", "", &route)).routes.virtual_hosts[0].routes[0].action.clone();
    assert_eq!(action, RouteAction::DirectResponse { status: 200, body: "from a file".into() });
}

#[test]
fn filter_chains_that_share_a_match_are_refused() {
    let chain = |matches: &str| {
        format!(
            "{{ filter_chain_match: {{ {matches} }}, filters: [{{ name: hcm, typed_config: {{ \"@type\": \
             type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager, \
             stat_prefix: x, route_config: {{}}, http_filters: [{{ name: r, typed_config: {{ \
             \"@type\": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router }} }}] }} }}] }}"
        )
    };
    let verdict = |left: &str, right: &str| {
        let yaml = format!(
            "static_resources: {{ listeners: [{{ name: l, address: {{ socket_address: {{ address: 127.0.0.1, \
             port_value: 0 }} }}, filter_chains: [{}, {}] }}] }}",
            chain(left),
            chain(right)
        );
        let source = Source { path: None, yaml: Some(yaml) };
        load(&source, &LoadOptions::default()).map(drop).map_err(|faults| faults.to_string())
    };
    let is_overlap = |verdict: Result<(), String>| verdict.is_err_and(|text| text.contains("matching rules"));
    assert!(is_overlap(verdict("", "")));
    assert!(is_overlap(verdict("source_ports: [1, 2]", "source_ports: [2, 3]")));
    let network = |ip: &str| format!("prefix_ranges: [{{ address_prefix: {ip}, prefix_len: 8 }}]");
    assert!(is_overlap(verdict(&network("10.0.0.1"), &network("10.0.0.2"))));
    assert_eq!(verdict(&network("10.0.0.1"), &network("11.0.0.1")), Ok(()));
    assert_eq!(verdict("source_ports: [1]", ""), Ok(()));
    assert_eq!(verdict("destination_port: 1", "destination_port: 2"), Ok(()));
    assert_eq!(verdict("source_type: EXTERNAL", "source_type: SAME_IP_OR_LOOPBACK"), Ok(()));
}

fn tcp_proxy(fields: &str) -> Arc<TcpProxy> {
    let yaml = format!(
        r#"
static_resources:
  clusters:
  - name: app
  listeners:
  - address: {{ socket_address: {{ address: "::1", port_value: 80 }} }}
    filter_chains:
    - filters:
      - name: tcp
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy
          stat_prefix: mail
          cluster: app
          {fields}
"#
    );
    match &bootstrap(&yaml).listeners[0].filter_chains[0].filters[0] {
        NetworkFilter::TcpProxy(proxy) => proxy.clone(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_tcp_proxy_has_the_defaults_of_envoy() {
    let expected = TcpProxy {
        stat_prefix: "mail".into(),
        cluster: "app".into(),
        idle_timeout: Some(Duration::from_secs(3600)),
        max_connection_duration: None,
        max_connect_attempts: 1,
        access_logs: Vec::new(),
        log_start: false,
        log_connected: false,
    };
    assert_eq!(*tcp_proxy(""), expected);
}

#[test]
fn the_limits_of_a_tcp_proxy_are_taken_as_said() {
    let proxy = tcp_proxy(
        "idle_timeout: 0s\n          max_downstream_connection_duration: 90s\n          max_connect_attempts: 3",
    );
    assert_eq!(proxy.idle_timeout, None);
    assert_eq!(proxy.max_connection_duration, Some(Duration::from_secs(90)));
    assert_eq!(proxy.max_connect_attempts, 3);
}
