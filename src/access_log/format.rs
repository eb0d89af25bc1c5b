//! A format made ready: headers by their place among what is kept, formats of time parsed.

use http::HeaderName;

use super::time::TimeFormat;
use super::{Live, Wanted};
use crate::config::model::{
    Field, HeaderChoice, JsonPiece, LogBody, LogFormat, LogHeader, LogType, Operator, PathOf, Piece, ServerNameFrom,
};

/// A line's format.
pub(super) struct Format {
    pub(super) body: Body,
    pub(super) omit_empty: bool,
}

pub(super) enum Body {
    Text(Vec<Part>),
    Json(Json),
}

pub(super) enum Json {
    Object(Vec<(Box<str>, Json)>),
    List(Vec<Json>),
    /// As it is written.
    Literal(Box<str>),
    Value(Show, Option<usize>),
    Text(Vec<Part>),
}

pub(super) enum Part {
    Literal(Box<str>),
    Value(Show, Option<usize>),
}

/// What an operator shows.
pub(super) enum Show {
    Time {
        emit: bool,
        local: bool,
        format: TimeFormat,
    },
    Request(usize, Option<usize>),
    Response(usize, Option<usize>),
    Trailer(usize, Option<usize>),
    /// By the places of its headers.
    GrpcStatus(crate::config::model::GrpcStatusAs, Grpc),
    /// The path, and the original one.
    Path {
        query: bool,
        which: PathOf,
        path: usize,
        original: usize,
    },
    QueryParam(Box<str>, usize),
    QueryParams(usize),
    /// Each with the place of its header.
    ServerName(Vec<(ServerNameFrom, usize)>),
    /// The place of the request's id.
    StreamId(usize),
    Plain(Operator),
}

/// Where a gRPC status is looked for.
#[derive(Clone, Copy)]
pub(super) struct Grpc {
    /// Of the request.
    pub(super) content_type: usize,
    pub(super) response: usize,
    pub(super) trailer: usize,
}

impl Grpc {
    pub(super) fn want(wanted: &mut Wanted) -> Self {
        let status = LogHeader::Named(HeaderName::from_static("grpc-status"));
        Self {
            content_type: wanted.request(&LogHeader::Named(http::header::CONTENT_TYPE)),
            response: wanted.response(&status),
            trailer: wanted.trailer(&status),
        }
    }
}

impl Format {
    /// Makes a format ready and notes what it wants.
    pub(super) fn compile(model: &LogFormat, wanted: &mut Wanted) -> Self {
        let body = match &model.body {
            LogBody::Text(pieces) => Body::Text(parts(pieces, wanted)),
            LogBody::Json(piece) => Body::Json(json(piece, wanted)),
        };
        Self { body, omit_empty: model.omit_empty_values }
    }

    /// Appends a line.
    pub(super) fn render(&self, kind: LogType, live: &Live, line: &mut Vec<u8>) {
        super::render::line(self, kind, live, line);
    }
}

fn parts(pieces: &[Piece], wanted: &mut Wanted) -> Vec<Part> {
    let part = |piece: &Piece| match piece {
        Piece::Literal(text) => Part::Literal(text.as_str().into()),
        Piece::Field(Field { operator, most }) => Part::Value(show(operator, wanted), *most),
    };
    pieces.iter().map(part).collect()
}

fn json(piece: &JsonPiece, wanted: &mut Wanted) -> Json {
    match piece {
        JsonPiece::Object(entries) => {
            Json::Object(entries.iter().map(|(key, piece)| (key.as_str().into(), json(piece, wanted))).collect())
        }
        JsonPiece::List(pieces) => Json::List(pieces.iter().map(|piece| json(piece, wanted)).collect()),
        JsonPiece::Literal(value) => Json::Literal(value.to_string().into()),
        JsonPiece::Value(Field { operator, most }) => Json::Value(show(operator, wanted), *most),
        JsonPiece::Text(pieces) => Json::Text(parts(pieces, wanted)),
    }
}

fn show(operator: &Operator, wanted: &mut Wanted) -> Show {
    let named = |name: &'static str| LogHeader::Named(HeaderName::from_static(name));
    let mut both = |choice: &HeaderChoice, place: fn(&mut Wanted, &LogHeader) -> usize| {
        let first = place(wanted, &choice.name);
        (first, choice.otherwise.as_ref().map(|name| place(wanted, name)))
    };
    match operator {
        Operator::Time { emit, local, format } => {
            Show::Time { emit: *emit, local: *local, format: TimeFormat::parse(format) }
        }
        Operator::Request(choice) => {
            let (name, otherwise) = both(choice, Wanted::request);
            Show::Request(name, otherwise)
        }
        Operator::Response(choice) => {
            let (name, otherwise) = both(choice, Wanted::response);
            Show::Response(name, otherwise)
        }
        Operator::Trailer(choice) => {
            let (name, otherwise) = both(choice, Wanted::trailer);
            Show::Trailer(name, otherwise)
        }
        Operator::GrpcStatus(how) => Show::GrpcStatus(*how, Grpc::want(wanted)),
        Operator::Path { query, which } => Show::Path {
            query: *query,
            which: *which,
            path: wanted.request(&LogHeader::Path),
            original: wanted.request(&named("x-envoy-original-path")),
        },
        Operator::QueryParam(name) => Show::QueryParam(name.as_str().into(), wanted.request(&LogHeader::Path)),
        Operator::QueryParams => Show::QueryParams(wanted.request(&LogHeader::Path)),
        Operator::ServerName { from } => Show::ServerName(
            from.iter()
                .map(|from| match from {
                    ServerNameFrom::Sni => (*from, usize::MAX),
                    ServerNameFrom::Host => (*from, wanted.request(&LogHeader::Authority)),
                    ServerNameFrom::OriginalHost => (*from, wanted.request(&named("x-envoy-original-host"))),
                })
                .collect(),
        ),
        Operator::StreamId => Show::StreamId(wanted.request(&named("x-request-id"))),
        other => {
            use crate::config::model::AddressOf;
            wanted.upstream_local |= matches!(other, Operator::Address(AddressOf::UpstreamLocal, _));
            Show::Plain(other.clone())
        }
    }
}
