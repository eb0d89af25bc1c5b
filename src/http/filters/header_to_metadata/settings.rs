//! `envoy.extensions.filters.http.header_to_metadata.v3.Config`.

use envoy_types::pb::envoy::extensions::filters::http::header_to_metadata::v3 as api;

use crate::config::extension::{Given, Reader};
use crate::config::model::{HeadField, Settings, Substitution};

/// The settings, of the chain and of routes.
#[derive(Debug, PartialEq)]
pub(super) struct Rules {
    pub(super) request: Vec<Rule>,
    /// None of them names a cookie.
    pub(super) response: Vec<Rule>,
}

/// What is done with one header or cookie.
#[derive(Debug, PartialEq)]
pub(super) struct Rule {
    pub(super) source: Source,
    pub(super) present: Option<Pair>,
    pub(super) missing: Option<Pair>,
    /// The header goes.
    pub(super) remove: bool,
}

/// Where a value comes from.
#[derive(Debug, PartialEq)]
pub(super) enum Source {
    Header(HeadField),
    Cookie(String),
}

/// What is left.
#[derive(Debug, PartialEq)]
pub(super) struct Pair {
    /// May be empty: the filter's own.
    pub(super) namespace: String,
    pub(super) key: String,
    /// Empty: the header's.
    pub(super) value: String,
    pub(super) rewrite: Option<Substitution>,
    pub(super) kind: Kind,
    pub(super) is_base64: bool,
}

/// As what a value is read.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Kind {
    Text,
    Number,
    /// An encoded `google.protobuf.Value`.
    Value,
}

pub(super) fn read(reader: &mut Reader<'_>, given: Given<'_>) -> Option<Settings> {
    let api::Config { request_rules, response_rules, stat_prefix } = reader.decode(given)?;
    if !stat_prefix.is_empty() {
        reader.ignore("stat_prefix");
    }
    let request = reader.each("request_rules", request_rules, |reader, message| rule(reader, message, false));
    let response = reader.each("response_rules", response_rules, |reader, message| rule(reader, message, true));
    Some(Settings::new(Rules { request, response }))
}

pub(super) fn read_route(reader: &mut Reader<'_>, given: Given<'_>) -> Option<Settings> {
    read(reader, given)
}

fn rule(reader: &mut Reader<'_>, message: api::config::Rule, of_response: bool) -> Option<Rule> {
    let api::config::Rule { header, cookie, on_header_present, on_header_missing, remove } = message;
    let source = match (header.is_empty(), cookie.is_empty()) {
        (false, false) => {
            reader.error("header and cookie cannot both be set");
            None
        }
        (true, true) => {
            reader.error("one of header and cookie must be set");
            None
        }
        (false, true) => {
            let field = HeadField::named(&header);
            if field.is_none() {
                reader.at("header", |reader| reader.error(format!("`{header}` is not a header's name")));
            }
            field.map(Source::Header)
        }
        (true, false) if of_response => {
            reader.at("cookie", |reader| reader.error("a response has none"));
            None
        }
        (true, false) => Some(Source::Cookie(cookie)),
    };
    match &source {
        Some(Source::Cookie(_)) if remove => reader.at("remove", |reader| reader.error("a cookie cannot be removed")),
        Some(Source::Header(HeadField::Header(_))) | None => {}
        Some(Source::Header(_)) if remove => {
            reader.at("remove", |reader| reader.error("a request cannot be without it"));
        }
        Some(_) => {}
    }
    if on_header_present.is_none() && on_header_missing.is_none() {
        reader.error("has neither `on_header_present` nor `on_header_missing`");
    }
    if on_header_missing.as_ref().is_some_and(|pair| pair.value.is_empty()) {
        reader.at("on_header_missing", |reader| reader.at("value", |reader| reader.error("must not be empty")));
    }
    let present = on_header_present.map(|message| reader.at("on_header_present", |reader| pair(reader, message)));
    let missing = on_header_missing.map(|message| reader.at("on_header_missing", |reader| pair(reader, message)));
    Some(Rule { source: source?, present, missing, remove })
}

fn pair(reader: &mut Reader<'_>, message: api::config::KeyValuePair) -> Pair {
    use api::config::{ValueEncode, ValueType};
    let (kind, encode) = (message.r#type(), message.encode());
    let api::config::KeyValuePair { metadata_namespace, key, value, regex_value_rewrite, r#type: _, encode: _ } =
        message;
    if !value.is_empty() && regex_value_rewrite.is_some() {
        reader.error("value and regex_value_rewrite cannot both be set");
    }
    let kind = match kind {
        ValueType::String => Kind::Text,
        ValueType::Number => Kind::Number,
        ValueType::ProtobufValue => Kind::Value,
    };
    Pair {
        namespace: metadata_namespace,
        key,
        value,
        rewrite: regex_value_rewrite
            .and_then(|message| reader.at("regex_value_rewrite", |reader| reader.substitution(message))),
        kind,
        is_base64: encode == ValueEncode::Base64,
    }
}
