//! Connections to hosts, kept and lent: one pool per protocol, host and worker.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::AsyncWrite;

use crate::config::model::{self, Address};
use crate::net::Stream;

pub mod http1;

/// Opens a connection to a host with the cluster's socket options.
async fn open(address: &Address, _model: &model::Cluster) -> io::Result<Stream> {
    match address {
        Address::Tcp(address) => {
            let s = tokio::net::TcpStream::connect(address).await?;
            s.set_nodelay(true)?;
            Ok(Stream::Tcp(s))
        }
        Address::Unix { path, .. } => Ok(Stream::Unix(tokio::net::UnixStream::connect(path).await?)),
    }
}

fn write(stream: &mut Stream, context: &mut Context<'_>, slices: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
    match slices {
        [one] => Pin::new(stream).poll_write(context, one),
        many => Pin::new(stream).poll_write_vectored(context, many),
    }
}
