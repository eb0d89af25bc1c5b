//! `envoy.filters.http.fault`: delays, aborts and slows down some of all requests, on purpose.
//!
//! A request that goes to the cluster, comes from the node and has the headers that the settings name is a candidate; the settings of the
//! most specific level count. The draw for each fault is the request's own; a delay comes before an abort. Where the settings say
//! `header_…` the request itself asks for the fault, within the percentage that is allowed.
//!
//! A request that is spared is passed on as if this filter were not there. One that has a fault holds a place among the active ones
//! until it ends, of those of all workers (`max_active_faults`), and does not move to another epoch. A reload that changes the settings
//! counts them anew.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderName, HeaderValue};

use self::settings::{AbortHow, DelayHow, Fault, LimitHow};
use self::throttle::Throttled;
use super::super::body::Body;
use super::super::filter::{Answer, Building, Extension, Filter, Next, Request};
use super::super::headers::names::{X_ENVOY_DOWNSTREAM_SERVICE_CLUSTER, X_ENVOY_DOWNSTREAM_SERVICE_NODE};
use super::super::local_reply;
use crate::codec::head::RequestHead;
use crate::config::extension::{HttpFilterKind, RouteKind};
use crate::config::model::{Fraction, Settings};
use crate::fault::Flag;
use crate::route;
use crate::runtime::{Key, Value};
use crate::stats::names::{self, FaultCallerStats, FaultStats};
use crate::stats::{Gauge, Scope};

mod settings;
mod throttle;

/// How it comes into being.
pub const EXTENSION: Extension = Extension {
    kind: HttpFilterKind {
        type_name: "envoy.extensions.filters.http.fault.v3.HTTPFault",
        settings: settings::read,
        route: Some(RouteKind {
            type_name: "envoy.extensions.filters.http.fault.v3.HTTPFault",
            settings: settings::read,
        }),
    },
    build,
};

/// Callers that are counted by name: the name comes from outside.
const MOST_CALLERS: usize = 64;

const ABORT: HeaderName = HeaderName::from_static("x-envoy-fault-abort-request");
const ABORT_GRPC: HeaderName = HeaderName::from_static("x-envoy-fault-abort-grpc-request");
const ABORT_PERCENTAGE: HeaderName = HeaderName::from_static("x-envoy-fault-abort-request-percentage");
const DELAY: HeaderName = HeaderName::from_static("x-envoy-fault-delay-request");
const DELAY_PERCENTAGE: HeaderName = HeaderName::from_static("x-envoy-fault-delay-request-percentage");
const THROUGHPUT: HeaderName = HeaderName::from_static("x-envoy-fault-throughput-response");
const THROUGHPUT_PERCENTAGE: HeaderName = HeaderName::from_static("x-envoy-fault-throughput-response-percentage");
const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");

fn build(with: &Building<'_>) -> Result<Rc<dyn Filter>, String> {
    let settings = with.model.settings.clone();
    settings.get::<Fault>().ok_or("has no settings of its own")?;
    Ok(Rc::new(Faults {
        settings,
        stats: FaultStats::new(with.scope),
        scope: with.scope.clone(),
        callers: RefCell::default(),
    }))
}

struct Faults {
    settings: Settings,
    stats: FaultStats,
    scope: Scope,
    callers: RefCell<HashMap<String, FaultCallerStats>>,
}

/// What a request has been drawn for.
struct Drawn {
    delay: Option<Duration>,
    abort: Option<Abort>,
    /// Bytes of the response in a second.
    limit: Option<u64>,
    most_active: u32,
    caller: Option<String>,
}

struct Abort {
    status: u16,
    grpc: Option<u32>,
    body: Bytes,
}

/// A place among the active faults.
struct Active {
    settings: Settings,
    gauge: Gauge,
}

impl Drop for Active {
    fn drop(&mut self) {
        self.gauge.dec();
        if let Some(own) = self.settings.get::<Fault>() {
            own.active.end();
        }
    }
}

