//! What is done to a request's target before anybody looks at it.

/// Paths and hosts of a connection manager's requests, and what the upstream is told of how they came.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TargetRules {
    /// `normalize_path` (RFC 3986, 6.2.2).
    pub normalize_path: bool,
    /// `merge_slashes`.
    pub merge_slashes: bool,
    /// `path_with_escaped_slashes_action`.
    pub escaped_slashes: EscapedSlashes,
    /// `strip_matching_host_port`, `strip_any_host_port`.
    pub strip_port: StripPort,
    /// `strip_trailing_host_dot`.
    pub strip_trailing_dot: bool,
    /// `append_x_forwarded_port`.
    pub forwarded_port: bool,
    /// `scheme_header_transformation.scheme_to_overwrite`.
    pub scheme: Option<ForcedScheme>,
}

/// `path_with_escaped_slashes_action`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EscapedSlashes {
    /// They pass.
    #[default]
    Keep,
    /// 400.
    Reject,
    /// 307 to the path with real slashes.
    Redirect,
    /// The path goes on with real slashes.
    Forward,
}

/// Which ports are taken off a request's host.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StripPort {
    /// None.
    #[default]
    No,
    /// That of the listener.
    Matching,
    /// Every one.
    Any,
}

/// `scheme_to_overwrite`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ForcedScheme {
    /// `http`.
    Http,
    /// `https`.
    Https,
}
