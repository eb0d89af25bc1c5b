//! Format strings: `%COMMAND(arguments):N%` between literal text.

use super::operator;
use crate::config::model::{Field, JsonPiece, Operator, Piece};
use envoy_types::pb::google::protobuf;

/// A format string, taken apart.
///
/// # Errors
/// Envoy's words for what is wrong.
pub(in crate::config::convert) fn text(format: &str) -> Result<Vec<Piece>, String> {
    let mut pieces = Vec::new();
    let mut literal = String::new();
    let mut rest = format;
    while let Some(at) = rest.find('%') {
        literal.push_str(&rest[..at]);
        rest = &rest[at..];
        if let Some(behind) = rest.strip_prefix("%%") {
            literal.push('%');
            rest = behind;
            continue;
        }
        let Some((command, behind)) = command(rest) else {
            let position = format.len() - rest.len();
            return Err(format!(
                "Incorrect configuration: {format}. Couldn't find valid command at position {position}"
            ));
        };
        if !literal.is_empty() {
            pieces.push(Piece::Literal(std::mem::take(&mut literal)));
        }
        match operator::of(command.name, command.arguments, command.most)? {
            // What is known from the start and there is text already.
            Operator::Constant(Some(text)) if command.most.is_none() => literal.push_str(&text),
            operator => pieces.push(Piece::Field(Field { operator, most: command.most })),
        }
        rest = behind;
    }
    literal.push_str(rest);
    if !literal.is_empty() {
        pieces.push(Piece::Literal(literal));
    }
    Ok(pieces)
}

/// A JSON value whose texts are format strings.
///
/// # Errors
/// Envoy's words, for the first text that is wrong.
pub(super) fn json(value: protobuf::Value) -> Result<JsonPiece, String> {
    use protobuf::value::Kind;
    Ok(match value.kind {
        None | Some(Kind::NullValue(_)) => JsonPiece::Literal(serde_json::Value::Null),
        Some(Kind::BoolValue(value)) => JsonPiece::Literal(value.into()),
        Some(Kind::NumberValue(number)) => JsonPiece::Literal(literal_number(number)),
        Some(Kind::StringValue(format)) => {
            let mut pieces = text(&format)?;
            match pieces.pop() {
                Some(Piece::Field(field)) if pieces.is_empty() => JsonPiece::Value(field),
                last => {
                    pieces.extend(last);
                    JsonPiece::Text(pieces)
                }
            }
        }
        Some(Kind::ListValue(list)) => JsonPiece::List(list.values.into_iter().map(json).collect::<Result<_, _>>()?),
        Some(Kind::StructValue(value)) => object(value)?,
    })
}

/// A JSON object whose texts are format strings.
///
/// # Errors
/// Envoy's words, for the first text that is wrong.
pub(super) fn object(value: protobuf::Struct) -> Result<JsonPiece, String> {
    let mut entries =
        value.fields.into_iter().map(|(key, value)| Ok((key, json(value)?))).collect::<Result<Vec<_>, String>>()?;
    entries.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(JsonPiece::Object(entries))
}

/// A whole number looks like one.
fn literal_number(number: f64) -> serde_json::Value {
    let whole = number as i64;
    if whole as f64 == number && whole.unsigned_abs() < 1 << 53 { whole.into() } else { number.into() }
}

struct Command<'a> {
    name: &'a str,
    arguments: &'a str,
    most: Option<usize>,
}

/// The command at the beginning of `text`, and what follows it.
fn command(text: &str) -> Option<(Command<'_>, &str)> {
    let inner = text.strip_prefix('%')?;
    let end = inner.find(|c: char| !(c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_'))?;
    let (name, mut rest) = inner.split_at(end);
    if name.is_empty() {
        return None;
    }
    let mut arguments = "";
    if let Some(inside) = rest.strip_prefix('(') {
        (arguments, rest) = inside.split_once(')')?;
    }
    let mut most = None;
    if let Some(length) = rest.strip_prefix(':') {
        let end = length.find(|c: char| !c.is_ascii_digit())?;
        most = Some(length[..end].parse().ok()?);
        rest = &length[end..];
    }
    Some((Command { name, arguments, most }, rest.strip_prefix('%')?))
}
