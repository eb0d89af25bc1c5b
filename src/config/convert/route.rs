//! `envoy.config.route.v3.RouteConfiguration` and its routes.

use envoy_types::pb::envoy::config::route::v3 as api;

use super::context::Context;
use super::header_rules::{self, Lists};
use super::{access_log, cors, http_filters, mirror, retry, values, virtual_host};
use crate::config::convert::matching::of_resource;
use crate::config::model::{Mirror, Piece, Route, RouteAction, RouteConfiguration, Tries};

mod action;
mod clusters;
mod direct_response;
mod hash;
mod internal_redirect;
mod matching;
mod redirect;

pub(super) use matching::template;

pub(super) use direct_response::data;

const MAX_DIRECT_RESPONSE_BODY: u32 = 4096;

/// What the routes of a table must know of it.
pub(super) struct Table {
    pub(super) name: String,
    /// An unknown cluster is an error; otherwise its requests get a 503.
    validates_clusters: bool,
    max_direct_response_body: u32,
    /// `request_mirror_policies`, for routes and virtual hosts without any.
    mirrors: Vec<Mirror>,
}

impl Table {
    /// What the table itself says of mirrors.
    pub(super) fn own_mirrors(&self) -> &[Mirror] {
        &self.mirrors
    }

    /// What a virtual host or a route says of mirrors goes before what is said above it.
    pub(super) fn mirrors(
        &self,
        cx: &mut Context,
        messages: Vec<api::route_action::RequestMirrorPolicy>,
        above: &[Mirror],
    ) -> Vec<Mirror> {
        if messages.is_empty() { above.to_vec() } else { mirror::policies(cx, messages, self.validates_clusters) }
    }
}

/// What routes have from their virtual host where they say nothing themselves.
#[derive(Clone)]
pub(super) struct Inherited {
    pub(super) tries: Tries,
    pub(super) mirrors: Vec<Mirror>,
}

pub(super) fn configuration(cx: &mut Context, message: api::RouteConfiguration) -> RouteConfiguration {
    let api::RouteConfiguration {
        name,
        virtual_hosts,
        vhds,
        internal_only_headers,
        response_headers_to_add,
        response_headers_to_remove,
        request_headers_to_add,
        request_headers_to_remove,
        most_specific_header_mutations_wins,
        validate_clusters,
        max_direct_response_body_size_bytes,
        cluster_specifier_plugins,
        request_mirror_policies,
        ignore_port_in_host_matching,
        vhost_header,
        ignore_path_parameters_in_path_matching,
        typed_per_filter_config,
        metadata,
        route_specifiers,
    } = message;
    refuse!(cx; vhds, cluster_specifier_plugins, vhost_header, route_specifiers);
    ignore!(cx; metadata);
    // True for a table that stands in the file itself.
    let validates_clusters = values::is_not_false(&validate_clusters);
    let table = Table {
        name: name.clone(),
        validates_clusters,
        mirrors: mirror::policies(cx, request_mirror_policies, validates_clusters),
        max_direct_response_body: values::number(&max_direct_response_body_size_bytes)
            .unwrap_or(MAX_DIRECT_RESPONSE_BODY),
    };
    let mut seen = virtual_host::Seen::default();
    let virtual_hosts =
        cx.each("virtual_hosts", virtual_hosts, |cx, host| Some(virtual_host::convert(cx, host, &table, &mut seen)));
    let internal_only_headers = internal_only_headers.iter().map(|name| name.to_ascii_lowercase()).collect();
    let rules = header_rules::convert(
        cx,
        Lists {
            request_add: request_headers_to_add,
            request_remove: request_headers_to_remove,
            response_add: response_headers_to_add,
            response_remove: response_headers_to_remove,
        },
    );
    RouteConfiguration {
        name,
        virtual_hosts,
        internal_only_headers,
        ignore_port_in_host_matching,
        ignore_path_parameters: ignore_path_parameters_in_path_matching,
        most_specific_wins: most_specific_header_mutations_wins,
        rules,
        filters: http_filters::of_route(cx, typed_per_filter_config),
    }
}

/// `inherited` is what the virtual host says.
pub(super) fn convert(cx: &mut Context, message: api::Route, table: &Table, inherited: &Inherited) -> Option<Route> {
    let api::Route {
        name,
        r#match,
        metadata,
        decorator,
        typed_per_filter_config,
        request_headers_to_add,
        request_headers_to_remove,
        response_headers_to_add,
        response_headers_to_remove,
        tracing,
        per_request_buffer_limit_bytes,
        stat_prefix,
        request_body_buffer_limit,
        route_specifiers,
        action,
    } = message;
    refuse!(cx; route_specifiers);
    ignore!(cx; decorator, tracing);
    let metadata = metadata.and_then(|message| of_resource(cx, message)).map(Box::new);
    let mut inherited = inherited.clone();
    let tries = &mut inherited.tries;
    if let Some(limits) = retry::limits(cx, &per_request_buffer_limit_bytes, &request_body_buffer_limit) {
        (tries.body_limit, tries.request_limit) = limits;
    }
    let (path, conditions) = cx.at("match", |cx| matching::convert(cx, r#match.unwrap_or_default()));
    let rules = header_rules::convert(
        cx,
        Lists {
            request_add: request_headers_to_add,
            request_remove: request_headers_to_remove,
            response_add: response_headers_to_add,
            response_remove: response_headers_to_remove,
        },
    );
    let mut filters = http_filters::of_route(cx, typed_per_filter_config);
    let action = match action? {
        api::route::Action::Route(mut message) => cx.at("route", |cx| {
            cors::add(cx, message.cors.take(), &mut filters);
            action::forward(cx, message, table, path.as_ref(), inherited)
        }),
        api::route::Action::Redirect(message) => cx.at("redirect", |cx| redirect::convert(cx, message)),
        api::route::Action::DirectResponse(message) => {
            cx.at("direct_response", |cx| direct_response::convert(cx, message, table))
        }
        api::route::Action::NonForwardingAction(_) => Some(RouteAction::NonForwarding),
        api::route::Action::FilterAction(_) => {
            cx.refuse("filter_action");
            None
        }
    };
    Some(Route { name, path: path?, conditions, action: action?, metadata, stat_prefix, rules, filters })
}

/// `path_rewrite`: a whole path with operators.
fn path_format(cx: &mut Context, text: &str) -> Option<Vec<Piece>> {
    let pieces = match access_log::format_text(text) {
        Ok(pieces) => pieces,
        Err(error) => {
            cx.error_at("path_rewrite", error);
            return None;
        }
    };
    for piece in &pieces {
        if let Piece::Literal(text) = piece {
            path_text(cx, "path_rewrite", text.clone())?;
        }
    }
    Some(pieces)
}

/// A path, or the beginning of one, that a head can carry.
fn path_text(cx: &mut Context, field: &'static str, text: String) -> Option<String> {
    if text.bytes().any(|byte| byte.is_ascii_control() || byte == b' ') {
        cx.error_at(field, "must not contain spaces or control characters");
        return None;
    }
    Some(text)
}

#[cfg(test)]
mod tests;
