//! HTTP filters: an onion around the router (D9).
//!
//! A filter sees the request on its way down and the response on its way up, in one async step:
//!
//! ```text
//!   async fn call(request, next) {
//!       …change or answer…            request ──▶ filter ──▶ filter ──▶ router ──▶ upstream
//!       let response = next.run(request).await?;             response ◀──────────────┘
//!       …change…
//!       Ok(response)
//!   }
//! ```
//!
//! A filter that changes nothing on the way up returns what `next.run(request)` gave it: then nothing of it is left while the request waits,
//! which costs no allocation and lets the request move to another epoch (`flight`). One that awaits it is a boxed future
//! ([`Answer::later`]), whose request stays where it is until its response comes.
//!
//! Filters are built per worker from the configuration by the [`Extension`] that carries their type URL; the router is the last
//! step and is called directly, so a chain without filters costs nothing. What a route says of a filter ([`Next::route_settings`]) is found when the
//! filter asks; a filter that a route disables is passed over. A chain lives as long as its filter chain's configuration.

use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use thiserror::Error;

use crate::codec::head::{RequestHead, ResponseHead};
use crate::config::extension::HttpFilterKind;
use crate::config::model::{self, Settings};
use crate::local::Local;
use crate::stats::Scope;
use crate::upstream::{Cluster, Clusters};

use super::body::Body;
use super::failure::Failure;
use super::forward::{self, Exchange, Forwarding};
use super::stream::Stream;

/// A request on its way down.
pub struct Request<'a> {
    /// Its head.
    pub head: RequestHead,
    /// Its body.
    pub body: Body<'a>,
}

/// A response on its way up.
pub struct Response<'a> {
    /// Its head.
    pub head: ResponseHead,
    /// Its body.
    pub body: Body<'a>,
    /// It was made here, not by a host: `local_reply_config` is for it, and a gRPC client gets it as `grpc-status`.
    pub local: bool,
}

/// The response to come: what a filter gives back.
pub struct Answer<'a> {
    way: Way<'a>,
}

enum Way<'a> {
    /// All that is left of the chain is the router: no allocation, no call through a table.
    Router(Forwarding<'a>),
    /// A filter has something to do when the response comes, or before.
    Filter(Pin<Box<dyn Future<Output = Result<Response<'a>, Failure>> + 'a>>),
}

impl<'a> Answer<'a> {
    /// What a filter has yet to work out.
    pub fn later(answer: impl Future<Output = Result<Response<'a>, Failure>> + 'a) -> Self {
        Self { way: Way::Filter(Box::pin(answer)) }
    }

    /// Whether what is left of the request can be written down now: it is the router's alone, and the router says so.
    pub(super) fn may_suspend(&self) -> bool {
        match &self.way {
            Way::Router(forwarding) => forwarding.may_suspend(),
            // What a filter's future holds, nobody knows.
            Way::Filter(_) => false,
        }
    }

    /// Takes the request out of the chain. `None`, and the request is lost, unless [`Self::may_suspend`].
    pub(super) fn suspend(self) -> Option<Exchange<'a>> {
        match self.way {
            Way::Router(forwarding) => forwarding.suspend(),
            Way::Filter(_) => None,
        }
    }
}

impl<'a> From<Forwarding<'a>> for Answer<'a> {
    fn from(forwarding: Forwarding<'a>) -> Self {
        Self { way: Way::Router(forwarding) }
    }
}

impl<'a> Future for Answer<'a> {
    type Output = Result<Response<'a>, Failure>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut self.way {
            Way::Router(forwarding) => Pin::new(forwarding).poll(context),
            Way::Filter(answer) => answer.as_mut().poll(context),
        }
    }
}

