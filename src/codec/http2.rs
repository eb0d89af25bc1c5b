//! HTTP/2 beside the `h2` crate, which owns frames, HPACK, flow control and the stream states: how its heads become ours and back
//! ([`head`]), and what a peer may not do although every single frame of it is right ([`sieve`]).
//!
//! Nothing here does IO. A connection's state lives in the `h2` crate and cannot be written down: such a connection drains where it is.

pub mod head;
pub mod sieve;

pub use sieve::{Flood, Sieve, Tally};
