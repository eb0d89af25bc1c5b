//! What becomes of a path and a host: pure functions over heads.

use std::borrow::Cow;

use bytes::Bytes;
use http::{HeaderName, HeaderValue};

use super::decision::Decision;
use super::facts::field;
use crate::codec::head::{Headers, RequestHead};
use crate::config::model::{Forward, HostRewrite, PathMatch, PathRewrite, RouteAction};

/// Rewrites host and path as the route says, and notes what they were unless `suppress` (`suppress_envoy_headers`). The endpoint's
/// hostname is [`set_endpoint_host`]'s.
pub fn rewrite(head: &mut RequestHead, decision: &Decision, suppress: bool) {
    let RouteAction::Forward(forward) = decision.action() else { return };
    let weighted = decision.weighted_host();
    if !weighted.is_empty() {
        head.authority = Bytes::copy_from_slice(weighted);
    }
    if let Some(host) = host(head, forward) {
        set_host(head, host, forward.append_forwarded_host, suppress);
    }
    if let Some(path) = path(&head.path, &decision.route.path, &forward.path_rewrite) {
        let original = std::mem::replace(&mut head.path, path);
        if !suppress {
            put(&mut head.headers, "x-envoy-original-path", original);
        }
    }
}

/// Sets a path that has been made elsewhere; the query stays.
pub fn set_path(head: &mut RequestHead, path: &[u8], suppress: bool) {
    let end = head.path_without_query().len();
    let path = Bytes::from([path, &head.path[end..]].concat());
    let original = std::mem::replace(&mut head.path, path);
    if !suppress {
        put(&mut head.headers, "x-envoy-original-path", original);
    }
}

/// `auto_host_rewrite`: the hostname of the endpoint that was picked, where it has one.
pub fn set_endpoint_host(head: &mut RequestHead, forward: &Forward, hostname: &str, suppress: bool) {
    if forward.host_rewrite == HostRewrite::Auto && !hostname.is_empty() {
        let host = Bytes::copy_from_slice(hostname.as_bytes());
        set_host(head, host, forward.append_forwarded_host, suppress);
    }
}

/// The path with its query as a rewrite makes it; `None` where it stays.
pub(super) fn path(whole: &Bytes, matched: &PathMatch, rewrite: &PathRewrite) -> Option<Bytes> {
    let end = memchr::memchr(b'?', whole).unwrap_or(whole.len());
    let (plain, query) = (&whole[..end], &whole[end..]);
    let new: Cow<'_, [u8]> = match rewrite {
        // What has operators is not made here.
        PathRewrite::None | PathRewrite::Format(_) => return None,
        PathRewrite::Prefix(new) => {
            let matched = match matched {
                PathMatch::Prefix { prefix: text, .. }
                | PathMatch::SeparatedPrefix { prefix: text, .. }
                | PathMatch::Exact { path: text, .. } => text.len(),
                PathMatch::Regex(_) | PathMatch::Template(_) | PathMatch::Connect => plain.len(),
            };
            [new.as_bytes(), plain.get(matched..).unwrap_or_default()].concat().into()
        }
        PathRewrite::Regex(substitution) => substitution.replace_all(plain).into(),
        PathRewrite::Template(template) => template.rewrite(plain)?.into(),
    };
    Some([&new, query].concat().into())
}

fn host(head: &RequestHead, forward: &Forward) -> Option<Bytes> {
    let host = match &forward.host_rewrite {
        HostRewrite::None | HostRewrite::Auto => return None,
        HostRewrite::Literal(host) => Bytes::copy_from_slice(host.as_bytes()),
        HostRewrite::Header(from) => Bytes::copy_from_slice(&field(head, from)?),
        HostRewrite::PathRegex(substitution) => substitution.replace_all(head.path_without_query()).into(),
    };
    // What comes out of a request must not end the line that it will stand on.
    let fits = !host.is_empty() && HeaderValue::from_bytes(&host).is_ok();
    fits.then_some(host)
}

fn set_host(head: &mut RequestHead, host: Bytes, append_forwarded: bool, suppress: bool) {
    let original = std::mem::replace(&mut head.authority, host);
    if append_forwarded && !original.is_empty() {
        append_forwarded_host(&mut head.headers, &original);
    }
    if !suppress {
        put(&mut head.headers, "x-envoy-original-host", original);
    }
}

/// Adds a host to the list, unless it is its last already.
fn append_forwarded_host(headers: &mut Headers, host: &Bytes) {
    let name = HeaderName::from_static("x-forwarded-host");
    let there: Vec<&[u8]> = headers.get_all(&name).map(HeaderValue::as_bytes).collect();
    let mut list = there.join(&b',');
    if list.rsplit(|byte| *byte == b',').next().is_some_and(|last| last.trim_ascii() == &host[..]) {
        return;
    }
    if !list.is_empty() {
        list.push(b',');
    }
    list.extend_from_slice(host);
    put(headers, "x-forwarded-host", list.into());
}

/// Sets a header to bytes that came in a head, and so can be in one.
fn put(headers: &mut Headers, name: &'static str, value: Bytes) {
    if let Ok(value) = HeaderValue::from_maybe_shared(value) {
        headers.set(HeaderName::from_static(name), value);
    }
}
