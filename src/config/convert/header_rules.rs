//! Header operations: what is added and removed on the way.

use envoy_types::pb::envoy::config::core::v3 as api;
use http::{HeaderName, HeaderValue};

use super::context::Context;
use super::{access_log, values};
use crate::config::model::{AppendAction, HeaderAddition, HeaderOps, HeaderRules, HeaderText, Piece};

/// The four lists of one level.
pub(super) struct Lists {
    pub(super) request_add: Vec<api::HeaderValueOption>,
    pub(super) request_remove: Vec<String>,
    pub(super) response_add: Vec<api::HeaderValueOption>,
    pub(super) response_remove: Vec<String>,
}

pub(super) fn convert(cx: &mut Context, lists: Lists) -> HeaderRules {
    let Lists { request_add, request_remove, response_add, response_remove } = lists;
    HeaderRules {
        request: HeaderOps {
            remove: cx.each("request_headers_to_remove", request_remove, removal),
            add: cx.each("request_headers_to_add", request_add, addition),
        },
        response: HeaderOps {
            remove: cx.each("response_headers_to_remove", response_remove, removal),
            add: cx.each("response_headers_to_add", response_add, addition),
        },
    }
}

fn name(cx: &mut Context, name: &str) -> Option<HeaderName> {
    // Who is asked is changed by host_rewrite, the path by its own rewrites.
    if name.starts_with(':') || name.eq_ignore_ascii_case("host") {
        cx.error(":-prefixed or host headers may not be modified");
        return None;
    }
    name.to_ascii_lowercase().parse().map_err(|_| cx.error(format!("`{name}` is not a header's name"))).ok()
}

pub(super) fn removal(cx: &mut Context, text: String) -> Option<HeaderName> {
    if text.starts_with(':') || text.eq_ignore_ascii_case("host") {
        cx.error(":-prefixed or host headers may not be removed");
        return None;
    }
    name(cx, &text)
}

pub(super) fn addition(cx: &mut Context, message: api::HeaderValueOption) -> Option<HeaderAddition> {
    use api::header_value_option::HeaderAppendAction as Action;
    let api::HeaderValueOption { header, append, append_action, keep_empty_value } = message;
    let api::HeaderValue { key, value, raw_value } = header?;
    let name = cx.at("header", |cx| cx.at("key", |cx| name(cx, &key)));
    let value = match String::from_utf8(raw_value) {
        Ok(raw) if value.is_empty() => raw,
        Ok(_) => value,
        Err(_) => {
            cx.at("header", |cx| cx.refuse("raw_value"));
            return None;
        }
    };
    let value = cx.at("header", |cx| cx.at("value", |cx| text(cx, &value)));
    let action = match (Action::try_from(append_action), &append) {
        (Ok(Action::AddIfAbsent), _) => AppendAction::AddIfAbsent,
        (Ok(Action::OverwriteIfExistsOrAdd), _) => AppendAction::OverwriteIfExistsOrAdd,
        (Ok(Action::OverwriteIfExists), _) => AppendAction::OverwriteIfExists,
        // The older field, where it is set, says the same in other words.
        (_, append) if !values::is_not_false(append) => AppendAction::OverwriteIfExistsOrAdd,
        _ => AppendAction::AppendIfExistsOrAdd,
    };
    if append.is_some() && append_action != 0 {
        cx.error("append and append_action cannot both be set");
    }
    Some(HeaderAddition { name: name?, value: value?, action, keep_empty: keep_empty_value })
}

/// A text that may have command operators.
fn text(cx: &mut Context, value: &str) -> Option<HeaderText> {
    let pieces = access_log::format_text(value).map_err(|error| cx.error(error)).ok()?;
    let mut fixed = String::new();
    for piece in &pieces {
        match piece {
            Piece::Literal(text) => fixed.push_str(text),
            // What is around the operators must fit into a header; what they show is looked at when it is there.
            Piece::Field(_) => {}
        }
    }
    let Ok(fixed) = HeaderValue::from_str(&fixed) else {
        cx.error("is not a header's value");
        return None;
    };
    let is_fixed = pieces.iter().all(|piece| matches!(piece, Piece::Literal(_)));
    Some(if is_fixed { HeaderText::Fixed(fixed) } else { HeaderText::Format(pieces) })
}
