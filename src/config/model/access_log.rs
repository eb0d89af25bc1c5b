//! Access logs: where their lines go, what a line says, which lines are written.

use std::path::PathBuf;

use http::HeaderName;

use super::MetadataPath;

mod filter;

pub use filter::*;

/// `envoy.config.accesslog.v3.AccessLog`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessLog {
    /// Where lines go.
    pub sink: LogSink,
    /// What they say.
    pub format: LogFormat,
    /// Which are written; `None`: all.
    pub filter: Option<LogFilter>,
}

/// Where lines go.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum LogSink {
    /// `envoy.access_loggers.file`: its path.
    File(PathBuf),
    /// `envoy.access_loggers.stdout`.
    Stdout,
    /// `envoy.access_loggers.stderr`.
    Stderr,
}

/// `envoy.config.core.v3.SubstitutionFormatString`, parsed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogFormat {
    /// Text or JSON.
    pub body: LogBody,
    /// `omit_empty_values`: what is missing is an empty text instead of `-`, and a JSON key is left out.
    pub omit_empty_values: bool,
}

/// The two kinds of line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogBody {
    /// Pieces one after the other, with no line end but their own.
    Text(Vec<Piece>),
    /// One JSON value a line.
    Json(JsonPiece),
}

/// A value in a JSON line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JsonPiece {
    /// Keys sorted.
    Object(Vec<(String, JsonPiece)>),
    /// In order.
    List(Vec<JsonPiece>),
    /// As the file has it: a number, a boolean, null.
    Literal(serde_json::Value),
    /// A single operator: its own type, null where there is nothing.
    Value(Field),
    /// A text.
    Text(Vec<Piece>),
}

/// A part of a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// As it stands.
    Literal(String),
    /// An operator.
    Field(Field),
}

/// An operator with its length.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    /// What it shows.
    pub operator: Operator,
    /// `:N`: at most so many bytes.
    pub most: Option<usize>,
}

/// A command operator. What nothing in this proxy can set yet is [`Operator::Absent`]: it shows as Envoy shows it when it is not set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operator {
    /// `START_TIME`, `EMIT_TIME` and their `_LOCAL` forms.
    Time {
        /// Of the line instead of the start.
        emit: bool,
        /// In the zone of this machine.
        local: bool,
        /// As strftime; empty is Envoy's default.
        format: String,
    },
    /// `REQ`, `REQUEST_HEADER`.
    Request(HeaderChoice),
    /// `RESP`, `RESPONSE_HEADER`.
    Response(HeaderChoice),
    /// `TRAILER`, `RESPONSE_TRAILER`.
    Trailer(HeaderChoice),
    /// A number that is always there.
    Count(Count),
    /// `CONNECTION_ID`.
    ConnectionId,
    /// `PROTOCOL`.
    Protocol,
    /// `UPSTREAM_PROTOCOL`.
    UpstreamProtocol,
    /// `RESPONSE_CODE_DETAILS`.
    ResponseCodeDetails {
        /// `ALLOW_WHITESPACES`: spaces stay spaces.
        spaces: bool,
    },
    /// `CONNECTION_TERMINATION_DETAILS`.
    TerminationDetails,
    /// `DURATION`, `COMMON_DURATION` and the like: between two moments, in a unit of so many nanoseconds.
    Span {
        /// From here.
        from: Moment,
        /// To here.
        to: Moment,
        /// 1, 1,000 or 1,000,000.
        unit: u32,
    },
    /// `RESPONSE_FLAGS`, and with words `RESPONSE_FLAGS_LONG`.
    Flags {
        /// In words.
        long: bool,
    },
    /// A name.
    Name(Name),
    /// An address.
    Address(AddressOf, AddressPart),
    /// `STREAM_ID`: the request's id.
    StreamId,
    /// `UNIQUE_ID`: a UUID of its own for every line that shows it.
    UniqueId,
    /// `GRPC_STATUS`, `GRPC_STATUS_NUMBER`.
    GrpcStatus(GrpcStatusAs),
    /// `QUERY_PARAM`.
    QueryParam(String),
    /// `QUERY_PARAMS`.
    QueryParams,
    /// `PATH`.
    Path {
        /// With the query.
        query: bool,
        /// Which path.
        which: PathOf,
    },
    /// `REQUESTED_SERVER_NAME`.
    ServerName {
        /// Where it is looked for, in order.
        from: Vec<ServerNameFrom>,
    },
    /// `DYNAMIC_METADATA`: all of a namespace where the path is empty.
    Metadata(MetadataPath),
    /// `FILTER_STATE`.
    FilterState {
        /// The name of the object.
        key: String,
        /// As it is written in JSON, and not as its text.
        typed: bool,
    },
    /// `ACCESS_LOG_TYPE`.
    LogType,
    /// `UPSTREAM_TRANSPORT_FAILURE_REASON`.
    UpstreamFailure,
    /// `HOSTNAME`, `ENVIRONMENT`: known from the start.
    Constant(Option<String>),
    /// `LOCAL_REPLY_BODY`: set while a reply is made, and empty when the line is written.
    LocalReplyBody,
    /// Known to Envoy, and nothing here ever sets it; the text that Envoy shows for it is empty instead of `-` where the flag says so.
    Absent {
        /// An empty text.
        empty: bool,
    },
}

/// A header, and another one for where it is missing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeaderChoice {
    /// The one that is wanted.
    pub name: LogHeader,
    /// The one that is taken otherwise.
    pub otherwise: Option<LogHeader>,
}

