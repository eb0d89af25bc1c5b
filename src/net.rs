//! Sockets: streams and listeners that are TCP or Unix, their options, and binding for an epoch that runs alone.
//!
//! `listener` and `upstream` call it. Every socket can be taken apart into its descriptor and put together again, which is
//! how a connection or a listener moves to another process; nothing here keeps state beyond the descriptor.

mod bind;
mod listener;
mod poll;
mod stream;
pub mod tls;
mod watched;

pub use bind::{BindAddress, BindOptions, bind};
pub use listener::{AcceptError, Backoff, Listener, classify_accept};
pub use stream::{Keepalive, PeerAddress, Stream};
pub use watched::{Watch, Watched};

#[cfg(test)]
mod tests;
