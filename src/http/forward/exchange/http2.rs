//! One request and its response as one stream of an HTTP/2 connection, both directions at once.
//!
//! As with HTTP/1, pulling the response drives the upload too. What the stream is stands in the `h2` crate: such an exchange does not move to
//! another epoch.

use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use bytes::BytesMut;
use h2::Reason;
use h2::client::ResponseFuture;
use http::{Method, Request, StatusCode};

use crate::codec::head::ResponseHead;
use crate::codec::http2::head;
use crate::config::model::Moment;
use crate::http::body::{Body, Frame};
use crate::http::failure::Failure;
use crate::http::forward::try_limits::TryLimits;
use crate::http::http2::{Sink, Source};
use crate::http::pump::Broken;
use crate::http::stream::Stream;
use crate::http::upgrade::{Asked, Granted};
use crate::l4::tunnel;
use crate::upstream::Cluster;
use crate::upstream::pool::http2::Lease;

/// Interim responses that are taken before a final one.
const MAX_INTERIM: u8 = 16;

/// An exchange with a host.
pub struct Exchange<'a> {
    stream: &'a Stream<'a>,
    cluster: Rc<Cluster>,
    /// Gone when the exchange is over.
    lease: Option<Lease>,
    /// To be sent, and, until a response comes, to be sent once more.
    request: Option<Request<()>>,
    method: Method,
    response: Option<ResponseFuture>,
    upload: Option<Sink>,
    body: Body<'a>,
    download: Option<Source>,
    /// The host takes no more of the request; a response may still come.
    upload_broken: bool,
    /// What the host said proves that it has not looked at the request.
    unseen: bool,
    /// This is the second stream.
    again: bool,
    interim: u8,
    /// What one try may take, where that is limited.
    limits: Option<Box<TryLimits>>,
    /// The answer is not passed on: it counts as none.
    dismissed: bool,
    /// What of it becomes a tunnel, where the request asks for one.
    tunnel: Option<Box<Asked>>,
}

impl<'a> Exchange<'a> {
    pub(in crate::http::forward) fn new(
        stream: &'a Stream<'a>,
        cluster: Rc<Cluster>,
        request: Request<()>,
        method: Method,
        body: Body<'a>,
    ) -> Self {
        Self {
            stream,
            cluster,
            lease: None,
            request: Some(request),
            method,
            response: None,
            upload: None,
            body,
            download: None,
            upload_broken: false,
            unseen: false,
            again: false,
            interim: 0,
            limits: None,
            dismissed: false,
            tunnel: None,
        }
    }

    /// The request asks for a tunnel.
    pub(in crate::http::forward) fn asks(&mut self, asked: Asked) {
        self.tunnel = Some(Box::new(asked));
    }

    /// The host's side of the tunnel that it has granted; itself, if it has not.
    pub(in crate::http::forward) fn granted(mut self: Box<Self>) -> Result<Granted, Box<Self>> {
        let (Some(lease), Some(asked)) = (self.lease.take(), self.tunnel.take()) else { return Err(self) };
        match asked.into_end(&self.stream.manager().local) {
            Ok(end) => {
                let host = tunnel::Host::Http2(Box::new(tunnel::HostStream::new(end, lease)));
                Ok(Granted { host, read: BytesMut::new() })
            }
            Err(asked) => {
                (self.lease, self.tunnel) = (Some(lease), Some(asked));
                Err(self)
            }
        }
    }

    /// Limits what the try may take.
    pub(in crate::http::forward) fn limit(&mut self, limits: Option<TryLimits>) {
        self.limits = limits.map(Box::new);
    }

    /// The rest of the upload comes from here: nobody else has to see it any more.
    pub(in crate::http::forward) fn go_on_with(&mut self, body: Body<'a>) {
        if self.upload.as_ref().is_some_and(|upload| !upload.is_done()) {
            self.body = body;
        }
    }

    /// The response whose head has come is passed on.
    pub(in crate::http::forward) fn accept(&mut self) {
        self.limits.take_if(|limits| !limits.watches_body());
        if self.download.as_ref().is_some_and(Source::is_done) {
            self.complete();
        }
    }

    /// The response whose head has come is not passed on.
    pub(in crate::http::forward) fn dismiss(&mut self) {
        self.dismissed = true;
        self.accept();
    }

    /// Nothing of the request has been sent.
    pub(in crate::http::forward) fn is_unseen(&self) -> bool {
        self.upload.is_none()
    }

    /// Takes the place to talk in.
    pub(in crate::http::forward) fn begin(&mut self, lease: Lease) {
        self.stream.log_connected(20, || None);
        self.lease = Some(lease);
    }

