//! What a decision is made from: the head, and what only its surroundings know.

use std::borrow::Cow;

use http::HeaderName;

use crate::codec::head::{Headers, RequestHead, Scheme};
use crate::config::model::{HeadField, HeaderMatch};

use super::surroundings::{Nothing, Surroundings};

/// A request as the table sees it.
#[derive(Clone, Copy)]
pub struct Facts<'a> {
    /// The head, after the header rules.
    pub head: &'a RequestHead,
    /// The client's certificate; `None` for a plain connection.
    pub tls: Option<Tls>,
    /// It came from inside (`x-envoy-internal`).
    pub internal: bool,
    /// A random number, the request's own: draws of fractions and weights are made with it.
    pub random: u64,
    /// What is known of it beside its head.
    pub around: &'a dyn Surroundings,
}

/// What is known of the client's certificate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tls {
    /// The client has shown one.
    pub presented: bool,
    /// It has been found valid.
    pub validated: bool,
}

impl<'a> Facts<'a> {
    /// Of a head alone: over a plain connection, from outside.
    pub fn of(head: &'a RequestHead) -> Self {
        Self { head, tls: None, internal: false, random: 0, around: &Nothing }
    }
}

/// The value of a field; several of one name are joined with commas.
pub fn field<'a>(head: &'a RequestHead, field: &HeadField) -> Option<Cow<'a, [u8]>> {
    let text = |text: &'a [u8]| Some(Cow::Borrowed(text)).filter(|text| !text.is_empty());
    match field {
        HeadField::Method => text(head.method.as_str().as_bytes()),
        HeadField::Scheme => text(head.scheme.map_or("", Scheme::as_str).as_bytes()),
        HeadField::Authority => text(&head.authority),
        HeadField::Path => text(&head.path),
        HeadField::Status => None,
        HeadField::Header(name) => joined(&head.headers, name),
    }
}

/// Whether a request meets a condition on its headers.
pub(super) fn matches(matcher: &HeaderMatch, head: &RequestHead) -> bool {
    match &matcher.field {
        HeadField::Header(name) => matcher.matches_each(values(&head.headers, name)),
        other => matcher.matches(field(head, other).as_deref()),
    }
}

/// The values of a header.
pub(super) fn values<'a>(headers: &'a Headers, name: &'a HeaderName) -> impl Iterator<Item = &'a [u8]> {
    headers.get_all(name).map(|value| value.as_bytes())
}

/// The value of a header; several are joined with commas.
fn joined<'a>(headers: &'a Headers, name: &HeaderName) -> Option<Cow<'a, [u8]>> {
    let at = headers.iter().position(|(there, _)| there == name)?;
    let mut values = headers.iter().skip(at).filter(|(there, _)| *there == name).map(|(_, value)| value);
    let mut joined = Cow::Borrowed(values.next()?.as_bytes());
    for value in values {
        let joined = joined.to_mut();
        joined.push(b',');
        joined.extend_from_slice(value.as_bytes());
    }
    Some(joined)
}

/// The first value of a query parameter, with its percent signs as they came.
pub fn query<'a>(head: &'a RequestHead, name: &str) -> Option<&'a [u8]> {
    let at = memchr::memchr(b'?', &head.path)?;
    head.path[at + 1..].split(|byte| *byte == b'&').find_map(|pair| {
        let (key, value) = match memchr::memchr(b'=', pair) {
            Some(at) => (&pair[..at], &pair[at + 1..]),
            None => (pair, &[][..]),
        };
        (key == name.as_bytes()).then_some(value)
    })
}

/// The first value of a cookie, without the quotes around it.
pub fn cookie<'a>(head: &'a RequestHead, name: &str) -> Option<&'a [u8]> {
    head.headers.get_all(&http::header::COOKIE).flat_map(|value| value.as_bytes().split(|byte| *byte == b';')).find_map(
        |pair| {
            let at = memchr::memchr(b'=', pair)?;
            let value = pair[at + 1..].trim_ascii();
            let quoted = value.strip_prefix(b"\"").and_then(|value| value.strip_suffix(b"\""));
            (pair[..at].trim_ascii() == name.as_bytes()).then_some(quoted.unwrap_or(value))
        },
    )
}
