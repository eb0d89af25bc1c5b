//! `envoy.filters.http.health_check`: answers those who ask after this proxy's health, or passes them on to those behind it.
//!
//! A request that meets all conditions on its headers is a health check. It is answered here: 200, or 503 when the proxy was told to
//! fail (`/healthcheck/fail`) or a cluster has too few healthy hosts. In pass-through mode it goes on to the route, but while the proxy
//! fails; with `cache_time` what came back answers all that come within that time, on this worker. Health checks are not counted
//! among the responses of the connection manager. Others are told `x-envoy-immediate-health-check-fail` while the proxy fails.
//!
//! On reload the cache begins empty. A health check that was passed on stays with its worker until its response's head has come; every
//! other request is passed on as if this filter were not there.

use std::cell::Cell;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Poll, ready};
use std::time::{Duration, Instant};

use http::{HeaderName, HeaderValue, StatusCode};

use self::settings::{HealthCheck, Mode};
use super::super::body::{Body, Frame};
use super::super::failure::Failure;
use super::super::filter::{Answer, Building, Extension, Filter, Next, Request, Response};
use crate::codec::head::{RequestHead, ResponseHead};
use crate::config::extension::HttpFilterKind;
use crate::fault::Flag;
use crate::route::HeaderMatcher;
use crate::stats::names::HealthCheckStats;
use crate::upstream::Clusters;

mod settings;

/// How it comes into being.
pub const EXTENSION: Extension = Extension {
    kind: HttpFilterKind {
        type_name: "envoy.extensions.filters.http.health_check.v3.HealthCheck",
        settings: settings::read,
        route: None,
    },
    build,
};

const CHECKED_CLUSTER: HeaderName = HeaderName::from_static("x-envoy-upstream-healthchecked-cluster");
const FAILS: HeaderName = HeaderName::from_static("x-envoy-immediate-health-check-fail");
const DEGRADED: HeaderName = HeaderName::from_static("x-envoy-degraded");

fn build(with: &Building<'_>) -> Result<Rc<dyn Filter>, String> {
    let settings: &HealthCheck = with.model.settings.get().ok_or("has no settings of its own")?;
    let service = HeaderValue::from_str(&settings.service).map_err(|_| "node.cluster cannot stand in a header")?;
    Ok(Rc::new(HealthChecks {
        matchers: settings.headers.iter().map(HeaderMatcher::compile).collect(),
        mode: settings.mode.clone(),
        service,
        cached: Cell::new(None),
        clusters: with.clusters.clone(),
        stats: HealthCheckStats::new(with.scope),
    }))
}

struct HealthChecks {
    matchers: Vec<HeaderMatcher>,
    mode: Mode,
    service: HeaderValue,
    cached: Cell<Option<Cached>>,
    clusters: Rc<Clusters>,
    stats: HealthCheckStats,
}

/// What the last health check that was passed on came to.
#[derive(Clone, Copy)]
struct Cached {
    until: Instant,
    status: StatusCode,
    degraded: bool,
}

/// What is answered, and why.
struct Verdict {
    status: StatusCode,
    degraded: bool,
    details: &'static str,
}

impl Verdict {
    fn bad(details: &'static str) -> Self {
        Self { status: StatusCode::SERVICE_UNAVAILABLE, degraded: false, details }
    }
}

impl Filter for HealthChecks {
    fn call<'a>(&'a self, request: Request<'a>, next: Next<'a>) -> Answer<'a> {
        let fails = next.stream().fails_health_checks();
        if !self.is_check(&request.head) {
            return if fails { Answer::later(self.warn(request, next)) } else { next.run(request) };
        }
        next.stream().record().is_health_check.set(true);
        let verdict = match &self.mode {
            _ if fails => {
                next.stream().record().flag(Flag::FailedLocalHealthCheck);
                Verdict::bad("health_check_failed")
            }
            Mode::Answer(percentages) => self.judge(percentages),
            Mode::PassThrough(cache_time) => match self.cached.get().filter(|cached| Instant::now() < cached.until) {
                Some(Cached { status, degraded, .. }) => {
                    self.stats.cached_response.inc();
                    Verdict { status, degraded, details: "health_check_cached" }
                }
                None => return Answer::later(self.pass(request, next, *cache_time)),
            },
        };
        self.count(&verdict);
        let mut head = ResponseHead::new(verdict.status);
        if verdict.degraded {
            head.headers.set(DEGRADED, HeaderValue::from_static(""));
        }
        head.headers.set(CHECKED_CLUSTER, self.service.clone());
        let reply = Response { head, body: Body::Empty, local: true };
        if next.stream().is_complete() {
            return next.reply(&request.head, reply, verdict.details);
        }
        // Who sends a body is answered behind it, so that the connection is kept.
        let Request { head, mut body } = request;
        Answer::later(async move {
            poll_fn(|context| {
                loop {
                    match ready!(body.poll_frame(context)) {
                        Ok(Frame::Data(_)) => {}
                        Ok(Frame::End(_)) => return Poll::Ready(Ok(())),
                        Err(failure) => return Poll::Ready(Err(failure)),
                    }
                }
            })
            .await?;
            next.reply(&head, reply, verdict.details).await
        })
    }
}

impl HealthChecks {
    fn is_check(&self, head: &RequestHead) -> bool {
        self.matchers.iter().all(|matcher| matcher.matches_request(head))
    }

    async fn warn<'a>(&'a self, request: Request<'a>, next: Next<'a>) -> Result<Response<'a>, Failure> {
        let mut response = next.run(request).await?;
        response.head.headers.set(FAILS, HeaderValue::from_static("true"));
        Ok(response)
    }

    async fn pass<'a>(
        &'a self,
        request: Request<'a>,
        next: Next<'a>,
        cache_time: Option<Duration>,
    ) -> Result<Response<'a>, Failure> {
        let mut response = next.run(request).await?;
        if let Some(until) = cache_time.and_then(|time| Instant::now().checked_add(time)) {
            let degraded = response.head.headers.contains(&DEGRADED);
            self.cached.set(Some(Cached { until, status: response.head.status, degraded }));
        }
        response.head.headers.set(CHECKED_CLUSTER, self.service.clone());
        Ok(response)
    }

    /// What the hosts of clusters say of our health.
    fn judge(&self, percentages: &[(String, f64)]) -> Verdict {
        for (name, least) in percentages {
            let Some(cluster) = self.clusters.get(name) else {
                self.stats.failed_cluster_not_found.inc();
                return Verdict::bad("health_check_failed_no_cluster_found");
            };
            let total = cluster.hosts().len();
            if total == 0 {
                if *least < 1.0 {
                    continue;
                }
                self.stats.failed_cluster_empty.inc();
                return Verdict::bad("health_check_failed_cluster_empty");
            }
            let healthy = cluster.hosts().iter().filter(|host| host.endpoint().healthy).count();
            // As Envoy, whole percents.
            if (100 * healthy) as f64 / (total as f64) < least.trunc() {
                self.stats.failed_cluster_unhealthy.inc();
                return Verdict::bad("health_check_failed_cluster_unhealthy");
            }
        }
        let details = if percentages.is_empty() { "health_check_ok" } else { "health_check_ok_cluster_healthy" };
        Verdict { status: StatusCode::OK, degraded: false, details }
    }

    fn count(&self, verdict: &Verdict) {
        self.stats.request_total.inc();
        if verdict.status.is_success() {
            self.stats.ok.inc();
        } else {
            self.stats.failed.inc();
        }
        if verdict.degraded {
            self.stats.degraded.inc();
        }
    }
}
