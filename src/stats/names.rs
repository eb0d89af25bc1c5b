//! The names of statistics, and nothing else: every name this proxy counts under stands in this file.
//!
//! One struct per scope, with one public field per statistic, called as Envoy calls it. `new` makes them all at once,
//! so that they show as 0 before anything has happened, as Envoy's do; only response codes appear on first use
//! ([`CodeCounters`]). A gauge is declared `gauge` when its value is the sum over all living epochs (what is open, what
//! is in flight), and `gauge_latest` when only the newest epoch's value means anything; of the latter each thread may
//! set its own copy, and the largest is shown.
//!
//! A struct belongs to the thread of the scope it was made from. On reload a scope that still exists is made again over
//! the same cells; on a drain nothing changes here.

mod codes;
mod ssl;

pub use self::codes::{CodeCounters, OriginStats};
pub use self::ssl::SslUse;
use super::{Counter, Gauge, Histogram, Scope};

/// `stats_overflow`: statistics that found no room in the segment, and threads that found no lane. Not one of Envoy's.
pub const OVERFLOW: &str = "server.stats_overflow";

/// The scope of a listener.
pub fn listener(root: &Scope, stat_prefix: &str) -> Scope {
    root.scope("listener").scope(stat_prefix)
}

/// The scope of an HTTP connection manager.
pub fn http(root: &Scope, stat_prefix: &str) -> Scope {
    root.scope("http").scope(stat_prefix)
}

/// The scope of what a manager counts for its listener, from the scope of that listener.
pub fn listener_http(listener: &Scope, stat_prefix: &str) -> Scope {
    listener.scope("http").scope(stat_prefix)
}

/// The scope of what one worker counts for its listener, from the scope of that listener.
pub fn listener_worker(listener: &Scope, worker: usize) -> Scope {
    listener.scope(&format!("worker_{worker}"))
}

/// The scope of what the main thread counts for its listener (the admin endpoint's), from the scope of that listener.
pub fn listener_main_thread(listener: &Scope) -> Scope {
    listener.scope("main_thread")
}

/// The scope of a TCP proxy.
pub fn tcp(root: &Scope, stat_prefix: &str) -> Scope {
    root.scope("tcp").scope(stat_prefix)
}

/// The scope of a cluster.
pub fn cluster(root: &Scope, stat_name: &str) -> Scope {
    root.scope("cluster").scope(stat_name)
}

/// The scope of the circuit breakers of a cluster (`default` or `high`), from the scope of that cluster.
pub fn circuit_breakers(cluster: &Scope, priority: &str) -> Scope {
    cluster.scope("circuit_breakers").scope(priority)
}

/// The scope of a route with a `stat_prefix`.
pub fn route(root: &Scope, virtual_host: &str, stat_prefix: &str) -> Scope {
    root.scope("vhost").scope(virtual_host).scope("route").scope(stat_prefix)
}

/// The scope of a virtual cluster, or `other` for the requests that none takes.
pub fn virtual_cluster(root: &Scope, virtual_host: &str, name: &str) -> Scope {
    root.scope("vhost").scope(virtual_host).scope("vcluster").scope(name)
}

/// The scope of responses that were not passed on because their requests were tried again, from the scope of a cluster.
pub fn retried(cluster: &Scope) -> Scope {
    cluster.scope("retry")
}

/// The type of a handle by the kind of its statistic.
macro_rules! handle {
    (counter) => {
        Counter
    };
    (gauge) => {
        Gauge
    };
    (gauge_latest) => {
        Gauge
    };
    (histogram) => {
        Histogram
    };
}

