//! Everything that can go wrong with a request, in one list.
//!
//! A [`Failure`] knows its [`Fault`] (whose, retriable, flag), Envoy's response code details, and what to tell a client that has not
//! been told anything yet; [`super::local_reply`] makes the reply, statistics and access logs read the same value.

use std::borrow::Cow;

use crate::codec::http1::{FramingError, Refusal};
use crate::fault::{Fault, Flag, Retry, Side};
use crate::upstream::pool::http1::Refused;

/// Why a request failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The client's head or body was refused.
    Refused(Refusal),
    /// The client went away.
    DownstreamClosed,
    /// No route matched.
    NoRoute,
    /// The route's cluster does not exist.
    NoCluster {
        /// `cluster_not_found_response_code`.
        status: u16,
    },
    /// No host of the cluster takes traffic.
    NoHealthyUpstream,
    /// A circuit breaker is open.
    Overflow,
    /// An operator has closed the cluster by a runtime value.
    Maintenance,
    /// The host did not take the connection.
    Connect,
    /// Not within `connect_timeout`.
    ConnectTimeout,
    /// The host closed before the response was complete.
    UpstreamClosed,
    /// The host broke the protocol.
    UpstreamProtocol,
    /// The host reset the stream.
    UpstreamReset,
    /// The host refused the stream, or went away before it looked at it.
    UpstreamRefused,
    /// A head that the host's protocol cannot carry.
    Malformed,
    /// The route's timeout passed.
    RouteTimeout,
    /// A try took longer than one may, and no other was left.
    PerTryTimeout,
    /// Nothing moved in a try for as long as one may stand still.
    PerTryIdleTimeout,
    /// The host handed the request back (379), and it could not be sent to another.
    HandedBack,
    /// Nothing moved for the stream idle timeout.
    StreamIdle {
        /// The whole request had been received.
        request_complete: bool,
    },
    /// `max_stream_duration`: request and response together took too long.
    MaxDuration {
        /// The whole request had been received.
        request_complete: bool,
    },
    /// `request_timeout`: the request was not complete in time.
    RequestTimeout,
    /// `request_headers_timeout`: its head was not.
    HeaderTimeout,
    /// The drain's deadline passed while it was in progress.
    Drained,
    /// None: its host sends it elsewhere, and it follows here. [`crate::http::stream`] has it asked again.
    Redirected,
    /// Ours: a body that does not keep its announced length, a head that cannot be written.
    Internal,
}

/// What a client is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Told {
    /// The status.
    pub status: u16,
    /// The text; may be empty.
    pub body: &'static str,
    /// With `x-envoy-overloaded: true`.
    pub overloaded: bool,
    /// The connection ends after it.
    pub close: bool,
}

/// The texts of an upstream that failed before it answered.
macro_rules! reset {
    ($reason:literal) => {
        concat!("upstream connect error or disconnect/reset before headers. reset reason: ", $reason)
    };
}

impl Failure {
    /// Whose fault, may it be tried again, which flag.
    pub const fn fault(self) -> Fault {
        let (side, retry, flag) = match self {
            Self::Refused(refusal) => return refusal.fault(),
            Self::DownstreamClosed => (Side::Downstream, Retry::Never, Flag::DownstreamConnectionTermination),
            Self::NoRoute => (Side::Local, Retry::Never, Flag::NoRouteFound),
            Self::NoCluster { .. } => (Side::Local, Retry::Never, Flag::NoClusterFound),
            Self::NoHealthyUpstream => (Side::Upstream, Retry::Safe, Flag::NoHealthyUpstream),
            Self::Overflow => (Side::Local, Retry::Safe, Flag::UpstreamOverflow),
            Self::Maintenance => (Side::Local, Retry::Never, Flag::UpstreamOverflow),
            Self::Connect | Self::ConnectTimeout => (Side::Upstream, Retry::Safe, Flag::UpstreamConnectionFailure),
            Self::UpstreamClosed | Self::HandedBack => {
                (Side::Upstream, Retry::IfIdempotent, Flag::UpstreamConnectionTermination)
            }
            Self::UpstreamProtocol => (Side::Upstream, Retry::IfIdempotent, Flag::UpstreamProtocolError),
            Self::RouteTimeout | Self::PerTryTimeout | Self::PerTryIdleTimeout => {
                (Side::Upstream, Retry::IfIdempotent, Flag::UpstreamRequestTimeout)
            }
            Self::UpstreamReset => (Side::Upstream, Retry::IfIdempotent, Flag::UpstreamRemoteReset),
            Self::UpstreamRefused => (Side::Upstream, Retry::Safe, Flag::UpstreamRemoteReset),
            Self::Malformed => return Fault { side: Side::Downstream, retry: Retry::Never, flag: None },
            Self::StreamIdle { .. } => (Side::Local, Retry::Never, Flag::StreamIdleTimeout),
            Self::MaxDuration { .. } => (Side::Local, Retry::Never, Flag::DurationTimeout),
            Self::RequestTimeout | Self::HeaderTimeout => {
                return Fault { side: Side::Downstream, retry: Retry::Never, flag: None };
            }
            Self::Drained | Self::Internal | Self::Redirected => {
                return Fault { side: Side::Local, retry: Retry::Never, flag: None };
            }
        };
        Fault::new(side, retry, flag)
    }

