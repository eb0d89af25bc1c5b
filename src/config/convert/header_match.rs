//! `envoy.config.route.v3.HeaderMatcher` and `envoy.type.matcher.v3.StringMatcher`.

use envoy_types::pb::envoy::config::route::v3 as api;
use envoy_types::pb::envoy::r#type::matcher::v3 as matcher;

use super::context::Context;
use crate::config::model::{HeaderMatch, HeaderTest, TextKind, TextMatch};

pub(super) fn convert(cx: &mut Context, message: api::HeaderMatcher) -> Option<HeaderMatch> {
    use api::header_matcher::HeaderMatchSpecifier as Specifier;
    let api::HeaderMatcher { name, invert_match, treat_missing_header_as_empty, header_match_specifier } = message;
    let exactly = |kind, text| Some(HeaderTest::Text(TextMatch { kind, text, ignore_case: false }));
    let test = match header_match_specifier {
        None => Some(HeaderTest::Present(true)),
        Some(Specifier::PresentMatch(present)) => Some(HeaderTest::Present(present)),
        Some(Specifier::RangeMatch(range)) => Some(HeaderTest::Range(range.start, range.end)),
        Some(Specifier::ExactMatch(text)) => exactly(TextKind::Exact, text),
        Some(Specifier::PrefixMatch(text)) => exactly(TextKind::Prefix, text),
        Some(Specifier::SuffixMatch(text)) => exactly(TextKind::Suffix, text),
        Some(Specifier::ContainsMatch(text)) => exactly(TextKind::Contains, text),
        Some(Specifier::SafeRegexMatch(regex)) => cx.at("safe_regex_match", |cx| self::regex(cx, regex)),
        Some(Specifier::StringMatch(message)) => cx.at("string_match", |cx| text(cx, message)),
    };
    Some(HeaderMatch {
        name: name.to_ascii_lowercase(),
        test: test?,
        invert: invert_match,
        missing_is_empty: treat_missing_header_as_empty,
    })
}

fn text(cx: &mut Context, message: matcher::StringMatcher) -> Option<HeaderTest> {
    use matcher::string_matcher::MatchPattern;
    let matcher::StringMatcher { ignore_case, match_pattern } = message;
    let (kind, text) = match match_pattern? {
        MatchPattern::Exact(text) => (TextKind::Exact, text),
        MatchPattern::Prefix(text) => (TextKind::Prefix, text),
        MatchPattern::Suffix(text) => (TextKind::Suffix, text),
        MatchPattern::Contains(text) => (TextKind::Contains, text),
        MatchPattern::SafeRegex(regex) => {
            if ignore_case {
                cx.error_at("ignore_case", "has no effect on safe_regex");
                return None;
            }
            return cx.at("safe_regex", |cx| self::regex(cx, regex));
        }
        MatchPattern::Custom(_) => {
            cx.refuse("custom");
            return None;
        }
    };
    let text = if ignore_case { text.to_ascii_lowercase() } else { text };
    Some(HeaderTest::Text(TextMatch { kind, text, ignore_case }))
}

fn regex(cx: &mut Context, message: matcher::RegexMatcher) -> Option<HeaderTest> {
    let matcher::RegexMatcher { regex, engine_type: _ } = message;
    if let Err(error) = regex::bytes::Regex::new(&regex) {
        // The library draws the place over several lines; the last says what it is.
        let text = error.to_string();
        cx.error_at("regex", text.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned());
        return None;
    }
    Some(HeaderTest::Text(TextMatch { kind: TextKind::Regex, text: regex, ignore_case: false }))
}
