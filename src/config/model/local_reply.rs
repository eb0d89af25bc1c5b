//! What replies that this proxy makes itself look like.

use bytes::Bytes;
use http::HeaderValue;

use super::{HeaderOps, LogFilter, LogFormat};

/// `envoy.extensions.filters.network.http_connection_manager.v3.LocalReplyConfig`.
#[derive(Clone, Debug, PartialEq)]
pub struct LocalReplies {
    /// `mappers`: the first that fits a reply changes it.
    pub mappers: Vec<ReplyMapper>,
    /// `body_format`, for replies whose mapper has none of its own; `None` is the text as it is.
    pub format: Option<ReplyFormat>,
}

/// `ResponseMapper`.
#[derive(Clone, Debug, PartialEq)]
pub struct ReplyMapper {
    /// `filter`: which replies.
    pub filter: LogFilter,
    /// `status_code`.
    pub status: Option<u16>,
    /// `body`.
    pub body: Option<Bytes>,
    /// `body_format_override`.
    pub format: Option<ReplyFormat>,
    /// `headers_to_add`.
    pub headers: HeaderOps,
}

/// A body's format.
#[derive(Clone, Debug, PartialEq)]
pub struct ReplyFormat {
    /// With `%LOCAL_REPLY_BODY%` for the text.
    pub body: LogFormat,
    /// `content_type`; default `text/plain` or `application/json`.
    pub content_type: HeaderValue,
}
