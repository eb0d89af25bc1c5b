//! `envoy.filters.http.cors`: says to browsers which pages of other origins may read responses, and answers what they ask beforehand.
//!
//! The policy stands at the virtual host and the route (or the table, or the weighted cluster); of each field the most specific level
//! that sets it counts. A request with an origin that is allowed gets its response with `access-control-allow-origin`; a preflight
//! (`OPTIONS` with `access-control-request-method`) of such an origin is answered here. One whose origin is not allowed is passed on
//! as it is, or, with `forward_not_matching_preflights: false`, answered without the one header that would allow it.
//!
//! Requests without an origin, or without a policy, are passed on as if this filter were not there. One whose response is to be
//! changed stays with its worker until the response's head has come.

use std::rc::Rc;

use http::{HeaderName, HeaderValue, Method, StatusCode, header};

use self::settings::Policy;
use super::super::body::Body;
use super::super::filter::{Answer, Building, Extension, Filter, Next, Request, Response};
use crate::codec::head::{Headers, RequestHead, ResponseHead};
use crate::config::extension::{HttpFilterKind, RouteKind};
use crate::config::model::Settings;
use crate::stats::names::CorsStats;

mod settings;

/// How it comes into being.
pub const EXTENSION: Extension = Extension {
    kind: HttpFilterKind {
        type_name: "envoy.extensions.filters.http.cors.v3.Cors",
        settings: |_, _| Some(Settings::new(())),
        route: Some(RouteKind {
            type_name: "envoy.extensions.filters.http.cors.v3.CorsPolicy",
            settings: settings::read_route,
        }),
    },
    build,
};

const REQUEST_PRIVATE_NETWORK: HeaderName = HeaderName::from_static("access-control-request-private-network");
const ALLOW_PRIVATE_NETWORK: HeaderName = HeaderName::from_static("access-control-allow-private-network");

fn build(with: &Building<'_>) -> Result<Rc<dyn Filter>, String> {
    Ok(Rc::new(Cors { stats: CorsStats::new(with.scope) }))
}

struct Cors {
    stats: CorsStats,
}

impl Filter for Cors {
    fn call<'a>(&'a self, request: Request<'a>, next: Next<'a>) -> Answer<'a> {
        let draw = next.draw();
        // Whether it works at all the most specific policy says alone.
        let Some((enabled, shadow)) = next.find_in_route(|policy: &Policy| {
            Some((policy.enabled.holds(draw), policy.shadow.as_ref().is_some_and(|shadow| shadow.holds(draw))))
        }) else {
            return next.run(request);
        };
        if !enabled && !shadow {
            return next.run(request);
        }
        let Some(origin) = request.head.headers.get(&header::ORIGIN).filter(|origin| !origin.is_empty()).cloned()
        else {
            return next.run(request);
        };
        let allowed = next
            .find_in_route(|policy: &Policy| {
                let origins = &policy.allow_origins;
                (!origins.is_empty()).then(|| origins.iter().any(|matcher| matcher.matches(origin.as_bytes())))
            })
            .unwrap_or(false);
        if allowed {
            self.stats.origin_valid.inc();
        } else {
            self.stats.origin_invalid.inc();
        }
        if !enabled {
            return next.run(request);
        }
        if is_preflight(&request.head) {
            let forwards = || next.find_in_route(|policy: &Policy| policy.forward_not_matching_preflights);
            if allowed || !forwards().unwrap_or(true) {
                let head = preflight(&request.head, next, allowed.then_some(origin));
                return next.answer(&request.head, Response { head, body: Body::Empty, local: false }, "cors_response");
            }
        }
        if !allowed {
            return next.run(request);
        }
        next.stream().record().set_object(ALLOWED, Allowed(origin.clone()));
        Answer::later(async move {
            let mut response = next.run(request).await?;
            allow(&mut response.head.headers, origin, next);
            Ok(response)
        })
    }

    fn dress<'a>(&'a self, reply: &mut Response<'a>, next: Next<'a>) {
        if let Some(allowed) = next.stream().record().object::<Allowed>(ALLOWED) {
            allow(&mut reply.head.headers, allowed.0.clone(), next);
        }
    }
}

/// The origin that is allowed, for replies that are made here.
const ALLOWED: &str = "envoy.filters.http.cors.allowed";

struct Allowed(HeaderValue);

/// Tells the browser that the page may see the response.
fn allow(headers: &mut Headers, origin: HeaderValue, next: Next<'_>) {
    headers.set(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    if allows_credentials(next) {
        headers.set(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
    }
    if let Some(exposed) = next.find_in_route(|policy: &Policy| policy.expose_headers.clone()) {
        headers.set(header::ACCESS_CONTROL_EXPOSE_HEADERS, exposed);
    }
}

fn is_preflight(head: &RequestHead) -> bool {
    let asked = head.headers.get(&header::ACCESS_CONTROL_REQUEST_METHOD);
    head.method == Method::OPTIONS && asked.is_some_and(|method| !method.is_empty())
}

fn allows_credentials(next: Next<'_>) -> bool {
    next.find_in_route(|policy: &Policy| policy.allow_credentials).unwrap_or(false)
}

/// The answer to a browser that asks beforehand. One whose origin is not allowed is told everything but that it is.
fn preflight(request: &RequestHead, next: Next<'_>, origin: Option<HeaderValue>) -> ResponseHead {
    let mut head = ResponseHead::new(StatusCode::OK);
    let headers = &mut head.headers;
    let yes = || HeaderValue::from_static("true");
    if let Some(origin) = origin {
        headers.append(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        if let Some(exposed) = next.find_in_route(|policy: &Policy| policy.expose_headers.clone()) {
            headers.append(header::ACCESS_CONTROL_EXPOSE_HEADERS, exposed);
        }
    }
    if allows_credentials(next) {
        headers.append(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, yes());
    }
    if let Some(methods) = next.find_in_route(|policy: &Policy| policy.allow_methods.clone()) {
        headers.append(header::ACCESS_CONTROL_ALLOW_METHODS, methods);
    }
    if let Some(names) = next.find_in_route(|policy: &Policy| policy.allow_headers.clone()) {
        headers.append(header::ACCESS_CONTROL_ALLOW_HEADERS, names);
    }
    if let Some(age) = next.find_in_route(|policy: &Policy| policy.max_age.clone()) {
        headers.append(header::ACCESS_CONTROL_MAX_AGE, age);
    }
    let asks = request.headers.get(&REQUEST_PRIVATE_NETWORK).is_some_and(|value| value == "true");
    if asks && next.find_in_route(|policy: &Policy| policy.allow_private_network_access).unwrap_or(false) {
        headers.append(ALLOW_PRIVATE_NETWORK, yes());
    }
    head
}