/// An HTTP filter of one worker.
pub trait Filter {
    /// Takes a request, and answers it or lets `next` do so.
    fn call<'a>(&'a self, request: Request<'a>, next: Next<'a>) -> Answer<'a>;

    /// Sees a reply that does not come up through [`Self::call`]: a filter before this one has answered, or the request has failed. What the filter does to every
    /// response it does here; of the request it knows what it has left in the record.
    fn dress<'a>(&'a self, _reply: &mut Response<'a>, _next: Next<'a>) {}
}

/// How a filter comes into being: how its settings are read, and what makes it from them. One per kind of filter, in one list:
/// [`super::filters::ALL`], and those of a program that links this library beside it.
#[derive(Clone, Copy)]
pub struct Extension {
    /// The type of its settings, and what reads them.
    pub kind: HttpFilterKind,
    /// Makes the filter of one connection manager of one worker.
    ///
    /// # Errors
    /// In words: why it cannot be.
    pub build: fn(&Building<'_>) -> Result<Rc<dyn Filter>, String>,
}

/// What a filter is made from.
pub struct Building<'a> {
    /// Its name in the chain, its settings.
    pub model: &'a model::FilterModel,
    /// The statistics of the connection manager (`http.<stat_prefix>.`).
    pub scope: &'a Scope,
    /// The worker's clusters, for filters that ask somebody.
    pub clusters: &'a Rc<Clusters>,
    /// The worker's timers and blocks.
    pub local: &'a Local,
    /// The kinds of filters of the program that links this library.
    pub extensions: &'a [Extension],
}

impl Building<'_> {
    /// What makes further filters, for one that leads to others; it can be kept.
    pub fn maker(&self) -> Maker {
        Maker {
            scope: self.scope.clone(),
            clusters: self.clusters.clone(),
            local: self.local.clone(),
            extensions: self.extensions.to_vec(),
        }
    }
}

/// What makes filters from their models.
#[derive(Clone)]
pub struct Maker {
    scope: Scope,
    clusters: Rc<Clusters>,
    local: Local,
    extensions: Vec<Extension>,
}

impl Maker {
    /// Makes a filter.
    ///
    /// # Errors
    /// In words: why it cannot be.
    pub fn make(&self, model: &model::FilterModel) -> Result<Rc<dyn Filter>, String> {
        let Self { scope, clusters, local, extensions } = self;
        let extension =
            find(extensions, model).ok_or_else(|| ChainError::Unknown(model.type_name.clone()).to_string())?;
        (extension.build)(&Building { model, scope, clusters, local, extensions })
    }
}

/// The extension that makes a filter.
fn find<'e>(extensions: &'e [Extension], model: &model::FilterModel) -> Option<&'e Extension> {
    extensions.iter().chain(super::filters::ALL).find(|extension| extension.kind.type_name == model.type_name)
}

/// The filters of one connection manager, the router at the end.
pub struct Chain {
    filters: Vec<Placed>,
    router: model::Router,
}

/// A filter at its place.
struct Placed {
    filter: Rc<dyn Filter>,
    name: Box<str>,
    /// Where no route says otherwise.
    disabled: bool,
}

/// A list of filters that cannot be a chain.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ChainError {
    /// No extension has this type.
    #[error("no extension registered for {0}")]
    Unknown(String),
    /// A filter that its extension does not make.
    #[error("the HTTP filter '{name}': {why}")]
    Refused {
        /// Its name in the chain.
        name: String,
        /// In its own words.
        why: String,
    },
    /// The last filter is not the router.
    #[error("the last HTTP filter must be the router")]
    NotTerminated,
}

impl Chain {
    /// Builds the filters in order.
    ///
    /// # Errors
    /// See [`ChainError`].
    pub fn build(
        models: &[model::HttpFilter],
        extensions: &[Extension],
        scope: &Scope,
        clusters: &Rc<Clusters>,
        local: &Local,
    ) -> Result<Self, ChainError> {
        let Some((model::HttpFilter::Router(router), before)) = models.split_last() else {
            return Err(ChainError::NotTerminated);
        };
        let filters = before
            .iter()
            .map(|filter| {
                let model::HttpFilter::Extension(model) = filter else { return Err(ChainError::NotTerminated) };
                let extension = find(extensions, model).ok_or_else(|| ChainError::Unknown(model.type_name.clone()))?;
                let filter = (extension.build)(&Building { model, scope, clusters, local, extensions })
                    .map_err(|why| ChainError::Refused { name: model.name.clone(), why })?;
                Ok(Placed { filter, name: model.name.as_str().into(), disabled: model.disabled })
            })
            .collect::<Result<_, _>>()?;
        Ok(Self { filters, router: router.clone() })
    }

