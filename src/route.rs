//! Routing decisions: a request head in, a route out. No IO, no clock, nothing live.
//!
//! [`Table::compile`] turns a validated route configuration into a table that finds hosts and exact paths by hash and keeps
//! first-match order where order matters. A worker holds one behind an `Rc` and pins it for the life of a request, so a
//! reload never changes a request midway: the new table replaces the old one for requests that begin later.

mod headers;
mod paths;
mod table;

pub use headers::HeaderMatcher;
pub use table::{Decision, Entry, Retriable, Table};

#[cfg(test)]
mod tests;