    /// What a client is told that has not been told anything; `None` when there is nobody to tell.
    pub const fn told(self) -> Option<Told> {
        let (status, body) = match self {
            Self::Refused(refusal) => {
                return Some(Told {
                    status: refusal.status,
                    body: refusal.body,
                    overloaded: false,
                    close: refusal.codec,
                });
            }
            Self::DownstreamClosed | Self::Drained => return None,
            Self::NoRoute => (404, ""),
            Self::NoCluster { status } => (status, ""),
            Self::NoHealthyUpstream => (503, "no healthy upstream"),
            Self::Overflow => (503, reset!("overflow")),
            Self::Maintenance => (503, "maintenance mode"),
            Self::Connect => (503, reset!("remote connection failure")),
            Self::ConnectTimeout => (503, reset!("connection timeout")),
            Self::UpstreamClosed | Self::HandedBack => (503, reset!("connection termination")),
            Self::UpstreamProtocol => (502, reset!("protocol error")),
            Self::RouteTimeout | Self::PerTryTimeout | Self::PerTryIdleTimeout => (504, "upstream request timeout"),
            Self::UpstreamReset => (503, reset!("remote reset")),
            Self::UpstreamRefused => (503, reset!("remote refused stream reset")),
            Self::Malformed => (400, ""),
            Self::StreamIdle { request_complete: true } => (504, "stream timeout"),
            Self::StreamIdle { request_complete: false } => (408, "stream timeout"),
            Self::MaxDuration { request_complete: true } => (504, "downstream duration timeout"),
            Self::MaxDuration { request_complete: false } => (408, "downstream duration timeout"),
            Self::RequestTimeout => (408, "request timeout"),
            Self::HeaderTimeout => (408, "request header timeout"),
            Self::Internal | Self::Redirected => (500, ""),
        };
        let close = matches!(self, Self::RequestTimeout | Self::HeaderTimeout);
        Some(Told { status, body, overloaded: matches!(self, Self::Overflow | Self::Maintenance), close })
    }

    /// `%RESPONSE_CODE_DETAILS%`; `begun` says that response headers had been sent.
    pub fn details(self, begun: bool) -> Cow<'static, str> {
        let reason = match self {
            Self::Refused(refusal) => return refusal.details.into(),
            Self::DownstreamClosed => return "downstream_remote_disconnect".into(),
            Self::NoRoute => return "route_not_found".into(),
            Self::NoCluster { .. } => return "cluster_not_found".into(),
            Self::NoHealthyUpstream => return "no_healthy_upstream".into(),
            Self::Maintenance => return "maintenance_mode".into(),
            Self::RouteTimeout => return "response_timeout".into(),
            Self::PerTryTimeout => return "upstream_per_try_timeout".into(),
            Self::PerTryIdleTimeout => return "upstream_per_try_idle_timeout".into(),
            Self::StreamIdle { .. } => return "stream_idle_timeout".into(),
            Self::MaxDuration { .. } => return "max_duration_timeout".into(),
            Self::RequestTimeout => return "request_overall_timeout".into(),
            Self::HeaderTimeout => return "request_header_timeout".into(),
            Self::Drained => return "downstream_local_disconnect".into(),
            Self::Internal => return "internal_error".into(),
            Self::Redirected => return "internal_redirect".into(),
            Self::Malformed => return "http2.invalid.header.field".into(),
            Self::Overflow => "overflow",
            Self::Connect => "remote_connection_failure",
            Self::ConnectTimeout => "connection_timeout",
            Self::UpstreamClosed => "connection_termination",
            Self::HandedBack => "partial_post_replay",
            Self::UpstreamProtocol => "protocol_error",
            Self::UpstreamReset => "remote_reset",
            Self::UpstreamRefused => "remote_refused_stream_reset",
        };
        let when = if begun { "after" } else { "before" };
        format!("upstream_reset_{when}_response_started{{{reason}}}").into()
    }
}

impl From<Refused> for Failure {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Overflow => Self::Overflow,
            Refused::Connect(_) => Self::Connect,
            Refused::Timeout => Self::ConnectTimeout,
        }
    }
}

/// From a client's body.
impl From<FramingError> for Failure {
    fn from(error: FramingError) -> Self {
        match error {
            FramingError::Truncated => Self::DownstreamClosed,
            other => Self::Refused(other.refusal()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_texts_are_those_that_clients_and_logs_know() {
        let told = Failure::Connect.told().unwrap();
        assert_eq!(told.status, 503);
        assert_eq!(
            told.body,
            "upstream connect error or disconnect/reset before headers. reset reason: remote connection failure"
        );
        assert_eq!(
            Failure::UpstreamClosed.details(true),
            "upstream_reset_after_response_started{connection_termination}"
        );
        assert_eq!(Failure::UpstreamProtocol.told().map(|told| told.status), Some(502));
        assert_eq!(Failure::StreamIdle { request_complete: false }.told().map(|told| told.status), Some(408));
        assert_eq!(Failure::DownstreamClosed.told(), None);
    }
}
