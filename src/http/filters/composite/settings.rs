//! The settings, and how they are read; actions are those of the `match_delegate`, too.

use std::collections::BTreeMap;

use envoy_types::pb::envoy::config::core::v3::TypedExtensionConfig;
use envoy_types::pb::envoy::extensions::filters::http::composite::v3 as api;
use envoy_types::pb::google::protobuf::Any;
use envoy_types::pb::xds::r#type::matcher::v3::Matcher;

use crate::config::extension::{Given, Reader};
use crate::config::model::{FilterModel, Fraction, Keyed, MatchTree, Settings};

/// `envoy.extensions.filters.http.composite.v3.Composite`.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Composite {
    /// `named_filter_chains`.
    named: BTreeMap<String, Vec<FilterModel>>,
    pub(super) matcher: Option<MatchTree<Action>>,
}

/// What a route says, of this filter or of a `match_delegate`.
#[derive(Clone, Debug, PartialEq)]
pub(in super::super) struct OnRoute(pub(in super::super) MatchTree<Action>);

/// What follows from a match.
#[derive(Clone, Debug, PartialEq)]
pub(in super::super) enum Action {
    /// `envoy.extensions.filters.common.matcher.action.v3.SkipFilter`.
    Skip,
    /// `envoy.extensions.filters.http.composite.v3.ExecuteFilterAction`.
    Execute(Execute),
}

/// Filters that work on a request.
#[derive(Clone, Debug, PartialEq)]
pub(in super::super) struct Execute {
    pub(super) filters: Filters,
    /// `sample_percent`: of so many requests; `None` is all.
    pub(super) part: Option<Keyed<Fraction>>,
}

/// Which filters.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Filters {
    /// `typed_config` or `filter_chain`.
    These(Vec<FilterModel>),
    /// `filter_chain_name`: where there is none of this name, nothing is done.
    Named(String),
}

impl Filters {
    pub(super) fn of<'m>(&'m self, composite: &'m Composite) -> Option<&'m [FilterModel]> {
        match self {
            Self::These(filters) => Some(filters),
            Self::Named(name) => composite.named.get(name).map(Vec::as_slice),
        }
    }
}

pub(super) fn of_chain(reader: &mut Reader<'_>, given: Given<'_>) -> Option<Settings> {
    let api::Composite { named_filter_chains, matcher } = reader.decode(given)?;
    let mut chains: Vec<_> = named_filter_chains.into_iter().collect();
    chains.sort_by(|one, other| one.0.cmp(&other.0));
    let named = reader.at("named_filter_chains", |reader| {
        let read = chains.into_iter().map(|(name, message)| {
            let filters = reader.at_key(&name, |reader| chain(reader, message));
            filters.map(|filters| (name, filters))
        });
        // All are read before one that is faulty spoils them.
        let read: Vec<Option<_>> = read.collect();
        read.into_iter().collect::<Option<BTreeMap<_, _>>>()
    });
    let matcher = match matcher {
        None => Some(None),
        Some(message) => reader.at("matcher", |reader| actions(reader, message)).map(Some),
    };
    Some(Settings::new(Composite { named: named?, matcher: matcher? }))
}

pub(super) fn of_route(reader: &mut Reader<'_>, given: Given<'_>) -> Option<Settings> {
    let api::CompositePerRoute { matcher } = reader.decode(given)?;
    let matcher = reader.at("matcher", |reader| actions(reader, matcher?))?;
    Some(Settings::new(OnRoute(matcher)))
}

const SKIP: &str = "envoy.extensions.filters.common.matcher.action.v3.SkipFilter";
const EXECUTE: &str = "envoy.extensions.filters.http.composite.v3.ExecuteFilterAction";

/// A matcher whose actions are these.
pub(in super::super) fn actions(reader: &mut Reader<'_>, message: Matcher) -> Option<MatchTree<Action>> {
    reader.match_tree(message, |reader: &mut Reader<'_>, _: &str, any: &Any| {
        reader.any_of("action", any, &[(SKIP, |_, _| Some(Action::Skip)), (EXECUTE, execute)])
    })
}

fn execute(reader: &mut Reader<'_>, given: Given<'_>) -> Option<Action> {
    let message = reader.decode(given)?;
    let api::ExecuteFilterAction { typed_config, dynamic_config, filter_chain, filter_chain_name, sample_percent } =
        message;
    if dynamic_config.is_some() {
        reader.refuse("dynamic_config");
        return None;
    }
    let filters = match (typed_config, filter_chain, filter_chain_name.is_empty()) {
        (Some(message), None, true) => {
            reader.at("typed_config", |reader| filter(reader, message)).map(|filter| Filters::These(vec![filter]))
        }
        (None, Some(message), true) => reader.at("filter_chain", |reader| chain(reader, message)).map(Filters::These),
        (None, None, false) => Some(Filters::Named(filter_chain_name)),
        (None, None, true) => {
            reader.error("one of typed_config, filter_chain and filter_chain_name must be set");
            None
        }
        _ => {
            reader.error("only one of typed_config, filter_chain and filter_chain_name may be set");
            None
        }
    };
    let part = sample_percent.map(|part| reader.fraction(part));
    Some(Action::Execute(Execute { filters: filters?, part }))
}

fn filter(reader: &mut Reader<'_>, message: TypedExtensionConfig) -> Option<FilterModel> {
    let TypedExtensionConfig { name, typed_config } = message;
    reader.http_filter(name, typed_config.as_ref())
}

/// Filters in order. One that has a chain of its own would have to remember where it stands in this one.
fn chain(reader: &mut Reader<'_>, message: api::FilterChainConfiguration) -> Option<Vec<FilterModel>> {
    let api::FilterChainConfiguration { typed_config } = message;
    let count = typed_config.len();
    if count == 0 {
        reader.error("a filter chain must have a filter");
        return None;
    }
    let filters = reader.each("typed_config", typed_config, |reader, message| {
        let filter = filter(reader, message)?;
        if filter.type_name == super::TYPE || filter.type_name == super::super::match_delegate::TYPE {
            reader.error("a filter that leads to further filters is not supported within a filter chain");
            return None;
        }
        Some(filter)
    });
    (filters.len() == count).then_some(filters)
}
