//! HTTP/2 options, downstream and upstream.

use std::time::Duration;

/// `envoy.config.core.v3.Http2ProtocolOptions`, with Envoy's defaults in force.
#[derive(Clone, Debug, PartialEq)]
pub struct Http2Options {
    /// `hpack_table_size` in bytes, default 4096.
    pub hpack_table_size: u32,
    /// `max_concurrent_streams`, default 1024: what the peer may open; upstream, also what we open at most on one connection.
    pub max_concurrent_streams: u32,
    /// `initial_stream_window_size` in bytes, default 16 MiB.
    pub initial_stream_window: u32,
    /// `initial_connection_window_size` in bytes, default 24 MiB.
    pub initial_connection_window: u32,
    /// `allow_connect`: extended CONNECT (RFC 8441).
    pub allow_connect: bool,
    /// `override_stream_error_on_invalid_http_message`: a malformed message ends its stream and not the connection.
    pub stream_error_on_invalid: bool,
    /// `connection_keepalive`: pings.
    pub keepalive: Option<Http2Keepalive>,
    /// What a peer may send of frames that cost more to take than to send.
    pub floods: Http2Floods,
}

/// `envoy.config.core.v3.KeepaliveSettings`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Http2Keepalive {
    /// `interval` between pings; `None`: only after [`Self::idle`].
    pub interval: Option<Duration>,
    /// `timeout`: an answer that takes longer ends the connection.
    pub timeout: Duration,
    /// `interval_jitter`: up to so many percent longer, default 15.
    pub jitter: u32,
    /// `connection_idle_interval`: a stream that is opened after so long without one begins with a ping.
    pub idle: Option<Duration>,
}

/// Limits on inbound frames (CVE-2019-9511 and its kin, CVE-2023-44487).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Http2Floods {
    /// `max_consecutive_inbound_frames_with_empty_payload`, default 1.
    pub empty_frames: u32,
    /// `max_inbound_priority_frames_per_stream`, default 100.
    pub priority_per_stream: u32,
    /// `max_inbound_window_update_frames_per_data_frame_sent`, default 10.
    pub window_updates_per_data: u32,
    /// `max_outbound_control_frames`, default 1000: answers to pings, settings and resets that may wait to be sent; here, how many
    /// frames that want such an answer may come in one second.
    pub control_frames: u32,
}

impl Default for Http2Options {
    fn default() -> Self {
        Self {
            hpack_table_size: 4096,
            max_concurrent_streams: 1024,
            initial_stream_window: 16 << 20,
            initial_connection_window: 24 << 20,
            allow_connect: false,
            stream_error_on_invalid: false,
            keepalive: None,
            floods: Http2Floods {
                empty_frames: 1,
                priority_per_stream: 100,
                window_updates_per_data: 10,
                control_frames: 1000,
            },
        }
    }
}
