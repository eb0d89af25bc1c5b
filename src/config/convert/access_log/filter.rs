//! `envoy.config.accesslog.v3.AccessLogFilter`: which lines are written.

use envoy_types::pb::envoy::config::accesslog::v3 as api;
use envoy_types::pb::envoy::config::route::v3 as route;
use envoy_types::pb::envoy::r#type::matcher::v3 as matcher;

use super::operator;
use crate::config::convert::context::Context;
use crate::config::convert::matcher::percent;
use crate::config::convert::{matching, values};
use crate::config::model::{
    Case, Comparison, ComparisonOp, LogFilter, LogHeaderMatch, LogHeaderValue, LogType, MetadataMatch,
};
use crate::fault::Flag;

/// Filters within filters; the checker bounds nothing here, and a filter is judged by recursion.
const MAX_DEPTH: usize = 16;

pub(in crate::config::convert) fn convert(cx: &mut Context, message: api::AccessLogFilter) -> Option<LogFilter> {
    nested(cx, message, 0)
}

fn nested(cx: &mut Context, message: api::AccessLogFilter, depth: usize) -> Option<LogFilter> {
    use api::access_log_filter::FilterSpecifier;
    if depth == MAX_DEPTH {
        cx.error(format!("more than {MAX_DEPTH} filters within one another"));
        return None;
    }
    let refuse = |cx: &mut Context, field| {
        cx.error_at(field, "is not supported yet, and ignoring it would change which lines are written");
        None
    };
    match message.filter_specifier? {
        FilterSpecifier::StatusCodeFilter(filter) => {
            cx.at("status_code_filter", |cx| comparison(cx, filter.comparison)).map(LogFilter::StatusCode)
        }
        FilterSpecifier::DurationFilter(filter) => {
            cx.at("duration_filter", |cx| comparison(cx, filter.comparison)).map(LogFilter::Duration)
        }
        FilterSpecifier::NotHealthCheckFilter(_) => Some(LogFilter::NotHealthCheck),
        FilterSpecifier::TraceableFilter(_) => refuse(cx, "traceable_filter"),
        FilterSpecifier::MetadataFilter(filter) => cx.at("metadata_filter", |cx| metadata(cx, filter)),
        FilterSpecifier::ExtensionFilter(_) => refuse(cx, "extension_filter"),
        FilterSpecifier::RuntimeFilter(filter) => Some(share(cx, filter)),
        FilterSpecifier::AndFilter(filter) => {
            let count = filter.filters.len();
            let filters =
                cx.at("and_filter", |cx| cx.each("filters", filter.filters, |cx, f| nested(cx, f, depth + 1)));
            (filters.len() == count).then_some(LogFilter::And(filters))
        }
        FilterSpecifier::OrFilter(filter) => {
            let count = filter.filters.len();
            let filters = cx.at("or_filter", |cx| cx.each("filters", filter.filters, |cx, f| nested(cx, f, depth + 1)));
            (filters.len() == count).then_some(LogFilter::Or(filters))
        }
        FilterSpecifier::HeaderFilter(filter) => {
            cx.at("header_filter", |cx| cx.at("header", |cx| header(cx, filter.header?))).map(LogFilter::Header)
        }
        FilterSpecifier::ResponseFlagFilter(filter) => Some(LogFilter::Flags(if filter.flags.is_empty() {
            None
        } else {
            // The checker has refused what is no flag; one that nothing here sets never matches.
            Some(filter.flags.iter().filter_map(|name| Flag::by_short(name)).collect())
        })),
        FilterSpecifier::GrpcStatusFilter(filter) => Some(LogFilter::GrpcStatus {
            statuses: filter.statuses.into_iter().filter_map(|status| u32::try_from(status).ok()).collect(),
            exclude: filter.exclude,
        }),
        FilterSpecifier::LogTypeFilter(filter) => Some(LogFilter::Types {
            types: filter.types.into_iter().filter_map(log_type).collect(),
            exclude: filter.exclude,
        }),
    }
}

fn comparison(cx: &mut Context, message: Option<api::ComparisonFilter>) -> Option<Comparison> {
    use api::comparison_filter::Op;
    let Some(api::ComparisonFilter { op, value }) = message else {
        cx.error_at("comparison", "is required");
        return None;
    };
    let value = value.map_or(0.into(), |value| cx.keyed(value.default_value, &value.runtime_key));
    let op = match Op::try_from(op) {
        Ok(Op::Ge) => ComparisonOp::Ge,
        Ok(Op::Le) => ComparisonOp::Le,
        Ok(Op::Ne) => ComparisonOp::Ne,
        Ok(Op::Eq) | Err(_) => ComparisonOp::Eq,
    };
    Some(Comparison { op, value })
}

/// Of the key's value or `percent_sampled`, as a percentage or a fraction.
fn share(cx: &Context, message: api::RuntimeFilter) -> LogFilter {
    let api::RuntimeFilter { runtime_key, percent_sampled, use_independent_randomness: independent } = message;
    LogFilter::Share { fraction: cx.keyed(percent(percent_sampled.unwrap_or_default()), &runtime_key), independent }
}

