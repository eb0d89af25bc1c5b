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
use super::forward::{self, Forwarding};
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

/// What a filter gives back.
pub type Answer<'a> = Pin<Box<dyn Future<Output = Result<Response<'a>, Failure>> + 'a>>;

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
    pub(super) fn run<'a>(&'a self, request: Request<'a>, stream: &'a Stream<'a>) -> Running<'a> {
        if self.filters.is_empty() {
            return Running::Router(forward::run(request, stream, &self.router));
        }
        Running::Filters(Next { filters: &self.filters, router: &self.router, stream }.run(request))
    }

    /// A request that failed before the first filter.
    pub(super) fn failed<'a>(&'a self, failure: Failure, stream: &'a Stream<'a>) -> Running<'a> {
        Running::Router(Forwarding::failed(failure, stream, &self.router))
    }
}

/// A request on its way through a chain.
pub(super) enum Running<'a> {
    /// There are no filters: no allocation, no call through a table.
    Router(Forwarding<'a>),
    /// Through the filters.
    Filters(Answer<'a>),
}

impl<'a> Running<'a> {
    pub(super) fn poll(&mut self, context: &mut Context<'_>) -> Poll<Result<Response<'a>, Failure>> {
        match self {
            Self::Router(forwarding) => Pin::new(forwarding).poll(context),
            Self::Filters(answer) => answer.as_mut().poll(context),
        }
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
            None => Box::pin(forward::run(request, self.stream, self.router)),
        }
    }
}

fn type_url(filter: &model::HttpFilter) -> &'static str {
    match filter {
        model::HttpFilter::Router(_) => "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router",
    }
}
