//! Whether a redirect of a host is followed here, in place of its client (`internal_redirect_policy`).
//!
//! ```text
//!   response ─▶ code ─▶ whole request kept ─▶ location ─▶ scheme ─▶ how many ─▶ route ─▶ predicates ─▶ asked again from the start
//!                 └──────────┴───────────────────┴───────────┴─────────┴──────────┴─────────┴─▶ passed on, and counted why
//! ```
//!
//! The order is Envoy's, and so is what the second request has: the head as the first host saw it, rewrites included, with the host, path and
//! scheme of the location, and `x-envoy-original-url`. It runs through all filters again ([`crate::http::stream`]).

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, StatusCode, Uri, header};

use crate::codec::head::{RequestHead, ResponseHead, Scheme};
use crate::config::model::{InternalRedirects, RedirectPredicate};
use crate::http::redirects::{Again, Kept};
use crate::http::stream::Stream;
use crate::route::{Decision, Entry};
use crate::stats::Counter;
use crate::stats::names::HttpStats;

/// Why a redirect is passed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Passed {
    /// There is no place, or none that it could be asked for at.
    Location,
    Scheme,
    TooMany,
    NoRoute,
    Predicate,
}

impl Passed {
    fn counter(self, stats: &HttpStats) -> &Counter {
        match self {
            Self::Location => &stats.passthrough_internal_redirect_bad_location,
            Self::Scheme => &stats.passthrough_internal_redirect_unsafe_scheme,
            Self::TooMany => &stats.passthrough_internal_redirect_too_many_redirects,
            Self::NoRoute => &stats.passthrough_internal_redirect_no_route,
            Self::Predicate => &stats.passthrough_internal_redirect_predicate,
        }
    }
}

/// What a redirect names.
struct Target {
    scheme: Scheme,
    authority: Bytes,
    path: Bytes,
}

impl Target {
    /// A whole URL; what stands before an `@`, and a fragment, are not asked for.
    fn of(location: &HeaderValue) -> Option<Self> {
        let uri: Uri = location.to_str().ok()?.parse().ok()?;
        let scheme = match uri.scheme_str()? {
            "http" => Scheme::Http,
            "https" => Scheme::Https,
            _ => return None,
        };
        let authority = uri.authority()?.as_str();
        let authority = authority.rsplit('@').next().filter(|host| !host.is_empty())?;
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
        Some(Self { scheme, authority: Bytes::copy_from_slice(authority.as_bytes()), path: path.into() })
    }
}

/// Whether a response is a redirect that the route follows.
pub(super) fn concerns(policy: &InternalRedirects, response: &ResponseHead) -> bool {
    policy.codes.contains(&response.status.as_u16())
}

/// The request that follows the redirect; `None`, and it has been counted why, where the client gets it. `kept` gives the whole body
/// of the request, if all of it is there.
pub(super) fn follow(
    policy: &InternalRedirects,
    entry: &Entry,
    request: &RequestHead,
    response: &ResponseHead,
    stream: &Stream<'_>,
    kept: impl FnOnce() -> Option<Kept>,
) -> Option<Again> {
    let location = response.headers.get(&header::LOCATION)?;
    let mut body = kept()?;
    let redirected = redirected(policy, entry, request, response, location, stream);
    let (mut head, decision) = redirected.inspect_err(|passed| passed.counter(&stream.manager().stats).inc()).ok()?;
    if response.status == StatusCode::SEE_OTHER && !matches!(head.method, Method::GET | Method::HEAD) {
        head.method = Method::GET;
        head.headers.remove(&header::CONTENT_LENGTH);
        body = Kept::default();
    }
    let scheme = request.scheme.unwrap_or(Scheme::Http).as_str().as_bytes();
    let original = [scheme, b"://", &request.authority, &request.path].concat();
    // What was in a head can be in one.
    if let Ok(original) = HeaderValue::from_maybe_shared(Bytes::from(original)) {
        head.headers.set(HeaderName::from_static("x-envoy-original-url"), original);
    }
    stream.record().redirected(|redirects| {
        redirects.count += 1;
        redirects.taken.push((entry.index, decision.route.name.clone()));
    });
    Some(Again { head, body, decision, status: response.status.as_u16() })
}

fn redirected(
    policy: &InternalRedirects,
    entry: &Entry,
    request: &RequestHead,
    response: &ResponseHead,
    location: &HeaderValue,
    stream: &Stream<'_>,
) -> Result<(RequestHead, Decision), Passed> {
    let target = Target::of(location).ok_or(Passed::Location)?;
    let own = request.scheme.unwrap_or(Scheme::Http);
    if !policy.cross_scheme && own != target.scheme {
        return Err(Passed::Scheme);
    }
    if stream.record().redirects(|redirects| redirects.count) >= policy.most {
        return Err(Passed::TooMany);
    }
    let mut head = request.clone();
    for name in &policy.copied {
        head.headers.remove(name);
        for value in response.headers.get_all(name) {
            head.headers.append(name.clone(), value.clone());
        }
    }
    head.scheme = Some(target.scheme);
    head.authority = target.authority;
    head.path = target.path;
    stream.manager().normalize(&mut head, stream).map_err(|_| Passed::Location)?;
    let decision = stream.manager().route(&head, stream).ok_or(Passed::NoRoute)?;
    let name = &decision.route.name;
    let accepts = |predicate: &RedirectPredicate| match predicate {
        RedirectPredicate::AllowListed(names) => names.contains(name),
        RedirectPredicate::PreviousRoutes => stream
            .record()
            .redirects(|redirects| !redirects.taken.iter().any(|(from, to)| *from == entry.index && to == name)),
        RedirectPredicate::SafeCrossScheme => own == Scheme::Https || target.scheme == Scheme::Http,
    };
    if policy.predicates.iter().all(accepts) { Ok((head, decision)) } else { Err(Passed::Predicate) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_location_is_a_whole_url() {
        let of = |text: &str| {
            let target = Target::of(&HeaderValue::from_str(text).unwrap())?;
            let text = |bytes: &Bytes| String::from_utf8(bytes.to_vec()).unwrap();
            Some(format!("{} {} {}", target.scheme.as_str(), text(&target.authority), text(&target.path)))
        };
        for (location, expected) in [
            ("http://a/b?c=d#e", "http a /b?c=d"),
            ("HTTPS://A:99/", "https A:99 /"),
            ("http://a", "http a /"),
            ("http://a?b", "http a /?b"),
            ("http://u:p@a:1/b", "http a:1 /b"),
            ("http://[::1]:80/b", "http [::1]:80 /b"),
        ] {
            assert_eq!(of(location).as_deref(), Some(expected), "{location}");
        }
        for location in ["", "/b", "//a/b", "ftp://a/b", "http:///b", "http://a b/", "http://a/\u{e4}", "a:80"] {
            assert_eq!(of(location), None, "{location}");
        }
    }
}
