//! A request's line in the access logs: what is kept for it on the way, and its writing at the end.
//!
//! Without a configured log every step here is one look at an empty option.

use std::time::Instant;

use http::Version;

use crate::access_log::Live;
use crate::codec::head::{Headers, RequestHead, ResponseHead};
use crate::config::model::{LogType, Moment};
use crate::net::PeerAddress;

use super::Stream;

impl Stream<'_> {
    /// Keeps what the line says of the request's head, as it is now.
    pub(in crate::http) fn keep_request(&self, head: &RequestHead) {
        if let Some(logs) = &self.manager().logs {
            self.record.log(|live| logs.keep_request(live, head));
        }
    }

    /// A request has been understood, and has a line for that if one is asked for.
    pub(super) fn log_start(&self, head: &RequestHead) {
        let Some(logs) = &self.manager().logs else { return };
        self.record.log(|live| logs.keep_request(live, head));
        if self.manager().config.log_new_requests {
            self.record.log(|live| {
                self.fill(live);
                logs.write(LogType::DownstreamStart, live);
            });
        }
    }

    /// A tunnel has been agreed on, and has a line for that if one is asked for.
    pub(super) fn log_tunnel(&self) {
        let Some(logs) = self.manager().logs.as_ref().filter(|_| self.manager().config.log_new_tunnels) else { return };
        self.record.log(|live| {
            self.fill(live);
            logs.write(LogType::DownstreamTunnelEstablished, live);
        });
    }

    /// A line of a request that goes on.
    pub(super) fn log_periodic(&self) {
        let Some(logs) = &self.manager().logs else { return };
        self.record.log(|live| {
            self.fill(live);
            logs.write(LogType::DownstreamPeriodic, live);
        });
    }

    /// Keeps what the line says of the response's head.
    pub(super) fn keep_response(&self, head: &ResponseHead) {
        let Some(logs) = &self.manager().logs else { return };
        self.record.log(|live| {
            logs.keep_response(live, head);
            live.reach(Moment::SendBegin, Instant::now());
        });
    }

    /// Keeps what the line says of the response's trailers.
    pub(in crate::http) fn keep_trailers(&self, trailers: &Headers) {
        if let Some(logs) = &self.manager().logs
            && !trailers.is_empty()
        {
            self.record.log(|live| logs.keep_trailers(live, trailers));
        }
    }

    /// A host has a connection for the request, and speaks this version on it; `local` asks the system for our own address.
    pub(in crate::http) fn log_connected(&self, version: u32, local: impl FnOnce() -> Option<PeerAddress>) {
        let Some(logs) = &self.manager().logs else { return };
        self.record.log(|live| {
            live.reach(Moment::UpstreamSendBegin, Instant::now());
            live.context.upstream_protocol = version;
            if let Some(host) = &*self.record.host.borrow() {
                live.tried(host.endpoint().address.to_string());
            }
            if logs.wanted().upstream_local {
                // A socket that has no address any more has none to show.
                live.context.upstream_local = local().map(|address| address.to_string()).unwrap_or_default();
            }
        });
    }

    /// The request has ended: its line.
    pub(super) fn log_end(&self, now: Instant) {
        let Some(mut line) = self.record.take_log() else { return };
        if self.record.status.get() != 0 {
            line.live.reach_once(Moment::SendEnd, now);
        }
        self.fill(&mut line.live);
        line.write(LogType::DownstreamEnd);
    }

    /// The request may go on in another epoch, which cannot know what only this one has.
    pub(super) fn log_suspended(&self, sent: u64) {
        self.record.log(|live| {
            self.fill(live);
            live.context.sent = sent;
        });
    }

    /// Fills in what is known of the request outside of its line.
    pub(in crate::http) fn fill(&self, live: &mut Live) {
        let (record, facts) = (&self.record, self.facts());
        if let Some(received_at) = record.received_at.get() {
            live.reach(Moment::RequestEnd, received_at);
        }
        if let Some(answered_at) = record.answered_at.get() {
            live.reach(Moment::ResponseBegin, answered_at);
        }
        if let Some(left) = record.left() {
            live.left = left;
        }
        let context = &mut live.context;
        context.protocol = version(self.version);
        context.status = record.status.get().into();
        context.health_check = record.is_health_check.get();
        context.flags = record.flags().into();
        context.details = record.details().into_owned();
        context.received = record.received.get();
        context.sent = record.sent.get();
        context.connection_id = facts.id;
        context.listener = facts.listener.to_string();
        context.peer = facts.peer.to_string();
        context.local = facts.local.to_string();
        if let (Some(client), PeerAddress::Ip(peer)) = (record.client.get(), &facts.peer)
            && client != peer.ip()
        {
            context.client = std::net::SocketAddr::new(client, 0).to_string();
        }
        if let Some(decision) = &*record.route.borrow() {
            context.route.clone_from(&decision.route.name);
        }
        if let Some(cluster) = &*record.cluster.borrow() {
            let model = cluster.model();
            context.cluster.clone_from(&model.stat_name);
            context.cluster_raw.clone_from(&model.name);
        }
        if let Some(host) = &*record.host.borrow() {
            let endpoint = host.endpoint();
            context.host = endpoint.address.to_string();
            context.host_name.clone_from(if endpoint.hostname.is_empty() { &context.host } else { &endpoint.hostname });
        }
    }
}

/// A version as a line's context has it.
const fn version(version: Version) -> u32 {
    match version {
        Version::HTTP_10 => 10,
        Version::HTTP_2 => 20,
        Version::HTTP_3 => 30,
        _ => 11,
    }
}
