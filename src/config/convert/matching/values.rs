//! How an input is judged: a text, or by the type of a matcher of its own.

use envoy_types::pb::envoy::extensions::matching::input_matchers as api;
use envoy_types::pb::xds::core::v3::TypedExtensionConfig;
use envoy_types::pb::xds::r#type::matcher::v3 as text;
use envoy_types::pb::xds::r#type::matcher::v3::matcher::matcher_list::predicate::single_predicate::Matcher;

use super::metadata;
use crate::config::convert::address;
use crate::config::convert::context::Context;
use crate::config::convert::extension::{Category, Extension, decode};
use crate::config::model::{InputMatch, MatchInput, Regex, StringMatch, StringPattern};

pub(super) fn convert(cx: &mut Context, message: Matcher, input: Option<&MatchInput>) -> Option<InputMatch> {
    let (field, wanted) = match message {
        Matcher::ValueMatch(message) => {
            ("value_match", cx.at("value_match", |cx| string(cx, message)).map(InputMatch::Text)?)
        }
        Matcher::CustomMatch(TypedExtensionConfig { name, typed_config }) => {
            let read = |cx: &mut Context| MATCHERS.parse(cx, &name, typed_config.as_ref());
            ("custom_match", cx.at("custom_match", |cx| cx.at("typed_config", read))?)
        }
    };
    let (has_text, wants_text) =
        (input.map(|input| !matches!(input, MatchInput::Metadata(_))), !matches!(wanted, InputMatch::Metadata { .. }));
    if has_text.is_some_and(|has_text| has_text != wants_text) {
        cx.error_at(
            field,
            match wants_text {
                true => "wants a text, and the input is a value of the metadata",
                false => "wants a value of the metadata (DynamicMetadataInput), and the input is a text",
            },
        );
        return None;
    }
    Some(wanted)
}

const MATCHERS: Category<InputMatch> = Category {
    what: "input matcher",
    extensions: &[
        Extension {
            type_name: "envoy.extensions.matching.input_matchers.ip.v3.Ip",
            parse: |cx, bytes| {
                // The prefix is for a counter of addresses that could not be read.
                let api::ip::v3::Ip { cidr_ranges, stat_prefix: _ } = decode(cx, bytes)?;
                super::whole(cx, "cidr_ranges", cidr_ranges, address::cidr).map(InputMatch::Ip)
            },
        },
        Extension {
            type_name: "envoy.extensions.matching.input_matchers.consistent_hashing.v3.ConsistentHashing",
            parse: |cx, bytes| {
                let message = decode(cx, bytes)?;
                let api::consistent_hashing::v3::ConsistentHashing { threshold, modulo, seed } = message;
                Some(InputMatch::Hash { threshold: threshold.into(), modulo: modulo.into(), seed })
            },
        },
        Extension {
            type_name: "envoy.extensions.matching.input_matchers.runtime_fraction.v3.RuntimeFraction",
            parse: |cx, bytes| {
                let api::runtime_fraction::v3::RuntimeFraction { runtime_fraction, seed } = decode(cx, bytes)?;
                Some(InputMatch::Part(cx.fraction(runtime_fraction?), seed))
            },
        },
        Extension {
            type_name: "envoy.extensions.matching.input_matchers.metadata.v3.Metadata",
            parse: |cx, bytes| {
                let api::metadata::v3::Metadata { value, invert } = decode(cx, bytes)?;
                let value = cx.at("value", |cx| metadata::value(cx, value?))?;
                Some(InputMatch::Metadata { value, invert })
            },
        },
    ],
};

fn string(cx: &mut Context, message: text::StringMatcher) -> Option<StringMatch> {
    use text::string_matcher::MatchPattern;
    let text::StringMatcher { ignore_case, match_pattern } = message;
    let pattern = match match_pattern? {
        MatchPattern::Exact(text) => StringPattern::Exact(text),
        MatchPattern::Prefix(text) => StringPattern::Prefix(text),
        MatchPattern::Suffix(text) => StringPattern::Suffix(text),
        MatchPattern::Contains(text) => StringPattern::Contains(text),
        MatchPattern::SafeRegex(text::RegexMatcher { regex, engine_type: _ }) => {
            let read = Regex::new(&regex);
            let told = |cx: &mut Context, error| cx.error_at("regex", format!("not a regular expression: {error}"));
            StringPattern::Regex(read.map_err(|error| cx.at("safe_regex", |cx| told(cx, error))).ok()?)
        }
        MatchPattern::Custom(_) => {
            cx.refuse("custom");
            return None;
        }
    };
    if ignore_case && matches!(pattern, StringPattern::Regex(_)) {
        cx.error_at("ignore_case", "has no effect on safe_regex");
        return None;
    }
    Some(StringMatch { pattern, ignore_case })
}
