//! The HTTP filters of this proxy: a folder and a line each.
//!
//! A filter's folder has its settings (how they are read, what they are) and what it does. The router is no filter of this list: it ends
//! every chain. A program that links this library has a list of its own ([`crate::server::Options::http_filters`]).

mod composite;
mod compressor;
mod decompressor;
mod denial;
mod grpc;
mod grpc_http1_bridge;
mod grpc_http1_reverse_bridge;
mod grpc_stats;
mod grpc_web;
mod held;
mod kept;
mod local_ratelimit;
mod match_delegate;
mod owned;
mod rbac;
mod recoded;
mod set_filter_state;

#[cfg(any(test, feature = "fuzzing"))]
pub(crate) use compressor::accepts as accept_encoding;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) use grpc_web::fuzz_body as grpc_body;

use crate::config::extension::HttpFilterKind;

use super::filter::Extension;

pub mod buffer;
pub mod cors;
pub mod csrf;
pub mod fault;
pub mod header_mutation;
pub mod header_to_metadata;
pub mod health_check;
pub mod set_metadata;

/// All of them.
pub const ALL: &[Extension] = &[
    buffer::EXTENSION,
    composite::EXTENSION,
    compressor::EXTENSION,
    cors::EXTENSION,
    csrf::EXTENSION,
    decompressor::EXTENSION,
    fault::EXTENSION,
    grpc_http1_bridge::EXTENSION,
    grpc_http1_reverse_bridge::EXTENSION,
    grpc_stats::EXTENSION,
    grpc_web::EXTENSION,
    header_mutation::EXTENSION,
    header_to_metadata::EXTENSION,
    health_check::EXTENSION,
    local_ratelimit::EXTENSION,
    match_delegate::EXTENSION,
    rbac::EXTENSION,
    set_filter_state::EXTENSION,
    set_metadata::EXTENSION,
];

/// The kinds of all filters, these and `others`: what reading a configuration needs to know.
pub fn kinds(others: &[Extension]) -> Vec<HttpFilterKind> {
    others.iter().chain(ALL).map(|extension| extension.kind).collect()
}
