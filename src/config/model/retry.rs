//! When a request is sent again.

use std::time::Duration;

use super::{HeaderMatch, Keyed};

/// How a route's requests are tried: `retry_policy` and what belongs to it, the virtual host's where the route has none.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Tries {
    /// `retry_policy`.
    pub policy: RetryPolicy,
    /// `include_request_attempt_count` of the virtual host.
    pub count_in_request: bool,
    /// `include_attempt_count_in_response` of the virtual host.
    pub count_in_response: bool,
    /// `include_is_timeout_retry_header` of the virtual host.
    pub timeout_in_request: bool,
    /// `request_body_buffer_limit`: bytes of a body that are kept for another try.
    pub body_limit: Option<u64>,
    /// `per_request_buffer_limit_bytes`: the same, but never more than the listener's `per_connection_buffer_limit_bytes`.
    pub request_limit: Option<u32>,
    /// `hedge_policy.hedge_on_per_try_timeout`.
    pub hedges: bool,
}

impl Tries {
    /// Bytes of a body that are kept for another try, under a listener with this `per_connection_buffer_limit_bytes`.
    pub fn buffer_limit(&self, listener: u32) -> u64 {
        self.body_limit.unwrap_or_else(|| u64::from(self.request_limit.unwrap_or(listener).min(listener)))
    }
}

/// `envoy.config.route.v3.RetryPolicy`. The default is that of a route without one: no retries.
#[derive(Clone, Debug, PartialEq)]
pub struct RetryPolicy {
    /// `retry_on`.
    pub on: RetryOn,
    /// `num_retries`, default 1.
    pub retries: u32,
    /// `per_try_timeout`.
    pub per_try_timeout: Option<Duration>,
    /// `per_try_idle_timeout`.
    pub per_try_idle_timeout: Option<Duration>,
    /// `retry_back_off.base_interval`, default 25 ms.
    pub base_interval: Duration,
    /// `retry_back_off.max_interval`, default ten times the base.
    pub max_interval: Duration,
    /// `upstream.base_retry_backoff_ms`: the base where no `retry_back_off` is given and a runtime value is; else 0.
    pub base_ms: Keyed<u64>,
    /// `rate_limited_retry_back_off.reset_headers`, in their order.
    pub reset_headers: Vec<ResetHeader>,
    /// `rate_limited_retry_back_off.max_interval`, default 5 min: what a host asks for beyond it does not count.
    pub reset_max_interval: Duration,
    /// `retriable_status_codes`.
    pub status_codes: Vec<u32>,
    /// `retriable_headers` of responses.
    pub headers: Vec<HeaderMatch>,
    /// `retriable_request_headers`: where there are some, one must match.
    pub request_headers: Vec<HeaderMatch>,
    /// `retry_host_predicate`: previous_hosts.
    pub avoid_previous_hosts: bool,
    /// `host_selection_retry_max_attempts`, default 1.
    pub host_attempts: u32,
}

impl RetryPolicy {
    /// The interval that the first pause is drawn from, and the longest.
    pub fn intervals(&self) -> (Duration, Duration) {
        match self.base_ms.now() {
            0 => (self.base_interval, self.max_interval),
            ms => (Duration::from_millis(ms), Duration::from_millis(ms.saturating_mul(10))),
        }
    }
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            on: RetryOn::default(),
            retries: 1,
            per_try_timeout: None,
            per_try_idle_timeout: None,
            base_interval: Duration::from_millis(25),
            max_interval: Duration::from_millis(250),
            base_ms: 0.into(),
            reset_headers: Vec::new(),
            reset_max_interval: Duration::from_secs(300),
            status_codes: Vec::new(),
            headers: Vec::new(),
            request_headers: Vec::new(),
            avoid_previous_hosts: false,
            host_attempts: 1,
        }
    }
}

/// A header that says when a host will take requests again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResetHeader {
    /// Lower case.
    pub name: String,
    /// Seconds since 1970 and not from now.
    pub is_timestamp: bool,
}