/// A header of a message, or a part of its first line by Envoy's name for it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum LogHeader {
    /// `:method`.
    Method,
    /// `:path`.
    Path,
    /// `:authority`, `host`.
    Authority,
    /// `:scheme`.
    Scheme,
    /// `:status`.
    Status,
    /// Any other.
    Named(HeaderName),
}

impl LogHeader {
    /// As it stands in a format.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Method => ":method",
            Self::Path => ":path",
            Self::Authority => ":authority",
            Self::Scheme => ":scheme",
            Self::Status => ":status",
            Self::Named(name) => name.as_str(),
        }
    }
}

/// A number that a request or connection always has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Count {
    /// `BYTES_RECEIVED`.
    Received,
    /// `BYTES_SENT`.
    Sent,
    /// `RESPONSE_CODE`, 0 for none.
    ResponseCode,
    /// `REQUEST_HEADERS_BYTES`.
    RequestHeaders,
    /// `RESPONSE_HEADERS_BYTES`.
    ResponseHeaders,
    /// `RESPONSE_TRAILERS_BYTES`.
    ResponseTrailers,
    /// `UPSTREAM_REQUEST_ATTEMPT_COUNT`.
    Attempts,
    /// What is counted for QUIC alone.
    Zero,
}

/// A moment in the life of a request or a connection, by its name in `COMMON_DURATION`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// `DS_RX_BEG`: the start.
    Start,
    /// `DS_RX_END`.
    RequestEnd,
    /// `US_CX_BEG`.
    ConnectBegin,
    /// `US_CX_END`.
    ConnectEnd,
    /// `US_HS_END`: never, without TLS to the host.
    HandshakeEnd,
    /// `US_TX_BEG`.
    UpstreamSendBegin,
    /// `US_TX_END`.
    UpstreamSendEnd,
    /// `US_RX_BEG`.
    ResponseBegin,
    /// `US_RX_BODY_BEG`.
    ResponseBodyBegin,
    /// `US_RX_END`.
    ResponseEnd,
    /// `DS_TX_BEG`.
    SendBegin,
    /// `DS_TX_END`.
    SendEnd,
    /// The end of it all, or now for one that goes on.
    Now,
}

/// What has a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Name {
    /// `ROUTE_NAME`.
    Route,
    /// `UPSTREAM_CLUSTER`.
    Cluster,
    /// `UPSTREAM_CLUSTER_RAW`.
    ClusterRaw,
    /// `LISTENER_NAME`.
    Listener,
    /// `FILTER_CHAIN_NAME`.
    FilterChain,
    /// `UPSTREAM_HOST_NAME`.
    Host,
    /// `UPSTREAM_HOST_NAME_WITHOUT_PORT`.
    HostWithoutPort,
    /// `UPSTREAM_HOSTS_ATTEMPTED`.
    HostsAttempted,
    /// `UPSTREAM_HOSTS_ATTEMPTED_WITHOUT_PORT`.
    HostsAttemptedWithoutPort,
}

/// Whose address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AddressOf {
    /// The trusted client's.
    Client,
    /// The peer's.
    Peer,
    /// Ours, where the client came to.
    Local,
    /// The host's.
    Host,
    /// The host's, once it has taken the connection.
    UpstreamRemote,
    /// Ours, towards the host.
    UpstreamLocal,
}

/// Which part of an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AddressPart {
    /// Address and port.
    Whole,
    /// The address, masked to a prefix of so many bits where there is one.
    Ip(Option<u8>),
    /// The port.
    Port,
}

/// How a gRPC status is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GrpcStatusAs {
    /// `NotFound`.
    Camel,
    /// `NOT_FOUND`.
    Snake,
    /// `5`.
    Number,
}

/// Which path `PATH` shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PathOf {
    /// The one in force.
    Path,
    /// `x-envoy-original-path`.
    Original,
    /// The original one, and where there is none the one in force.
    OriginalOrPath,
}

/// Where `REQUESTED_SERVER_NAME` looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServerNameFrom {
    /// What TLS was asked for.
    Sni,
    /// The authority.
    Host,
    /// `x-envoy-original-host`.
    OriginalHost,
}

/// What brings a line about: `envoy.data.accesslog.v3.AccessLogType`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogType {
    /// `NotSet`: a listener's line, when its connection has ended.
    NotSet,
    /// A new connection of the TCP proxy.
    TcpStart,
    /// The TCP proxy's host has taken the connection.
    TcpUpstreamConnected,
    /// From time to time.
    TcpPeriodic,
    /// The connection has ended.
    TcpConnectionEnd,
    /// A new request.
    DownstreamStart,
    /// From time to time.
    DownstreamPeriodic,
    /// The request has ended.
    DownstreamEnd,
    /// An upgrade or a CONNECT has been agreed on.
    DownstreamTunnelEstablished,
}

impl LogType {
    /// `%ACCESS_LOG_TYPE%`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NotSet => "NotSet",
            Self::TcpStart => "TcpConnectionStart",
            Self::TcpUpstreamConnected => "TcpUpstreamConnected",
            Self::TcpPeriodic => "TcpPeriodic",
            Self::TcpConnectionEnd => "TcpConnectionEnd",
            Self::DownstreamStart => "DownstreamStart",
            Self::DownstreamPeriodic => "DownstreamPeriodic",
            Self::DownstreamEnd => "DownstreamEnd",
            Self::DownstreamTunnelEstablished => "DownstreamTunnelSuccessfullyEstablished",
        }
    }
}