    /// Runs a request through all of it.
    pub(super) fn run<'a>(&'a self, request: Request<'a>, stream: &'a Stream<'a>) -> Answer<'a> {
        Next { own: &[], filters: &self.filters, at: "", router: &self.router, stream }.run(request)
    }

    /// What the filters do to a reply of ours that none of them has seen.
    pub(super) fn dress<'a>(&'a self, reply: &mut Response<'a>, stream: &'a Stream<'a>) {
        Next { own: &[], filters: &self.filters, at: "", router: &self.router, stream }.pass_over(reply);
    }

    /// A request that failed before the first filter.
    pub(super) fn failed<'a>(&'a self, failure: Failure, stream: &'a Stream<'a>) -> Answer<'a> {
        Forwarding::failed(failure, stream, &self.router).into()
    }

    /// A request that was answered before the first filter.
    pub(super) fn answered<'a>(&'a self, response: Response<'a>, stream: &'a Stream<'a>) -> Answer<'a> {
        Forwarding::settled(response, stream, &self.router).into()
    }

    /// Goes on with a request of which only the router is left.
    pub(super) fn resume<'a>(&'a self, exchange: Exchange<'a>, stream: &'a Stream<'a>) -> Answer<'a> {
        Forwarding::resume(exchange, stream, &self.router).into()
    }
}

/// The rest of the chain, as the filter sees it that it was given to.
#[derive(Clone, Copy)]
pub struct Next<'a> {
    /// What the filter that has it leads to itself, before all others.
    own: &'a [Rc<dyn Filter>],
    filters: &'a [Placed],
    /// The name of the filter that has it.
    at: &'a str,
    router: &'a model::Router,
    stream: &'a Stream<'a>,
}

