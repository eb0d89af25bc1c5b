//! One request and its response on one HTTP/1 connection, both directions at once.
//!
//! Pulling the response drives the upload too: whoever waits for a response frame is woken for either. The state of both directions
//! stands in [`Exchange`]; a poll borrows a block from the worker for as long as there are bytes in it.

use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use bytes::{Bytes, BytesMut};
use http::{Method, StatusCode};

use crate::codec::head::{Headers, ResponseHead};
use crate::codec::http1::{Decoded, Framing, Limits, Parsed, ResponseRules, Scan, parse_response};
use crate::config::model::{Moment, UpstreamHttp1};
use crate::http::body::{Body, Frame};
use crate::http::failure::Failure;
use crate::http::manager::case_rules;
use crate::http::pump::{Broken, Pump};
use crate::http::stream::Stream;
use crate::http::upgrade::{self, Granted};
use crate::l4::tunnel;
use crate::upstream::Cluster;
use crate::upstream::pool::http1::Lease;

use crate::http::forward::Replay;
use crate::http::forward::handover;
use crate::http::forward::try_limits::TryLimits;

mod suspended;

pub use suspended::Suspended;

/// Interim responses that are taken before a final one.
const MAX_INTERIM: u8 = 16;

/// An exchange with a host.
pub struct Exchange<'a> {
    stream: &'a Stream<'a>,
    cluster: Rc<Cluster>,
    /// Gone when the response is complete, or the exchange has failed.
    lease: Option<Lease>,
    method: Method,
    upload: Pump,
    body: Body<'a>,
    /// The host takes no more of the request; a response may still come.
    upload_broken: bool,
    replay: Option<Replay>,
    /// This is the second connection.
    again: bool,
    read: BytesMut,
    /// Bytes of a response have come.
    answered: bool,
    interim: u8,
    scan: Scan,
    framing: Framing,
    keep_alive: bool,
    /// What one try may take, where that is limited.
    limits: Option<Box<TryLimits>>,
    /// The answer is the request itself: see [`handover`].
    handed_back: bool,
    /// The answer is not passed on: it counts as none.
    dismissed: bool,
    /// The head by which the host has granted a tunnel, until the rest of the request is sent.
    grant: Option<ResponseHead>,
    granted: bool,
}

impl<'a> Exchange<'a> {
    pub(in crate::http::forward) fn new(
        stream: &'a Stream<'a>,
        cluster: Rc<Cluster>,
        method: Method,
        upload: Pump,
        body: Body<'a>,
    ) -> Self {
        Self {
            stream,
            cluster,
            lease: None,
            method,
            upload,
            body,
            upload_broken: false,
            replay: None,
            again: false,
            read: BytesMut::new(),
            answered: false,
            interim: 0,
            scan: Scan::new(),
            framing: Framing::none(),
            keep_alive: false,
            limits: None,
            handed_back: false,
            dismissed: false,
            grant: None,
            granted: false,
        }
    }

    /// Before a wait for a connection: holds as little as possible.
    pub(in crate::http::forward) fn settle(&mut self) {
        self.stream.manager().local.settle(&mut self.upload.outbox.front);
    }

    /// Limits what the try may take.
    pub(in crate::http::forward) fn limit(&mut self, limits: Option<TryLimits>) {
        self.limits = limits.map(Box::new);
    }

    /// Takes the connection to talk on.
    pub(in crate::http::forward) fn begin(&mut self, lease: Lease) {
        self.stream.log_connected(11, || lease.local_address().ok());
        self.lease = Some(lease);
    }

