//! How a request begins its way: what its route does with it, and the first try.

use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;

use crate::config::model::{self, RouteAction};
use crate::http::failure::Failure;
use crate::http::filter::Request;
use crate::http::headers::{announce_attempts, announce_timeout};
use crate::http::local_reply;
use crate::http::stream::Stream;
use crate::http::upgrade::Switch;
use crate::upstream::Cluster;

use super::attempts::Attempts;
use super::connect::{open, send};
use super::controls::Controls;
use super::retry::Retries;
use super::timeouts::Timeouts;
use super::{State, controls, exchange, mirror, rewrite};

/// What a request comes to at once; `attempts` is for one that may be tried again.
pub(super) fn begin<'a>(
    request: Request<'a>,
    stream: &'a Stream<'a>,
    router: &model::Router,
    attempts: &mut Option<Box<Attempts<'a>>>,
) -> Result<State<'a>, Failure> {
    let record = stream.record();
    stream.keep_request(&request.head);
    let decision = record.route.borrow();
    let stats = &stream.manager().stats;
    stats.rq_total.inc();
    let Some(decision) = &*decision else { return Err(Failure::NoRoute) };
    let forward = match decision.action() {
        RouteAction::Forward(forward) => forward,
        RouteAction::DirectResponse { status, body } => {
            return Ok(State::Done(Ok(rewrite::answer(&request.head, stream, decision, *status, body.clone()))));
        }
        RouteAction::FormattedResponse { status, body, format } => {
            let mut response = rewrite::answer(&request.head, stream, decision, *status, Bytes::new());
            local_reply::fill(&mut response, format, body.clone(), &request.head, stream);
            return Ok(State::Done(Ok(response)));
        }
        RouteAction::Redirect(redirect) => {
            return Ok(State::Done(Ok(rewrite::answer(
                &request.head,
                stream,
                decision,
                redirect.status,
                Bytes::new(),
            ))));
        }
        RouteAction::NonForwarding => return Err(Failure::NoCluster { status: 503 }),
    };
    let (cluster, tries) = (stream.manager().cluster(decision), &forward.tries);
    if record.controls.get()
        && let Some((name, value)) = controls::refused(&router.strict, &request.head.headers)
    {
        return Ok(State::Done(Ok(rewrite::refuse_control(name, value, stream))));
    }
    let cluster = cluster.ok_or(Failure::NoCluster { status: forward.cluster_not_found })?;
    let Request { mut head, body } = request;
    let controls = if record.controls.get() {
        Controls::take(&mut head.headers, router.respect_expected_timeout)
    } else {
        Controls::default()
    };
    record.alt_response.set(controls.alt_response);
    if let Some(name) = &controls.alt_stat {
        record.count_as(name.clone());
    }
    let grpc = record.grpc.get();
    let timeouts = Timeouts::new(rewrite::timeout(&head, grpc, forward), tries, &controls);
    stream.set_timeouts(timeouts.total, forward.idle_timeout);
    stream.set_duration(rewrite::duration(&mut head, grpc, forward.max_stream_duration));
    stream.manager().route_stats.begin(stream, &head);
    *record.cluster.borrow_mut() = Some(cluster.clone());
    record.high.set(forward.high_priority);
    record.announces_attempts.set(tries.count_in_response);
    record.count_try();
    let maintenance = &cluster.model().maintenance;
    if maintenance.key().is_some() && maintenance.holds(stream.manager().draw()) {
        cluster.stats().upstream_rq_maintenance_mode.inc();
        return Err(Failure::Maintenance);
    }
    let host = cluster.pick().ok_or(Failure::NoHealthyUpstream)?;
    *record.host.borrow_mut() = Some(host.clone());
    stream.manager().route_stats.each(record, |counted| counted.stats.upstream_rq_total.inc());
    match stream.switch() {
        Switch::No => {}
        Switch::Terminated => return Ok(State::Opening(open(stream, cluster.clone(), host.clone()))),
        Switch::Asked | Switch::Allowed | Switch::Keyed => {}
    }
    let announces = !router.suppress_envoy_headers;
    if let Some(expected) = timeouts.expected(Duration::ZERO).filter(|_| announces) {
        announce_timeout(&mut head.headers, expected);
    }
    if forward.grpc_timeout.is_some() && grpc {
        rewrite::tell_timeout(&mut head, timeouts.expected(Duration::ZERO));
    }
    if tries.count_in_request {
        announce_attempts(&mut head.headers, 1);
    }
    let retry_on = Retries::conditions(&tries.policy, &decision.route.retriable, &head, &controls);
    rewrite::request(&mut head, stream, forward, decision, router);
    let mut request = Request { head, body };
    let mirrors = mirror::of(forward, cluster);
    if !mirrors.is_empty() && stream.switch() == Switch::No {
        mirror::send(mirrors, &mut request, stream, cluster, tries, timeouts.total);
    }
    // What may become a tunnel is asked for once.
    let tried_again = stream.switch() == Switch::No
        && (!retry_on.is_empty() || timeouts.limit_tries() || forward.redirects.is_some());
    let exchange = if tried_again {
        let retries = Retries::new(&tries.policy, retry_on, controls);
        let (taken, body) = Attempts::new(stream, cluster, tries, decision, retries, timeouts, request);
        attempts.insert(taken).exchange(host, body, announces)?
    } else {
        let Request { head, body } = request;
        stream.keep_request(&head);
        let framing = exchange::framing(&body);
        exchange::encode(stream, cluster, host, head, framing, body)?
    };
    send(stream, host, exchange)
}

/// What a request of our own comes to at once.
pub(super) fn call<'a>(
    request: Request<'a>,
    cluster: &Rc<Cluster>,
    stream: &'a Stream<'a>,
) -> Result<State<'a>, Failure> {
    let record = stream.record();
    *record.cluster.borrow_mut() = Some(cluster.clone());
    record.count_try();
    let host = cluster.pick().ok_or(Failure::NoHealthyUpstream)?;
    *record.host.borrow_mut() = Some(host.clone());
    let Request { head, body } = request;
    let framing = exchange::framing(&body);
    send(stream, host, exchange::encode(stream, cluster, host, head, framing, body)?)
}
