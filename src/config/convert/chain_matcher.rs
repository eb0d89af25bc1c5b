//! `filter_chain_matcher` of a listener: a matcher tree in the place of what filter chains say themselves.

use std::collections::HashSet;
use std::sync::Arc;

use envoy_types::pb::google::protobuf::Any;
use envoy_types::pb::xds::r#type::matcher::v3::Matcher;
use prost::Message as _;

use super::context::Context;
use super::matching::{self, Place};
use crate::config::model::{FilterChain, FilterChainMatch, MatchInput, MatchTree};

const NAME: &str = "google.protobuf.StringValue";

/// The tree, whose actions are names of these chains; some of them may be missing, where not all could be read.
pub(super) fn convert(
    cx: &mut Context,
    message: Matcher,
    chains: &[FilterChain],
    all_are_read: bool,
) -> Option<Arc<MatchTree<String>>> {
    let mut names = HashSet::new();
    for chain in chains {
        if chain.name.is_empty() {
            cx.error_at("filter_chains", "\"name\" field is required when using a listener matcher");
        } else if !names.insert(chain.name.as_str()) {
            cx.error_at("filter_chains", format!("\"name\" field is duplicated with value '{}'", chain.name));
        }
        if chain.matches != FilterChainMatch::default() {
            let text =
                format!("filter_chain_match of '{}' has no effect where there is a filter_chain_matcher", chain.name);
            cx.at("filter_chains", |cx| cx.warn(text));
        }
    }
    let mut action = |cx: &mut Context, _: &str, any: &Any| {
        let type_name = any.type_url.rsplit('/').next().unwrap_or_default();
        if type_name != NAME {
            cx.error(format!("the action of a filter_chain_matcher must be a {NAME} with the name of a filter chain"));
            return None;
        }
        let name = String::decode(&*any.value).map_err(|error| cx.error(format!("cannot be decoded: {error}"))).ok()?;
        // A chain that could not be read may be the one that is meant.
        if !names.contains(name.as_str()) && all_are_read {
            cx.error(format!("no filter chain is called '{name}'"));
        }
        Some(name)
    };
    let tree = cx.at("filter_chain_matcher", |cx| matching::tree(cx, message, Place::Connection, &mut action))?;
    Some(Arc::new(tree))
}

/// Whether a tree asks for what a client says first.
pub(super) fn needs_hello(tree: &MatchTree<String>) -> bool {
    let mut needs = false;
    tree.each_input(&mut |input| {
        needs |=
            matches!(input, MatchInput::ServerName | MatchInput::TransportProtocol | MatchInput::ApplicationProtocol);
    });
    needs
}
