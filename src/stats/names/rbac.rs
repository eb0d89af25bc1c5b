//! What role-based access control counts.

use super::{Counter, Scope};

stats! {
    /// `http.<prefix>.rbac.[<rules_stat_prefix>.]`, and per policy `policy.<name>.` below it.
    RbacStats {
        counter allowed,
        counter denied,
    }
}

stats! {
    /// `http.<prefix>.rbac.[<shadow_rules_stat_prefix>.]`, and per policy `policy.<name>.` below it.
    RbacShadowStats {
        counter shadow_allowed,
        counter shadow_denied,
    }
}
