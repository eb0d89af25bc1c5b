//! Every parser as a function over bytes: what `tests/fuzz` runs under libFuzzer, and what the test below runs over everything that was ever found.
//!
//! A target panics when something is wrong with the parser, and only then. Each stands beside what it tries, where it reaches what is private; here is
//! only the list. The bytes are nobody's format: a target takes a few to choose settings by, and the rest as it comes. Built for tests and with the
//! feature `fuzzing` alone.

use crate::runtime::Value;
use crate::{access_log, admin, codec, config, handoff, http, net, route, server, stats};

/// Tries a parser with some bytes.
pub type Target = fn(&[u8]);

/// Name and function of each target. Its seeds stand in `tests/fuzz/seeds/NAME`.
pub const TARGETS: &[(&str, Target)] = &[
    ("accept_encoding", http::fuzz::accept_encoding),
    ("admin_query", admin::fuzz::query),
    ("client_hello", net::tls::fuzz_hello),
    ("config_text", config_text),
    ("config_wire", config_wire),
    ("format", access_log::fuzz::format),
    ("framing", codec::fuzz::framing),
    ("frozen", server::fuzz::frozen),
    ("grpc_body", http::fuzz::grpc_body),
    ("headers", http::fuzz::headers),
    ("http1_request", codec::fuzz::http1_request),
    ("http1_response", codec::fuzz::http1_response),
    ("http2_head", codec::fuzz::http2_head),
    ("http2_sieve", codec::fuzz::http2_sieve),
    ("moved", handoff::motion::fuzz::moved),
    ("route", route::fuzz::route),
    ("runtime_value", runtime_value),
    ("stat_names", stats::fuzz::names),
    ("uri_template", config::fuzz::uri_template),
    ("wishes", http::fuzz::wishes),
];

fn config_text(data: &[u8]) {
    config::fuzz::text(data, &filters());
}

fn config_wire(data: &[u8]) {
    config::fuzz::wire(data, &filters());
}

/// What an operator, or a file of a layer, says.
fn runtime_value(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let value = Value::of_text(text);
    assert_eq!(value.text(), text);
    assert!(value.double().is_none_or(f64::is_finite), "{value:?}");
    assert!(value.fraction().is_none_or(|(_, of)| of > 0), "{value:?}");
    assert!(value.integer().is_none() || value.double().is_some(), "{value:?}");
}

/// The kinds of filters that a configuration may name.
fn filters() -> Vec<config::extension::HttpFilterKind> {
    http::filters::ALL.iter().map(|filter| filter.kind).collect()
}

#[cfg(test)]
mod tests;
