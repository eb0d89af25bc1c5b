//! Conditions and formats of access logs for the replies that this proxy makes itself.

use crate::codec::head::{RequestHead, ResponseHead};
use crate::config::model::{LogFilter, LogFormat, LogType};

use super::filter::Filter;
use super::format::Format;
use super::{Live, Wanted};

/// Filters and formats that are asked about one reply after the other.
#[derive(Default)]
pub struct Replies {
    wanted: Wanted,
}

/// A filter made ready.
pub struct ReplyFilter(Filter);

/// A format made ready.
pub struct ReplyFormat(Format);

impl Replies {
    /// Makes a filter ready.
    pub fn filter(&mut self, model: &LogFilter) -> ReplyFilter {
        ReplyFilter(Filter::compile(model, &mut self.wanted))
    }

    /// Makes a format ready.
    pub fn format(&mut self, model: &LogFormat) -> ReplyFormat {
        ReplyFormat(Format::compile(model, &mut self.wanted))
    }

    /// Keeps what any of them wants of the heads.
    pub fn keep(&self, live: &mut Live, request: Option<&RequestHead>, response: &ResponseHead) {
        if let Some(head) = request {
            self.wanted.keep_request(live, head);
        }
        self.wanted.keep_response(live, response);
    }
}

impl ReplyFilter {
    /// Whether it lets the reply pass.
    pub fn passes(&self, live: &Live) -> bool {
        self.0.passes(LogType::NotSet, live)
    }
}

impl ReplyFormat {
    /// The body.
    pub fn render(&self, live: &Live) -> Vec<u8> {
        let mut body = Vec::new();
        self.0.render(LogType::NotSet, live, &mut body);
        body
    }
}
