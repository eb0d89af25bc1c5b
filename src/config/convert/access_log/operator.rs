//! Command operators by name: what each takes, and what it becomes.

use http::HeaderName;

use crate::config::model::{
    AddressOf, AddressPart, Count, GrpcStatusAs, HeaderChoice, LogHeader, MetadataPath, Moment, Name, Operator, PathOf,
    ServerNameFrom,
};

/// What may stand behind a name.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Takes {
    Nothing,
    /// Arguments, perhaps.
    Maybe,
    /// Arguments, perhaps, and a length.
    MaybeCut,
    /// Arguments and a length.
    Must,
    /// Arguments and no length.
    MustUncut,
}

const MS: u32 = 1_000_000;

/// The operator of a command.
///
/// # Errors
/// In Envoy's words; for what Envoy knows and this proxy does not show yet, in ours.
pub(super) fn of(name: &str, arguments: &str, most: Option<usize>) -> Result<Operator, String> {
    use Takes::{Maybe, MaybeCut, Must, MustUncut, Nothing};
    let takes = match name {
        "REQ" | "RESP" | "TRAILER" | "REQUEST_HEADER" | "RESPONSE_HEADER" | "RESPONSE_TRAILER" | "ENVIRONMENT"
        | "QUERY_PARAM" | "DYNAMIC_METADATA" => Must,
        "COMMON_DURATION" => MustUncut,
        "START_TIME"
        | "START_TIME_LOCAL"
        | "EMIT_TIME"
        | "EMIT_TIME_LOCAL"
        | "RESPONSE_CODE_DETAILS"
        | "GRPC_STATUS" => Maybe,
        "PATH" | "QUERY_PARAMS" | "FILTER_STATE" | "UPSTREAM_FILTER_STATE" | "REQUESTED_SERVER_NAME" => MaybeCut,
        name if name.ends_with("_ADDRESS_WITHOUT_PORT") => Maybe,
        _ => Nothing,
    };
    // What is not known at all is said to be so, whatever else is wrong with it.
    let operator = known(name, arguments);
    if matches!(operator, Known::No | Known::NotYet) {
        return Err(operator.refusal(name));
    }
    if takes == Nothing && (!arguments.is_empty() || most.is_some()) {
        return Err(format!("{name} does not take any parameters or length"));
    }
    if matches!(takes, Must | MustUncut) && arguments.is_empty() {
        return Err(format!("{name} requires parameters"));
    }
    if matches!(takes, Maybe | MustUncut) && most.is_some() {
        return Err(format!("{name} does not allow length to be specified."));
    }
    match operator {
        Known::Yes(operator) => Ok(operator),
        Known::Wrong(message) => Err(message),
        refused => Err(refused.refusal(name)),
    }
}

/// What is known of a name.
enum Known {
    Yes(Operator),
    /// Its arguments are wrong.
    Wrong(String),
    /// Envoy shows it, this proxy does not yet.
    NotYet,
    /// Nobody knows it.
    No,
}

impl Known {
    fn refusal(&self, name: &str) -> String {
        match self {
            Self::NotYet => format!("%{name}% is not supported yet"),
            _ => format!("Not supported field in StreamInfo: {name}"),
        }
    }
}

impl From<Result<Operator, String>> for Known {
    fn from(result: Result<Operator, String>) -> Self {
        result.map_or_else(Self::Wrong, Self::Yes)
    }
}

