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
    /// `RL`: a rate limit was reached.
    RateLimited,
    /// `LH`: the proxy was told to fail health checks.
    FailedLocalHealthCheck,
    /// `DI`: the request was delayed on purpose.
    DelayInjected,
    /// `FI`: the request was ended on purpose.
    FaultInjected,
    /// `URX`: it was tried as often as is allowed.
    UpstreamRetryLimitExceeded,
    /// `UMSDR`: the cluster's limit on request and response together passed.
    UpstreamMaxStreamDurationReached,
    /// `DR`: the client reset the stream.
    DownstreamRemoteReset,
    /// `IH`: a header that asks something of the router says nothing sensible.
    InvalidEnvoyRequestHeaders,
}

impl Flag {
    /// All of them, in the order in which Envoy's access log prints them.
    pub const ALL: [Self; 22] = [
        Self::FailedLocalHealthCheck,
        Self::NoHealthyUpstream,
        Self::UpstreamRequestTimeout,
        Self::UpstreamRemoteReset,
        Self::UpstreamConnectionFailure,
        Self::UpstreamConnectionTermination,
        Self::UpstreamOverflow,
        Self::NoRouteFound,
        Self::DelayInjected,
        Self::FaultInjected,
        Self::RateLimited,
        Self::DownstreamConnectionTermination,
        Self::UpstreamRetryLimitExceeded,
        Self::StreamIdleTimeout,
        Self::InvalidEnvoyRequestHeaders,
        Self::DownstreamProtocolError,
        Self::DurationTimeout,
        Self::UpstreamMaxStreamDurationReached,
        Self::UpstreamProtocolError,
        Self::NoClusterFound,
        Self::OverloadManager,
        Self::DownstreamRemoteReset,
    ];

    /// Its bit in a set of flags. Bits are of one process: another one may count otherwise.
    pub const fn bit(self) -> u64 {
        1 << self as u32
    }

    /// The flag with this short name.
    pub fn by_short(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|flag| flag.short() == name)
    }

    /// The name in words (`%RESPONSE_FLAGS_LONG%`).
    pub const fn long(self) -> &'static str {
        match self {
            Self::NoHealthyUpstream => "NoHealthyUpstream",
            Self::UpstreamRequestTimeout => "UpstreamRequestTimeout",
            Self::UpstreamConnectionFailure => "UpstreamConnectionFailure",
            Self::UpstreamConnectionTermination => "UpstreamConnectionTermination",
            Self::UpstreamOverflow => "UpstreamOverflow",
            Self::UpstreamProtocolError => "UpstreamProtocolError",
            Self::UpstreamRemoteReset => "UpstreamRemoteReset",
            Self::NoRouteFound => "NoRouteFound",
            Self::NoClusterFound => "NoClusterFound",
            Self::DownstreamConnectionTermination => "DownstreamConnectionTermination",
            Self::DownstreamProtocolError => "DownstreamProtocolError",
            Self::StreamIdleTimeout => "StreamIdleTimeout",
            Self::DurationTimeout => "DurationTimeout",
            Self::OverloadManager => "OverloadManagerTerminated",
            Self::RateLimited => "RateLimited",
            Self::FailedLocalHealthCheck => "FailedLocalHealthCheck",
            Self::DelayInjected => "DelayInjected",
            Self::FaultInjected => "FaultInjected",
            Self::UpstreamRetryLimitExceeded => "UpstreamRetryLimitExceeded",
            Self::UpstreamMaxStreamDurationReached => "UpstreamMaxStreamDurationReached",
            Self::DownstreamRemoteReset => "DownstreamRemoteReset",
            Self::InvalidEnvoyRequestHeaders => "InvalidEnvoyRequestHeaders",
        }
    }

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
            Self::RateLimited => "RL",
            Self::FailedLocalHealthCheck => "LH",
            Self::DelayInjected => "DI",
            Self::FaultInjected => "FI",
            Self::UpstreamRetryLimitExceeded => "URX",
            Self::UpstreamMaxStreamDurationReached => "UMSDR",
            Self::DownstreamRemoteReset => "DR",
            Self::InvalidEnvoyRequestHeaders => "IH",
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
