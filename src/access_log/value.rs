//! What an operator shows for one request or connection.

use std::borrow::Cow;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, SystemTime};

use super::format::{Grpc, Show};
use super::{Context, Kept, Live};
use crate::config::model::{
    AddressOf, AddressPart, Count, GrpcStatusAs, LogType, Moment, Name, Operator, PathOf, ServerNameFrom,
};
use crate::fault::Flag;

/// A value.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Value<'a> {
    /// There is nothing to show.
    Missing,
    /// Nothing to show either, but for Envoy that is a text.
    Empty,
    /// A text; perhaps not UTF-8.
    Text(Cow<'a, [u8]>),
    Number(u64),
    /// A value that is none of these, in JSON.
    Json(String),
    /// A text that stands in quotes where it is not in JSON already.
    Quoted(&'a str),
}

impl<'a> From<&'a str> for Value<'a> {
    fn from(text: &'a str) -> Self {
        if text.is_empty() { Self::Missing } else { Self::Text(Cow::Borrowed(text.as_bytes())) }
    }
}

impl From<String> for Value<'_> {
    fn from(text: String) -> Self {
        if text.is_empty() { Self::Missing } else { Self::Text(Cow::Owned(text.into_bytes())) }
    }
}

impl<'a, T: Into<Value<'a>>> From<Option<T>> for Value<'a> {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Missing, Into::into)
    }
}

impl<'a> From<&'a [u8]> for Value<'a> {
    fn from(text: &'a [u8]) -> Self {
        Self::Text(Cow::Borrowed(text))
    }
}

impl Show {
    /// What it shows.
    pub(super) fn of<'a>(&'a self, kind: LogType, live: &'a Live) -> Value<'a> {
        let context = &live.context;
        match self {
            Self::Time { emit, local, format } => {
                let started = SystemTime::UNIX_EPOCH.checked_add(Duration::from_nanos(context.started_ns));
                let time = if *emit { Some(SystemTime::now()) } else { started };
                time.map(|time| format.render(time, *local)).into()
            }
            Self::Request(name, otherwise) => choice(context.request.as_ref(), *name, *otherwise).into(),
            Self::Response(name, otherwise) => choice(context.response.as_ref(), *name, *otherwise).into(),
            Self::Trailer(name, otherwise) => choice(context.trailers.as_ref(), *name, *otherwise).into(),
            Self::GrpcStatus(how, grpc) => grpc.is_grpc(context).then(|| grpc.shown(context, *how)).into(),
            Self::Path { query, which, path, original } => {
                let get = |at: &usize| choice(context.request.as_ref(), *at, None);
                let path = match which {
                    PathOf::Path => get(path),
                    PathOf::Original => get(original),
                    PathOf::OriginalOrPath => get(original).or_else(|| get(path)),
                };
                path.map(|path| if *query { path } else { split_query(path).0 }).into()
            }
            Self::QueryParam(name, path) => choice(context.request.as_ref(), *path, None)
                .and_then(|path| parameter(split_query(path).1?, name.as_bytes()))
                .into(),
            Self::QueryParams(path) => {
                let query = choice(context.request.as_ref(), *path, None).and_then(|path| split_query(path).1);
                query.filter(|query| !query.is_empty()).into()
            }
            Self::ServerName(from) => from
                .iter()
                .find_map(|(from, at)| match from {
                    ServerNameFrom::Sni => Some(context.server_name.as_bytes()).filter(|name| !name.is_empty()),
                    ServerNameFrom::Host | ServerNameFrom::OriginalHost => choice(context.request.as_ref(), *at, None),
                })
                .into(),
            Self::StreamId(id) => match choice(context.request.as_ref(), *id, None) {
                Some(id) => id.into(),
                None => context.stream_id.as_str().into(),
            },
            Self::Plain(operator) => plain(operator, kind, live),
        }
    }
}

