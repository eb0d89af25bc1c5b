//! Response headers on their way to the client.

use std::time::Duration;

use http::{HeaderValue, header};

use super::Rules;
use super::names::{X_ENVOY_UPSTREAM_SERVICE_TIME, X_REQUEST_ID};
use super::request::{append_via, number_value};
use crate::codec::{Headers, ResponseHead};
use crate::config::model::ServerHeader;

/// What a response needs to know beside itself.
#[derive(Clone, Debug)]
pub struct ResponseFacts<'r> {
    /// The request's headers as they went upstream.
    pub request: &'r Headers,
    /// The date of now.
    pub date: HeaderValue,
    /// The response grants an upgrade that the request asked for: `connection` and `upgrade` stay.
    pub upgrade: bool,
}

/// Makes a response fit to be sent to the client, whether an upstream made it or we did: removes what is about the upstream's
/// connection, adds who we are.
pub fn prepare_response(head: &mut ResponseHead, rules: &Rules, facts: &ResponseFacts<'_>) {
    let mut dated = false;
    let mut served = false;
    head.headers.retain(|name, _| {
        dated |= *name == header::DATE;
        served |= *name == header::SERVER;
        if *name == header::CONNECTION || *name == header::UPGRADE {
            return facts.upgrade;
        }
        *name != header::TRANSFER_ENCODING && !matches!(name.as_str(), "keep-alive" | "proxy-connection")
    });
    if !dated {
        head.headers.append(header::DATE, facts.date.clone());
    }
    match rules.server_header {
        ServerHeader::Overwrite => head.headers.set(header::SERVER, rules.server.clone()),
        ServerHeader::AppendIfAbsent if !served => head.headers.append(header::SERVER, rules.server.clone()),
        ServerHeader::AppendIfAbsent | ServerHeader::PassThrough => {}
    }
    if rules.request_id_in_response
        && let Some(id) = facts.request.get(&X_REQUEST_ID)
    {
        head.headers.set(X_REQUEST_ID.clone(), id.clone());
    }
    if let Some(via) = &rules.via {
        append_via(&mut head.headers, via);
    }
}

/// Tells the client how long the upstream took. Not with `suppress_envoy_headers`.
pub fn announce_service_time(headers: &mut Headers, time: Duration) {
    headers.set(X_ENVOY_UPSTREAM_SERVICE_TIME.clone(), number_value(time.as_millis()));
}
