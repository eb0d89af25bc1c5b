//! Configuration: from Envoy's v3 API to validated plain data.
//!
//! ```text
//!  YAML/JSON ─ document ─ encode ─┐              schema (table made by the build from the API's own protos)
//!                                 ├─ wire bytes ─ check (constraint rules) ─ proto (typed) ─ convert ─ model
//!  command line ──────────────────┘
//! ```
//! Owns everything that knows protobuf; the rest of the proxy sees [`model`]. [`load()`] is called at start and at each
//! validation; it is free of effects, so several configurations can be held at once, as a reload needs.

mod check;
#[allow(deprecated, reason = "deprecated fields are taken apart by name like all others")]
mod convert;
pub mod diagnostic;
mod document;
pub mod dump;
mod encode;
pub mod extension;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzz;
pub mod load;
pub mod model;
mod proto;
mod rules;
mod schema;
mod typed_struct;
mod wire;

pub use diagnostic::{Diagnostic, Faults};
pub use load::{LoadOptions, Loaded, Source, load};
