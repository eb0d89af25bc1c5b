//! `envoy.config.endpoint.v3.ClusterLoadAssignment`: the hosts of a static cluster.

use envoy_types::pb::envoy::config::core::v3 as core;
use envoy_types::pb::envoy::config::endpoint::v3 as api;

use super::context::Context;
use super::{address, values};
use crate::config::model::{Endpoint, Locality};

pub(super) fn convert(cx: &mut Context, message: api::ClusterLoadAssignment) -> Vec<Endpoint> {
    let api::ClusterLoadAssignment { cluster_name: _, endpoints, named_endpoints, policy } = message;
    refuse!(cx; named_endpoints);
    if let Some(policy) = policy {
        cx.at("policy", |cx| self::policy(cx, policy));
    }
    cx.each("endpoints", endpoints, |cx, group| Some(locality_group(cx, group))).into_iter().flatten().collect()
}

fn policy(cx: &mut Context, message: api::cluster_load_assignment::Policy) {
    let api::cluster_load_assignment::Policy {
        drop_overloads,
        overprovisioning_factor,
        endpoint_stale_after,
        weighted_priority_health,
    } = message;
    refuse!(cx; drop_overloads);
    ignore!(cx; overprovisioning_factor, endpoint_stale_after, weighted_priority_health);
}

fn locality_group(cx: &mut Context, message: api::LocalityLbEndpoints) -> Vec<Endpoint> {
    use api::locality_lb_endpoints::LbConfig;
    let api::LocalityLbEndpoints {
        locality,
        metadata,
        lb_endpoints,
        load_balancing_weight,
        priority,
        proximity,
        lb_config,
    } = message;
    refuse!(cx; priority);
    // Weights of localities count only with a setting that is refused.
    ignore!(cx; metadata, load_balancing_weight, proximity);
    match lb_config {
        None => {}
        Some(LbConfig::LoadBalancerEndpoints(_)) => cx.refuse("load_balancer_endpoints"),
        Some(LbConfig::LedsClusterLocalityConfig(_)) => cx.refuse("leds_cluster_locality_config"),
    }
    let locality = address::locality(locality);
    let endpoints = cx.each("lb_endpoints", lb_endpoints, |cx, message| endpoint(cx, message, &locality));
    let total: u64 = endpoints.iter().map(|endpoint| u64::from(endpoint.weight)).sum();
    if total > u64::from(u32::MAX) {
        let text = format!("The sum of weights of all upstream hosts in a locality exceeds {}", u32::MAX);
        cx.error_at("lb_endpoints", text);
    }
    endpoints
}

fn endpoint(cx: &mut Context, message: api::LbEndpoint, locality: &Locality) -> Option<Endpoint> {
    use api::lb_endpoint::HostIdentifier;
    let api::LbEndpoint { health_status, metadata, load_balancing_weight, host_identifier } = message;
    ignore!(cx; metadata);
    let healthy = is_healthy(health_status);
    let weight = values::number(&load_balancing_weight).unwrap_or(1);
    let message = match host_identifier {
        Some(HostIdentifier::Endpoint(endpoint)) => endpoint,
        Some(HostIdentifier::EndpointName(_)) => {
            cx.refuse("endpoint_name");
            return None;
        }
        None => {
            cx.error_at("endpoint", "is required");
            return None;
        }
    };
    cx.at("endpoint", |cx| {
        let api::Endpoint { address, health_check_config, hostname, additional_addresses, observability_name } =
            message;
        refuse!(cx; additional_addresses);
        ignore!(cx; health_check_config, observability_name);
        let address = address::required(cx, "address", address)?.address;
        Some(Endpoint { address, weight, locality: locality.clone(), healthy, hostname })
    })
}

/// Does the status say that the host takes traffic?
fn is_healthy(status: i32) -> bool {
    match core::HealthStatus::try_from(status) {
        Ok(core::HealthStatus::Unhealthy | core::HealthStatus::Draining | core::HealthStatus::Timeout) => false,
        Ok(core::HealthStatus::Unknown | core::HealthStatus::Healthy | core::HealthStatus::Degraded) => true,
        Err(_) => false,
    }
}
