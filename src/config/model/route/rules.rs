//! What is done to the headers of requests and responses on their way.

use http::{HeaderName, HeaderValue};

use crate::config::model::Piece;

/// `request_headers_to_add`, `-_to_remove`, `response_headers_to_add` and `-_to_remove` of one level.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct HeaderRules {
    /// To requests.
    pub request: HeaderOps,
    /// To responses.
    pub response: HeaderOps,
}

/// Removals, then additions.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct HeaderOps {
    /// Goes first.
    pub remove: Vec<HeaderName>,
    /// In order.
    pub add: Vec<HeaderAddition>,
}

impl HeaderOps {
    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.remove.is_empty() && self.add.is_empty()
    }
}

/// `envoy.config.core.v3.HeaderValueOption`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeaderAddition {
    /// Which.
    pub name: HeaderName,
    /// Its value.
    pub value: HeaderText,
    /// What about one that is there.
    pub action: AppendAction,
    /// `keep_empty_value`: otherwise a value that comes out empty adds nothing.
    pub keep_empty: bool,
}

/// The value of a header that is added.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HeaderText {
    /// Always the same.
    Fixed(HeaderValue),
    /// With command operators, those of access logs.
    Format(Vec<Piece>),
}

/// `append_action`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AppendAction {
    /// One more.
    #[default]
    AppendIfExistsOrAdd,
    /// Only where there is none.
    AddIfAbsent,
    /// The only one.
    OverwriteIfExistsOrAdd,
    /// The only one, where there is one.
    OverwriteIfExists,
}