fn known(name: &str, arguments: &str) -> Known {
    if let Some(operator) = plain(name) {
        return Known::Yes(operator);
    }
    if let Some(address) = address(name, arguments) {
        return address.into();
    }
    if is_nowhere_set(name) {
        let empty = name == "CUSTOM_FLAGS";
        return Known::Yes(Operator::Absent { empty });
    }
    if is_not_yet(name) {
        return Known::NotYet;
    }
    let header = |make: fn(HeaderChoice) -> Operator| choice(arguments).map(make).into();
    match name {
        "START_TIME" => time(false, false, arguments),
        "START_TIME_LOCAL" => time(false, true, arguments),
        "EMIT_TIME" => time(true, false, arguments),
        "EMIT_TIME_LOCAL" => time(true, true, arguments),
        "REQ" | "REQUEST_HEADER" => header(Operator::Request),
        "RESP" | "RESPONSE_HEADER" => header(Operator::Response),
        "TRAILER" | "RESPONSE_TRAILER" => header(Operator::Trailer),
        "RESPONSE_CODE_DETAILS" => {
            Known::Yes(Operator::ResponseCodeDetails { spaces: arguments == "ALLOW_WHITESPACES" })
        }
        "COMMON_DURATION" => span(arguments).into(),
        "GRPC_STATUS" => grpc_status(arguments).into(),
        "ENVIRONMENT" => Known::Yes(Operator::Constant(std::env::var(arguments).ok())),
        "DYNAMIC_METADATA" => Known::Yes(metadata(arguments)),
        "FILTER_STATE" => filter_state(arguments),
        "QUERY_PARAM" => Known::Yes(Operator::QueryParam(arguments.to_owned())),
        "QUERY_PARAMS" => match arguments {
            "" | "ORIG" => Known::Yes(Operator::QueryParams),
            "DECODED" => Known::Wrong("%QUERY_PARAMS(DECODED)% is not supported yet".to_owned()),
            other => Known::Wrong(format!("Invalid QUERY_PARAMS option: '{other}', only 'ORIG'/'DECODED' are allowed")),
        },
        "PATH" => path(arguments).into(),
        "REQUESTED_SERVER_NAME" => server_name(arguments).into(),
        _ => Known::No,
    }
}

/// Operators that take nothing.
fn plain(name: &str) -> Option<Operator> {
    use Moment::{HandshakeEnd, Now, RequestEnd, ResponseBegin, SendEnd, Start, UpstreamSendEnd};
    let span = |from, to| Operator::Span { from, to, unit: MS };
    Some(match name {
        "BYTES_RECEIVED" => Operator::Count(Count::Received),
        "BYTES_SENT" => Operator::Count(Count::Sent),
        "RESPONSE_CODE" => Operator::Count(Count::ResponseCode),
        "REQUEST_HEADERS_BYTES" => Operator::Count(Count::RequestHeaders),
        "RESPONSE_HEADERS_BYTES" => Operator::Count(Count::ResponseHeaders),
        "RESPONSE_TRAILERS_BYTES" => Operator::Count(Count::ResponseTrailers),
        "UPSTREAM_REQUEST_ATTEMPT_COUNT" => Operator::Count(Count::Attempts),
        "BYTES_RETRANSMITTED" | "PACKETS_RETRANSMITTED" => Operator::Count(Count::Zero),
        "CONNECTION_ID" => Operator::ConnectionId,
        "LOCAL_REPLY_BODY" => Operator::LocalReplyBody,
        "PROTOCOL" => Operator::Protocol,
        "UPSTREAM_PROTOCOL" => Operator::UpstreamProtocol,
        "CONNECTION_TERMINATION_DETAILS" => Operator::TerminationDetails,
        "DURATION" => span(Start, Now),
        "REQUEST_DURATION" => span(Start, RequestEnd),
        "REQUEST_TX_DURATION" => span(Start, UpstreamSendEnd),
        "RESPONSE_DURATION" => span(Start, ResponseBegin),
        "RESPONSE_TX_DURATION" => span(ResponseBegin, SendEnd),
        "DOWNSTREAM_HANDSHAKE_DURATION" => span(Start, HandshakeEnd),
        "UPSTREAM_CONNECTION_POOL_READY_DURATION" => span(Start, Moment::UpstreamSendBegin),
        "RESPONSE_FLAGS" => Operator::Flags { long: false },
        "RESPONSE_FLAGS_LONG" => Operator::Flags { long: true },
        "ROUTE_NAME" => Operator::Name(Name::Route),
        "UPSTREAM_CLUSTER" => Operator::Name(Name::Cluster),
        "UPSTREAM_CLUSTER_RAW" => Operator::Name(Name::ClusterRaw),
        "LISTENER_NAME" => Operator::Name(Name::Listener),
        "FILTER_CHAIN_NAME" => Operator::Name(Name::FilterChain),
        "UPSTREAM_HOST_NAME" => Operator::Name(Name::Host),
        "UPSTREAM_HOST_NAME_WITHOUT_PORT" => Operator::Name(Name::HostWithoutPort),
        "UPSTREAM_HOSTS_ATTEMPTED" => Operator::Name(Name::HostsAttempted),
        "UPSTREAM_HOSTS_ATTEMPTED_WITHOUT_PORT" => Operator::Name(Name::HostsAttemptedWithoutPort),
        "STREAM_ID" => Operator::StreamId,
        "UNIQUE_ID" => Operator::UniqueId,
        "GRPC_STATUS_NUMBER" => Operator::GrpcStatus(GrpcStatusAs::Number),
        "ACCESS_LOG_TYPE" => Operator::LogType,
        "UPSTREAM_TRANSPORT_FAILURE_REASON" => Operator::UpstreamFailure,
        "HOSTNAME" => Operator::Constant(hostname()),
        _ => return None,
    })
}

