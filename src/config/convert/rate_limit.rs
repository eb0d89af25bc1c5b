//! `envoy.config.route.v3.RateLimit`: of virtual hosts, of routes, and of filters that have their own.

use envoy_types::pb::envoy::config::core::v3 as core;
use envoy_types::pb::envoy::config::route::v3 as route;
use envoy_types::pb::envoy::config::route::v3::rate_limit as api;
use envoy_types::pb::envoy::r#type::matcher::v3::AddressMatcher;
use envoy_types::pb::envoy::r#type::metadata::v3::MetadataKey;
use envoy_types::pb::envoy::r#type::v3::RateLimitUnit;
use envoy_types::pb::xds::core::v3::TypedExtensionConfig;

use super::context::Context;
use super::{access_log, matcher, matching, values};
use crate::config::extension::Reader;
use crate::config::model::{
    Asked, DescriptorAction, Fixed, Hits, HitsNumber, LimitOverride, LimitUnit, Piece, RateLimit,
};

/// Converts a list; those that are faulty have been told of and are left out.
pub(super) fn convert(cx: &mut Context, field: &'static str, messages: Vec<route::RateLimit>) -> Vec<RateLimit> {
    cx.each(field, messages, one)
}

impl Reader<'_> {
    /// What requests are counted by; those that are faulty have been told of and are left out.
    pub fn rate_limits(&mut self, field: &'static str, messages: Vec<route::RateLimit>) -> Vec<RateLimit> {
        convert(self.context, field, messages)
    }
}

fn one(cx: &mut Context, message: route::RateLimit) -> Option<RateLimit> {
    let route::RateLimit {
        stage,
        disable_key,
        actions: messages,
        limit,
        hits_addend,
        apply_on_stream_done,
        x_ratelimit_option,
    } = message;
    let count = messages.len();
    let actions = cx.each("actions", messages, |cx, message| action(cx, message.action_specifier?));
    let limit = match limit {
        None => Some(None),
        Some(message) => cx.at("limit", |cx| limit_override(cx, message)).map(Some),
    };
    let hits = match hits_addend {
        None => Some(None),
        Some(message) => cx.at("hits_addend", |cx| hits(cx, message)).map(Some),
    };
    let headers = match api::XRateLimitOption::try_from(x_ratelimit_option) {
        Ok(api::XRateLimitOption::Off) => Some(false),
        Ok(api::XRateLimitOption::DraftVersion03) => Some(true),
        Ok(api::XRateLimitOption::Unspecified) | Err(_) => None,
    };
    (actions.len() == count).then_some(RateLimit {
        stage: values::number(&stage).unwrap_or(0),
        disable_key,
        actions,
        limit: limit?,
        hits: hits?,
        on_stream_done: apply_on_stream_done,
        headers,
    })
}

#[allow(deprecated, reason = "the older way to say metadata")]
fn action(cx: &mut Context, message: api::action::ActionSpecifier) -> Option<DescriptorAction> {
    use api::action::{self, ActionSpecifier as Action};
    Some(match message {
        Action::SourceCluster(action::SourceCluster {}) => DescriptorAction::SourceCluster(cx.node.cluster.clone()),
        Action::DestinationCluster(action::DestinationCluster {}) => DescriptorAction::DestinationCluster,
        Action::RequestHeaders(action::RequestHeaders { header_name, descriptor_key: key, skip_if_absent }) => {
            let field = cx.at("request_headers", |cx| matcher::field(cx, "header_name", &header_name))?;
            DescriptorAction::Header(Asked { key, skip_if_absent }, field)
        }
        Action::QueryParameters(message) => {
            let action::QueryParameters { query_parameter_name, descriptor_key: key, skip_if_absent } = message;
            DescriptorAction::Query(Asked { key, skip_if_absent }, query_parameter_name)
        }
        Action::RemoteAddress(action::RemoteAddress {}) => DescriptorAction::Address,
        Action::MaskedRemoteAddress(message) => {
            let action::MaskedRemoteAddress { v4_prefix_mask_len, v6_prefix_mask_len } = message;
            let bits = |said, most: u8| values::number(said).and_then(|bits| u8::try_from(bits).ok()).unwrap_or(most);
            DescriptorAction::Network { v4: bits(&v4_prefix_mask_len, 32), v6: bits(&v6_prefix_mask_len, 128) }
        }
        Action::GenericKey(action::GenericKey { descriptor_value, default_value, descriptor_key }) => {
            cx.at("generic_key", |cx| ignore!(cx; default_value));
            DescriptorAction::Fixed(fixed(descriptor_key, "generic_key", descriptor_value))
        }
        Action::HeaderValueMatch(message) => {
            let action::HeaderValueMatch { descriptor_value, default_value, descriptor_key, expect_match, headers } =
                message;
            let count = headers.len();
            let headers = cx.at("header_value_match", |cx| {
                ignore!(cx; default_value);
                cx.each("headers", headers, matcher::header)
            });
            let entry = fixed(descriptor_key, "header_match", descriptor_value);
            let action = DescriptorAction::Headers(entry, values::is_not_false(&expect_match), headers);
            return whole(action, count);
        }
        Action::QueryParameterValueMatch(message) => {
            let action::QueryParameterValueMatch {
                descriptor_value,
                default_value,
                descriptor_key,
                expect_match,
                query_parameters,
            } = message;
            let count = query_parameters.len();
            let queries = cx.at("query_parameter_value_match", |cx| {
                ignore!(cx; default_value);
                cx.each("query_parameters", query_parameters, matcher::query)
            });
            let entry = fixed(descriptor_key, "query_match", descriptor_value);
            let action = DescriptorAction::Queries(entry, values::is_not_false(&expect_match), queries);
            return whole(action, count);
        }
        Action::RemoteAddressMatch(message) => {
            return cx.at("remote_address_match", |cx| within(cx, message));
        }
        Action::DynamicMetadata(action::DynamicMetaData { descriptor_key: key, metadata_key, default_value }) => {
            let asked = Asked { key, skip_if_absent: false };
            return cx.at("dynamic_metadata", |cx| metadata(cx, asked, metadata_key, false, default_value));
        }
        Action::Metadata(message) => return cx.at("metadata", |cx| sourced(cx, message)),
        Action::Extension(message) => return cx.at("extension", |cx| extension(cx, message)),
    })
}

