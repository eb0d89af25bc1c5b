//! The names that the rules know.

use http::HeaderName;

macro_rules! names {
    ($($(#[$doc:meta])* $constant:ident = $text:literal;)*) => {
        $($(#[$doc])* pub static $constant: HeaderName = HeaderName::from_static($text);)*
    };
}

names! {
    /// The way a request came, address by address.
    X_FORWARDED_FOR = "x-forwarded-for";
    /// `http` or `https`, as the client spoke to the edge.
    X_FORWARDED_PROTO = "x-forwarded-proto";
    /// The port that the client came to.
    X_FORWARDED_PORT = "x-forwarded-port";
    /// The certificates that clients have shown on the way.
    X_FORWARDED_CLIENT_CERT = "x-forwarded-client-cert";
    /// One id for a request on all its hops.
    X_REQUEST_ID = "x-request-id";
    /// `true` for a request from inside.
    X_ENVOY_INTERNAL = "x-envoy-internal";
    /// The trusted client address of a request from outside.
    X_ENVOY_EXTERNAL_ADDRESS = "x-envoy-external-address";
    /// `node.cluster` of the proxy that asks.
    X_ENVOY_DOWNSTREAM_SERVICE_CLUSTER = "x-envoy-downstream-service-cluster";
    /// `node.id` of the proxy that asks.
    X_ENVOY_DOWNSTREAM_SERVICE_NODE = "x-envoy-downstream-service-node";
    /// How long the caller will wait, in milliseconds.
    X_ENVOY_EXPECTED_RQ_TIMEOUT_MS = "x-envoy-expected-rq-timeout-ms";
    /// How long the upstream took, in milliseconds.
    X_ENVOY_UPSTREAM_SERVICE_TIME = "x-envoy-upstream-service-time";
    /// How many tries a request has had, this one included.
    X_ENVOY_ATTEMPT_COUNT = "x-envoy-attempt-count";
    /// `true` on a retry because the try before took too long.
    X_ENVOY_IS_TIMEOUT_RETRY = "x-envoy-is-timeout-retry";
    /// The answer of a rate limiter in another proxy.
    X_ENVOY_RATELIMITED = "x-envoy-ratelimited";
    /// Conditions for a retry, of a request from inside.
    X_ENVOY_RETRY_ON = "x-envoy-retry-on";
    /// gRPC conditions for a retry.
    X_ENVOY_RETRY_GRPC_ON = "x-envoy-retry-grpc-on";
    /// How many retries there may be.
    X_ENVOY_MAX_RETRIES = "x-envoy-max-retries";
    /// Statuses to retry.
    X_ENVOY_RETRIABLE_STATUS_CODES = "x-envoy-retriable-status-codes";
    /// Response headers to retry for.
    X_ENVOY_RETRIABLE_HEADER_NAMES = "x-envoy-retriable-header-names";
    /// A second try beside the first one.
    X_ENVOY_HEDGE_ON_PER_TRY_TIMEOUT = "x-envoy-hedge-on-per-try-timeout";
    /// The route's timeout, in milliseconds.
    X_ENVOY_UPSTREAM_RQ_TIMEOUT_MS = "x-envoy-upstream-rq-timeout-ms";
    /// The timeout of one try, in milliseconds.
    X_ENVOY_UPSTREAM_RQ_PER_TRY_TIMEOUT_MS = "x-envoy-upstream-rq-per-try-timeout-ms";
    /// `true`: the host is a canary.
    X_ENVOY_UPSTREAM_CANARY = "x-envoy-upstream-canary";
    /// A name under which the response is counted once more.
    X_ENVOY_UPSTREAM_ALT_STAT_NAME = "x-envoy-upstream-alt-stat-name";
    /// On a timeout the client gets 204.
    X_ENVOY_UPSTREAM_RQ_TIMEOUT_ALT_RESPONSE = "x-envoy-upstream-rq-timeout-alt-response";
    /// `true` on a reply because of a circuit breaker.
    X_ENVOY_OVERLOADED = "x-envoy-overloaded";
}

/// Who may pass a header on to the upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    /// Everybody.
    End,
    /// Nobody: it is about this connection.
    Hop,
    /// `te`: only `trailers` passes.
    Te,
    /// `content-type`: passes, and tells what the client speaks.
    ContentType,
    /// `expect`: passes unless we answered it.
    Expect,
    /// Who has shown a certificate, and what is configured for them.
    ClientCert,
    /// Only requests that are internal.
    Internal,
    /// Only requests that are internal, or come from a trusted hop.
    Edge,
    /// Everybody; the rules ask for it again.
    Known(Known),
}

/// Headers that pass and that the rules write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Known {
    /// `x-forwarded-for`.
    ForwardedFor,
    /// `x-forwarded-proto`.
    ForwardedProto,
    /// `x-request-id`.
    RequestId,
    /// `x-envoy-external-address`.
    ExternalAddress,
}

/// Which of them a request has.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Present(u8);

impl Present {
    pub(super) fn note(&mut self, known: Known) {
        self.0 |= 1 << known as u8;
    }

    pub(super) fn has(self, known: Known) -> bool {
        self.0 & 1 << known as u8 != 0
    }
}

/// The class of a request header; names are in lower case.
pub(super) fn classify(name: &HeaderName) -> Class {
    let name = name.as_str();
    if let Some(rest) = name.strip_prefix("x-envoy-") {
        return match rest {
            "retry-on"
            | "retry-grpc-on"
            | "max-retries"
            | "retriable-status-codes"
            | "retriable-header-names"
            | "upstream-alt-stat-name"
            | "upstream-rq-timeout-ms"
            | "upstream-rq-per-try-timeout-ms"
            | "upstream-rq-timeout-alt-response"
            | "upstream-stream-duration-ms"
            | "expected-rq-timeout-ms"
            | "hedge-on-per-try-timeout"
            | "force-trace"
            | "ip-tags"
            | "original-url"
            | "internal" => Class::Internal,
            "decorator-operation" | "downstream-service-cluster" | "downstream-service-node" | "original-path" => {
                Class::Edge
            }
            "external-address" => Class::Known(Known::ExternalAddress),
            _ => Class::End,
        };
    }
    match name {
        "connection" | "keep-alive" | "proxy-connection" | "upgrade" | "transfer-encoding" | "http2-settings" => {
            Class::Hop
        }
        "x-forwarded-client-cert" => Class::ClientCert,
        "x-forwarded-for" => Class::Known(Known::ForwardedFor),
        "x-forwarded-proto" => Class::Known(Known::ForwardedProto),
        "x-request-id" => Class::Known(Known::RequestId),
        "content-type" => Class::ContentType,
        "te" => Class::Te,
        "expect" => Class::Expect,
        _ => Class::End,
    }
}
