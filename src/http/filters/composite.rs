//! `envoy.filters.http.composite`: which filters work on a request, the request decides.
//!
//! A matcher leads to actions that each hold a filter or a chain of filters; the first that matches has its filters work in the place of this
//! one, with what the route says of this one. The matcher is its own, or that of the `match_delegate` around it, and a route may have another.
//! Filters of the chain's matcher are made with the chain, those of a route's at its first request. The filter holds nothing of a
//! request: one in flight moves to another epoch where the filters that work on it let it.

mod settings;

use std::rc::Rc;

use super::kept::Kept;
use crate::config::extension::{HttpFilterKind, RouteKind};
use crate::config::model::{Fraction, Keyed, MatchTree};
use crate::http::draws::Draws;
use crate::http::filter::{Answer, Building, Extension, Filter, Maker, Next, Request};
use crate::matching::Tree;
use crate::route::Asked;
use crate::stats::names::CompositeStats;

pub(super) use settings::{Action, OnRoute, actions};
use settings::{Composite as Model, Execute};

/// The type of its settings.
pub(super) const TYPE: &str = "envoy.extensions.filters.http.composite.v3.Composite";

/// How it comes into being.
pub(super) const EXTENSION: Extension = Extension {
    kind: HttpFilterKind {
        type_name: TYPE,
        settings: settings::of_chain,
        route: Some(RouteKind {
            type_name: "envoy.extensions.filters.http.composite.v3.CompositePerRoute",
            settings: settings::of_route,
        }),
    },
    build,
};

fn build(with: &Building<'_>) -> Result<Rc<dyn Filter>, String> {
    let model: &Model = with.model.settings.get().ok_or("has no settings of its own")?;
    make(with, model, model.matcher.as_ref())
}

/// The filter with a matcher from around it.
pub(super) fn build_with(with: &Building<'_>, matcher: Option<&MatchTree<Action>>) -> Result<Rc<dyn Filter>, String> {
    let model: &Model = with.model.settings.get().ok_or("has no settings of its own")?;
    make(with, model, matcher.or(model.matcher.as_ref()))
}

fn make(with: &Building<'_>, model: &Model, matcher: Option<&MatchTree<Action>>) -> Result<Rc<dyn Filter>, String> {
    let maker = with.maker();
    let chain = matcher.map(|matcher| compile(matcher, model, &maker)).transpose()?;
    Ok(Rc::new(Composite {
        chain,
        routes: Kept::default(),
        model: model.clone(),
        maker,
        stats: CompositeStats::new(with.scope),
        draws: Draws::new(),
    }))
}

struct Composite {
    chain: Option<Tree<Act>>,
    /// What routes say; faults are those of filters that could not be made.
    routes: Kept<Result<Tree<Act>, String>>,
    model: Model,
    maker: Maker,
    stats: CompositeStats,
    draws: Draws,
}

/// What is done with a request that has matched.
enum Act {
    Nothing,
    Execute { filters: Vec<Rc<dyn Filter>>, part: Option<Keyed<Fraction>> },
}

fn compile(matcher: &MatchTree<Action>, model: &Model, maker: &Maker) -> Result<Tree<Act>, String> {
    Tree::compile(matcher, &mut |action: &Action| {
        let Action::Execute(Execute { filters, part }) = action else { return Ok(Act::Nothing) };
        let Some(models) = filters.of(model) else { return Ok(Act::Nothing) };
        let filters = models.iter().map(|model| maker.make(model)).collect::<Result<_, _>>()?;
        Ok(Act::Execute { filters, part: part.clone() })
    })
}

impl Composite {
    /// The matcher that holds for a request.
    fn tree(&self, next: &Next<'_>) -> Result<Option<&Tree<Act>>, &str> {
        let said = next.route_settings();
        let of_route = said.and_then(|said| {
            self.routes.get(&said, |OnRoute(matcher): &OnRoute| compile(matcher, &self.model, &self.maker))
        });
        match of_route {
            Some(Ok(tree)) => Ok(Some(tree)),
            Some(Err(why)) => Err(why),
            None => Ok(self.chain.as_ref()),
        }
    }
}

impl Filter for Composite {
    fn call<'a>(&'a self, request: Request<'a>, next: Next<'a>) -> Answer<'a> {
        let tree = match self.tree(&next) {
            Ok(Some(tree)) => tree,
            Ok(None) => return next.run(request),
            Err(_) => {
                self.stats.filter_delegation_error.inc();
                return next.run(request);
            }
        };
        let asked = Asked { head: &request.head, around: next.stream() };
        match tree.find(&asked).found() {
            Some(Act::Execute { filters, part }) if part.as_ref().is_none_or(|part| part.holds(self.draws.next())) => {
                self.stats.filter_delegation_success.inc();
                next.through(filters, request)
            }
            _ => next.run(request),
        }
    }
}
