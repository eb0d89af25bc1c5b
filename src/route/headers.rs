//! Conditions on headers of requests and responses, ready to be asked.

use http::{HeaderName, StatusCode};

use super::facts::{matches, values};
use crate::codec::RequestHead;
use crate::codec::head::Headers;
use crate::config::model::{HeadField, HeaderMatch, HeaderPattern};

/// A [`HeaderMatch`] of a worker's own: its expressions have caches of their own.
#[derive(Clone, Debug)]
pub struct HeaderMatcher(HeaderMatch);

impl HeaderMatcher {
    /// Of a condition of the configuration.
    pub fn compile(model: &HeaderMatch) -> Self {
        Self(model.clone())
    }

    /// A condition that a header is there.
    pub fn present(name: HeaderName) -> Self {
        let pattern = HeaderPattern::Present(true);
        Self(HeaderMatch { field: HeadField::Header(name), pattern, invert: false, missing_is_empty: false })
    }

    /// Whether a request meets it.
    pub fn matches_request(&self, head: &RequestHead) -> bool {
        matches(&self.0, head)
    }

    /// Whether a response meets it.
    pub fn matches_response(&self, headers: &Headers, status: StatusCode) -> bool {
        match &self.0.field {
            HeadField::Status => self.0.matches(Some(status.as_str().as_bytes())),
            HeadField::Header(name) => self.0.matches_each(values(headers, name)),
            HeadField::Method | HeadField::Scheme | HeadField::Authority | HeadField::Path => self.0.matches(None),
        }
    }
}
