//! A request that asks for a tunnel: whether it may have one, and the response that is the beginning of it.

use std::rc::Rc;
use std::time::Instant;

use bytes::BytesMut;
use http::header;

use crate::codec::head::{RequestHead, ResponseHead};
use crate::codec::http1;
use crate::http::failure::Failure;
use crate::http::upgrade::{Active, Granted, Switch, Switching, Way, handshake};
use crate::l4::tunnel::Host;
use crate::local::Deadline;
use crate::upstream::Cluster;

use super::{After, Begun, Client, Stream};

/// The two sides of a tunnel, but for the client's connection, or the half of its stream that is the client's.
pub(in crate::http) struct Joined {
    host: Host,
    cluster: Rc<Cluster>,
    active: Active,
    down: BytesMut,
    way: Way,
}

impl Stream<'_> {
    /// The request of an HTTP/2 stream asks for a tunnel. Its head is all of it.
    pub(super) fn asks(&mut self, head: &RequestHead) {
        self.switch.set(Switch::of(head, true));
        self.record.received_at.set(Some(self.record.started));
        self.deadlines.request = Deadline::NEVER;
    }

    /// Whether a request that asks for a tunnel may have one. Without a route it fails for that.
    pub(super) fn may_switch(&self, head: &RequestHead) -> bool {
        let manager = self.manager();
        let decision = self.record.route.borrow();
        let action = decision.as_ref().map(|decision| decision.action());
        match Switch::decide(head, action, &manager.config.upgrades) {
            Some(switch) => {
                self.switch.set(switch);
                manager.stats.downstream_cx_upgrades_total.inc();
                self.active.set(Some(Active::begin(manager)));
                true
            }
            None if action.is_none() => true,
            None => {
                manager.stats.downstream_rq_ws_on_non_ws_route.inc();
                false
            }
        }
    }

    /// The key of the handshake is ours.
    pub(in crate::http) fn give_key(&self) {
        self.switch.set(Switch::Keyed);
    }

    /// Takes the response that grants the tunnel: encoded it is the tunnel's first bytes, and over HTTP/2 it is sent.
    pub(super) fn join(&self, mut head: ResponseHead, granted: Granted, begun: &mut Begun) -> Result<(), Failure> {
        let Some(cluster) = self.record.cluster.borrow().clone() else { return Err(Failure::Internal) };
        let Some(active) = self.active.take() else { return Err(Failure::Internal) };
        if !self.client.is_through() {
            self.manager().stats.downstream_rq_response_before_rq_complete.inc();
        }
        // Behind this head there is no body, whatever it says of one (RFC 9110, 9.3.6).
        head.headers.remove(&header::CONTENT_LENGTH);
        if self.switch.get() == Switch::Keyed {
            head.headers.remove(&header::SEC_WEBSOCKET_ACCEPT);
        }
        self.manager().prepare_response(&mut head, self);
        self.keep_response(&head);
        self.count_head(head.status);
        let Granted { host, read } = granted;
        let (way, down) = match self.client {
            Client::Http1(_) => {
                let mut down = self.manager().local.block();
                down.extend_from_slice(&self.interim.borrow_mut().split());
                self.encode(&head, http1::Body::UntilClose, &mut down);
                let head = down.len();
                down.extend_from_slice(&read);
                self.manager().local.give(read);
                (Way::Http1 { head }, down)
            }
            Client::Http2(client) => {
                handshake::over_http2(&mut head);
                (Way::Http2(client.respond(head, false).ok_or(Failure::DownstreamClosed)?), read)
            }
            // A request of our own asks for no tunnel.
            Client::Own(_) => return Err(Failure::Internal),
        };
        self.log_tunnel();
        begun.head = true;
        begun.tunnel = Some(Box::new(Joined { host, cluster, active, down, way }));
        Ok(())
    }

    /// The response to a request that asked for a tunnel is over, and it is none.
    pub(super) fn declined(&self) {
        // What the client might still have sent nobody hears. Over HTTP/1 that ends its connection, and is counted there.
        let through = if self.switch.get() == Switch::No { self.is_complete() } else { self.client.is_through() };
        if !through && matches!(self.client, Client::Http2(_)) {
            self.manager().stats.downstream_rq_rx_reset.inc();
        }
    }

    /// Leaves the connection, or the stream, to the tunnel, which ends the request.
    pub(super) fn become_tunnel(self, joined: Joined) -> After {
        let Joined { host, cluster, active, down, way } = joined;
        self.log_suspended(0);
        let idle_timeout = self.deadlines.idle_timeout.get();
        let until = self.timer().left(self.deadlines.duration.get()).map(|left| Instant::now() + left);
        After::Tunnel(Box::new(Switching {
            record: self.record,
            idle_timeout,
            until,
            host,
            down,
            way,
            active,
            cluster,
        }))
    }
}
