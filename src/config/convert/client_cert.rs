//! `forward_client_cert_details` and what belongs to it.

use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::http_connection_manager as api;

use super::context::Context;
use super::values;
use crate::config::model::{ClientCertRules, ForwardClientCert};

pub(super) fn convert(
    cx: &mut Context,
    mode: i32,
    details: Option<api::SetCurrentClientCertDetails>,
) -> ClientCertRules {
    use api::ForwardClientCertDetails as Api;
    let mode = match Api::try_from(mode) {
        Ok(Api::ForwardOnly) => ForwardClientCert::ForwardOnly,
        Ok(Api::AppendForward) => ForwardClientCert::AppendForward,
        Ok(Api::SanitizeSet) => ForwardClientCert::SanitizeSet,
        Ok(Api::AlwaysForwardOnly) => ForwardClientCert::AlwaysForwardOnly,
        Ok(Api::Sanitize) | Err(_) => ForwardClientCert::Sanitize,
    };
    let api::SetCurrentClientCertDetails { subject, cert, chain, dns, uri, issuer, format } =
        details.unwrap_or_default();
    cx.at("set_current_client_cert_details", |cx| {
        refuse!(cx; cert, chain, issuer, format);
    });
    ClientCertRules { mode, subject: values::is_true(&subject), uri, dns }
}
