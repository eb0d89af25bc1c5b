//! Which lines are written.

use regex::bytes::Regex;

use super::format::Grpc;
use super::{Live, Wanted};
use crate::config::model::{
    Case, Comparison, ComparisonOp, Fraction, Keyed, LogFilter, LogHeader, LogHeaderValue, LogType, MetadataPath,
    Moment, ValueMatch,
};

/// A filter made ready.
pub(super) enum Filter {
    NotHealthCheck,
    StatusCode(Comparison),
    Duration(Comparison),
    Share { fraction: Keyed<Fraction>, request_id: Option<usize> },
    And(Vec<Filter>),
    Or(Vec<Filter>),
    Header { place: usize, value: HeaderValue, invert: bool, missing_is_empty: bool },
    Flags(u64),
    GrpcStatus { place: Grpc, statuses: Vec<u32>, exclude: bool },
    Types { types: Vec<LogType>, exclude: bool },
    Metadata { at: MetadataPath, value: ValueMatch, absent: bool },
}

pub(super) enum HeaderValue {
    Present(bool),
    Exact(Vec<u8>, Case),
    Prefix(Vec<u8>, Case),
    Suffix(Vec<u8>, Case),
    Contains(Vec<u8>, Case),
    /// `None` cannot be: the configuration has been compiled once already.
    Regex(Option<Regex>),
    Range(i64, i64),
}

impl Filter {
    /// Makes a filter ready and notes what it wants.
    pub(super) fn compile(model: &LogFilter, wanted: &mut Wanted) -> Self {
        match model {
            LogFilter::NotHealthCheck => Self::NotHealthCheck,
            LogFilter::StatusCode(comparison) => Self::StatusCode(comparison.clone()),
            LogFilter::Duration(comparison) => Self::Duration(comparison.clone()),
            LogFilter::Share { fraction, independent } => Self::Share {
                fraction: fraction.clone(),
                request_id: (!independent)
                    .then(|| wanted.request(&LogHeader::Named(http::HeaderName::from_static("x-request-id")))),
            },
            LogFilter::And(filters) => Self::And(filters.iter().map(|filter| Self::compile(filter, wanted)).collect()),
            LogFilter::Or(filters) => Self::Or(filters.iter().map(|filter| Self::compile(filter, wanted)).collect()),
            LogFilter::Header(header) => Self::Header {
                place: wanted.request(&header.name),
                value: HeaderValue::compile(&header.value),
                invert: header.invert,
                missing_is_empty: header.missing_is_empty,
            },
            LogFilter::Flags(None) => Self::Flags(u64::MAX),
            LogFilter::Flags(Some(flags)) => Self::Flags(flags.iter().fold(0, |set, flag| set | flag.bit())),
            LogFilter::GrpcStatus { statuses, exclude } => {
                Self::GrpcStatus { place: Grpc::want(wanted), statuses: statuses.clone(), exclude: *exclude }
            }
            LogFilter::Metadata { at, value, absent } => {
                Self::Metadata { at: at.clone(), value: value.clone(), absent: *absent }
            }
            LogFilter::Types { types, exclude } => Self::Types { types: types.clone(), exclude: *exclude },
        }
    }

    /// Whether a line is written.
    pub(super) fn passes(&self, kind: LogType, live: &Live) -> bool {
        let kept = |place: usize| live.context.request.as_ref().and_then(|kept| kept.get(place));
        match self {
            Self::NotHealthCheck => !live.context.health_check,
            Self::StatusCode(comparison) => comparison.holds(live.context.status.into()),
            Self::Duration(comparison) => comparison.holds(live.after(Moment::Now).map_or(0, |time| time.as_millis())),
            Self::Share { fraction, request_id } => {
                let stable = request_id.and_then(kept).and_then(number_of);
                let number = stable.unwrap_or_else(|| uuid::Uuid::new_v4().as_u64_pair().0);
                fraction.holds(number)
            }
            Self::And(filters) => filters.iter().all(|filter| filter.passes(kind, live)),
            Self::Or(filters) => filters.iter().any(|filter| filter.passes(kind, live)),
            Self::Header { place, value, invert, missing_is_empty } => {
                let found = kept(*place);
                match (found, value) {
                    (found, HeaderValue::Present(present)) => {
                        let there = found.is_some() || *missing_is_empty;
                        (there == *present) != *invert
                    }
                    (None, _) if !missing_is_empty => false,
                    (found, value) => value.matches(found.unwrap_or_default()) != *invert,
                }
            }
            Self::Flags(flags) => live.context.flags & flags != 0,
            Self::GrpcStatus { place, statuses, exclude } => {
                const UNKNOWN: u32 = 2;
                let status = place.status(&live.context).unwrap_or(UNKNOWN);
                statuses.contains(&status) != *exclude
            }
            Self::Metadata { at, value, absent } => {
                live.left.metadata(at).map_or(*absent, |there| value.matches(Some(there)))
            }
            Self::Types { types, exclude } => types.contains(&kind) != *exclude,
        }
    }
}

impl Comparison {
    fn holds(&self, value: u128) -> bool {
        let limit = self.value.now().into();
        match self.op {
            ComparisonOp::Eq => value == limit,
            ComparisonOp::Ge => value >= limit,
            ComparisonOp::Le => value <= limit,
            ComparisonOp::Ne => value != limit,
        }
    }
}

/// The number that a request's id stands for: the same in every proxy on its way.
fn number_of(id: &[u8]) -> Option<u64> {
    u64::from_str_radix(std::str::from_utf8(id.get(..8)?).ok()?, 16).ok()
}

impl HeaderValue {
    fn compile(model: &LogHeaderValue) -> Self {
        let ready = |text: &str, case: Case| match case {
            Case::Sensitive => text.as_bytes().to_vec(),
            Case::Ignored => text.to_ascii_lowercase().into_bytes(),
        };
        match model {
            LogHeaderValue::Present(present) => Self::Present(*present),
            LogHeaderValue::Exact(text, case) => Self::Exact(ready(text, *case), *case),
            LogHeaderValue::Prefix(text, case) => Self::Prefix(ready(text, *case), *case),
            LogHeaderValue::Suffix(text, case) => Self::Suffix(ready(text, *case), *case),
            LogHeaderValue::Contains(text, case) => Self::Contains(ready(text, *case), *case),
            LogHeaderValue::Regex(pattern) => Self::Regex(Regex::new(&format!("^(?:{pattern})$")).ok()),
            LogHeaderValue::Range(from, to) => Self::Range(*from, *to),
        }
    }

    fn matches(&self, value: &[u8]) -> bool {
        let as_is = |case: &Case| match case {
            Case::Sensitive => std::borrow::Cow::Borrowed(value),
            Case::Ignored => value.to_ascii_lowercase().into(),
        };
        match self {
            Self::Present(present) => *present,
            Self::Exact(text, case) => *as_is(case) == **text,
            Self::Prefix(text, case) => as_is(case).starts_with(text),
            Self::Suffix(text, case) => as_is(case).ends_with(text),
            Self::Contains(text, case) => memchr::memmem::find(&as_is(case), text).is_some(),
            Self::Regex(regex) => regex.as_ref().is_some_and(|regex| regex.is_match(value)),
            Self::Range(from, to) => {
                let number = std::str::from_utf8(value).ok().and_then(|value| value.parse::<i64>().ok());
                number.is_some_and(|number| number >= *from && number < *to)
            }
        }
    }
}
