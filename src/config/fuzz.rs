//! Configurations of any kind: there are faults, or there is a model; there is no panic, and an end.

use envoy_types::pb::envoy::config::bootstrap::v3::Bootstrap;

use super::diagnostic::{Path, Severity};
use super::document::Format;
use super::extension::HttpFilterKind;
use super::model::{UriRewrite, UriTemplate};
use super::proto::Decode;
use super::schema::Message;
use super::{LoadOptions, check, convert, dump, load};

/// JSON or YAML, which the first byte says, then the text. `filters` are the kinds of HTTP filters that there are.
pub(crate) fn text(data: &[u8], filters: &[HttpFilterKind]) {
    let Some((kind, text)) = data.split_first() else { return };
    let Ok(text) = std::str::from_utf8(text) else { return };
    let format = if kind & 1 == 0 { Format::Yaml } else { Format::Json };
    let options = LoadOptions {
        allow_unknown_static_fields: kind & 2 != 0,
        http_filters: filters.to_vec(),
        ..LoadOptions::default()
    };
    match load::text(text, format, &options) {
        Ok(loaded) => shown(&loaded.wire),
        Err(faults) => {
            assert!(!faults.errors.is_empty(), "refused without a reason");
            let _ = faults.to_string();
        }
    }
}

/// An encoded bootstrap, as a management server or an upgrade may bring it.
pub(crate) fn wire(data: &[u8], filters: &[HttpFilterKind]) {
    let Some(message) = Message::by_name("envoy.config.bootstrap.v3.Bootstrap") else { return };
    let options = LoadOptions { http_filters: filters.to_vec(), ..LoadOptions::default() };
    let faults = check::check(message, data, Severity::Warning, &options.foreign_types());
    let _ = faults.into_vec().iter().map(ToString::to_string).collect::<Vec<_>>();
    if let Ok(message) = Bootstrap::decode_wire(data) {
        let none: &[Path] = &[];
        let _ = convert::bootstrap(message, Severity::Warning, none, filters, &[]);
    }
    shown(data);
}

fn shown(wire: &[u8]) {
    let plain = dump::bootstrap(wire, dump::Options { pretty: false, redact: true });
    let pretty = dump::bootstrap(wire, dump::Options { pretty: true, redact: true });
    for text in [plain, pretty] {
        let json = serde_json::from_str::<serde::de::IgnoredAny>(&text);
        // The reader of the crate goes less deep than we write.
        assert!(json.is_ok() || json.is_err_and(|error| error.to_string().contains("recursion limit")), "{text}");
    }
}

/// The pieces of a format string.
///
/// # Errors
/// It is none.
pub(crate) fn pieces(text: &str) -> Result<Vec<super::model::Piece>, String> {
    convert::fuzz::pieces(text)
}

/// A template, a rewrite and a path, a line each.
pub(crate) fn uri_template(data: &[u8]) {
    let mut lines = data.splitn(3, |byte| *byte == b'\n');
    let (Some(template), Some(to), Some(path)) = (lines.next(), lines.next(), lines.next()) else { return };
    let (Ok(template), Ok(to)) = (std::str::from_utf8(template), std::str::from_utf8(to)) else { return };
    let Ok(template) = UriTemplate::new(template) else { return };
    let matches = template.matches(path);
    assert!(!matches || path.starts_with(template.literal_prefix().as_bytes()), "the prefix is not one");
    if let Ok(rewrite) = UriRewrite::new(&template, to) {
        assert_eq!(rewrite.rewrite(path).is_some(), matches);
    }
}
