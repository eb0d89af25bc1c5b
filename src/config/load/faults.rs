//! Collects what the stages find, gives it places, and leaves out what only repeats an earlier fault.

use std::sync::Arc;

use super::source::Text;
use crate::config::diagnostic::{Diagnostic, Faults, Findings, Path, Severity};
use crate::config::document::{self, Document};

#[derive(Default)]
pub(super) struct Report {
    found: Vec<Diagnostic>,
    is_hopeless: bool,
}

impl Report {
    pub(super) fn add(&mut self, diagnostic: Diagnostic) {
        self.found.push(diagnostic);
    }

    /// Later stages would add nothing: bounds were reached.
    pub(super) fn is_hopeless(&self) -> bool {
        self.is_hopeless
    }

    /// What was found in one text, with positions.
    pub(super) fn add_from(&mut self, findings: Findings, name: &Arc<str>, is_partial: bool) {
        self.is_hopeless |= is_partial || findings.is_overflowing();
        self.found.extend(findings.into_vec().into_iter().map(|finding| finding.from(name)));
    }

    /// What was found in the message that the texts make together: places are looked up.
    pub(super) fn add_located(&mut self, findings: Findings, documents: &[(&Text, Document<'_>)]) {
        self.is_hopeless |= findings.is_overflowing();
        let trees: Vec<&Document<'_>> = documents.iter().map(|(_, document)| document).collect();
        for mut finding in findings.into_vec() {
            if finding.severity == Severity::Error && self.repeats(&finding.path) {
                continue;
            }
            if let Some((at, position)) = document::locate(&trees, &finding.path) {
                finding.position = Some(position);
                finding.source = documents.get(at).map(|(text, _)| text.name.clone());
            } else {
                finding.source = documents.last().map(|(text, _)| text.name.clone());
            }
            self.found.push(finding);
        }
    }

    /// Where errors are so far.
    pub(super) fn error_paths(&self) -> Vec<Path> {
        let errors = self.found.iter().filter(|one| one.severity == Severity::Error);
        errors.map(|error| error.path.clone()).collect()
    }

    /// A value that could not be read is absent: that it is, or that something around it is incomplete, was said already.
    fn repeats(&self, path: &Path) -> bool {
        let earlier = self.found.iter().filter(|one| one.severity == Severity::Error && !one.path.0.is_empty());
        earlier.into_iter().any(|error| path.contains(&error.path))
    }

    /// The warnings of a configuration without errors.
    pub(super) fn judge(self) -> Result<Vec<Diagnostic>, Faults> {
        let faults = self.into_faults();
        if faults.errors.is_empty() { Ok(faults.warnings) } else { Err(faults) }
    }

    pub(super) fn into_faults(self) -> Faults {
        let order = |one: &Diagnostic| (one.source.clone(), one.position);
        let (mut errors, mut warnings): (Vec<_>, Vec<_>) =
            self.found.into_iter().partition(|one| one.severity == Severity::Error);
        for found in [&mut errors, &mut warnings] {
            found.sort_by_key(order);
            found.dedup_by(|later, earlier| is_same(earlier, later));
        }
        Faults { errors, warnings }
    }
}

/// The same text, met again through an alias.
fn is_same(left: &Diagnostic, right: &Diagnostic) -> bool {
    let place = |one: &Diagnostic| (one.source.clone(), one.position, one.path.0.last().cloned());
    left.position.is_some() && place(left) == place(right) && left.message == right.message
}