/// What only features show that this proxy does not have: Envoy without them shows nothing either.
fn is_nowhere_set(name: &str) -> bool {
    matches!(
        name,
        "UPSTREAM_FILTER_STATE"
            | "VIRTUAL_CLUSTER_NAME"
            | "TRACE_ID"
            | "SPAN_ID"
            | "CUSTOM_FLAGS"
            | "ROUNDTRIP_DURATION"
            | "DOWNSTREAM_LOCAL_ADDRESS_ENDPOINT_ID"
            | "DOWNSTREAM_DIRECT_LOCAL_ADDRESS_ENDPOINT_ID"
            | "UPSTREAM_REMOTE_ADDRESS_ENDPOINT_ID"
            | "DOWNSTREAM_LOCAL_SUBJECT"
            | "DOWNSTREAM_LOCAL_URI_SAN"
            | "DOWNSTREAM_LOCAL_DNS_SAN"
            | "DOWNSTREAM_LOCAL_IP_SAN"
            | "DOWNSTREAM_TLS_SESSION_ID"
            | "DOWNSTREAM_TLS_CIPHER"
            | "DOWNSTREAM_TLS_VERSION"
            | "TLS_JA3_FINGERPRINT"
            | "TLS_JA4_FINGERPRINT"
            | "UPSTREAM_TLS_SESSION_ID"
            | "UPSTREAM_TLS_CIPHER"
            | "UPSTREAM_TLS_VERSION"
            | "UPSTREAM_LOCAL_SUBJECT"
            | "UPSTREAM_LOCAL_URI_SAN"
            | "UPSTREAM_LOCAL_DNS_SAN"
            | "UPSTREAM_LOCAL_IP_SAN"
    ) || ["DOWNSTREAM_PEER_", "UPSTREAM_PEER_"].iter().any(|side| {
        name.strip_prefix(side).is_some_and(|rest| {
            matches!(
                rest,
                "SUBJECT"
                    | "ISSUER"
                    | "URI_SAN"
                    | "DNS_SAN"
                    | "IP_SAN"
                    | "FINGERPRINT_256"
                    | "FINGERPRINT_1"
                    | "SERIAL"
                    | "CERT"
                    | "CERT_V_START"
                    | "CERT_V_END"
                    | "CHAIN_FINGERPRINTS_256"
                    | "CHAIN_FINGERPRINTS_1"
                    | "CHAIN_SERIALS"
            )
        })
    })
}

/// What Envoy would have a value for.
fn is_not_yet(name: &str) -> bool {
    matches!(
        name,
        "METADATA"
            | "CLUSTER_METADATA"
            | "UPSTREAM_METADATA"
            | "COALESCE"
            | "CEL"
            | "XFCC_VALUE"
            | "UPSTREAM_CONNECTION_ID"
            | "UPSTREAM_CONNECTION_IDS_ATTEMPTED"
            | "UPSTREAM_HOST_NAMES_ATTEMPTED"
            | "UPSTREAM_HOST_NAMES_ATTEMPTED_WITHOUT_PORT"
            | "DOWNSTREAM_TRANSPORT_FAILURE_REASON"
            | "DOWNSTREAM_LOCAL_CLOSE_REASON"
            | "UPSTREAM_LOCAL_CLOSE_REASON"
            | "DOWNSTREAM_DETECTED_CLOSE_TYPE"
            | "UPSTREAM_DETECTED_CLOSE_TYPE"
    ) || ["UPSTREAM_", "DOWNSTREAM_"].iter().any(|side| {
        name.strip_prefix(side).is_some_and(|rest| {
            matches!(
                rest,
                "WIRE_BYTES_SENT"
                    | "WIRE_BYTES_RECEIVED"
                    | "HEADER_BYTES_SENT"
                    | "HEADER_BYTES_RECEIVED"
                    | "DECOMPRESSED_HEADER_BYTES_SENT"
                    | "DECOMPRESSED_HEADER_BYTES_RECEIVED"
            )
        })
    })
}