    /// Sends the request and waits for the response's head.
    pub(in crate::http::forward) fn poll_head(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Result<ResponseHead, Failure>> {
        self.poll_upload(context)?;
        loop {
            if self.grant.is_some() {
                return self.poll_grant();
            }
            let (limits, rules) = (self.head_limits(), self.rules());
            self.handed_back = handover::begins(&self.read);
            match parse_response(&mut self.read, &mut self.scan, &limits, &self.method, rules) {
                Ok(Some(parsed)) => {
                    if let Some(head) = self.take_head(parsed)? {
                        return Poll::Ready(Ok(head));
                    }
                }
                Ok(None) => match self.poll_fill(context) {
                    Poll::Ready(Ok(true)) => {}
                    Poll::Ready(Ok(false) | Err(())) => {
                        self.lease = None;
                        return Poll::Ready(Err(Failure::UpstreamClosed));
                    }
                    Poll::Pending => return self.poll_late(context, true).map(Err),
                },
                Err(_) => return Poll::Ready(Err(self.broken())),
            }
        }
    }

    /// The rest of the upload comes from here: nobody else has to see it any more.
    pub(in crate::http::forward) fn go_on_with(&mut self, body: Body<'a>) {
        if !self.upload.has_ended() {
            self.body = body;
        }
    }

    /// The response whose head has come is passed on.
    pub(in crate::http::forward) fn accept(&mut self) {
        self.limits.take_if(|limits| !limits.watches_body());
        if self.framing.is_done() && !self.granted {
            self.complete();
        }
    }

    /// The response whose head has come is not passed on. Its connection is kept only where nothing of it is left.
    pub(in crate::http::forward) fn dismiss(&mut self) {
        self.dismissed = true;
        self.upload_broken = true;
        self.accept();
    }

    /// Whether the answer hands the request back.
    pub(in crate::http::forward) fn is_handed_back(&self) -> bool {
        self.handed_back
    }

    /// Nothing of the request has been sent.
    pub(in crate::http::forward) fn is_unseen(&self) -> bool {
        self.upload.sent == 0
    }

    /// A tunnel begins behind the request, all of it (RFC 9110, 7.8).
    fn poll_grant(&mut self) -> Poll<Result<ResponseHead, Failure>> {
        if self.upload_broken {
            self.lease = None;
            return Poll::Ready(Err(Failure::UpstreamClosed));
        }
        if !self.upload.is_done() {
            return Poll::Pending;
        }
        self.granted = true;
        Poll::Ready(self.grant.take().ok_or(Failure::Internal))
    }

    /// The host's side of the tunnel that it has granted; itself, if it has not.
    pub(in crate::http::forward) fn granted(mut self: Box<Self>) -> Result<Granted, Box<Self>> {
        match self.lease.take() {
            Some(lease) if self.granted => {
                Ok(Granted { host: tunnel::Host::Http1(lease), read: std::mem::take(&mut self.read) })
            }
            lease => {
                self.lease = lease;
                Err(self)
            }
        }
    }

    /// The next frame of the response's body.
    pub(in crate::http) fn poll_frame(&mut self, context: &mut Context<'_>) -> Poll<Result<Frame, Failure>> {
        self.poll_upload(context)?;
        let limits = self.head_limits();
        loop {
            match self.framing.decode(&mut self.read, &limits) {
                Ok(Decoded::Data(data)) => {
                    self.stream.record().log(|live| live.reach_once(Moment::ResponseBodyBegin, Instant::now()));
                    // Where the length is known the end is known with the last byte, and the connection is free before
                    // the client has its response.
                    if self.framing.is_done() {
                        self.complete();
                    }
                    return Poll::Ready(Ok(Frame::Data(data)));
                }
                Ok(Decoded::End(mut trailers)) => {
                    if !self.cluster.model().http1.enable_trailers {
                        trailers = Headers::new();
                    }
                    self.stream.keep_trailers(&trailers);
                    self.complete();
                    return Poll::Ready(Ok(Frame::End(trailers)));
                }
                Ok(Decoded::NeedMore) => match self.poll_fill(context) {
                    Poll::Ready(Ok(true)) => {}
                    Poll::Ready(Ok(false)) if self.framing.close().is_ok() => {
                        self.complete();
                        return Poll::Ready(Ok(Frame::End(Headers::new())));
                    }
                    Poll::Ready(Ok(false) | Err(())) => {
                        self.lease = None;
                        return Poll::Ready(Err(Failure::UpstreamClosed));
                    }
                    Poll::Pending => return self.poll_late(context, false).map(Err),
                },
                Err(_) => return Poll::Ready(Err(self.broken())),
            }
        }
    }

    /// What is left of the response's body, where that is known.
    pub(in crate::http) fn length(&self) -> Option<u64> {
        self.framing.length_left()
    }

    /// Goes on with the upload while the client does not take the response.
    pub(in crate::http) fn poll_beside(&mut self, context: &mut Context<'_>) {
        // What fails here fails again when the next frame is asked for.
        let _ = self.poll_upload(context);
    }

    /// Whether the request may be sent once more: the connection was a kept one, nothing of an answer came, and either the
    /// host cannot have seen the request, or seeing it twice is harmless; and all that was sent is still here.
    pub(in crate::http::forward) fn may_try_again(&self) -> bool {
        let idempotent = matches!(
            self.method,
            Method::GET | Method::HEAD | Method::OPTIONS | Method::TRACE | Method::PUT | Method::DELETE
        );
        let unseen = self.upload_broken && self.upload.sent == 0;
        !self.answered
            && !self.again
            && (idempotent || unseen)
            && self.replay.as_ref().is_some_and(|replay| replay.whole || self.upload.taken == 0)
    }

    /// Gives up the connection that failed.
    pub(in crate::http::forward) fn let_go(&mut self) {
        self.lease = None;
    }

    /// Sends the request once more.
    pub(in crate::http::forward) fn begin_again(&mut self, lease: Lease) {
        if let Some(replay) = self.replay.take() {
            self.upload.restart(&replay.bytes, replay.whole);
        }
        self.stream.manager().local.give(std::mem::take(&mut self.read));
        self.scan = Scan::new();
        self.upload_broken = false;
        self.again = true;
        if let Some(limits) = &mut self.limits {
            limits.restart();
        }
        self.lease = Some(lease);
    }

    fn take_head(&mut self, parsed: Parsed<ResponseHead>) -> Result<Option<ResponseHead>, Failure> {
        let status = parsed.head.status;
        if self.stream.switch().asks_host() && upgrade::is_granted(&self.method, &parsed.head, parsed.upgrade) {
            self.replay = None;
            self.grant = Some(parsed.head);
            return Ok(None);
        }
        if !status.is_informational() {
            self.framing = parsed.framing;
            self.keep_alive = parsed.keep_alive;
            self.replay = None;
            return Ok(Some(parsed.head));
        }
        self.interim = self.interim.saturating_add(1);
        // Nobody asked to switch protocols.
        if status == StatusCode::SWITCHING_PROTOCOLS || self.interim > MAX_INTERIM {
            return Err(self.broken());
        }
        self.stream.count_host_interim(&self.cluster, status);
        if self.stream.passes_on(status) {
            self.stream.inform(&parsed.head);
        }
        Ok(None)
    }

    fn poll_upload(&mut self, context: &mut Context<'_>) -> Result<(), Failure> {
        if self.upload.is_done() || self.upload_broken {
            return Ok(());
        }
        let Some(lease) = &mut self.lease else { return Ok(()) };
        let local = &self.stream.manager().local;
        if self.upload.sent == 0 && self.replay.is_none() && lease.reused() {
            self.upload.gather(context, &mut self.body, local)?;
            self.replay = Replay::of(&self.upload);
        }
        let blocked = self.upload.outbox.is_blocked();
        let pumped =
            self.upload.poll(context, &mut self.body, local, |context, slices| lease.poll_write(context, slices));
        self.stream.count_upload_flow(&self.cluster, blocked, self.upload.outbox.is_blocked());
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

    /// Reads more of the response; false is the end.
    fn poll_fill(&mut self, context: &mut Context<'_>) -> Poll<Result<bool, ()>> {
        let Some(lease) = &mut self.lease else { return Poll::Ready(Err(())) };
        match ready!(lease.poll_fill(context, &mut self.read)) {
            Ok(0) => Poll::Ready(Ok(false)),
            Ok(_) => {
                self.answered = true;
                if let Some(limits) = &mut self.limits {
                    limits.moved();
                }
                Poll::Ready(Ok(true))
            }
            Err(_) => Poll::Ready(Err(())),
        }
    }

    /// The response is complete: the connection goes back if both sides are through and the host keeps it.
    fn complete(&mut self) {
        let Some(lease) = self.lease.take() else { return };
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
        if !self.read.is_empty() {
            // Bytes behind the response that nobody asked for.
            lease.broken();
        } else if !self.upload.is_done() {
            drop(lease);
        } else if self.keep_alive {
            lease.release();
        } else {
            lease.retire();
        }
        self.stream.manager().local.settle(&mut self.read);
    }

    /// Ready when the try has taken too long.
    fn poll_late(&mut self, context: &mut Context<'_>, head: bool) -> Poll<Failure> {
        let Some(limits) = &mut self.limits else { return Poll::Pending };
        let failure = ready!(limits.poll(context, self.stream, &self.cluster, self.upload.sent, head));
        if limits.is_soft() {
            return Poll::Ready(failure);
        }
        self.lease = None;
        Poll::Ready(failure)
    }

    fn broken(&mut self) -> Failure {
        if let Some(lease) = self.lease.take() {
            lease.broken();
        }
        Failure::UpstreamProtocol
    }

    fn rules(&self) -> ResponseRules {
        let UpstreamHttp1 { preserve_case, allow_chunked_length, .. } = self.cluster.model().http1;
        ResponseRules { allow_chunked_length, cases: preserve_case.map(case_rules) }
    }

    fn head_limits(&self) -> Limits {
        let model = self.cluster.model();
        Limits { bytes: model.max_response_headers_bytes as usize, count: model.max_response_headers_count as usize }
    }
}

impl Replay {
    /// Of what stands in the outbox before the first write; `None` where it is too much to keep.
    fn of(upload: &Pump) -> Option<Self> {
        let whole = upload.has_ended();
        if !upload.outbox.is_one_piece() || !(whole || upload.taken == 0) {
            return None;
        }
        Some(Self { bytes: Bytes::copy_from_slice(&upload.outbox.front), whole })
    }
}
