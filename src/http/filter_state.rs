//! The filter state: objects that filters leave for one another and for routes, by name.
//!
//! An object belongs to a request and goes with it. A request that has some stays with its worker until its response's head has come, as
//! another epoch would not know of them.

use std::net::IpAddr;

/// An object that was made from a text (`set_filter_state`), as the factory of its name makes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// `envoy.string`.
    Text(String),
    /// `envoy.hashable_string`: a hash policy may ask for it.
    Hashable(String),
    /// `envoy.network.ip`.
    Address(IpAddr, String),
}

impl State {
    /// As a text.
    pub fn text(&self) -> &str {
        match self {
            Self::Text(text) | Self::Hashable(text) | Self::Address(_, text) => text,
        }
    }

    /// The address that it is.
    pub fn address(&self) -> Option<IpAddr> {
        match self {
            Self::Address(address, _) => Some(*address),
            Self::Text(_) | Self::Hashable(_) => None,
        }
    }
}
