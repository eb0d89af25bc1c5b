//! Connections for requests: one that is kept, one that has to be made, and one that is a tunnel from then on.

use std::rc::Rc;
use std::time::Instant;

use bytes::BytesMut;
use http::StatusCode;

use crate::codec::head::ResponseHead;
use crate::http::body::Body;
use crate::http::failure::Failure;
use crate::http::filter::Response;
use crate::http::stream::Stream;
use crate::http::upgrade::Granted;
use crate::l4::tunnel;
use crate::upstream::pool::{self, Refused, tcp};
use crate::upstream::{Cluster, Host};

use super::exchange::{Exchange, Lease};
use super::{Connecting, Opening, State};

/// Sends an exchange on a kept connection, or waits for one.
pub(super) fn send<'a>(stream: &'a Stream<'a>, host: &Host, mut exchange: Exchange<'a>) -> Result<State<'a>, Failure> {
    match reuse(stream, host)? {
        Some(lease) => {
            exchange.begin(lease);
            Ok(State::Waiting(exchange))
        }
        None => {
            exchange.settle();
            Ok(connect(stream, host, exchange, false))
        }
    }
}

/// The connections of a host for a request, by its priority and by what is spoken.
enum Pool<'h> {
    Http1(&'h Rc<pool::http1::Pool>),
    Http2(&'h Rc<pool::http2::Pool>),
}

fn pool<'h>(stream: &Stream<'_>, host: &'h Host) -> Pool<'h> {
    let (version, high) = (stream.version(), stream.record().high.get());
    let http2 = if high { host.high_http2(version) } else { host.http2(version) };
    match http2 {
        Some(pool) => Pool::Http2(pool),
        None => Pool::Http1(if high { host.high_pool() } else { host.pool() }),
    }
}

/// A connection that is there.
fn reuse(stream: &Stream<'_>, host: &Host) -> Result<Option<Lease>, Refused> {
    match pool(stream, host) {
        Pool::Http2(pool) => Ok(pool.reuse()?.map(Lease::Http2)),
        Pool::Http1(pool) => Ok(pool.reuse()?.map(Lease::Http1)),
    }
}

/// Waits for a connection; `again` because a kept one was dead.
pub(super) fn connect<'a>(stream: &'a Stream<'a>, host: &Host, exchange: Exchange<'a>, again: bool) -> State<'a> {
    let connect: Connecting<'a> = match pool(stream, host) {
        Pool::Http2(pool) => {
            let pool = pool.clone();
            Box::pin(async move { pool.connect(stream.timer()).await.map(Lease::Http2) })
        }
        Pool::Http1(pool) => {
            let pool = pool.clone();
            Box::pin(async move { pool.connect(stream.timer()).await.map(Lease::Http1) })
        }
    };
    State::Connecting { exchange, connect, again }
}

/// The answer to a request that asked for a tunnel: it is granted, or an ordinary response. It says nothing of how long the host took, as a request
/// that may go on has no end to reckon from.
pub(super) fn switched<'a>(head: ResponseHead, exchange: Exchange<'a>, stream: &Stream<'_>) -> Response<'a> {
    let body = match exchange.granted() {
        Ok(granted) => Body::Tunnel(Box::new(granted)),
        Err(exchange) => {
            if head.status.is_success() {
                stream.record().set_details("websocket_handshake_unsuccessful");
            }
            Body::Response(exchange)
        }
    };
    Response { head, body, local: false }
}

/// A connection that carries no HTTP.
pub(super) fn open<'a>(stream: &'a Stream<'a>, cluster: Rc<Cluster>, host: Rc<Host>) -> Opening<'a> {
    Box::pin(async move { cluster.open_tcp(&host, stream.timer(), stream.record().high.get()).await })
}

/// A host has taken the connection of a CONNECT that ends here: that is all the client is told.
pub(super) fn terminated<'a>(connection: tcp::Connection, stream: &Stream<'_>) -> Response<'a> {
    let now = Instant::now();
    stream.log_connected(0, || connection.local_address().ok());
    stream.record().answered_at.set(Some(now));
    stream.record().set_details("via_upstream");
    stream.moved(now);
    let granted = Granted { host: tunnel::Host::Tcp(connection), read: BytesMut::new() };
    Response { head: ResponseHead::new(StatusCode::OK), body: Body::Tunnel(Box::new(granted)), local: false }
}
