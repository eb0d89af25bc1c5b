//! Header operations, compiled.

use http::{HeaderName, HeaderValue};

use crate::codec::head::Headers;
use crate::config::model::{AppendAction, HeaderOps, HeaderText, Piece};

/// Makes the value of a text with operators; `None` where no header can carry what came out.
pub type Format<'a> = dyn FnMut(&[Piece]) -> Option<HeaderValue> + 'a;

/// What is done to a head: removals, then replacements, then additions.
#[derive(Debug, Default)]
pub struct HeaderEdits {
    remove: Vec<HeaderName>,
    add: Vec<Addition>,
}

#[derive(Debug)]
struct Addition {
    name: HeaderName,
    value: HeaderText,
    action: AppendAction,
    keep_empty: bool,
}

impl HeaderEdits {
    /// Of operations of the configuration.
    pub fn compile(model: &HeaderOps) -> Self {
        let add = model.add.iter().map(|addition| Addition {
            name: addition.name.clone(),
            value: addition.value.clone(),
            action: addition.action,
            keep_empty: addition.keep_empty,
        });
        Self { remove: model.remove.clone(), add: add.collect() }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.remove.is_empty() && self.add.is_empty()
    }

    /// Whether some value has to be made for every head.
    pub fn has_formats(&self) -> bool {
        self.add.iter().any(|addition| matches!(addition.value, HeaderText::Format(_)))
    }

    /// Changes a head; `format` makes values of texts with operators.
    pub fn apply(&self, headers: &mut Headers, format: &mut Format<'_>) {
        for name in &self.remove {
            headers.remove(name);
        }
        if self.add.is_empty() {
            return;
        }
        let mut added = Vec::with_capacity(self.add.len());
        for addition in &self.add {
            let there = || headers.contains(&addition.name);
            let replaces = match addition.action {
                AppendAction::AppendIfExistsOrAdd => false,
                AppendAction::AddIfAbsent if there() => continue,
                AppendAction::AddIfAbsent => false,
                AppendAction::OverwriteIfExists if !there() => continue,
                AppendAction::OverwriteIfExists | AppendAction::OverwriteIfExistsOrAdd => true,
            };
            let value = match &addition.value {
                HeaderText::Fixed(value) => Some(value.clone()),
                HeaderText::Format(pieces) => format(pieces),
            };
            let Some(value) = value else { continue };
            if !value.is_empty() || addition.keep_empty {
                added.push((replaces, &addition.name, value));
            }
        }
        for (_, name, value) in added.iter().filter(|(replaces, ..)| *replaces) {
            headers.remove(name);
            headers.append((*name).clone(), value.clone());
        }
        for (_, name, value) in added.into_iter().filter(|(replaces, ..)| !*replaces) {
            headers.append(name.clone(), value);
        }
    }
}
