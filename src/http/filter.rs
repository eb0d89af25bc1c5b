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
//! which costs no allocation and lets the request move to another epoch ([`super::flight`]). One that awaits it is a boxed future
//! ([`Answer::later`]), whose request stays where it is until its response comes.
//!
//! Filters are built per worker from the configuration by the [`Extension`] that carries their type URL; the router is the last
//! step and is called directly, so a chain without filters costs nothing. A chain lives as long as its filter chain's configuration.

use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use thiserror::Error;

use crate::codec::head::{RequestHead, ResponseHead};
use crate::config::model;
use crate::stats::Scope;

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
}

/// How a filter comes into being: the type URL of its settings, and what makes it from them.
#[derive(Clone, Copy)]
pub struct Extension {
    /// As in `typed_config`'s `@type`.
    pub type_url: &'static str,
    /// Makes the filter; the scope is that of the connection manager (`http.<stat_prefix>.`).
    pub build: fn(&model::HttpFilter, &Scope) -> Rc<dyn Filter>,
}

/// The filters of one connection manager, the router at the end.
pub struct Chain {
    filters: Vec<Rc<dyn Filter>>,
    router: model::Router,
}

/// A list of filters that cannot be a chain.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ChainError {
    /// No extension has this type URL.
    #[error("no extension registered for {0}")]
    Unknown(&'static str),
    /// The last filter is not the router.
    #[error("the last HTTP filter must be the router")]
    NotTerminated,
}

impl Chain {
    /// Builds the filters in order.
    ///
    /// # Errors
    /// See [`ChainError`].
    pub fn build(models: &[model::HttpFilter], extensions: &[Extension], scope: &Scope) -> Result<Self, ChainError> {
        let Some((model::HttpFilter::Router(router), before)) = models.split_last() else {
            return Err(ChainError::NotTerminated);
        };
        let filters = before
            .iter()
            .map(|filter| {
                let type_url = type_url(filter);
                let extension = extensions.iter().find(|extension| extension.type_url == type_url);
                extension.map(|extension| (extension.build)(filter, scope)).ok_or(ChainError::Unknown(type_url))
            })
            .collect::<Result<_, _>>()?;
        Ok(Self { filters, router: router.clone() })
    }

    /// Runs a request through all of it.
    pub(super) fn run<'a>(&'a self, request: Request<'a>, stream: &'a Stream<'a>) -> Answer<'a> {
        Next { filters: &self.filters, router: &self.router, stream }.run(request)
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

/// The rest of the chain.
#[derive(Clone, Copy)]
pub struct Next<'a> {
    filters: &'a [Rc<dyn Filter>],
    router: &'a model::Router,
    stream: &'a Stream<'a>,
}

impl<'a> Next<'a> {
    /// The request's facts, deadlines and record.
    pub fn stream(&self) -> &'a Stream<'a> {
        self.stream
    }

    /// Calls the next filter, or the router.
    pub fn run(self, request: Request<'a>) -> Answer<'a> {
        match self.filters.split_first() {
            Some((filter, rest)) => filter.call(request, Next { filters: rest, ..self }),
            None => forward::run(request, self.stream, self.router).into(),
        }
    }
}

fn type_url(filter: &model::HttpFilter) -> &'static str {
    match filter {
        model::HttpFilter::Router(_) => "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router",
    }
}