/// The matcher's `invert` has never had an effect here.
fn metadata(cx: &mut Context, message: api::MetadataFilter) -> Option<LogFilter> {
    let api::MetadataFilter { matcher, match_if_key_not_found } = message;
    let absent = values::is_not_false(&match_if_key_not_found);
    let Some(matcher) = matcher else {
        cx.error_at("matcher", "is required");
        return None;
    };
    let MetadataMatch { at, value, invert } = cx.at("matcher", |cx| matching::metadata(cx, matcher))?;
    if invert {
        cx.at("matcher", |cx| cx.at("invert", |cx| cx.warn("has no effect here")));
    }
    Some(LogFilter::Metadata { at, value, absent })
}

fn header(cx: &mut Context, message: route::HeaderMatcher) -> Option<LogHeaderMatch> {
    use route::header_matcher::HeaderMatchSpecifier as Match;
    let route::HeaderMatcher { name, invert_match, treat_missing_header_as_empty, header_match_specifier } = message;
    let name = operator::header(&name).map_err(|message| cx.error_at("name", message)).ok()?;
    let case = Case::Sensitive;
    let value = match header_match_specifier {
        None => LogHeaderValue::Present(true),
        Some(Match::PresentMatch(present)) => LogHeaderValue::Present(present),
        // Nothing is any value here.
        Some(Match::ExactMatch(text)) if text.is_empty() => LogHeaderValue::Prefix(text, case),
        Some(Match::ExactMatch(text)) => LogHeaderValue::Exact(text, case),
        Some(Match::PrefixMatch(text)) => LogHeaderValue::Prefix(text, case),
        Some(Match::SuffixMatch(text)) => LogHeaderValue::Suffix(text, case),
        Some(Match::ContainsMatch(text)) => LogHeaderValue::Contains(text, case),
        Some(Match::RangeMatch(range)) => LogHeaderValue::Range(range.start, range.end),
        Some(Match::SafeRegexMatch(pattern)) => cx.at("safe_regex_match", |cx| regex(cx, pattern))?,
        Some(Match::StringMatch(matcher)) => cx.at("string_match", |cx| string(cx, matcher))?,
    };
    Some(LogHeaderMatch { name, value, invert: invert_match, missing_is_empty: treat_missing_header_as_empty })
}

fn string(cx: &mut Context, message: matcher::StringMatcher) -> Option<LogHeaderValue> {
    use matcher::string_matcher::MatchPattern;
    let matcher::StringMatcher { ignore_case, match_pattern } = message;
    let case = if ignore_case { Case::Ignored } else { Case::Sensitive };
    Some(match match_pattern? {
        MatchPattern::Exact(text) => LogHeaderValue::Exact(text, case),
        MatchPattern::Prefix(text) => LogHeaderValue::Prefix(text, case),
        MatchPattern::Suffix(text) => LogHeaderValue::Suffix(text, case),
        MatchPattern::Contains(text) => LogHeaderValue::Contains(text, case),
        MatchPattern::SafeRegex(pattern) => cx.at("safe_regex", |cx| regex(cx, pattern))?,
        MatchPattern::Custom(_) => {
            cx.refuse("custom");
            return None;
        }
    })
}

fn regex(cx: &mut Context, message: matcher::RegexMatcher) -> Option<LogHeaderValue> {
    let pattern = message.regex;
    match regex::bytes::Regex::new(&pattern) {
        Ok(_) => Some(LogHeaderValue::Regex(pattern)),
        Err(error) => {
            cx.error_at("regex", error.to_string());
            None
        }
    }
}

fn log_type(number: i32) -> Option<LogType> {
    use envoy_types::pb::envoy::data::accesslog::v3::AccessLogType as Api;
    Some(match Api::try_from(number).ok()? {
        Api::NotSet => LogType::NotSet,
        Api::TcpConnectionStart => LogType::TcpStart,
        Api::TcpUpstreamConnected => LogType::TcpUpstreamConnected,
        Api::TcpPeriodic => LogType::TcpPeriodic,
        Api::TcpConnectionEnd => LogType::TcpConnectionEnd,
        Api::DownstreamStart => LogType::DownstreamStart,
        Api::DownstreamPeriodic => LogType::DownstreamPeriodic,
        Api::DownstreamEnd => LogType::DownstreamEnd,
        Api::DownstreamTunnelSuccessfullyEstablished => LogType::DownstreamTunnelEstablished,
        // Lines that are never written here: they match nothing, and exclude nothing.
        Api::UpstreamPoolReady
        | Api::UpstreamPeriodic
        | Api::UpstreamEnd
        | Api::UdpTunnelUpstreamConnected
        | Api::UdpPeriodic
        | Api::UdpSessionEnd => return None,
    })
}
