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
mod filters_fault;
mod filters_headers;
mod filters_health_check;
mod filters_metadata;
mod filters_motion;
mod filters_origins;
mod flight;
mod foreign_filters;
mod http2;
mod http2_frames;
mod http2_hosts;
mod limits;
mod local_ratelimit;
mod local_replies;
mod malformed;
mod manners;
mod motion;
mod rbac;
mod replays;
mod retries;
mod routing;
mod targets;
mod tcp_proxy;
mod timeouts;
mod tls;
mod tls_clients;
mod upgrade;
mod upgrade_motion;
mod upstream_faults;
