//! `envoy.filters.http.set_filter_state`: leaves objects in the filter state of a request, for filters and routes that ask for them.
//!
//! A value is a text made of the request; a factory says what kind of object it becomes, and what it cannot become leaves the state as it was.
//! What a route says comes after what the chain says. With `clear_route_cache` the route is looked for anew, as routes can ask for the
//! filter state; a request that wants a tunnel keeps the route that has let it. A request with such objects can
//! move to another epoch once it is on its way, as its line in the access logs takes them along.

mod settings;

use std::rc::Rc;

use super::kept::Kept;
use crate::access_log::{Live, Template};
use crate::codec::head::RequestHead;
use crate::config::extension::{HttpFilterKind, RouteKind};
use crate::http::filter::{Answer, Building, Extension, Filter, Next, Request};
use crate::http::filter_state::State;
use crate::http::stream::Stream;

use settings::{Factory, Model};

const TYPE: &str = "envoy.extensions.filters.http.set_filter_state.v3.Config";

/// How it comes into being.
pub(super) const EXTENSION: Extension = Extension {
    kind: HttpFilterKind {
        type_name: TYPE,
        settings: settings::read,
        route: Some(RouteKind { type_name: TYPE, settings: settings::read }),
    },
    build,
};

fn build(with: &Building<'_>) -> Result<Rc<dyn Filter>, String> {
    let model: &Model = with.model.settings.get().ok_or("has no settings of its own")?;
    Ok(Rc::new(SetFilterState { chain: Own::new(model), routes: Kept::default() }))
}

struct SetFilterState {
    chain: Own,
    routes: Kept<Own>,
}

/// A worker's part of settings.
struct Own {
    values: Vec<Value>,
    clear_route: bool,
}

struct Value {
    key: String,
    factory: Factory,
    text: Template,
    skip_if_empty: bool,
}

impl Own {
    fn new(model: &Model) -> Self {
        let values = model.values.iter().map(|value| Value {
            key: value.key.clone(),
            factory: value.factory,
            text: Template::shaped(&value.format),
            skip_if_empty: value.skip_if_empty,
        });
        Self { values: values.collect(), clear_route: model.clear_route }
    }

    fn apply(&self, head: &RequestHead, stream: &Stream<'_>) {
        for value in &self.values {
            let mut live = Live::new(stream.record().started);
            stream.fill(&mut live);
            let text = value.text.render(&mut live, Some(head), None);
            let text = String::from_utf8_lossy(&text).into_owned();
            if value.skip_if_empty && text.is_empty() {
                continue;
            }
            let state = match value.factory {
                Factory::Text => Some(State::Text(text)),
                Factory::Hashable => Some(State::Hashable(text)),
                Factory::Address => text.parse().ok().map(State::Address),
            };
            if let Some(state) = state {
                stream.record().set_object(&value.key, state);
            }
        }
    }
}

impl Filter for SetFilterState {
    fn call<'a>(&'a self, request: Request<'a>, next: Next<'a>) -> Answer<'a> {
        let stream = next.stream();
        self.chain.apply(&request.head, stream);
        let said = next.route_settings();
        let of_route = said.and_then(|said| self.routes.get(&said, Own::new));
        if let Some(own) = of_route {
            own.apply(&request.head, stream);
        }
        if self.chain.clear_route || of_route.is_some_and(|own| own.clear_route) {
            stream.find_route_again(&request.head);
        }
        next.run(request)
    }
}
