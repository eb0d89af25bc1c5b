//! Request headers on their way to the upstream.

use std::io::Write;
use std::net::IpAddr;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, header};

use super::inline::{self, Seen};
use super::names::{
    Class, Known, Present, X_ENVOY_ATTEMPT_COUNT, X_ENVOY_DOWNSTREAM_SERVICE_CLUSTER, X_ENVOY_DOWNSTREAM_SERVICE_NODE,
    X_ENVOY_EXPECTED_RQ_TIMEOUT_MS, X_ENVOY_EXTERNAL_ADDRESS, X_ENVOY_INTERNAL, X_FORWARDED_FOR, X_FORWARDED_PORT,
    X_FORWARDED_PROTO, X_REQUEST_ID, classify,
};
use super::target::{self, Turned};
use super::{Client, ConnectionFacts, Rules, client_cert};
use crate::codec::head::tokens;
use crate::codec::http1::Refusal;
use crate::codec::{Headers, RequestHead, Scheme};
use crate::config::model::{ForcedScheme, TargetRules};

/// `connection` may name fewer headers than this.
const MAX_NAMED: usize = 10;

/// Makes request ids.
#[derive(Clone, Debug)]
pub struct Ids {
    fixed: Option<HeaderValue>,
}

impl Ids {
    /// Random UUIDs, version 4.
    pub const fn random() -> Self {
        Self { fixed: None }
    }

    /// Always the same id, for tests and replays.
    pub const fn fixed(id: HeaderValue) -> Self {
        Self { fixed: Some(id) }
    }

    fn next(&mut self) -> Option<HeaderValue> {
        match &self.fixed {
            Some(id) => Some(id.clone()),
            None => {
                let mut text = uuid::Uuid::encode_buffer();
                let text = uuid::Uuid::new_v4().hyphenated().encode_lower(&mut text);
                HeaderValue::from_str(text).ok()
            }
        }
    }
}

/// Makes a client's head fit to be routed and sent on: checks that it can be routed, removes what is about the
/// client's connection or must not come from outside, adds who asked.
///
/// # Errors
/// What to answer instead.
pub fn prepare_request(
    head: &mut RequestHead,
    rules: &Rules,
    connection: &ConnectionFacts,
    ids: &mut Ids,
) -> Result<Client, Turned> {
    let named = named_by_connection(&head.headers)?;
    check(head)?;
    if let Some(rules) = &rules.target {
        target::apply(head, rules, connection.local_port)?;
    }
    let mut client = Client::find(&head.headers, rules, connection)?;
    let mut present = Present::default();
    let mut seen = Seen::default();
    head.headers.retain(|name, value| {
        let class = classify(name);
        let pass = match class {
            Class::End | Class::Known(_) => client.internal || !rules.internal_only.contains(name),
            Class::ContentType => {
                client.grpc = target::is_grpc(value);
                client.internal || !rules.internal_only.contains(name)
            }
            Class::Hop => connection.upgrade && (*name == header::CONNECTION || *name == header::UPGRADE),
            Class::ClientCert => client_cert::passes(&rules.client_cert, connection.mutual),
            Class::Te => reduce_te(value),
            Class::Expect => rules.proxy_100_continue || !value.as_bytes().eq_ignore_ascii_case(b"100-continue"),
            Class::Internal => {
                client.controls |= client.internal;
                client.internal
            }
            Class::Edge => !client.edge,
        };
        let pass = pass && (named.is_empty() || *name == header::TE || !named.contains(name));
        if let (Class::Known(known), true) = (class, pass) {
            present.note(known);
        }
        if pass {
            seen.note(name);
        }
        pass
    });
    if seen.again() {
        inline::join(&mut head.headers);
    }
    if connection.upgrade && !named.is_empty() {
        // What it named besides is gone.
        head.headers.set(header::CONNECTION, HeaderValue::from_static("upgrade"));
    }
    if client.appends
        && let Some(peer) = connection.peer
    {
        let shown = if peer.is_loopback() { connection.own_address.unwrap_or(peer) } else { peer };
        append_forwarded_for(&mut head.headers, present, shown);
    }
    set_scheme(head, present, rules, connection);
    if let Some(target) = &rules.target {
        announce_target(head, rules, target, connection);
    }
    if client.internal {
        head.headers.set(X_ENVOY_INTERNAL.clone(), HeaderValue::from_static("true"));
    }
    add_identity(&mut head.headers, rules);
    if client.edge
        && let Some(address) = client.address
    {
        put(&mut head.headers, present, Known::ExternalAddress, &X_ENVOY_EXTERNAL_ADDRESS, ip_value(address));
    }
    if rules.generate_request_id {
        let keep = !client.edge || rules.preserve_external_request_id;
        if !(keep && present.has(Known::RequestId))
            && let Some(id) = ids.next()
        {
            put(&mut head.headers, present, Known::RequestId, &X_REQUEST_ID, id);
        }
    }
    Ok(client)
}