fn plain<'a>(operator: &'a Operator, kind: LogType, live: &'a Live) -> Value<'a> {
    let context = &live.context;
    match operator {
        Operator::Count(count) => Value::Number(match count {
            Count::Received => context.received,
            Count::Sent => context.sent,
            Count::ResponseCode => context.status.into(),
            Count::RequestHeaders => context.request.as_ref().map_or(0, |kept| kept.bytes),
            Count::ResponseHeaders => context.response.as_ref().map_or(0, |kept| kept.bytes),
            Count::ResponseTrailers => context.trailers.as_ref().map_or(0, |kept| kept.bytes),
            Count::Attempts => context.attempts.into(),
            Count::Zero => 0,
        }),
        Operator::ConnectionId => Value::Number(context.connection_id),
        Operator::Protocol => protocol(context.protocol).into(),
        Operator::UpstreamProtocol => protocol(context.upstream_protocol).into(),
        Operator::ResponseCodeDetails { spaces: false } if context.details.contains(char::is_whitespace) => {
            context.details.replace(char::is_whitespace, "_").into()
        }
        Operator::ResponseCodeDetails { .. } => context.details.as_str().into(),
        Operator::TerminationDetails => context.termination.as_str().into(),
        Operator::Span { from, to, unit } => match (live.after(*from), live.after(*to)) {
            (Some(from), Some(to)) => to.checked_sub(from).map_or(Value::Missing, |span| {
                Value::Number(u64::try_from(span.as_nanos() / u128::from(*unit)).unwrap_or(u64::MAX))
            }),
            _ => Value::Missing,
        },
        Operator::Flags { long } => flags(context.flags, *long).into(),
        Operator::Name(name) => self::name(*name, context),
        Operator::Address(AddressOf::UpstreamRemote, _) if live.after(Moment::UpstreamSendBegin).is_none() => {
            Value::Missing
        }
        Operator::Address(of, part) => address(*of, *part, context),
        Operator::UniqueId => uuid::Uuid::new_v4().to_string().into(),
        Operator::LogType => kind.as_str().into(),
        Operator::UpstreamFailure => context.upstream_failure.as_str().into(),
        Operator::Constant(text) => text.as_deref().into(),
        Operator::LocalReplyBody if live.reply.is_empty() => Value::Empty,
        Operator::LocalReplyBody => Value::from(&*live.reply),
        Operator::Metadata(at) => match live.left.metadata(at) {
            None | Some(serde_json::Value::Null) => Value::Missing,
            Some(serde_json::Value::String(text)) => Value::Text(Cow::Borrowed(text.as_bytes())),
            Some(other) => Value::Json(other.to_string()),
        },
        Operator::FilterState { key, typed } => match (live.left.states.get(key), typed) {
            (Some(serde_json::Value::String(text)), true) => Value::Quoted(text),
            (Some(serde_json::Value::String(text)), false) => Value::Text(Cow::Borrowed(text.as_bytes())),
            (Some(other), false) => other.get(0).and_then(serde_json::Value::as_str).into(),
            _ => Value::Missing,
        },
        Operator::Absent { empty: true } => Value::Empty,
        // What has a place of its own never comes here.
        Operator::Absent { empty: false }
        | Operator::Time { .. }
        | Operator::Request(_)
        | Operator::Response(_)
        | Operator::Trailer(_)
        | Operator::StreamId
        | Operator::GrpcStatus(_)
        | Operator::QueryParam(_)
        | Operator::QueryParams
        | Operator::Path { .. }
        | Operator::ServerName { .. } => Value::Missing,
    }
}

fn choice(kept: Option<&Kept>, name: usize, otherwise: Option<usize>) -> Option<&[u8]> {
    let kept = kept?;
    kept.get(name).or_else(|| kept.get(otherwise?))
}

fn protocol(version: u32) -> &'static str {
    match version {
        10 => "HTTP/1.0",
        11 => "HTTP/1.1",
        20 => "HTTP/2",
        30 => "HTTP/3",
        _ => "",
    }
}

/// Flags as Envoy prints them, `-` for none.
fn flags(flags: u64, long: bool) -> String {
    let mut text = String::new();
    for flag in Flag::ALL.into_iter().filter(|flag| flags & flag.bit() != 0) {
        if !text.is_empty() {
            text.push(',');
        }
        text.push_str(if long { flag.long() } else { flag.short() });
    }
    if text.is_empty() { "-".to_owned() } else { text }
}

fn name(name: Name, context: &Context) -> Value<'_> {
    match name {
        Name::Route => context.route.as_str().into(),
        Name::Cluster => context.cluster.as_str().into(),
        Name::ClusterRaw => context.cluster_raw.as_str().into(),
        Name::Listener => context.listener.as_str().into(),
        Name::FilterChain => context.filter_chain.as_str().into(),
        Name::Host => context.host_name.as_str().into(),
        Name::HostWithoutPort => without_port(context.host_name.as_bytes()).into_text(),
        Name::HostsAttempted => context.attempted.join(",").into(),
        Name::HostsAttemptedWithoutPort => {
            let ips = context.attempted.iter().map(|host| match host.parse::<SocketAddr>() {
                Ok(address) => address.ip().to_string(),
                Err(_) => host.clone(),
            });
            ips.collect::<Vec<_>>().join(",").into()
        }
    }
}

trait IntoText<'a> {
    fn into_text(self) -> Value<'a>;
}

impl<'a> IntoText<'a> for &'a [u8] {
    fn into_text(self) -> Value<'a> {
        if self.is_empty() { Value::Missing } else { self.into() }
    }
}

