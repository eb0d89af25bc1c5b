//! `upgrade_configs`, of the connection manager and of routes.

use std::collections::HashSet;

use envoy_types::pb::envoy::config::route::v3 as route_api;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::http_connection_manager as api;

use super::context::Context;
use super::values;
use crate::config::model::RouteUpgrade;

/// The method among the types.
const CONNECT: &str = "connect";

/// Those of a connection manager.
pub(super) fn of_manager(cx: &mut Context, messages: Vec<api::UpgradeConfig>) -> Vec<(String, bool)> {
    let mut seen = HashSet::new();
    cx.each("upgrade_configs", messages, |cx, message| {
        let api::UpgradeConfig { upgrade_type, filters, enabled } = message;
        refuse!(cx; filters);
        Some((kind(cx, &upgrade_type, &mut seen)?, values::is_not_false(&enabled)))
    })
}

/// Those of a route.
pub(super) fn of_route(cx: &mut Context, messages: Vec<route_api::route_action::UpgradeConfig>) -> Vec<RouteUpgrade> {
    let mut seen = HashSet::new();
    cx.each("upgrade_configs", messages, |cx, message| {
        let route_api::route_action::UpgradeConfig { upgrade_type, enabled, connect_config } = message;
        let kind = kind(cx, &upgrade_type, &mut seen)?;
        let terminate = connect_config.is_some();
        if let Some(config) = connect_config {
            let route_api::route_action::upgrade_config::ConnectConfig { proxy_protocol_config, allow_post } = config;
            cx.at("connect_config", |cx| {
                if kind != CONNECT {
                    cx.error(format!("only the type CONNECT has one, and this is '{upgrade_type}'"));
                }
                refuse!(cx; proxy_protocol_config, allow_post);
            });
        }
        Some(RouteUpgrade { kind, enabled: values::is_not_false(&enabled), terminate })
    })
}

fn kind(cx: &mut Context, upgrade_type: &str, seen: &mut HashSet<String>) -> Option<String> {
    let kind = upgrade_type.to_ascii_lowercase();
    cx.at("upgrade_type", |cx| {
        if kind.is_empty() {
            cx.error("is required");
            return None;
        }
        if !seen.insert(kind.clone()) {
            cx.error(format!("'{upgrade_type}' stands here twice (types are compared without case)"));
            return None;
        }
        if kind == "h2c" {
            cx.warn("an upgrade to h2c is never granted: HTTP/2 without TLS begins without one");
        }
        Some(kind)
    })
}

#[cfg(test)]
mod tests {
    use crate::config::model::{HttpConnectionManager, NetworkFilter, PathMatch, RouteAction, RouteUpgrade};
    use crate::config::{LoadOptions, Source, load};

    /// A manager with these upgrades, and one route that has these.
    fn loaded(of_manager: &str, of_route: &str) -> Result<HttpConnectionManager, String> {
        let yaml = format!(
            r#"
static_resources:
  clusters: [{{ name: app }}]
  listeners:
  - name: front
    address: {{ socket_address: {{ address: 127.0.0.1, port_value: 0 }} }}
    filter_chains:
    - filters:
      - name: hcm
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: front
          upgrade_configs: [{of_manager}]
          http_filters: [{{ name: r, typed_config: {{ "@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router }} }}]
          route_config: {{ virtual_hosts: [{{ name: all, domains: ["*"], routes: [
            {{ match: {{ connect_matcher: {{}} }}, route: {{ cluster: app, upgrade_configs: [{of_route}] }} }}] }}] }}
"#
        );
        let source = Source { path: None, yaml: Some(yaml) };
        let loaded = load(&source, &LoadOptions::default()).map_err(|faults| faults.to_string())?;
        match &loaded.bootstrap.listeners[0].filter_chains[0].filters[0] {
            NetworkFilter::HttpConnectionManager(manager) => Ok((**manager).clone()),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn types_are_kept_in_lower_case() {
        let manager = loaded(
            "{ upgrade_type: WebSocket }, { upgrade_type: foo, enabled: false }",
            "{ upgrade_type: CONNECT, connect_config: {} }, { upgrade_type: websocket, enabled: false }",
        );
        let manager = manager.unwrap();
        assert_eq!(manager.upgrades, [("websocket".to_owned(), true), ("foo".to_owned(), false)]);
        let route = &manager.routes.virtual_hosts[0].routes[0];
        assert_eq!(route.path, PathMatch::Connect);
        let RouteAction::Forward(forward) = &route.action else { panic!("{route:?}") };
        let upgrades = &forward.upgrades;
        let upgrade = |kind: &str, enabled, terminate| RouteUpgrade { kind: kind.to_owned(), enabled, terminate };
        assert_eq!(*upgrades, [upgrade("connect", true, true), upgrade("websocket", false, false)]);
    }

    #[test]
    fn faults_name_their_place() {
        let manager = "filters[0].typed_config.upgrade_configs";
        let route = "routes[0].route.upgrade_configs";
        let rows = [
            (
                "{ upgrade_type: a }, { upgrade_type: A }",
                "",
                format!("{manager}[1].upgrade_type: 'A' stands here twice"),
            ),
            ("{ enabled: true }", "", format!("{manager}[0].upgrade_type: is required")),
            ("{ upgrade_type: a, filters: [{ name: x }] }", "", format!("{manager}[0].filters: is not supported yet")),
            ("", "{ upgrade_type: a }, { upgrade_type: A }", format!("{route}[1].upgrade_type: 'A' stands here twice")),
            (
                "",
                "{ upgrade_type: websocket, connect_config: {} }",
                format!("{route}[0].connect_config: only the type CONNECT has one"),
            ),
            (
                "",
                "{ upgrade_type: CONNECT, connect_config: { allow_post: true } }",
                format!("{route}[0].connect_config.allow_post: is not supported yet"),
            ),
            (
                "",
                "{ upgrade_type: CONNECT, connect_config: { proxy_protocol_config: { version: V2 } } }",
                format!("{route}[0].connect_config.proxy_protocol_config: is not supported yet"),
            ),
        ];
        for (of_manager, of_route, expected) in rows {
            let faults = loaded(of_manager, of_route).expect_err(&expected);
            // Line and column come before the path.
            let line = faults.lines().find(|line| line.contains(&expected)).unwrap_or_else(|| panic!("{faults}"));
            assert!(line.split(':').nth(1).is_some_and(|number| number.parse::<u32>().is_ok()), "{line}");
        }
    }
}
