//! `envoy.config.bootstrap.v3.LayeredRuntime`, and what asks it.

use std::collections::{BTreeMap, HashSet};
use std::path::PathBuf;

use envoy_types::pb::envoy::config::bootstrap::v3 as api;
use envoy_types::pb::envoy::config::core::v3 as core;
use envoy_types::pb::google::protobuf::{self, value::Kind};

use super::context::Context;
use super::matcher;
use crate::config::model::{Fraction, Keyed, RuntimeLayer, RuntimeLayers};
use crate::runtime::{Layer, Runtime, Snapshot, Value, denominator};

/// Structures within structures.
const MAX_DEPTH: usize = 16;

/// Names that Envoy has given a meaning to, by their beginning; those of them that mean something here.
const RESERVED: [&str; 9] = [
    "envoy.",
    "overload.",
    "re2.",
    "upstream.",
    "tracing.",
    "health_check.",
    "ratelimit.",
    "http.",
    "circuit_breakers.",
];
const KNOWN: [&str; 7] = [
    "overload.global_downstream_max_connections",
    "envoy.resource_limits.listener.",
    "upstream.use_retry",
    "upstream.base_retry_backoff_ms",
    "upstream.maintenance_mode.",
    "circuit_breakers.",
    "health_check.",
];

/// The layers. Converted before what asks them.
pub(super) fn convert(cx: &mut Context, message: Option<api::LayeredRuntime>) -> RuntimeLayers {
    use api::runtime_layer::LayerSpecifier;
    let Some(api::LayeredRuntime { layers }) = message else { return RuntimeLayers::default() };
    let mut names = HashSet::new();
    let mut has_admin = false;
    let layers = cx.at("layered_runtime", |cx| {
        cx.each("layers", layers, |cx, layer| {
            let api::RuntimeLayer { name, layer_specifier } = layer;
            if !names.insert(name.clone()) {
                cx.error_at("name", format!("Duplicate layer name: {name}"));
            }
            match layer_specifier? {
                LayerSpecifier::StaticLayer(values) => {
                    Some(RuntimeLayer::Static(cx.at("static_layer", |cx| static_layer(cx, name, values))))
                }
                LayerSpecifier::DiskLayer(disk) => Some(self::disk(cx, name, disk)),
                LayerSpecifier::AdminLayer(_) if std::mem::replace(&mut has_admin, true) => {
                    cx.error_at(
                        "admin_layer",
                        "Too many admin layers specified in LayeredRuntime, at most one may be specified",
                    );
                    None
                }
                LayerSpecifier::AdminLayer(api::runtime_layer::AdminLayer {}) => Some(RuntimeLayer::Admin(name)),
                LayerSpecifier::RtdsLayer(_) => {
                    cx.refuse("rtds_layer");
                    None
                }
            }
        })
    });
    if layers.is_empty() {
        return RuntimeLayers::default();
    }
    let values = Runtime::new();
    let of_text = layers.iter().filter_map(|layer| match layer {
        RuntimeLayer::Static(layer) => Some(layer.clone()),
        RuntimeLayer::Disk { .. } | RuntimeLayer::Admin(_) => None,
    });
    values.publish(Snapshot::new(of_text.collect()));
    RuntimeLayers { layers, deprecated: 0, values }
}

fn disk(cx: &Context, name: String, message: api::runtime_layer::DiskLayer) -> RuntimeLayer {
    let api::runtime_layer::DiskLayer { symlink_root, append_service_cluster, subdirectory } = message;
    let root = PathBuf::from(symlink_root);
    let mut folder = root.join(subdirectory.trim_start_matches('/'));
    if append_service_cluster {
        folder.push(&cx.node.cluster);
    }
    RuntimeLayer::Disk { name, root, folder }
}