impl<'a> Next<'a> {
    /// What is said of this filter by those levels that say something of type `T`, from the most specific on, until `find` has found
    /// what it looks for.
    pub fn find_in_route<T: 'static, R>(&self, find: impl FnMut(&T) -> Option<R>) -> Option<R> {
        let decision = self.stream.record().route.borrow();
        let levels = decision.as_ref()?.filter_levels(self.at);
        levels.filter_map(|said| said.settings.as_ref()?.get::<T>()).find_map(find)
    }

    /// Whether the request may become a tunnel: what follows it is no body.
    pub fn may_become_tunnel(&self) -> bool {
        self.stream.switch() != super::upgrade::Switch::No
    }

    /// Whether the route sends the request to the cluster of this name.
    pub fn goes_to(&self, cluster: &str) -> bool {
        let decision = self.stream.record().route.borrow();
        let goes = decision.as_ref().and_then(|decision| self.stream.manager().cluster(decision));
        goes.is_some_and(|goes| goes.model().name == cluster)
    }

    /// The cluster that the route sends the request to, where there is one.
    pub fn cluster(&self) -> Option<Rc<Cluster>> {
        let decision = self.stream.record().route.borrow();
        self.stream.manager().cluster(decision.as_ref()?).cloned()
    }

    /// Asks for the route anew: the request's head has changed, and conditions on it may hold now that did not.
    pub fn route_again(&self, head: &RequestHead) {
        *self.stream.record().route.borrow_mut() = self.stream.manager().route(head, self.stream);
    }

    /// The most that is held of one message, in bytes (`per_connection_buffer_limit_bytes` of the listener).
    pub fn buffer_limit(&self) -> usize {
        usize::try_from(self.stream.manager().buffer_limit).unwrap_or(usize::MAX)
    }

    /// A random number, for draws.
    pub fn draw(&self) -> u64 {
        self.stream.manager().draw()
    }

    /// The request's facts, deadlines and record.
    pub fn stream(&self) -> &'a Stream<'a> {
        self.stream
    }

    /// What the route says of this filter, most specifically: weighted cluster, route, virtual host, or table.
    pub fn route_settings(&self) -> Option<Settings> {
        self.stream.record().route.borrow().as_ref()?.filter_levels(self.at).find_map(|said| said.settings.clone())
    }

    /// All that is said of this filter, from the least specific level to the most, for filters that merge.
    pub fn all_route_settings(&self) -> Vec<Settings> {
        let decision = self.stream.record().route.borrow();
        let levels = decision.iter().flat_map(|decision| decision.filter_levels(self.at));
        let mut all: Vec<Settings> = levels.filter_map(|said| said.settings.clone()).collect();
        all.reverse();
        all
    }

    /// Answers in the place of all that come behind. The request is kept as the access logs want it, and what the route does to every
    /// response is done to this one. `details` is `%RESPONSE_CODE_DETAILS%`.
    pub fn reply(self, request: &RequestHead, mut response: Response<'a>, details: &'static str) -> Answer<'a> {
        let record = self.stream.record();
        if record.route.borrow().as_ref().is_some_and(|decision| decision.has_formats().1)
            && record.head.borrow().is_none()
        {
            *record.head.borrow_mut() = Some(Box::new(request.clone()));
        }
        forward::rewrite::own_response(&mut response, |head| forward::rewrite::response(head, self.stream));
        self.answer(request, response, details)
    }

    /// Has the filters behind this one do to a reply what they do to every response: from the last to the first, as responses go.
    pub fn pass_over(self, reply: &mut Response<'a>) {
        for placed in self.filters.iter().rev() {
            if !self.is_disabled(placed) {
                placed.filter.dress(reply, Next { own: &[], filters: &[], at: &placed.name, ..self });
            }
        }
        for filter in self.own.iter().rev() {
            filter.dress(reply, Next { own: &[], filters: &[], ..self });
        }
    }

    fn is_disabled(&self, placed: &Placed) -> bool {
        let decision = self.stream.record().route.borrow();
        let said = decision.as_ref().and_then(|decision| decision.filter(&placed.name)).map(|said| said.disabled);
        said.unwrap_or(placed.disabled)
    }

    /// The same, with a response that goes out as it is, whatever the route does to others.
    pub fn answer(self, request: &RequestHead, mut response: Response<'a>, details: &'static str) -> Answer<'a> {
        // Those behind may name the code.
        self.stream.record().status.set(response.head.status.as_u16());
        self.pass_over(&mut response);
        self.stream.keep_request(request);
        self.stream.record().set_details(details);
        Forwarding::settled(response, self.stream, self.router).into()
    }

    /// Calls these filters in the place of the one that has it, and then those that come behind. They have its name: what a route says of it,
    /// it says of them.
    pub fn through(self, filters: &'a [Rc<dyn Filter>], request: Request<'a>) -> Answer<'a> {
        match filters {
            // Those that it stands among itself stay.
            [only] => only.call(request, self),
            _ => Next { own: filters, ..self }.run(request),
        }
    }

    /// Calls the next filter that is not disabled, or the router.
    pub fn run(self, request: Request<'a>) -> Answer<'a> {
        if let Some((first, rest)) = self.own.split_first() {
            return first.call(request, Next { own: rest, ..self });
        }
        let mut filters = self.filters;
        while let Some((placed, rest)) = filters.split_first() {
            filters = rest;
            if !self.is_disabled(placed) {
                return placed.filter.call(request, Next { filters: rest, at: &placed.name, ..self });
            }
        }
        forward::run(request, self.stream, self.router).into()
    }
}
