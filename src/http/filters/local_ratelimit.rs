//! `envoy.filters.http.local_ratelimit`: so many requests in so much time, counted in this process alone.
//!
//! The bucket stands in the settings, so all workers of an epoch take from the same one, by an atomic; with
//! `local_rate_limit_per_downstream_connection` each connection has its own. What a route says replaces the chain's settings, bucket and all.
//! The filter looks at heads alone. It hands the request on as it is, and a request in flight can move to another epoch; with
//! `enable_x_ratelimit_headers` it waits for the response, which stays here. A new epoch begins with full buckets, as Envoy after a hot restart:
//! the limit is one of a process.
//!
//! Descriptors have buckets of their own. They are made of a request by what its route and virtual host say, or by the filter's own
//! `rate_limits`; each takes from its bucket, the slowest first, and then, unless told otherwise, the request takes from the bucket of all. The first
//! that is empty denies. A descriptor that leaves values open has a bucket for each that comes, as many as the filter keeps.

mod bucket;
mod rules;
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
use crate::config::model::{HeaderAddition, HeaderOps, Piece, RateLimit, RouteAction, Settings};
use crate::fault::Flag;
use crate::http::draws::Draws;
use crate::http::filter::{Answer, Building, Extension, Filter, Next, Request, Response};
use crate::http::forward::rewrite;
use crate::http::stream::Stream;
use crate::route::{Counted, Decision, Descriptor, HeaderEdits, RateLimits};
use crate::stats::Scope;
use crate::stats::names::{LocalRateLimitStats, http_local_rate_limit};

use bucket::{Bucket, Level, Rate};
use settings::{HostLimits, Limit};

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
    /// What makes descriptors in the place of what routes say.
    limits: RateLimits,
    /// Buckets of connections that are not full. One that is full again is as good as none.
    connections: RefCell<HashMap<Place, Bucket>>,
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
            limits: RateLimits::compile(&limit.own),
            connections: RefCell::default(),
            sweep_at: Cell::new(FEW_CONNECTIONS),
            settings,
        })
    }

    /// Takes what a request with these descriptors has to take.
    fn take(&self, limit: &Limit, connection: u64, descriptors: &[Descriptor<'_>]) -> Taken {
        let now = Instant::now();
        let found = descriptors.iter().filter_map(|descriptor| Some((limit.rules.find(descriptor)?, descriptor)));
        let mut found: Vec<_> = found.collect();
        // In the order of the configuration where they are equal.
        found.sort_by(|(one, _), (other, _)| one.rule.rate.is_slower(other.rule.rate));
        let (mut shown, mut is_shadowed) = (None, false);
        for (found, descriptor) in &found {
            let rate = &found.rule.rate;
            let (taken, level) = if limit.per_connection {
                let place = (connection, found.at + 1, found.key.clone());
                self.take_of_connection(limit, place, rate, now, descriptor.hits)
            } else {
                found.bucket().take(rate, now, descriptor.hits)
            };
            let this = Shown { tokens: rate.tokens(), level, headers: descriptor.by.headers };
            if !taken && !found.rule.shadow {
                return Taken { outcome: Outcome::Denied, shown: Some(this) };
            }
            is_shadowed |= !taken;
            shown.get_or_insert(this);
        }
        if let Some(rate) = &limit.rate
            && (found.is_empty() || limit.always_default)
        {
            let (taken, level) = if limit.per_connection {
                self.take_of_connection(limit, (connection, 0, Box::default()), rate, now, 1)
            } else {
                limit.bucket.take(rate, now, 1)
            };
            let this = Shown { tokens: rate.tokens(), level, headers: None };
            if !taken {
                return Taken { outcome: Outcome::Denied, shown: Some(this) };
            }
            shown.get_or_insert(this);
        }
        Taken { outcome: if is_shadowed { Outcome::Shadowed } else { Outcome::Allowed }, shown }
    }

    fn take_of_connection(&self, limit: &Limit, place: Place, rate: &Rate, now: Instant, hits: i64) -> (bool, Level) {
        let mut connections = self.connections.borrow_mut();
        if connections.len() >= self.sweep_at.get() && !connections.contains_key(&place) {
            connections.retain(|(_, rule, _), bucket| {
                let of_rule = rule.checked_sub(1).and_then(|at| limit.rules.get(at)).map(|rule| &rule.rate);
                of_rule.or(limit.rate.as_ref()).is_some_and(|rate| !bucket.is_full(rate, now))
            });
            self.sweep_at.set((connections.len() * 2).max(FEW_CONNECTIONS));
        }
        if connections.len() >= MOST_CONNECTIONS && !connections.contains_key(&place) {
            return Bucket::default().take(rate, now, hits);
        }
        connections.entry(place).or_default().take(rate, now, hits)
    }

    /// What a request is counted by.
    fn descriptors<'a>(
        &'a self,
        limit: &Limit,
        request: &Counted<'a>,
        decision: Option<&'a Decision>,
    ) -> Vec<Descriptor<'a>> {
        let mut descriptors = Vec::new();
        if !self.limits.is_empty() {
            self.limits.describe(request, |_| true, &mut descriptors);
            return descriptors;
        }
        let Some(decision) = decision else { return descriptors };
        // Only a request that goes to a cluster is counted by what its route says.
        let RouteAction::Forward(forward) = decision.action() else { return descriptors };
        let applies = |said: &RateLimit| said.stage == limit.stage && said.disable_key.is_empty();
        let [route, host] = decision.rate_limits();
        let counts_host = forward.include_host_limits
            || match limit.host_limits {
                HostLimits::Override => route.is_none(),
                HostLimits::Include => true,
                HostLimits::Ignore => false,
            };
        for limits in route.into_iter().chain(host.filter(|_| counts_host)) {
            limits.describe(request, applies, &mut descriptors);
        }
        // What a request counts more than once is for the filter's own to say.
        descriptors.iter_mut().for_each(|descriptor| descriptor.hits = 1);
        descriptors
    }
}

