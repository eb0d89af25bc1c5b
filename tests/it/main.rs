//! Scenarios of the data path, in one process: one file per theme.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "here a panic is the report")]

#[path = "../support/mod.rs"]
mod support;

mod access_log;
mod basics;
mod bodies;
mod compressor;
mod counters;
mod decompressor;
mod drain;
mod filters;
mod filters_buffer;
mod filters_composite;
mod filters_fault;
mod filters_headers;
mod filters_health_check;
mod filters_metadata;
mod filters_motion;
mod filters_origins;
mod flight;
mod foreign_filters;
mod foreign_network_filters;
mod grpc_bridges;
mod grpc_stats;
mod grpc_web;
mod hedging;
mod http2;
mod http2_frames;
mod http2_hosts;
mod internal_redirects;
mod limits;
mod local_ratelimit;
mod local_replies;
mod malformed;
mod manager_options;
mod manners;
mod matching;
mod mirroring;
mod motion;
mod rate_limits;
mod rbac;
mod replays;
mod retries;
mod router;
mod routing;
mod runtime;
mod targets;
mod tcp_proxy;
mod timeouts;
mod tls;
mod tls_clients;
mod upgrade;
mod upgrade_http2;
mod upgrade_http2_ends;
mod upgrade_http2_many;
mod upgrade_http2_tls;
mod upgrade_motion;
mod upstream_faults;
