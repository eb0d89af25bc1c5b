//! From a file, and a text over it, to the model.
//!
//! ```text
//!  file ── document ── encode ──┐
//!  text ── document ── encode ──┼── one message (wire bytes) ── check ── decode ── convert ── model
//!  command line's node ─────────┘
//! ```
//! Protobuf merges by concatenation: scalars of a later part replace, messages merge, lists grow, as Envoy does with
//! `--config-yaml` over its file. Every stage reports all that it finds; positions are looked up at the end, and the documents
//! are freed when [`load`] returns. Called by whoever starts an epoch or validates a configuration; it has no effects but to
//! read the files that the configuration names.

mod faults;
mod source;

use std::collections::HashSet;
use std::path::PathBuf;

use envoy_types::pb::envoy::config::bootstrap::v3::Bootstrap;

use super::diagnostic::{Diagnostic, Faults, Path, Severity};
use super::document::{Document, Format};
use super::encode::encode;
use super::extension::{HttpFilterKind, NetworkFilterKind};
use super::proto::Decode;
use super::schema::Message;
use super::{check, convert, model, wire};
use faults::Report;
use source::Text;

const BOOTSTRAP: &str = "envoy.config.bootstrap.v3.Bootstrap";

/// Where a configuration comes from; at least one of the two.
#[derive(Clone, Debug, Default)]
pub struct Source {
    /// `--config-path`: a file that ends in `.yaml`, `.yml` or `.json`.
    pub path: Option<PathBuf>,
    /// `--config-yaml`: YAML or JSON that is merged over the file.
    pub yaml: Option<String>,
}

/// What the command line says beside the configuration.
#[derive(Clone, Debug, Default)]
pub struct LoadOptions {
    /// `--service-cluster`: overrides `node.cluster`.
    pub service_cluster: Option<String>,
    /// `--service-node`: overrides `node.id`.
    pub service_node: Option<String>,
    /// `--service-zone`: overrides `node.locality.zone`.
    pub service_zone: Option<String>,
    /// `--allow-unknown-static-fields`: unknown fields are warned about instead of refused.
    pub allow_unknown_static_fields: bool,
    /// The kinds of HTTP filters that there are, beside the router.
    pub http_filters: Vec<HttpFilterKind>,
    /// The kinds of network filters that there are, beside the connection manager and the TCP proxy.
    pub network_filters: Vec<NetworkFilterKind>,
}

impl LoadOptions {
    /// The types of which only the extensions themselves know what may be in them.
    pub(super) fn foreign_types(&self) -> Vec<&'static str> {
        let http =
            self.http_filters.iter().flat_map(|kind| [Some(kind.type_name), kind.route.map(|route| route.type_name)]);
        http.flatten().chain(self.network_filters.iter().map(|kind| kind.type_name)).collect()
    }
}

/// A configuration that may be run.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The model.
    pub bootstrap: model::Bootstrap,
    /// What the operator should know, in order of the text.
    pub warnings: Vec<Diagnostic>,
    /// The message as it was loaded, overrides included: what [`super::dump`] shows.
    pub wire: Vec<u8>,
    /// The file's text as it was read, for whoever must run the same configuration again; empty without a file.
    pub text: String,
}

/// A configuration that conforms to the schema and its rules; nothing says yet that it is supported.
#[derive(Clone, Debug)]
pub struct Validated {
    /// What the operator should know.
    pub warnings: Vec<Diagnostic>,
    /// The message.
    pub wire: Vec<u8>,
}

/// Loads a configuration.
///
/// # Errors
/// Everything that is wrong with it, each with its place; also a file that is absent, unreadable or too large.
pub fn load(source: &Source, options: &LoadOptions) -> Result<Loaded, Faults> {
    load_texts(&read(source)?, source.path.is_some(), options)
}

/// The configuration that texts make together; `from_file` says that the first of them is a file's.
fn load_texts(texts: &[Text], from_file: bool, options: &LoadOptions) -> Result<Loaded, Faults> {
    with_documents(texts, |documents, report| {
        let wire = gather(documents, options, report);
        let file = documents.first().filter(|_| from_file);
        let text = file.map(|(text, _)| text.content.clone()).unwrap_or_default();
        (to_model(&wire, options, documents, report), wire, text)
    })
    .map(|((mut bootstrap, wire, text), warnings)| {
        bootstrap.runtime.deprecated = deprecated(&warnings);
        Loaded { bootstrap, warnings, wire, text }
    })
}

/// A text of a format, as if it stood in a file.
#[cfg(any(test, feature = "fuzzing"))]
pub(super) fn text(content: &str, format: Format, options: &LoadOptions) -> Result<Loaded, Faults> {
    load_texts(&[Text { name: "text".into(), content: content.to_owned(), format }], true, options)
}

