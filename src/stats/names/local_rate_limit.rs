//! What the local rate limit counts.

use super::{Counter, Scope};

stats! {
    /// `<stat_prefix>.http_local_rate_limit.`
    LocalRateLimitStats {
        counter enabled,
        counter enforced,
        counter ok,
        counter rate_limited,
        counter shadow_mode,
    }
}
