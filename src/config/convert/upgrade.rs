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
