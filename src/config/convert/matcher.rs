//! Matchers: texts, headers, query parameters, cookies, expressions, percentages.

use envoy_types::pb::envoy::config::route::v3 as route;
use envoy_types::pb::envoy::r#type::matcher::v3 as api;
use envoy_types::pb::envoy::r#type::v3 as kind;

use super::context::Context;
use crate::config::model::{
    CookieMatch, Fraction, HeadField, HeaderMatch, HeaderPattern, QueryMatch, QueryPattern, Regex, StringMatch,
    StringPattern, Substitution,
};

/// An expression for a whole text.
pub(super) fn regex(cx: &mut Context, message: api::RegexMatcher) -> Option<Regex> {
    let text = pattern(message);
    Regex::new(&text).map_err(|error| cx.error_at("regex", format!("not a regular expression: {error}"))).ok()
}

/// The engine has always been RE2, and its limit on the program's size is a tuning of its own.
fn pattern(message: api::RegexMatcher) -> String {
    let api::RegexMatcher { regex, engine_type: _ } = message;
    regex
}

pub(super) fn substitution(cx: &mut Context, message: api::RegexMatchAndSubstitute) -> Option<Substitution> {
    let api::RegexMatchAndSubstitute { pattern: matcher, substitution } = message;
    let text = pattern(matcher?);
    // A fault in the pattern is said there, one in the substitution here.
    if let Err(error) = Substitution::new(&text, "") {
        cx.at("pattern", |cx| cx.error_at("regex", format!("not a regular expression: {error}")));
        return None;
    }
    Substitution::new(&text, &substitution).map_err(|error| cx.error_at("substitution", error)).ok()
}

pub(super) fn text(cx: &mut Context, message: api::StringMatcher) -> Option<StringMatch> {
    use api::string_matcher::MatchPattern;
    let api::StringMatcher { ignore_case, match_pattern } = message;
    let pattern = match match_pattern? {
        MatchPattern::Exact(text) => StringPattern::Exact(text),
        MatchPattern::Prefix(text) => StringPattern::Prefix(text),
        MatchPattern::Suffix(text) => StringPattern::Suffix(text),
        MatchPattern::Contains(text) => StringPattern::Contains(text),
        MatchPattern::SafeRegex(matcher) => StringPattern::Regex(cx.at("safe_regex", |cx| regex(cx, matcher))?),
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

/// The name of a header, or of a pseudo header that a request has.
pub(super) fn field(cx: &mut Context, at: &'static str, name: &str) -> Option<HeadField> {
    let field = HeadField::named(name);
    if field.is_none() {
        cx.error_at(at, format!("`{name}` is not the name of a request's header"));
    }
    field
}

pub(super) fn header(cx: &mut Context, message: route::HeaderMatcher) -> Option<HeaderMatch> {
    use route::header_matcher::HeaderMatchSpecifier as Specifier;
    let route::HeaderMatcher { name, invert_match, treat_missing_header_as_empty, header_match_specifier } = message;
    let field = field(cx, "name", &name);
    let plain = |pattern| HeaderPattern::Text(StringMatch { pattern, ignore_case: false });
    let pattern = match header_match_specifier {
        None => HeaderPattern::Present(true),
        Some(Specifier::PresentMatch(present)) => HeaderPattern::Present(present),
        Some(Specifier::RangeMatch(kind::Int64Range { start, end })) => HeaderPattern::Range { start, end },
        // Nothing is any value here, as it has been since the first release.
        Some(Specifier::ExactMatch(text)) if text.is_empty() => plain(StringPattern::Prefix(text)),
        Some(Specifier::ExactMatch(text)) => plain(StringPattern::Exact(text)),
        Some(Specifier::PrefixMatch(text)) => plain(StringPattern::Prefix(text)),
        Some(Specifier::SuffixMatch(text)) => plain(StringPattern::Suffix(text)),
        Some(Specifier::ContainsMatch(text)) => plain(StringPattern::Contains(text)),
        Some(Specifier::SafeRegexMatch(matcher)) => {
            plain(StringPattern::Regex(cx.at("safe_regex_match", |cx| regex(cx, matcher))?))
        }
        Some(Specifier::StringMatch(matcher)) => HeaderPattern::Text(cx.at("string_match", |cx| text(cx, matcher))?),
    };
    Some(HeaderMatch { field: field?, pattern, invert: invert_match, missing_is_empty: treat_missing_header_as_empty })
}

pub(super) fn query(cx: &mut Context, message: route::QueryParameterMatcher) -> Option<QueryMatch> {
    use route::query_parameter_matcher::QueryParameterMatchSpecifier as Specifier;
    let route::QueryParameterMatcher { name, query_parameter_match_specifier } = message;
    let pattern = match query_parameter_match_specifier {
        None => QueryPattern::Present(true),
        Some(Specifier::PresentMatch(present)) => QueryPattern::Present(present),
        Some(Specifier::StringMatch(matcher)) => QueryPattern::Text(cx.at("string_match", |cx| text(cx, matcher))?),
    };
    Some(QueryMatch { name, pattern })
}

pub(super) fn cookie(cx: &mut Context, message: route::CookieMatcher) -> Option<CookieMatch> {
    let route::CookieMatcher { name, string_match, invert_match } = message;
    let text = cx.at("string_match", |cx| text(cx, string_match?))?;
    Some(CookieMatch { name, text, invert: invert_match })
}

pub(super) fn percent(message: kind::FractionalPercent) -> Fraction {
    use kind::fractional_percent::DenominatorType;
    let kind::FractionalPercent { numerator, denominator } = message;
    let denominator = match DenominatorType::try_from(denominator) {
        Ok(DenominatorType::TenThousand) => 10_000,
        Ok(DenominatorType::Million) => 1_000_000,
        Ok(DenominatorType::Hundred) | Err(_) => 100,
    };
    Fraction { numerator, denominator }
}
