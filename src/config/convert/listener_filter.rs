//! `envoy.config.listener.v3.ListenerFilter`: what looks at a connection before its filter chain is known.

use std::time::Duration;

use envoy_types::pb::envoy::config::listener::v3 as api;
use envoy_types::pb::envoy::extensions::filters::listener::tls_inspector::v3 as inspector;

use super::context::Context;
use super::extension::LISTENER_FILTERS;
use super::values;
use crate::config::model::{FilterChain, Inspection};
use crate::net::tls::LONGEST_HELLO;

/// `listener_filters_timeout`, where nothing is said.
const TIMEOUT: Duration = Duration::from_secs(15);

/// The one that is there reads a client's hello; it is also put in where filter chains need it.
pub(super) fn convert(
    cx: &mut Context,
    filters: Vec<api::ListenerFilter>,
    timeout: Option<Duration>,
    continue_on_timeout: bool,
    needed: bool,
) -> Option<Inspection> {
    let named = cx.each("listener_filters", filters, filter).pop();
    if named.is_none() && needed {
        let text = "the filter chains need envoy.filters.listener.tls_inspector to be matched; it is put in";
        cx.at("listener_filters", |cx| cx.warn(text));
    }
    let Named { max_hello, close_on_errors } =
        named.or(needed.then_some(Named { max_hello: LONGEST_HELLO, close_on_errors: false }))?;
    let timeout = timeout.unwrap_or(TIMEOUT);
    let timeout = (!timeout.is_zero()).then_some(timeout);
    Some(Inspection { timeout, continue_on_timeout, max_hello, close_on_errors })
}

/// Whether chains are matched by what a client says first.
pub(super) fn needs_hello(chains: &[FilterChain]) -> bool {
    chains.iter().map(|chain| &chain.matches).any(|matches| match matches.transport_protocol.as_str() {
        "" => !matches.server_names.is_empty() || !matches.application_protocols.is_empty(),
        protocol => protocol == "tls",
    })
}

/// The settings of a TLS inspector.
pub(super) struct Named {
    max_hello: usize,
    close_on_errors: bool,
}

fn filter(cx: &mut Context, message: api::ListenerFilter) -> Option<Named> {
    let api::ListenerFilter { name, filter_disabled, config_type } = message;
    refuse!(cx; filter_disabled);
    let any = match config_type {
        Some(api::listener_filter::ConfigType::TypedConfig(any)) => Some(any),
        Some(api::listener_filter::ConfigType::ConfigDiscovery(_)) => {
            cx.refuse("config_discovery");
            return None;
        }
        None => None,
    };
    cx.at("typed_config", |cx| LISTENER_FILTERS.parse(cx, &name, any.as_ref()))
}

pub(super) fn tls_inspector(cx: &mut Context, message: inspector::TlsInspector) -> Named {
    let inspector::TlsInspector {
        enable_ja3_fingerprinting,
        enable_ja4_fingerprinting,
        initial_read_buffer_size,
        close_connection_on_client_hello_parsing_errors,
        max_client_hello_size,
    } = message;
    let enable_ja3_fingerprinting = values::is_true(&enable_ja3_fingerprinting);
    let enable_ja4_fingerprinting = values::is_true(&enable_ja4_fingerprinting);
    ignore!(cx; enable_ja3_fingerprinting, enable_ja4_fingerprinting, initial_read_buffer_size);
    let max_hello = values::number(&max_client_hello_size).map_or(LONGEST_HELLO, |most| most as usize);
    Named { max_hello: max_hello.min(LONGEST_HELLO), close_on_errors: close_connection_on_client_hello_parsing_errors }
}
