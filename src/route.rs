//! Routing decisions: a request head in, a route out. No IO, no clock, nothing live.
//!
//! [`Table::compile`] turns a validated route configuration into a table that finds hosts, paths and prefixes by hash and search and keeps
//! first-match order where order matters. A worker holds one and pins what it decided for the life of a request, so a reload never
//! changes a request midway: the new table replaces the old one for requests that begin later. What a route does to a head
//! ([`rewrite()`], [`location`], [`Decision::apply_to_request`]) and how it hashes one ([`hash()`]) are pure functions beside it; `http::forward`
//! calls them.

mod conditions;
mod decision;
mod descriptors;
mod facts;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzz;
mod hash;
mod headers;
mod hosts;
mod paths;
mod redirect;
mod rewrite;
mod rules;
mod surroundings;
mod table;
mod weighted;

pub use decision::{Decision, Entry, Retriable};
pub use descriptors::{Counted, Descriptor, Entry as DescriptorEntry, RateLimits};
pub use facts::{Facts, Tls, cookie, field, query};
pub use hash::{Hashed, hash};
pub use headers::HeaderMatcher;
pub use redirect::{location, location_at};
pub use rewrite::{rewrite, set_endpoint_host, set_path};
pub use rules::{Format, HeaderEdits};
pub use surroundings::{Asked, Nothing, Surroundings};
pub use table::Table;

#[cfg(test)]
mod tests;