/// Sets a header; one that is not there is not searched for.
fn put(headers: &mut Headers, present: Present, known: Known, name: &HeaderName, value: HeaderValue) {
    if present.has(known) {
        headers.set(name.clone(), value);
    } else {
        headers.append(name.clone(), value);
    }
}

/// Tells how many tries there have been.
pub fn announce_attempts(headers: &mut Headers, attempts: u32) {
    headers.set(X_ENVOY_ATTEMPT_COUNT.clone(), number_value(u128::from(attempts)));
}

/// Tells the upstream how long the answer is waited for. Not with `suppress_envoy_headers`.
pub fn announce_timeout(headers: &mut Headers, timeout: Duration) {
    headers.set(X_ENVOY_EXPECTED_RQ_TIMEOUT_MS.clone(), number_value(timeout.as_millis()));
}

/// What a path must be to be routed.
fn check(head: &RequestHead) -> Result<(), Refusal> {
    if head.method == Method::CONNECT {
        return Ok(());
    }
    if head.path.first() != Some(&b'/') {
        return Err(Refusal::ABSOLUTE_PATH);
    }
    if memchr::memchr(b'#', &head.path).is_some() {
        return Err(Refusal::PATH);
    }
    Ok(())
}

/// The headers that `connection` declares to be about the connection.
fn named_by_connection(headers: &Headers) -> Result<Vec<HeaderName>, Refusal> {
    let mut named = Vec::new();
    let mut count = 0;
    for value in headers.get_all(&header::CONNECTION) {
        for token in tokens(value.as_bytes()) {
            count += 1;
            if count >= MAX_NAMED || token.starts_with(b":") {
                return Err(Refusal::CONNECTION_HEADER);
            }
            let Ok(name) = HeaderName::from_bytes(token) else { continue };
            // Whoever can have these removed can hide where a request came from.
            if matches!(name.as_str(), "x-forwarded-for" | "x-forwarded-host" | "x-forwarded-proto") {
                return Err(Refusal::CONNECTION_HEADER);
            }
            if !matches!(name.as_str(), "close" | "keep-alive" | "upgrade") {
                named.push(name);
            }
        }
    }
    Ok(named)
}

/// Of `te` only `trailers` is about the whole way.
fn reduce_te(value: &mut HeaderValue) -> bool {
    let trailers = tokens(value.as_bytes()).any(|token| {
        token.split(|byte| *byte == b';').next().is_some_and(|name| name.trim_ascii().eq_ignore_ascii_case(b"trailers"))
    });
    if trailers {
        *value = HeaderValue::from_static("trailers");
    }
    trailers
}

/// Adds an address to the list, which becomes one header at the place of the first.
fn append_forwarded_for(headers: &mut Headers, present: Present, address: IpAddr) {
    let mut text = Vec::with_capacity(40);
    if present.has(Known::ForwardedFor) {
        for value in headers.get_all(&X_FORWARDED_FOR) {
            if !value.is_empty() {
                text.extend_from_slice(value.as_bytes());
                text.push(b',');
            }
        }
    }
    write_ip(&mut text, address);
    // Valid values joined by commas are valid.
    if let Ok(value) = HeaderValue::from_maybe_shared(Bytes::from(text)) {
        put(headers, present, Known::ForwardedFor, &X_FORWARDED_FOR, value);
    }
}

/// Puts the target in the form that the rules want; one that cannot be routed is refused.
///
/// # Errors
/// What to answer instead.
pub fn normalize(head: &mut RequestHead, rules: &Rules, port: Option<u16>) -> Result<(), Turned> {
    check(head)?;
    match &rules.target {
        Some(rules) => target::apply(head, rules, port),
        None => Ok(()),
    }
}

/// Makes a client's head one of a request of our own: we ask, from inside.
pub fn ask_ourselves(headers: &mut Headers, own: IpAddr) {
    headers.set(X_ENVOY_INTERNAL.clone(), HeaderValue::from_static("true"));
    let mut present = Present::default();
    if headers.contains(&X_FORWARDED_FOR) {
        present.note(Known::ForwardedFor);
    }
    append_forwarded_for(headers, present, own);
}

