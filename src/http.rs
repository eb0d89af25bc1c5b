//! HTTP: header rules.

pub mod headers;