/// A set of conditions (`retry_on`, `x-envoy-retry-on`, `x-envoy-retry-grpc-on`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RetryOn(u32);

impl RetryOn {
    /// `5xx`.
    pub const STATUS_5XX: Self = Self(1);
    /// `gateway-error`.
    pub const GATEWAY_ERROR: Self = Self(1 << 1);
    /// `reset`.
    pub const RESET: Self = Self(1 << 2);
    /// `reset-before-request`.
    pub const RESET_BEFORE_REQUEST: Self = Self(1 << 3);
    /// `connect-failure`.
    pub const CONNECT_FAILURE: Self = Self(1 << 4);
    /// `envoy-ratelimited`.
    pub const ENVOY_RATELIMITED: Self = Self(1 << 5);
    /// `retriable-4xx`.
    pub const RETRIABLE_4XX: Self = Self(1 << 6);
    /// `refused-stream`: HTTP/2 hosts say it.
    pub const REFUSED_STREAM: Self = Self(1 << 7);
    /// `retriable-status-codes`.
    pub const RETRIABLE_STATUS_CODES: Self = Self(1 << 8);
    /// `retriable-headers`.
    pub const RETRIABLE_HEADERS: Self = Self(1 << 9);
    /// `http3-post-connect-failure`: HTTP/3 hosts alone can.
    pub const HTTP3_POST_CONNECT_FAILURE: Self = Self(1 << 10);
    /// `cancelled`.
    pub const GRPC_CANCELLED: Self = Self(1 << 11);
    /// `deadline-exceeded`.
    pub const GRPC_DEADLINE_EXCEEDED: Self = Self(1 << 12);
    /// `resource-exhausted`.
    pub const GRPC_RESOURCE_EXHAUSTED: Self = Self(1 << 13);
    /// `internal`.
    pub const GRPC_INTERNAL: Self = Self(1 << 14);
    /// `unavailable`.
    pub const GRPC_UNAVAILABLE: Self = Self(1 << 15);

    const NAMES: [(&'static str, Self); 11] = [
        ("5xx", Self::STATUS_5XX),
        ("gateway-error", Self::GATEWAY_ERROR),
        ("reset", Self::RESET),
        ("reset-before-request", Self::RESET_BEFORE_REQUEST),
        ("connect-failure", Self::CONNECT_FAILURE),
        ("envoy-ratelimited", Self::ENVOY_RATELIMITED),
        ("retriable-4xx", Self::RETRIABLE_4XX),
        ("refused-stream", Self::REFUSED_STREAM),
        ("retriable-status-codes", Self::RETRIABLE_STATUS_CODES),
        ("retriable-headers", Self::RETRIABLE_HEADERS),
        ("http3-post-connect-failure", Self::HTTP3_POST_CONNECT_FAILURE),
    ];
    const GRPC_NAMES: [(&'static str, Self); 5] = [
        ("cancelled", Self::GRPC_CANCELLED),
        ("deadline-exceeded", Self::GRPC_DEADLINE_EXCEEDED),
        ("resource-exhausted", Self::GRPC_RESOURCE_EXHAUSTED),
        ("internal", Self::GRPC_INTERNAL),
        ("unavailable", Self::GRPC_UNAVAILABLE),
    ];

    /// A condition of `x-envoy-retry-on`.
    pub fn http(token: &str) -> Option<Self> {
        Self::NAMES.iter().find(|(name, _)| *name == token).map(|(_, on)| *on)
    }

    /// A condition of `x-envoy-retry-grpc-on`.
    pub fn grpc(token: &str) -> Option<Self> {
        Self::GRPC_NAMES.iter().find(|(name, _)| *name == token).map(|(_, on)| *on)
    }

    /// Both sets together.
    #[must_use]
    pub const fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether the sets have a condition in common.
    pub const fn any(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// Whether there is no condition at all.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }
}