fn address(of: AddressOf, part: AddressPart, context: &Context) -> Value<'_> {
    let text = match of {
        AddressOf::Client if context.client.is_empty() => &context.peer,
        AddressOf::Client => &context.client,
        AddressOf::Peer => &context.peer,
        AddressOf::Local => &context.local,
        AddressOf::Host | AddressOf::UpstreamRemote => &context.host,
        AddressOf::UpstreamLocal => &context.upstream_local,
    };
    if part == AddressPart::Whole {
        return text.as_str().into();
    }
    let Ok(address) = text.parse::<SocketAddr>() else {
        // A path has no port.
        return if part == AddressPart::Ip(None) { text.as_str().into() } else { Value::Missing };
    };
    match part {
        AddressPart::Port => Value::Number(address.port().into()),
        AddressPart::Ip(Some(bits)) => masked(address.ip(), bits).into(),
        AddressPart::Ip(None) | AddressPart::Whole => address.ip().to_string().into(),
    }
}

/// A network of so many bits; none where the address has fewer.
fn masked(ip: IpAddr, bits: u8) -> Option<String> {
    let network = match ip {
        IpAddr::V4(ip) => {
            let host = 32u32.checked_sub(bits.into())?;
            IpAddr::V4((u32::from(ip).checked_shr(host).unwrap_or(0).checked_shl(host).unwrap_or(0)).into())
        }
        IpAddr::V6(ip) => {
            let host = 128u32.checked_sub(bits.into())?;
            IpAddr::V6((u128::from(ip).checked_shr(host).unwrap_or(0).checked_shl(host).unwrap_or(0)).into())
        }
    };
    Some(format!("{network}/{bits}"))
}

fn split_query(path: &[u8]) -> (&[u8], Option<&[u8]>) {
    match memchr::memchr(b'?', path) {
        Some(at) => (&path[..at], Some(&path[at + 1..])),
        None => (path, None),
    }
}

/// The first value of a parameter, as it stands.
fn parameter<'a>(query: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let query = memchr::memchr(b'#', query).map_or(query, |at| &query[..at]);
    query.split(|byte| *byte == b'&').find_map(|pair| {
        let (key, value) = match memchr::memchr(b'=', pair) {
            Some(at) => (&pair[..at], &pair[at + 1..]),
            None => (pair, &[][..]),
        };
        (key == name).then_some(value)
    })
}

/// An authority without its port.
fn without_port(authority: &[u8]) -> &[u8] {
    match memchr::memrchr(b':', authority) {
        // The colons of an IPv6 address stand in brackets.
        Some(at) if !authority[at..].contains(&b']') => &authority[..at],
        _ => authority,
    }
}

const GRPC: [(&str, &str); 17] = [
    ("OK", "OK"),
    ("Canceled", "CANCELLED"),
    ("Unknown", "UNKNOWN"),
    ("InvalidArgument", "INVALID_ARGUMENT"),
    ("DeadlineExceeded", "DEADLINE_EXCEEDED"),
    ("NotFound", "NOT_FOUND"),
    ("AlreadyExists", "ALREADY_EXISTS"),
    ("PermissionDenied", "PERMISSION_DENIED"),
    ("ResourceExhausted", "RESOURCE_EXHAUSTED"),
    ("FailedPrecondition", "FAILED_PRECONDITION"),
    ("Aborted", "ABORTED"),
    ("OutOfRange", "OUT_OF_RANGE"),
    ("Unimplemented", "UNIMPLEMENTED"),
    ("Internal", "INTERNAL"),
    ("Unavailable", "UNAVAILABLE"),
    ("DataLoss", "DATA_LOSS"),
    ("Unauthenticated", "UNAUTHENTICATED"),
];

impl Grpc {
    /// Whether the request was one of gRPC.
    fn is_grpc(self, context: &Context) -> bool {
        let content_type = choice(context.request.as_ref(), self.content_type, None).unwrap_or_default();
        let rest = content_type.strip_prefix(b"application/grpc");
        rest.is_some_and(|rest| matches!(rest.first(), None | Some(b'+' | b';')))
    }

    /// The status: of the trailers, else of the head, else what the HTTP status stands for.
    pub(super) fn status(self, context: &Context) -> Option<u32> {
        let given = choice(context.trailers.as_ref(), self.trailer, None)
            .or_else(|| choice(context.response.as_ref(), self.response, None));
        if let Some(status) = given {
            return std::str::from_utf8(status).ok()?.parse().ok();
        }
        Some(match context.status {
            0 => return None,
            400 => 13,
            401 => 16,
            403 => 7,
            404 => 12,
            429 | 502..=504 => 14,
            _ => 2,
        })
    }

    fn shown(self, context: &Context, how: GrpcStatusAs) -> Value<'static> {
        let Some(status) = self.status(context) else { return Value::Missing };
        if how == GrpcStatusAs::Number {
            return Value::Number(status.into());
        }
        match GRPC.get(status as usize) {
            Some((camel, snake)) => if how == GrpcStatusAs::Camel { *camel } else { *snake }.into(),
            None => status.to_string().into(),
        }
    }
}
