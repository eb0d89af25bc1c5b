//! `local_reply_config`.

use envoy_types::pb::envoy::config::core::v3 as core;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3 as api;
use http::HeaderValue;

use super::context::Context;
use super::{access_log, header_rules, route, values};
use crate::config::model::{HeaderOps, LocalReplies, LogBody, ReplyFormat, ReplyMapper};

/// Bytes of a body that stands in a file of its own.
const MAX_BODY: u32 = 1 << 20;

pub(super) fn convert(cx: &mut Context, message: Option<api::LocalReplyConfig>) -> Option<LocalReplies> {
    let api::LocalReplyConfig { mappers, body_format } = message?;
    cx.at("local_reply_config", |cx| {
        Some(LocalReplies {
            mappers: cx.each("mappers", mappers, mapper),
            format: body_format.and_then(|message| cx.at("body_format", |cx| format(cx, message))),
        })
    })
}

fn mapper(cx: &mut Context, message: api::ResponseMapper) -> Option<ReplyMapper> {
    let api::ResponseMapper { filter, status_code, body, body_format_override, headers_to_add } = message;
    let filter = cx.at("filter", |cx| access_log::filter(cx, filter?));
    let body = body.map(|body| cx.at("body", |cx| limited(cx, body)));
    let override_format = body_format_override.map(|message| cx.at("body_format_override", |cx| format(cx, message)));
    let add = cx.each("headers_to_add", headers_to_add, header_rules::addition);
    Some(ReplyMapper {
        filter: filter?,
        // The checker lets nothing else pass.
        status: values::number(&status_code).and_then(|code| u16::try_from(code).ok()),
        body: body.flatten(),
        format: override_format.flatten(),
        headers: HeaderOps { remove: Vec::new(), add },
    })
}

fn limited(cx: &mut Context, source: core::DataSource) -> Option<bytes::Bytes> {
    let body = route::data(cx, source, MAX_BODY)?;
    if body.len() > MAX_BODY as usize {
        cx.error(format!("a body of more than {MAX_BODY} bytes"));
        return None;
    }
    Some(body)
}

pub(super) fn format(cx: &mut Context, message: core::SubstitutionFormatString) -> Option<ReplyFormat> {
    let content_type = message.content_type.clone();
    let body = access_log::substitution(cx, message);
    let default = match body.as_ref().map(|body| &body.body) {
        Some(LogBody::Json(_)) => HeaderValue::from_static("application/json"),
        _ => HeaderValue::from_static("text/plain"),
    };
    let content_type = match content_type.as_str() {
        "" => default,
        text => match HeaderValue::from_str(text) {
            Ok(value) => value,
            Err(_) => {
                cx.error_at("content_type", "is not a header's value");
                default
            }
        },
    };
    Some(ReplyFormat { body: body?, content_type })
}
