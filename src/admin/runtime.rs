//! `/runtime` and `/runtime_modify`.

use http::StatusCode;
use serde_json::{Map, Value, json};

use super::Admin;
use super::query::Query;
use super::reply::Reply;

const USAGE: &str = "usage: /runtime_modify?key1=value1&key2=value2&keyN=valueN\n       or send the parameters as form values\n\
                     use an empty value to remove a previously added override";

/// Every value with what each layer says of it, an empty text where it says nothing.
pub(super) fn show(admin: &Admin, _: &Query) -> Reply {
    let snapshot = admin.view.runtime();
    let layers = snapshot.layers();
    let entries: Map<String, Value> = snapshot
        .names()
        .into_iter()
        .map(|name| {
            let of_layers = layers.iter().map(|layer| layer.values.get(name).map_or("", |value| value.text()));
            let of_layers: Vec<&str> = of_layers.collect();
            let last = snapshot.get(name).map_or("", |value| value.text());
            (name.to_owned(), json!({ "layer_values": of_layers, "final_value": last }))
        })
        .collect();
    let names: Vec<&str> = layers.iter().map(|layer| layer.name.as_str()).collect();
    Reply::json(&json!({ "entries": entries, "layers": names }))
}

pub(super) fn modify(admin: &Admin, query: &Query) -> Reply {
    if query.is_empty() {
        return Reply::bad_request(USAGE);
    }
    match admin.view.modify_runtime(query.all()) {
        Ok(()) => {
            tracing::info!(changes = ?query.all(), "runtime values changed by the admin endpoint");
            Reply::ok()
        }
        Err(reason) => Reply::error(StatusCode::SERVICE_UNAVAILABLE, reason),
    }
}
