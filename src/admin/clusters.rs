//! `/clusters`.

use std::fmt::Write;

use serde_json::{Value, json};

use super::Admin;
use super::info::{LocalityInfo, address};
use super::query::Query;
use super::reply::Reply;
use crate::config::model::{Address, CircuitBreakers, Locality};

/// A cluster as it stands.
#[derive(Clone, Debug, PartialEq)]
pub struct ClusterStatus {
    /// Its name.
    pub name: String,
    /// `alt_stat_name`, or the name.
    pub observability_name: String,
    /// Came by xDS.
    pub added_via_api: bool,
    /// Limits of the default priority.
    pub limits: CircuitBreakers,
    /// Its hosts.
    pub hosts: Vec<HostStatus>,
}

/// A host and what it counted.
#[derive(Clone, Debug, PartialEq)]
pub struct HostStatus {
    /// Where it is.
    pub address: Address,
    /// `hostname`, or empty.
    pub hostname: String,
    /// Takes traffic.
    pub healthy: bool,
    /// Load balancing weight.
    pub weight: u32,
    /// Where it stands.
    pub locality: Locality,
    /// Open connections.
    pub cx_active: u64,
    /// Connections that could not be made.
    pub cx_connect_fail: u64,
    /// Connections opened.
    pub cx_total: u64,
    /// Requests under way.
    pub rq_active: u64,
    /// Responses 5xx and requests without one.
    pub rq_error: u64,
    /// Responses that are not 5xx.
    pub rq_success: u64,
    /// Requests that took too long.
    pub rq_timeout: u64,
    /// Requests.
    pub rq_total: u64,
}

pub(super) fn answer(admin: &Admin, query: &Query) -> Reply {
    let Ok(wanted) = query.filter() else { return Reply::bad_request("Invalid re2 regex") };
    let mut clusters = admin.view.clusters();
    clusters.retain(|cluster| wanted(&cluster.name));
    if query.get("format") == Some("json") {
        let statuses: Vec<Value> = clusters.iter().map(cluster_json).collect();
        return Reply::json(&json!({ "cluster_statuses": statuses }));
    }
    let mut text = String::new();
    for cluster in &clusters {
        // Writing to a string cannot fail.
        let _ = cluster_text(&mut text, cluster);
    }
    Reply::text(text)
}

fn cluster_text(out: &mut String, cluster: &ClusterStatus) -> std::fmt::Result {
    let name = &cluster.name;
    writeln!(out, "{name}::observability_name::{}", cluster.observability_name)?;
    for (priority, limits) in [("default", cluster.limits), ("high", CircuitBreakers::default())] {
        let CircuitBreakers { max_connections, max_pending_requests, max_requests, max_retries, retry_budget: _ } =
            limits;
        writeln!(out, "{name}::{priority}_priority::max_connections::{max_connections}")?;
        writeln!(out, "{name}::{priority}_priority::max_pending_requests::{max_pending_requests}")?;
        writeln!(out, "{name}::{priority}_priority::max_requests::{max_requests}")?;
        writeln!(out, "{name}::{priority}_priority::max_retries::{max_retries}")?;
    }
    writeln!(out, "{name}::added_via_api::{}", cluster.added_via_api)?;
    for host in &cluster.hosts {
        let facts: [(&str, &dyn std::fmt::Display); 19] = [
            ("cx_active", &host.cx_active),
            ("cx_connect_fail", &host.cx_connect_fail),
            ("cx_total", &host.cx_total),
            ("rq_active", &host.rq_active),
            ("rq_error", &host.rq_error),
            ("rq_pending_active", &0),
            ("rq_success", &host.rq_success),
            ("rq_timeout", &host.rq_timeout),
            ("rq_total", &host.rq_total),
            ("hostname", &host.hostname),
            ("health_flags", &if host.healthy { "healthy" } else { "/failed_eds_health" }),
            ("weight", &host.weight),
            ("region", &host.locality.region),
            ("zone", &host.locality.zone),
            ("sub_zone", &host.locality.sub_zone),
            ("canary", &false),
            ("priority", &0),
            ("success_rate", &-1),
            ("local_origin_success_rate", &-1),
        ];
        for (key, value) in facts {
            writeln!(out, "{name}::{}::{key}::{value}", host.address)?;
        }
    }
    Ok(())
}

fn cluster_json(cluster: &ClusterStatus) -> Value {
    let hosts: Vec<Value> = cluster.hosts.iter().map(host_json).collect();
    let thresholds = [(cluster.limits, None), (CircuitBreakers::default(), Some("HIGH"))].map(|(limits, priority)| {
        let mut threshold = json!({
            "max_connections": limits.max_connections,
            "max_pending_requests": limits.max_pending_requests,
            "max_requests": limits.max_requests,
            "max_retries": limits.max_retries,
        });
        if let Some(priority) = priority {
            threshold["priority"] = priority.into();
        }
        threshold
    });
    let mut status = json!({
        "name": cluster.name,
        "circuit_breakers": { "thresholds": thresholds },
        "observability_name": cluster.observability_name,
    });
    if !hosts.is_empty() {
        status["host_statuses"] = hosts.into();
    }
    if cluster.added_via_api {
        status["added_via_api"] = true.into();
    }
    status
}

/// Defaults are left out, numbers are strings, counters are the type that needs no name: protobuf's JSON.
fn host_json(host: &HostStatus) -> Value {
    let counters = [
        ("cx_connect_fail", host.cx_connect_fail),
        ("cx_total", host.cx_total),
        ("rq_error", host.rq_error),
        ("rq_success", host.rq_success),
        ("rq_timeout", host.rq_timeout),
        ("rq_total", host.rq_total),
    ];
    let gauges = [("cx_active", host.cx_active), ("rq_active", host.rq_active), ("rq_pending_active", 0)];
    let stat = |name: &str, value: u64| {
        let mut stat = json!({ "name": name });
        if value > 0 {
            stat["value"] = value.to_string().into();
        }
        stat
    };
    let mut stats: Vec<Value> = counters.map(|(name, value)| stat(name, value)).into();
    stats.extend(gauges.map(|(name, value)| {
        let mut stat = stat(name, value);
        stat["type"] = "GAUGE".into();
        stat
    }));
    let mut status = json!({
        "address": address(&host.address),
        "stats": stats,
        "health_status": { "eds_health_status": if host.healthy { "HEALTHY" } else { "UNHEALTHY" } },
        "weight": host.weight,
        "locality": LocalityInfo::of(&host.locality),
    });
    if !host.hostname.is_empty() {
        status["hostname"] = host.hostname.as_str().into();
    }
    status
}
