//! Redirects that are followed in place of the client.

use http::HeaderName;

/// `envoy.config.route.v3.InternalRedirectPolicy`.
#[derive(Clone, Debug, PartialEq)]
pub struct InternalRedirects {
    /// `max_internal_redirects`, default 1: a request that has followed so many gets the next one passed on.
    pub most: u32,
    /// `redirect_response_codes`, default 302.
    pub codes: Vec<u16>,
    /// `allow_cross_scheme_redirect`.
    pub cross_scheme: bool,
    /// `response_headers_to_copy`: what the redirect says in them the next request says too.
    pub copied: Vec<HeaderName>,
    /// `predicates`: all must agree.
    pub predicates: Vec<RedirectPredicate>,
}

/// What a redirect must meet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RedirectPredicate {
    /// `allow_listed_routes`: it goes to a route of one of these names.
    AllowListed(Vec<String>),
    /// `previous_routes`: the request has not been sent there from here before.
    PreviousRoutes,
    /// `safe_cross_scheme`: not from plain text to TLS, which the client would not have.
    SafeCrossScheme,
}