impl Filter for Faults {
    fn call<'a>(&'a self, request: Request<'a>, next: Next<'a>) -> Answer<'a> {
        let said = next.find_in_route(|fault: &Fault| Some(draw(fault, &request.head, next)));
        let drawn = said.or_else(|| Some(draw(self.settings.get::<Fault>()?, &request.head, next))).flatten();
        let Some(Drawn { delay, abort, limit, most_active, caller }) = drawn else { return next.run(request) };
        let limit = limit.filter(|_| self.begins(next, most_active));
        if limit.is_some() {
            self.stats.response_rl_injected.inc();
        }
        let delay = delay.filter(|_| self.begins(next, most_active));
        if delay.is_none() && limit.is_none() {
            return match abort.filter(|_| self.begins(next, most_active)) {
                Some(abort) => self.abort(abort, &request.head, caller.as_deref(), next),
                None => next.run(request),
            };
        }
        Answer::later(async move {
            if let Some(delay) = delay {
                self.stats.delays_injected.inc();
                self.count(caller.as_deref(), |stats| stats.delays_injected.inc());
                next.stream().record().flag(Flag::DelayInjected);
                let timer = next.stream().timer();
                // What lies beyond the clock is as good as for ever: the route's own limits end it.
                let until = Instant::now().checked_add(delay).map_or(crate::local::Deadline::NEVER, |at| timer.at(at));
                timer.until(until).await;
            }
            if let Some(abort) = abort.filter(|_| self.begins(next, most_active)) {
                return self.abort(abort, &request.head, caller.as_deref(), next).await;
            }
            let mut response = next.run(request).await?;
            if let Some(rate) = limit
                && !matches!(response.body, Body::Tunnel(_))
            {
                response.body = Body::Other(Box::new(Throttled::new(response.body, rate, next.stream())));
            }
            Ok(response)
        })
    }
}

impl Faults {
    /// Takes a place among the active faults, unless the request has one; `false`, and counted, where none is left.
    fn begins(&self, next: Next<'_>, most: u32) -> bool {
        const ACTIVE: &str = "envoy.filters.http.fault.active";
        let record = next.stream().record();
        if record.object::<Active>(ACTIVE).is_some() {
            return true;
        }
        let begins = self.settings.get::<Fault>().is_some_and(|own| own.active.begin(most));
        if begins {
            self.stats.active_faults.inc();
            let (settings, gauge) = (self.settings.clone(), self.stats.active_faults.clone());
            record.set_object(ACTIVE, Active { settings, gauge });
        } else {
            self.stats.faults_overflow.inc();
        }
        begins
    }

    fn abort<'a>(&'a self, abort: Abort, head: &RequestHead, caller: Option<&str>, next: Next<'a>) -> Answer<'a> {
        let record = next.stream().record();
        self.stats.aborts_injected.inc();
        self.count(caller, |stats| stats.aborts_injected.inc());
        record.flag(Flag::FaultInjected);
        let mut reply = local_reply::text(abort.status, abort.body);
        if let Some(status) = abort.grpc.filter(|_| record.grpc.get()) {
            reply.head.headers.append(GRPC_STATUS, HeaderValue::from(status));
        }
        next.reply(head, reply, "fault_filter_abort")
    }

    fn count(&self, caller: Option<&str>, count: impl FnOnce(&FaultCallerStats)) {
        let Some(caller) = caller else { return };
        let mut callers = self.callers.borrow_mut();
        if !callers.contains_key(caller) {
            if callers.len() == MOST_CALLERS {
                return;
            }
            callers.insert(caller.to_owned(), FaultCallerStats::new(&names::fault_caller(&self.scope, caller)));
        }
        if let Some(stats) = callers.get(caller) {
            count(stats);
        }
    }
}

