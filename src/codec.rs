//! Wire formats without IO: bytes in, messages out, and back.
//!
//! Nothing here reads a socket, keeps a clock or counts a statistic; connection managers and pools feed bytes and act on what
//! comes out. Every machine's state can be written down, so that a connection can move to another process in the middle of a
//! message. A reload and a drain do not concern this layer.

#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzz;
pub mod head;
pub mod http1;
pub mod http2;

pub use head::{Headers, RequestHead, ResponseHead, Scheme};
