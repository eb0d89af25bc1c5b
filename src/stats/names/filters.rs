//! What HTTP filters count, each below the scope of its connection manager.

use super::{Counter, Gauge, Scope};

stats! {
    /// `http.<prefix>.health_check.`
    HealthCheckStats {
        counter cached_response = "health_check.cached_response",
        counter degraded = "health_check.degraded",
        counter failed = "health_check.failed",
        counter failed_cluster_empty = "health_check.failed_cluster_empty",
        counter failed_cluster_not_found = "health_check.failed_cluster_not_found",
        counter failed_cluster_unhealthy = "health_check.failed_cluster_unhealthy",
        counter ok = "health_check.ok",
        counter request_total = "health_check.request_total",
    }
}

stats! {
    /// `http.<prefix>.composite.`
    CompositeStats {
        counter filter_delegation_error = "composite.filter_delegation_error",
        counter filter_delegation_success = "composite.filter_delegation_success",
    }
}

stats! {
    /// `http.<prefix>.cors.`
    CorsStats {
        counter origin_invalid = "cors.origin_invalid",
        counter origin_valid = "cors.origin_valid",
    }
}

stats! {
    /// `http.<prefix>.csrf.`
    CsrfStats {
        counter missing_source_origin = "csrf.missing_source_origin",
        counter request_invalid = "csrf.request_invalid",
        counter request_valid = "csrf.request_valid",
    }
}

stats! {
    /// `http.<prefix>.set_metadata.`
    SetMetadataStats {
        counter overwrite_denied = "set_metadata.overwrite_denied",
    }
}

stats! {
    /// `http.<prefix>.fault.`
    FaultStats {
        counter aborts_injected = "fault.aborts_injected",
        gauge active_faults = "fault.active_faults",
        counter delays_injected = "fault.delays_injected",
        counter faults_overflow = "fault.faults_overflow",
        counter response_rl_injected = "fault.response_rl_injected",
    }
}

/// The scope of what a fault filter counts of one caller (`x-envoy-downstream-service-cluster`), from the scope of its manager.
pub fn fault_caller(manager: &Scope, caller: &str) -> Scope {
    manager.scope("fault").scope(caller)
}

stats! {
    /// `http.<prefix>.fault.<caller>.`
    FaultCallerStats {
        counter aborts_injected,
        counter delays_injected,
    }
}
