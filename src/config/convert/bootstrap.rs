//! `envoy.config.bootstrap.v3.Bootstrap`: the whole, the node, the admin endpoint.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use envoy_types::pb::envoy::config::bootstrap::v3 as api;
use envoy_types::pb::envoy::config::core::v3 as core;

use super::context::Context;
use super::{address, cluster, listener, runtime, stats};
use crate::config::model::{self, Address, Admin, Bootstrap, Node};

pub(super) fn convert(cx: &mut Context, message: api::Bootstrap) -> Bootstrap {
    let api::Bootstrap {
        node,
        node_context_params,
        static_resources,
        dynamic_resources,
        cluster_manager,
        hds_config,
        flags_path,
        stats_sinks,
        deferred_stat_options,
        stats_config,
        stats_flush_interval,
        watchdog,
        watchdogs,
        tracing,
        layered_runtime,
        admin,
        overload_manager,
        enable_dispatcher_stats,
        header_prefix,
        stats_server_version_override,
        use_tcp_for_dns_lookups,
        dns_resolution_config,
        typed_dns_resolver_config,
        bootstrap_extensions,
        fatal_actions,
        config_sources,
        default_config_source,
        default_socket_interface,
        certificate_provider_instances,
        inline_headers,
        perf_tracing_file_path,
        default_regex_engine,
        xds_delegate_extension,
        xds_config_tracker_extension,
        listener_manager,
        application_log_config,
        grpc_async_client_manager_config,
        memory_allocator_manager,
        enable_worker_cpu_affinity,
        stats_flush,
        stats_eviction,
    } = message;
    refuse!(cx; dynamic_resources, hds_config, overload_manager, header_prefix, bootstrap_extensions, config_sources,
        default_config_source, default_socket_interface, certificate_provider_instances, default_regex_engine,
        xds_delegate_extension, listener_manager);
    ignore!(cx; node_context_params, flags_path, deferred_stat_options, watchdog, watchdogs, tracing,
        enable_dispatcher_stats, stats_server_version_override, use_tcp_for_dns_lookups, dns_resolution_config,
        typed_dns_resolver_config, fatal_actions, inline_headers, perf_tracing_file_path, xds_config_tracker_extension,
        application_log_config, grpc_async_client_manager_config, memory_allocator_manager, enable_worker_cpu_affinity,
        stats_eviction);
    if let Some(api::bootstrap::StatsFlush::StatsFlushOnAdmin(true)) = stats_flush {
        cx.ignore("stats_flush_on_admin");
    }
    cluster_manager_settings(cx, cluster_manager);
    cx.node = cx.at("node", |cx| self::node(cx, node.unwrap_or_default()));
    let runtime = runtime::convert(cx, layered_runtime);
    cx.runtime = runtime.values.clone();
    let stats = stats::convert(cx, stats_config, stats_flush_interval, stats_sinks);
    let (clusters, listeners) = cx.at("static_resources", |cx| resources(cx, static_resources.unwrap_or_default()));
    let admin = admin.and_then(|admin| cx.at("admin", |cx| self::admin(cx, admin, &listeners)));
    Bootstrap { node: cx.node.clone(), admin, listeners, clusters, runtime, stats }
}

fn node(cx: &mut Context, message: core::Node) -> Node {
    let core::Node {
        id,
        cluster,
        metadata,
        dynamic_parameters,
        locality,
        user_agent_name,
        extensions,
        client_features,
        listening_addresses,
        user_agent_version_type,
    } = message;
    // What only a management server is told.
    ignore!(cx; metadata, dynamic_parameters, user_agent_name, extensions, client_features, listening_addresses);
    if user_agent_version_type.is_some() {
        cx.ignore("user_agent_version");
    }
    Node { id, cluster, locality: address::locality(locality) }
}

fn cluster_manager_settings(cx: &mut Context, message: Option<api::ClusterManager>) {
    let Some(message) = message else { return };
    let api::ClusterManager {
        local_cluster_name,
        outlier_detection,
        upstream_bind_config,
        load_stats_config,
        enable_deferred_cluster_creation,
    } = message;
    cx.at("cluster_manager", |cx| {
        refuse!(cx; local_cluster_name, upstream_bind_config);
        ignore!(cx; outlier_detection, load_stats_config, enable_deferred_cluster_creation);
    });
}

fn admin(cx: &mut Context, message: api::Admin, listeners: &[Arc<model::Listener>]) -> Option<Admin> {
    let api::Admin {
        access_log,
        access_log_path,
        profile_path,
        address,
        socket_options,
        ignore_global_conn_limit,
        allow_paths,
    } = message;
    refuse!(cx; socket_options, allow_paths);
    ignore!(cx; access_log, access_log_path, profile_path, ignore_global_conn_limit);
    // Without an address Envoy starts no admin endpoint.
    address.as_ref()?;
    let address = address::required(cx, "address", address)?.address;
    // Sockets go by their address: the two would be given the same one.
    if !is_ephemeral(&address)
        && let Some(listener) = listeners.iter().find(|listener| listener.addresses.contains(&address))
    {
        cx.error_at("address", format!("listener '{}' has the address '{address}' already", listener.name));
    }
    Some(Admin { address })
}

type Resources = (Vec<Arc<model::Cluster>>, Vec<Arc<model::Listener>>);

fn resources(cx: &mut Context, message: api::bootstrap::StaticResources) -> Resources {
    let api::bootstrap::StaticResources { listeners, clusters, secrets } = message;
    ignore!(cx; secrets);
    // Routes refer to clusters: also one that is refused is known by its name.
    cx.clusters = clusters.iter().map(|cluster| cluster.name.clone()).collect();
    let mut names = HashSet::new();
    let clusters = cx.each("clusters", clusters, |cx, message| {
        if !message.name.is_empty() && !names.insert(message.name.clone()) {
            cx.error_at("name", format!("cluster manager: duplicate cluster '{}'", message.name));
        }
        cluster::convert(cx, message).map(Arc::new)
    });
    let mut seen = Seen::default();
    let listeners = cx.each("listeners", listeners, |cx, message| {
        let listener = listener::convert(cx, message)?;
        seen.add(cx, &listener);
        Some(Arc::new(listener))
    });
    (clusters, listeners)
}

/// Names and addresses of listeners so far.
#[derive(Default)]
struct Seen {
    names: HashSet<String>,
    addresses: HashMap<Address, String>,
}

impl Seen {
    fn add(&mut self, cx: &mut Context, listener: &model::Listener) {
        if !self.names.insert(listener.name.clone()) {
            cx.error_at("name", format!("duplicate listener name '{}'", listener.name));
        }
        for address in &listener.addresses {
            if is_ephemeral(address) {
                continue;
            }
            let key = match address {
                Address::Unix { path, .. } => Address::Unix { path: path.clone(), mode: 0 },
                address => address.clone(),
            };
            if let Some(other) = self.addresses.insert(key, listener.name.clone()) {
                cx.error_at("address", format!("listener '{other}' has the address '{address}' already"));
            }
        }
    }
}

/// Port 0 is a different port each time.
fn is_ephemeral(address: &Address) -> bool {
    matches!(address, Address::Tcp(address) if address.port() == 0)
}
