//! `xds.type.matcher.v3.Matcher`: generic matcher trees.
//!
//! Whoever has a tree says what its actions are ([`ReadAction`]) and what is asked ([`Place`]). The depth of trees and of predicates is bounded,
//! because both are asked by recursion.

use std::collections::{HashMap, HashSet};

use envoy_types::pb::google::protobuf::Any;
use envoy_types::pb::xds::core::v3 as core;
use envoy_types::pb::xds::r#type::matcher::v3 as api;

use super::address;
use super::context::Context;
use super::extension::{decode, type_of};
use crate::config::model::{Branches, Cidr, MatchInput, MatchTree, OnMatch, Predicate, Ranges};

mod inputs;
mod metadata;
mod reading;
mod values;
mod wire;

pub(super) use inputs::{Place, convert as input};
pub(super) use metadata::{filter_state, metadata, metadata_key, of_resource};

/// Trees within trees, and predicates within predicates.
const MAX_DEPTH: usize = 16;

const IP_MATCHER: &str = "xds.type.matcher.v3.IPMatcher";
const NAME_MATCHER: &str = "xds.type.matcher.v3.ServerNameMatcher";

/// Reads an action, at its `typed_config`, by its name and type. `None` is for faults, each of which has been told.
pub(super) type ReadAction<'r, A> = &'r mut dyn FnMut(&mut Context, &str, &Any) -> Option<A>;

struct Rules<'r, A> {
    place: Place,
    action: ReadAction<'r, A>,
}

/// Converts a tree.
pub(super) fn tree<A>(
    cx: &mut Context,
    message: api::Matcher,
    place: Place,
    action: ReadAction<'_, A>,
) -> Option<MatchTree<A>> {
    nested(cx, message, &mut Rules { place, action }, 0)
}

fn nested<A>(cx: &mut Context, message: api::Matcher, rules: &mut Rules<'_, A>, depth: usize) -> Option<MatchTree<A>> {
    use api::matcher::MatcherType;
    if depth == MAX_DEPTH {
        cx.error(format!("more than {MAX_DEPTH} matchers within one another"));
        return None;
    }
    let api::Matcher { on_no_match, matcher_type } = message;
    let branches = match matcher_type {
        None => Some(Branches::List(Vec::new())),
        Some(MatcherType::MatcherList(list)) => cx.at("matcher_list", |cx| {
            whole(cx, "matchers", list.matchers, |cx, message| field(cx, message, rules, depth)).map(Branches::List)
        }),
        Some(MatcherType::MatcherTree(tree)) => cx.at("matcher_tree", |cx| branches_of(cx, tree, rules, depth)),
    };
    let otherwise = match on_no_match {
        None => Some(None),
        Some(message) => cx.at("on_no_match", |cx| on_match(cx, *message, rules, depth)).map(Some),
    };
    Some(MatchTree { branches: branches?, otherwise: otherwise? })
}

fn field<A>(
    cx: &mut Context,
    message: api::matcher::matcher_list::FieldMatcher,
    rules: &mut Rules<'_, A>,
    depth: usize,
) -> Option<(Predicate, OnMatch<A>)> {
    let api::matcher::matcher_list::FieldMatcher { predicate: asked, on_match: then } = message;
    let asked = cx.at("predicate", |cx| predicate(cx, asked?, rules.place, 0));
    let then = cx.at("on_match", |cx| on_match(cx, then?, rules, depth));
    Some((asked?, then?))
}

fn on_match<A>(
    cx: &mut Context,
    message: api::matcher::OnMatch,
    rules: &mut Rules<'_, A>,
    depth: usize,
) -> Option<OnMatch<A>> {
    use api::matcher::on_match::OnMatch as Kind;
    let api::matcher::OnMatch { keep_matching, on_match } = message;
    // All trees there are have one answer, and whoever has one says so, as in Envoy.
    if keep_matching {
        cx.error_at("keep_matching", "keep_matching is not supported in this context");
    }
    match on_match? {
        Kind::Matcher(message) => {
            let tree = cx.at("matcher", |cx| nested(cx, *message, rules, depth + 1))?;
            Some(OnMatch::Match(Box::new(tree)))
        }
        Kind::Action(core::TypedExtensionConfig { name, typed_config }) => cx.at("action", |cx| {
            let Some(any) = typed_config else {
                cx.error_at("typed_config", "is required");
                return None;
            };
            cx.at("typed_config", |cx| (rules.action)(cx, &name, &any)).map(OnMatch::Act)
        }),
    }
}

fn predicate(
    cx: &mut Context,
    message: api::matcher::matcher_list::Predicate,
    place: Place,
    depth: usize,
) -> Option<Predicate> {
    use api::matcher::matcher_list::predicate::{MatchType, PredicateList, SinglePredicate};
    if depth == MAX_DEPTH {
        cx.error(format!("more than {MAX_DEPTH} predicates within one another"));
        return None;
    }
    let list = |cx: &mut Context, field, PredicateList { predicate: messages }| {
        cx.at(field, |cx| whole(cx, "predicate", messages, |cx, one| predicate(cx, one, place, depth + 1)))
    };
    match message.match_type? {
        MatchType::SinglePredicate(SinglePredicate { input, matcher }) => cx.at("single_predicate", |cx| {
            let input = cx.at("input", |cx| inputs::convert(cx, input, place));
            let wanted = values::convert(cx, matcher?, input.as_ref());
            Some(Predicate::Input(input?, wanted?))
        }),
        MatchType::OrMatcher(messages) => list(cx, "or_matcher", messages).map(Predicate::Any),
        MatchType::AndMatcher(messages) => list(cx, "and_matcher", messages).map(Predicate::All),
        MatchType::NotMatcher(message) => {
            let one = cx.at("not_matcher", |cx| predicate(cx, *message, place, depth + 1));
            one.map(Box::new).map(Predicate::Not)
        }
    }
}