/// `x-forwarded-proto`, and the scheme where the target had none.
fn set_scheme(head: &mut RequestHead, present: Present, rules: &Rules, connection: &ConnectionFacts) {
    let own = if connection.tls { Scheme::Https } else { Scheme::Http };
    let trusted = !rules.use_remote_address || rules.trusted_hops > 0;
    let forwarded = if trusted && present.has(Known::ForwardedProto) {
        match head.headers.get(&X_FORWARDED_PROTO).map(HeaderValue::as_bytes) {
            Some(value) if value.eq_ignore_ascii_case(b"https") => Some(Scheme::Https),
            Some(value) if value.eq_ignore_ascii_case(b"http") => Some(Scheme::Http),
            _ => None,
        }
    } else {
        let value = HeaderValue::from_static(own.as_str());
        put(&mut head.headers, present, Known::ForwardedProto, &X_FORWARDED_PROTO, value);
        Some(own)
    };
    head.scheme = head.scheme.or(forwarded).or(Some(own));
}

/// `x-forwarded-port`, and the scheme that everybody is to believe in.
fn announce_target(head: &mut RequestHead, rules: &Rules, target: &TargetRules, connection: &ConnectionFacts) {
    if let Some(scheme) = target.scheme {
        let scheme = match scheme {
            ForcedScheme::Http => Scheme::Http,
            ForcedScheme::Https => Scheme::Https,
        };
        head.scheme = Some(scheme);
        head.headers.set(X_FORWARDED_PROTO.clone(), HeaderValue::from_static(scheme.as_str()));
    }
    if let (true, Some(port)) = (target.forwarded_port, connection.local_port) {
        let edge = rules.use_remote_address && rules.trusted_hops == 0;
        if edge || !head.headers.contains(&X_FORWARDED_PORT) {
            head.headers.set(X_FORWARDED_PORT.clone(), HeaderValue::from(port));
        }
    }
}

/// `add_user_agent` and `via`.
fn add_identity(headers: &mut Headers, rules: &Rules) {
    if let Some(agent) = &rules.user_agent {
        headers.set(X_ENVOY_DOWNSTREAM_SERVICE_CLUSTER.clone(), agent.cluster.clone());
        if headers.get(&header::USER_AGENT).is_none_or(HeaderValue::is_empty) {
            headers.set(header::USER_AGENT, agent.cluster.clone());
        }
        if let Some(node) = &agent.node {
            headers.set(X_ENVOY_DOWNSTREAM_SERVICE_NODE.clone(), node.clone());
        }
    }
    if let Some(via) = &rules.via {
        append_via(headers, via);
    }
}

/// Joins our `via` to those that are there.
pub(super) fn append_via(headers: &mut Headers, via: &HeaderValue) {
    let value = match headers.get(&header::VIA) {
        Some(there) => {
            let joined = [there.as_bytes(), b", ", via.as_bytes()].concat();
            HeaderValue::from_maybe_shared(Bytes::from(joined)).unwrap_or_else(|_| via.clone())
        }
        None => via.clone(),
    };
    headers.set(header::VIA, value);
}

/// A whole number as a header value.
pub(super) fn number_value(number: u128) -> HeaderValue {
    let number = u64::try_from(number).unwrap_or(u64::MAX);
    if number == 0 {
        // Most upstreams take less than a millisecond.
        return HeaderValue::from_static("0");
    }
    let digits = Bytes::copy_from_slice(itoa::Buffer::new().format(number).as_bytes());
    HeaderValue::from_maybe_shared(digits).unwrap_or_else(|_| HeaderValue::from(number))
}

fn ip_value(address: IpAddr) -> HeaderValue {
    let mut text = Vec::with_capacity(40);
    write_ip(&mut text, address);
    HeaderValue::from_maybe_shared(Bytes::from(text)).unwrap_or_else(|_| HeaderValue::from_static("-"))
}

fn write_ip(text: &mut Vec<u8>, address: IpAddr) {
    match address {
        // Every request does this: four numbers without the formatting machinery.
        IpAddr::V4(address) => {
            for (at, octet) in address.octets().into_iter().enumerate() {
                if at > 0 {
                    text.push(b'.');
                }
                text.extend_from_slice(itoa::Buffer::new().format(octet).as_bytes());
            }
        }
        IpAddr::V6(address) => {
            // A vector takes everything.
            let _ = write!(text, "{address}");
        }
    }
}
