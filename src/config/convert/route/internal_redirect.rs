//! `envoy.config.route.v3.InternalRedirectPolicy`.

use envoy_types::pb::envoy::config::core::v3 as core;
use envoy_types::pb::envoy::config::route::v3 as api;

use crate::config::convert::context::Context;
use crate::config::convert::extension::REDIRECT_PREDICATES;
use crate::config::convert::values;
use crate::config::model::InternalRedirects;

const DEFAULT_CODE: u16 = 302;
const DEFAULT_MOST: u32 = 1;

pub(super) fn policy(cx: &mut Context, message: api::InternalRedirectPolicy) -> InternalRedirects {
    let api::InternalRedirectPolicy {
        max_internal_redirects,
        redirect_response_codes,
        predicates,
        allow_cross_scheme_redirect,
        response_headers_to_copy,
    } = message;
    let none_given = redirect_response_codes.is_empty();
    let mut codes = cx.each("redirect_response_codes", redirect_response_codes, |cx, code| match code {
        301 | 302 | 303 | 307 | 308 => u16::try_from(code).ok(),
        _ => {
            cx.warn(format!("{code} is not the code of a redirect that can be followed: it is passed on"));
            None
        }
    });
    if none_given {
        codes.push(DEFAULT_CODE);
    }
    InternalRedirects {
        most: values::number(&max_internal_redirects).unwrap_or(DEFAULT_MOST),
        codes,
        cross_scheme: allow_cross_scheme_redirect,
        copied: cx.each("response_headers_to_copy", response_headers_to_copy, |cx, name| {
            if name.starts_with(':') || name.eq_ignore_ascii_case("host") {
                cx.error(":-prefixed headers and host may not be copied");
                return None;
            }
            name.parse().map_err(|_| cx.error(format!("`{name}` is not a header's name"))).ok()
        }),
        predicates: cx.each("predicates", predicates, |cx, predicate| {
            let core::TypedExtensionConfig { name, typed_config } = predicate;
            cx.at("typed_config", |cx| REDIRECT_PREDICATES.parse(cx, &name, typed_config.as_ref()))
        }),
    }
}

/// `internal_redirect_action` with its `max_internal_redirects`: what there was before there was a policy.
pub(super) fn older(action: i32, most: Option<u32>) -> Option<InternalRedirects> {
    (action == api::route_action::InternalRedirectAction::HandleInternalRedirect as i32).then(|| InternalRedirects {
        most: most.unwrap_or(DEFAULT_MOST),
        codes: vec![DEFAULT_CODE],
        cross_scheme: false,
        copied: Vec::new(),
        predicates: Vec::new(),
    })
}
