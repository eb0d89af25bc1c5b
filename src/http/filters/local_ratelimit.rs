//! `envoy.filters.http.local_ratelimit`: so many requests in so much time, counted in this process alone.
//!
//! The bucket stands in the settings, so all workers of an epoch take from the same one, by an atomic; with
//! `local_rate_limit_per_downstream_connection` each connection has its own. What a route says replaces the chain's settings, bucket and all.
//! The filter looks at heads alone. It hands the request on as it is, and a request in flight can move to another epoch; with
//! `enable_x_ratelimit_headers` it waits for the response, which stays here. A new epoch begins with full buckets, as Envoy after a hot restart:
//! the limit is one of a process.

mod bucket;
mod settings;

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::time::Instant;

use http::{HeaderName, HeaderValue, header};

use super::denial::{self, Denial};
use super::owned::Owned;
use crate::codec::head::{Headers, RequestHead};
use crate::config::extension::{HttpFilterKind, RouteKind};
use crate::config::model::{HeaderAddition, HeaderOps, Settings};
use crate::fault::Flag;
use crate::http::draws::Draws;
use crate::http::filter::{Answer, Building, Extension, Filter, Next, Request, Response};
use crate::http::forward::rewrite;
use crate::http::stream::Stream;
use crate::route::HeaderEdits;
use crate::stats::Scope;
use crate::stats::names::{LocalRateLimitStats, http_local_rate_limit};

use bucket::{Bucket, Level};
use settings::Limit;

const TYPE: &str = "envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit";

/// The filter.
pub(super) const EXTENSION: Extension = Extension {
    kind: HttpFilterKind {
        type_name: TYPE,
        settings: settings::of_chain,
        route: Some(RouteKind { type_name: TYPE, settings: settings::of_route }),
    },
    build,
};

fn build(with: &Building<'_>) -> Result<Rc<dyn Filter>, String> {
    let top = with.scope.top();
    let chain = Own::new(with.model.settings.clone(), &top).ok_or("has no settings of its own")?;
    Ok(Rc::new(LocalRateLimit { chain: Rc::new(chain), routes: Owned::default(), draws: Draws::new(), top }))
}

/// Connections whose buckets are remembered; those beyond begin each request with a full one.
const MOST_CONNECTIONS: usize = 1 << 20;

/// Buckets of connections before those are looked for that are full again.
const FEW_CONNECTIONS: usize = 64;

struct LocalRateLimit {
    chain: Rc<Own>,
    routes: Owned<Own>,
    draws: Draws,
    top: Scope,
}

/// A worker's part of settings.
struct Own {
    settings: Settings,
    stats: LocalRateLimitStats,
    not_enforced: HeaderEdits,
    denied: HeaderEdits,
    /// Buckets of connections that are not full. One that is full again is as good as none.
    connections: RefCell<HashMap<u64, Bucket>>,
    /// How many there may be before the full ones are let go.
    sweep_at: Cell<usize>,
}

impl Own {
    fn new(settings: Settings, top: &Scope) -> Option<Self> {
        let limit: &Limit = settings.get()?;
        let ops = |add: &Vec<HeaderAddition>| HeaderEdits::compile(&HeaderOps { add: add.clone(), remove: Vec::new() });
        Some(Self {
            stats: LocalRateLimitStats::new(&http_local_rate_limit(top, &limit.stat_prefix)),
            not_enforced: ops(&limit.not_enforced),
            denied: ops(&limit.denied),
            connections: RefCell::default(),
            sweep_at: Cell::new(FEW_CONNECTIONS),
            settings,
        })
    }

    /// Takes a token.
    fn take(&self, limit: &Limit, connection: u64) -> (bool, Level) {
        let now = Instant::now();
        if !limit.per_connection {
            return limit.bucket.take(&limit.rate, now);
        }
        let mut connections = self.connections.borrow_mut();
        if connections.len() >= self.sweep_at.get() && !connections.contains_key(&connection) {
            connections.retain(|_, bucket| !bucket.is_full(&limit.rate, now));
            self.sweep_at.set((connections.len() * 2).max(FEW_CONNECTIONS));
        }
        if connections.len() >= MOST_CONNECTIONS && !connections.contains_key(&connection) {
            return Bucket::default().take(&limit.rate, now);
        }
        connections.entry(connection).or_default().take(&limit.rate, now)
    }
}

