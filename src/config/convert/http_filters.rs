//! HTTP filters: the chain, and what routes say of single filters.

use std::collections::HashMap;

use envoy_types::pb::envoy::config::route::v3 as route;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3 as api;
use envoy_types::pb::google::protobuf::Any;

use super::context::Context;
use super::cors;
use super::extension::{HTTP_FILTERS, decode, type_of};
use crate::config::extension::{Given, Read, Reader};
use crate::config::model::{FilterModel, HttpFilter, RouteFilter, RouteFilters, Settings};
use crate::config::schema::Message;
use crate::config::{typed_struct, wire};

const FILTER_CONFIG: &str = "envoy.config.route.v3.FilterConfig";

/// What became of one entry of `http_filters`.
enum Slot {
    Filter(HttpFilter),
    /// Optional, and not known here.
    LeftOut,
    /// Faulty: that has been said.
    Refused,
}

pub(super) fn chain(cx: &mut Context, messages: Vec<api::HttpFilter>) -> Vec<HttpFilter> {
    let count = messages.len();
    let (mut has_router, mut has_refused) = (false, false);
    cx.filter_names = messages.iter().map(|message| message.name.clone()).collect();
    cx.cors_filters = messages.iter().filter(|message| is_cors(message)).map(|message| message.name.clone()).collect();
    let filters = cx.each("http_filters", messages.into_iter().enumerate(), |cx, (at, message)| {
        match filter(cx, message) {
            Slot::Filter(filter) => {
                if let HttpFilter::Router(_) = &filter {
                    has_router = true;
                    if at + 1 < count {
                        cx.error("the router is terminal and must be the last HTTP filter");
                    }
                }
                return Some(filter);
            }
            Slot::LeftOut => {}
            Slot::Refused => has_refused = true,
        }
        None
    });
    if !has_router && !has_refused {
        cx.error_at("http_filters", "must end with the router (envoy.filters.http.router)");
    }
    filters
}

fn is_cors(message: &api::HttpFilter) -> bool {
    matches!(&message.config_type, Some(api::http_filter::ConfigType::TypedConfig(any)) if type_of(any) == cors::FILTER)
}

fn filter(cx: &mut Context, message: api::HttpFilter) -> Slot {
    let api::HttpFilter { name, is_optional, disabled, config_type } = message;
    let any = match config_type {
        Some(api::http_filter::ConfigType::TypedConfig(any)) => Some(any),
        Some(api::http_filter::ConfigType::ConfigDiscovery(_)) => {
            cx.refuse("config_discovery");
            return Slot::Refused;
        }
        None => None,
    };
    let type_name = any.as_ref().map(type_of).unwrap_or_default();
    let kind = cx.http_filters.iter().copied().find(|kind| kind.type_name == type_name);
    cx.at("typed_config", |cx| {
        if let (Some(kind), Some(any)) = (kind, &any) {
            return match settings(cx, any, kind.type_name, kind.settings) {
                Some(settings) => {
                    Slot::Filter(HttpFilter::Extension(FilterModel { name, type_name, settings, disabled }))
                }
                None => Slot::Refused,
            };
        }
        if is_optional && !HTTP_FILTERS.knows(any.as_ref()) {
            cx.warn("is not supported yet and, being optional, is left out");
            return Slot::LeftOut;
        }
        let others = cx.http_filters.iter().map(|kind| kind.type_name).collect();
        let router = HTTP_FILTERS.parse_among(cx, &name, any.as_ref(), others);
        if disabled && router.is_some() {
            cx.error("the router cannot be disabled");
        }
        router.map_or(Slot::Refused, Slot::Filter)
    })
}