fn static_layer(cx: &mut Context, name: String, message: protobuf::Struct) -> Layer {
    let mut values = BTreeMap::new();
    walk(cx, "", message, 0, &mut values);
    for name in values.keys() {
        let begins = |prefixes: &[&str]| prefixes.iter().any(|prefix| name.starts_with(prefix));
        if begins(&RESERVED) && !begins(&KNOWN) {
            cx.at_key(name, |cx| cx.warn("is a name of Envoy's own that has no effect here"));
        }
    }
    Layer { name, values }
}

/// Structures are names joined by dots, but for one that is meant as a fraction.
fn walk(cx: &mut Context, prefix: &str, message: protobuf::Struct, depth: usize, values: &mut BTreeMap<String, Value>) {
    if depth == MAX_DEPTH {
        cx.error(format!("more than {MAX_DEPTH} structures within one another"));
        return;
    }
    for (name, value) in message.fields {
        let full = if prefix.is_empty() { name.clone() } else { format!("{prefix}.{name}") };
        cx.at_key(&name, |cx| {
            let value = match value.kind {
                Some(Kind::NumberValue(number)) => Value::of_number(number),
                Some(Kind::BoolValue(boolean)) => Value::of_boolean(boolean),
                Some(Kind::StringValue(text)) => Value::of_text(text),
                Some(Kind::StructValue(inner)) if is_fraction(&inner) => fraction(&inner),
                Some(Kind::StructValue(inner)) => return walk(cx, &full, inner, depth + 1, values),
                Some(Kind::ListValue(_) | Kind::NullValue(_)) | None => {
                    return cx.error(format!("Invalid runtime entry value for {full}"));
                }
            };
            values.insert(full, value);
        });
    }
}

fn is_fraction(message: &protobuf::Struct) -> bool {
    message.fields.contains_key("numerator") || message.fields.contains_key("denominator")
}

/// Shown as Envoy shows it: the message in the debug format.
fn fraction(message: &protobuf::Struct) -> Value {
    let (mut numerator, mut of, mut is_one, mut shown) = (0, 100, true, String::new());
    let sorted: BTreeMap<_, _> = message.fields.iter().collect();
    for (name, value) in sorted {
        let text = match &value.kind {
            Some(Kind::NumberValue(number)) => format!("number_value: {number}"),
            Some(Kind::StringValue(text)) => format!("string_value: {text:?}"),
            Some(Kind::BoolValue(boolean)) => format!("bool_value: {boolean}"),
            _ => "...".to_owned(),
        };
        shown += &format!("fields {{\n  key: {name:?}\n  value {{\n    {text}\n  }}\n}}\n");
        match (name.as_str(), &value.kind) {
            ("numerator", Some(Kind::NumberValue(number))) if (0.0..=f64::from(u32::MAX)).contains(number) => {
                numerator = *number as u32;
            }
            ("denominator", Some(Kind::StringValue(name))) => match denominator(name) {
                Some(number) => of = number,
                None => is_one = false,
            },
            _ => is_one = false,
        }
    }
    Value::of_fraction(shown, is_one.then_some((numerator, of)))
}

impl Context {
    /// A part of all requests.
    pub(super) fn fraction(&self, message: core::RuntimeFractionalPercent) -> Keyed<Fraction> {
        let core::RuntimeFractionalPercent { default_value, runtime_key } = message;
        self.keyed(matcher::percent(default_value.unwrap_or_default()), &runtime_key)
    }

    /// A switch that is `otherwise` where nothing is said.
    pub(super) fn flag(&self, message: Option<core::RuntimeFeatureFlag>, otherwise: bool) -> Keyed<bool> {
        let core::RuntimeFeatureFlag { default_value, runtime_key } = message.unwrap_or_default();
        self.keyed(default_value.map_or(otherwise, |value| value.value), &runtime_key)
    }

    /// A setting that the runtime value of that name replaces.
    pub(super) fn keyed<T: Copy>(&self, default: T, name: &str) -> Keyed<T> {
        Keyed::new(default, &self.runtime, name)
    }
}