/// Draws for a request; `None` for one that is spared.
fn draw(fault: &Fault, head: &RequestHead, next: Next<'_>) -> Option<Drawn> {
    if !is_candidate(fault, head, next) {
        return None;
    }
    let keys = &fault.keys;
    let caller = head.headers.get(&X_ENVOY_DOWNSTREAM_SERVICE_CLUSTER).and_then(|caller| caller.to_str().ok());
    let caller = caller.unwrap_or_default();
    // How many are hit: as the request asks, of no more than is allowed; as a runtime value says, of the caller's where there is a caller.
    let hits = |most: Fraction, asks: Option<&HeaderName>, key: &Option<Box<Key>>, of_caller: Option<&str>| {
        let asked = asks.and_then(|name| number::<u32>(head, name));
        let allowed = Fraction { numerator: asked.map_or(most.numerator, |asked| asked.min(most.numerator)), ..most };
        let said = match of_caller.filter(|_| !caller.is_empty()) {
            Some(name) => keys.of_caller(caller, name, Fraction::of),
            None => key.as_ref().and_then(|key| key.value(Fraction::of)),
        };
        said.unwrap_or(allowed).holds(next.draw())
    };
    let delay = fault.delay.as_ref().and_then(|delay| {
        let (time, asks) = match delay.how {
            DelayHow::Fixed(time) => (time, None),
            DelayHow::Header => (Duration::from_millis(number(head, &DELAY)?), Some(&DELAY_PERCENTAGE)),
        };
        let said = keys.of_caller(caller, "delay.fixed_duration_ms", Value::integer);
        let said = said.or_else(|| keys.delay_duration.as_ref()?.value(Value::integer));
        let time = said.map_or(time, Duration::from_millis);
        let percent = Some("delay.fixed_delay_percent");
        (!time.is_zero() && hits(delay.percentage, asks, &keys.delay_percent, percent)).then_some(time)
    });
    let abort = fault.abort.as_ref().and_then(|abort| {
        let (status, grpc, asks) = match abort.how {
            AbortHow::Http(status) => (status, None, None),
            AbortHow::Grpc(status) => (200, Some(status), None),
            AbortHow::Header => match number(head, &ABORT).filter(|status| (200..600).contains(status)) {
                Some(status) => (status, None, Some(&ABORT_PERCENTAGE)),
                None => (200, Some(number(head, &ABORT_GRPC)?), Some(&ABORT_PERCENTAGE)),
            },
        };
        let said = |name: &str, key: &Option<Box<Key>>| {
            let of_caller = keys.of_caller(caller, name, Value::integer);
            of_caller.or_else(|| key.as_ref()?.value(Value::integer))
        };
        let (status, grpc) = match grpc {
            Some(code) => {
                let said = said("abort.grpc_status", &keys.abort_grpc_status).and_then(|said| said.try_into().ok());
                (status, Some(said.unwrap_or(code)))
            }
            None => {
                let said = said("abort.http_status", &keys.abort_http_status).and_then(|said| said.try_into().ok());
                (said.filter(|said| (200..600).contains(said)).unwrap_or(status), None)
            }
        };
        let body = abort.body.clone();
        let percent = Some("abort.abort_percent");
        hits(abort.percentage, asks, &keys.abort_percent, percent).then_some(Abort { status, grpc, body })
    });
    let limit = fault.limit.as_ref().and_then(|limit| {
        let (kilobytes, asks) = match limit.how {
            LimitHow::Fixed(kilobytes) => (kilobytes, None),
            LimitHow::Header => (number(head, &THROUGHPUT).filter(|limit| *limit > 0)?, Some(&THROUGHPUT_PERCENTAGE)),
        };
        hits(limit.percentage, asks, &keys.limit_percent, None).then(|| kilobytes.saturating_mul(1024))
    });
    if delay.is_none() && abort.is_none() && limit.is_none() {
        return None;
    }
    let caller = (fault.counts_callers && !caller.is_empty()).then(|| caller.to_owned());
    Some(Drawn { delay, abort, limit, most_active: fault.max_active.now(), caller })
}

fn is_candidate(fault: &Fault, head: &RequestHead, next: Next<'_>) -> bool {
    let node = || head.headers.get(&X_ENVOY_DOWNSTREAM_SERVICE_NODE);
    (fault.cluster.is_empty() || next.goes_to(&fault.cluster))
        && (fault.nodes.is_empty() || node().is_some_and(|node| fault.nodes.iter().any(|known| node == known.as_str())))
        && fault.headers.iter().all(|matcher| matcher.matches(route::field(head, &matcher.field).as_deref()))
}

fn number<T: std::str::FromStr>(head: &RequestHead, name: &HeaderName) -> Option<T> {
    head.headers.get(name)?.to_str().ok()?.trim().parse().ok()
}
