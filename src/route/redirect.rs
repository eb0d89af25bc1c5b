//! Where a redirect, or a direct response that has a place, sends its client.

use std::borrow::Cow;

use http::{HeaderName, HeaderValue};

use super::decision::Decision;
use super::rewrite;
use crate::codec::head::{RequestHead, Scheme};
use crate::config::model::{PathRewrite, Redirect, RedirectPath, RouteAction};

/// `location` of the answer to a request, where its status has one: 201 and 3xx.
pub fn location(head: &RequestHead, decision: &Decision) -> Option<HeaderValue> {
    location_at(head, decision, None)
}

/// The same with a path that has been made elsewhere (`path_rewrite`).
pub fn location_at(head: &RequestHead, decision: &Decision, path: Option<&[u8]>) -> Option<HeaderValue> {
    let scheme = head.scheme.unwrap_or(Scheme::Http).as_str();
    let target = match decision.action() {
        RouteAction::Redirect(redirect) => redirected(head, decision, redirect, scheme, path),
        RouteAction::DirectResponse { status, .. } | RouteAction::FormattedResponse { status, .. }
            if *status == 201 || (300..400).contains(status) =>
        {
            [scheme.as_bytes(), b"://", &head.authority, &head.path].concat()
        }
        _ => return None,
    };
    HeaderValue::from_bytes(&target).ok()
}

fn redirected(
    head: &RequestHead,
    decision: &Decision,
    redirect: &Redirect,
    own_scheme: &str,
    made: Option<&[u8]>,
) -> Vec<u8> {
    let scheme = if redirect.scheme.is_empty() { own_scheme } else { &redirect.scheme };
    let host = match redirect.host.as_str() {
        "" => host(head, scheme, redirect.port.is_some()),
        host => host.as_bytes(),
    };
    let port = redirect.port.map(|port| format!(":{port}")).unwrap_or_default();
    let mut keep_query = !redirect.strip_query;
    let query = memchr::memchr(b'?', &head.path).map_or(&[][..], |at| &head.path[at..]);
    let mut path: Cow<'_, [u8]> = match &redirect.path {
        RedirectPath::Rewrite(PathRewrite::Format(_)) if let Some(made) = made => [made, query].concat().into(),
        RedirectPath::Rewrite(how) => rewrite::path(&head.path, &decision.route.path, how)
            .map_or((&head.path[..]).into(), |path| path.to_vec().into()),
        RedirectPath::Path(path) if path.contains('?') => {
            keep_query = true;
            path.as_bytes().into()
        }
        RedirectPath::Path(path) => [path.as_bytes(), query].concat().into(),
    };
    if !keep_query && let Some(at) = memchr::memchr(b'?', &path) {
        path.to_mut().truncate(at);
    }
    [scheme.as_bytes(), b"://", host, port.as_bytes(), &path].concat()
}

/// The request's host: without its port where there is a new one, or where it was the standard one of another scheme.
fn host<'a>(head: &'a RequestHead, scheme: &str, new_port: bool) -> &'a [u8] {
    let host = &head.authority[..];
    let at = if host.starts_with(b"[") {
        memchr::memmem::rfind(host, b"]:").map(|at| at + 1)
    } else {
        memchr::memrchr(b':', host)
    };
    let Some(at) = at else { return host };
    let proto = head.headers.get(&HeaderName::from_static("x-forwarded-proto"));
    let proto = proto.map_or(&b""[..], HeaderValue::as_bytes);
    let standard = matches!((proto, &host[at..]), (b"https", b":443") | (b"http", b":80"));
    if new_port || (proto != scheme.as_bytes() && standard) { &host[..at] } else { host }
}
