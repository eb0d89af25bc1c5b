//! Configuration in its validated form, with Envoy's defaults, to be changed by the scenario.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use heirloom::config::model::*;
use heirloom::config::{LoadOptions, Source, load};

/// A connection manager with these routes on one virtual host `*`.
pub fn manager(routes: Vec<Route>) -> HttpConnectionManager {
    HttpConnectionManager {
        stat_prefix: "test".into(),
        routes: Arc::new(RouteConfiguration {
            name: "local".into(),
            virtual_hosts: vec![VirtualHost {
                name: "all".into(),
                domains: vec!["*".into()],
                routes: routes.into_iter().map(Arc::new).collect(),
                ..VirtualHost::default()
            }],
            ..RouteConfiguration::default()
        }),
        ..HttpConnectionManager::default()
    }
}

/// A connection manager with what an operator writes in its configuration, and these routes.
pub fn configured(text: &str, routes: Vec<Route>) -> HttpConnectionManager {
    let yaml = format!(
        r#"
static_resources:
  listeners:
  - address: {{ socket_address: {{ address: 127.0.0.1, port_value: 80 }} }}
    filter_chains:
    - filters:
      - name: hcm
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: test
          route_config: {{ virtual_hosts: [] }}
          http_filters:
          - name: envoy.filters.http.router
            typed_config: {{ "@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router }}
{text}"#
    );
    let source = Source { path: None, yaml: Some(yaml) };
    let bootstrap = load(&source, &LoadOptions::default()).unwrap_or_else(|faults| panic!("{faults}")).bootstrap;
    match &bootstrap.listeners[0].filter_chains[0].filters[0] {
        NetworkFilter::HttpConnectionManager(read) => {
            HttpConnectionManager { routes: manager(routes).routes, ..HttpConnectionManager::clone(read) }
        }
        other => panic!("{other:?}"),
    }
}

/// `prefix` to a cluster, with Envoy's timeout.
pub fn route(prefix: &str, cluster: &str) -> Route {
    route_with_timeout(prefix, cluster, Some(Duration::from_secs(15)))
}

/// `prefix` to a cluster.
pub fn route_with_timeout(prefix: &str, cluster: &str, timeout: Option<Duration>) -> Route {
    let forward = Forward { timeout, ..Forward::to(cluster) };
    Route::new(prefix_match(prefix), RouteAction::Forward(Box::new(forward)))
}

/// `prefix` answered directly.
pub fn direct(prefix: &str, status: u16, body: &'static str) -> Route {
    Route::new(prefix_match(prefix), RouteAction::DirectResponse { status, body: body.into() })
}

/// `prefix`.
pub fn prefix_match(prefix: &str) -> PathMatch {
    PathMatch::Prefix { prefix: prefix.into(), case_sensitive: true }
}

/// A cluster of these hosts, one each.
pub fn cluster(name: &str, hosts: &[SocketAddr]) -> Cluster {
    Cluster {
        name: name.into(),
        stat_name: name.into(),
        connect_timeout: Duration::from_secs(5),
        per_connection_buffer_limit: 1024 * 1024,
        endpoints: hosts.iter().map(|address| endpoint(*address)).collect(),
        limit_keys: None,
        maintenance: Fraction::NONE.into(),
        retries: Fraction::ALL.into(),
        limits: CircuitBreakers::default(),
        idle_timeout: Some(Duration::from_secs(3600)),
        max_requests_per_connection: 0,
        tcp_keepalive: None,
        max_response_headers_bytes: 80 * 1024,
        max_response_headers_count: 100,
        protocol: Default::default(),
        http1: UpstreamHttp1 { enable_trailers: true, ..UpstreamHttp1::default() },
        mirrors: Vec::new(),
        high_limits: CircuitBreakers::default(),
        high_limit_keys: None,
    }
}

/// A healthy host of weight 1.
pub fn endpoint(address: SocketAddr) -> Endpoint {
    Endpoint {
        address: Address::Tcp(address),
        weight: 1,
        locality: Locality::default(),
        healthy: true,
        hostname: String::new(),
    }
}

/// A TCP proxy to a cluster.
pub fn tcp_proxy(cluster: &str) -> TcpProxy {
    TcpProxy {
        stat_prefix: "test".into(),
        cluster: cluster.into(),
        idle_timeout: Some(Duration::from_secs(3600)),
        max_connection_duration: None,
        max_connect_attempts: 1,
        access_logs: Vec::new(),
        log_start: false,
        log_connected: false,
    }
}

/// A listener of one filter chain with a connection manager.
pub fn listener(manager: HttpConnectionManager) -> Listener {
    listener_of(NetworkFilter::HttpConnectionManager(Arc::new(manager)))
}

/// A listener of one filter chain with one filter.
pub fn listener_of(filter: NetworkFilter) -> Listener {
    Listener {
        name: "test".into(),
        addresses: Vec::new(),
        stat_prefix: "test".into(),
        limits: None,
        access_logs: Vec::new(),
        socket: SocketOptions {
            backlog: None,
            freebind: false,
            transparent: false,
            ipv4_compat: false,
            fast_open: None,
        },
        per_connection_buffer_limit: 1024 * 1024,
        filter_chains: vec![Arc::new(FilterChain {
            name: String::new(),
            matches: FilterChainMatch::default(),
            filters: vec![filter],
            tls: None,
            handshake_timeout: None,
        })],
        matcher: None,
        default_filter_chain: None,
        inspection: None,
        drain_modify_only: false,
    }
}

/// HTTP filters of these types, without settings, and the router.
pub fn filters(types: &[&str]) -> Vec<HttpFilter> {
    let one = |type_name: &&str| {
        let (name, type_name) = (type_name.to_string(), type_name.to_string());
        HttpFilter::Extension(FilterModel { name, type_name, settings: Settings::new(()), disabled: false })
    };
    types.iter().map(one).chain([HttpFilter::Router(Router::default())]).collect()
}

/// A kind of HTTP filter without settings.
pub const fn filter_kind(type_name: &'static str) -> heirloom::config::extension::HttpFilterKind {
    heirloom::config::extension::HttpFilterKind { type_name, settings: |_, _| Some(Settings::new(())), route: None }
}