/// How many deprecated fields are used, each counted once however often it is.
fn deprecated(warnings: &[Diagnostic]) -> u64 {
    let deprecations = warnings.iter().filter(|warning| warning.message.ends_with(" deprecated"));
    deprecations.filter_map(|warning| warning.path.field()).collect::<HashSet<_>>().len() as u64
}

/// The first half of [`load`]: does the configuration conform to the schema and its rules?
///
/// # Errors
/// As [`load`], without what is not supported and what does not fit together.
pub fn validate(source: &Source, options: &LoadOptions) -> Result<Validated, Faults> {
    with_documents(&read(source)?, |documents, report| gather(documents, options, report))
        .map(|(wire, warnings)| Validated { warnings, wire })
}

fn read(source: &Source) -> Result<Vec<Text>, Faults> {
    source::read(source).map_err(|errors| Faults { errors, warnings: Vec::new() })
}

/// Parses texts, has `work` done with them, and judges the report.
fn with_documents<T>(
    texts: &[Text],
    work: impl FnOnce(&[(&Text, Document<'_>)], &mut Report) -> T,
) -> Result<(T, Vec<Diagnostic>), Faults> {
    let mut report = Report::default();
    let mut documents = Vec::new();
    for text in texts {
        match Document::parse(&text.content, text.format) {
            Ok(document) if document.is_empty() => {
                let message = "the configuration is empty";
                report.add(Diagnostic::new(Severity::Error, Path::default(), message).from(&text.name));
            }
            Ok(document) => documents.push((text, document)),
            Err(error) => {
                let what = if text.format == Format::Json { "JSON" } else { "YAML" };
                let message = format!("not {what}: {}", error.message);
                let fault = Diagnostic::new(Severity::Error, Path::default(), message).at(error.position);
                report.add(fault.from(&text.name));
            }
        }
    }
    // Of half a configuration nothing more can be said.
    if documents.len() < texts.len() {
        return Err(report.into_faults());
    }
    let result = work(&documents, &mut report);
    report.judge().map(|warnings| (result, warnings))
}

/// The model of a message; of a message with too many faults, or that was not read to its end, none is made.
fn to_model(
    wire: &[u8],
    options: &LoadOptions,
    documents: &[(&Text, Document<'_>)],
    report: &mut Report,
) -> model::Bootstrap {
    if report.is_hopeless() {
        return model::Bootstrap::default();
    }
    match Bootstrap::decode_wire(wire) {
        Ok(message) => {
            let (bootstrap, findings) = convert::bootstrap(
                message,
                unknown_fields(options),
                &report.error_paths(),
                &options.http_filters,
                &options.network_filters,
            );
            report.add_located(findings, documents);
            bootstrap
        }
        Err(error) => {
            report.add(Diagnostic::new(Severity::Error, Path::default(), format!("cannot be decoded: {error}")));
            model::Bootstrap::default()
        }
    }
}

/// The message that the documents and the command line make together, checked.
fn gather(documents: &[(&Text, Document<'_>)], options: &LoadOptions, report: &mut Report) -> Vec<u8> {
    let Some(bootstrap) = Message::by_name(BOOTSTRAP) else {
        report.add(Diagnostic::new(Severity::Error, Path::default(), "this build knows no schema"));
        return Vec::new();
    };
    let unknown_fields = unknown_fields(options);
    let mut wire = Vec::new();
    for (text, document) in documents {
        let encoded = encode(document, bootstrap, unknown_fields);
        report.add_from(encoded.findings, &text.name, encoded.is_partial);
        wire.extend(encoded.wire);
    }
    put_node(options, &mut wire);
    if !report.is_hopeless() {
        let findings = check::check(bootstrap, &wire, unknown_fields, &options.foreign_types());
        report.add_located(findings, documents);
    }
    wire
}

fn unknown_fields(options: &LoadOptions) -> Severity {
    if options.allow_unknown_static_fields { Severity::Warning } else { Severity::Error }
}

/// The command line's node, as one more part of the message.
fn put_node(options: &LoadOptions, out: &mut Vec<u8>) {
    // Fields of Bootstrap, Node and Locality.
    const NODE: u32 = 1;
    const ID: u32 = 1;
    const CLUSTER: u32 = 2;
    const LOCALITY: u32 = 4;
    const ZONE: u32 = 2;
    let set = |value: &Option<String>| value.clone().filter(|value| !value.is_empty());
    let (id, cluster, zone) = (set(&options.service_node), set(&options.service_cluster), set(&options.service_zone));
    if id.is_none() && cluster.is_none() && zone.is_none() {
        return;
    }
    wire::put_nested(out, NODE, |out| {
        if let Some(id) = id {
            wire::put_bytes(out, ID, id.as_bytes());
        }
        if let Some(cluster) = cluster {
            wire::put_bytes(out, CLUSTER, cluster.as_bytes());
        }
        if let Some(zone) = zone {
            wire::put_nested(out, LOCALITY, |out| wire::put_bytes(out, ZONE, zone.as_bytes()));
        }
    });
}

#[cfg(test)]
mod tests;
