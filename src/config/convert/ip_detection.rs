//! `original_ip_detection_extensions`.

use envoy_types::pb::envoy::config::core::v3 as core;
use envoy_types::pb::envoy::extensions::http::original_ip_detection::custom_header::v3 as custom;
use envoy_types::pb::envoy::extensions::http::original_ip_detection::xff::v3 as xff;
use http::HeaderName;

use super::context::Context;
use super::extension::IP_DETECTIONS;
use super::{address, values};
use crate::config::model::IpDetection;

pub(super) fn each(
    cx: &mut Context,
    messages: Vec<core::TypedExtensionConfig>,
    use_remote_address: bool,
    trusted_hops: u32,
) -> Vec<IpDetection> {
    if messages.is_empty() {
        return Vec::new();
    }
    if use_remote_address {
        cx.error_at("original_ip_detection_extensions", "cannot be combined with use_remote_address");
    }
    if trusted_hops > 0 {
        cx.error_at("original_ip_detection_extensions", "cannot be combined with xff_num_trusted_hops");
    }
    cx.each("original_ip_detection_extensions", messages, |cx, message| {
        let core::TypedExtensionConfig { name, typed_config } = message;
        cx.at("typed_config", |cx| IP_DETECTIONS.parse(cx, &name, typed_config.as_ref()))
    })
}

pub(super) fn custom_header(cx: &mut Context, message: custom::CustomHeaderConfig) -> Option<IpDetection> {
    let custom::CustomHeaderConfig { header_name, allow_extension_to_set_address_as_trusted, reject_with_status } =
        message;
    let Ok(name) = HeaderName::from_bytes(header_name.as_bytes()) else {
        cx.error_at("header_name", "is not the name of a header");
        return None;
    };
    // What says that all is well, or nothing, cannot refuse anybody.
    let reject = reject_with_status.map(|status| u16::try_from(status.code).unwrap_or(0));
    let reject = reject.map(|code| if (400..600).contains(&code) { code } else { 403 });
    Some(IpDetection::Header { name, trusted: allow_extension_to_set_address_as_trusted, reject })
}

pub(super) fn forwarded(cx: &mut Context, message: xff::XffConfig) -> IpDetection {
    let xff::XffConfig { xff_num_trusted_hops, xff_trusted_cidrs, skip_xff_append } = message;
    if xff_num_trusted_hops > 0 && xff_trusted_cidrs.is_some() {
        cx.error("Cannot set both xff_num_trusted_hops and xff_trusted_cidrs");
    }
    let trusted = xff_trusted_cidrs
        .map(|xff::XffTrustedCidrs { cidrs }| cx.at("xff_trusted_cidrs", |cx| cx.each("cidrs", cidrs, address::cidr)));
    IpDetection::Forwarded { hops: xff_num_trusted_hops, trusted, append: !values::is_not_false(&skip_xff_append) }
}
