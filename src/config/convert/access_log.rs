//! `envoy.config.accesslog.v3.AccessLog` and the file, stdout and stderr loggers.

use envoy_types::pb::envoy::config::accesslog::v3 as api;
use envoy_types::pb::envoy::config::core::v3 as core;
use envoy_types::pb::envoy::extensions::access_loggers::{file::v3 as file, stream::v3 as stream};

use super::context::Context;
use super::extension::{ACCESS_LOGGERS, Logger};
use super::route;
use crate::config::model::{AccessLog, JsonPiece, LogBody, LogFormat, LogSink};

mod filter;
mod format;
mod operator;

pub(super) use filter::convert as filter;
pub(super) use format::text as format_text;

/// What Envoy writes where no format is given.
const DEFAULT_FORMAT: &str = "[%START_TIME%] \"%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%\" %RESPONSE_CODE% \
     %RESPONSE_FLAGS% %BYTES_RECEIVED% %BYTES_SENT% %DURATION% %RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% \
     \"%REQ(X-FORWARDED-FOR)%\" \"%REQ(USER-AGENT)%\" \"%REQ(X-REQUEST-ID)%\" \"%REQ(:AUTHORITY)%\" \"%UPSTREAM_HOST%\"\n";

/// Bytes of a format that stands in a file of its own.
const MAX_FORMAT: u32 = 1 << 20;

/// One entry of an `access_log` list.
pub(super) fn convert(cx: &mut Context, message: api::AccessLog) -> Option<AccessLog> {
    let api::AccessLog { name, filter, config_type } = message;
    let filter = match filter {
        None => None,
        Some(filter) => Some(cx.at("filter", |cx| filter::convert(cx, filter))?),
    };
    let any = config_type.map(|api::access_log::ConfigType::TypedConfig(any)| any);
    let Logger { sink, format } = cx.at("typed_config", |cx| ACCESS_LOGGERS.parse(cx, &name, any.as_ref()))?;
    Some(AccessLog { sink, format, filter })
}

/// `FileAccessLog`.
pub(super) fn file(cx: &mut Context, message: file::FileAccessLog) -> Option<Logger> {
    use file::file_access_log::AccessLogFormat;
    let file::FileAccessLog { path, access_log_format } = message;
    let format = match access_log_format {
        None => default_format(),
        // Empty is as good as none.
        Some(AccessLogFormat::Format(format)) if format.is_empty() => default_format(),
        Some(AccessLogFormat::Format(format)) => cx.at("format", |cx| text(cx, &format))?,
        Some(AccessLogFormat::JsonFormat(object)) => cx.at("json_format", |cx| json(cx, object))?,
        Some(AccessLogFormat::TypedJsonFormat(object)) => cx.at("typed_json_format", |cx| json(cx, object))?,
        Some(AccessLogFormat::LogFormat(format)) => cx.at("log_format", |cx| substitution(cx, format))?,
    };
    Some(Logger { sink: LogSink::File(path.into()), format })
}

/// `StdoutAccessLog`.
pub(super) fn stdout(cx: &mut Context, message: stream::StdoutAccessLog) -> Option<Logger> {
    let format = message.access_log_format.map(|stream::stdout_access_log::AccessLogFormat::LogFormat(format)| format);
    Some(Logger { sink: LogSink::Stdout, format: optional(cx, format)? })
}

/// `StderrAccessLog`.
pub(super) fn stderr(cx: &mut Context, message: stream::StderrAccessLog) -> Option<Logger> {
    let format = message.access_log_format.map(|stream::stderr_access_log::AccessLogFormat::LogFormat(format)| format);
    Some(Logger { sink: LogSink::Stderr, format: optional(cx, format)? })
}

fn optional(cx: &mut Context, format: Option<core::SubstitutionFormatString>) -> Option<LogFormat> {
    match format {
        None => Some(default_format()),
        Some(format) => cx.at("log_format", |cx| substitution(cx, format)),
    }
}

/// A format, but for its `content_type`, which is for its owner.
pub(super) fn substitution(cx: &mut Context, message: core::SubstitutionFormatString) -> Option<LogFormat> {
    use core::substitution_format_string::Format;
    let core::SubstitutionFormatString {
        omit_empty_values,
        // Of a reply, and a log is none. Keys are sorted either way.
        content_type: _,
        json_format_options: _,
        formatters,
        format,
    } = message;
    refuse!(cx; formatters);
    let format = match format? {
        Format::TextFormat(format) => cx.at("text_format", |cx| text(cx, &format))?,
        Format::JsonFormat(object) => cx.at("json_format", |cx| json(cx, object))?,
        Format::TextFormatSource(source) => cx.at("text_format_source", |cx| {
            let field = match &source.specifier {
                Some(core::data_source::Specifier::InlineString(_)) => "inline_string",
                Some(core::data_source::Specifier::InlineBytes(_)) => "inline_bytes",
                Some(core::data_source::Specifier::Filename(_)) => "filename",
                Some(core::data_source::Specifier::EnvironmentVariable(_)) | None => "environment_variable",
            };
            let bytes = route::data(cx, source, MAX_FORMAT)?;
            if bytes.len() > MAX_FORMAT as usize {
                cx.error_at(field, format!("a format of more than {MAX_FORMAT} bytes"));
                return None;
            }
            let Ok(format) = std::str::from_utf8(&bytes) else {
                cx.error_at(field, "is not UTF-8");
                return None;
            };
            cx.at(field, |cx| text(cx, format))
        })?,
    };
    Some(LogFormat { omit_empty_values, ..format })
}

fn text(cx: &mut Context, format: &str) -> Option<LogFormat> {
    let pieces = format::text(format).map_err(|message| cx.error(message)).ok()?;
    Some(LogFormat { body: LogBody::Text(pieces), omit_empty_values: false })
}

fn json(cx: &mut Context, object: envoy_types::pb::google::protobuf::Struct) -> Option<LogFormat> {
    let object: JsonPiece = format::object(object).map_err(|message| cx.error(message)).ok()?;
    Some(LogFormat { body: LogBody::Json(object), omit_empty_values: false })
}

fn default_format() -> LogFormat {
    // Ours, and known to be right: a test reads it.
    LogFormat { body: LogBody::Text(format::text(DEFAULT_FORMAT).unwrap_or_default()), omit_empty_values: false }
}

/// A list of logs.
pub(super) fn each(cx: &mut Context, messages: Vec<api::AccessLog>) -> Vec<AccessLog> {
    cx.each("access_log", messages, convert)
}

#[cfg(test)]
mod tests;
