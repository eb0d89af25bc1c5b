//! Connections to hosts, kept and lent: one pool per protocol, host and worker.

use std::io;

use crate::config::model::{self, Address};
use crate::net::{Keepalive, Stream};
use crate::stats::names::ClusterStats;

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

/// Counts a connection that was not made: it was opened, so it is closed too, by us where the time was up.
fn count_unmade(stats: &ClusterStats, late: bool) {
    stats.upstream_cx_connect_fail.inc();
    stats.upstream_cx_destroy.inc();
    if late {
        stats.upstream_cx_connect_timeout.inc();
        stats.upstream_cx_destroy_local.inc();
    } else {
        stats.upstream_cx_destroy_remote.inc();
    }
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
