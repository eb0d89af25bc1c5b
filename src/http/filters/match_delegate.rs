//! `envoy.filters.http.match_delegate`: a filter that works on some requests only.
//!
//! A matcher around a filter says which requests it leaves alone (`SkipFilter`); around a composite filter it says, too, which filters that one
//! has work on a request. A route may have another matcher. The filter holds nothing of a request: one in flight moves to another epoch where
//! the filter within lets it, or was left out.

use std::rc::Rc;

use envoy_types::pb::envoy::config::core::v3::TypedExtensionConfig;
use envoy_types::pb::envoy::extensions::common::matching::v3 as api;

use super::composite::{self, Action, OnRoute};
use super::kept::Kept;
use crate::config::extension::{Given, HttpFilterKind, Reader, RouteKind};
use crate::config::model::{FilterModel, MatchTree, Settings};
use crate::http::filter::{Answer, Building, Extension, Filter, Next, Request, Response};
use crate::matching::Tree;
use crate::route::Asked;

/// The type of its settings.
pub(super) const TYPE: &str = "envoy.extensions.common.matching.v3.ExtensionWithMatcher";

/// How it comes into being.
pub(super) const EXTENSION: Extension = Extension {
    kind: HttpFilterKind {
        type_name: TYPE,
        settings: of_chain,
        route: Some(RouteKind {
            type_name: "envoy.extensions.common.matching.v3.ExtensionWithMatcherPerRoute",
            settings: of_route,
        }),
    },
    build,
};

/// `ExtensionWithMatcher`.
#[derive(Debug, PartialEq)]
struct Model {
    filter: FilterModel,
    matcher: Option<MatchTree<Action>>,
}

#[allow(deprecated, reason = "what is old is refused by its name")]
fn of_chain(reader: &mut Reader<'_>, given: Given<'_>) -> Option<Settings> {
    let api::ExtensionWithMatcher { matcher, xds_matcher, extension_config } = reader.decode(given)?;
    if matcher.is_some() {
        reader.refuse("matcher");
    }
    let filter = reader.at("extension_config", |reader| {
        let TypedExtensionConfig { name, typed_config } = extension_config?;
        reader.http_filter(name, typed_config.as_ref())
    });
    let matcher = match xds_matcher {
        None => Some(None),
        Some(message) => reader.at("xds_matcher", |reader| composite::actions(reader, message)).map(Some),
    };
    Some(Settings::new(Model { filter: filter?, matcher: matcher? }))
}

fn of_route(reader: &mut Reader<'_>, given: Given<'_>) -> Option<Settings> {
    let api::ExtensionWithMatcherPerRoute { xds_matcher } = reader.decode(given)?;
    let Some(message) = xds_matcher else {
        reader.error("xds_matcher is required");
        return None;
    };
    let matcher = reader.at("xds_matcher", |reader| composite::actions(reader, message))?;
    Some(Settings::new(OnRoute(matcher)))
}

fn build(with: &Building<'_>) -> Result<Rc<dyn Filter>, String> {
    let model: &Model = with.model.settings.get().ok_or("has no settings of its own")?;
    if model.filter.type_name == composite::TYPE {
        return composite::build_with(&Building { model: &model.filter, ..*with }, model.matcher.as_ref());
    }
    Ok(Rc::new(Delegate {
        filter: with.maker().make(&model.filter)?,
        chain: model.matcher.as_ref().map(compile),
        routes: Kept::default(),
    }))
}

struct Delegate {
    filter: Rc<dyn Filter>,
    chain: Option<Skips>,
    routes: Kept<Skips>,
}

/// Leads to whether the filter is left out.
type Skips = Tree<bool>;

fn compile(matcher: &MatchTree<Action>) -> Skips {
    let made = Tree::compile(matcher, &mut |action: &Action| {
        Ok::<_, std::convert::Infallible>(matches!(action, Action::Skip))
    });
    match made {
        Ok(tree) => tree,
        Err(never) => match never {},
    }
}

impl Filter for Delegate {
    fn call<'a>(&'a self, request: Request<'a>, next: Next<'a>) -> Answer<'a> {
        let said = next.route_settings();
        let of_route = said.and_then(|said| self.routes.get(&said, |OnRoute(matcher): &OnRoute| compile(matcher)));
        let skips = of_route.or(self.chain.as_ref()).is_some_and(|tree| {
            let asked = Asked { head: &request.head, around: next.stream() };
            tree.find(&asked).found().is_some_and(|skips| *skips)
        });
        if skips { next.run(request) } else { self.filter.call(request, next) }
    }

    fn dress<'a>(&'a self, reply: &mut Response<'a>, next: Next<'a>) {
        self.filter.dress(reply, next);
    }
}
