//! Where the conversion stands, what it has found, and what later resources must know of earlier ones.

use std::collections::HashSet;

use crate::config::diagnostic::{Diagnostic, Findings, Path, Segment, Severity};
use crate::config::extension::{HttpFilterKind, NetworkFilterKind};
use crate::config::model;
use crate::runtime::Runtime;

pub(in crate::config) struct Context {
    path: Path,
    pub(super) findings: Findings,
    pub(super) unknown_fields: Severity,
    /// Who this proxy is: converted first.
    pub(super) node: model::Node,
    /// What the runtime layers say: converted before what asks them.
    pub(super) runtime: Runtime,
    /// The names of the static clusters: converted before what refers to them.
    pub(super) clusters: HashSet<String>,
    /// Names of clusters are not to be relied on, because some could not be read.
    pub(super) clusters_are_suspect: bool,
    /// The kinds of HTTP filters that there are, but for the router.
    pub(super) http_filters: Vec<HttpFilterKind>,
    /// The kinds of network filters that there are, beside our own.
    pub(super) network_filters: Vec<NetworkFilterKind>,
    /// The names of the HTTP filters of the connection manager at hand.
    pub(super) filter_names: Vec<String>,
    /// Those of them that are about other origins.
    pub(super) cors_filters: Vec<String>,
}

impl Context {
    pub(super) fn new(
        unknown_fields: Severity,
        suspect: &[Path],
        http_filters: &[HttpFilterKind],
        network_filters: &[NetworkFilterKind],
    ) -> Self {
        let clusters = Path(vec![Segment::Field("static_resources"), Segment::Field("clusters")]);
        let is_suspect = |path: &Path| clusters.contains(path) || path.contains(&clusters);
        Self {
            path: Path::default(),
            findings: Findings::default(),
            unknown_fields,
            node: model::Node::default(),
            runtime: Runtime::default(),
            clusters: HashSet::new(),
            http_filters: http_filters.to_vec(),
            network_filters: network_filters.to_vec(),
            filter_names: Vec::new(),
            cors_filters: Vec::new(),
            clusters_are_suspect: suspect.iter().any(is_suspect),
        }
    }

    /// Works within a field. Names may come from `stringify!`, with the `r#` of a Rust keyword.
    pub(in crate::config) fn at<T>(&mut self, field: &'static str, work: impl FnOnce(&mut Self) -> T) -> T {
        self.within(Segment::Field(field.strip_prefix("r#").unwrap_or(field)), work)
    }

    /// Works within an entry of a map.
    pub(super) fn at_key<T>(&mut self, key: &str, work: impl FnOnce(&mut Self) -> T) -> T {
        self.within(Segment::Key(key.to_owned()), work)
    }

    /// Converts every element of a list; those that cannot be converted are left out.
    pub(super) fn each<S, T>(
        &mut self,
        field: &'static str,
        elements: impl IntoIterator<Item = S>,
        mut work: impl FnMut(&mut Self, S) -> Option<T>,
    ) -> Vec<T> {
        self.at(field, |cx| {
            let mut converted = Vec::new();
            for (index, element) in elements.into_iter().enumerate() {
                converted.extend(cx.within(Segment::Index(index), |cx| work(cx, element)));
            }
            converted
        })
    }

    fn within<T>(&mut self, segment: Segment, work: impl FnOnce(&mut Self) -> T) -> T {
        self.path.0.push(segment);
        let result = work(self);
        self.path.0.pop();
        result
    }

    pub(in crate::config) fn error(&mut self, message: impl Into<String>) {
        self.findings.add(Diagnostic::new(Severity::Error, self.path.clone(), message));
    }

    pub(in crate::config) fn warn(&mut self, message: impl Into<String>) {
        self.findings.add(Diagnostic::new(Severity::Warning, self.path.clone(), message));
    }

    pub(super) fn error_at(&mut self, field: &'static str, message: impl Into<String>) {
        self.at(field, |cx| cx.error(message));
    }

    /// The field is set, and ignoring it would change traffic or security.
    pub(in crate::config) fn refuse(&mut self, field: &'static str) {
        self.error_at(field, "is not supported yet, and ignoring it would change traffic or security");
    }

    /// The field is set, and without it things run on as well.
    pub(in crate::config) fn ignore(&mut self, field: &'static str) {
        self.at(field, |cx| cx.warn("is not supported yet and is ignored"));
    }
}
