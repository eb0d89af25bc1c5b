//! What is counted of runtime values.

use super::{Counter, Gauge, Scope};

stats! {
    /// `runtime.`
    RuntimeStats {
        gauge_latest admin_overrides_active,
        gauge_latest deprecated_feature_seen_since_process_start,
        counter deprecated_feature_use,
        counter load_error,
        counter load_success,
        gauge_latest num_keys,
        gauge_latest num_layers,
        counter override_dir_exists,
        counter override_dir_not_exists,
    }
}
