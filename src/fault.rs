//! The vocabulary of things going wrong on the request path.
//!
//! Every error maps to a [`Fault`]: whose fault it was, whether the request may be tried again, and the response flag that
//! access logs print. Local replies, retries, outlier detection, statistics and access logs read the same value, so they
//! cannot disagree. Nothing here does anything; layers above decide.

/// Whose fault it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Side {
    /// The client, or the network to it.
    Downstream,
    /// The upstream host, or the network to it.
    Upstream,
    /// This proxy: its configuration, its limits.
    Local,
}

/// Whether the same request may be sent again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Retry {
    /// Nothing of the request can have been executed.
    Safe,
    /// The upstream may have executed it: only an idempotent request may be sent again.
    IfIdempotent,
    /// A retry would meet the same fate.
    Never,
}

/// Envoy's response flags, with the short names that access logs print (`%RESPONSE_FLAGS%`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Flag {
    /// `UH`: no healthy upstream host.
    NoHealthyUpstream,
    /// `UT`: the route timeout passed.
    UpstreamRequestTimeout,
    /// `UF`: the connection to the upstream could not be made.
    UpstreamConnectionFailure,
    /// `UC`: the upstream closed the connection.
    UpstreamConnectionTermination,
    /// `UO`: a circuit breaker was open.
    UpstreamOverflow,
    /// `UPE`: the upstream broke the protocol.
    UpstreamProtocolError,
    /// `UR`: the upstream reset the stream.
    UpstreamRemoteReset,
    /// `NR`: no route matched.
    NoRouteFound,
    /// `NC`: the route's cluster does not exist.
    NoClusterFound,
    /// `DC`: the client went away.
    DownstreamConnectionTermination,
    /// `DPE`: the client broke the protocol.
    DownstreamProtocolError,
    /// `SI`: the stream was idle for too long.
    StreamIdleTimeout,
    /// `DT`: the stream or connection lived too long.
    DurationTimeout,
    /// `OM`: the overload manager ended it.
    OverloadManager,
    /// `URX`: no retry was left.
    UpstreamRetryLimitExceeded,
}

impl Flag {
    /// The short name, as Envoy's access log prints it.
    pub const fn short(self) -> &'static str {
        match self {
            Self::NoHealthyUpstream => "UH",
            Self::UpstreamRequestTimeout => "UT",
            Self::UpstreamConnectionFailure => "UF",
            Self::UpstreamConnectionTermination => "UC",
            Self::UpstreamOverflow => "UO",
            Self::UpstreamProtocolError => "UPE",
            Self::UpstreamRemoteReset => "UR",
            Self::NoRouteFound => "NR",
            Self::NoClusterFound => "NC",
            Self::DownstreamConnectionTermination => "DC",
            Self::DownstreamProtocolError => "DPE",
            Self::StreamIdleTimeout => "SI",
            Self::DurationTimeout => "DT",
            Self::OverloadManager => "OM",
            Self::UpstreamRetryLimitExceeded => "URX",
        }
    }
}

/// What every error on the request path comes down to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Fault {
    /// Whose fault.
    pub side: Side,
    /// May the request be sent again.
    pub retry: Retry,
    /// The response flag; `None` where Envoy sets none (a malformed `expect`, a body that is too large).
    pub flag: Option<Flag>,
}

impl Fault {
    /// A fault with a flag.
    pub const fn new(side: Side, retry: Retry, flag: Flag) -> Self {
        Self { side, retry, flag: Some(flag) }
    }
}
