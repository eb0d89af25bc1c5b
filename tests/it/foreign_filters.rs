//! A filter that this library does not know: its settings from the text of a configuration, on the chain and on every level of the routes.

use std::rc::Rc;

use heirloom::config::extension::{Given, HttpFilterKind, Reader, RouteKind};
use heirloom::config::model::Settings;
use heirloom::config::{LoadOptions, Source, load};
use heirloom::http::filter::{Answer, Building, Extension, Filter, Next, Request};
use heirloom::http::local_reply;

use crate::support::proxy::Proxy;

/// The filter's own settings.
#[derive(Clone, Debug, PartialEq, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Stamp {
    text: String,
}

fn stamp(reader: &mut Reader<'_>, given: Given<'_>) -> Option<Settings> {
    let stamp: Stamp = reader.deserialize(given)?;
    if stamp.text.is_empty() {
        reader.at("text", |reader| reader.error("must not be empty"));
    }
    Some(Settings::new(stamp))
}

static STAMPS: [Extension; 1] = [Extension {
    kind: HttpFilterKind {
        type_name: "acme.Stamp",
        settings: stamp,
        route: Some(RouteKind { type_name: "acme.Stamp", settings: stamp }),
    },
    build,
}];

fn build(with: &Building<'_>) -> Result<Rc<dyn Filter>, String> {
    let stamp: &Stamp = with.model.settings.get().ok_or("has no settings of its own")?;
    Ok(Rc::new(Stamps(stamp.text.clone())))
}

/// Answers with its text, and those of the route from the least specific on.
struct Stamps(String);

impl Filter for Stamps {
    fn call<'a>(&'a self, request: Request<'a>, next: Next<'a>) -> Answer<'a> {
        let mut texts = vec![self.0.clone()];
        texts.extend(next.all_route_settings().iter().filter_map(|said| Some(said.get::<Stamp>()?.text.clone())));
        let most = next.route_settings().and_then(|said| said.get::<Stamp>().map(|stamp| stamp.text.clone()));
        assert_eq!(most.as_ref(), texts.last().filter(|_| texts.len() > 1));
        let record = next.stream().record();
        record.set_metadata("acme", "count", texts.len().into());
        record.set_object("acme.texts", texts);
        Answer::later(async move {
            let response = next.run(request).await?;
            let record = next.stream().record();
            let texts = record.object::<Vec<String>>("acme.texts").unwrap_or_default();
            assert_eq!(record.metadata("acme", "count"), Some(texts.len().into()));
            assert!(record.object::<u8>("acme.texts").is_none());
            drop(response);
            Ok(local_reply::text(200, texts.join(",").into()))
        })
    }
}

fn stamped(text: &str) -> String {
    format!(
        "{{ '@type': type.googleapis.com/xds.type.v3.TypedStruct, type_url: type.googleapis.com/acme.Stamp, value: {{ text: '{text}' }} }}"
    )
}

/// A configuration with the filter as `stamp` and, disabled, as `off`.
fn text(chain: &str) -> String {
    let wrapped =
        |inner: &str| format!("{{ '@type': type.googleapis.com/envoy.config.route.v3.FilterConfig, {inner} }}");
    format!(
        r#"
static_resources:
  listeners:
  - address: {{ socket_address: {{ address: 127.0.0.1, port_value: 0 }} }}
    filter_chains:
    - filters:
      - name: hcm
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: test
          http_filters:
          - name: stamp
            typed_config: {chain}
          - name: "off"
            disabled: true
            typed_config: {off}
          - name: router
            typed_config: {{ "@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router }}
          route_config:
            typed_per_filter_config: {{ stamp: {table} }}
            virtual_hosts:
            - name: all
              domains: ["*"]
              typed_per_filter_config: {{ stamp: {host} }}
              routes:
              - match: {{ path: /route }}
                direct_response: {{ status: 204 }}
                typed_per_filter_config: {{ stamp: {route} }}
              - match: {{ path: /none }}
                direct_response: {{ status: 204 }}
                typed_per_filter_config: {{ stamp: {none} }}
              - match: {{ path: /on }}
                direct_response: {{ status: 204 }}
                typed_per_filter_config: {{ stamp: {none}, "off": {on} }}
              - match: {{ prefix: / }}
                direct_response: {{ status: 204 }}
"#,
        off = stamped("off"),
        table = stamped("table"),
        host = stamped("host"),
        route = wrapped(&format!("config: {}", stamped("route"))),
        none = wrapped("disabled: true"),
        on = wrapped("is_optional: false"),
    )
}

fn read(text: String) -> Result<heirloom::config::Loaded, heirloom::config::Faults> {
    let http_filters = heirloom::http::filters::kinds(&STAMPS);
    load(&Source { path: None, yaml: Some(text) }, &LoadOptions { http_filters, ..LoadOptions::default() })
}

#[test]
fn a_foreign_filter_has_settings_on_every_level() {
    let loaded = read(text(&stamped("chain"))).unwrap_or_else(|faults| panic!("{faults}"));
    assert_eq!(loaded.warnings, []);
    let again = read(text(&stamped("chain"))).unwrap_or_else(|faults| panic!("{faults}"));
    assert_eq!(loaded.bootstrap, again.bootstrap, "settings can be compared");
    let other = read(text(&stamped("other"))).unwrap_or_else(|faults| panic!("{faults}"));
    assert_ne!(loaded.bootstrap, other.bootstrap);
    let proxy = Proxy::start_with((*loaded.bootstrap.listeners[0]).clone(), Vec::new(), &STAMPS);
    let mut client = proxy.connect();
    for (path, expected) in
        [("/", "chain,table,host"), ("/route", "chain,table,host,route"), ("/none", ""), ("/on", "off")]
    {
        assert_eq!(client.get(path).text(), expected, "{path}");
    }
}

#[test]
fn faults_of_foreign_settings_have_their_place() {
    let manager = "static_resources.listeners[0].filter_chains[0].filters[0].typed_config";
    for (settings, expected) in [
        (stamped(""), "value.text: must not be empty"),
        (stamped("x").replace("text:", "txet:"), "value: unknown field `txet`, expected `text`"),
    ] {
        let faults = read(text(&settings)).unwrap_err().to_string();
        assert_eq!(faults, format!("--config-yaml:{faults}", faults = faults.trim_start_matches("--config-yaml:")));
        assert!(faults.contains(&format!("{manager}.http_filters[0].typed_config.{expected}")), "{faults}");
    }
    // Without the program's list it is what it is to anybody else: unknown.
    let faults = load(&Source { path: None, yaml: Some(text(&stamped("x"))) }, &LoadOptions::default()).unwrap_err();
    assert!(faults.to_string().contains("unknown type `type.googleapis.com/acme.Stamp`"), "{faults}");
    // What the filter does not take from routes is refused there.
    let wrong = text(&stamped("x")).replacen(
        &stamped("host"),
        "{ '@type': type.googleapis.com/envoy.extensions.filters.http.router.v3.Router }",
        1,
    );
    let faults = read(wrong).unwrap_err().to_string();
    let place = "virtual_hosts[0].typed_per_filter_config.stamp: no HTTP filter takes the settings";
    assert!(faults.contains(place), "{faults}");
}
