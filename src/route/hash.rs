//! The hash of a request, for balancers that place requests by hash; asked for only where one does.

use std::net::IpAddr;
use std::time::Duration;

use xxhash_rust::xxh64::xxh64;

use super::facts::{cookie, query};
use super::surroundings::Surroundings;
use crate::codec::head::RequestHead;
use crate::config::model::{HashPolicy, HashSource, HeadField};

/// A hash, and the cookie that the client must bring to get it again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hashed {
    /// `None` where no policy had anything to look at.
    pub hash: Option<u64>,
    /// Values for `set-cookie`.
    pub cookies: Vec<String>,
}

/// Hashes a request by the policies of its route, in order: each one turns what is there by a bit and adds its own. `addresses` are those of
/// both ends of the client's connection, as text: what a new cookie is made of; `around` has the filter state.
pub fn hash(
    policies: &[HashPolicy],
    head: &RequestHead,
    client: Option<IpAddr>,
    addresses: &str,
    around: &dyn Surroundings,
) -> Hashed {
    let mut hashed = Hashed::default();
    for policy in policies {
        let one = match &policy.source {
            HashSource::Header(HeadField::Header(name), substitution) => {
                let mut values: Vec<&[u8]> = head.headers.get_all(name).map(http::HeaderValue::as_bytes).collect();
                values.sort_unstable();
                of_values(&values, substitution.as_ref())
            }
            HashSource::Header(field, substitution) => super::facts::field(head, field)
                .map(|value| of_values(&[&value], substitution.as_ref()))
                .unwrap_or(None),
            HashSource::Cookie { name, ttl, path, attributes } => {
                match cookie(head, name).filter(|value| !value.is_empty()) {
                    Some(value) => Some(xxh64(value, 0)),
                    None => ttl.map(|ttl| {
                        let hash = xxh64(addresses.as_bytes(), 0);
                        // The client sends the text, and it is the text that will be hashed.
                        let text = format!("{hash:016x}");
                        hashed.cookies.push(set_cookie(name, &text, ttl, path, attributes));
                        xxh64(text.as_bytes(), 0)
                    }),
                }
            }
            HashSource::SourceIp => client.map(|ip| xxh64(ip.to_string().as_bytes(), 0)),
            HashSource::FilterState(key) => around.hash(key),
            HashSource::Query(name) => query(head, name).map(|value| xxh64(value, 0)),
        };
        if let Some(one) = one {
            hashed.hash = Some(hashed.hash.map_or(one, |hash| hash.rotate_left(1) ^ one));
        }
        if policy.terminal && hashed.hash.is_some() {
            break;
        }
    }
    hashed
}

/// Several values are hashed one after the other, each with the hash so far as its seed.
fn of_values(values: &[&[u8]], substitution: Option<&crate::config::model::Substitution>) -> Option<u64> {
    values.iter().fold(None, |hash, value| {
        let replaced = substitution.map(|substitution| substitution.replace_all(value));
        Some(xxh64(replaced.as_deref().unwrap_or(value), hash.unwrap_or(0)))
    })
}

fn set_cookie(name: &str, value: &str, ttl: Duration, path: &str, attributes: &[(String, String)]) -> String {
    let mut text = format!("{name}=\"{value}\"");
    if !ttl.is_zero() {
        text.push_str(&format!("; Max-Age={}", ttl.as_secs()));
    }
    if !path.is_empty() {
        text.push_str(&format!("; Path={path}"));
    }
    for (name, value) in attributes {
        text.push_str(&if value.is_empty() { format!("; {name}") } else { format!("; {name}={value}") });
    }
    text.push_str("; HttpOnly");
    text
}