fn branches_of<A>(
    cx: &mut Context,
    message: api::matcher::MatcherTree,
    rules: &mut Rules<'_, A>,
    depth: usize,
) -> Option<Branches<A>> {
    use api::matcher::matcher_tree::TreeType;
    let api::matcher::MatcherTree { input, tree_type } = message;
    let input = cx.at("input", |cx| inputs::convert(cx, input, rules.place));
    if let Some(MatchInput::Metadata(_)) = input {
        cx.error_at("input", "metadata is no text, and a matcher_tree looks for texts");
        return None;
    }
    match tree_type? {
        TreeType::ExactMatchMap(messages) => {
            let map = cx.at("exact_match_map", |cx| map(cx, messages.map, rules, depth));
            Some(Branches::Exact(input?, map?))
        }
        TreeType::PrefixMatchMap(messages) => {
            let map = cx.at("prefix_match_map", |cx| map(cx, messages.map, rules, depth));
            Some(Branches::Prefix(input?, map?))
        }
        TreeType::CustomMatch(core::TypedExtensionConfig { name, typed_config }) => cx.at("custom_match", |cx| {
            cx.at("typed_config", |cx| {
                let any = typed_config.unwrap_or_default();
                match type_of(&any).as_str() {
                    IP_MATCHER => {
                        let ranges = ranges(cx, &any, rules, depth);
                        Some(Branches::Ranges(input?, ranges?))
                    }
                    NAME_MATCHER => {
                        let names = names(cx, &any, rules, depth);
                        Some(Branches::Names(input?, names?))
                    }
                    other => {
                        let known = format!("{IP_MATCHER}, {NAME_MATCHER}");
                        cx.error(match other {
                            "" => {
                                format!("'{name}' has no \"@type\" that would say which matcher it is; known: {known}")
                            }
                            other => format!("the custom matcher {other} is not supported yet; known: {known}"),
                        });
                        None
                    }
                }
            })
        }),
    }
}

fn map<A>(
    cx: &mut Context,
    messages: HashMap<String, api::matcher::OnMatch>,
    rules: &mut Rules<'_, A>,
    depth: usize,
) -> Option<Vec<(String, OnMatch<A>)>> {
    let mut messages: Vec<_> = messages.into_iter().collect();
    messages.sort_by(|one, other| one.0.cmp(&other.0));
    cx.at("map", |cx| {
        let read = messages.into_iter().map(|(key, message)| {
            let then = cx.at_key(&key, |cx| on_match(cx, message, rules, depth));
            then.map(|then| (key, then))
        });
        // All are read before one that is faulty spoils them.
        let read: Vec<Option<_>> = read.collect();
        read.into_iter().collect()
    })
}

fn ranges<A>(cx: &mut Context, any: &Any, rules: &mut Rules<'_, A>, depth: usize) -> Option<Vec<Ranges<A>>> {
    let wire::IpMatcher { range_matchers } = decode(cx, &any.value)?;
    whole(cx, "range_matchers", range_matchers, |cx, message| {
        let wire::IpRangeMatcher { ranges, on_match: then, exclusive } = message;
        let ranges = whole(cx, "ranges", ranges, range);
        let then = then.map(|then| cx.at("on_match", |cx| on_match(cx, then, rules, depth)));
        let Some(then) = then else {
            cx.error_at("on_match", "is required");
            return None;
        };
        Some(Ranges { ranges: ranges?, then: then?, exclusive })
    })
}

fn names<A>(
    cx: &mut Context,
    any: &Any,
    rules: &mut Rules<'_, A>,
    depth: usize,
) -> Option<Vec<(Vec<String>, OnMatch<A>)>> {
    let wire::ServerNameMatcher { domain_matchers } = decode(cx, &any.value)?;
    let mut seen = HashSet::new();
    whole(cx, "domain_matchers", domain_matchers, |cx, message| {
        let wire::DomainMatcher { domains, on_match: then } = message;
        let domains = whole(cx, "domains", domains, |cx, domain| name(cx, &domain, &mut seen));
        let then = then.map(|then| cx.at("on_match", |cx| on_match(cx, then, rules, depth)));
        let Some(then) = then else {
            cx.error_at("on_match", "is required");
            return None;
        };
        Some((domains?, then?))
    })
}

/// `example.com`, `*.example.com` or `*`.
fn name(cx: &mut Context, domain: &str, seen: &mut HashSet<String>) -> Option<String> {
    let rest = domain.strip_prefix("*.").unwrap_or(domain);
    if domain != "*" && (rest.is_empty() || rest.contains('*')) {
        cx.error(format!(
            "`{domain}` is no name: `*` may only stand alone or for the first labels, as in `*.example.com`"
        ));
        return None;
    }
    if !seen.insert(domain.to_owned()) {
        cx.error(format!("`{domain}` is there already"));
        return None;
    }
    Some(domain.to_owned())
}

/// Converts a list; `None` where an element could not be, as what follows would be taken for what it is not.
fn whole<S, T>(
    cx: &mut Context,
    field: &'static str,
    elements: Vec<S>,
    work: impl FnMut(&mut Context, S) -> Option<T>,
) -> Option<Vec<T>> {
    let count = elements.len();
    let converted = cx.each(field, elements, work);
    (converted.len() == count).then_some(converted)
}

/// A range of the newer kind.
pub(super) fn range(cx: &mut Context, message: core::CidrRange) -> Option<Cidr> {
    let core::CidrRange { address_prefix, prefix_len } = message;
    address::cidr(cx, envoy_types::pb::envoy::config::core::v3::CidrRange { address_prefix, prefix_len })
}
