//! Generic matcher trees, conditions on metadata and actions by type, as filters read them.

use envoy_types::pb::envoy::r#type::matcher::v3 as matchers;
use envoy_types::pb::google::protobuf::Any;
use envoy_types::pb::xds::r#type::matcher::v3 as api;

use crate::config::convert::extension::type_of;
use crate::config::convert::http_filters;
use crate::config::convert::matching::Place;
use crate::config::extension::{Given, Reader};
use crate::config::model::{FilterModel, FilterStateMatch, MatchTree, MetadataMatch};

/// Reads a message of one type. `None` is for faults, each of which has been told.
type ReadOne<T> = fn(&mut Reader<'_>, Given<'_>) -> Option<T>;

impl Reader<'_> {
    /// A matcher tree; `action` reads an action by its name and type, at its place. `None` is for faults, each of which has been told.
    pub fn match_tree<A>(
        &mut self,
        message: api::Matcher,
        mut action: impl FnMut(&mut Reader<'_>, &str, &Any) -> Option<A>,
    ) -> Option<MatchTree<A>> {
        super::tree(self.context, message, Place::Request, &mut |cx, name, any| action(&mut Reader::new(cx), name, any))
    }

    /// Reads a message of one of these types; the first is for the message when it is none of them.
    pub fn any_of<T>(&mut self, what: &str, any: &Any, known: &[(&'static str, ReadOne<T>)]) -> Option<T> {
        let type_name = type_of(any);
        match known.iter().find(|(known, _)| *known == type_name) {
            Some((type_name, read)) => {
                http_filters::given(self.context, any, type_name, |cx, given| read(&mut Reader::new(cx), given))
            }
            None => {
                let known: Vec<&str> = known.iter().map(|(known, _)| *known).collect();
                let known = known.join(", ");
                self.error(match type_name.as_str() {
                    "" => format!("there is no \"@type\" that would say which {what} it is; known: {known}"),
                    other => format!("the {what} {other} is not supported here; known: {known}"),
                });
                None
            }
        }
    }

    /// An HTTP filter that this one leads to.
    pub fn http_filter(&mut self, name: String, any: Option<&Any>) -> Option<FilterModel> {
        http_filters::within(self.context, name, any)
    }

    /// A condition on metadata.
    pub fn metadata_match(&mut self, message: matchers::MetadataMatcher) -> Option<MetadataMatch> {
        super::metadata(self.context, message)
    }

    /// A condition on the filter state.
    pub fn filter_state_match(&mut self, message: matchers::FilterStateMatcher) -> Option<FilterStateMatch> {
        super::filter_state(self.context, message)
    }
}
