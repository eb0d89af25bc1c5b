//! A request that asks for a tunnel: whether it may have one, and the response that is the beginning of it.

use std::rc::Rc;

use bytes::BytesMut;
use http::header;

use crate::codec::head::{RequestHead, ResponseHead};
use crate::codec::http1;
use crate::http::failure::Failure;
use crate::http::upgrade::{Active, Granted, Switch, Switching};
use crate::l4::tunnel::Host;
use crate::upstream::Cluster;

use super::{After, Begun, Stream};

/// The two sides of a tunnel, but for the client's connection.
pub(in crate::http) struct Joined {
    host: Host,
    cluster: Rc<Cluster>,
    active: Active,
    down: BytesMut,
    head: usize,
}

impl Stream<'_> {
    /// Whether a request that asks for a tunnel may have one. Without a route it fails for that.
    pub(super) fn may_switch(&self, head: &RequestHead) -> bool {
        let manager = self.manager();
        let decision = self.record.route.borrow();
        let action = decision.as_ref().map(|decision| decision.action());
        // A CONNECT over HTTP/2 asks for its stream to be the tunnel, and that is none yet.
        let may_ask = self.switch.get() != Switch::No;
        match may_ask.then(|| Switch::decide(head, action, &manager.config.upgrades)).flatten() {
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

    /// Encodes the response that grants the tunnel; it goes out as the tunnel's first bytes.
    pub(super) fn join(&self, mut head: ResponseHead, granted: Granted, begun: &mut Begun) -> Result<(), Failure> {
        let Some(cluster) = self.record.cluster.borrow().clone() else { return Err(Failure::Internal) };
        let Some(active) = self.active.take() else { return Err(Failure::Internal) };
        self.manager().stats.downstream_rq_response_before_rq_complete.inc();
        // Behind this head there is no body, whatever it says of one (RFC 9110, 9.3.6).
        head.headers.remove(&header::CONTENT_LENGTH);
        self.manager().prepare_response(&mut head, self);
        self.keep_response(&head);
        self.count_head(head.status);
        let Granted { host, read } = granted;
        let mut down = self.manager().local.block();
        down.extend_from_slice(&self.interim.borrow_mut().split());
        self.encode(&head, http1::Body::UntilClose, &mut down);
        let head = down.len();
        down.extend_from_slice(&read);
        self.manager().local.give(read);
        begun.head = true;
        begun.tunnel = Some(Box::new(Joined { host, cluster, active, down, head }));
        Ok(())
    }

    /// Leaves the connection to the tunnel, which ends the request.
    pub(super) fn become_tunnel(self, joined: Joined) -> After {
        let Joined { host, cluster, active, down, head } = joined;
        self.log_suspended(0);
        let idle_timeout = self.deadlines.idle_timeout.get();
        After::Tunnel(Box::new(Switching { record: self.record, idle_timeout, host, down, head, active, cluster }))
    }
}
