//! Heads of requests and responses, the same for every protocol version.
//!
//! Codecs make them, filters and header rules change them, codecs write them. Values are slices of the buffer they were read
//! into: nothing is copied, and the buffer lives as long as the head does.

use super::http1::Cases;
use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, StatusCode, Version};

/// The head of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestHead {
    /// The method.
    pub method: Method,
    /// `:scheme`: from an absolute-form target, else set by the header rules; `None` until then.
    pub scheme: Option<Scheme>,
    /// `:authority`, the `host` header: not in [`Self::headers`], first on the wire. Empty where the request named none.
    pub authority: Bytes,
    /// `:path` with its query, byte for byte; `*` for `OPTIONS *`; empty for CONNECT.
    pub path: Bytes,
    /// The version the peer spoke.
    pub version: Version,
    /// All other headers, in order.
    pub headers: Headers,
    /// How the sender wrote the names, where that is kept.
    pub cases: Option<Box<Cases>>,
}

impl RequestHead {
    /// A head without headers, as HTTP/1.1.
    pub fn new(method: Method, authority: impl Into<Bytes>, path: impl Into<Bytes>) -> Self {
        Self {
            method,
            scheme: None,
            authority: authority.into(),
            path: path.into(),
            version: Version::HTTP_11,
            headers: Headers::new(),
            cases: None,
        }
    }

    /// The path without its query.
    pub fn path_without_query(&self) -> &[u8] {
        match memchr::memchr(b'?', &self.path) {
            Some(at) => &self.path[..at],
            None => &self.path,
        }
    }

    /// Whether it is a gRPC request: `application/grpc`, or that with a `+` behind it, so not gRPC-Web.
    pub fn is_grpc(&self) -> bool {
        let kind = self.headers.get(&http::header::CONTENT_TYPE).map(HeaderValue::as_bytes);
        let rest = kind.and_then(|kind| kind.strip_prefix(b"application/grpc"));
        rest.is_some_and(|rest| rest.first().is_none_or(|byte| *byte == b'+'))
    }
}

/// `:scheme`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scheme {
    /// Plain text.
    Http,
    /// Over TLS.
    Https,
}

impl Scheme {
    /// `http` or `https`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }
}

/// The head of a response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResponseHead {
    /// The status; reason phrases are not kept.
    pub status: StatusCode,
    /// The version the peer spoke; for an answer to a client, the version to write.
    pub version: Version,
    /// The headers, in order.
    pub headers: Headers,
    /// How the sender wrote the names, where that is kept.
    pub cases: Option<Box<Cases>>,
}

impl ResponseHead {
    /// A head without headers, as HTTP/1.1.
    pub fn new(status: StatusCode) -> Self {
        Self { status, version: Version::HTTP_11, headers: Headers::new(), cases: None }
    }
}

/// An ordered list of headers. Names compare without case (they are stored in lower case), order is kept, a name may come more
/// than once. A dozen entries are searched faster than hashed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Headers {
    entries: Vec<(HeaderName, HeaderValue)>,
}

impl Headers {
    /// An empty list; allocates nothing.
    pub const fn new() -> Self {
        Self { entries: Vec::new() }
    }

    /// An empty list with room for `capacity` entries.
    pub fn with_capacity(capacity: usize) -> Self {
        Self { entries: Vec::with_capacity(capacity) }
    }

    /// How many entries.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Entries in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&HeaderName, &HeaderValue)> {
        self.entries.iter().map(|(name, value)| (name, value))
    }

    /// The first value of a name.
    pub fn get(&self, name: &HeaderName) -> Option<&HeaderValue> {
        self.entries.iter().find(|(n, _)| n == name).map(|(_, value)| value)
    }

    /// Every value of a name, in order.
    pub fn get_all<'a>(&'a self, name: &'a HeaderName) -> impl Iterator<Item = &'a HeaderValue> {
        self.entries.iter().filter(move |(n, _)| n == name).map(|(_, value)| value)
    }

    /// Whether a name occurs.
    pub fn contains(&self, name: &HeaderName) -> bool {
        self.get(name).is_some()
    }

    /// Adds an entry at the end.
    pub fn append(&mut self, name: HeaderName, value: HeaderValue) {
        self.entries.push((name, value));
    }

    /// Makes `value` the only value of a name: in the place of the first where there is one, else at the end.
    pub fn set(&mut self, name: HeaderName, value: HeaderValue) {
        match self.entries.iter().position(|(n, _)| *n == name) {
            Some(at) => {
                self.entries[at].1 = value;
                self.drop_later(&name, at + 1);
            }
            None => self.entries.push((name, value)),
        }
    }

    /// Removes every entry of a name; tells whether there was one.
    pub fn remove(&mut self, name: &HeaderName) -> bool {
        match self.entries.iter().position(|(n, _)| n == name) {
            Some(at) => {
                self.drop_later(name, at);
                true
            }
            None => false,
        }
    }

    /// Keeps the entries for which `keep` says so.
    pub fn retain(&mut self, mut keep: impl FnMut(&HeaderName, &mut HeaderValue) -> bool) {
        self.entries.retain_mut(|(name, value)| keep(name, value));
    }

    /// Forgets all entries and keeps the memory.
    pub fn clear(&mut self) {
        self.entries.clear();
    }

    fn drop_later(&mut self, name: &HeaderName, from: usize) {
        let mut at = 0;
        self.entries.retain(|(n, _)| {
            at += 1;
            at <= from || n != name
        });
    }
}

impl IntoIterator for Headers {
    type Item = (HeaderName, HeaderValue);
    type IntoIter = std::vec::IntoIter<Self::Item>;

    fn into_iter(self) -> Self::IntoIter {
        self.entries.into_iter()
    }
}

impl FromIterator<(HeaderName, HeaderValue)> for Headers {
    fn from_iter<I: IntoIterator<Item = (HeaderName, HeaderValue)>>(entries: I) -> Self {
        Self { entries: entries.into_iter().collect() }
    }
}

/// The elements of a comma-separated list, without the white space around them.
pub fn tokens(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii).filter(|token| !token.is_empty())
}
