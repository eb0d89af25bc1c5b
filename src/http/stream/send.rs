//! The response on its way to the client: how its body is framed, whether it is the connection's last, and the pump that writes it.

use std::future::{Future, poll_fn};
use std::task::Poll;
use std::time::Instant;

use http::{HeaderValue, Method, StatusCode, Version, header};

use crate::codec::head::ResponseHead;
use crate::codec::http1;
use crate::http::body::Body;
use crate::http::downstream::Downstream;
use crate::http::failure::Failure;
use crate::http::filter::Response;
use crate::http::headers::announce_attempts;
use crate::http::outbox::Outbox;
use crate::http::pump::{Broken, Pump};
use crate::upstream::{Cluster, Host};

use super::{Begun, Client, Course, Stream};
use crate::http::upgrade::Switch;

impl Stream<'_> {
    /// Sends a response.
    pub(super) async fn send<'s>(&'s self, response: Response<'s>, begun: &mut Begun) -> Result<Course, Failure> {
        let Response { mut head, body, .. } = response;
        let mut body = match body {
            Body::Tunnel(granted) => return self.join(head, *granted, begun).map(|()| Course::Over),
            body => body,
        };
        if self.record.announces_attempts.get() {
            announce_attempts(&mut head.headers, self.record.attempts.get());
        }
        let conn = match self.client {
            Client::Http1(conn) => conn,
            Client::Http2(client) => return self.send_http2(client, head, body, begun).await,
            // Nobody gets it this way.
            Client::Own(_) => return Err(Failure::Internal),
        };
        begun.early |= !self.is_complete() || self.switch.get() != Switch::No;
        if self.should_close(conn) {
            begun.close = true;
            begun.linger = true;
        }
        let framing = self.frame(&head, &mut body);
        begun.until_close = framing == http1::Body::UntilClose;
        begun.close |= begun.until_close;
        self.manager().prepare_response(&mut head, self);
        // The version is the hop's own: that of the request, whatever the host speaks.
        head.version = self.version;
        self.set_connection(&mut head, begun.close);
        self.count_head(head.status);
        self.keep_response(&head);
        let mut outbox = Outbox::new(self.manager().local.block());
        outbox.front.extend_from_slice(&self.interim.borrow_mut().split());
        self.encode(&head, framing, &mut outbox.front);
        drop(head);
        begun.head = true;
        let pump = Pump::new(outbox, framing, self.manager().config.http1.enable_trailers);
        self.pump(conn, pump, body).await
    }

    /// Sends what is left of a response.
    #[allow(clippy::manual_async_fn, reason = "an async function holds its arguments twice: as given, and as its own")]
    pub(super) fn pump<'s>(
        &'s self,
        conn: &'s Downstream,
        mut pump: Pump,
        mut body: Body<'s>,
    ) -> impl Future<Output = Result<Course, Failure>> + 's {
        async move {
            let mut moved = pump.taken;
            let mut blocked = pump.outbox.is_blocked();
            let mut flushing = false;
            let room = poll_fn(|context| {
                let pumped = pump.poll(context, &mut body, &self.manager().local, |context, slices| {
                    conn.poll_write(context, slices)
                });
                if pump.taken != moved {
                    moved = pump.taken;
                    self.record.sent.set(moved);
                    if pumped.is_pending() {
                        self.moved(Instant::now());
                    }
                }
                if !flushing && pumped.is_pending() && pump.has_ended() {
                    flushing = true;
                    self.flushing();
                }
                if pump.outbox.is_blocked() != blocked {
                    blocked = !blocked;
                    self.count_flow(blocked);
                }
                match pumped {
                    Poll::Ready(Ok(())) => Poll::Ready(Ok(None)),
                    Poll::Ready(Err(Broken::Source(failure))) => Poll::Ready(Err(failure)),
                    Poll::Ready(Err(Broken::Sink)) => Poll::Ready(Err(Failure::DownstreamClosed)),
                    Poll::Pending => {
                        body.poll_beside(context);
                        match self.poll_ended(context) {
                            Poll::Ready(failure) => Poll::Ready(Err(failure)),
                            Poll::Pending => self.poll_room(context, || body.may_suspend()).map(|room| Ok(Some(room))),
                        }
                    }
                }
            })
            .await
            .inspect_err(|_| self.record.sent.set(pump.taken))?;
            match (room, body) {
                (Some(permit), Body::Response(exchange)) => {
                    let exchange = exchange.suspend().ok_or(Failure::Internal)?;
                    Ok(Course::suspended(exchange, Some(pump), permit))
                }
                (Some(_), _) => Err(Failure::Internal),
                (None, _) => {
                    self.record.sent.set(pump.taken);
                    Ok(Course::Over)
                }
            }
        }
    }

    /// How the response's body goes to this client.
    fn frame(&self, head: &ResponseHead, body: &mut Body<'_>) -> http1::Body {
        if self.record.method == Method::HEAD || head.status == StatusCode::NOT_MODIFIED {
            if matches!(body, Body::Full(_)) {
                *body = Body::Empty;
            }
            return http1::Body::Suppressed;
        }
        match body.length() {
            Some(0) => http1::Body::Empty,
            Some(length) => http1::Body::Length(length),
            None if self.version == Version::HTTP_11 => http1::Body::Chunked,
            None => http1::Body::UntilClose,
        }
    }

    /// Whether this response is the connection's last, for a reason of ours.
    fn should_close(&self, conn: &Downstream) -> bool {
        let manager = self.manager();
        if !self.is_complete() || self.switch.get() != Switch::No {
            // What is left of the request would have to be read and thrown away before the next one; and behind one that asked for a tunnel
            // nobody knows what it is.
            manager.stats.downstream_rq_response_before_rq_complete.inc();
            return true;
        }
        if conn.held.should_close() {
            manager.stats.downstream_cx_drain_close.inc();
            return true;
        }
        let most = manager.config.max_requests_per_connection;
        if most != 0 && conn.requests.get() >= most {
            manager.stats.downstream_cx_max_requests_reached.inc();
            return true;
        }
        conn.is_ending()
    }

    pub(super) fn set_connection(&self, head: &mut ResponseHead, close: bool) {
        if close {
            head.headers.set(header::CONNECTION, HeaderValue::from_static("close"));
        } else if self.version == Version::HTTP_10 {
            head.headers.set(header::CONNECTION, HeaderValue::from_static("keep-alive"));
        }
    }

    /// An interim response is one too.
    pub(super) fn count_interim(&self, status: StatusCode) {
        self.manager().stats.response(status.as_u16());
        self.manager().listener_stats.response(status.as_u16());
    }

    pub(super) fn count_head(&self, status: StatusCode) {
        let status = status.as_u16();
        self.record.status.set(status);
        if self.record.is_health_check.get() {
            self.manager().tracing_stats.health_check.inc();
        } else {
            self.manager().stats.response(status);
            self.manager().listener_stats.response(status);
        }
        // Checks of health are nobody's traffic.
        if self.record.uncharged.get() || self.record.is_health_check.get() {
            return;
        }
        // What gRPC clients are told is 200 and a status of their own; whoever it is about is charged with what it stands for.
        let status = self.record.charged(status);
        if let Some(cluster) = &*self.record.cluster.borrow() {
            cluster.count_response(status, self.record.internal.get());
            self.record.with_alt_stat(|name| cluster.count_as(name, status, self.record.internal.get()));
            if self.record.canary.get() {
                cluster.count_canary(status);
            }
            self.manager().route_stats.each(&self.record, |counted| counted.codes.record(status));
        }
        if let Some(host) = &*self.record.host.borrow() {
            host.count_response(status);
        }
    }

    /// Counts an interim response of a host.
    pub(in crate::http) fn count_host_interim(&self, cluster: &Cluster, status: StatusCode) {
        cluster.count_response(status.as_u16(), self.record.internal.get());
    }

    /// Counts a try that has failed while another is under way: the client never hears of it.
    pub(in crate::http) fn count_aborted(&self, host: &Host, failure: Failure) {
        let Some(told) = failure.told() else { return };
        host.count_response(told.status);
        if let Some(cluster) = &*self.record.cluster.borrow() {
            cluster.count_response(told.status, self.record.internal.get());
        }
    }

    /// The host takes no more, or takes again: the client is read no further meanwhile.
    pub(in crate::http) fn count_upload_flow(&self, cluster: &Cluster, before: bool, now: bool) {
        if before == now {
            return;
        }
        let (http, cluster) = (&self.manager().stats, cluster.stats());
        // Behind a request of our own there is no client.
        let client = !matches!(self.client, Client::Own(_));
        if now {
            cluster.upstream_flow_control_backed_up_total.inc();
            http.downstream_flow_control_paused_reading_total.add(client.into());
        } else {
            cluster.upstream_flow_control_drained_total.inc();
            http.downstream_flow_control_resumed_reading_total.add(client.into());
        }
    }

    /// The client takes no more, or takes again: the host is read no further meanwhile.
    pub(super) fn count_flow(&self, blocked: bool) {
        if let Some(cluster) = &*self.record.cluster.borrow() {
            let stats = cluster.stats();
            if blocked {
                stats.upstream_flow_control_paused_reading_total.inc();
            } else {
                stats.upstream_flow_control_resumed_reading_total.inc();
            }
        }
    }
}
