//! Which lines of an access log are written.

use super::{LogHeader, LogType};
use crate::config::model::{Fraction, Keyed, MetadataPath, ValueMatch};
use crate::fault::Flag;

/// `envoy.config.accesslog.v3.AccessLogFilter`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogFilter {
    /// `status_code_filter`.
    StatusCode(Comparison),
    /// `duration_filter`, in milliseconds.
    Duration(Comparison),
    /// `not_health_check_filter`.
    NotHealthCheck,
    /// `runtime_filter`: a share of all lines.
    Share {
        /// How many.
        fraction: Keyed<Fraction>,
        /// By chance instead of by the request's id.
        independent: bool,
    },
    /// `and_filter`.
    And(Vec<LogFilter>),
    /// `or_filter`.
    Or(Vec<LogFilter>),
    /// `header_filter`.
    Header(LogHeaderMatch),
    /// `response_flag_filter`: one of these, or any at all.
    Flags(Option<Vec<Flag>>),
    /// `grpc_status_filter`.
    GrpcStatus {
        /// Codes.
        statuses: Vec<u32>,
        /// All but these.
        exclude: bool,
    },
    /// `metadata_filter`.
    Metadata {
        /// Where the value stands.
        at: MetadataPath,
        /// What it must be.
        value: ValueMatch,
        /// `match_if_key_not_found`: a line is written where there is no value.
        absent: bool,
    },
    /// `log_type_filter`.
    Types {
        /// The kinds of line.
        types: Vec<LogType>,
        /// All but these.
        exclude: bool,
    },
}

/// `envoy.config.accesslog.v3.ComparisonFilter`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Comparison {
    /// How.
    pub op: ComparisonOp,
    /// With what.
    pub value: Keyed<u32>,
}

/// `ComparisonFilter.Op`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ComparisonOp {
    /// Equal.
    Eq,
    /// Not less.
    Ge,
    /// Not more.
    Le,
    /// Not equal.
    Ne,
}

/// `envoy.config.route.v3.HeaderMatcher` over a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogHeaderMatch {
    /// Which header.
    pub name: LogHeader,
    /// What it must be.
    pub value: LogHeaderValue,
    /// `invert_match`.
    pub invert: bool,
    /// `treat_missing_header_as_empty`.
    pub missing_is_empty: bool,
}

/// What a header must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogHeaderValue {
    /// It is there, or is not.
    Present(bool),
    /// This text.
    Exact(String, Case),
    /// Begins so.
    Prefix(String, Case),
    /// Ends so.
    Suffix(String, Case),
    /// Has this in it.
    Contains(String, Case),
    /// The whole of it matches.
    Regex(String),
    /// A whole number from the first up to, and not with, the second.
    Range(i64, i64),
}

/// Whether case counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Case {
    /// It does.
    Sensitive,
    /// `ignore_case`.
    Ignored,
}
