//! A text with operators outside of log lines: the value of a header that is added on the way.

use crate::codec::head::{RequestHead, ResponseHead};
use crate::config::model::{LogBody, LogFormat, LogType, Piece};

use super::format::Format;
use super::{Live, Wanted};

/// A format string made ready.
pub struct Template {
    format: Format,
    wanted: Wanted,
}

impl Template {
    /// Makes it ready.
    pub fn compile(pieces: &[Piece]) -> Self {
        Self::shaped(&LogFormat { body: LogBody::Text(pieces.to_vec()), omit_empty_values: true })
    }

    /// The same of a format that says itself what becomes of what is missing.
    pub fn shaped(model: &LogFormat) -> Self {
        let mut wanted = Wanted::default();
        Self { format: Format::compile(model, &mut wanted), wanted }
    }

    /// The text for a request: of its heads as they are, and of what else `live` says. What is missing is as the format says.
    pub fn render(&self, live: &mut Live, request: Option<&RequestHead>, response: Option<&ResponseHead>) -> Vec<u8> {
        if let Some(head) = request {
            self.wanted.keep_request(live, head);
        }
        if let Some(head) = response {
            self.wanted.keep_response(live, head);
        }
        let mut text = Vec::new();
        self.format.render(LogType::DownstreamEnd, live, &mut text);
        text
    }
}