/// Declares the statistics of a scope: `kind field, ...`, or `kind field = "name"` where the name is no identifier.
macro_rules! stats {
    ($(#[$meta:meta])* $name:ident { $($kind:ident $field:ident $(= $stat:literal)?,)* }) => {
        $(#[$meta])*
        #[derive(Clone)]
        pub struct $name {
            $(
                #[doc = concat!("`", stats!(@name $field $($stat)?), "`, a ", stringify!($kind), ".")]
                pub $field: handle!($kind),
            )*
        }

        impl $name {
            /// Makes them all in `scope`, each at 0.
            pub fn new(scope: &Scope) -> Self {
                Self { $($field: scope.$kind(stats!(@name $field $($stat)?)),)* }
            }
        }
    };
    (@name $field:ident $stat:literal) => { $stat };
    (@name $field:ident) => { stringify!($field) };
}

mod filters;
mod http2;

pub use filters::{
    CorsStats, CsrfStats, FaultCallerStats, FaultStats, HealthCheckStats, SetMetadataStats, fault_caller,
};
pub use http2::Http2Stats;

/// The scope of the HTTP/2 codec: of the root for all clients' connections, of a cluster for its own.
pub fn http2(scope: &Scope) -> Scope {
    scope.scope("http2")
}

stats! {
    /// `server.`: what the process says of itself, from the main thread.
    ServerStats {
        gauge_latest compilation_settings_fips_mode = "compilation_settings.fips_mode",
        gauge_latest concurrency,
        gauge_latest days_until_first_cert_expiring,
        counter debug_assertion_failures,
        counter dropped_stat_flushes,
        counter dynamic_unknown_fields,
        counter envoy_bug_failures,
        counter envoy_notifications,
        gauge_latest hot_restart_epoch,
        gauge_latest hot_restart_generation,
        histogram initialization_time_ms,
        gauge_latest live,
        gauge_latest memory_allocated,
        gauge_latest memory_heap_size,
        gauge_latest memory_physical_size,
        gauge_latest parent_connections,
        gauge_latest seconds_until_first_ocsp_response_expiring,
        gauge_latest state,
        counter static_unknown_fields,
        gauge_latest total_connections,
        gauge_latest uptime,
        gauge_latest version,
        counter wip_protos,
    }
}

stats! {
    /// `server.`: connections that an epoch has given to the next one, by kind, and those that it could not give, by reason. Not Envoy's.
    MotionStats {
        counter moved_exchange = "connections_moved.exchange",
        counter moved_http1 = "connections_moved.http1",
        counter moved_tcp = "connections_moved.tcp",
        counter moved_upgrade = "connections_moved.upgrade",
        counter refused_limit = "connections_refused.limit",
        counter refused_no_cluster = "connections_refused.no_cluster",
        counter refused_no_filter_chain = "connections_refused.no_filter_chain",
        counter refused_no_listener = "connections_refused.no_listener",
        counter refused_other = "connections_refused.other",
        counter refused_other_filter = "connections_refused.other_filter",
        counter refused_record = "connections_refused.record",
        counter refused_socket = "connections_refused.socket",
        counter refused_way = "connections_refused.way",
    }
}

stats! {
    /// `filesystem.`: the files of access logs. `lines_dropped` is not Envoy's: what a disk did not take, or not in time.
    FilesystemStats {
        counter flushed_by_timer,
        counter lines_dropped,
        counter reopen_failed,
        counter write_buffered,
        counter write_completed,
        counter write_failed,
        gauge write_total_buffered,
    }
}

stats! {
    /// `listener_manager.`
    ListenerManagerStats {
        counter listener_added,
        counter listener_create_failure,
        counter listener_create_success,
        counter listener_in_place_updated,
        counter listener_modified,
        counter listener_removed,
        counter listener_stopped,
        gauge_latest total_filter_chains_draining,
        gauge_latest total_listeners_active,
        gauge_latest total_listeners_draining,
        gauge_latest total_listeners_warming,
        gauge_latest workers_pinned,
        gauge_latest workers_started,
    }
}

stats! {
    /// `cluster_manager.`
    ClusterManagerStats {
        gauge_latest active_clusters,
        counter cluster_added,
        counter cluster_modified,
        counter cluster_removed,
        counter cluster_updated,
        counter cluster_updated_via_merge,
        counter update_merge_cancelled,
        counter update_out_of_merge_window,
        gauge_latest warming_clusters,
    }
}

stats! {
    /// `listener.<address or stat_prefix>.`
    ListenerStats {
        gauge downstream_cx_active,
        counter downstream_cx_destroy,
        counter downstream_cx_overflow,
        counter downstream_cx_overload_reject,
        counter downstream_cx_total,
        counter downstream_cx_transport_socket_connect_timeout,
        counter downstream_global_cx_overflow,
        counter downstream_listener_filter_error,
        counter downstream_listener_filter_remote_close,
        gauge downstream_pre_cx_active,
        counter downstream_pre_cx_timeout,
        counter extension_config_missing,
        counter network_extension_config_missing,
        counter no_filter_chain_match,
        histogram connections_accepted_per_socket_event,
        histogram downstream_cx_length_ms,
    }
}

stats! {
    /// `listener.<address>.ssl.`
    SslStats {
        counter connection_error = "ssl.connection_error",
        counter fail_verify_cert_hash = "ssl.fail_verify_cert_hash",
        counter fail_verify_error = "ssl.fail_verify_error",
        counter fail_verify_no_cert = "ssl.fail_verify_no_cert",
        counter fail_verify_san = "ssl.fail_verify_san",
        counter handshake = "ssl.handshake",
        counter no_certificate = "ssl.no_certificate",
        counter ocsp_staple_failed = "ssl.ocsp_staple_failed",
        counter ocsp_staple_omitted = "ssl.ocsp_staple_omitted",
        counter ocsp_staple_requests = "ssl.ocsp_staple_requests",
        counter ocsp_staple_responses = "ssl.ocsp_staple_responses",
        counter session_reused = "ssl.session_reused",
    }
}

stats! {
    /// `tls_inspector.`: what clients said first.
    TlsInspectorStats {
        counter alpn_found = "tls_inspector.alpn_found",
        counter alpn_not_found = "tls_inspector.alpn_not_found",
        counter client_hello_too_large = "tls_inspector.client_hello_too_large",
        counter sni_found = "tls_inspector.sni_found",
        counter sni_not_found = "tls_inspector.sni_not_found",
        counter tls_found = "tls_inspector.tls_found",
        counter tls_not_found = "tls_inspector.tls_not_found",
        histogram bytes_processed = "tls_inspector.bytes_processed",
    }
}

stats! {
    /// `listener.<address>.worker_<n>.`
    ListenerWorkerStats {
        gauge downstream_cx_active,
        counter downstream_cx_total,
    }
}

stats! {
    /// `listener.<address>.http.<stat_prefix>.`: what the connection manager counts for its listener.
    ListenerHttpStats {
        counter downstream_rq_1xx,
        counter downstream_rq_2xx,
        counter downstream_rq_3xx,
        counter downstream_rq_4xx,
        counter downstream_rq_5xx,
        counter downstream_rq_completed,
    }
}

stats! {
    /// `http.<stat_prefix>.`
    HttpStats {
        gauge downstream_cx_active,
        counter downstream_cx_delayed_close_timeout,
        counter downstream_cx_destroy,
        counter downstream_cx_destroy_active_rq,
        counter downstream_cx_destroy_local,
        counter downstream_cx_destroy_local_active_rq,
        counter downstream_cx_destroy_remote,
        counter downstream_cx_destroy_remote_active_rq,
        counter downstream_cx_drain_close,
        gauge downstream_cx_http1_active,
        gauge downstream_cx_http1_soft_drain,
        counter downstream_cx_http1_total,
        gauge downstream_cx_http2_active,
        counter downstream_cx_http2_total,
        gauge downstream_cx_http3_active,
        counter downstream_cx_http3_total,
        counter downstream_cx_idle_timeout,
        counter downstream_cx_max_duration_reached,
        counter downstream_cx_max_requests_reached,
        counter downstream_cx_overload_disable_keepalive,
        counter downstream_cx_protocol_error,
        gauge downstream_cx_rx_bytes_buffered,
        counter downstream_cx_rx_bytes_total,
        gauge downstream_cx_ssl_active,
        counter downstream_cx_ssl_total,
        counter downstream_cx_total,
        gauge downstream_cx_tx_bytes_buffered,
        counter downstream_cx_tx_bytes_total,
        gauge downstream_cx_upgrades_active,
        counter downstream_cx_upgrades_total,
        counter downstream_flow_control_paused_reading_total,
        counter downstream_flow_control_resumed_reading_total,
        counter downstream_rq_1xx,
        counter downstream_rq_2xx,
        counter downstream_rq_3xx,
        counter downstream_rq_4xx,
        counter downstream_rq_5xx,
        gauge downstream_rq_active,
        counter downstream_rq_completed,
        counter downstream_rq_failed_path_normalization,
        counter downstream_rq_header_timeout,
        counter downstream_rq_http1_total,
        counter downstream_rq_http2_total,
        counter downstream_rq_http3_total,
        counter downstream_rq_idle_timeout,
        counter downstream_rq_max_duration_reached,
        counter downstream_rq_non_relative_path,
        counter downstream_rq_overload_close,
        counter downstream_rq_redirected_with_normalized_path,
        counter downstream_rq_rejected_via_ip_detection,
        counter downstream_rq_response_before_rq_complete,
        counter downstream_rq_rx_reset,
        counter downstream_rq_timeout,
        counter downstream_rq_too_large,
        counter downstream_rq_too_many_premature_resets,
        counter downstream_rq_total,
        counter downstream_rq_tx_reset,
        counter downstream_rq_ws_on_non_ws_route,
        counter no_cluster,
        counter no_route,
        counter passthrough_internal_redirect_bad_location,
        counter passthrough_internal_redirect_no_route,
        counter passthrough_internal_redirect_predicate,
        counter passthrough_internal_redirect_too_many_redirects,
        counter passthrough_internal_redirect_unsafe_scheme,
        counter rq_direct_response,
        counter rq_overload_local_reply,
        counter rq_redirect,
        counter rq_reset_after_downstream_response_started,
        counter rq_total,
        counter rs_too_large,
        histogram downstream_cx_length_ms,
        histogram downstream_rq_time,
    }
}

stats! {
    /// `http.<stat_prefix>.tracing.`
    TracingStats {
        counter client_enabled,
        counter health_check,
        counter not_traceable,
        counter random_sampling,
        counter service_forced,
    }
}

stats! {
    /// `tcp.<stat_prefix>.`
    TcpStats {
        counter downstream_cx_drain_close,
        counter downstream_cx_no_route,
        counter downstream_cx_overload_close,
        gauge downstream_cx_rx_bytes_buffered,
        counter downstream_cx_rx_bytes_total,
        counter downstream_cx_total,
        gauge downstream_cx_tx_bytes_buffered,
        counter downstream_cx_tx_bytes_total,
        counter downstream_flow_control_paused_reading_total,
        counter downstream_flow_control_resumed_reading_total,
        counter early_data_received_count_total,
        counter idle_timeout,
        counter max_downstream_connection_duration,
        counter route_delayed_total,
        gauge upstream_flush_active,
        counter upstream_flush_total,
    }
}

stats! {
    /// `http1.` (all downstream connections) and `cluster.<name>.http1.`: what the codec refused.
    Http1Stats {
        counter dropped_headers_with_underscores,
        counter metadata_not_supported_error,
        counter requests_rejected_with_underscores_in_headers,
        counter response_flood,
    }
}

stats! {
    /// `cluster.<name>.`; response codes are in [`CodeCounters`].
    ClusterStats {
        counter assignment_stale,
        counter assignment_timeout_received,
        counter assignment_use_cached,
        counter bind_errors,
        counter default_total_match_count = "default.total_match_count",
        counter lb_healthy_panic,
        counter lb_local_cluster_not_ok,
        counter lb_recalculate_zone_structures,
        gauge lb_subsets_active,
        counter lb_subsets_created,
        counter lb_subsets_fallback,
        counter lb_subsets_fallback_panic,
        counter lb_subsets_removed,
        counter lb_subsets_selected,
        counter lb_zone_cluster_too_small,
        counter lb_zone_no_capacity_left,
        counter lb_zone_routing_all_directly,
        counter lb_zone_routing_cross_zone,
        counter lb_zone_routing_sampled,
        gauge_latest max_host_weight,
        counter membership_change,
        gauge_latest membership_degraded,
        gauge_latest membership_excluded,
        gauge_latest membership_healthy,
        gauge_latest membership_total,
        counter original_dst_host_invalid,
        counter retry_or_shadow_abandoned,
        counter update_attempt,
        counter update_empty,
        counter update_failure,
        counter update_no_rebuild,
        counter update_success,
        gauge upstream_cx_active,
        counter upstream_cx_close_notify,
        counter upstream_cx_connect_attempts_exceeded,
        counter upstream_cx_connect_fail,
        counter upstream_cx_connect_timeout,
        counter upstream_cx_connect_with_0_rtt,
        counter upstream_cx_destroy,
        counter upstream_cx_destroy_local,
        counter upstream_cx_destroy_local_with_active_rq,
        counter upstream_cx_destroy_remote,
        counter upstream_cx_destroy_remote_with_active_rq,
        counter upstream_cx_destroy_with_active_rq,
        counter upstream_cx_http1_total,
        counter upstream_cx_http2_total,
        counter upstream_cx_http3_total,
        counter upstream_cx_idle_timeout,
        counter upstream_cx_max_duration_reached,
        counter upstream_cx_max_requests,
        counter upstream_cx_none_healthy,
        counter upstream_cx_overflow,
        counter upstream_cx_pool_overflow,
        counter upstream_cx_preconnect_skipped,
        counter upstream_cx_protocol_error,
        gauge upstream_cx_rx_bytes_buffered,
        counter upstream_cx_rx_bytes_total,
        counter upstream_cx_total,
        gauge upstream_cx_tx_bytes_buffered,
        counter upstream_cx_tx_bytes_total,
        counter upstream_flow_control_backed_up_total,
        counter upstream_flow_control_drained_total,
        counter upstream_flow_control_paused_reading_total,
        counter upstream_flow_control_resumed_reading_total,
        counter upstream_http3_broken,
        counter upstream_internal_redirect_failed_total,
        counter upstream_internal_redirect_succeeded_total,
        gauge_latest upstream_queue_overloaded,
        counter upstream_rq_0rtt,
        gauge upstream_rq_active,
        counter upstream_rq_active_overflow,
        counter upstream_rq_cancelled,
        counter upstream_rq_completed,
        counter upstream_rq_maintenance_mode,
        counter upstream_rq_max_duration_reached,
        gauge upstream_rq_pending_active,
        counter upstream_rq_pending_failure_eject,
        counter upstream_rq_pending_overflow,
        counter upstream_rq_pending_total,
        counter upstream_rq_per_try_idle_timeout,
        counter upstream_rq_per_try_timeout,
        counter upstream_rq_retry,
        counter upstream_rq_retry_backoff_exponential,
        counter upstream_rq_retry_backoff_ratelimited,
        counter upstream_rq_retry_limit_exceeded,
        counter upstream_rq_retry_overflow,
        counter upstream_rq_retry_success,
        counter upstream_rq_rx_reset,
        counter upstream_rq_rx_reset_no_error,
        counter upstream_rq_timeout,
        counter upstream_rq_total,
        counter upstream_rq_tx_reset,
        gauge_latest version,
        gauge_latest warming_state,
        histogram upstream_cx_connect_ms,
        histogram upstream_cx_length_ms,
        histogram upstream_rq_per_cx,
        histogram upstream_rq_time,
    }
}

stats! {
    /// `vhost.<virtual host>.vcluster.<name>.` and `vhost.<virtual host>.route.<stat_prefix>.`; response codes are in [`CodeCounters`].
    RouteCounters {
        counter upstream_rq_retry,
        counter upstream_rq_retry_limit_exceeded,
        counter upstream_rq_retry_overflow,
        counter upstream_rq_retry_success,
        counter upstream_rq_timeout,
        counter upstream_rq_total,
        histogram upstream_rq_time,
    }
}

stats! {
    /// `cluster.<name>.circuit_breakers.<priority>.`: 1 while the limit is reached. Sums, because the thread that closes a
    /// breaker need not be the one that opened it.
    CircuitBreakerStats {
        gauge cx_open,
        gauge cx_pool_open,
        gauge rq_open,
        gauge rq_pending_open,
        gauge rq_retry_open,
    }
}

/// A response counted by class and as complete.
macro_rules! responses {
    ($name:ident) => {
        impl $name {
            /// Counts a response: its class, and that it is complete.
            pub fn response(&self, status: u16) {
                let classes = [
                    &self.downstream_rq_1xx,
                    &self.downstream_rq_2xx,
                    &self.downstream_rq_3xx,
                    &self.downstream_rq_4xx,
                    &self.downstream_rq_5xx,
                ];
                count_response(classes, &self.downstream_rq_completed, status);
            }
        }
    };
}

responses!(ListenerHttpStats);
responses!(HttpStats);

fn count_response(classes: [&Counter; 5], completed: &Counter, status: u16) {
    completed.inc();
    if let Some(class) = usize::from(status / 100).checked_sub(1).and_then(|index| classes.get(index)) {
        class.inc();
    }
}
