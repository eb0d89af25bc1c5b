//! The names of statistics, and nothing else: every name this proxy counts under stands here and in the files of this folder.
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

/// The scope that a request has named for its response (`x-envoy-upstream-alt-stat-name`), from the scope of a cluster.
pub fn alternative(cluster: &Scope, name: &str) -> Scope {
    cluster.scope(name)
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

mod cluster;
mod compression;
mod filters;
mod grpc;
mod http;
mod http2;
mod listener;
mod local_rate_limit;
mod rbac;
mod runtime;

pub use cluster::{CircuitBreakerStats, ClusterManagerStats, ClusterStats, RouteCounters};
pub use compression::{AcceptStats, CompressionStats, DecompressionStats};
pub use filters::{
    CompositeStats, CorsStats, CsrfStats, FaultCallerStats, FaultStats, HealthCheckStats, SetMetadataStats,
    fault_caller,
};
pub use grpc::GrpcCounters;
pub use http::{Http1Stats, HttpStats, ListenerHttpStats, TracingStats};
pub use http2::Http2Stats;
pub use listener::{ListenerManagerStats, ListenerStats, ListenerWorkerStats, SslStats, TlsInspectorStats};
pub use local_rate_limit::LocalRateLimitStats;
pub use rbac::{RbacShadowStats, RbacStats};
pub use runtime::RuntimeStats;

/// The scope of a local rate limit, from the scope of all statistics.
pub fn http_local_rate_limit(root: &Scope, stat_prefix: &str) -> Scope {
    root.scope(stat_prefix).scope("http_local_rate_limit")
}

/// The scope of role-based access control, from that of its connection manager; `stat_prefix` may be empty.
pub fn rbac(http: &Scope, stat_prefix: &str) -> Scope {
    let scope = http.scope("rbac");
    if stat_prefix.is_empty() { scope } else { scope.scope(stat_prefix.trim_end_matches('.')) }
}

/// The scope of a compressor, from that of its connection manager.
pub fn compressor(http: &Scope, library: &str, algorithm: &str) -> Scope {
    http.scope("compressor").scope(library).scope(algorithm)
}

/// The scope of a decompressor, from that of its connection manager.
pub fn decompressor(http: &Scope, library: &str, algorithm: &str) -> Scope {
    http.scope("decompressor").scope(library).scope(algorithm)
}

/// The scope of one policy, from that of the rules.
pub fn rbac_policy(rules: &Scope, name: &str) -> Scope {
    rules.scope("policy").scope(name)
}

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
    /// `server.`: connections that an epoch has given to the next one, by kind, and those that it could not give, by reason; `unmovable` are those that
    /// never move (HTTP/2, TLS, tunnels with a stream in them), as many as there were when the motion began. Not Envoy's.
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
        counter refused_unmovable = "connections_refused.unmovable",
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
