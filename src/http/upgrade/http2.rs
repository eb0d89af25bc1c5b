//! A request for a tunnel as an HTTP/2 host is asked: an extended CONNECT (RFC 8441) for an upgrade, else a CONNECT (RFC 9113, 8.5).
//!
//! Any 2xx grants it, and becomes the 101 that the host would have answered with over HTTP/1; so nobody above sees the difference. A host may be asked for
//! an upgrade only when its settings have said so: on a new connection that is waited for, up to `connect_timeout`.

use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::Bytes;
use h2::{RecvStream, SendStream};
use http::{HeaderValue, Method, StatusCode, header};

use super::handshake;
use crate::codec::head::{RequestHead, ResponseHead};
use crate::codec::http1::Refusal;
use crate::http::body::Body;
use crate::http::failure::Failure;
use crate::http::stream::Stream;
use crate::l4::tunnel;
use crate::local::{Deadline, Local};
use crate::upstream::Cluster;
use crate::upstream::pool::http2::Lease;

/// A request for a tunnel, as far as it has come.
#[derive(Default)]
pub(in crate::http) struct Asked {
    /// Of an upgrade; none of a CONNECT.
    protocol: Option<HeaderValue>,
    /// What an answer without `sec-websocket-accept` is to say for the host: HTTP/2 has no use for it, and HTTP/1 does not go without.
    accept: Option<HeaderValue>,
    /// Until when the host's settings may be waited for.
    until: Option<Deadline>,
    /// Our half of the stream, once it has begun.
    pub(in crate::http) send: Option<SendStream<Bytes>>,
    /// The host's half, once it has granted the tunnel.
    recv: Option<RecvStream>,
}

impl Asked {
    /// Of a request that may have one, on its way to its host.
    ///
    /// # Errors
    /// It has a body, for which there is no place before a tunnel that begins behind the head.
    pub(in crate::http) fn of(head: &mut RequestHead, body: &Body<'_>) -> Result<Self, Failure> {
        if !matches!(body, Body::Empty) {
            return Err(Failure::Refused(Refusal::UPGRADE_FAILED));
        }
        head.headers.remove(&header::CONTENT_LENGTH);
        if head.method == Method::CONNECT {
            return Ok(Self::default());
        }
        let protocol = head.headers.get(&header::UPGRADE).cloned();
        Ok(Self { accept: handshake::expected(head), protocol, ..Self::default() })
    }

    /// What the upgrade is to.
    pub(in crate::http) fn protocol(&self) -> Option<&str> {
        self.protocol.as_ref().and_then(|protocol| protocol.to_str().ok())
    }

    /// Ready when the host may be asked.
    pub(in crate::http) fn poll_may_send(
        &mut self,
        context: &mut Context<'_>,
        lease: &Lease,
        stream: &Stream<'_>,
        cluster: &Rc<Cluster>,
    ) -> Poll<Result<(), Failure>> {
        if self.protocol.is_none() {
            return Poll::Ready(Ok(()));
        }
        if let Poll::Ready(takes) = lease.poll_takes_extended_connect(context) {
            return Poll::Ready(match takes {
                Some(true) => Ok(()),
                Some(false) => Err(Failure::UpstreamProtocol),
                None => Err(Failure::UpstreamClosed),
            });
        }
        let wait = || stream.timer().at(Instant::now() + cluster.model().connect_timeout);
        let until = *self.until.get_or_insert_with(wait);
        stream.timer().poll_until(context, until).map(|()| Err(Failure::ConnectTimeout))
    }

    /// The host has granted it: its head, as one that speaks HTTP/1 would have sent it.
    pub(in crate::http) fn take(&mut self, mut head: ResponseHead, recv: RecvStream) -> ResponseHead {
        self.recv = Some(recv);
        if let Some(protocol) = self.protocol.take() {
            head.status = StatusCode::SWITCHING_PROTOCOLS;
            head.headers.set(header::UPGRADE, protocol);
            head.headers.set(header::CONNECTION, HeaderValue::from_static("upgrade"));
            if let Some(accept) = self.accept.take().filter(|_| !head.headers.contains(&header::SEC_WEBSOCKET_ACCEPT)) {
                head.headers.append(header::SEC_WEBSOCKET_ACCEPT, accept);
            }
        }
        head
    }

    /// The host has not granted it: nothing more comes for it.
    pub(in crate::http) fn declined(&mut self) -> Option<SendStream<Bytes>> {
        let mut send = self.send.take()?;
        // A stream that is gone has nothing left to be ended.
        let _ = send.send_data(Bytes::new(), true);
        Some(send)
    }

    /// The host's side of the tunnel; itself, if it has not granted it.
    pub(in crate::http) fn into_end(mut self: Box<Self>, local: &Local) -> Result<tunnel::Http2, Box<Self>> {
        match (self.send.take(), self.recv.take()) {
            (Some(send), Some(recv)) => Ok(tunnel::Http2::new(local, send, Some(recv))),
            (send, recv) => {
                (self.send, self.recv) = (send, recv);
                Err(self)
            }
        }
    }
}
