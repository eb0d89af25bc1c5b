//! The keys of TLS session tickets, which all epochs of a lineage share.

use std::fmt;

use prost::Message as ProstMessage;

/// S→E with `Welcome` and whenever they are turned, to an epoch with [`super::super::TICKETS`]; E→S with `Adopt`: they come back.
#[derive(Clone, PartialEq, ProstMessage)]
#[prost(skip_debug)]
pub struct TicketKeys {
    /// Each a name of 16 bytes, an HMAC key of 32 and an AES key of 32. The first seals, all open.
    #[prost(bytes = "vec", repeated, tag = "1")]
    pub keys: Vec<Vec<u8>>,
    /// How long ago the first was made.
    #[prost(uint64, tag = "2")]
    pub age_ms: u64,
}

impl fmt::Debug for TicketKeys {
    /// What is secret is not shown.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TicketKeys({} keys)", self.keys.len())
    }
}
