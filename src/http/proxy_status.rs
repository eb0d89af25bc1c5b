//! `proxy-status` (RFC 9209): why a response is not what the client hoped for, as Envoy says it (`proxy_status_config`).
//!
//! What a response is said to suffer from follows from its flags, so that it needs no state of its own; a response without a fault has no such header, and where
//! nothing is configured nothing is looked at.

use http::{HeaderName, HeaderValue, StatusCode};

use super::record::Record;
use crate::codec::head::ResponseHead;
use crate::config::model::ProxyStatus;
use crate::fault::Flag;

const PROXY_STATUS: HeaderName = HeaderName::from_static("proxy-status");

/// The errors of RFC 9209, 2.3, that there can be here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    DestinationNotFound,
    DestinationUnavailable,
    ConnectionRefused,
    ConnectionTerminated,
    ConnectionLimitReached,
    HttpResponseTimeout,
    HttpProtocolError,
}

impl Kind {
    /// The first flag that says something, in Envoy's order.
    fn of(record: &Record) -> Option<Self> {
        const BY_FLAG: [(Flag, Kind); 14] = [
            (Flag::FailedLocalHealthCheck, Kind::DestinationUnavailable),
            (Flag::NoHealthyUpstream, Kind::DestinationUnavailable),
            (Flag::UpstreamRequestTimeout, Kind::HttpResponseTimeout),
            (Flag::UpstreamRemoteReset, Kind::ConnectionTerminated),
            (Flag::UpstreamConnectionFailure, Kind::ConnectionRefused),
            (Flag::UpstreamConnectionTermination, Kind::ConnectionTerminated),
            (Flag::UpstreamOverflow, Kind::ConnectionLimitReached),
            (Flag::NoRouteFound, Kind::DestinationNotFound),
            (Flag::RateLimited, Kind::ConnectionLimitReached),
            (Flag::UpstreamRetryLimitExceeded, Kind::DestinationUnavailable),
            (Flag::StreamIdleTimeout, Kind::HttpResponseTimeout),
            (Flag::UpstreamMaxStreamDurationReached, Kind::HttpResponseTimeout),
            (Flag::UpstreamProtocolError, Kind::HttpProtocolError),
            (Flag::NoClusterFound, Kind::DestinationUnavailable),
        ];
        BY_FLAG.into_iter().find(|(flag, _)| record.has_flag(*flag)).map(|(_, error)| error)
    }

    const fn name(self) -> &'static str {
        match self {
            Self::DestinationNotFound => "destination_not_found",
            Self::DestinationUnavailable => "destination_unavailable",
            Self::ConnectionRefused => "connection_refused",
            Self::ConnectionTerminated => "connection_terminated",
            Self::ConnectionLimitReached => "connection_limit_reached",
            Self::HttpResponseTimeout => "http_response_timeout",
            Self::HttpProtocolError => "http_protocol_error",
        }
    }

    /// The status that the RFC recommends.
    const fn status(self) -> StatusCode {
        match self {
            Self::DestinationNotFound => StatusCode::INTERNAL_SERVER_ERROR,
            Self::DestinationUnavailable | Self::ConnectionLimitReached => StatusCode::SERVICE_UNAVAILABLE,
            Self::ConnectionRefused | Self::ConnectionTerminated | Self::HttpProtocolError => StatusCode::BAD_GATEWAY,
            Self::HttpResponseTimeout => StatusCode::GATEWAY_TIMEOUT,
        }
    }
}

/// Says it in a response's head, behind what proxies before the host's have said.
pub(super) fn announce(config: &ProxyStatus, head: &mut ResponseHead, record: &Record) {
    let Some(error) = Kind::of(record) else { return };
    let mut text = format!("{}; error={}", config.name, error.name());
    let details = record.details();
    if config.details && !details.is_empty() {
        text += "; details=\"";
        text += &details.replace('\\', "\\\\").replace('"', "\\\"");
        let flags: Vec<&str> = Flag::ALL.into_iter().filter(|flag| record.has_flag(*flag)).map(Flag::short).collect();
        if config.flags && !flags.is_empty() {
            text += "; ";
            text += &flags.join(",");
        }
        text.push('"');
    }
    let name = PROXY_STATUS;
    let before = head.headers.get_all(&name).filter_map(|value| value.to_str().ok());
    let all = before.chain([text.as_str()]).collect::<Vec<_>>().join(", ");
    // Details are of our own making, and a name that no header can carry has been refused.
    if let Ok(value) = HeaderValue::try_from(all) {
        head.headers.set(name, value);
    }
    if config.sets_status {
        record.charge_unless_charged(head.status);
        head.status = error.status();
    }
}
