//! Paths, hosts and schemes of a connection manager.

use envoy_types::pb::envoy::config::core::v3 as core;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3 as api;
use envoy_types::pb::google::protobuf::BoolValue;

use super::context::Context;
use super::values;
use crate::config::model::{EscapedSlashes, ForcedScheme, StripPort, TargetRules};

/// The fields of a connection manager that are about a request's target.
pub(super) struct Fields {
    pub(super) normalize_path: Option<BoolValue>,
    pub(super) merge_slashes: bool,
    pub(super) path_with_escaped_slashes_action: i32,
    pub(super) strip_matching_host_port: bool,
    pub(super) strip_port_mode: Option<api::http_connection_manager::StripPortMode>,
    pub(super) strip_trailing_host_dot: bool,
    pub(super) append_x_forwarded_port: bool,
    pub(super) scheme_header_transformation: Option<core::SchemeHeaderTransformation>,
}

pub(super) fn convert(cx: &mut Context, fields: Fields) -> TargetRules {
    use api::http_connection_manager::StripPortMode;
    let any = matches!(fields.strip_port_mode, Some(StripPortMode::StripAnyHostPort(true)));
    if any && fields.strip_matching_host_port {
        cx.error_at(
            "strip_matching_host_port",
            "only one of strip_matching_host_port and strip_any_host_port can be set",
        );
    }
    let strip_port = match (any, fields.strip_matching_host_port) {
        (true, _) => StripPort::Any,
        (false, true) => StripPort::Matching,
        (false, false) => StripPort::No,
    };
    TargetRules {
        normalize_path: values::is_true(&fields.normalize_path),
        merge_slashes: fields.merge_slashes,
        escaped_slashes: escaped_slashes(fields.path_with_escaped_slashes_action),
        strip_port,
        strip_trailing_dot: fields.strip_trailing_host_dot,
        forwarded_port: fields.append_x_forwarded_port,
        scheme: cx.at("scheme_header_transformation", |cx| {
            scheme(cx, fields.scheme_header_transformation.unwrap_or_default())
        }),
    }
}

/// There is no runtime, so what is left to the implementation is Envoy's own default.
fn escaped_slashes(action: i32) -> EscapedSlashes {
    use api::http_connection_manager::PathWithEscapedSlashesAction as Api;
    match Api::try_from(action) {
        Ok(Api::RejectRequest) => EscapedSlashes::Reject,
        Ok(Api::UnescapeAndRedirect) => EscapedSlashes::Redirect,
        Ok(Api::UnescapeAndForward) => EscapedSlashes::Forward,
        Ok(Api::ImplementationSpecificDefault | Api::KeepUnchanged) | Err(_) => EscapedSlashes::Keep,
    }
}

fn scheme(cx: &mut Context, message: core::SchemeHeaderTransformation) -> Option<ForcedScheme> {
    use core::scheme_header_transformation::Transformation;
    let core::SchemeHeaderTransformation { match_upstream, transformation } = message;
    match transformation {
        Some(Transformation::SchemeToOverwrite(scheme)) if scheme == "https" => Some(ForcedScheme::Https),
        // The checker lets nothing else pass.
        Some(Transformation::SchemeToOverwrite(_)) => Some(ForcedScheme::Http),
        None => {
            refuse!(cx; match_upstream);
            None
        }
    }
}
