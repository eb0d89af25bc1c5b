//! Typed messages to [`super::model`]: one file per resource.
//!
//! Every message is taken apart by name, without `..`, so that a field that a new release of the API brings does not compile
//! until somebody has decided about it. What is set and not honoured is refused where ignoring it would change traffic or
//! security ([`refuse!`]), and warned about where it only tunes ([`ignore!`]). Constraint rules have been checked before.
//! A function that takes a message apart is as long as the message; what it decides is in the lines below the list.

/// Refuses every named field that is set: ignoring it would change traffic or security.
macro_rules! refuse {
    ($cx:expr; $($field:ident),+ $(,)?) => {
        $(if $crate::config::convert::values::IsSet::is_set(&$field) {
            $cx.refuse(stringify!($field));
        })+
    };
}

/// Warns about every named field that is set: it only tunes.
macro_rules! ignore {
    ($cx:expr; $($field:ident),+ $(,)?) => {
        $(if $crate::config::convert::values::IsSet::is_set(&$field) {
            $cx.ignore(stringify!($field));
        })+
    };
}

mod access_log;
mod address;
mod bootstrap;
mod chain_matcher;
mod client_cert;
mod cluster;
mod context;
mod cors;
mod early_headers;
mod endpoint;
mod extension;
mod filter_chain;
mod filter_settings;
#[cfg(any(test, feature = "fuzzing"))]
pub(super) mod fuzz;
mod header_rules;
mod http2;
mod http_connection_manager;
mod http_filters;
mod http_options;
mod http_target;
mod ip_detection;
mod listener;
mod listener_filter;
mod local_reply;
mod matcher;
mod matching;
mod mirror;
mod rate_limit;
mod reading;
mod retry;
mod route;
mod runtime;
mod stats;
mod tcp_proxy;
mod tls;
mod tls_clients;
mod upgrade;
mod upstream_http;
mod values;
mod virtual_host;

#[cfg(test)]
mod tests;

use envoy_types::pb::envoy::config::bootstrap::v3 as api;

use super::diagnostic::{Findings, Path, Severity};
use super::extension::{HttpFilterKind, NetworkFilterKind};
use super::model;
pub(super) use context::Context;

/// Turns a bootstrap into the model. `suspect` are the places where earlier stages found faults: references into them are
/// not followed, because their absence would only repeat the fault.
pub(super) fn bootstrap(
    message: api::Bootstrap,
    unknown_fields: Severity,
    suspect: &[Path],
    http_filters: &[HttpFilterKind],
    network_filters: &[NetworkFilterKind],
) -> (model::Bootstrap, Findings) {
    let mut context = Context::new(unknown_fields, suspect, http_filters, network_filters);
    let bootstrap = bootstrap::convert(&mut context, message);
    (bootstrap, context.findings)
}
