//! `envoy.filters.http.header_to_metadata`: leaves values of headers and cookies in the dynamic metadata, for filters that come behind.
//!
//! A rule names a header or a cookie, and what is left when it is there and when it is not. What cannot be read as it should (a number
//! that is none) is not left, nor is an empty value or one that is too long. The rules of the most specific level count, and stand for
//! the chain's own. A request with metadata can move to another epoch once it is on its way, as its line in the
//! access logs takes them along; without rules for responses nothing is done to those.

use std::borrow::Cow;
use std::rc::Rc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use envoy_types::pb::google::protobuf;
use http::HeaderName;
use prost::Message as _;
use serde_json::Value;

use self::settings::{Kind, Pair, Rule, Rules, Source};
use super::super::filter::{Answer, Building, Extension, Filter, Next, Request};
use super::super::record::Record;
use crate::codec::head::Headers;
use crate::config::extension::{HttpFilterKind, RouteKind, structure};
use crate::config::model::{HeadField, Settings};
use crate::route;

mod settings;

/// How it comes into being.
pub const EXTENSION: Extension = Extension {
    kind: HttpFilterKind {
        type_name: "envoy.extensions.filters.http.header_to_metadata.v3.Config",
        settings: settings::read,
        route: Some(RouteKind {
            type_name: "envoy.extensions.filters.http.header_to_metadata.v3.Config",
            settings: settings::read_route,
        }),
    },
    build,
};

/// Where values are left that name no namespace.
const NAMESPACE: &str = "envoy.filters.http.header_to_metadata";
/// A value of so many bytes is too long.
const TOO_LONG: usize = 8 * 1024;

fn build(with: &Building<'_>) -> Result<Rc<dyn Filter>, String> {
    let settings = with.model.settings.clone();
    settings.get::<Rules>().ok_or("has no settings of its own")?;
    Ok(Rc::new(HeaderToMetadata { settings }))
}

struct HeaderToMetadata {
    settings: Settings,
}

impl Filter for HeaderToMetadata {
    fn call<'a>(&'a self, mut request: Request<'a>, next: Next<'a>) -> Answer<'a> {
        let record = next.stream().record();
        let of_route = next.route_settings().filter(|said| said.get::<Rules>().is_some());
        let settings = of_route.unwrap_or_else(|| self.settings.clone());
        let Some(rules) = settings.get::<Rules>() else { return next.run(request) };
        for rule in &rules.request {
            let value = match &rule.source {
                Source::Header(field) => route::field(&request.head, field),
                Source::Cookie(name) => route::cookie(&request.head, name).map(Cow::Borrowed),
            };
            leave(rule, value.as_deref(), record);
            remove(rule, &mut request.head.headers);
        }
        if rules.response.is_empty() {
            return next.run(request);
        }
        Answer::later(async move {
            let mut response = next.run(request).await?;
            let rules = settings.get::<Rules>().map_or(&[][..], |rules| &rules.response);
            for rule in rules {
                let value = match &rule.source {
                    Source::Header(HeadField::Header(name)) => joined(&response.head.headers, name),
                    Source::Header(HeadField::Status) => Some(response.head.status.as_str().as_bytes().to_vec()),
                    Source::Header(_) | Source::Cookie(_) => None,
                };
                leave(rule, value.as_deref(), next.stream().record());
                remove(rule, &mut response.head.headers);
            }
            Ok(response)
        })
    }
}

/// The value of a header; several are joined with commas.
fn joined(headers: &Headers, name: &HeaderName) -> Option<Vec<u8>> {
    let mut values = headers.get_all(name).map(|value| value.as_bytes());
    let first = values.next()?.to_vec();
    Some(values.fold(first, |mut joined, value| {
        joined.push(b',');
        joined.extend_from_slice(value);
        joined
    }))
}

fn remove(rule: &Rule, headers: &mut Headers) {
    if let (true, Source::Header(HeadField::Header(name))) = (rule.remove, &rule.source) {
        headers.remove(name);
    }
}

/// Leaves what a rule says of a header that has this value, or is not there.
fn leave(rule: &Rule, value: Option<&[u8]>, record: &Record) {
    let (Some(pair), value) = (match value {
        Some(value) => (rule.present.as_ref(), value),
        None => (rule.missing.as_ref(), &[][..]),
    }) else {
        return;
    };
    if let Some(value) = pair.of(value) {
        let namespace = if pair.namespace.is_empty() { NAMESPACE } else { &pair.namespace };
        record.set_metadata(namespace, &pair.key, value);
    }
}

impl Pair {
    /// The value that is left; `None` where there is none that can be.
    fn of(&self, header: &[u8]) -> Option<Value> {
        let text = match &self.rewrite {
            _ if !self.value.is_empty() => Cow::Borrowed(self.value.as_bytes()),
            Some(rewrite) => Cow::Owned(rewrite.replace_all(header)),
            None => Cow::Borrowed(header),
        };
        if text.is_empty() || text.len() >= TOO_LONG {
            return None;
        }
        let text = if self.is_base64 { Cow::Owned(STANDARD.decode(&text).ok()?) } else { text };
        match self.kind {
            Kind::Text => Some(String::from_utf8_lossy(&text).into()),
            Kind::Number => number(std::str::from_utf8(&text).ok()?.trim_ascii().parse().ok()?),
            Kind::Value => {
                let value = protobuf::Value::decode(&*text).ok()?;
                structure(&protobuf::Struct { fields: [(String::new(), value)].into() }).remove("")
            }
        }
    }
}

/// A whole number shows without a fraction; what is no number (NaN) is none.
fn number(number: f64) -> Option<Value> {
    const EXACT: f64 = 9_007_199_254_740_992.0;
    if number.fract() == 0.0 && number.abs() < EXACT {
        return Some((number as i64).into());
    }
    serde_json::Number::from_f64(number).map(Value::Number)
}
