//! Connections to hosts, kept and lent: one pool per protocol, host and worker.

use std::io;

use crate::config::model::{self, Address};
use crate::net::{Keepalive, Stream};

pub mod http1;
pub mod http2;
mod pending;
pub mod tcp;

/// Why there is no connection.
#[derive(Debug)]
pub enum Refused {
    /// A circuit breaker is open.
    Overflow,
    /// The host did not take the connection.
    Connect(io::Error),
    /// The host did not take it within `connect_timeout`.
    Timeout,
}

/// Opens a connection to a host with the cluster's socket options.
async fn open(address: &Address, model: &model::Cluster) -> io::Result<Stream> {
    let stream = match address {
        Address::Tcp(address) => Stream::connect_tcp(*address).await?,
        Address::Unix { path, .. } => Stream::connect_unix(path).await?,
    };
    stream.set_nodelay()?;
    if let Some(model::TcpKeepalive { probes, time, interval }) = model.tcp_keepalive {
        stream.set_keepalive(&Keepalive { probes, time, interval })?;
    }
    Ok(stream)
}
