//! What a route asks beside the path.

use super::facts::{Facts, Tls, cookie, matches, query};
use crate::codec::head::RequestHead;
use crate::config::model::{Conditions, HeaderMatch, QueryMatch, QueryPattern, TlsMatch};

/// Whether all of it holds.
pub(super) fn hold(conditions: &Conditions, facts: &Facts<'_>) -> bool {
    let head = facts.head;
    conditions.fraction.as_ref().is_none_or(|fraction| fraction.holds(facts.random))
        && headers(&conditions.headers, facts)
        && conditions.query.iter().all(|matcher| has_query(matcher, head))
        && conditions.cookies.iter().all(|matcher| {
            cookie(head, &matcher.name).is_some_and(|value| matcher.text.matches(value)) != matcher.invert
        })
        && (!conditions.grpc || head.is_grpc())
        && conditions.tls.is_none_or(|wanted| tls(wanted, facts.tls.unwrap_or_default()))
        && conditions.metadata.iter().all(|matcher| facts.around.metadata(matcher))
        && conditions.filter_state.iter().all(|matcher| facts.around.filter_state(matcher))
}

/// Whether a request has a query parameter that matches.
pub(super) fn has_query(matcher: &QueryMatch, head: &RequestHead) -> bool {
    let value = query(head, &matcher.name);
    match &matcher.pattern {
        QueryPattern::Present(wanted) => value.is_some() == *wanted,
        QueryPattern::Text(text) => value.is_some_and(|value| text.matches(value)),
    }
}

/// Whether all of these headers match.
pub(super) fn headers(matchers: &[HeaderMatch], facts: &Facts<'_>) -> bool {
    matchers.iter().all(|matcher| matches(matcher, facts.head))
}

fn tls(wanted: TlsMatch, is: Tls) -> bool {
    wanted.presented.is_none_or(|presented| presented == is.presented)
        && wanted.validated.is_none_or(|validated| validated == is.validated)
}