fn time(emit: bool, local: bool, format: &str) -> Known {
    Known::Yes(Operator::Time { emit, local, format: format.to_owned() })
}

fn choice(arguments: &str) -> Result<HeaderChoice, String> {
    let (name, otherwise) = match arguments.split_once('?') {
        None => (arguments, None),
        Some((_, more)) if more.contains('?') => {
            return Err(format!("More than 1 alternative header specified in token: {arguments}"));
        }
        Some((name, otherwise)) => (name, Some(otherwise)),
    };
    Ok(HeaderChoice {
        name: header(name)?,
        otherwise: otherwise.filter(|name| !name.is_empty()).map(header).transpose()?,
    })
}

/// A header by its name in a configuration.
///
/// # Errors
/// No header can be called so.
pub(super) fn header(name: &str) -> Result<LogHeader, String> {
    let lower = name.to_ascii_lowercase();
    Ok(match lower.as_str() {
        ":method" => LogHeader::Method,
        ":path" => LogHeader::Path,
        ":authority" | "host" => LogHeader::Authority,
        ":scheme" => LogHeader::Scheme,
        ":status" => LogHeader::Status,
        _ => LogHeader::Named(
            HeaderName::from_bytes(lower.as_bytes())
                .map_err(|_| "Invalid header configuration. Format string contains invalid characters.".to_owned())?,
        ),
    })
}

fn address(name: &str, arguments: &str) -> Option<Result<Operator, String>> {
    if name == "UPSTREAM_HOST" {
        return Some(Ok(Operator::Address(AddressOf::Host, AddressPart::Whole)));
    }
    const ENDS: [(&str, AddressPart); 3] = [
        ("_ADDRESS", AddressPart::Whole),
        ("_ADDRESS_WITHOUT_PORT", AddressPart::Ip(None)),
        ("_PORT", AddressPart::Port),
    ];
    let (of, part) = ENDS.iter().find_map(|(end, part)| Some((name.strip_suffix(end)?, *part)))?;
    let of = match of {
        "DOWNSTREAM_REMOTE" => AddressOf::Client,
        "DOWNSTREAM_DIRECT_REMOTE" => AddressOf::Peer,
        "DOWNSTREAM_LOCAL" | "DOWNSTREAM_DIRECT_LOCAL" => AddressOf::Local,
        "UPSTREAM_REMOTE" => AddressOf::UpstreamRemote,
        "UPSTREAM_LOCAL" => AddressOf::UpstreamLocal,
        _ => return None,
    };
    let part = match part {
        AddressPart::Ip(_) if !arguments.is_empty() => match arguments.parse::<u8>() {
            Ok(bits) if bits <= 128 => AddressPart::Ip(Some(bits)),
            _ => return Some(Err(format!("{name}: '{arguments}' is no prefix length"))),
        },
        part => part,
    };
    Some(Ok(Operator::Address(of, part)))
}

/// A namespace, and the names of structures within one another.
fn metadata(arguments: &str) -> Operator {
    let mut parts = arguments.split(':').map(str::to_owned);
    let namespace = parts.next().unwrap_or_default();
    Operator::Metadata(MetadataPath { namespace, path: parts.collect() })
}

fn filter_state(arguments: &str) -> Known {
    let (key, how) = arguments.split_once(':').unwrap_or((arguments, "TYPED"));
    let typed = match how {
        "TYPED" => true,
        "PLAIN" => false,
        how if how.starts_with("FIELD") => {
            return Known::Wrong("%FILTER_STATE% with FIELD is not supported yet".to_owned());
        }
        _ => return Known::Wrong("Invalid filter state serialize type, only support PLAIN/TYPED/FIELD.".to_owned()),
    };
    if key.is_empty() {
        return Known::Wrong("Invalid filter state configuration, key cannot be empty.".to_owned());
    }
    Known::Yes(Operator::FilterState { key: key.to_owned(), typed })
}