fn fixed(key: String, default: &str, value: String) -> Fixed {
    Fixed { key: if key.is_empty() { default.to_owned() } else { key }, value }
}

/// The action, where none of so many conditions has been left out.
fn whole(action: DescriptorAction, count: usize) -> Option<DescriptorAction> {
    let there = match &action {
        DescriptorAction::Headers(_, _, all) => all.len(),
        DescriptorAction::Queries(_, _, all) => all.len(),
        _ => count,
    };
    (there == count).then_some(action)
}

fn within(cx: &mut Context, message: api::action::RemoteAddressMatch) -> Option<DescriptorAction> {
    let api::action::RemoteAddressMatch { descriptor_value, descriptor_key, default_value, address_matcher } = message;
    if descriptor_value.contains('%') {
        cx.error_at("descriptor_value", "command operators are not supported here yet");
    }
    ignore!(cx; default_value);
    let AddressMatcher { ranges, invert_match } = address_matcher?;
    let count = ranges.len();
    let ranges = cx.at("address_matcher", |cx| cx.each("ranges", ranges, matching::range));
    let entry = fixed(descriptor_key, "remote_address_match", descriptor_value);
    (ranges.len() == count).then_some(DescriptorAction::Within(entry, !invert_match, ranges))
}

fn sourced(cx: &mut Context, message: api::action::MetaData) -> Option<DescriptorAction> {
    use api::action::meta_data::Source;
    let api::action::MetaData { descriptor_key: key, metadata_key, default_value, source, skip_if_absent } = message;
    let of_route = match Source::try_from(source) {
        Ok(Source::RouteEntry) => true,
        Ok(Source::Dynamic) | Err(_) => false,
        Ok(Source::ClusterEntry | Source::ClusterLocalityEntry) => {
            cx.error_at("source", "metadata of clusters and hosts are not supported here yet");
            return None;
        }
    };
    metadata(cx, Asked { key, skip_if_absent }, metadata_key, of_route, default_value)
}

fn metadata(
    cx: &mut Context,
    asked: Asked,
    key: Option<MetadataKey>,
    of_route: bool,
    default: String,
) -> Option<DescriptorAction> {
    let at = cx.at("metadata_key", |cx| matching::metadata_key(cx, key?))?;
    Some(DescriptorAction::Metadata { asked, at, of_route, default })
}

/// An input of matchers: the entry has the name of the extension.
fn extension(cx: &mut Context, message: core::TypedExtensionConfig) -> Option<DescriptorAction> {
    let core::TypedExtensionConfig { name, typed_config } = message;
    let input =
        matching::input(cx, Some(TypedExtensionConfig { name: name.clone(), typed_config }), matching::Place::Request)?;
    Some(DescriptorAction::Input(name, input))
}

fn limit_override(cx: &mut Context, message: api::Override) -> Option<LimitOverride> {
    use api::r#override::{DynamicMetadata, OverrideSpecifier, RateLimitOverride};
    match message.override_specifier? {
        OverrideSpecifier::DynamicMetadata(DynamicMetadata { metadata_key }) => {
            let key = |cx: &mut Context| cx.at("metadata_key", |cx| matching::metadata_key(cx, metadata_key?));
            cx.at("dynamic_metadata", key).map(LimitOverride::Metadata)
        }
        OverrideSpecifier::RateLimit(RateLimitOverride { requests_per_unit, unit }) => {
            let unit = match RateLimitUnit::try_from(unit) {
                Ok(RateLimitUnit::Second) => LimitUnit::Second,
                Ok(RateLimitUnit::Minute) => LimitUnit::Minute,
                Ok(RateLimitUnit::Hour) => LimitUnit::Hour,
                Ok(RateLimitUnit::Day) => LimitUnit::Day,
                Ok(RateLimitUnit::Month) => LimitUnit::Month,
                Ok(RateLimitUnit::Year) => LimitUnit::Year,
                Ok(RateLimitUnit::Unknown) | Err(_) => LimitUnit::Unknown,
            };
            Some(LimitOverride::Fixed(requests_per_unit, unit))
        }
    }
}

fn hits(cx: &mut Context, message: api::HitsAddend) -> Option<Hits> {
    let api::HitsAddend { number, format, is_negative_hits: negative } = message;
    let number = match (number, format.is_empty()) {
        (Some(number), true) => HitsNumber::Fixed(number.value),
        (None, false) => {
            let pieces =
                cx.at("format", |cx| access_log::format_text(&format).map_err(|error| cx.error(error)).ok())?;
            if !matches!(&*pieces, [Piece::Field(_)]) {
                cx.error_at("format", "must be one command operator and nothing else");
                return None;
            }
            HitsNumber::Format(pieces)
        }
        (None, true) => {
            cx.error("one of number and format must be set");
            return None;
        }
        (Some(_), false) => {
            cx.error("only one of number and format may be set");
            return None;
        }
    };
    Some(Hits { number, negative })
}
