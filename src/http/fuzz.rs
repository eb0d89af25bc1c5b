//! The parsers of this layer over arbitrary bytes.

pub(crate) use super::filters::{accept_encoding, grpc_body};
pub(crate) use super::forward::fuzz::wishes;
pub(crate) use super::headers::fuzz::request as headers;
