//! `envoy.config.core.v3.Http2ProtocolOptions`, of either side.

use envoy_types::pb::envoy::config::core::v3 as api;

use super::context::Context;
use super::values;
use crate::config::model::{Http2Floods, Http2Keepalive, Http2Options};

const JITTER_PERCENT: u32 = 15;

pub(super) fn convert(cx: &mut Context, message: api::Http2ProtocolOptions) -> Http2Options {
    let api::Http2ProtocolOptions {
        hpack_table_size,
        max_concurrent_streams,
        initial_stream_window_size,
        initial_connection_window_size,
        allow_connect,
        allow_metadata,
        max_outbound_frames,
        max_outbound_control_frames,
        max_consecutive_inbound_frames_with_empty_payload,
        max_inbound_priority_frames_per_stream,
        max_inbound_window_update_frames_per_data_frame_sent,
        stream_error_on_invalid_http_messaging,
        override_stream_error_on_invalid_http_message,
        custom_settings_parameters,
        connection_keepalive,
        max_metadata_size,
        use_oghttp2_codec,
        enable_huffman_encoding,
        max_header_field_size_kb,
        disallow_obs_text,
        stream_reset_burst,
        stream_reset_rate,
    } = message;
    refuse!(cx; allow_metadata, custom_settings_parameters);
    // What waits to be written is bounded by what the peer may make us send: pings, settings and resets are counted as they come.
    ignore!(cx; max_outbound_frames, max_metadata_size, use_oghttp2_codec, enable_huffman_encoding,
        max_header_field_size_kb, disallow_obs_text, stream_reset_burst, stream_reset_rate);
    let default = Http2Options::default();
    let number = |value, default| values::number(value).unwrap_or(default);
    let floods = default.floods;
    Http2Options {
        hpack_table_size: number(&hpack_table_size, default.hpack_table_size),
        max_concurrent_streams: number(&max_concurrent_streams, default.max_concurrent_streams),
        initial_stream_window: number(&initial_stream_window_size, default.initial_stream_window),
        initial_connection_window: number(&initial_connection_window_size, default.initial_connection_window),
        allow_connect,
        stream_error_on_invalid: match override_stream_error_on_invalid_http_message {
            Some(value) => value.value,
            None => stream_error_on_invalid_http_messaging,
        },
        keepalive: connection_keepalive.and_then(|message| cx.at("connection_keepalive", |cx| keepalive(cx, message))),
        floods: Http2Floods {
            empty_frames: number(&max_consecutive_inbound_frames_with_empty_payload, floods.empty_frames),
            priority_per_stream: number(&max_inbound_priority_frames_per_stream, floods.priority_per_stream),
            window_updates_per_data: number(
                &max_inbound_window_update_frames_per_data_frame_sent,
                floods.window_updates_per_data,
            ),
            control_frames: number(&max_outbound_control_frames, floods.control_frames),
        },
    }
}

fn keepalive(cx: &mut Context, message: api::KeepaliveSettings) -> Option<Http2Keepalive> {
    let api::KeepaliveSettings { interval, timeout, interval_jitter, connection_idle_interval } = message;
    let timeout = values::duration(cx, "timeout", &timeout)?;
    Some(Http2Keepalive {
        interval: values::duration(cx, "interval", &interval),
        timeout,
        jitter: interval_jitter.map_or(JITTER_PERCENT, |percent| percent.value.clamp(0.0, 100.0) as u32),
        idle: values::duration(cx, "connection_idle_interval", &connection_idle_interval),
    })
}
