//! The texts of a configuration: read whole, bounded, as UTF-8.

use std::io::Read as _;
use std::path::Path;
use std::sync::Arc;

use super::Source;
use crate::config::diagnostic::{self, Diagnostic, Position, Severity};
use crate::config::document::Format;

/// Far above any real configuration: a file of 2.7 MB holds some thousands of clusters.
const MOST_BYTES: u64 = 64 << 20;

/// A text and where it came from.
pub(super) struct Text {
    /// The file's path, or the name of the flag.
    pub(super) name: Arc<str>,
    pub(super) content: String,
    pub(super) format: Format,
}

/// The file first, then what is merged over it.
pub(super) fn read(source: &Source) -> Result<Vec<Text>, Vec<Diagnostic>> {
    let mut texts = Vec::new();
    let mut faults = Vec::new();
    if let Some(path) = source.path.as_deref().filter(|path| !path.as_os_str().is_empty()) {
        match read_file(path) {
            Ok(text) => texts.push(text),
            Err(fault) => faults.push(*fault),
        }
    }
    if let Some(yaml) = source.yaml.as_ref().filter(|yaml| !yaml.is_empty()) {
        texts.push(Text { name: "--config-yaml".into(), content: yaml.clone(), format: Format::Yaml });
    }
    if texts.is_empty() && faults.is_empty() {
        let message = "at least one of --config-path (-c) and --config-yaml must be given";
        faults.push(Diagnostic::new(Severity::Error, diagnostic::Path::default(), message));
    }
    if faults.is_empty() { Ok(texts) } else { Err(faults) }
}

fn read_file(path: &Path) -> Result<Text, Box<Diagnostic>> {
    let name: Arc<str> = path.to_string_lossy().into();
    let fault =
        |message: String| Box::new(Diagnostic::new(Severity::Error, diagnostic::Path::default(), message).from(&name));
    let Some(format) = format_of(path) else {
        return Err(fault("the name of a configuration file must end in .yaml, .yml or .json".to_owned()));
    };
    let mut bytes = Vec::new();
    std::fs::File::open(path)
        .and_then(|file| file.take(MOST_BYTES + 1).read_to_end(&mut bytes))
        .map_err(|error| fault(format!("cannot be read: {error}")))?;
    if bytes.len() as u64 > MOST_BYTES {
        return Err(fault(format!("is larger than {} MiB", MOST_BYTES >> 20)));
    }
    match String::from_utf8(bytes) {
        Ok(content) => Ok(Text { content, format, name }),
        Err(error) => {
            let valid = error.as_bytes().get(..error.utf8_error().valid_up_to()).unwrap_or_default();
            Err(Box::new(fault("is not UTF-8".to_owned()).at(end_of(valid))))
        }
    }
}

fn format_of(path: &Path) -> Option<Format> {
    match path.extension()?.to_str()?.to_ascii_lowercase().as_str() {
        "yaml" | "yml" => Some(Format::Yaml),
        "json" => Some(Format::Json),
        _ => None,
    }
}

fn end_of(text: &[u8]) -> Position {
    let text = String::from_utf8_lossy(text);
    let last = text.rsplit('\n').next().unwrap_or_default();
    let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX - 1) + 1;
    Position { line: count(text.matches('\n').count()), column: count(last.chars().count()) }
}
