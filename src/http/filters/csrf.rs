//! `envoy.filters.http.csrf`: refuses requests that change something and come from pages of elsewhere.
//!
//! Of POST, PUT, DELETE and PATCH the origin (or else the referer) must be the host that is asked, or one of `additional_origins`; another
//! is answered with 403, and so is one without any. In shadow they are counted only. The policy of the most specific level counts. What
//! passes is passed on as if this filter were not there; nothing is kept across a reload or a drain.

use std::rc::Rc;

use bytes::Bytes;
use http::{Method, header};

use self::settings::Policy;
use super::super::filter::{Answer, Building, Extension, Filter, Next, Request};
use super::super::local_reply;
use crate::codec::head::RequestHead;
use crate::config::extension::{HttpFilterKind, RouteKind};
use crate::config::model::Settings;
use crate::stats::names::CsrfStats;

mod settings;

/// How it comes into being.
pub const EXTENSION: Extension = Extension {
    kind: HttpFilterKind {
        type_name: "envoy.extensions.filters.http.csrf.v3.CsrfPolicy",
        settings: settings::read,
        route: Some(RouteKind {
            type_name: "envoy.extensions.filters.http.csrf.v3.CsrfPolicy",
            settings: settings::read,
        }),
    },
    build,
};

fn build(with: &Building<'_>) -> Result<Rc<dyn Filter>, String> {
    let settings = with.model.settings.clone();
    settings.get::<Policy>().ok_or("has no settings of its own")?;
    Ok(Rc::new(Csrf { settings, stats: CsrfStats::new(with.scope) }))
}

struct Csrf {
    settings: Settings,
    stats: CsrfStats,
}

/// What a policy says of a request.
enum Verdict {
    Pass,
    Refuse,
}

impl Filter for Csrf {
    fn call<'a>(&'a self, request: Request<'a>, next: Next<'a>) -> Answer<'a> {
        if !changes(&request.head.method) {
            return next.run(request);
        }
        let draw = next.draw();
        let said = next.find_in_route(|policy: &Policy| Some(self.judge(policy, &request.head, draw)));
        let verdict = said.or_else(|| Some(self.judge(self.settings.get::<Policy>()?, &request.head, draw)));
        match verdict {
            Some(Verdict::Refuse) => {
                let reply = local_reply::text(403, Bytes::from_static(b"Invalid origin"));
                next.reply(&request.head, reply, "csrf_origin_mismatch")
            }
            Some(Verdict::Pass) | None => next.run(request),
        }
    }
}

impl Csrf {
    fn judge(&self, policy: &Policy, head: &RequestHead, draw: u64) -> Verdict {
        let (enabled, shadow) =
            (policy.enabled.holds(draw), policy.shadow.as_ref().is_some_and(|shadow| shadow.holds(draw)));
        if !enabled && !shadow {
            return Verdict::Pass;
        }
        let source = source(head);
        if source.is_empty() {
            self.stats.missing_source_origin.inc();
        } else if source == host_and_port(&head.authority)
            || policy.additional_origins.iter().any(|matcher| matcher.matches(source))
        {
            self.stats.request_valid.inc();
            return Verdict::Pass;
        } else {
            self.stats.request_invalid.inc();
        }
        if enabled { Verdict::Refuse } else { Verdict::Pass }
    }
}

fn changes(method: &Method) -> bool {
    [Method::POST, Method::PUT, Method::DELETE, Method::PATCH].contains(method)
}

/// Whose page it was; empty where nothing says so.
fn source(head: &RequestHead) -> &[u8] {
    let of = |name| head.headers.get(name).map_or(&[][..], |value| value.as_bytes());
    match of(&header::ORIGIN) {
        [] => host_and_port(of(&header::REFERER)),
        // A page that must not be named: its referer would name it.
        b"null" => &[],
        origin => host_and_port(origin),
    }
}

/// Host and port of a URL, or the text itself where it is none.
fn host_and_port(text: &[u8]) -> &[u8] {
    let Some(at) = memchr::memmem::find(text, b"://") else { return text };
    let after = &text[at + 3..];
    let end = after.iter().position(|byte| matches!(byte, b'/' | b'?' | b'#')).unwrap_or(after.len());
    &after[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_come_down_to_host_and_port() {
        for (text, expected) in [
            ("https://a.example", "a.example"),
            ("https://a.example:8443/x?y", "a.example:8443"),
            ("http://a.example?y", "a.example"),
            ("a.example", "a.example"),
            ("null", "null"),
            ("", ""),
        ] {
            assert_eq!(host_and_port(text.as_bytes()), expected.as_bytes(), "{text}");
        }
    }
}