    /// Sends the request and waits for the response's head.
    pub(in crate::http::forward) fn poll_head(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Result<ResponseHead, Failure>> {
        if self.response.is_none() {
            if let (Some(asked), Some(lease)) = (&mut self.tunnel, &self.lease) {
                ready!(asked.poll_may_send(context, lease, self.stream, &self.cluster))?;
            }
            self.send()?;
        }
        self.poll_upload(context)?;
        loop {
            let Some(response) = &mut self.response else { return Poll::Ready(Err(Failure::UpstreamClosed)) };
            // An error here is one of the response, too.
            if let Poll::Ready(Some(Ok(interim))) = response.poll_informational(context) {
                self.interim += 1;
                if self.interim > MAX_INTERIM {
                    return Poll::Ready(Err(self.broken()));
                }
                self.stream.count_host_interim(&self.cluster, interim.status());
                if self.stream.passes_on(interim.status()) {
                    let parts = interim.into_parts().0;
                    let most = self.cluster.model().max_response_headers_count as usize;
                    if let Ok(head) = head::response_head(parts, most) {
                        self.stream.inform(&head);
                    }
                }
                continue;
            }
            let Poll::Ready(answer) = std::pin::Pin::new(response).poll(context) else {
                return self.poll_late(context, true).map(Err);
            };
            return Poll::Ready(match answer {
                Ok(response) => self.take_head(response),
                Err(error) => Err(self.failed(&error)),
            });
        }
    }

    fn send(&mut self) -> Result<(), Failure> {
        let (Some(lease), Some(request)) = (&mut self.lease, &self.request) else { return Err(Failure::Internal) };
        let ends = self.body.length() == Some(0) && self.tunnel.is_none();
        match lease.send(request.clone(), ends) {
            Ok((response, stream)) => {
                self.response = Some(response);
                match &mut self.tunnel {
                    Some(asked) => asked.send = Some(stream),
                    None => self.upload = Some(Sink::new(stream, ends)),
                }
                Ok(())
            }
            Err(_) => {
                self.unseen = true;
                Err(Failure::UpstreamClosed)
            }
        }
    }

    fn take_head(&mut self, response: http::Response<h2::RecvStream>) -> Result<ResponseHead, Failure> {
        let (parts, stream) = response.into_parts();
        self.request = None;
        self.response = None;
        let most = self.cluster.model().max_response_headers_count as usize;
        if let Some(asked) = &mut self.tunnel {
            if parts.status.is_success() {
                return match head::response_head(parts, most) {
                    Ok(head) => Ok(asked.take(head, stream)),
                    Err(_) => Err(self.broken()),
                };
            }
            // An ordinary response.
            self.upload = asked.declined().map(|send| Sink::new(send, true));
        }
        let mut source = Source::new(stream, &parts.headers);
        if self.method == Method::HEAD || parts.status == StatusCode::NOT_MODIFIED {
            source = source.without_length();
        }
        self.download = Some(source);
        head::response_head(parts, most).map_err(|_| self.broken())
    }

    /// The next frame of the response's body.
    pub(in crate::http) fn poll_frame(&mut self, context: &mut Context<'_>) -> Poll<Result<Frame, Failure>> {
        self.poll_upload(context)?;
        let Some(source) = &mut self.download else { return Poll::Ready(Err(Failure::UpstreamClosed)) };
        let Poll::Ready(frame) = source.poll_frame(context) else { return self.poll_late(context, false).map(Err) };
        match frame {
            Ok(frame) => {
                if let Some(limits) = &mut self.limits {
                    limits.moved();
                }
                match &frame {
                    Frame::Data(_) => {
                        self.stream.record().log(|live| live.reach_once(Moment::ResponseBodyBegin, Instant::now()));
                    }
                    Frame::End(trailers) => self.stream.keep_trailers(trailers),
                }
                if source.is_done() {
                    self.complete();
                } else if source.length() == Some(0)
                    && let Some(lease) = &mut self.lease
                {
                    // All that was announced has come, and nobody may ask for the end behind it.
                    lease.ended();
                }
                Poll::Ready(Ok(frame))
            }
            Err(error) => Poll::Ready(Err(self.failed(&error))),
        }
    }

    /// What is left of the response's body, where that is known.
    pub(in crate::http) fn length(&self) -> Option<u64> {
        self.download.as_ref().and_then(Source::length)
    }

    /// Goes on with the upload while the client does not take the response.
    pub(in crate::http) fn poll_beside(&mut self, context: &mut Context<'_>) {
        // What fails here fails again when the next frame is asked for.
        let _ = self.poll_upload(context);
    }

    /// Whether the request may be sent once more: the host cannot have looked at it (RFC 9113, 8.7), or the connection was a kept one and
    /// looking twice is harmless; and nothing of its body is gone.
    pub(in crate::http::forward) fn may_try_again(&self) -> bool {
        let idempotent = matches!(
            self.method,
            Method::GET | Method::HEAD | Method::OPTIONS | Method::TRACE | Method::PUT | Method::DELETE
        );
        let kept = self.lease.as_ref().is_some_and(Lease::reused);
        !self.again
            && self.request.is_some()
            && (self.unseen || (idempotent && kept))
            && self.upload.as_ref().is_none_or(|upload| upload.taken == 0)
    }

    /// Gives up the stream that failed.
    pub(in crate::http::forward) fn let_go(&mut self) {
        self.response = None;
        self.upload = None;
        if let Some(asked) = &mut self.tunnel {
            asked.send = None;
        }
        self.lease = None;
    }

    /// Sends the request once more.
    pub(in crate::http::forward) fn begin_again(&mut self, lease: Lease) {
        self.again = true;
        self.unseen = false;
        if let Some(limits) = &mut self.limits {
            limits.restart();
        }
        self.upload_broken = false;
        self.lease = Some(lease);
    }

    fn poll_upload(&mut self, context: &mut Context<'_>) -> Result<(), Failure> {
        let Some(upload) = &mut self.upload else { return Ok(()) };
        if upload.is_done() || self.upload_broken {
            return Ok(());
        }
        let before = upload.is_blocked();
        let pumped = upload.poll(context, &mut self.body);
        self.stream.count_upload_flow(&self.cluster, before, upload.is_blocked());
        match pumped {
            Poll::Ready(Err(Broken::Source(failure))) => Err(failure),
            Poll::Ready(Err(Broken::Sink)) => {
                self.upload_broken = true;
                Ok(())
            }
            Poll::Ready(Ok(())) => {
                self.body = Body::Empty;
                self.stream.record().log(|live| live.reach(Moment::UpstreamSendEnd, Instant::now()));
                Ok(())
            }
            Poll::Pending => Ok(()),
        }
    }

    /// The response is complete.
    fn complete(&mut self) {
        let Some(mut lease) = self.lease.take() else { return };
        self.stream.record().log(|live| live.reach(Moment::ResponseEnd, Instant::now()));
        if let Some(received_at) = self.stream.record().received_at.get().filter(|_| !self.dismissed) {
            let time = Instant::now().saturating_duration_since(received_at);
            let (time, record) = (time.as_millis() as u64, self.stream.record());
            self.cluster.count_time(time, record.internal.get());
            if record.canary.get() {
                self.cluster.count_canary_time(time);
            }
            self.stream.manager().route_stats.each(record, |counted| counted.stats.upstream_rq_time.record(time));
        }
        match &mut self.upload {
            // Nobody wants the rest of the request (RFC 9113, 8.1).
            Some(upload) if !upload.is_done() => upload.reset(Reason::NO_ERROR),
            _ => lease.ended(),
        }
    }

    /// What the crate says of the stream, as a failure.
    fn failed(&mut self, error: &h2::Error) -> Failure {
        let refused = error.reason() == Some(Reason::REFUSED_STREAM);
        // A stream that a GOAWAY leaves out ends with the error of the whole connection.
        self.unseen = refused || (error.is_go_away() && error.is_remote());
        if let Some(lease) = &mut self.lease {
            match error.is_reset() && error.is_remote() {
                true if refused => lease.ended(),
                true => lease.was_reset(),
                false if !error.is_library() => {
                    // As Envoy counts a stream that goes with its connection.
                    self.cluster.stats().upstream_rq_pending_failure_eject.inc();
                    lease.ended();
                }
                false => {}
            }
        }
        let failure = match () {
            () if refused => Failure::UpstreamRefused,
            () if error.is_reset() && error.is_remote() => Failure::UpstreamReset,
            () if error.is_library() => self.broken(),
            () => Failure::UpstreamClosed,
        };
        self.response = None;
        failure
    }

    /// Ready when the try has taken too long: its stream is reset.
    fn poll_late(&mut self, context: &mut Context<'_>, head: bool) -> Poll<Failure> {
        let Some(limits) = &mut self.limits else { return Poll::Pending };
        let sent = self.upload.as_ref().map_or(0, |upload| upload.taken);
        let failure = ready!(limits.poll(context, self.stream, &self.cluster, sent, head));
        if limits.is_soft() {
            return Poll::Ready(failure);
        }
        self.response = None;
        self.download = None;
        self.upload = None;
        self.lease = None;
        Poll::Ready(failure)
    }

    fn broken(&mut self) -> Failure {
        if let Some(lease) = &self.lease {
            lease.broken();
        }
        Failure::UpstreamProtocol
    }
}
