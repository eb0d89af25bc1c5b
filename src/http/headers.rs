//! What a proxy does to the headers that pass it: pure functions over heads, in Envoy's order.
//!
//! The connection manager calls [`prepare_request`] before routing and [`prepare_response`] before a response (its own or an
//! upstream's) is written; the router calls [`announce_timeout`] and [`announce_service_time`]. [`Rules`] are compiled once
//! per filter chain and worker; a reload makes new ones.

mod client;
mod client_cert;
mod date;
#[cfg(any(test, feature = "fuzzing"))]
pub(super) mod fuzz;
mod inline;
pub mod names;
mod request;
mod response;
mod target;

pub use client::{Client, ConnectionFacts};
pub use client_cert::announce_certificate;
pub use date::DateCache;
pub use request::{Ids, announce_attempts, announce_timeout, ask_ourselves, normalize, prepare_request};
pub use response::{ResponseFacts, announce_service_time, prepare_response};
pub use target::Turned;

use http::header::InvalidHeaderValue;
use http::{HeaderName, HeaderValue};

use crate::config::model::{Cidr, ClientCertRules, HttpConnectionManager, IpDetection, ServerHeader, TargetRules};

/// The header rules of one HTTP connection manager.
#[derive(Clone, Debug)]
pub struct Rules {
    use_remote_address: bool,
    trusted_hops: usize,
    append_forwarded_for: bool,
    ip_detection: Vec<IpDetection>,
    internal_addresses: Vec<Cidr>,
    internal_unix_sockets: bool,
    internal_only: Vec<HeaderName>,
    generate_request_id: bool,
    preserve_external_request_id: bool,
    request_id_in_response: bool,
    proxy_100_continue: bool,
    user_agent: Option<UserAgent>,
    via: Option<HeaderValue>,
    server: HeaderValue,
    server_header: ServerHeader,
    /// `None`: the target is left as it is.
    target: Option<TargetRules>,
    client_cert: ClientCertRules,
}

/// `add_user_agent`.
#[derive(Clone, Debug)]
struct UserAgent {
    cluster: HeaderValue,
    node: Option<HeaderValue>,
}

impl Rules {
    /// From a validated manager and its route configuration.
    ///
    /// # Errors
    /// A configured text that no header can carry.
    pub fn compile(manager: &HttpConnectionManager) -> Result<Self, InvalidHeaderValue> {
        let text = |text: &str| HeaderValue::from_str(text);
        let optional = |value: &str| if value.is_empty() { Ok(None) } else { text(value).map(Some) };
        let user_agent = match &manager.add_user_agent {
            Some((cluster, node)) => Some(UserAgent { cluster: text(cluster)?, node: optional(node)? }),
            None => None,
        };
        let internal_only = &manager.routes.internal_only_headers;
        Ok(Self {
            use_remote_address: manager.use_remote_address,
            trusted_hops: manager.xff_num_trusted_hops as usize,
            append_forwarded_for: manager.use_remote_address && !manager.skip_xff_append,
            ip_detection: manager.ip_detection.clone(),
            internal_addresses: manager.internal_addresses.clone(),
            internal_unix_sockets: manager.internal_unix_sockets,
            // A name that no header can have needs no removal.
            internal_only: internal_only.iter().filter_map(|name| name.parse().ok()).collect(),
            generate_request_id: manager.generate_request_id,
            preserve_external_request_id: manager.preserve_external_request_id,
            proxy_100_continue: manager.proxy_100_continue,
            request_id_in_response: manager.always_set_request_id_in_response,
            user_agent,
            via: optional(&manager.via)?,
            server: text(&manager.server_name)?,
            server_header: manager.server_header,
            target: (manager.target != TargetRules::default()).then(|| manager.target.clone()),
            client_cert: manager.client_cert.clone(),
        })
    }
}

#[cfg(test)]
mod tests;
