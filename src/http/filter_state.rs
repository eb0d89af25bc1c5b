//! The filter state: objects that filters leave for one another and for routes, by name.
//!
//! An object belongs to a request and goes with it. One that was made from a text goes with the request's line in the access logs to another
//! epoch; a request with any other stays with its worker until its response's head has come.

use std::net::IpAddr;

/// An object that was made from a text (`set_filter_state`), as the factory of its name makes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// `envoy.string`.
    Text(String),
    /// `envoy.hashable_string`: a hash policy may ask for it.
    Hashable(String),
    /// `envoy.network.ip`: it has no text that could be asked for.
    Address(IpAddr),
}

impl State {
    /// As a text.
    pub fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) | Self::Hashable(text) => Some(text),
            Self::Address(_) => None,
        }
    }

    /// The address that it is.
    pub fn address(&self) -> Option<IpAddr> {
        match self {
            Self::Address(address) => Some(*address),
            Self::Text(_) | Self::Hashable(_) => None,
        }
    }
}