fn span(arguments: &str) -> Result<Operator, String> {
    let mut parts = arguments.split(':');
    let (Some(from), Some(to), Some(unit), None) = (parts.next(), parts.next(), parts.next(), parts.next()) else {
        return Err(format!("Invalid common duration configuration: {arguments}."));
    };
    let unit = match unit {
        "ms" => MS,
        "us" => 1_000,
        "ns" => 1,
        other => return Err(format!("Invalid common duration precision: {other}.")),
    };
    let moment = |name: &str| {
        Ok(match name {
            "DS_RX_BEG" => Moment::Start,
            "DS_RX_END" => Moment::RequestEnd,
            "US_CX_BEG" => Moment::ConnectBegin,
            "US_CX_END" => Moment::ConnectEnd,
            "US_HS_END" => Moment::HandshakeEnd,
            "US_TX_BEG" => Moment::UpstreamSendBegin,
            "US_TX_END" => Moment::UpstreamSendEnd,
            "US_RX_BEG" => Moment::ResponseBegin,
            "US_RX_BODY_BEG" => Moment::ResponseBodyBegin,
            "US_RX_END" => Moment::ResponseEnd,
            "DS_TX_BEG" => Moment::SendBegin,
            "DS_TX_END" => Moment::SendEnd,
            // Envoy takes any other name for a point that a filter may set: none here does.
            other => return Err(format!("COMMON_DURATION: the time point {other} is not supported yet")),
        })
    };
    Ok(Operator::Span { from: moment(from)?, to: moment(to)?, unit })
}

fn grpc_status(arguments: &str) -> Result<Operator, String> {
    Ok(Operator::GrpcStatus(match arguments {
        "" | "CAMEL_STRING" => GrpcStatusAs::Camel,
        "SNAKE_STRING" => GrpcStatusAs::Snake,
        "NUMBER" => GrpcStatusAs::Number,
        other => {
            return Err(format!(
                "GrpcStatusFormatter only supports CAMEL_STRING, SNAKE_STRING or NUMBER. Got: {other}"
            ));
        }
    }))
}

fn path(arguments: &str) -> Result<Operator, String> {
    let (query, which) = arguments.split_once(':').unwrap_or((arguments, ""));
    let query = match query {
        "" | "WQ" => true,
        "NQ" => false,
        other => return Err(format!("Invalid PATH option: '{other}', only 'WQ'/'NQ' are allowed")),
    };
    let which = match which {
        "" | "ORIG_OR_PATH" => PathOf::OriginalOrPath,
        "PATH" => PathOf::Path,
        "ORIG" => PathOf::Original,
        other => {
            return Err(format!("Invalid PATH option: '{other}', only 'ORIG'/'PATH'/'ORIG_OR_PATH' are allowed"));
        }
    };
    Ok(Operator::Path { query, which })
}

fn server_name(arguments: &str) -> Result<Operator, String> {
    use ServerNameFrom::{Host, OriginalHost, Sni};
    let (from, host) = arguments.split_once(':').unwrap_or((arguments, ""));
    let hosts: &[ServerNameFrom] = match host {
        "" | "ORIG_OR_HOST" => &[OriginalHost, Host],
        "HOST" => &[Host],
        "ORIG" => &[OriginalHost],
        other => {
            return Err(format!(
                "Invalid REQUESTED_SERVER_NAME option: '{other}', only 'ORIG'/'HOST'/'ORIG_OR_HOST' are allowed"
            ));
        }
    };
    let from = match from {
        "" | "SNI_ONLY" => vec![Sni],
        "SNI_FIRST" => [&[Sni], hosts].concat(),
        "HOST_FIRST" => [hosts, &[Sni]].concat(),
        other => {
            return Err(format!(
                "Invalid REQUESTED_SERVER_NAME option: '{other}', only 'SNI_ONLY'/'SNI_FIRST'/'HOST_FIRST' are allowed"
            ));
        }
    };
    Ok(Operator::ServerName { from })
}

fn hostname() -> Option<String> {
    let name = nix::sys::utsname::uname().ok()?;
    name.nodename().to_str().map(str::to_owned)
}
