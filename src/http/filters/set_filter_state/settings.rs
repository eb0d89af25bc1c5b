//! `envoy.extensions.filters.http.set_filter_state.v3.Config`.

use envoy_types::pb::envoy::extensions::filters::common::set_filter_state::v3 as value;
use envoy_types::pb::envoy::extensions::filters::http::set_filter_state::v3 as api;

use crate::config::extension::{Given, Reader};
use crate::config::model::{LogFormat, Settings};

/// The settings.
#[derive(Debug, PartialEq)]
pub(super) struct Model {
    /// `on_request_headers`, in order.
    pub(super) values: Vec<Value>,
    /// `clear_route_cache`.
    pub(super) clear_route: bool,
}

/// `envoy.extensions.filters.common.set_filter_state.v3.FilterStateValue`.
#[derive(Debug, PartialEq)]
pub(super) struct Value {
    pub(super) key: String,
    pub(super) factory: Factory,
    pub(super) format: LogFormat,
    pub(super) skip_if_empty: bool,
}

/// What a text becomes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Factory {
    /// `envoy.string`.
    Text,
    /// `envoy.hashable_string`.
    Hashable,
    /// `envoy.network.ip`.
    Address,
}

/// Those that other parts of Envoy take for an order, which nobody here would follow.
const OTHERS: &[&str] = &[
    "envoy.ai.llm_protocol.request",
    "envoy.ai.model.request",
    "envoy.bool",
    "envoy.filters.listener.original_dst.local_ip",
    "envoy.filters.listener.original_dst.remote_ip",
    "envoy.network.application_protocols",
    "envoy.network.network_namespace",
    "envoy.network.transport_socket.http_11_proxy.info",
    "envoy.network.transport_socket.original_dst_address",
    "envoy.network.upstream_server_name",
    "envoy.network.upstream_subject_alt_names",
    "envoy.ratelimit.hits_addend",
    "envoy.router.debug_config",
    "envoy.tcp_proxy.cluster",
    "envoy.tcp_proxy.disable_tunneling",
    "envoy.tcp_proxy.per_connection_idle_timeout_ms",
    "envoy.upstream.dynamic_host",
    "envoy.upstream.dynamic_port",
];

pub(super) fn read(reader: &mut Reader<'_>, given: Given<'_>) -> Option<Settings> {
    let api::Config { on_request_headers, clear_route_cache } = reader.decode(given)?;
    let count = on_request_headers.len();
    let values = reader.each("on_request_headers", on_request_headers, one);
    (values.len() == count).then(|| Settings::new(Model { values, clear_route: clear_route_cache }))
}

#[allow(deprecated, reason = "what is old has no effect any more")]
fn one(reader: &mut Reader<'_>, message: value::FilterStateValue) -> Option<Value> {
    use value::filter_state_value::{Key, Value as Text};
    let value::FilterStateValue { factory_key, read_only: _, shared_with_upstream, skip_if_empty, key, value } =
        message;
    // There are no internal connections that it could be shared with.
    if shared_with_upstream != 0 {
        reader.ignore("shared_with_upstream");
    }
    let Key::ObjectKey(key) = key?;
    let Text::FormatString(format) = value?;
    let format = reader.at("format_string", |reader| reader.format(format));
    let (field, name) = if factory_key.is_empty() { ("object_key", &key) } else { ("factory_key", &factory_key) };
    let factory = match name.as_str() {
        "envoy.string" => Factory::Text,
        "envoy.hashable_string" => Factory::Hashable,
        "envoy.network.ip" => Factory::Address,
        other if OTHERS.contains(&other) => {
            reader.refuse(field);
            return None;
        }
        other => {
            reader.at(field, |reader| reader.error(format!("'{other}' does not have an object factory")));
            return None;
        }
    };
    Some(Value { key, factory, format: format?, skip_if_empty })
}
