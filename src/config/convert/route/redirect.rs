//! `envoy.config.route.v3.RedirectAction`.

use envoy_types::pb::envoy::config::route::v3 as api;

use super::path_text;
use crate::config::convert::context::Context;
use crate::config::convert::matcher;
use crate::config::model::{PathRewrite, Redirect, RedirectPath, RouteAction};

pub(super) fn convert(cx: &mut Context, message: api::RedirectAction) -> Option<RouteAction> {
    use api::redirect_action::{PathRewriteSpecifier as Path, SchemeRewriteSpecifier as Scheme};
    let api::RedirectAction {
        host_redirect,
        port_redirect,
        response_code,
        strip_query,
        scheme_rewrite_specifier,
        path_rewrite_specifier,
    } = message;
    let scheme = match scheme_rewrite_specifier {
        Some(Scheme::HttpsRedirect(true)) => "https".to_owned(),
        Some(Scheme::HttpsRedirect(false)) | None => String::new(),
        Some(Scheme::SchemeRedirect(scheme)) => {
            let fits = scheme.chars().all(|letter| letter.is_ascii_alphanumeric() || "+-.".contains(letter));
            if !fits {
                cx.error_at("scheme_redirect", format!("`{scheme}` is not a scheme"));
            }
            scheme
        }
    };
    let path = match path_rewrite_specifier {
        None => Some(RedirectPath::Rewrite(PathRewrite::None)),
        Some(Path::PathRedirect(path)) if path.is_empty() => Some(RedirectPath::Rewrite(PathRewrite::None)),
        Some(Path::PathRedirect(path)) => path_text(cx, "path_redirect", path).map(RedirectPath::Path),
        Some(Path::PrefixRewrite(prefix)) if prefix.is_empty() => Some(RedirectPath::Rewrite(PathRewrite::None)),
        Some(Path::PrefixRewrite(prefix)) => {
            path_text(cx, "prefix_rewrite", prefix).map(|prefix| RedirectPath::Rewrite(PathRewrite::Prefix(prefix)))
        }
        Some(Path::RegexRewrite(message)) => cx
            .at("regex_rewrite", |cx| matcher::substitution(cx, message))
            .map(|substitution| RedirectPath::Rewrite(PathRewrite::Regex(substitution))),
        Some(Path::PathRewrite(text)) if text.is_empty() => Some(RedirectPath::Rewrite(PathRewrite::None)),
        Some(Path::PathRewrite(text)) => {
            super::path_format(cx, &text).map(|pieces| RedirectPath::Rewrite(PathRewrite::Format(pieces)))
        }
    };
    let port = match u16::try_from(port_redirect) {
        Ok(0) => None,
        Ok(port) => Some(port),
        Err(_) => {
            cx.error_at("port_redirect", format!("{port_redirect} is not a port"));
            None
        }
    };
    Some(RouteAction::Redirect(Box::new(Redirect {
        scheme,
        host: host_redirect,
        port,
        path: path?,
        status: status(response_code),
        strip_query,
    })))
}

fn status(code: i32) -> u16 {
    use api::redirect_action::RedirectResponseCode as Code;
    match Code::try_from(code) {
        Ok(Code::Found) => 302,
        Ok(Code::SeeOther) => 303,
        Ok(Code::TemporaryRedirect) => 307,
        Ok(Code::PermanentRedirect) => 308,
        Ok(Code::MovedPermanently) | Err(_) => 301,
    }
}
