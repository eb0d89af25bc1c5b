//! What a matcher may look at, by the type of its input. What is never there where a tree is asked is refused: no tree that there is looks at
//! responses.

use envoy_types::pb::envoy::extensions::matching::common_inputs as common;
use envoy_types::pb::envoy::r#type::matcher::v3 as http;
use envoy_types::pb::xds::core::v3::TypedExtensionConfig;

use crate::config::convert::context::Context;
use crate::config::convert::extension::{Category, Extension, decode};
use crate::config::convert::matcher;
use crate::config::model::{HeadField, MatchInput, MetadataPath};

/// The full name of an input of connections.
macro_rules! network {
    ($name:literal) => {
        concat!("envoy.extensions.matching.common_inputs.network.v3.", $name)
    };
}

/// What is there where a tree is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::config::convert) enum Place {
    /// A request that has no response yet.
    Request,
    /// A connection that has no filter chain yet.
    Connection,
}

pub(in crate::config::convert) fn convert(
    cx: &mut Context,
    message: Option<TypedExtensionConfig>,
    place: Place,
) -> Option<MatchInput> {
    let TypedExtensionConfig { name, typed_config } = message?;
    let input = cx.at("typed_config", |cx| INPUTS.parse(cx, &name, typed_config.as_ref()))?;
    let (is_there, why) = match place {
        Place::Request if input.is_of_response() => {
            (false, "is of a response, and here a request is looked at before it has one")
        }
        Place::Request => (input.is_of_request(), "is of connections whose filter chain is not chosen yet"),
        Place::Connection => (input.is_of_connection(), "is not known before the filter chain is chosen"),
    };
    if !is_there {
        cx.error(why);
        return None;
    }
    Some(input)
}

const INPUTS: Category<MatchInput> = Category {
    what: "matching input",
    extensions: &[
        Extension {
            type_name: "envoy.type.matcher.v3.HttpRequestHeaderMatchInput",
            parse: |cx, bytes| {
                let http::HttpRequestHeaderMatchInput { header_name } = decode(cx, bytes)?;
                header(cx, &header_name).map(MatchInput::RequestHeader)
            },
        },
        Extension {
            type_name: "envoy.type.matcher.v3.HttpResponseHeaderMatchInput",
            parse: |cx, bytes| {
                let http::HttpResponseHeaderMatchInput { header_name } = decode(cx, bytes)?;
                header(cx, &header_name).map(MatchInput::ResponseHeader)
            },
        },
        Extension {
            type_name: "envoy.type.matcher.v3.HttpResponseStatusCodeMatchInput",
            parse: |_, _| Some(MatchInput::Status),
        },
        Extension {
            type_name: "envoy.type.matcher.v3.HttpResponseStatusCodeClassMatchInput",
            parse: |_, _| Some(MatchInput::StatusClass),
        },
        Extension {
            type_name: "envoy.type.matcher.v3.HttpResponseLocalReplyMatchInput",
            parse: |_, _| Some(MatchInput::LocalReply),
        },
        Extension {
            type_name: "envoy.type.matcher.v3.HttpRequestQueryParamMatchInput",
            parse: |cx, bytes| {
                let http::HttpRequestQueryParamMatchInput { query_param } = decode(cx, bytes)?;
                Some(MatchInput::Query(query_param))
            },
        },
        Extension { type_name: network!("DestinationIPInput"), parse: |_, _| Some(MatchInput::DestinationIp) },
        Extension { type_name: network!("DestinationPortInput"), parse: |_, _| Some(MatchInput::DestinationPort) },
        Extension { type_name: network!("SourceIPInput"), parse: |_, _| Some(MatchInput::SourceIp) },
        Extension { type_name: network!("SourcePortInput"), parse: |_, _| Some(MatchInput::SourcePort) },
        Extension { type_name: network!("DirectSourceIPInput"), parse: |_, _| Some(MatchInput::DirectSourceIp) },
        Extension { type_name: network!("SourceTypeInput"), parse: |_, _| Some(MatchInput::SourceType) },
        Extension { type_name: network!("ServerNameInput"), parse: |_, _| Some(MatchInput::ServerName) },
        Extension { type_name: network!("TransportProtocolInput"), parse: |_, _| Some(MatchInput::TransportProtocol) },
        Extension {
            type_name: network!("ApplicationProtocolInput"),
            parse: |_, _| Some(MatchInput::ApplicationProtocol),
        },
        Extension {
            type_name: network!("FilterStateInput"),
            parse: |cx, bytes| {
                let common::network::v3::FilterStateInput { key, field } = decode(cx, bytes)?;
                refuse!(cx; field);
                Some(MatchInput::FilterState(key))
            },
        },
        Extension {
            type_name: network!("DynamicMetadataInput"),
            parse: |cx, bytes| {
                use common::network::v3::dynamic_metadata_input::{PathSegment, path_segment::Segment};
                let common::network::v3::DynamicMetadataInput { filter: namespace, path } = decode(cx, bytes)?;
                let path = path.into_iter().filter_map(|PathSegment { segment }| segment);
                let path = path.map(|Segment::Key(key)| key).collect();
                Some(MatchInput::Metadata(MetadataPath { namespace, path }))
            },
        },
        Extension {
            type_name: "envoy.extensions.matching.common_inputs.ssl.v3.UriSanInput",
            parse: |_, _| Some(MatchInput::UriSan),
        },
        Extension {
            type_name: "envoy.extensions.matching.common_inputs.ssl.v3.DnsSanInput",
            parse: |_, _| Some(MatchInput::DnsSan),
        },
        Extension {
            type_name: "envoy.extensions.matching.common_inputs.ssl.v3.SubjectInput",
            parse: |_, _| Some(MatchInput::Subject),
        },
        Extension {
            type_name: "envoy.extensions.matching.common_inputs.environment_variable.v3.Config",
            parse: |cx, bytes| {
                let common::environment_variable::v3::Config { name } = decode(cx, bytes)?;
                Some(MatchInput::Constant(std::env::var(&name).ok()))
            },
        },
    ],
};

fn header(cx: &mut Context, name: &str) -> Option<HeadField> {
    matcher::field(cx, "header_name", name)
}
