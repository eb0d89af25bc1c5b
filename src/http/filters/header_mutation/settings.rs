//! `envoy.extensions.filters.http.header_mutation.v3`.

use envoy_types::pb::envoy::config::common::mutation_rules::v3 as rules;
use envoy_types::pb::envoy::extensions::filters::http::header_mutation::v3 as api;
use http::HeaderName;

use crate::config::extension::{Given, Reader};
use crate::config::model::{self, HeaderAddition, StringMatch};

/// The settings of the chain.
#[derive(Debug, PartialEq)]
pub(super) struct Settings {
    pub(super) mutations: Mutations,
    /// The last word is the most specific level's.
    pub(super) most_specific_wins: bool,
}

/// What is done, in order.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Mutations {
    pub(super) request: Vec<Mutation>,
    pub(super) response: Vec<Mutation>,
}

/// A step.
#[derive(Debug, PartialEq)]
pub(super) enum Mutation {
    /// Every header of that name goes.
    Remove(HeaderName),
    /// Every header goes whose name matches.
    RemoveMatching(StringMatch),
    /// A header comes.
    Add(HeaderAddition),
}

pub(super) fn read(reader: &mut Reader<'_>, given: Given<'_>) -> Option<model::Settings> {
    let api::HeaderMutation { mutations, most_specific_header_mutations_wins } = reader.decode(given)?;
    let mutations = all(reader, mutations);
    Some(model::Settings::new(Settings { mutations, most_specific_wins: most_specific_header_mutations_wins }))
}

pub(super) fn read_route(reader: &mut Reader<'_>, given: Given<'_>) -> Option<model::Settings> {
    let api::HeaderMutationPerRoute { mutations } = reader.decode(given)?;
    Some(model::Settings::new(all(reader, mutations)))
}

fn all(reader: &mut Reader<'_>, message: Option<api::Mutations>) -> Mutations {
    let Some(message) = message else { return Mutations::default() };
    reader.at("mutations", |reader| {
        let api::Mutations {
            request_mutations,
            query_parameter_mutations,
            response_mutations,
            response_trailers_mutations,
            request_trailers_mutations,
        } = message;
        for (field, set) in [
            ("query_parameter_mutations", !query_parameter_mutations.is_empty()),
            ("response_trailers_mutations", !response_trailers_mutations.is_empty()),
            ("request_trailers_mutations", !request_trailers_mutations.is_empty()),
        ] {
            if set {
                reader.refuse(field);
            }
        }
        Mutations {
            request: reader.each("request_mutations", request_mutations, mutation),
            response: reader.each("response_mutations", response_mutations, mutation),
        }
    })
}

fn mutation(reader: &mut Reader<'_>, message: rules::HeaderMutation) -> Option<Mutation> {
    use rules::header_mutation::{Action, RemoveOnMatch};
    match message.action {
        Some(Action::Remove(name)) => reader.at("remove", |reader| reader.header_removal(name)).map(Mutation::Remove),
        Some(Action::Append(addition)) => {
            reader.at("append", |reader| reader.header_addition(addition)).map(Mutation::Add)
        }
        Some(Action::RemoveOnMatch(RemoveOnMatch { key_matcher: Some(matcher) })) => reader
            .at("remove_on_match", |reader| reader.at("key_matcher", |reader| reader.text_match(matcher)))
            .map(Mutation::RemoveMatching),
        Some(Action::RemoveOnMatch(RemoveOnMatch { key_matcher: None })) | None => {
            reader.error("must say what is removed or appended");
            None
        }
    }
}
