//! Connections to hosts, kept and lent: one pool per protocol, host and worker.

pub mod http1;
