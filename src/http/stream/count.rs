//! What the failures of a request are counted as.

use crate::codec::http1::Refusal;
use crate::http::failure::Failure;

use super::{Client, Stream};

impl Stream<'_> {
    /// Counts what a failure is counted as.
    pub(super) fn count(&self, failure: Failure) {
        let stats = &self.manager().stats;
        match failure {
            Failure::RequestTimeout => stats.downstream_rq_timeout.inc(),
            Failure::HeaderTimeout => stats.downstream_rq_header_timeout.inc(),
            Failure::StreamIdle { .. } => stats.downstream_rq_idle_timeout.inc(),
            Failure::DownstreamClosed => stats.downstream_rq_rx_reset.inc(),
            Failure::Refused(Refusal::PATH) => stats.downstream_rq_failed_path_normalization.inc(),
            Failure::Refused(Refusal::ABSOLUTE_PATH) => stats.downstream_rq_non_relative_path.inc(),
            Failure::Refused(Refusal { details: Refusal::UNKNOWN_CLIENT, .. }) => {
                stats.downstream_rq_rejected_via_ip_detection.inc();
            }
            Failure::NoRoute => stats.no_route.inc(),
            Failure::MaxDuration { .. } => stats.downstream_rq_max_duration_reached.inc(),
            Failure::NoCluster { .. } => stats.no_cluster.inc(),
            Failure::Refused(refusal) if refusal.codec => stats.downstream_cx_protocol_error.inc(),
            Failure::RouteTimeout => {
                if let Some(cluster) = &*self.record.cluster.borrow() {
                    cluster.stats().upstream_rq_timeout.inc();
                    for _ in 0..self.record.beside.take() {
                        cluster.stats().upstream_rq_timeout.inc();
                        cluster.count_response(504, self.record.internal.get());
                    }
                }
                if let Some(host) = &*self.record.host.borrow() {
                    host.count_timeout();
                }
                let route_stats = &self.manager().route_stats;
                route_stats.each(&self.record, |counted| counted.stats.upstream_rq_timeout.inc());
            }
            _ => {}
        }
    }

    /// Counts a response that ends before its end.
    pub(super) fn count_cut(&self, failure: Failure) {
        let stats = &self.manager().stats;
        if failure == Failure::DownstreamClosed {
            return;
        }
        stats.downstream_rq_tx_reset.inc();
        // Whoever ends a stream, as Envoy counts.
        if matches!(self.client, Client::Http2(_)) {
            stats.downstream_rq_rx_reset.inc();
        }
        let by_host = matches!(failure, Failure::UpstreamClosed | Failure::UpstreamReset | Failure::UpstreamProtocol);
        if by_host && self.record.grpc.get() {
            stats.rq_reset_after_downstream_response_started.inc();
        }
    }
}
