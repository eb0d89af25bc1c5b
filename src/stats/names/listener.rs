//! What is counted of listeners.

use super::{Counter, Gauge, Histogram, Scope};

stats! {
    /// `listener_manager.`
    ListenerManagerStats {
        counter listener_added,
        counter listener_create_failure,
        counter listener_create_success,
        counter listener_in_place_updated,
        counter listener_modified,
        counter listener_removed,
        counter listener_stopped,
        gauge_latest total_filter_chains_draining,
        gauge_latest total_listeners_active,
        gauge_latest total_listeners_draining,
        gauge_latest total_listeners_warming,
        gauge_latest workers_pinned,
        gauge_latest workers_started,
    }
}

stats! {
    /// `listener.<address or stat_prefix>.`
    ListenerStats {
        gauge downstream_cx_active,
        counter downstream_cx_destroy,
        counter downstream_cx_overflow,
        counter downstream_cx_overload_reject,
        counter downstream_cx_total,
        counter downstream_cx_transport_socket_connect_timeout,
        counter downstream_global_cx_overflow,
        counter downstream_listener_filter_error,
        counter downstream_listener_filter_remote_close,
        gauge downstream_pre_cx_active,
        counter downstream_pre_cx_timeout,
        counter extension_config_missing,
        counter network_extension_config_missing,
        counter no_filter_chain_match,
        histogram connections_accepted_per_socket_event,
        histogram downstream_cx_length_ms,
    }
}

stats! {
    /// `listener.<address>.ssl.`
    SslStats {
        counter connection_error = "ssl.connection_error",
        counter fail_verify_cert_hash = "ssl.fail_verify_cert_hash",
        counter fail_verify_error = "ssl.fail_verify_error",
        counter fail_verify_no_cert = "ssl.fail_verify_no_cert",
        counter fail_verify_san = "ssl.fail_verify_san",
        counter handshake = "ssl.handshake",
        counter no_certificate = "ssl.no_certificate",
        counter ocsp_staple_failed = "ssl.ocsp_staple_failed",
        counter ocsp_staple_omitted = "ssl.ocsp_staple_omitted",
        counter ocsp_staple_requests = "ssl.ocsp_staple_requests",
        counter ocsp_staple_responses = "ssl.ocsp_staple_responses",
        counter session_reused = "ssl.session_reused",
    }
}

stats! {
    /// `tls_inspector.`: what clients said first.
    TlsInspectorStats {
        counter alpn_found = "tls_inspector.alpn_found",
        counter alpn_not_found = "tls_inspector.alpn_not_found",
        counter client_hello_too_large = "tls_inspector.client_hello_too_large",
        counter sni_found = "tls_inspector.sni_found",
        counter sni_not_found = "tls_inspector.sni_not_found",
        counter tls_found = "tls_inspector.tls_found",
        counter tls_not_found = "tls_inspector.tls_not_found",
        histogram bytes_processed = "tls_inspector.bytes_processed",
    }
}

stats! {
    /// `listener.<address>.worker_<n>.`
    ListenerWorkerStats {
        gauge downstream_cx_active,
        counter downstream_cx_total,
    }
}