impl LocalRateLimit {
    /// The settings that hold for a request.
    fn own(&self, next: &Next<'_>) -> Rc<Own> {
        let said = next.route_settings();
        let own = said.and_then(|said| self.routes.get::<Limit>(&said, || Own::new(said.clone(), &self.top)));
        own.unwrap_or_else(|| self.chain.clone())
    }
}

impl Filter for LocalRateLimit {
    fn call<'a>(&'a self, mut request: Request<'a>, next: Next<'a>) -> Answer<'a> {
        let own = self.own(&next);
        let Some(limit) = own.settings.get::<Limit>() else { return next.run(request) };
        if !limit.enabled.as_ref().is_some_and(|part| part.holds(self.draws.next())) {
            return next.run(request);
        }
        let stream = next.stream();
        own.stats.enabled.inc();
        let (taken, level) = own.take(limit, stream.facts().id);
        let shown = limit.headers.then_some((limit.rate.tokens(), level));
        if taken {
            own.stats.ok.inc();
        } else {
            own.stats.rate_limited.inc();
            if limit.enforced.as_ref().is_some_and(|part| part.holds(self.draws.next())) {
                own.stats.enforced.inc();
                let mut response = deny(&own, limit, level, &request.head, stream);
                next.pass_over(&mut response);
                return Answer::later(std::future::ready(Ok(response)));
            }
            let seen = own.not_enforced.has_formats().then(|| request.head.clone());
            own.not_enforced
                .apply(&mut request.head.headers, &mut |pieces| rewrite::value(pieces, stream, seen.as_ref(), None));
        }
        let Some((tokens, level)) = shown else { return next.run(request) };
        stream.record().set_object(SHOWN, Shown(tokens, level));
        Answer::later(async move {
            let mut response = next.run(request).await?;
            show(&mut response.head.headers, tokens, level);
            Ok(response)
        })
    }

    fn dress<'a>(&'a self, reply: &mut Response<'a>, next: Next<'a>) {
        if let Some(shown) = next.stream().record().object::<Shown>(SHOWN) {
            show(&mut reply.head.headers, shown.0, shown.1);
        }
    }
}

/// What a response shows, for one that is made here.
const SHOWN: &str = "envoy.filters.http.local_ratelimit.shown";

struct Shown(u32, Level);

/// The answer to one request too many.
fn deny<'a>(own: &Own, limit: &Limit, level: Level, head: &RequestHead, stream: &Stream<'_>) -> Response<'a> {
    stream.record().flag(Flag::RateLimited);
    let denial = Denial {
        status: limit.status,
        grpc_status: limit.exhausted.then_some(8),
        body: "local_rate_limited",
        details: "local_rate_limited",
    };
    let mut response = denial::reply(&denial, head, stream);
    let seen = own.denied.has_formats().then(|| response.head.clone());
    own.denied
        .apply(&mut response.head.headers, &mut |pieces| rewrite::value(pieces, stream, Some(head), seen.as_ref()));
    if limit.retry_after {
        response.head.headers.set(header::RETRY_AFTER, HeaderValue::from(level.wait_seconds().max(1)));
    }
    if limit.headers {
        show(&mut response.head.headers, limit.rate.tokens(), level);
    }
    response
}

/// `x-ratelimit-*` (draft 03, with Envoy's plain numbers).
fn show(headers: &mut Headers, tokens: u32, level: Level) {
    let mut set = |name, value: u64| headers.set(HeaderName::from_static(name), HeaderValue::from(value));
    set("x-ratelimit-limit", tokens.into());
    set("x-ratelimit-remaining", level.tokens);
    set("x-ratelimit-reset", level.wait_seconds());
}