/// A connection, the rule (0 is for the bucket of all) and what tells its buckets apart.
type Place = (u64, usize, Box<[u8]>);

/// What became of a request.
struct Taken {
    outcome: Outcome,
    /// The bucket that speaks for it.
    shown: Option<Shown>,
}

enum Outcome {
    Allowed,
    /// A rule would have denied it that only counts.
    Shadowed,
    Denied,
}

/// What a response says of a bucket.
#[derive(Clone, Copy)]
struct Shown {
    tokens: u32,
    level: Level,
    /// Whether it says so; `None` is as the filter has it.
    headers: Option<bool>,
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
        let Taken { outcome, shown } = if limit.rules.is_empty() {
            own.take(limit, stream.facts().id, &[])
        } else {
            let decision = stream.record().route.borrow();
            let decision = decision.as_ref();
            let request = Counted {
                head: &request.head,
                around: stream,
                client: stream.record().client.get().or_else(|| stream.facts().peer.ip()),
                cluster: decision.and_then(Decision::cluster_name),
                route: decision.and_then(|decision| decision.route.metadata.as_deref()),
                format: &|pieces| {
                    rewrite::value(pieces, stream, Some(&request.head), None).map(|value| value.as_bytes().to_vec())
                },
            };
            own.take(limit, stream.facts().id, &own.descriptors(limit, &request, decision))
        };
        match outcome {
            Outcome::Allowed => own.stats.ok.inc(),
            Outcome::Shadowed => {
                own.stats.rate_limited.inc();
                own.stats.shadow_mode.inc();
            }
            Outcome::Denied => {
                own.stats.rate_limited.inc();
                if limit.enforced.as_ref().is_some_and(|part| part.holds(self.draws.next())) {
                    own.stats.enforced.inc();
                    let mut response = deny(&own, limit, shown, &request.head, stream);
                    next.pass_over(&mut response);
                    return Answer::later(std::future::ready(Ok(response)));
                }
                let seen = own.not_enforced.has_formats().then(|| request.head.clone());
                let format = &mut |pieces: &[Piece]| rewrite::value(pieces, stream, seen.as_ref(), None);
                own.not_enforced.apply(&mut request.head.headers, format);
            }
        }
        let Some(shown) = limit.shows(shown) else { return next.run(request) };
        stream.record().set_object(SHOWN, shown);
        Answer::later(async move {
            let mut response = next.run(request).await?;
            show(&mut response.head.headers, shown);
            Ok(response)
        })
    }

    fn dress<'a>(&'a self, reply: &mut Response<'a>, next: Next<'a>) {
        if let Some(shown) = next.stream().record().object::<Shown>(SHOWN) {
            show(&mut reply.head.headers, *shown);
        }
    }
}

/// What a response shows, for one that is made here.
const SHOWN: &str = "envoy.filters.http.local_ratelimit.shown";

impl Limit {
    /// The bucket that a response speaks of.
    fn shows(&self, shown: Option<Shown>) -> Option<Shown> {
        shown.filter(|shown| shown.headers.unwrap_or(self.headers))
    }
}

/// The answer to one request too many.
fn deny<'a>(own: &Own, limit: &Limit, shown: Option<Shown>, head: &RequestHead, stream: &Stream<'_>) -> Response<'a> {
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
    if let Some(shown) = shown.filter(|_| limit.retry_after) {
        response.head.headers.set(header::RETRY_AFTER, HeaderValue::from(shown.level.wait_seconds().max(1)));
    }
    if let Some(shown) = limit.shows(shown) {
        show(&mut response.head.headers, shown);
    }
    response
}

/// `x-ratelimit-*` (draft 03, with Envoy's plain numbers).
fn show(headers: &mut Headers, Shown { tokens, level, .. }: Shown) {
    let mut set = |name, value: u64| headers.set(HeaderName::from_static(name), HeaderValue::from(value));
    set("x-ratelimit-limit", tokens.into());
    set("x-ratelimit-remaining", level.tokens);
    set("x-ratelimit-reset", level.wait_seconds());
}
