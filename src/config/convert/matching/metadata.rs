//! Conditions on metadata and on the filter state.

use envoy_types::pb::envoy::config::core::v3 as core;
use envoy_types::pb::envoy::r#type::matcher::v3 as api;
use envoy_types::pb::envoy::r#type::metadata::v3 as place;

use super::{MAX_DEPTH, range, whole};
use crate::config::convert::context::Context;
use crate::config::convert::matcher;
use crate::config::extension::structure;
use crate::config::model::{Double, FilterStateMatch, Metadata, MetadataMatch, MetadataPath, StateMatch, ValueMatch};

pub(in crate::config::convert) fn metadata(cx: &mut Context, message: api::MetadataMatcher) -> Option<MetadataMatch> {
    use api::metadata_matcher::{PathSegment, path_segment::Segment};
    let api::MetadataMatcher { filter: namespace, path, value: wanted, invert } = message;
    let path = path.into_iter().filter_map(|PathSegment { segment }| segment).map(|Segment::Key(key)| key).collect();
    let value = cx.at("value", |cx| value(cx, wanted?))?;
    Some(MetadataMatch { at: MetadataPath { namespace, path }, value, invert })
}

/// `envoy.config.core.v3.Metadata`; `None` where it says nothing.
pub(in crate::config::convert) fn of_resource(cx: &mut Context, message: core::Metadata) -> Option<Metadata> {
    let core::Metadata { filter_metadata, typed_filter_metadata } = message;
    cx.at("metadata", |cx| ignore!(cx; typed_filter_metadata));
    let said = filter_metadata.iter().map(|(namespace, values)| (namespace.clone(), structure(values)));
    Some(Metadata(said.collect())).filter(|metadata| !metadata.0.is_empty())
}

/// `envoy.type.metadata.v3.MetadataKey`.
pub(in crate::config::convert) fn metadata_key(cx: &mut Context, message: place::MetadataKey) -> Option<MetadataPath> {
    use place::metadata_key::{PathSegment, path_segment::Segment};
    let place::MetadataKey { key: namespace, path } = message;
    let path = whole(cx, "path", path, |cx, PathSegment { segment }| match segment? {
        Segment::Key(key) => Some(key),
        Segment::Index(_) => {
            cx.refuse("index");
            None
        }
    });
    Some(MetadataPath { namespace, path: path? })
}

pub(in crate::config::convert) fn value(cx: &mut Context, message: api::ValueMatcher) -> Option<ValueMatch> {
    nested(cx, message, 0)
}

fn nested(cx: &mut Context, message: api::ValueMatcher, depth: usize) -> Option<ValueMatch> {
    use api::double_matcher::MatchPattern as Number;
    use api::value_matcher::{MatchPattern, NullMatch};
    if depth == MAX_DEPTH {
        cx.error(format!("more than {MAX_DEPTH} matchers within one another"));
        return None;
    }
    Some(match message.match_pattern? {
        MatchPattern::NullMatch(NullMatch {}) => ValueMatch::Null,
        MatchPattern::DoubleMatch(message) => match message.match_pattern? {
            Number::Exact(number) => ValueMatch::Number(Double(number)),
            Number::Range(range) => ValueMatch::Range { start: Double(range.start), end: Double(range.end) },
        },
        MatchPattern::StringMatch(message) => ValueMatch::Text(cx.at("string_match", |cx| matcher::text(cx, message))?),
        MatchPattern::BoolMatch(wanted) => ValueMatch::Bool(wanted),
        MatchPattern::PresentMatch(wanted) => ValueMatch::Present(wanted),
        MatchPattern::ListMatch(message) => {
            let api::list_matcher::MatchPattern::OneOf(one) = message.match_pattern?;
            let one = cx.at("list_match", |cx| cx.at("one_of", |cx| nested(cx, *one, depth + 1)))?;
            ValueMatch::OneOf(Box::new(one))
        }
        MatchPattern::OrMatch(api::OrMatcher { value_matchers }) => {
            let any = cx.at("or_match", |cx| {
                whole(cx, "value_matchers", value_matchers, |cx, one| nested(cx, one, depth + 1))
            })?;
            ValueMatch::Any(any)
        }
    })
}

pub(in crate::config::convert) fn filter_state(
    cx: &mut Context,
    message: api::FilterStateMatcher,
) -> Option<FilterStateMatch> {
    use api::filter_state_matcher::Matcher;
    let api::FilterStateMatcher { key, matcher: wanted } = message;
    let value = match wanted? {
        Matcher::StringMatch(message) => StateMatch::Text(cx.at("string_match", |cx| matcher::text(cx, message))?),
        Matcher::AddressMatch(message) => cx.at("address_match", |cx| address(cx, message))?,
    };
    Some(FilterStateMatch { key, value })
}

fn address(cx: &mut Context, message: api::AddressMatcher) -> Option<StateMatch> {
    let api::AddressMatcher { ranges, invert_match: invert } = message;
    Some(StateMatch::Address { ranges: whole(cx, "ranges", ranges, range)?, invert })
}