/// A filter within another one: any but the router.
pub(super) fn within(cx: &mut Context, name: String, any: Option<&Any>) -> Option<FilterModel> {
    let type_name = any.map(type_of).unwrap_or_default();
    let kind = cx.http_filters.iter().copied().find(|kind| kind.type_name == type_name);
    cx.at("typed_config", |cx| {
        let (Some(kind), Some(any)) = (kind, any) else {
            let known: Vec<&str> = cx.http_filters.iter().map(|kind| kind.type_name).collect();
            let known = known.join(", ");
            cx.error(match type_name.as_str() {
                "" => format!("'{name}' has no \"@type\" that would say which HTTP filter it is; known: {known}"),
                _ => format!("the HTTP filter {type_name} is not supported here; known: {known}"),
            });
            return None;
        };
        let settings = settings(cx, any, kind.type_name, kind.settings)?;
        Some(FilterModel { name, type_name, settings, disabled: false })
    })
}

/// Reads settings.
pub(super) fn read(cx: &mut Context, read: Read, given: Given<'_>) -> Option<Settings> {
    read(&mut Reader::new(cx), given)
}

/// Reads settings of a type.
pub(super) fn settings(cx: &mut Context, any: &Any, type_name: &str, read: Read) -> Option<Settings> {
    given(cx, any, type_name, |cx, given| read(&mut Reader::new(cx), given))
}

/// Reads what is given as an `Any` of a type, or as a `TypedStruct` that stands for it.
pub(super) fn given<T>(
    cx: &mut Context,
    any: &Any,
    type_name: &str,
    read: impl FnOnce(&mut Context, Given<'_>) -> T,
) -> T {
    if !Message::by_url(&any.type_url).is_some_and(Message::is_typed_struct) {
        return read(cx, Given::Message(&any.value));
    }
    match Message::by_name(type_name) {
        Some(message) => {
            // Its faults were found when the whole message was checked.
            let (bytes, _) = typed_struct::resolve(&any.value, message, cx.unknown_fields);
            cx.at("value", |cx| read(cx, Given::Message(&bytes)))
        }
        None => {
            let value = typed_struct::to_json(wire::last_bytes(&any.value, 2));
            cx.at("value", |cx| read(cx, Given::Value(value)))
        }
    }
}

/// `typed_per_filter_config`.
pub(super) fn of_route(cx: &mut Context, typed_per_filter_config: HashMap<String, Any>) -> RouteFilters {
    let mut entries: Vec<_> = typed_per_filter_config.into_iter().collect();
    entries.sort_by(|one, other| one.0.cmp(&other.0));
    let mut filters = Vec::with_capacity(entries.len());
    cx.at("typed_per_filter_config", |cx| {
        for (name, any) in entries {
            cx.at_key(&name, |cx| {
                if !cx.filter_names.contains(&name) {
                    cx.warn("no HTTP filter of this connection manager has this name");
                }
                filters.extend(route_filter(cx, &name, &any));
            });
        }
    });
    RouteFilters(filters)
}

fn route_filter(cx: &mut Context, name: &str, any: &Any) -> Option<RouteFilter> {
    let name = name.to_owned();
    if type_of(any) != FILTER_CONFIG {
        return route_settings(cx, any, false).map(|settings| RouteFilter {
            name,
            disabled: false,
            settings: Some(settings),
        });
    }
    let route::FilterConfig { config, is_optional, disabled } = decode(cx, &any.value)?;
    if disabled {
        return Some(RouteFilter { name, disabled, settings: None });
    }
    // Nothing but the wrapper enables a filter that the chain has disabled.
    let Some(config) = config else { return Some(RouteFilter { name, disabled, settings: None }) };
    let settings = cx.at("config", |cx| route_settings(cx, &config, is_optional))?;
    Some(RouteFilter { name, disabled, settings: Some(settings) })
}

fn route_settings(cx: &mut Context, any: &Any, is_optional: bool) -> Option<Settings> {
    let type_name = type_of(any);
    let kind = cx.http_filters.iter().filter_map(|kind| kind.route).find(|kind| kind.type_name == type_name);
    match kind {
        Some(kind) => settings(cx, any, kind.type_name, kind.settings),
        None if is_optional => {
            cx.warn("is not supported yet and, being optional, is left out");
            None
        }
        None => {
            cx.error(format!("no HTTP filter takes the settings {type_name} from a route"));
            None
        }
    }
}
