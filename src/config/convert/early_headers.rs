//! `early_header_mutation_extensions`: what is done to a request's headers before anybody looks at them.

use envoy_types::pb::envoy::config::common::mutation_rules::v3 as api;
use envoy_types::pb::envoy::config::core::v3 as core;
use envoy_types::pb::envoy::extensions::http::early_header_mutation::header_mutation::v3 as extension;

use super::context::Context;
use super::extension::EARLY_HEADERS;
use super::header_rules;
use crate::config::model::HeaderOps;

pub(super) fn each(cx: &mut Context, messages: Vec<core::TypedExtensionConfig>) -> Vec<HeaderOps> {
    let lists = cx.each("early_header_mutation_extensions", messages, |cx, message| {
        let core::TypedExtensionConfig { name, typed_config } = message;
        cx.at("typed_config", |cx| EARLY_HEADERS.parse(cx, &name, typed_config.as_ref()))
    });
    lists.into_iter().flatten().collect()
}

/// One after the other, each sees what the one before has done.
pub(super) fn mutations(cx: &mut Context, message: extension::HeaderMutation) -> Vec<HeaderOps> {
    list(cx, "mutations", message.mutations)
}

/// The same of a list that stands elsewhere.
pub(super) fn list(cx: &mut Context, field: &'static str, mutations: Vec<api::HeaderMutation>) -> Vec<HeaderOps> {
    use api::header_mutation::Action;
    cx.each(field, mutations, |cx, mutation| match mutation.action? {
        Action::Remove(name) => {
            let name = cx.at("remove", |cx| header_rules::removal(cx, name))?;
            Some(HeaderOps { remove: vec![name], add: Vec::new() })
        }
        Action::Append(addition) => {
            let addition = cx.at("append", |cx| header_rules::addition(cx, addition))?;
            Some(HeaderOps { remove: Vec::new(), add: vec![addition] })
        }
        Action::RemoveOnMatch(_) => {
            cx.refuse("remove_on_match");
            None
        }
    })
}
