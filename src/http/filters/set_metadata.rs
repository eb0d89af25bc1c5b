//! `envoy.filters.http.set_metadata`: leaves fixed values in a request's dynamic metadata, for filters that come behind.
//!
//! What a namespace has already is merged with where `allow_overwrite` says so, and else left and counted: values replace values, lists
//! grow, structures are merged. What a route says comes after what the chain says. A request with metadata can move to
//! another epoch once it is on its way: its line in the access logs takes them along, and nobody else asks for them then.

use std::rc::Rc;

use serde_json::{Map, Value};

use self::settings::{Entry, Metadata};
use super::super::filter::{Answer, Building, Extension, Filter, Next, Request};
use super::super::record::Record;
use crate::config::extension::{HttpFilterKind, RouteKind};
use crate::config::model::Settings;
use crate::stats::names::SetMetadataStats;

mod settings;

/// How it comes into being.
pub const EXTENSION: Extension = Extension {
    kind: HttpFilterKind {
        type_name: "envoy.extensions.filters.http.set_metadata.v3.Config",
        settings: settings::read,
        route: Some(RouteKind {
            type_name: "envoy.extensions.filters.http.set_metadata.v3.Config",
            settings: settings::read,
        }),
    },
    build,
};

fn build(with: &Building<'_>) -> Result<Rc<dyn Filter>, String> {
    let settings = with.model.settings.clone();
    settings.get::<Metadata>().ok_or("has no settings of its own")?;
    Ok(Rc::new(SetMetadata { settings, stats: SetMetadataStats::new(with.scope) }))
}

struct SetMetadata {
    settings: Settings,
    stats: SetMetadataStats,
}

impl Filter for SetMetadata {
    fn call<'a>(&'a self, request: Request<'a>, next: Next<'a>) -> Answer<'a> {
        let record = next.stream().record();
        if let Some(own) = self.settings.get::<Metadata>() {
            self.set(own, record);
        }
        next.find_in_route(|said: &Metadata| {
            self.set(said, record);
            Some(())
        });
        next.run(request)
    }
}

impl SetMetadata {
    fn set(&self, metadata: &Metadata, record: &Record) {
        for Entry { namespace, value, allow_overwrite } in &metadata.0 {
            let is_new = record.change_metadata(namespace, |there| match there {
                Some(there) if *allow_overwrite => {
                    merge(there, value);
                    false
                }
                Some(_) => {
                    self.stats.overwrite_denied.inc();
                    false
                }
                None => true,
            });
            if is_new {
                for (key, value) in value {
                    record.set_metadata(namespace, key, value.clone());
                }
            }
        }
    }
}

/// Adds `more`: lists grow, structures are merged, anything else is replaced.
fn merge(there: &mut Map<String, Value>, more: &Map<String, Value>) {
    for (key, value) in more {
        match (there.get_mut(key), value) {
            (Some(Value::Array(there)), Value::Array(more)) => there.extend(more.iter().cloned()),
            (Some(Value::Object(there)), Value::Object(more)) => merge(there, more),
            _ => {
                there.insert(key.clone(), value.clone());
            }
        }
    }
}
